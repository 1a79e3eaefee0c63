"""What a requests table says about itself, kept in the Parquet file's metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from goalrank.errors import ConfigError, DataError

METADATA_KEY = b"goalrank"
FORMAT_VERSION = 1
NAME_RULE = (
    "a name is not empty, has no NUL character, and is no pattern (* or ^…$); remedy: rename it"
)


Bounds = tuple[float | None, float | None]
"""Least and greatest value of a feedback kind; None sets no bound."""
PROBABILITY: Bounds = (0.0, 1.0)


class ComputedFeatures(BaseModel):
    """Which candidate features were computed from events, so that a server can compute them again.

    Attributes:
        families: names or class paths of families of features, in their order.
        kinds: feedback types that they average.
        categories: columns of the items' side table that they look at.
        repeats: whether candidates may be items of the user's earlier rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    families: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    repeats: bool = True


class LogRule(BaseModel):
    """How the rows of a log became histories and counts, so that a server can go on with later rows.

    Attributes:
        shape: ``interactions`` (every row was chosen) or ``exposures`` (rows were shown; those with
            a strength above 0 were consumed).
        positives_only: rows whose target is not above 0 count as nothing.
        strength: feedback types whose sum is `history_feedback`.
        depth: most items of a history.
        exclude_seen: candidates were never items of the user's history.
        ordered: rows of one time keep the order in which they come; else a hash of their ids
            decides.
        seed: of that hash.
        like_threshold: the lowest rating that is a like, where likes were made from ratings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Literal["interactions", "exposures"]
    strength: tuple[str, ...]
    depth: int
    positives_only: bool = False
    exclude_seen: bool = False
    ordered: bool = False
    seed: int = 0
    like_threshold: float | None = None


class TableInfo(BaseModel):
    """Description of a requests table.

    Attributes:
        dataset: name printed with results.
        protocol: how the candidates came about. `exposed`: they were shown. `retrieved`: a
            retriever proposed them and `shown` holds those consumed later. `injected`: as
            retrieved, but the consumed ones were added by hand (results are easy to game).
        feedback_kinds: names of the K kinds in the `feedback` struct; empty means "take them
            from the table".
        target: the kind that counts as relevance (a value > 0 is a positive); None if none.
        candidate_features: names of the F per-candidate features; empty means "take the width
            from the table" (features are then called f0, f1, …).
        computed: which of them an import computed from events; None where none were, or where it
            is not known.
        log: how the rows of the log were read; None where it is not known.
        warning: printed with every result on this table.
        feedback_ranges: kind → (least, greatest) value of its feedback, None for no bound; a kind
            that is not named takes any finite number. Training names those that it finds within
            [0, 1], and a server refuses feedback outside.

    Raises:
        ConfigError: a name occurs twice or breaks `NAME_RULE`, `target` is not one of
            `feedback_kinds`, or a range is empty or of another kind.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = "unknown"
    protocol: Literal["exposed", "retrieved", "injected"] = "exposed"
    feedback_kinds: tuple[str, ...] = ()
    target: str | None = None
    candidate_features: tuple[str, ...] = ()
    computed: ComputedFeatures | None = None
    log: LogRule | None = None
    warning: str | None = None
    feedback_ranges: dict[str, Bounds] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> TableInfo:
        for option in ("feedback_kinds", "candidate_features"):
            names = getattr(self, option)
            if len(set(names)) < len(names):
                raise ConfigError(
                    f"TableInfo.{option} = {list(names)} names something twice; "
                    f"remedy: give each name once"
                )
            odd = [name for name in names if not storable_name(name)]
            if odd:
                raise ConfigError(f"TableInfo.{option} holds {odd}: {NAME_RULE}")
        if (
            self.target is not None
            and self.feedback_kinds
            and self.target not in self.feedback_kinds
        ):
            raise ConfigError(
                f"TableInfo.target = '{self.target}' is not one of feedback_kinds "
                f"{list(self.feedback_kinds)}; remedy: choose one of them, or None"
            )
        for kind, (low, high) in self.feedback_ranges.items():
            if (self.feedback_kinds and kind not in self.feedback_kinds) or (
                low is not None and high is not None and not low <= high
            ):
                raise ConfigError(
                    f"TableInfo.feedback_ranges['{kind}'] = {(low, high)} is empty or of no kind of "
                    f"{list(self.feedback_kinds)}; remedy: (least, greatest), None for no bound"
                )
        return self

    def replace(self, **changes: Any) -> TableInfo:
        """A checked copy with some fields changed."""
        return TableInfo(**{**self.model_dump(), **changes})


def is_within(value: float, bounds: Bounds) -> bool:
    """Whether a value lies in a range.

    Args:
        value: the value.
        bounds: the range.
    """
    low, high = bounds
    return (low is None or value >= low) and (high is None or value <= high)


def hull(a: Bounds, b: Bounds) -> Bounds:
    """The least range that holds two others.

    Args:
        a: the one.
        b: the other.
    """
    low = None if a[0] is None or b[0] is None else min(a[0], b[0])
    return low, None if a[1] is None or b[1] is None else max(a[1], b[1])


def storable_name(name: str) -> bool:
    """Whether Parquet can store a field of that name and polars takes it literally; see NAME_RULE."""
    pattern = name == "*" or (name.startswith("^") and name.endswith("$"))
    return bool(name) and "\0" not in name and not pattern


def complete_info(info: TableInfo | None, kinds: Sequence[str], width: int) -> TableInfo:
    """Fill what `info` leaves open from the table itself.

    Args:
        info: None when the table came without a description.
        kinds: fields of the table's `feedback` struct.
        width: F of the table's `candidate_features`, 0 if it has none.

    Returns:
        `info` with kinds and feature names filled where they were empty. Where the kinds were
        empty and no target was named, the first kind becomes the target.
    """
    info = info or TableInfo()
    changes: dict[str, Any] = {}
    if not info.feedback_kinds and kinds:
        changes["feedback_kinds"] = tuple(kinds)
        changes["target"] = info.target if info.target is not None else kinds[0]
    if not info.candidate_features and width:
        changes["candidate_features"] = tuple(f"f{i}" for i in range(width))
    return info.replace(**changes) if changes else info


def info_to_metadata(info: TableInfo) -> dict[bytes, bytes]:
    """The Parquet metadata entry that carries `info` and the format's version."""
    content = {"format_version": FORMAT_VERSION, "info": info.model_dump(mode="json")}
    return {METADATA_KEY: json.dumps(content, sort_keys=True).encode()}


def info_from_metadata(metadata: dict[bytes, bytes] | None, source: object) -> TableInfo | None:
    """Read back `info_to_metadata`; None for a table that goalrank did not write.

    Raises:
        DataError: the entry is damaged, or written by a newer goalrank.
    """
    raw = (metadata or {}).get(METADATA_KEY)
    if raw is None:
        return None
    try:
        content = json.loads(raw)
        version = int(content["format_version"])
        if version <= FORMAT_VERSION:
            return TableInfo(**content["info"])
    except (ValueError, KeyError, TypeError, ConfigError, ValidationError) as error:
        raise DataError(
            f"'{source}': its goalrank description is damaged ({_first_line(error)}); "
            f"remedy: write the table again with Requests.write"
        ) from error
    raise DataError(
        f"'{source}' has table format {version}, written by a newer goalrank; this one reads "
        f"formats up to {FORMAT_VERSION}; remedy: pip install --upgrade goalrank"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
