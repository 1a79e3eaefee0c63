"""Vectors of items' texts: embedded by a sentence model, reduced by principal components."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import ConfigError, DataError, SchemaError
from goalrank.logs.text.sentences import SENTENCE_MODELS, SentenceModel
from goalrank.registry import is_foreign
from goalrank.storage import write_json

__all__ = ["Progress", "TextVectors"]

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""

_MANIFEST, _ARRAYS = "text.json", "text.npz"
_FORMAT = 1
_AGAIN = "remedy: import the log again, and train on it"
_ONE_EACH = "remedy: one vector of finite numbers per text (option: text_model)"
_CHUNK = 512  # texts between two calls of the progress bar
_PROBES = 8  # texts whose embeddings are kept, to know the sentence model again
_ALIKE = 0.01  # of an embedding's length: what rounding on another machine may change


@dataclass(frozen=True)
class TextVectors:
    """How texts become vectors: the same for items of today and of later.

    Attributes:
        columns: of the items; their texts are joined in this order.
        model: name or class path of the sentence model.
        column: name of the column of vectors. It ends with a hash of the texts that the components
            were fitted to, as vectors of two fits must never meet.
        mean: [E] of the embeddings.
        axes: [E, D] principal components, the largest first.
        kept: share of the embeddings' variance that they keep.
        probes: some of the texts that the components were fitted to; none in data sets of version
            0.2.
        probed: [P, E] their embeddings: a model that gives others is another model, whatever its
            name.
    """

    columns: tuple[str, ...]
    model: str
    column: str
    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    kept: float
    probes: tuple[str, ...] = ()
    probed: NDArray[np.float32] | None = None

    @classmethod
    def fit(
        cls,
        items: pl.DataFrame,
        columns: tuple[str, ...],
        model: str,
        width: int,
        progress: Progress | None = None,
    ) -> tuple[TextVectors, pl.DataFrame]:
        """Fit components to the items' distinct texts.

        Args:
            items: side table.
            columns: of strings or lists of strings.
            model: name or class path of a sentence model.
            width: the most components; no more than E, nor than distinct texts.
            progress: told of each part that is embedded.

        Returns:
            The components, and the items with the column of vectors (null where all is empty).

        Raises:
            SchemaError: a column is lacking or holds no text.
            DataError: no item has a text, or the model gives something else than one vector of
                finite numbers per text.
            MissingExtraError: the sentence model needs an extra.
            ConfigError: the model's name is unknown.
        """
        texts = _joined(items, columns)
        distinct = texts.drop_nulls().unique().sort()
        if not len(distinct):
            raise DataError(
                f"no item has a text in {', '.join(columns)}; remedy: name columns that hold some "
                f"(option: text)"
            )
        key = hashlib.sha256(repr((columns, model, width)).encode())
        key.update("\0".join(distinct).encode())
        embedded = _embedded(model, SENTENCE_MODELS.get(model)(), distinct, progress)
        vectors = embedded.astype(np.float64)
        mean = vectors.mean(0)
        axes, kept = _components(vectors - mean, min(width, len(distinct)))
        some = np.unique(np.linspace(0, len(distinct) - 1, _PROBES).astype(np.int64))
        probes = tuple(distinct[int(i)] for i in some)
        column = f"text_{key.hexdigest()[:8]}"
        fitted = cls(columns, model, column, mean, axes, kept, probes, embedded[some])
        return fitted, fitted._with_column(items, texts, distinct, vectors)

    def add(
        self, items: pl.DataFrame, model: str | None = None, progress: Progress | None = None
    ) -> pl.DataFrame:
        """Items, such as new ones, with the column of vectors.

        Args:
            items: with the columns of text.
            model: must be given, and be the fitted one, where that is code of another package.
            progress: told of each part that is embedded.

        Raises:
            SchemaError: a column is lacking, or holds no text.
            ConfigError: the sentence model is another, or it is code that was not named here.
            DataError: the model gives other embeddings than at the import, or none.
            MissingExtraError: the sentence model needs an extra.
        """
        if model not in (None, self.model) or (model is None and is_foreign(self.model)):
            raise ConfigError(
                f"the vectors were made by the sentence model '{self.model}'; remedy: name it, if "
                f"you trust its code (option: text_model)"
            )
        texts = _joined(items, self.columns)
        distinct = texts.drop_nulls().unique().sort()
        made = SENTENCE_MODELS.get(self.model)()
        if len(distinct):
            self._recognise(made)
        vectors = _embedded(self.model, made, distinct, progress)
        return self._with_column(items, texts, distinct, vectors)

    def _recognise(self, model: SentenceModel) -> None:
        """Refuse a sentence model of the same name that embeds the import's texts elsewhere."""
        if self.probed is None:
            return
        found = _embedded(self.model, model, pl.Series(self.probes, dtype=pl.String), None)
        same = found.shape == self.probed.shape
        length = np.maximum(np.linalg.norm(self.probed, axis=1), np.finfo(np.float32).tiny)
        if same and float((np.linalg.norm(found - self.probed, axis=1) / length).max()) <= _ALIKE:
            return
        raise DataError(
            f"the sentence model '{self.model}' embeds texts of the import differently than at the "
            f"import, so that its vectors would mean something else; remedy: the version of the model "
            f"that the import had, or import the log again and train on it (option: text_model)"
        )

    def _with_column(
        self, items: pl.DataFrame, texts: pl.Series, distinct: pl.Series, vectors: NDArray[Any]
    ) -> pl.DataFrame:
        if self.column in items.columns:
            raise SchemaError(
                f"items have a column '{self.column}' already; remedy: drop it, as it is made anew"
            )
        reduced = ((vectors - self.mean) @ self.axes).astype(np.float32)
        made = pl.Series(reduced.tolist(), dtype=pl.List(pl.Float32))
        known = pl.DataFrame({"text": distinct, self.column: made})
        found = texts.alias("text").to_frame().join(
            known, on="text", how="left", maintain_order="left"
        )  # fmt: skip
        return items.with_columns(found[self.column])

    def save(self, folder: Path) -> None:
        """Write two files into a folder.

        Args:
            folder: is there.
        """
        arrays: dict[str, Any] = {"mean": self.mean, "axes": self.axes}
        if self.probed is not None:
            arrays["probed"] = self.probed
        np.savez(folder / _ARRAYS, **arrays)
        names = ("columns", "model", "column", "kept", "probes")
        plain = {name: getattr(self, name) for name in names}
        digest = _digest(folder / _ARRAYS)
        write_json(folder / _MANIFEST, {"format": _FORMAT, **plain, "sha256": digest})

    @classmethod
    def load(cls, folder: Path) -> TextVectors:
        """Read what `save` wrote.

        Args:
            folder: of a data set's text.

        Raises:
            DataError: a file is missing, damaged or of a later version.
        """
        path = folder / _MANIFEST
        if not path.is_file():
            raise DataError(
                f"'{folder.parent}' has no vectors of texts; remedy: import with the columns that "
                f"hold text (goalrank data import … --text title; option: text)"
            )
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if int(kept["format"]) > _FORMAT:
                raise DataError(
                    f"'{path}' has format {kept['format']}, this version reads {_FORMAT}; remedy: "
                    f"pip install --upgrade goalrank"
                )
            if _digest(folder / _ARRAYS) != kept["sha256"]:
                raise ValueError(f"the hash of {_ARRAYS} is another")
            with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
                mean, axes = arrays["mean"], arrays["axes"]
                probed = arrays.get("probed", None)
            columns = tuple(str(name) for name in kept["columns"])
            probes = tuple(str(text) for text in kept.get("probes", ()))
            return cls(
                columns,
                kept["model"],
                kept["column"],
                mean,
                axes,
                float(kept["kept"]),
                probes,
                probed,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"'{path}' is damaged ({error}); {_AGAIN}") from None


