"""What an import learnt of a log for retrieval and linked features, as files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import DataError
from goalrank.logs.retrieval.channel import ScoringChannel
from goalrank.storage import write_json

__all__ = ["LINKS", "LearntRetrieval"]

LINKS = "item_to_item"
_MANIFEST, _ARRAYS, _ITEMS = "retrieval.json", "retrieval.npz", "retrieval-items.parquet"
_FORMAT = 1
_AGAIN = "remedy: import the log again, and train on it"
_PLAIN = ("known", "shares", "scorers", "depth", "vote_weight", "confidence", "count",
          "exclude_seen", "refits", "every_refit", "growth", "factors", "rows",
          "lacking")  # fmt: skip


@dataclass(frozen=True)
class LearntRetrieval:
    """Channels and links as of the latest refit.

    Attributes:
        items: item_id, in the order of codes, and columns of categories; after the items of the log
            those that only its side table has.
        known: items that the refit knew: those with the first codes.
        shares: channel → its share of the candidates, in the order of channels.
        scorers: names of the linked features that are no channel's.
        depth: history items that affinities look at.
        vote_weight: weight of a history item that was not liked, as a vote.
        confidence: the same for factorisation.
        count: N, candidates per request.
        exclude_seen: whether consumed items are left out of retrieval.
        refits: microseconds of all refits so far, ascending; none where they are not known.
        every_refit: whether `refits` are all; files of version 0.2.0 have the latest alone.
        growth: factor by which the log grows from refit to refit.
        factors: width of a factorisation.
        rows: of histories that the refit knew; None where that was not kept.
        arrays: channel → name → array.
        lacking: channels that cannot be kept.
    """

    items: pl.DataFrame
    known: int
    shares: dict[str, float]
    scorers: tuple[str, ...]
    depth: int
    vote_weight: float = 1.0
    confidence: float = 1.0
    count: int = 50
    exclude_seen: bool = False
    refits: tuple[int, ...] = ()
    every_refit: bool = True
    growth: float = 1.5
    factors: int = 48
    rows: int | None = None
    arrays: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()

    @property
    def moment(self) -> int | None:
        """Microseconds of the latest refit; None where it is not known."""
        return self.refits[-1] if self.refits else None

    @property
    def categories(self) -> tuple[str, ...]:
        """Columns of categories."""
        return tuple(name for name in self.items.columns if name != "item_id")

    def save(self, folder: Path) -> None:
        """Write three files into a folder.

        Args:
            folder: is there.
        """
        self.items.write_parquet(folder / _ITEMS)
        flat = {f"{c} {n}": a for c, arrays in self.arrays.items() for n, a in arrays.items()}
        np.savez(folder / _ARRAYS, **flat)  # type: ignore[arg-type]
        hashes = {name: _digest(folder / name) for name in (_ITEMS, _ARRAYS)}
        plain = {name: getattr(self, name) for name in _PLAIN}
        write_json(folder / _MANIFEST, {"format": _FORMAT, **plain, "sha256": hashes})

    @classmethod
    def load(cls, folder: Path) -> LearntRetrieval | None:
        """Read what `save` wrote; None where the folder has none.

        Args:
            folder: of a data set's retrieval, or of a bundle.

        Raises:
            DataError: a file is damaged, missing or of a later version.
        """
        path = folder / _MANIFEST
        if not path.is_file():
            return None
        kept = _manifest(path)
        for name, digest in kept["sha256"].items():
            if not (folder / name).is_file() or _digest(folder / name) != digest:
                raise DataError(f"'{folder / name}' is damaged: its hash is another; {_AGAIN}")
        arrays: dict[str, dict[str, NDArray[Any]]] = {}
        with np.load(folder / _ARRAYS) as file:
            for key in file.files:
                channel, _, name = key.rpartition(" ")
                arrays.setdefault(channel, {})[name] = file[key]
        plain = {name: kept[name] for name in _PLAIN if name in kept}
        if kept.get("moment") is not None:  # of version 0.2.0, which kept the latest refit alone
            plain |= {"refits": [kept["moment"]], "every_refit": False}
            factors = arrays.get("factorisation", {}).get("items")
            plain |= {} if factors is None else {"factors": factors.shape[1]}
        plain |= {name: tuple(plain.get(name, ())) for name in ("scorers", "lacking", "refits")}
        return cls(items=pl.read_parquet(folder / _ITEMS), arrays=arrays, **plain)

    @staticmethod
    def arrays_of(
        channels: Sequence[ScoringChannel],
    ) -> tuple[dict[str, dict[str, NDArray[Any]]], tuple[str, ...]]:
        """What channels have learnt, and the names of those that do not give it.

        Args:
            channels: in any order; their method `learnt` is asked for arrays, where they have one.
        """
        arrays, lacking = {}, []
        for channel in channels:
            learnt = getattr(channel, "learnt", None)
            if learnt is None:
                lacking.append(channel.name)
            else:
                arrays[channel.name] = learnt()
        return arrays, tuple(lacking)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = int(kept["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"'{path}' is damaged ({error!r}); {_AGAIN}") from None
    if version > _FORMAT:
        raise DataError(
            f"'{path}' has format {version}, this version reads {_FORMAT}; remedy: pip install "
            f"--upgrade goalrank"
        )
    return kept


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
