"""Events of the kind that Metarank reads: rankings with their items, and interactions with them."""

from __future__ import annotations

import polars as pl

from goalrank.errors import SchemaError

IMPRESSION = "impression"
_NEEDED = {"event", "id", "items", "timestamp", "user"}


def is_metarank(frame: pl.DataFrame) -> bool:
    """Whether a table of JSON lines holds ranking events with lists of items."""
    return (
        set(frame.columns) >= _NEEDED
        and isinstance(frame.schema["items"], pl.List)
        and frame["event"].dtype == pl.String
        and bool((frame["event"] == "ranking").any())
    )


def standard_events(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """Events with our columns: one impression per item of a ranking, one row per interaction.

    Items and users that are described by `item` and `user` events are left to side tables.

    Raises:
        SchemaError: items without an id, or interactions without a ranking.
    """
    inner = frame.schema["items"].inner  # type: ignore[attr-defined]
    item = pl.col("items")
    if isinstance(inner, pl.Struct):
        if "id" not in {field.name for field in inner.fields}:
            raise SchemaError(f"{where}: items of ranking events have no id")
        item = item.list.eval(pl.element().struct.field("id"))
    shown = (
        frame.filter(pl.col("event") == "ranking")
        .select(
            request_id="id", user_id="user", time="timestamp", item_id=item,
            event=pl.lit(IMPRESSION),
        )
        .with_columns(position=pl.int_ranges(pl.col("item_id").list.len()))
        .explode("item_id", "position")
    )  # fmt: skip
    answers = frame.filter(pl.col("event") == "interaction")
    if answers.height and not {"ranking", "type", "item"} <= set(answers.columns):
        raise SchemaError(
            f"{where}: interaction events need the fields ranking, type and item; present: "
            f"{', '.join(answers.columns)}"
        )
    if answers.height == 0:
        raise SchemaError(f"{where}: rankings without any interaction; nothing can be learnt")
    taken = answers.select(
        request_id="ranking", user_id="user", time="timestamp", item_id="item", event="type"
    )
    return pl.concat([shown, taken], how="diagonal_relaxed")
