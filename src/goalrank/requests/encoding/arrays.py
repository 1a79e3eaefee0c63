"""Requests as flat arrays, before ids become rows: the common form of tables and plain rows.

A table goes through polars; a handful of plain rows (what a server gets) goes through numpy
without it, as making a data frame would cost a server more than ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import DataError
from goalrank.requests.encoding.vocabulary import Ids, as_series
from goalrank.requests.table.columns import feedback_lists
from goalrank.requests.table.requests import Requests

HOUR_US = 3_600_000_000
Row = Mapping[str, Any]
_EVENTS = ("history_feedback", "history_time")
_OF_CANDIDATES = ("candidate_score", "candidate_features")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)


@dataclass(frozen=True)
class RequestArrays:
    """R requests; entries of all requests one after another, separated by lengths [R].

    Attributes:
        time, history_time: microseconds since 1970; `history_time` is empty where not known.
        history_feedback: empty where not known.
        candidate_score: as given, None where the requests have none; NaN where not known.
        candidate_features: [n, F]; no rows where the requests have none; NaN where not known.
        feedback: kind → values along `shown`.
        protocol: see `TableInfo`.
    """

    request_id: Ids
    user_id: Ids
    time: NDArray[np.int64]
    propensity: NDArray[np.float32]
    history_length: NDArray[np.int64]
    history: Ids
    history_feedback: NDArray[np.float32]
    history_time: NDArray[np.int64]
    candidate_length: NDArray[np.int64]
    candidates: Ids
    candidate_score: NDArray[np.float32] | None
    candidate_features: NDArray[np.float32]
    shown_length: NDArray[np.int64]
    shown: NDArray[np.int32]
    feedback: dict[str, NDArray[np.float32]]
    protocol: str

    def __len__(self) -> int:
        return len(self.time)

    @property
    def item_ids(self) -> Ids:
        """The history's ids, then the candidates'."""
        first, second = self.history, self.candidates
        if isinstance(first, list) and isinstance(second, list):
            return first + second
        if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            return np.concatenate([first, second])
        return pl.concat([as_series(first), as_series(second)])

    def any_item(self, marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which requests [R] have a marked item, given a mark for each of `item_ids`."""
        rows = np.arange(len(self))
        owner = np.concatenate(
            [np.repeat(rows, self.history_length), np.repeat(rows, self.candidate_length)]
        )
        return np.bincount(owner[marks], minlength=len(self)) > 0

    def refuse_misaligned(self) -> None:
        """Refuse optional inputs that some requests have and others lack.

        Raises:
            DataError: such an input, by name.
        """
        for base, names in (("history", _EVENTS), ("candidates", _OF_CANDIDATES)):
            wanted = len(getattr(self, base))
            for name in names:
                values = getattr(self, name)
                if values is not None and len(values) not in (0, wanted):
                    raise DataError(
                        f"{name} has {len(values)} entries for {wanted} of {base}; remedy: give one "
                        f"for each, in all requests or in none (goalrank data validate names the rows)"
                    )

    @classmethod
    def of_table(cls, requests: Requests) -> RequestArrays:
        """Flatten a table; its columns conform already."""
        frame = requests.frame
        candidates = entries(frame["candidates"])
        width = len(requests.info.candidate_features)
        dtype = frame.schema.get("feedback")
        kinds = [f.name for f in dtype.fields] if isinstance(dtype, pl.Struct) else []
        return cls(
            request_id=frame["request_id"].cast(pl.String),
            user_id=frame["user_id"],
            time=_int64(frame["time"].to_physical()),
            propensity=_propensity(frame),
            history_length=_lengths(frame["history"]),
            history=entries(frame["history"]),
            history_feedback=_float32(entries(frame["history_feedback"])),
            history_time=_int64(
                entries(frame["history_time"].list.eval(pl.element().to_physical()))
            ),
            candidate_length=_lengths(frame["candidates"]),
            candidates=candidates,
            candidate_score=scores(frame),
            candidate_features=feature_matrix(frame, width)
            if width
            else np.zeros((0, 0), np.float32),
            shown_length=_lengths(frame["shown"]),
            shown=entries(frame["shown"]).to_numpy().astype(np.int32),
            feedback={k: _float32(entries(frame.select(feedback_lists(k))[k])) for k in kinds},
            protocol=requests.info.protocol,
        )

    @classmethod
    def of_rows(
        cls,
        rows: Sequence[Row],
        *,
        item_type: pl.DataType,
        user_type: pl.DataType,
        width: int,
        protocol: str,
    ) -> RequestArrays:
        """Flatten plain rows: dictionaries with the columns of the requests table.

        Required are request_id, user_id, time (aware) and candidates. history, history_feedback,
        history_time, candidate_score and candidate_features may be absent or None, the last four
        in all rows or in none. Other keys are not looked at; nothing counts as shown.

        Args:
            rows: R rows.
            item_type: Int64 or String.
            user_type: Int64 or String.
            width: F.
            protocol: of the requests: "exposed" or "retrieved".

        Raises:
            DataError: ids of another type, lists that do not fit together, or features of another
                width.
        """
        none = np.zeros(len(rows), np.int64)
        histories = [row.get("history") or [] for row in rows]
        candidates = [row["candidates"] for row in rows]
        events, sizes = _sizes(histories), _sizes(candidates)
        score = _aligned(rows, "candidate_score", sizes)
        return cls(
            request_id=[str(row["request_id"]) for row in rows],
            user_id=_ids("user_id", [row["user_id"] for row in rows], user_type),
            time=np.array([micros(row["time"]) for row in rows], np.int64),
            propensity=np.full(len(rows), np.nan, np.float32),
            history_length=events,
            history=_ids("history", _chained(histories), item_type),
            history_feedback=np.array(_aligned(rows, "history_feedback", events), np.float32),
            history_time=np.array(
                [micros(each) for each in _aligned(rows, "history_time", events)], np.int64
            ),
            candidate_length=sizes,
            candidates=_ids("candidates", _chained(candidates), item_type),
            candidate_score=np.array(score, np.float32) if score else None,
            candidate_features=_vectors(rows, sizes, width),
            shown_length=none,
            shown=np.zeros(0, np.int32),
            feedback={},
            protocol=protocol,
        )


