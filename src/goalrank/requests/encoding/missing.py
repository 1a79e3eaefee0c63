"""Inputs that the model was trained with and a request leaves out: refused, or the training mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from goalrank.errors import ConfigError, MissingInputError
from goalrank.requests.encoding.arrays import EPOCH, HOUR_US, RequestArrays, Row, micros
from goalrank.requests.encoding.vocabulary import Ids

Missing = Literal["refuse", "mean"]
"""What is done where an input of training does not come: an error, or its mean over training."""

Range = tuple[float, float]
"""Mean and deviation of an input over the training requests."""

Absent = dict[str, NDArray[np.bool_]]
"""Name of an input → [R] requests that need it and do not bring it."""

_ROUNDING = 1e-6  # deviations below it, relative to the mean, are those of a constant
_ALONG = {
    "history_feedback": "history",
    "history_time": "history",
    "candidate_score": "candidates",
    "candidate_features": "candidates",
}


def check_missing(missing: str) -> Missing:
    """The word, if it is "refuse" or "mean".

    Raises:
        ConfigError: it is another one.
    """
    for known in get_args(Missing):
        if missing == known:
            return cast(Missing, known)
    raise ConfigError(
        f"missing = {missing!r}, but it is 'refuse' or 'mean'; remedy: choose one of them; "
        f"option: missing"
    )


@dataclass(frozen=True)
class TrainedInputs:
    """The inputs along histories and candidates that training had, with their ranges.

    An input that training had not is not looked at. One that never varied in training says
    nothing, so that it may be left out; its one value stands for it.

    Attributes:
        history_feedback: range of the feedback to history items; None without.
        history_age: range of log(1 + hours) from a history item to its request; None without.
        candidate_score: range of the retriever's score; None without.
        candidate_features: [F, 2] range of each candidate feature.
        feature_names: [F] their names.
        gaps: inputs that some requests of training lacked; where one is not known, it may be left
            out, and its mean stands for it.
    """

    history_feedback: Range | None
    history_age: Range | None
    candidate_score: Range | None
    candidate_features: NDArray[np.float64]
    feature_names: tuple[str, ...]
    gaps: tuple[str, ...] = ()

    def refuse(self, absent: Absent, request_ids: Ids) -> None:
        """Refuse requests that lack inputs; every input is named.

        Args:
            absent: what is lacking.
            request_ids: [R] ids of the requests.

        Raises:
            MissingInputError: anything is lacking.
        """
        if not absent:
            return
        lacking = np.any(list(absent.values()), axis=0)
        first = str(request_ids[int(lacking.argmax())])
        named = {"candidate_features": f"candidate_features ({', '.join(self.feature_names)})"}
        raise MissingInputError(
            f"{', '.join(named.get(name, name) for name in absent)}: absent in "
            f"{int(lacking.sum()):,} of {len(lacking):,} requests (first: {first!r}), but the model "
            f"was trained with what is named and would rank otherwise without; remedy: supply it, "
            f"or take its mean over the training requests: missing='mean' (goalrank rank --missing "
            f"mean); option: missing"
        )

    @cached_property
    def asked_for(self) -> tuple[str, ...]:
        """Names of the inputs that a request must bring."""
        asked = {
            "history_feedback": _varies(self.history_feedback),
            "history_time": _varies(self.history_age),
            "candidate_score": self.candidate_score is not None,
            "candidate_features": len(self.candidate_features) > 0,
        }
        return tuple(name for name, wanted in asked.items() if wanted)

    def absent(self, flat: RequestArrays) -> Absent:
        """The inputs that requests must bring and do not.

        Args:
            flat: R requests.
        """
        lengths = {"history": flat.history_length, "candidates": flat.candidate_length}
        needed = {name: lengths[_ALONG[name]] > 0 for name in self.asked_for if _lacks(flat, name)}
        for name in self.asked_for:
            if name not in needed and name not in self.gaps and _ALONG[name] == "candidates":
                unknown = np.isnan(getattr(flat, name)).reshape(len(flat.candidates), -1).any(1)
                owner = np.repeat(np.arange(len(flat)), flat.candidate_length)
                needed[name] = np.bincount(owner[unknown], minlength=len(flat)) > 0
        return {name: rows for name, rows in needed.items() if rows.any()}

    def filled(self, flat: RequestArrays) -> RequestArrays:
        """The requests with the training mean of what they lack.

        Args:
            flat: R requests.
        """
        known = {"history_feedback": self.history_feedback, "history_time": self.history_age}
        unused = {name for name, found in known.items() if found is None}
        lengths = {"history": flat.history_length, "candidates": flat.candidate_length}
        changes: dict[str, Any] = {
            name: self._means(name, lengths[_ALONG[name]], flat.time)
            for name in (*known, *self.asked_for)
            if name in unused or _lacks(flat, name)
        }
        for name in self.asked_for:
            values = getattr(flat, name)
            if _ALONG[name] == "candidates" and name not in changes and np.isnan(values).any():
                means = self._means(name, lengths["candidates"], flat.time)
                changes[name] = np.where(np.isnan(values), means, values)
        return replace(flat, **changes) if changes else flat

    def completed(self, row: Row, missing: Missing) -> tuple[dict[str, Any], tuple[str, ...]]:
        """A plain row with values for what it lacks, and the names of what was filled in.

        Args:
            row: with request_id, time, candidates, and perhaps a history.
            missing: "refuse" raises where an input that training had is lacking.

        Raises:
            MissingInputError: as said.
        """
        sizes = {base: len(row.get(base) or []) for base in ("history", "candidates")}
        lacking = [n for n, base in _ALONG.items() if sizes[base] and not row.get(n)]
        filled = tuple(name for name in lacking if name in self.asked_for)
        if missing == "refuse":
            self.refuse({name: np.ones(1, bool) for name in filled}, [row["request_id"]])
        histories = [name for name in lacking if _ALONG[name] == "history"]
        out = dict(row)
        for name in dict.fromkeys((*histories, *filled)):
            size, time = np.array([sizes[_ALONG[name]]]), np.array([micros(row["time"])])
            out[name] = self._means(name, size, time).tolist()
        if "history_time" in histories:
            out["history_time"] = [_moment(each, row["time"]) for each in out["history_time"]]
        return out, filled

    def _means(self, name: str, sizes: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[Any]:
        """An input's mean for requests of so many entries [R] at times [R] (microseconds)."""
        total = int(sizes.sum())
        if name == "history_time":
            return self._mean_times(sizes, times)
        if name == "candidate_features":
            return np.tile(self.candidate_features[:, 0].astype(np.float32), (total, 1))
        found = self.candidate_score if name == "candidate_score" else self.history_feedback
        return np.full(total, 1.0 if found is None else found[0], np.float32)

    def _mean_times(self, sizes: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Times of the mean age, a microsecond apart so that they are in order and in the past."""
        mean = 0.0 if self.history_age is None else self.history_age[0]
        age = round(np.expm1(mean) * HOUR_US)
        ends = np.cumsum(sizes)
        left = np.repeat(ends, sizes) - np.arange(int(sizes.sum()))
        out: NDArray[np.int64] = np.repeat(times, sizes) - age - left
        return out


def _varies(found: Range | None) -> bool:
    return found is not None and found[1] > _ROUNDING * (1.0 + abs(found[0]))


def _lacks(flat: RequestArrays, name: str) -> bool:
    """Whether no request brings an input. Requests without entries bring all of them."""
    values: NDArray[Any] | None = getattr(flat, name)
    return values is None or values.size == 0


def _moment(value: int, like: datetime) -> datetime:
    return (EPOCH + timedelta(microseconds=value)).astimezone(like.tzinfo)
