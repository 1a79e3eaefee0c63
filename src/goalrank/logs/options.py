"""Settings of a log import: one frozen object, unknown keys refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from goalrank.settings import checked

__all__ = ["Channel", "ImportOptions", "Protocol", "TimeUnit"]

Protocol = Literal["exposed", "retrieved", "injected"]
Channel = Literal["popularity", "item_to_item", "factorisation"]
TimeUnit = Literal["auto", "s", "ms", "us", "ns"]


_SHARES: dict[Channel, float] = {"item_to_item": 0.7, "factorisation": 0.25, "popularity": 0.05}


class ImportOptions(BaseModel):
    """How raw rows become requests.

    Args:
        protocol: where candidates come from; ``None`` takes the source's own (``exposed`` for
            exposure logs, ``retrieved`` for interactions).
        candidates: N, candidates of a request in ``retrieved`` and ``injected``.
        history: H, at most so many earlier items are kept in a request's history.
        stride: a request every so many interactions of a user (``retrieved``).
        horizon: the next so many interactions are what a request is judged by (``retrieved``).
        start_fraction: requests start after this share of a user's interactions.
        injected: interactions put beside the retrieved ones, and the stride, in ``injected``.
        min_list, max_list: a window of consecutive exposures has between so many items.
        min_test_list: test requests have at least so many candidates. Short lists teach, but
            say little about ranking; ``None``: 6 for windows cut by us, 2 otherwise.
        max_gap_minutes: a longer pause between two exposures of a user starts a new window; None:
            30, or what a known data set needs.
        max_span_minutes: so does an exposure later than this after the window's first.
        min_positives: requests with fewer positives among the candidates are dropped; ``None``:
            0 for ``exposed``, 1 otherwise.
        split: ``time`` cuts all requests at two moments of global time; ``user`` cuts each
            user's own requests. Default ``time``: only then nothing that is learnt from the
            training part (vocabularies, statistics, other users' answers) is later than a
            test request; with ``user``, one user's training rows may lie after another's test.
        fractions: shares of train, validation and test; they sum to 1.
        exclude_seen: items that the user already consumed are not retrieved again.
        like_threshold: ratings from here on are likes.
        quotas: retrieval channels and their shares of the candidates; None learns the shares of
            all channels from requests whose answers are known by then.
        factors: width of the factorisation.
        first_fit, refit_growth: the retriever is refitted when the log has ``first_fit`` rows
            and again each time it has grown by ``refit_growth``; in between it stays as it was,
            so it never sees what lies after a request, at a total cost linear in the rows.
        columns: our column name -> the file's, for sources ``interactions`` and ``exposures``.
        kinds, target: feedback types of an exposures log, and the one that is relevance (the first).
        candidate_features: columns of the caller's own numbers per candidate.
        layout: rows (a row per item shown), lists (a row per request) or events (a row per event);
            None finds it.
        impression: event that shows an item, in layout events; None finds it.
        window_hours: an answer counts for a showing up to so many hours before it (events, feedback).
        feedback: a second file (or folder, glob, address) with the answers.
        feedback_columns: like columns, for that file.
        request_scope: request ids are unique in the whole ``log``, or only per ``user``.
        format, separator, decimal, encoding, header: of files; None and "auto" find out.
        time_unit: unit of numeric times; ``auto`` decides by their size.
        time_format: of times in text, as strptime writes it; None finds it.
        timezone: zone of times that carry none; None refuses them.
        threads: worker threads, 0 for all cores. Results do not depend on it.
        seed: seeds the order of candidates and the factorisation's start.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    protocol: Protocol | None = None
    candidates: int = Field(default=50, ge=2, le=10_000)
    history: int = Field(default=50, ge=1, le=10_000)
    stride: int = Field(default=10, ge=1)
    horizon: int = Field(default=20, ge=1, le=1000)
    start_fraction: float = Field(default=0.5, ge=0.0, lt=1.0)
    injected: int = Field(default=6, ge=1, le=1000)
    min_list: int = Field(default=2, ge=1)
    max_list: int = Field(default=12, ge=1)
    min_test_list: int | None = Field(default=None, ge=1)
    max_gap_minutes: float | None = Field(default=None, gt=0.0)
    max_span_minutes: float = Field(default=1440.0, gt=0.0)
    min_positives: int | None = Field(default=None, ge=0)
    split: Literal["time", "user"] = "time"
    fractions: tuple[float, float, float] = Field(default=(0.7, 0.1, 0.2), strict=False)
    exclude_seen: bool = True
    like_threshold: float = 4.0
    quotas: dict[Channel, float] | None = None
    factors: int = Field(default=48, ge=1, le=1024)
    first_fit: int = Field(default=500, ge=1)
    refit_growth: float = Field(default=1.5, gt=1.0, le=100.0)
    columns: dict[str, str] = Field(default_factory=dict)
    kinds: tuple[str, ...] = Field(default=(), strict=False)
    target: str | None = None
    candidate_features: tuple[str, ...] = Field(default=(), strict=False)
    layout: Literal["rows", "lists", "events"] | None = None
    impression: str | None = None
    window_hours: float = Field(default=24.0, gt=0.0)
    feedback: str | None = None
    feedback_columns: dict[str, str] = Field(default_factory=dict)
    request_scope: Literal["log", "user"] = "log"
    format: Literal["csv", "jsonl", "parquet"] | None = None
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    decimal: Literal[".", ","] | None = None
    encoding: str = "utf-8"
    header: tuple[str, ...] = Field(default=(), strict=False)
    time_format: str | None = None
    timezone: str | None = None
    time_unit: TimeUnit = "auto"
    threads: int = Field(default=0, ge=0)
    seed: int = 0

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.max_list < self.min_list:
            raise ValueError(f"max_list {self.max_list} is below min_list {self.min_list}")
        if min(self.fractions) < 0 or abs(sum(self.fractions) - 1.0) > 1e-6:
            raise ValueError(f"fractions {self.fractions} must be 0 or more and sum to 1")
        if self.quotas is not None and (not self.quotas or min(self.quotas.values()) <= 0):
            raise ValueError("quotas must name at least one channel, each with a share above 0")
        if self.fractions[0] <= 0:
            raise ValueError(
                f"fractions {self.fractions} leave nothing to train on; the first must be above 0"
            )
        if self.injected >= self.candidates:
            raise ValueError(f"injected {self.injected} must be below candidates {self.candidates}")
        return self

    @property
    def shares(self) -> dict[Channel, float]:
        """Channels and the shares that they begin with."""
        return dict(_SHARES) if self.quotas is None else self.quotas

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ImportOptions:
        """Build from plain keys, with our error instead of pydantic's.

        Raises:
            ConfigError: a key is unknown (the nearest is named) or a value breaks its rule.
        """
        return checked(
            cls, values, "the import", "see goalrank data import --help, or the suite's options"
        )
