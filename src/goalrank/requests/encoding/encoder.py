"""Encodes requests as numbers by vocabularies and feature ranges of the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from goalrank.errors import DataError
from goalrank.requests.encoding.arrays import RequestArrays, Row
from goalrank.requests.encoding.batch import EntityTable, InputSpec
from goalrank.requests.encoding.encoded import EncodedRequests
from goalrank.requests.encoding.entities import EntityEncoder
from goalrank.requests.encoding.missing import (
    Absent,
    Missing,
    Range,
    TrainedInputs,
    check_missing,
)
from goalrank.requests.encoding.shard import (
    Exchange,
    age_range,
    alone,
    feature_range,
    feedback_range,
    gaps,
    gather_frames,
    kind_ranges,
    score_range,
    seen_ids,
)
from goalrank.requests.encoding.vocabulary import stable_hash
from goalrank.requests.table.info import TableInfo
from goalrank.requests.table.requests import Requests

_MOST = 1e9  # standard deviations
Found = tuple[NDArray[np.int64], EntityTable]
"""Rows of ids, and the table that they are in."""


class EncoderConfig(BaseModel):
    """How requests become numbers.

    Attributes:
        history: H, how many of the latest history events models see.
        item_buckets, user_buckets: rows shared by ids never seen in training.
        min_count: an id seen less often in training is treated as unknown.
        tree_folds: groups of users for the scores of cross-fitted trees, which become candidate
            features of all networks; 0 leaves them out, and 2 those of trees that count other users'
            requests.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    history: int = Field(default=50, ge=0)
    item_buckets: int = Field(default=64, ge=1)
    user_buckets: int = Field(default=64, ge=1)
    min_count: int = Field(default=1, ge=1)
    tree_folds: int = Field(default=3, ge=0)

    @field_validator("tree_folds")
    @classmethod
    def _crosses(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("0, or at least 2: trees must not have seen the users they score")
        return folds


class ModelScores(Protocol):
    """Scores of candidates by models that were fitted to encoded requests."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the M scores."""

    def of(self, columns: EncodedRequests) -> NDArray[np.float32]:
        """Scores [C, M] of all candidates, standardised over training."""

    def write(self, folder: Path) -> list[str]:
        """Write the models into an existing folder; returns the names of the files."""


@dataclass(frozen=True)
class Encoder:
    """Requests → `EncodedRequests`. Built by `fit` from training requests only.

    Attributes:
        info: the training table's description (kinds, candidate features, target).
        score: (mean, std) of the retriever's score in training, None if there was none.
        candidate: [F, 2] mean and std of each per-candidate feature.
        history_feedback: (mean, std) of the feedback to history items, None if there was none.
        history_age: (mean, std) of log(1 + hours) from history items to the request, None if the
            times were not known. Bundles of earlier versions know neither: 1 and 0, never asked for.
        model_scores: models whose scores are added to the candidate features, or None.
        gaps: inputs along the candidates that some requests of training lacked.
        knows_vectors: whether models are told which item numbers are one vector. Those of earlier
            versions were not.
    """

    config: EncoderConfig
    info: TableInfo
    items: EntityEncoder
    users: EntityEncoder
    score: Range | None
    candidate: NDArray[np.float64]
    history_feedback: Range | None = (1.0, 0.0)
    history_age: Range | None = (0.0, 0.0)
    model_scores: ModelScores | None = None
    gaps: tuple[str, ...] = ()
    knows_vectors: bool = True

    @classmethod
    def fit(
        cls, train: Requests, config: EncoderConfig | None = None, exchange: Exchange = alone
    ) -> Encoder:
        """Learn vocabularies and feature ranges from training requests.

        Args:
            train: the training requests.
            config: sizes and limits of the encoder; None takes the defaults.
            exchange: gives bytes to all processes and returns those of each, where every process
                has a shard of the requests (`read_shard`): all learn the same from all shards.
        """
        config = config or EncoderConfig()
        frame = train.frame
        items = seen_ids(frame, config.min_count, exchange)
        users = gather_frames(frame.select(pl.col("user_id").unique()), exchange)["user_id"]
        return cls(
            config=config,
            info=train.info.replace(feedback_ranges=kind_ranges(frame, train.info, exchange)),
            items=EntityEncoder.fit(items, train.items, "item_id", config.item_buckets),
            users=EntityEncoder.fit(users.unique(), train.users, "user_id", config.user_buckets),
            score=score_range(frame, exchange),
            candidate=feature_range(frame, len(train.info.candidate_features), exchange),
            history_feedback=feedback_range(frame, exchange),
            history_age=age_range(frame, exchange),
            gaps=gaps(frame, exchange),
        )

    @cached_property
    def inputs(self) -> TrainedInputs:
        """What a request may leave out, with its range in training."""
        return TrainedInputs(
            history_feedback=self.history_feedback,
            history_age=self.history_age,
            candidate_score=self.score,
            candidate_features=self.candidate,
            feature_names=self.info.candidate_features,
            gaps=self.gaps,
        )

    def overridden(self, items: pl.DataFrame | None, users: pl.DataFrame | None) -> Encoder:
        """The encoder with these features of the items and users that it knows.

        Args:
            items: side table, or None.
            users: side table, or None.

        Raises:
            DataError: a column changed its type since training.
        """
        return replace(
            self,
            items=self.items.overridden(items, "item_id"),
            users=self.users.overridden(users, "user_id"),
        )

    @property
    def spec(self) -> InputSpec:
        """Sizes that models are built from."""
        return InputSpec(
            item_ids=self.items.vocabulary.rows_total,
            item_numeric=self.items.features.numeric_width,
            item_category=self.items.features.category_rows,
            item_category_width=self.items.features.category_width,
            user_ids=self.users.vocabulary.rows_total,
            user_numeric=self.users.features.numeric_width,
            user_category=self.users.features.category_rows,
            user_category_width=self.users.features.category_width,
            candidate_features=len(self.candidate) + self._made,
            has_score=self.score is not None,
            kinds=self.info.feedback_kinds,
            item_buckets=self.items.vocabulary.buckets,
            user_buckets=self.users.vocabulary.buckets,
            model_scores=self._made,
            item_vectors=self.items.features.vector_lengths if self.knows_vectors else (),
        )

    @property
    def _made(self) -> int:
        return 0 if self.model_scores is None else len(self.model_scores.names)

    def encode(self, requests: Requests, missing: Missing = "refuse") -> EncodedRequests:
        """Encode any requests of the same layout.

        Args:
            requests: the requests.
            missing: what is done where an input that training had is lacking; see `Missing`.

        Raises:
            MissingInputError: such an input, unless `missing` is "mean".
            DataError: ids of another type, or candidate features that differ from training.
        """
        flat = self.flat_table(requests)
        return self.encode_flat(flat, requests.items, requests.users, missing)

    def flat_table(self, requests: Requests) -> RequestArrays:
        """A table as flat arrays.

        Raises:
            DataError: candidate features that differ from training.
        """
        self.check_features(requests)
        return RequestArrays.of_table(requests)

    def flat(self, rows: Sequence[Row]) -> RequestArrays:
        """Plain rows as flat arrays of this model's id types; see `RequestArrays.of_rows`."""
        return RequestArrays.of_rows(
            rows,
            item_type=self.items.vocabulary.ids.dtype,
            user_type=self.users.vocabulary.ids.dtype,
            width=len(self.candidate),
            protocol=self.info.protocol,
        )

    def encode_flat(
        self,
        flat: RequestArrays,
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        missing: Missing = "refuse",
        found: tuple[Found | None, Found | None] = (None, None),
    ) -> EncodedRequests:
        """Encode flat requests, with side tables that override the features of training.

        Args:
            flat: the requests.
            items: side table of items that comes with them.
            users: side table of users that comes with them.
            missing: as for `encode`.
            found: rows of all items and of all users, if they were found already (`SideRows`).

        Raises:
            DataError: as `encode`.
        """
        check_missing(missing)
        flat.refuse_misaligned()
        if missing == "refuse":
            self.inputs.refuse(self.absent(flat, items, users), flat.request_id)
        flat = self.inputs.filled(flat)
        split = len(flat.history)
        of_items, of_users = found
        rows, item_table = of_items or self.items.rows(flat.item_ids, items, "item_id")
        user, user_table = of_users or self.users.rows(flat.user_id, users, "user_id")
        candidates = rows[split:]
        kinds = self.info.feedback_kinds
        target = kinds.index(self.info.target) if self.info.target in kinds else -1
        encoded = EncodedRequests(
            items=item_table,
            users=user_table,
            kinds=kinds,
            target=target,
            protocol=flat.protocol,
            history_limit=self.config.history,
            key=stable_hash(flat.request_id).astype(np.int64),
            time=flat.time,
            user=user.astype(np.int32),
            propensity=flat.propensity,
            history_start=_starts(flat.history_length),
            history=rows[:split].astype(np.int32),
            history_feedback=flat.history_feedback,
            history_time=flat.history_time,
            candidate_start=_starts(flat.candidate_length),
            candidates=candidates.astype(np.int32),
            candidate_score=self._scores(flat.candidate_score, len(candidates)),
            candidate_features=self._candidate_features(flat.candidate_features, len(candidates)),
            shown_start=_starts(flat.shown_length),
            shown=flat.shown,
            feedback=self._feedback(flat),
        )
        if self.model_scores is None:
            return encoded
        return encoded.with_model_scores(self.model_scores.of(encoded))

    def absent(
        self,
        flat: RequestArrays,
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
    ) -> Absent:
        """Every input of training that requests lack: name → [R] requests that need it.

        Names are columns of the requests table, and `items.COLUMN` or `users.COLUMN` where a side
        table lacks a column for ids that are new.

        Args:
            flat: R requests.
            items: side table of items that comes with them.
            users: side table of users that comes with them.
        """
        found = self.inputs.absent(flat)
        if items is not None:
            for name, ids in self.items.absent(flat.item_ids, items, "item_id").items():
                found[f"items.{name}"] = flat.any_item(ids)
        if users is not None:
            for name, ids in self.users.absent(flat.user_id, users, "user_id").items():
                found[f"users.{name}"] = ids
        return found

    def check_features(self, requests: Requests) -> None:
        """Refuse a table with other candidate features than in training (DataError)."""
        theirs, ours = requests.info.candidate_features, self.info.candidate_features
        if theirs and theirs != ours:
            raise DataError(
                f"candidate features are {list(theirs)}, but training had {list(ours)}; "
                f"remedy: supply the same features in the same order"
            )

    def _scores(self, score: NDArray[np.float32] | None, n: int) -> NDArray[np.float32]:
        if self.score is None or score is None:
            return np.zeros(n, np.float32)
        return _deviations(score, *self.score)

    def _candidate_features(self, values: NDArray[np.float32], n: int) -> NDArray[np.float32]:
        if len(self.candidate) == 0:
            return np.zeros((n, 0), np.float32)
        return _deviations(values, self.candidate[:, 0], self.candidate[:, 1])

    def _feedback(self, flat: RequestArrays) -> NDArray[np.float32]:
        total = len(flat.shown)
        kinds = self.info.feedback_kinds
        out = np.zeros((total, len(kinds)), np.float32)
        for k, kind in enumerate(kinds):
            values = flat.feedback.get(kind)
            if values is not None and len(values) == total:
                out[:, k] = values
        return out


def _deviations(
    values: NDArray[np.float32],
    mean: float | NDArray[np.float64],
    deviation: float | NDArray[np.float64],
) -> NDArray[np.float32]:
    """Standardise values; those that single precision cannot hold, or square, are clipped."""
    with np.errstate(over="ignore"):
        found: NDArray[np.floating[Any]] = (values - mean) / deviation
    return found.clip(-_MOST, _MOST).astype(np.float32)


def _starts(lengths: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
