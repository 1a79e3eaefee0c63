"""Writing of an import: three tables, their side tables and the report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import DataError
from goalrank.logs.candidates.store import SHARD, RequestStore
from goalrank.logs.events.split import TEST, TRAIN, VALIDATION
from goalrank.logs.making import MadeRequests
from goalrank.logs.options import ImportOptions
from goalrank.logs.result import ImportResult
from goalrank.logs.spill.folder import Spill
from goalrank.logs.text.item_texts import TEXT
from goalrank.logs.text.text_vectors import TextVectors
from goalrank.requests import Requests, write_table
from goalrank.storage import local_draft, move_into_place, put_in_place, remove_folder, write_json

__all__ = [
    "REPORT",
    "RETRIEVAL",
    "finish_writing",
    "import_options",
    "ready_folder",
    "write_import",
    "write_made",
]

REPORT = "import.json"
Folder = TypeVar("Folder", str, Path)
RETRIEVAL = "retrieval"
_READY = "ready"
_WHOLE = "whole"  # a file that says that all others are there
_PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


def write_import(result: ImportResult, out_dir: Folder) -> Folder:
    """Write train, validation and test.parquet, items and users.parquet, and import.json.

    Each file is written whole or not at all. import.json is written last, so that its presence
    means that the import is complete.

    Args:
        result: the import.
        out_dir: folder to write to, which is made if it is missing; or an fsspec address (s3://…).

    Returns:
        The folder.

    Raises:
        DataError: the folder cannot be written.
        ConfigError: an address of an unknown protocol.
    """
    with local_draft(out_dir, last=REPORT) as folder:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / REPORT).unlink(missing_ok=True)
            for name in _PARTS:
                getattr(result, name).write(folder / f"{name}.parquet")
            _write_text(result.text, folder, folder)
            write_json(folder / REPORT, result.report)
        except OSError as error:
            raise DataError(
                f"{folder} cannot be written: {error.strerror}; choose another folder"
            ) from None
    return out_dir


def write_made(made: MadeRequests, folder: Path, spill: Spill) -> None:
    """Write the tables of an import; all are on the disk before the first takes its name.

    A part of more than a shard of requests is a folder of that name with shards. import.json is
    removed first and written last, so that its presence means that the import is complete. It says
    how much room the import took on the disk.

    Args:
        made: the requests.
        folder: to write to.
        spill: room for the tables before they take their names.
    """
    ready = spill.folder / _READY
    ready.mkdir(exist_ok=True)
    store = made.store
    for name, number in _PARTS.items():
        _write_part(store, made.part == number, ready / f"{name}.parquet")
    if made.learnt is None:
        remove_folder(folder / RETRIEVAL)  # of an earlier import
    else:
        (ready / RETRIEVAL).mkdir()
        made.learnt.save(ready / RETRIEVAL)
    _write_text(made.text, ready, folder)
    sides = Requests(
        pl.DataFrame(store.frame(np.zeros(len(made.part), bool))),
        items=store.items, users=store.users, info=store.info,
    )  # fmt: skip
    sides.write(ready / "none.parquet")
    (ready / "none.parquet").unlink()
    spill.measure()
    made.report["disk"] = {"spilled_mb": round(spill.peak / 1e6, 1)}
    write_json(ready / REPORT, made.report)
    (ready / _WHOLE).touch()
    finish_writing(folder, ready)


def import_options(folder: Path) -> ImportOptions:
    """Settings by which a data set was imported.

    Args:
        folder: of the data set.

    Raises:
        DataError: it holds no report of an import.
        ConfigError: a setting that this version does not know.
    """
    try:
        options = json.loads((folder / REPORT).read_text(encoding="utf-8"))["options"]
    except (OSError, ValueError, KeyError):
        raise DataError(
            f"'{folder}' holds no {REPORT} that says how it was imported; remedy: give the folder "
            f"that goalrank data import wrote"
        ) from None
    given = {name: value for name, value in options.items() if value is not None}
    return ImportOptions.from_mapping(given)


def _write_text(text: TextVectors | None, target: Path, folder: Path) -> None:
    """Write how texts became vectors, or remove what an earlier import wrote.

    Args:
        text: None where there is nothing to write.
        target: folder that gets it.
        folder: of the data set.
    """
    if text is None:
        remove_folder(folder / TEXT)
        return
    (target / TEXT).mkdir(exist_ok=True)
    text.save(target / TEXT)


def ready_folder(spill: Path) -> Path:
    """Where tables lie before they take their names, in a folder of temporary files."""
    return spill / _READY


def finish_writing(folder: Path, ready: Path) -> None:
    """Give what an import has written its names, also what a killed import left ready.

    Args:
        folder: of the data set.
        ready: what is to be put there; nothing happens where it is not whole.
    """
    if not (ready / _WHOLE).exists():
        return
    report = ready / REPORT
    if report.exists():
        (folder / REPORT).unlink(missing_ok=True)
        for made in sorted(ready.iterdir()):
            if made.name not in (_WHOLE, REPORT):
                put_in_place(made, folder / made.name)
        put_in_place(report, folder / REPORT)
    (ready / _WHOLE).unlink()


def _write_part(store: RequestStore, chosen: NDArray[np.bool_], path: Path) -> None:
    if int(chosen.sum()) <= SHARD:
        write_table(path, _not_empty(store.frames(chosen)), store.info)
        return
    path.mkdir()
    for number, (shard, frames) in enumerate(store.pieces(chosen)):
        target = path / f"part-{number:06d}.parquet"
        if shard is not None:
            move_into_place(shard, target)
        else:
            write_table(target, _not_empty(frames), store.info)


def _not_empty(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Frames with rows; the last one where none has."""
    some, frame = False, None
    for frame in frames:
        if frame.height:
            some = True
            yield frame
    if frame is not None and not some:
        yield frame
