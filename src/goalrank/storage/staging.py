"""Addresses where a path of this machine is needed: fetched, sent whole, or refused."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from goalrank.errors import ConfigError, DataError, GoalRankError
from goalrank.storage.location import Location

Place = str | Path
"""A path of this machine, or an fsspec address (s3://…)."""

# Paths shorten "//"; two letters at least, so that a drive (C:/) is none.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)


def address_of(place: Place) -> str | None:
    """The address that is meant, whole again where a `Path` was made of it; None for a path.

    Args:
        place: a path, or an address; file://… is a path.
    """
    if "::" in str(place):  # chained: simplecache::s3://…
        return str(place)
    found = _ADDRESS.fullmatch(str(place))
    if found is None or found[1].lower() == "file":
        return None
    return f"{found[1]}://{found[2]}"


def local_path(place: Place, option: str) -> Path:
    """A path of this machine, for what works on its disks alone.

    Args:
        place: a path; file://… is taken for one.
        option: named in the error.

    Raises:
        ConfigError: an address; nothing was made.
    """
    address = address_of(place)
    if address is not None:
        raise ConfigError(
            f"'{address}' is an address, but this is read or written on disks of this machine; "
            f"remedy: give a path, and copy from or to the address; option: {option}"
        )
    found = _ADDRESS.fullmatch(str(place))
    return Path(place) if found is None else Path("/" + found[2])


def check_place(place: Place) -> None:
    """Refuse an address that nothing can be read from or written to, before any work.

    Args:
        place: a path, which is not looked at, or an address.

    Raises:
        ConfigError: a protocol that is unknown or lacks its library.
        ExecutorError: the store failed on every try.
    """
    if (address := address_of(place)) is not None:
        Location(address).exists()


@contextmanager
def local_copy(place: Place, beside: Sequence[str] = ()) -> Iterator[Path]:
    """Give what is at a place as files of this machine, for as long as the block runs.

    Args:
        place: a path, which is given itself, or an address, whose file or folder is fetched into a
            temporary folder; hidden files are left out. Errors name the address.
        beside: names of files next to it that are fetched too, where they exist.

    Raises:
        DataError: nothing at the address.
        ConfigError: a protocol that is unknown or lacks its library.
        ExecutorError: the store failed on every try.
    """
    address = address_of(place)
    if address is None:
        yield local_path(place, "")
        return
    source = Location(address)
    if not source.exists():
        raise DataError(f"'{address}' does not exist; remedy: check the address")
    with _scratch(address) as path:
        if not source.is_folder():
            _fetch(source, path)
        else:
            path.mkdir()
            for file in source.walk():
                _fetch(file, path / file.address[len(address.rstrip("/")) + 1 :])
        for file in map(source.parent().child, beside):
            if file.exists():
                _fetch(file, path.with_name(file.name))
        yield path


@contextmanager
def local_draft(place: Place, last: str | None = None) -> Iterator[Path]:
    """Give a path to write to; where it stands for an address, its files are sent at the end.

    Args:
        place: a path, which is given itself, or an address. Each file is sent whole, and none if
            the block fails. Errors name the address.
        last: name of the file that is sent last, after an older one was removed first: its
            presence means that all is there.

    Raises:
        DataError: the address cannot be written.
        ConfigError: a protocol that is unknown or lacks its library.
        ExecutorError: the store failed on every try.
    """
    address = address_of(place)
    if address is None:
        yield local_path(place, "")
        return
    target = Location(address)
    check_place(place)
    with _scratch(address) as path:
        yield path
        if path.is_file():
            _send(path, target)
            return
        if last is not None:
            target.child(last).remove()
        files = sorted(each for each in path.rglob("*") if each.is_file())
        for file in sorted(files, key=lambda each: each == path / (last or "")):
            _send(file, target.child(file.relative_to(path).as_posix()))


@contextmanager
def _scratch(address: str) -> Iterator[Path]:
    """A path in a temporary folder, of the address's name; errors name the address in its place."""
    with tempfile.TemporaryDirectory(prefix="goalrank-") as folder:
        path = Path(folder) / (Location(address).name or "root")
        try:
            yield path
        except GoalRankError as error:
            error.args = tuple(str(each).replace(str(path), address) for each in error.args)
            raise


def _fetch(source: Location, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)

    def copy(file: BinaryIO) -> None:
        with path.open("wb") as target:
            shutil.copyfileobj(file, target)

    source.read(copy)


def _send(path: Path, target: Location) -> None:
    def copy(file: BinaryIO) -> None:
        with path.open("rb") as source:
            shutil.copyfileobj(source, file)

    target.write(copy)
