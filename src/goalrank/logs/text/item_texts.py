"""The step of an import that gives items the vectors of their texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from goalrank.errors import ConfigError
from goalrank.logs.memory_needs import needs_of_texts
from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.raw_log import RawLog
from goalrank.logs.spill.memory import check_memory, memory_limit
from goalrank.logs.text.text_vectors import Progress, TextVectors
from goalrank.storage import local_path
from goalrank.wording import counted

__all__ = ["TEXT", "embed_items", "with_text_vectors"]

TEXT = "text"


def with_text_vectors(
    raw: RawLog, options: ImportOptions, progress: Progress | None = None
) -> RawLog:
    """The log, whose items have a column of vectors where the options name columns of text.

    Raises:
        ConfigError: the log has no table of items, or too little memory may be used.
        SchemaError, DataError, MissingExtraError: see `TextVectors.fit`.
    """
    if not options.text:
        return raw
    if raw.items is None:
        raise ConfigError(
            f"{raw.dataset} has no table of items to read text from; remedy: put items.parquet "
            f"with the columns {', '.join(options.text)} beside the log; option: text"
        )
    check_memory(needs_of_texts(raw.items.height), memory_limit(options.memory_gb))
    fitted, items = TextVectors.fit(
        raw.items, options.text, options.text_model, options.text_width, progress
    )
    missing = items[fitted.column].null_count()
    return replace(
        raw,
        items=items,
        text=fitted,
        counts={**raw.counts, "items_with_text": items.height - missing},
        warnings=(*raw.warnings, *_scarce(missing, items.height, options.text)),
    )


def _scarce(missing: int, total: int, columns: tuple[str, ...]) -> list[str]:
    """A sentence where more than 5 % of the items have no text."""
    if missing <= 0.05 * total:
        return []
    return [
        f"no text in {', '.join(columns)} for {missing:,} of {counted(total, 'item')}: these are like no "
        f"other item; option: text"
    ]


def embed_items(
    dataset: str | Path,
    items: pl.DataFrame,
    *,
    text_model: str | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Give new items the vectors that an import gives its own: by the same model and components.

    Args:
        dataset: folder of an import with the option `text`.
        items: with the columns of text that the import read.
        text_model: the import's own; needed only where it is code of another package.
        progress: told of each part that is embedded.

    Returns:
        The items with the column of vectors: as they come to `goalrank rank` and to servers.

    Raises:
        DataError: the data set has no vectors of texts, or they are damaged.
        SchemaError, ConfigError, MissingExtraError: see `TextVectors.add`.
    """
    fitted = TextVectors.load(local_path(dataset, "dataset") / TEXT)
    return fitted.add(items, text_model, progress)