def _joined(items: pl.DataFrame, columns: tuple[str, ...]) -> pl.Series:
    """Text of each item, of all columns that have one; null where none has."""
    parts = [_text(items, name).alias(name) for name in columns]
    none = pl.all().str.strip_chars().replace("", None)
    whole = pl.concat_str(none, separator=". ", ignore_nulls=True).replace("", None)
    return pl.DataFrame(parts).select(text=whole).to_series()


def _text(items: pl.DataFrame, name: str) -> pl.Series:
    if name not in items.columns:
        raise SchemaError(
            f"items have no column '{name}'; present: {', '.join(items.columns)}; option: text"
        )
    column = items[name]
    if column.dtype in (pl.Null, pl.List(pl.Null)):  # all empty: nobody could tell the type
        return pl.Series(name, [None] * len(items), pl.String)
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if column.dtype in (pl.List(pl.Categorical), pl.List(pl.Enum)):
        column = column.cast(pl.List(pl.String))
    if column.dtype == pl.List(pl.String):
        return column.list.join(", ", ignore_nulls=True)
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise SchemaError(
            f"items' column '{name}' is {column.dtype}, but text is strings or lists of strings; "
            f"option: text"
        )
    return column.cast(pl.String)


def _embedded(
    name: str, model: SentenceModel, texts: pl.Series, progress: Progress | None
) -> NDArray[np.float32]:
    """Embeddings [n, E] of texts [n].

    Raises:
        DataError: the model gives something else.
    """
    parts: list[NDArray[np.float32]] = []
    done = 0
    for chunk in texts.to_frame().iter_slices(_CHUNK):
        width = parts[0].shape[1] if parts else None
        parts.append(_checked(name, model.encode(chunk.to_series().to_list()), chunk.height, width))
        done += chunk.height
        if progress is not None:
            progress(done, len(texts))
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


def _checked(name: str, given: Any, count: int, width: int | None) -> NDArray[np.float32]:
    """What a model gave, if it is one vector of finite numbers per text."""
    try:
        found = np.asarray(given, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"sentence model '{name}' gave no numbers ({error}); {_ONE_EACH}") from None
    if found.ndim != 2 or len(found) != count or found.shape[1] != (width or found.shape[1]):
        raise DataError(
            f"sentence model '{name}' gave an array of shape {found.shape} for {count} texts; {_ONE_EACH}"
        )
    if not np.isfinite(found).all():
        raise DataError(
            f"sentence model '{name}' gave {int((~np.isfinite(found)).sum())} values that are not "
            f"finite; {_ONE_EACH}"
        )
    return found


def _components(centred: NDArray[np.float64], width: int) -> tuple[NDArray[np.float64], float]:
    """Principal components [E, D], and the share of the variance that they keep.

    Signs are fixed: the entry farthest from 0 is positive.
    """
    value, vector = np.linalg.eigh(centred.T @ centred)
    order = np.argsort(value)[::-1][:width]
    axes = vector[:, order]
    farthest = axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]
    total = float(value.sum())
    kept = float(value[order].sum()) / total if total > 0 else 1.0
    return axes * np.where(farthest < 0, -1.0, 1.0), kept


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
