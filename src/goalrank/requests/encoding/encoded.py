"""Encoded requests as flat arrays: one copy in memory or memory-mapped, gathered into batches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.errors import DataError
from goalrank.requests.encoding.arrays import history_ages
from goalrank.requests.encoding.batch import Batch, EntityTable
from goalrank.storage import whole_folder


@dataclass(frozen=True)
class EncodedRequests:
    """R encoded requests. `*_start` arrays have R+1 entries: request r owns start[r]:start[r+1].

    Attributes:
        items, users: feature tables that the row numbers point into.
        protocol: decides which candidates count as observed.
        target: column of `feedback` that is the relevance, -1 if none.
        model_scores: how many of the last columns of `candidate_features` are scores of models.
    """

    items: EntityTable
    users: EntityTable
    kinds: tuple[str, ...]
    target: int
    protocol: str
    history_limit: int
    key: NDArray[np.int64]
    time: NDArray[np.int64]
    user: NDArray[np.int32]
    propensity: NDArray[np.float32]
    history_start: NDArray[np.int64]
    history: NDArray[np.int32]
    history_feedback: NDArray[np.float32]
    history_time: NDArray[np.int64]
    candidate_start: NDArray[np.int64]
    candidates: NDArray[np.int32]
    candidate_score: NDArray[np.float32]
    candidate_features: NDArray[np.float32]
    shown_start: NDArray[np.int64]
    shown: NDArray[np.int32]
    feedback: NDArray[np.float32]
    model_scores: int = 0

    def __len__(self) -> int:
        return len(self.user)

    @property
    def own_features(self) -> NDArray[np.float32]:
        """[C, F] candidate features of the table, without scores of models."""
        return self.candidate_features[:, : self.candidate_features.shape[1] - self.model_scores]

    def with_model_scores(self, scores: NDArray[np.float32]) -> EncodedRequests:
        """The same requests with scores of models [C, M] as further candidate features."""
        features = np.concatenate([self.candidate_features, scores], 1)
        return replace(
            self, candidate_features=features, model_scores=self.model_scores + scores.shape[1]
        )

    def batch(self, indices: NDArray[Any] | slice | list[int]) -> Batch:
        """Pad the chosen requests to a batch; every index costs O(its own length)."""
        if isinstance(indices, slice):
            indices = np.arange(*indices.indices(len(self)))
        rows = np.asarray(indices, dtype=np.int64)
        h_at, h_ok = _grid(self.history_start, rows, self.history_limit)
        c_at, c_ok = _grid(self.candidate_start, rows)
        s_at, s_ok = _grid(self.shown_start, rows)
        shown = np.where(s_ok, _take(self.shown, s_at), -1).astype(np.int64)
        feedback = _real(self.feedback, s_at, s_ok)
        relevance, observed = self._relevance(shown, feedback, c_ok)
        age = history_ages(self.time[rows][:, None], _take(self.history_time, h_at))
        return Batch(
            index=torch.from_numpy(rows),
            key=torch.from_numpy(np.ascontiguousarray(self.key[rows])),
            items=self.items,
            users=self.users,
            user=torch.from_numpy(self.user[rows].astype(np.int64)),
            history=_tensor(_real(self.history, h_at, h_ok), np.int64),
            history_mask=torch.from_numpy(h_ok),
            history_feedback=_tensor(_real(self.history_feedback, h_at, h_ok)),
            history_age=_tensor(age * h_ok),
            candidates=_tensor(_real(self.candidates, c_at, c_ok), np.int64),
            candidate_mask=torch.from_numpy(c_ok),
            candidate_score=_tensor(_real(self.candidate_score, c_at, c_ok)),
            candidate_features=_tensor(_real(self.candidate_features, c_at, c_ok)),
            shown=torch.from_numpy(shown),
            feedback=_tensor(feedback),
            relevance=_tensor(relevance),
            observed=torch.from_numpy(observed),
            propensity=torch.from_numpy(np.ascontiguousarray(self.propensity[rows])),
        )

    def _relevance(
        self, shown: NDArray[np.int64], feedback: NDArray[Any], real: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        relevance = np.zeros(real.shape, np.float32)
        observed = np.zeros(real.shape, np.bool_)
        at = np.nonzero(shown >= 0)
        if self.target >= 0:
            relevance[at[0], shown[at]] = feedback[(*at, self.target)]
        observed[at[0], shown[at]] = True
        return relevance, observed if self.protocol == "exposed" else real

    def order(self, batch_size: int, *, seed: int | None = None) -> list[NDArray[np.int64]]:
        """Indices of each batch of one pass over the requests.

        Args:
            batch_size: B.
            seed: None keeps the order; a number shuffles, and puts requests of like history and
                candidate lengths into one batch so that little padding is computed.
        """
        rows = np.arange(len(self))
        if seed is not None:
            rng = np.random.default_rng(seed)
            rng.shuffle(rows)
            length = np.minimum(np.diff(self.history_start), self.history_limit)
            size = np.diff(self.candidate_start) * 64 + length
            chunk = batch_size * 32  # sorted only inside a chunk: batches stay random
            rows = np.concatenate(
                [part[np.argsort(size[part], kind="stable")] for part in _chunks(rows, chunk)]
                or [rows]
            )
        batches = _chunks(rows, batch_size)
        if seed is not None:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        return batches

    def batches(self, batch_size: int, *, seed: int | None = None) -> Iterator[Batch]:
        """One pass over the requests, batch by batch; see `order`."""
        for rows in self.order(batch_size, seed=seed):
            yield self.batch(rows)

    def take(self, indices: NDArray[Any] | slice) -> EncodedRequests:
        """The chosen requests as separate EncodedRequests; the feature tables are shared."""
        if isinstance(indices, slice):
            indices = np.arange(*indices.indices(len(self)))
        rows = np.asarray(indices, dtype=np.int64)
        new: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("key", "time", "user", "propensity"):
            new[name] = new[name][rows]
        for start, names in _RAGGED.items():
            at, lengths = _ragged_index(getattr(self, start), rows)
            new[start] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            for name in names:
                new[name] = new[name][at]
        return EncodedRequests(**new)

    def save(self, folder: str | Path) -> Path:
        """Write the arrays as .npy files that `load` memory-maps; whole or not at all."""
        target = Path(folder)
        if target.exists():
            raise DataError(
                f"folder '{target}' exists already; remedy: remove it or choose another"
            )
        meta = {
            "kinds": self.kinds,
            "target": self.target,
            "protocol": self.protocol,
            "history_limit": self.history_limit,
            "model_scores": self.model_scores,
        }
        with whole_folder(target) as temporary:
            for name, values in self._arrays().items():
                np.save(temporary / f"{name}.npy", values, allow_pickle=False)
            (temporary / "columns.json").write_text(json.dumps(meta))
        return target

    @classmethod
    def load(cls, folder: str | Path) -> EncodedRequests:
        """Memory-map what `save` wrote."""
        source = Path(folder)
        try:
            meta = json.loads((source / "columns.json").read_text())
            arrays = {
                path.stem: np.load(path, mmap_mode="r", allow_pickle=False)
                for path in source.glob("*.npy")
            }
            tables: dict[str, Any] = {
                side: EntityTable(
                    *(
                        torch.from_numpy(np.array(arrays.pop(f"{side}.{f.name}")))
                        for f in fields(EntityTable)
                    )
                )
                for side in ("items", "users")
            }
            return cls(**tables, **{**meta, "kinds": tuple(meta["kinds"])}, **arrays)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"'{source}' does not hold encoded columns ({error}); remedy: encode the requests again"
            ) from error

    def _arrays(self) -> dict[str, NDArray[Any]]:
        out: dict[str, NDArray[Any]] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, EntityTable):
                out.update(
                    {f"{f.name}.{g.name}": getattr(value, g.name).numpy() for g in fields(value)}
                )
            elif isinstance(value, np.ndarray):
                out[f.name] = value
        return out


_RAGGED = {
    "history_start": ("history", "history_feedback", "history_time"),
    "candidate_start": ("candidates", "candidate_score", "candidate_features"),
    "shown_start": ("shown", "feedback"),
}


def _grid(
    start: NDArray[np.int64], rows: NDArray[np.int64], limit: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Flat positions [B, W] of each request's (last `limit`) entries, and which are real."""
    first, last = start[rows], start[rows + 1]
    if limit is not None:
        first = np.maximum(first, last - limit)
    length = last - first
    width = max(int(length.max(initial=0)), 1)
    steps = np.arange(width)
    real = steps < length[:, None]
    return np.where(real, first[:, None] + steps, 0), real


def _take(values: NDArray[Any], at: NDArray[np.int64]) -> NDArray[Any]:
    if len(values) == 0:
        return np.zeros(at.shape + values.shape[1:], values.dtype)
    return values[at]


def _real(values: NDArray[Any], at: NDArray[np.int64], real: NDArray[np.bool_]) -> NDArray[Any]:
    """Values at the flat positions, zero in padding (whatever its position holds, even NaN)."""
    taken = _take(values, at)
    return np.where(real.reshape(real.shape + (1,) * (taken.ndim - 2)), taken, 0)


def _tensor(values: NDArray[Any], dtype: type = np.float32) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=dtype))


def _chunks(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _ragged_index(
    start: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths = start[rows + 1] - start[rows]
    total = int(lengths.sum())
    ends = np.cumsum(lengths)
    shift = np.repeat(start[rows] - (ends - lengths), lengths)
    return np.arange(total) + shift, lengths
