"""Downloads of public data sets from their publishers: resumable, verified and unpacked."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from goalrank.errors import ConfigError, FetchError
from goalrank.logs.download.unpacking import unpack
from goalrank.storage import move_into_place, whole_folder

__all__ = ["DATASETS", "Dataset", "fetch"]

_BLOCK = 1 << 18
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Dataset:
    """A public data set.

    Attributes:
        url: address at the publisher, http or https.
        checksum: ``algorithm:hex digest``, or ``None`` if the publisher gives none.
        source: name of the source for ``import_log``.
        folder: folder of its files after unpacking, relative to the data folder.
        licence: printed before the download.
    """

    url: str
    checksum: str | None
    source: str
    folder: str
    licence: str


_GROUPLENS = "GroupLens: research use, no redistribution without permission"
DATASETS: dict[str, Dataset] = {
    "ml-1m": Dataset(
        url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        checksum="md5:c4d9eecfca2ab87c1945afe126590906",
        source="movielens",
        folder="ml-1m",
        licence=_GROUPLENS,
    ),
    "ml-latest-small": Dataset(
        # The publisher updates this file, so it has no fixed digest; the zip's checksums are used.
        url="https://files.grouplens.org/datasets/movielens/ml-latest-small.zip",
        checksum=None,
        source="movielens",
        folder="ml-latest-small",
        licence="GroupLens: non-commercial use; redistribution under the same terms",
    ),
    "kuairand-pure": Dataset(
        url="https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz",
        checksum=None,
        source="kuairand",
        folder="KuaiRand-Pure",
        licence="CC BY-SA 4.0 (KuaiRand, Gao et al., CIKM 2022)",
    ),
}


def fetch(
    name: str,
    folder: str | Path,
    *,
    datasets: dict[str, Dataset] | None = None,
    timeout: float = 30.0,
    show: bool = True,
) -> Path:
    """Download and unpack a data set; an interrupted download continues where it stopped.

    Args:
        name: ``ml-1m``, ``ml-latest-small`` or ``kuairand-pure``.
        folder: the data folder, for the archive and the folder of its files.
        datasets: data sets by name instead of `DATASETS`, for mirrors.
        timeout: seconds without data after which the download fails.
        show: whether to print the licence and a progress bar.

    Returns:
        The folder to give to ``import_log``.

    Raises:
        ConfigError: unknown name.
        FetchError: no network, a wrong address, response or checksum, or an archive that is damaged or
            would unpack to far more than its size.
    """
    known = datasets if datasets is not None else DATASETS
    if name not in known:
        raise ConfigError(f"unknown data set '{name}'; known: {', '.join(sorted(known))}")
    entry = known[name]
    root = Path(folder)
    target = root / entry.folder
    if target.is_dir():
        return target
    try:
        root.mkdir(parents=True, exist_ok=True)
        archive = root / entry.url.rsplit("/", 1)[-1]
        if not archive.exists():
            _download(entry, archive, timeout, show)
        _verify(archive, entry)
        _unpack(archive, target)
    except OSError as error:
        raise FetchError(f"{name}: {root} cannot be written: {error.strerror or error}") from None
    return target


def _download(entry: Dataset, archive: Path, timeout: float, show: bool) -> None:
    part = archive.with_name(archive.name + ".part")
    if not show:
        _transfer(entry.url, part, timeout, lambda done, total: None)
    else:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TransferSpeedColumn,
        )

        console = Console(stderr=True, markup=False, emoji=False)
        console.print(f"{entry.url}\nlicence: {entry.licence}")
        with Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(),
            TransferSpeedColumn(), console=console,
        ) as bar:  # fmt: skip
            task = bar.add_task(archive.name, total=None)
            _transfer(
                entry.url, part, timeout,
                lambda done, total: bar.update(task, completed=done, total=total),
            )  # fmt: skip
    move_into_place(part, archive)


def _transfer(url: str, part: Path, timeout: float, progress: Progress) -> None:
    """Append the missing bytes to ``part``."""
    if not url.startswith(("https://", "http://")):
        raise FetchError(
            f"{url} is no address of a web server; remedy: one with https:// or http://"
        )
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "goalrank"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            if done and answer.status != 206:
                done = 0  # the server starts over
            left = answer.headers.get("Content-Length")
            total = done + int(left) if left is not None else None
            with part.open("ab" if done else "wb") as out:
                while block := answer.read(_BLOCK):
                    out.write(block)
                    done += len(block)
                    progress(done, total)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing is missing
            return
        raise FetchError(f"{url} answered {error.code} {error.reason}; try again later") from None
    except (
        urllib.error.URLError,
        TimeoutError,
        ConnectionError,
        http.client.HTTPException,
    ) as error:
        reason = getattr(error, "reason", error)
        raise FetchError(
            f"no network, or {url} cannot be reached ({reason}); {done} bytes are kept, so the same "
            "command continues from there. Or download the file elsewhere and put it into "
            f"{part.parent} as {part.name.removesuffix('.part')}"
        ) from None
    if total is not None and done < total:
        raise FetchError(
            f"{url}: the connection broke after {done} of {total} bytes; run the command again to "
            "continue from there"
        )


def _verify(archive: Path, entry: Dataset) -> None:
    if entry.checksum is None:
        return
    algorithm, wanted = entry.checksum.split(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with archive.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != wanted:
        archive.unlink()
        raise FetchError(
            f"{archive.name}: {algorithm} is {digest.hexdigest()}, expected {wanted}; the file was "
            "removed, run the command again"
        )


def _unpack(archive: Path, target: Path) -> None:
    """Unpack an archive, without the folder that holds all its files: whole or not at all."""
    try:
        with whole_folder(target, error=FetchError) as folder:
            inner = folder / ".archive"
            unpack(archive, inner)
            top = inner / target.name
            for each in (top if top.is_dir() else inner).iterdir():
                shutil.move(each, folder)
            shutil.rmtree(inner)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        archive.unlink()
        raise FetchError(
            f"{archive.name} is damaged ({error}); it was removed, run the command again"
        ) from None
