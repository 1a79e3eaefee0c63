"""Settings of a log import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from goalrank.features import DEFAULT_FAMILIES, FEATURES
from goalrank.logs.retrieval.channels import CHANNELS
from goalrank.logs.text.sentences import SENTENCE_MODELS
from goalrank.settings import checked

__all__ = ["ImportOptions", "Protocol", "TimeUnit"]

Protocol = Literal["exposed", "retrieved", "injected"]
TimeUnit = Literal["auto", "s", "ms", "us", "ns"]


_SHARES: dict[str, float] = {"item_to_item": 0.7, "factorisation": 0.25, "popularity": 0.05}


class ImportOptions(BaseModel):
    """Settings by which the rows of a raw log become requests.

    Attributes:
        protocol: origin of the candidates; ``None`` is the source's default (``exposed`` for
            exposure logs, ``retrieved`` for interactions).
        candidates: N, candidates per request in ``retrieved`` and ``injected``.
        history: H, most events in a request's history.
        stride: interactions of a user per request (``retrieved``).
        horizon: number of next interactions that count as the truth of a request (``retrieved``).
        start_fraction: share of a user's interactions before the first request, in [0, 1).
        injected: interactions put among the retrieved candidates, and the stride (``injected``).
        min_list, max_list: bounds of the number of items in a window of consecutive exposures.
        min_test_list: least candidates of a test request. Short lists are useful for training but
            say little about ranking; ``None`` is 6 for windows that the import cuts, 2 otherwise.
        max_gap_minutes: a longer pause between two exposures of a user starts a new window; ``None``
            is 30, or what a known data set needs.
        max_span_minutes: an exposure later than this after the window's first starts a new window.
        min_positives: requests with fewer positives among the candidates are dropped; ``None`` is
            0 for ``exposed``, 1 otherwise.
        split: ``time`` cuts all requests at two moments of global time; ``user`` cuts each user's
            requests. Only with ``time`` is everything learned from the training part
            (vocabularies, statistics, feedback of other users) earlier than the test requests;
            with ``user``, training rows of one user may be later than test requests of another.
        fractions: shares of train, validation and test; they sum to 1.
        exclude_seen: whether items that the user already consumed are left out of retrieval.
        like_threshold: the lowest rating that counts as a like.
        quotas: retrieval channels (names of `CHANNELS`, or "package.module:function") and their
            shares of the candidates; ``None`` learns the shares of all built-in channels from
            requests whose answers are known by then.
        factors: width of the factorisation.
        first_fit, refit_growth: the retriever is fitted when the log has ``first_fit`` rows, and
            again each time it has grown by the factor ``refit_growth``. It uses only rows before a
            request, at a total cost that is linear in the rows.
        columns: column name of goalrank → the file's, for the sources ``interactions`` and
            ``exposures``.
        kinds, target: feedback types of an exposures log, and the one that is relevance (the first).
        candidate_features: columns of the caller's own numbers per candidate.
        computed_features: keep features computed from the log (counts, rates, links).
        features: families of features that are computed from the log's rows: names of `FEATURES`, or
            "package.module:Class".
        text: columns of the items table (strings, lists of strings) whose texts become one vector
            per item, by a sentence model (extra `text`).
        text_width: numbers of that vector: principal components of the model's embeddings.
        text_model: name or "package.module:Class" of the sentence model.
        layout: rows (a row per item shown), lists (a row per request) or events (a row per event);
            None finds it.
        impression: event that shows an item, in layout events; None finds it.
        window_hours: an answer counts for a showing up to so many hours before it (events, feedback).
        feedback: a second file (or folder, glob, address) with the answers.
        feedback_columns: like columns, for that file.
        request_scope: request ids are unique in the whole ``log``, or only per ``user``; ``row``
            makes each row of the file a request of its own.
        candidate_set: candidates are those that a request lists, or ``all`` items of the log (a
            bandit's action set); items that are not listed were not shown.
        format, separator, decimal, encoding, header: of files; None and "auto" find out.
        time_unit: unit of numeric times; ``auto`` decides by their size.
        time_format: of times in text, as strptime writes it; None finds it.
        timezone: zone of times that carry none; None refuses them.
        threads: worker threads; 0 uses all cores. Results do not depend on it.
        memory_gb: memory that the import may use, in 10^9 bytes; ``None`` is four fifths of what
            the system says is available. It decides how many rows are worked on at once, never the
            result; what cannot do with less is refused before it begins.
        seed: seed of the order of candidates and of the factorisation's initial factors.
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
    quotas: dict[str, float] | None = None
    factors: int = Field(default=48, ge=1, le=1024)
    first_fit: int = Field(default=500, ge=1)
    refit_growth: float = Field(default=1.5, gt=1.0, le=100.0)
    columns: dict[str, str] = Field(default_factory=dict)
    kinds: tuple[str, ...] = Field(default=(), strict=False)
    target: str | None = None
    candidate_features: tuple[str, ...] = Field(default=(), strict=False)
    computed_features: bool = True
    features: tuple[str, ...] = Field(default=DEFAULT_FAMILIES, strict=False)
    text: tuple[str, ...] = Field(default=(), strict=False)
    text_width: int = Field(default=32, ge=1, le=384)
    text_model: str = "minilm"
    layout: Literal["rows", "lists", "events"] | None = None
    impression: str | None = None
    window_hours: float = Field(default=24.0, gt=0.0)
    feedback: str | None = None
    feedback_columns: dict[str, str] = Field(default_factory=dict)
    request_scope: Literal["log", "user", "row"] = "log"
    candidate_set: Literal["listed", "all"] = "listed"
    format: Literal["csv", "jsonl", "parquet"] | None = None
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    decimal: Literal[".", ","] | None = None
    encoding: str = "utf-8"
    header: tuple[str, ...] = Field(default=(), strict=False)
    time_format: str | None = None
    timezone: str | None = None
    time_unit: TimeUnit = "auto"
    threads: int = Field(default=0, ge=0)
    memory_gb: float | None = Field(default=None, gt=0.0)
    seed: int = 0

    @field_validator("quotas")
    @classmethod
    def _known(cls, quotas: dict[str, float]) -> dict[str, float]:
        return {CHANNELS.checked(name): share for name, share in quotas.items()}

    @field_validator("features")
    @classmethod
    def _known_families(cls, families: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(FEATURES.checked(name) for name in families)

    @field_validator("text_model")
    @classmethod
    def _known_model(cls, name: str) -> str:
        return SENTENCE_MODELS.checked(name)

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
    def shares(self) -> dict[str, float]:
        """Channels and the shares that they begin with."""
        return dict(_SHARES) if self.quotas is None else self.quotas

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ImportOptions:
        """Make the settings from a mapping.

        Args:
            values: settings by name.

        Raises:
            ConfigError: a key is unknown (the nearest is named) or a value breaks its rule.
        """
        return checked(
            cls, values, "the import", "see goalrank data import --help, or the suite's options"
        )
