"""Ids and features of items or of users as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from goalrank.requests.encoding.batch import EntityTable
from goalrank.requests.encoding.features import FeatureEncoder
from goalrank.requests.encoding.vocabulary import Ids, Vocabulary, as_series


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
        whose side-table row differs from training gets a row with its vector and these features;
        columns that the side table lacks keep their values of training.

        Args:
            ids: [n] ids.
            side: side table that comes with the requests; None uses the one of training.
            id_column: name of the column of ids.
        """
        rows, table = self.vocabulary.rows(ids), self.table
        if side is None or side.height == 0:
            return rows, table
        side = side.filter(side[id_column].is_in(as_series(ids).unique().implode()))
        side = side.unique(id_column, keep="first", maintain_order=True).sort(id_column)
        if side.height == 0:
            return rows, table
        place = _places(ids, side[id_column])
        at = np.zeros(side.height, np.int64)
        at[place[place >= 0]] = rows[place >= 0]
        wanted, fresh = self.changed(side, id_column, table, at)
        if not wanted.any():
            return rows, table
        number = np.where(wanted, np.cumsum(wanted) - 1 + len(table), -1)
        new = np.where(place >= 0, number[place], -1)
        return np.where(new >= 0, new, rows), _append(table, fresh)

    def changed(
        self,
        side: pl.DataFrame,
        id_column: str,
        table: EntityTable,
        at: NDArray[np.int64],
        *,
        nulls: bool = False,
    ) -> tuple[NDArray[np.bool_], EntityTable]:
        """Which rows [R] of a side table say something new, and those rows.

        Args:
            side: R rows, of an id each.
            id_column: name of the column of ids.
            table: with the features so far.
            at: [R] rows of these ids in it.
            nulls: whether a null says nothing.
        """
        fresh, known = self._fresh(side, id_column, table, at, nulls=nulls)
        wanted = ~known | ~_same_features(fresh, table, at)
        chosen = torch.from_numpy(wanted)
        return wanted, EntityTable(*(column[chosen] for column in _columns(fresh)))

    def overridden(self, side: pl.DataFrame | None, id_column: str) -> EntityEncoder:
        """The encoder with a side table's features of the ids that it knows, once for all requests.

        Args:
            side: side table; None changes nothing.
            id_column: name of the column of ids.
        """
        if side is None:
            return self
        side = side.filter(pl.Series(self.vocabulary.contains(side[id_column])))
        side = side.unique(id_column, keep="first", maintain_order=True)
        if side.height == 0:
            return self
        at = self.vocabulary.rows(side[id_column])
        fresh, _ = self._fresh(side, id_column, self.table, at)
        rows, pairs = torch.from_numpy(at), zip(_columns(self.table), _columns(fresh))
        table = EntityTable(*(old.index_copy(0, rows, new) for old, new in pairs))
        return replace(self, table=table)

    def _fresh(
        self,
        side: pl.DataFrame,
        id_column: str,
        table: EntityTable,
        rows: NDArray[np.int64],
        *,
        nulls: bool = False,
    ) -> tuple[EntityTable, NDArray[np.bool_]]:
        """A side table's rows, and which ids have rows of their own.

        These keep what the side table says nothing of.

        Args:
            side: R rows.
            id_column: name of the column of ids.
            table: with the features so far.
            rows: [R] in it.
            nulls: whether a null says nothing.
        """
        fresh = _feature_rows(self.vocabulary, self.features, side, id_column)
        known = self.vocabulary.contains(side[id_column]) | (rows >= len(self.table))
        at = torch.from_numpy(rows)
        keep = torch.from_numpy(known)[:, None]
        numeric, category = map(torch.from_numpy, self.features.lacking(side, nulls=nulls))
        old = {
            "id_row": (keep[:, 0], table.id_row),
            "numeric": (keep & numeric, table.numeric),
            "category": (keep & category, table.category),
            "category_weight": (keep & category, table.category_weight),
        }
        merged = {
            name: torch.where(where, before[at], getattr(fresh, name))
            for name, (where, before) in old.items()
        }
        return replace(fresh, **merged), known

    def absent(self, ids: Ids, side: pl.DataFrame, id_column: str) -> dict[str, NDArray[np.bool_]]:
        """Feature columns of training that a side table lacks → [n] new ids that need them.

        Known ids keep their features of training. Ids without a row are ranked by what is known of
        them, and so are all where the table has no feature column at all, but is there for rules.

        Args:
            ids: [n] ids.
            side: side table that comes with the requests.
            id_column: name of the column of ids.
        """
        lacking = [name for name in self.features.names if name not in side.columns]
        if len(lacking) in (0, len(self.features.names)):
            return {}
        need = ~self.vocabulary.contains(ids)
        if need.any():
            need &= as_series(ids).is_in(side[id_column].implode()).to_numpy()
        return dict.fromkeys(lacking, need) if need.any() else {}


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


def _places(ids: Ids, own: pl.Series) -> NDArray[np.int64]:
    """Where each of the ids [n] stands among distinct ones; -1 where it does not."""
    if isinstance(ids, pl.Series):
        number = pl.DataFrame({"id": own, "place": np.arange(len(own))})
        asked = ids.cast(own.dtype).alias("id").to_frame()
        found = asked.join(number, on="id", how="left", maintain_order="left")["place"]
        return found.fill_null(-1).to_numpy()
    places = {each: at for at, each in enumerate(own.to_list())}
    plain = ids if isinstance(ids, list) else ids.tolist()
    return np.fromiter((places.get(each, -1) for each in plain), np.int64, len(plain))


def _columns(table: EntityTable) -> list[torch.Tensor]:
    names = ("id_row", "bucket_row", "numeric", "category", "category_weight")
    return [getattr(table, name) for name in names]


def _append(table: EntityTable, more: EntityTable) -> EntityTable:
    return EntityTable(*(torch.cat(pair) for pair in zip(_columns(table), _columns(more))))


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
