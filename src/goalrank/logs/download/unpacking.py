"""Unpacking of archives from elsewhere: inside one folder, of a size that was looked at before."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from goalrank.errors import FetchError

MOST_RATIO = 100  # bytes unpacked per byte of the archive; tables of text reach about ten
MOST_MEMBERS = 100_000
_ALWAYS = 64 << 20  # bytes that any archive may unpack to


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive.

    Args:
        archive: the file.
        folder: where its members are put; none gets outside.

    Raises:
        FetchError: it unpacks to more than its size allows or the disk holds, or to too many files.
        zipfile.BadZipFile: it is damaged; so are `tarfile.TarError` and EOFError.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            # No member gives more bytes than it states: zipfile reads no further.
            _check_size(archive, folder, (member.file_size for member in zipped.infolist()))
            zipped.extractall(folder)  # zipfile keeps names inside the folder
    else:
        with tarfile.open(archive) as tarred:
            _check_size(archive, folder, (member.size for member in tarred))
            _extract(tarred, folder)


def _check_size(archive: Path, folder: Path, sizes: Iterable[int]) -> None:
    """Refuse an archive that would fill the disk, before anything is written."""
    limit = max(MOST_RATIO * archive.stat().st_size, _ALWAYS)
    free = shutil.disk_usage(folder.parent).free
    total = 0
    for count, size in enumerate(sizes, 1):
        total += size
        if total > limit or count > MOST_MEMBERS:
            raise FetchError(
                f"{archive.name} has {archive.stat().st_size:,} bytes, and its first {count:,} files "
                f"unpack to {total:,}; at most {limit:,} bytes ({MOST_RATIO} times its size) and "
                f"{MOST_MEMBERS:,} files are unpacked, so nothing was; remedy: if it is what its "
                f"publisher offers, unpack {archive} yourself"
            )
        if total > free:
            raise FetchError(
                f"{archive.name} unpacks to {total:,} bytes or more, but only {free:,} are free in "
                f"{folder.parent.parent}; nothing was unpacked; remedy: free space, then run the command again"
            )


def _extract(tarred: tarfile.TarFile, folder: Path) -> None:
    """Extract members inside the folder; before Python 3.11.4 only plain files and folders."""
    if hasattr(tarfile, "data_filter"):
        tarred.extractall(folder, filter="data")
        return
    root = folder.resolve()
    for member in tarred.getmembers():
        inside = (root / member.name).resolve().is_relative_to(root)
        if not inside or not (member.isreg() or member.isdir()):
            raise tarfile.TarError(f"'{member.name}' is not a plain file inside the archive")
    tarred.extractall(folder)  # the members are checked above
