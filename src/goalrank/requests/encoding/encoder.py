"""Encodes requests as numbers by vocabularies and feature ranges of the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from goalrank.errors import DataError
from goalrank.requests.encoding.arrays import RequestArrays, Row
from goalrank.requests.encoding.batch import EntityTable, InputSpec
from goalrank.requests.encoding.encoded import EncodedRequests
from goalrank.requests.encoding.features import FeatureEncoder
from goalrank.requests.encoding.shard import (
    Exchange,
    alone,
    feature_range,
    gather_frames,
    score_range,
    seen_ids,
)
from goalrank.requests.encoding.vocabulary import Ids, Vocabulary, as_series, stable_hash
from goalrank.requests.table.info import TableInfo
from goalrank.requests.table.requests import Requests


class EncoderConfig(BaseModel):
    """How requests become numbers.

    Attributes:
        history: H, how many of the latest history events models see.
        item_buckets, user_buckets: rows shared by ids never seen in training.
        min_count: an id seen less often in training is treated as unknown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    history: int = Field(default=50, ge=0)
    item_buckets: int = Field(default=64, ge=1)
    user_buckets: int = Field(default=64, ge=1)
    min_count: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class EntityEncoder:
    """Ids and features of one side (items or users), with the rows of the known ids."""

    vocabulary: Vocabulary
    features: FeatureEncoder
    table: EntityTable

    @classmethod
    def fit(
        cls, ids: pl.Series, side: pl.DataFrame | None, id_column: str, buckets: int
    ) -> EntityEncoder:
        """Learn from the ids seen in training and their side-table rows."""
        vocabulary = Vocabulary(ids, buckets)
        if side is not None:
            known = vocabulary.contains(side[id_column])
            side = side.filter(pl.Series(known))
        features = FeatureEncoder.fit(side, id_column)
        return cls(vocabulary, features, _entity_table(vocabulary, features, side, id_column))

    def rows(
        self, ids: Ids, side: pl.DataFrame | None, id_column: str
    ) -> tuple[NDArray[np.int64], EntityTable]:
        """Rows [n] of ids, in the table returned with them.

        Ids unknown in training that have a side-table row get their own row at the end, so that
        they are ranked by their features; other unknown ids get their bucket's row. A known id
        whose side-table row differs from training gets a row with its vector and these features.

        Args:
            ids: [n] ids.
            side: side table that comes with the requests; None uses the one of training.
            id_column: name of the column of ids.
        """
        rows = self.vocabulary.rows(ids)
        if side is None or side.height == 0:
            return rows, self.table
        ids = as_series(ids)
        side = side.filter(side[id_column].is_in(ids.unique().implode()))
        side = side.unique(id_column, keep="first", maintain_order=True).sort(id_column)
        if side.height == 0:
            return rows, self.table
        fresh = _feature_rows(self.vocabulary, self.features, side, id_column)
        known = self.vocabulary.contains(side[id_column])
        at = self.vocabulary.rows(side[id_column])
        wanted = ~known | ~_same_features(fresh, self.table, at)
        if not wanted.any():
            return rows, self.table
        fresh = _with_ids(fresh, np.where(known, at, fresh.id_row.numpy()))
        fresh = EntityTable(*(column[torch.from_numpy(wanted)] for column in _columns(fresh)))
        own = side.filter(pl.Series(wanted))
        number = pl.DataFrame({id_column: own[id_column], "row": np.arange(own.height)})
        asked = ids.cast(own.schema[id_column]).alias(id_column).to_frame()
        found = asked.join(number, on=id_column, how="left", maintain_order="left")["row"]
        new = found.fill_null(-1).to_numpy()
        rows = np.where(new >= 0, new + len(self.table), rows)
        return rows, _append(self.table, fresh)


