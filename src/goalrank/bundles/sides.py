"""Side tables that hold for what a predictor is asked."""

from __future__ import annotations

import polars as pl

from goalrank.bundles.asked import Asked, NewRows
from goalrank.requests import Encoder, EntityEncoder, SideColumns, Told

__all__ = ["Side", "sides_of"]

Side = tuple[pl.DataFrame | None, list[pl.DataFrame]]
"""A side table, and tables that override it cell by cell."""


def sides_of(asked: Asked, items: NewRows, users: NewRows, encoder: Encoder) -> tuple[Side, Side]:
    """Side tables of items and users: those sent with the requests, else a predictor's and the latest.

    Args:
        asked: the requests.
        items: the predictor's rows of new items; those of known ones are in the encoder already.
        users: likewise.
        encoder: of the predictor.
    """
    of_items: Side = (asked.items, [])
    of_users: Side = (asked.users, [])
    if asked.items is None:
        new = items.of(asked.flat.item_ids)
        of_items = _own(new, asked.told_items, "item_id", encoder.items)
    if asked.users is None:
        new = users.of(asked.flat.user_id)
        of_users = _own(new, asked.told_users, "user_id", encoder.users)
    return of_items, of_users


def _own(new: pl.DataFrame | None, told: Told, id_column: str, entity: EntityEncoder) -> Side:
    """What overrides an encoder's features of ids.

    Args:
        new: a side table's rows of new ids.
        told: what newer rows say of some ids, column by column.
        id_column: name of the column of ids.
        entity: the encoder.

    Returns:
        The rows of new ids of which nothing was told, None without any; and tables that override it
        cell by cell (see `EntityEncoder.rows`).
    """
    if not told:
        return new, []
    columns, dtype = SideColumns.of(entity.features), entity.vocabulary.ids.dtype
    newer = [columns.table(told, dtype, id_column)]
    if new is None:
        return None, newer
    said = new[id_column].is_in(list(told))
    return new.filter(~said), [new.filter(said), *newer]
