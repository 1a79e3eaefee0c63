"""The tables of an imported data set, or of one Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from goalrank.errors import DataError
from goalrank.requests import Requests
from goalrank.storage import Place, local_copy, local_path

SIDE_FILES = ("items.parquet", "users.parquet")
_PARTS = ("train", "validation", "test")
_HELD_OUT = 20  # one request in so many, the last by time, is validation where only a file is given


def read_data(folder: Place, needed: Sequence[str]) -> dict[str, Requests]:
    """Those of train, validation and test that a folder holds; each may be a file or shards.

    Args:
        folder: a path, or an address.
        needed: those that must be there.

    Raises:
        DataError: no such folder, or one that is needed is missing.
    """
    with local_copy(folder) as here:
        return _parts(here, needed)


def _parts(folder: Path, needed: Sequence[str]) -> dict[str, Requests]:
    if not folder.is_dir():
        raise DataError(
            f"'{folder}' is not a folder; remedy: give the folder that goalrank data import wrote"
        )
    tables = {}
    for part in _PARTS:
        file, shards = folder / f"{part}.parquet", folder / part
        path = file if file.exists() else shards
        if part in needed and not path.exists():
            raise DataError(
                f"'{folder}' holds no {part}.parquet; remedy: give the folder that goalrank data "
                f"import wrote"
            )
        if path.exists():
            tables[part] = Requests.read(path, allow_empty=True)
    return tables


def read_every(place: Place) -> list[Requests]:
    """All tables of a folder, or the one of a Parquet file or of a folder of shards.

    Raises:
        DataError: nothing there.
    """
    with local_copy(place, SIDE_FILES) as path:
        return _every(path)


def _every(path: Path) -> list[Requests]:
    if _is_table(path):
        return [Requests.read(path)]
    tables = _parts(path, needed=())
    if not tables:
        raise DataError(
            f"'{path}' holds none of {', '.join(f'{part}.parquet' for part in _PARTS)}; remedy: "
            f"give a Parquet file, or the folder that goalrank data import wrote"
        )
    return list(tables.values())


def read_training(place: Place) -> tuple[Requests, Requests | None, str | None]:
    """Training and validation requests of a folder, or of one Parquet file.

    Of a file the last 5 % by time (at least one request) are held out as validation.

    Returns:
        Training, validation or None, and a sentence about what was held out.

    Raises:
        DataError: nothing there, or a file with fewer than two requests.
    """
    with local_copy(place, SIDE_FILES) as path:
        return _training(path)


def _training(path: Path) -> tuple[Requests, Requests | None, str | None]:
    if not _is_table(path):
        tables = _parts(path, needed=("train",))
        return tables["train"], tables.get("validation"), None
    table = Requests.read(path)
    count = len(table)
    if count < 2:
        raise DataError(
            f"'{path}' holds {count} request, but one must be held out as validation; remedy: "
            f"more requests, or a folder with train.parquet alone to train without validation"
        )
    order = np.argsort(table.frame["time"].to_numpy(), kind="stable")
    held = max(1, count // _HELD_OUT)
    said = (
        f"{path.name} is one table: the last {held} of its {count} requests by time "
        f"({held / count:.0%}) are held out as validation"
    )
    return table.take(np.sort(order[:-held])), table.take(np.sort(order[-held:])), said


def training_paths(place: Place) -> tuple[Path, Path | None, None]:
    """As `read_training` of a folder, without reading: where its parts are.

    Raises:
        ConfigError: an address; each process reads its own rows from disk.
        DataError: one table, of which no part by time can be held out unread.
    """
    path = local_path(place, "data, with split-data")
    if _is_table(path):
        raise DataError(
            f"'{path}' is one table, and --split-data reads no whole table to hold out the last "
            f"requests of; remedy: give a folder with train/ (shards) and validation.parquet"
        )
    found = {}
    for part in ("train", "validation"):
        places = [place for place in (path / f"{part}.parquet", path / part) if place.exists()]
        found[part] = places[0] if places else None
    if found["train"] is None:
        raise DataError(
            f"'{path}' holds no train.parquet and no folder train of shards; remedy: give the "
            f"folder that goalrank data import wrote"
        )
    return found["train"], found["validation"], None


def read_test(place: Place) -> Requests:
    """Requests to judge: those of a Parquet file, or the test requests of a folder."""
    with local_copy(place, SIDE_FILES) as path:
        return Requests.read(path) if _is_table(path) else _parts(path, needed=("test",))["test"]


def _is_table(path: Path) -> bool:
    """Whether a path is one table and not a folder of tables that import wrote."""
    if path.suffix == ".parquet" or path.is_file():
        return True
    named = any((path / f"{p}.parquet").exists() or (path / p).exists() for p in _PARTS)
    shards = [f for f in path.glob("*.parquet") if f.stem not in ("items", "users")]
    return path.is_dir() and not named and bool(shards)
