"""Files and folders that appear whole or not at all; only this file renames what was written."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from goalrank.errors import DataError, GoalRankError

ErrorType = type[GoalRankError]


def temporary_name(name: str) -> str:
    """A hidden name for a file that is still being written; readers of folders skip it."""
    return f".{name}.{secrets.token_hex(4)}.tmp"


@contextmanager
def whole_file(path: Path, *, error: ErrorType = DataError) -> Iterator[Path]:
    """Give a temporary path in `path`'s folder; it becomes `path` on success, else it vanishes.

    The content is on the disk (fsync) before the name is given, so a power cut leaves the old file
    or the new one.

    Args:
        path: the file; one that is there is replaced, missing folders above it are made.
        error: raised where the disk refuses.

    Raises:
        DataError: the disk is full or the folder cannot be written; `path` is as it was.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        with _refusals(path, error):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            move_into_place(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(
    path: Path, *, replace: bool = False, error: ErrorType = DataError
) -> Iterator[Path]:
    """Give a temporary folder next to `path`: it becomes `path` on success and is removed otherwise.

    Args:
        path: the folder; an empty one that is there is replaced.
        replace: replace a folder with content too. It is kept, as `surviving_folder` finds it,
            until the new one is in its place.
        error: raised where the disk refuses.

    Raises:
        DataError: `path` exists and may not be replaced, the disk is full, or the folder cannot be
            written; `path` is as it was.
    """
    temporary, old = path.with_name(temporary_name(path.name)), _old(path)
    if not replace and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise error(f"'{path}' exists already; remedy: remove it, or choose a new folder")
    try:
        with _refusals(path, error):
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.rglob("*"):
                _to_disk(file)
            _exchange(temporary, path, old)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def surviving_folder(path: Path) -> Path:
    """Where a folder of `whole_folder` is: `path`, or the old one if a replacement was cut short.

    A process that is killed between the two renames of a replacement leaves the old folder under
    a hidden name. `path` is returned also where neither is there.
    """
    old = _old(path)
    return old if old.exists() and not path.exists() else path


def remove_folder(path: Path) -> None:
    """Remove a folder of `whole_folder`, and what a replacement that was cut short left of it."""
    shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(_old(path), ignore_errors=True)


def try_folder(folder: Path) -> None:
    """Find out whether files can be written into a folder, before the work whose results go there.

    Args:
        folder: is made if missing; nothing else is left.

    Raises:
        DataError: the disk is full or the folder cannot be written.
    """
    with _refusals(folder, DataError):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / temporary_name("probe")
        probe.touch()
        probe.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all.

    Raises:
        DataError: the disk is full or the folder cannot be written; `path` is as it was.
    """
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object, *, indent: int | None = 2) -> None:
    """Write plain data as JSON in UTF-8 with a final line break, whole or not at all.

    Raises:
        DataError: the disk is full or the folder cannot be written; `path` is as it was.
        ValueError: a number is NaN or infinite, which JSON cannot hold.
    """
    write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def move_into_place(source: Path, path: Path) -> None:
    """Give a finished file its name, replacing an older one; both are on one file system.

    Raises:
        OSError: the disk refuses; `path` is as it was.
    """
    _to_disk(source)
    os.replace(source, path)


def put_in_place(source: Path, path: Path) -> None:
    """Give a finished file or folder its name; a file or folder of that name is replaced.

    Raises:
        OSError: the disk refuses; `path` is as it was.
    """
    for file in (source, *source.rglob("*")):
        _to_disk(file)
    if source.is_dir() or path.is_dir():
        _exchange(source, path, _old(path))
    else:
        os.replace(source, path)


def replace_link(link: Path, target: str, *, error: ErrorType = DataError) -> None:
    """Have a symbolic link lead elsewhere; who follows it finds the old place or the new one.

    Args:
        link: the link; one that is there is replaced, missing folders above it are made.
        target: where it leads, from the link's own folder, so that the folder can be moved.
        error: raised where the disk refuses.

    Raises:
        DataError: the file system has no links or refuses; `link` is as it was.
    """
    temporary = link.with_name(temporary_name(link.name))
    try:
        with _refusals(link, error):
            link.parent.mkdir(parents=True, exist_ok=True)
            temporary.symlink_to(target)
            os.replace(temporary, link)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _exchange(temporary: Path, path: Path, old: Path) -> None:
    """Put a finished folder in the place of what may be there."""
    if path.exists():
        _remove(old)
        os.replace(path, old)
    try:
        os.replace(temporary, path)
    except OSError:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_file():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _to_disk(file: Path) -> None:
    """Wait until a file's content is on the disk; folders are left to the system."""
    if file.is_file():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


@contextmanager
def _refusals(path: Path, error: ErrorType) -> Iterator[None]:
    """Turn the system's refusals into an error that says what to do."""
    try:
        yield
    except OSError as reason:
        full = reason.errno == errno.ENOSPC
        remedy = "free space on the disk" if full else "check folder and rights"
        raise error(
            f"could not write '{path}' ({_first_line(reason)}); what was there before is "
            f"untouched; remedy: {remedy}, or choose another folder"
        ) from reason


def _first_line(reason: OSError) -> str:
    return next(iter(str(reason).splitlines()), type(reason).__name__)
