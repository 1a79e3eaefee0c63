"""Files by path or address, on this machine's disks or in an object store (fsspec)."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, TypeVar

from goalrank.errors import ConfigError, DataError
from goalrank.storage.atomic import temporary_name
from goalrank.storage.retry import with_retries

T = TypeVar("T")


@dataclass(frozen=True)
class Location:
    """A place: a path, or an address such as s3://bucket/folder or memory://folder.

    Every operation is tried again when the store times out; see `with_retries`. A `Location` is its
    address alone, so that it can be sent to a worker.

    Raises (any operation):
        ConfigError: no such protocol, or its library is not installed.
        ExecutorError: the store failed on every try.
    """

    address: str

    def __reduce__(self) -> tuple[type[Location], tuple[str]]:
        return Location, (self.address,)  # the connection stays here

    @cached_property
    def _open(self) -> tuple[Any, str]:
        import fsspec

        try:
            system, path = fsspec.core.url_to_fs(self.address)
        except ImportError as error:
            raise ConfigError(
                f"'{self.address}' cannot be opened: {error}; remedy: install the library it names"
            ) from error
        except ValueError as error:
            raise ConfigError(f"'{self.address}' cannot be opened: {error}") from error
        return system, path

    def _tried(self, what: str, work: Callable[[Any, str], T]) -> T:
        system, path = self._open
        return with_retries(lambda: work(system, path), f"{what} '{self.address}'")

    @property
    def on_disk(self) -> bool:
        """Whether the place is a path of this machine."""
        protocol = self._open[0].protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._open[1].rstrip("/").rpartition("/")[2]

    def exists(self) -> bool:
        """Whether anything is there."""
        return bool(self._tried("looking for", lambda system, path: system.exists(path)))

    def is_folder(self) -> bool:
        """Whether there are files below it."""
        return bool(self._tried("looking for", lambda system, path: system.isdir(path)))

    def child(self, name: str) -> Location:
        """A place below."""
        return Location(f"{self.address.rstrip('/')}/{name}")

    def parent(self) -> Location:
        """The place above."""
        head, _, _ = self.address.rstrip("/").rpartition("/")
        return Location(head or ".")

    def files(self, ending: str) -> list[Location]:
        """Files right below whose name ends so, by name; hidden ones (. and _) left out."""
        found = self._tried("listing", lambda system, path: system.ls(path, detail=False))
        names = {str(entry).rstrip("/").rpartition("/")[2] for entry in found}
        return [
            self.child(name)
            for name in sorted(names)
            if name.endswith(ending) and not name.startswith((".", "_"))
        ]

    def walk(self) -> list[Location]:
        """All files below, by path; hidden ones and those in hidden folders (. and _) left out."""
        found = self._tried("listing", lambda system, path: (system.find(path), path))
        base = found[1].rstrip("/")
        below = [str(entry)[len(base) :].strip("/") for entry in sorted(found[0])]
        return [
            self.child(name)
            for name in below
            if not any(part.startswith((".", "_")) for part in name.split("/"))
        ]

    def read(self, work: Callable[[BinaryIO], T]) -> T:
        """Result of `work` on the open file; it is called again after a timeout."""

        def opened(system: Any, path: str) -> T:
            with system.open(path, "rb") as file:
                return work(file)

        return self._tried("reading", opened)

    def write(self, work: Callable[[BinaryIO], T]) -> T:
        """Have `work` fill a file that appears whole or not at all, replacing an older one.

        Raises:
            DataError: the disk is full, or the place cannot be written.
        """

        def written(system: Any, path: str) -> T:
            folder, _, name = path.rpartition("/")
            temporary = f"{folder}/{temporary_name(name)}"
            try:
                if folder:
                    system.makedirs(folder, exist_ok=True)
                with system.open(temporary, "wb") as file:
                    done = work(file)
                    if self.on_disk and not file.closed:
                        file.flush()
                        os.fsync(file.fileno())
                system.mv(temporary, path)
                return done
            except BaseException:
                with suppress(Exception):
                    system.rm(temporary)
                raise

        try:
            return self._tried("writing", written)
        except OSError as error:
            raise DataError(
                f"could not write '{self.address}' ({error}); what was there before is untouched; "
                f"remedy: check room, folder and rights, or choose another place"
            ) from error

    def remove(self) -> None:
        """Remove the file, if it is there."""

        def gone(system: Any, path: str) -> None:
            with suppress(FileNotFoundError):
                system.rm(path)

        self._tried("removing", gone)