def entries(column: pl.Series) -> pl.Series:
    """All entries of a list column one after another (empty lists give none)."""
    return column.explode(empty_as_null=False, keep_nulls=False)


def feature_matrix(frame: pl.DataFrame, width: int) -> NDArray[np.float32]:
    """Candidate features [n, F] of a table, NaN where not known; no rows where no request has any."""
    cells = entries(frame["candidate_features"]).cast(pl.Array(pl.Float32, width))
    values = cells.explode().cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return _spread(values.reshape(-1, width), frame, "candidate_features")


def scores(frame: pl.DataFrame) -> NDArray[np.float32] | None:
    """The retriever's scores [n] of a table, NaN where not known; None without the column."""
    if "candidate_score" not in frame.columns:
        return None
    return _spread(_float32(entries(frame["candidate_score"])), frame, "candidate_score")


def _spread(values: NDArray[np.float32], frame: pl.DataFrame, name: str) -> NDArray[np.float32]:
    """Entries along the candidates, with NaN for the requests in which the column is null."""
    known = frame[name].is_not_null()
    if known.all() or not len(values):
        return values
    real = np.repeat(known.to_numpy(), _lengths(frame["candidates"]))
    if len(values) != int(real.sum()):
        return values  # `refuse_misaligned` says what is wrong
    out = np.full((len(real), *values.shape[1:]), np.nan, np.float32)
    out[real] = values
    return out


def history_ages(time: NDArray[np.int64], event_time: NDArray[np.int64]) -> NDArray[np.float64]:
    """Age of history events as models see it: log(1 + hours).

    Args:
        time: [n] microseconds of each event's request.
        event_time: [n] microseconds of the events.
    """
    ages: NDArray[np.float64] = np.log1p(np.maximum(time - event_time, 0) / HOUR_US)
    return ages


def micros(time: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (time - EPOCH) // _MICRO


def _lengths(column: pl.Series) -> NDArray[np.int64]:
    return column.list.len().to_numpy().astype(np.int64)


def _int64(values: pl.Series) -> NDArray[np.int64]:
    return values.to_numpy().astype(np.int64)


def _float32(values: pl.Series) -> NDArray[np.float32]:
    return values.to_numpy().astype(np.float32)


def _propensity(frame: pl.DataFrame) -> NDArray[np.float32]:
    if "propensity" not in frame.columns:
        return np.full(frame.height, np.nan, np.float32)
    return frame["propensity"].cast(pl.Float32).fill_null(float("nan")).to_numpy()


def _sizes(lists: Sequence[Sequence[Any]]) -> NDArray[np.int64]:
    return np.array([len(each) for each in lists], np.int64)


def _chained(lists: Sequence[Sequence[Any]]) -> list[Any]:
    return list(lists[0]) if len(lists) == 1 else list(chain.from_iterable(lists))


def _ids(name: str, ids: list[Any], dtype: pl.DataType) -> Ids:
    found = set(map(type, ids))
    if dtype == pl.String and found <= {str}:
        return ids
    if dtype != pl.String and found <= {int, np.int64}:
        try:
            return np.array(ids, np.int64)
        except OverflowError as error:
            raise DataError(f"{name}: an id does not fit 64 bits; remedy: send strings") from error
    kinds = ", ".join(sorted(kind.__name__ for kind in found))
    raise DataError(
        f"{name}: ids of type {kinds}, but this model knows ids of type {dtype}: a string '7' and "
        f"a number 7 are different ids; remedy: send ids of that type"
    )


def _aligned(rows: Sequence[Row], name: str, sizes: NDArray[np.int64]) -> list[Any]:
    """Entries of an optional column, one after another; none where no row has it."""
    lists = [row.get(name) or [] for row in rows]
    found = _sizes(lists)
    if not found.any():
        return []
    if not np.array_equal(found, sizes):
        row = int(np.flatnonzero(found != sizes)[0])
        raise DataError(
            f"row {row}: {name} has {found[row]} entries for {sizes[row]}; remedy: give one each, "
            f"in all rows or in none"
        )
    return _chained(lists)


def _vectors(rows: Sequence[Row], sizes: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """Candidate features [n, F]; no rows where they are absent or not wanted."""
    vectors = _aligned(rows, "candidate_features", sizes) if width else []
    odd = {len(vector) for vector in vectors} - {width}
    if odd:
        raise DataError(
            f"candidate_features have widths {sorted(odd)}, but training had {width} features; "
            f"remedy: supply the same features in the same order"
        )
    return np.array(vectors, np.float32).reshape(len(vectors), width)