@dataclass(frozen=True)
class Encoder:
    """Requests → `EncodedRequests`. Built by `fit` from training requests only.

    Attributes:
        info: the training table's description (kinds, candidate features, target).
        score: (mean, std) of the retriever's score in training, None if there was none.
        candidate: [F, 2] mean and std of each per-candidate feature.
    """

    config: EncoderConfig
    info: TableInfo
    items: EntityEncoder
    users: EntityEncoder
    score: tuple[float, float] | None
    candidate: NDArray[np.float64]

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
            info=train.info,
            items=EntityEncoder.fit(items, train.items, "item_id", config.item_buckets),
            users=EntityEncoder.fit(users.unique(), train.users, "user_id", config.user_buckets),
            score=score_range(frame, exchange),
            candidate=feature_range(frame, len(train.info.candidate_features), exchange),
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
            candidate_features=len(self.candidate),
            has_score=self.score is not None,
            kinds=self.info.feedback_kinds,
            item_buckets=self.items.vocabulary.buckets,
            user_buckets=self.users.vocabulary.buckets,
        )

    def encode(self, requests: Requests) -> EncodedRequests:
        """Encode any requests of the same layout.

        Raises:
            DataError: ids of another type, or candidate features that differ from training.
        """
        self.check_features(requests)
        return self.encode_flat(RequestArrays.of_table(requests), requests.items, requests.users)

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
    ) -> EncodedRequests:
        """Encode flat requests, with side tables for ids that training did not know.

        Raises:
            DataError: as `encode`.
        """
        split = len(flat.history)
        rows, item_table = self.items.rows(flat.item_ids, items, "item_id")
        user, user_table = self.users.rows(flat.user_id, users, "user_id")
        candidates = rows[split:]
        kinds = self.info.feedback_kinds
        target = kinds.index(self.info.target) if self.info.target in kinds else -1
        feedback = flat.history_feedback
        return EncodedRequests(
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
            history_feedback=feedback if len(feedback) == split else np.ones(split, np.float32),
            history_time=flat.history_time,
            candidate_start=_starts(flat.candidate_length),
            candidates=candidates.astype(np.int32),
            candidate_score=self._scores(flat.candidate_score, len(candidates)),
            candidate_features=self._candidate_features(flat.candidate_features),
            shown_start=_starts(flat.shown_length),
            shown=flat.shown,
            feedback=self._feedback(flat),
        )

    def check_features(self, requests: Requests) -> None:
        """Refuse a table with other candidate features than in training (DataError)."""
        theirs, ours = requests.info.candidate_features, self.info.candidate_features
        if theirs != ours:
            raise DataError(
                f"candidate features are {list(theirs)}, but training had {list(ours)}; "
                f"remedy: supply the same features in the same order"
            )

    def _scores(self, score: NDArray[np.float32] | None, n: int) -> NDArray[np.float32]:
        if self.score is None or score is None:
            return np.zeros(n, np.float32)
        mean, std = self.score
        return ((score - mean) / std).astype(np.float32)

    def _candidate_features(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(self.candidate) == 0:
            return np.zeros((len(values), 0), np.float32)
        return ((values - self.candidate[:, 0]) / self.candidate[:, 1]).astype(np.float32)

    def _feedback(self, flat: RequestArrays) -> NDArray[np.float32]:
        total = len(flat.shown)
        kinds = self.info.feedback_kinds
        out = np.zeros((total, len(kinds)), np.float32)
        for k, kind in enumerate(kinds):
            values = flat.feedback.get(kind)
            if values is not None and len(values) == total:
                out[:, k] = values
        return out


def _entity_table(
    vocabulary: Vocabulary, features: FeatureEncoder, side: pl.DataFrame | None, id_column: str
) -> EntityTable:
    """Rows for padding, the known ids, and the buckets."""
    known = vocabulary.ids.alias(id_column).to_frame()
    if side is not None:
        side = side.unique(id_column, keep="first", maintain_order=True)
        side = side.with_columns(pl.col(id_column).cast(vocabulary.ids.dtype))
        known = known.join(side, on=id_column, how="left", maintain_order="left")
    pad = pl.DataFrame({id_column: pl.Series([None], dtype=vocabulary.ids.dtype)})
    empty = pl.concat([pad] * vocabulary.buckets)
    table = pl.concat([pad, known, empty], how="diagonal")
    encoded = features.encode(table)
    total = vocabulary.rows_total
    bucket = np.arange(total)
    bucket[1 : 1 + vocabulary.size] = vocabulary.bucket(vocabulary.ids)
    return EntityTable(
        torch.arange(total),
        torch.from_numpy(bucket),
        torch.from_numpy(encoded.numeric),
        torch.from_numpy(encoded.category),
        torch.from_numpy(encoded.category_weight),
    )


def _feature_rows(
    vocabulary: Vocabulary, features: FeatureEncoder, side: pl.DataFrame, id_column: str
) -> EntityTable:
    encoded = features.encode(side)
    bucket = torch.from_numpy(vocabulary.bucket(side[id_column]))
    return EntityTable(
        bucket,
        bucket,
        torch.from_numpy(encoded.numeric),
        torch.from_numpy(encoded.category),
        torch.from_numpy(encoded.category_weight),
    )


def _columns(table: EntityTable) -> list[torch.Tensor]:
    names = ("id_row", "bucket_row", "numeric", "category", "category_weight")
    return [getattr(table, name) for name in names]


def _append(table: EntityTable, more: EntityTable) -> EntityTable:
    return EntityTable(*(torch.cat(pair) for pair in zip(_columns(table), _columns(more))))


def _with_ids(table: EntityTable, rows: NDArray[np.int64]) -> EntityTable:
    """The table with other rows of id vectors."""
    return EntityTable(torch.from_numpy(rows), *_columns(table)[1:])


def _same_features(
    fresh: EntityTable, table: EntityTable, rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether the features [n] are those of the table at the rows."""
    at = torch.from_numpy(rows)
    same = torch.ones(len(rows), dtype=torch.bool)
    for name in ("numeric", "category", "category_weight"):
        own, old = getattr(fresh, name), getattr(table, name)[at]
        if own.shape != old.shape:
            return np.zeros(len(rows), dtype=bool)
        same &= (own == old).flatten(1).all(1)
    return same.numpy()


def _starts(lengths: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
