"""A bundle's folder: manifest, checksums, and writing whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from goalrank.errors import BundleError
from goalrank.storage import whole_folder

MANIFEST = "manifest.json"
FORMAT_VERSION = 2  # 1: of 0.1.0, which knew no class of another package
_AGAIN = "remedy: save the bundle again, or copy it anew from where it was made"


def write_folder(
    folder: Path, write: Callable[[Path], dict[str, Any]], *, overwrite: bool = False
) -> Path:
    """Fill a temporary folder, add its manifest, and give it its name only then.

    Args:
        folder: the target.
        write: writes files into a folder and returns the manifest without `format` and `files`.
        overwrite: replace a bundle that is there already.

    Raises:
        BundleError: something is there that may not be replaced, or the disk refuses.
    """
    _may_write(folder, overwrite)
    with whole_folder(folder, replace=True, error=BundleError) as temporary:
        manifest = {"format": FORMAT_VERSION, **write(temporary)}
        manifest["files"] = {p.name: sha256(p) for p in sorted(temporary.iterdir())}
        manifest["checksum"] = _checksum(manifest)
        text = json.dumps(manifest, indent=2) + "\n"
        (temporary / MANIFEST).write_text(text, encoding="utf-8")
        for file in temporary.iterdir():  # the same rights for all, whichever library wrote them
            shutil.copymode(temporary / MANIFEST, file)
    return folder


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, after checking the format's version and every file's checksum.

    Raises:
        BundleError: no bundle there, a newer format, a missing file, a file elsewhere or a changed
            byte.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"'{folder}' is not a bundle: it has no {MANIFEST}; remedy: give the folder that "
            f"Bundle.save or goalrank train made"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version, files = int(manifest["format"]), manifest.get("files")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"'{path}' is damaged ({error!r}); {_AGAIN}") from error
    if version > FORMAT_VERSION:
        raise BundleError(
            f"bundle '{folder}' has format {version}, made by goalrank "
            f"{manifest.get('goalrank', 'of a later version')}; this one reads formats up to "
            f"{FORMAT_VERSION}; remedy: pip install --upgrade goalrank"
        )
    if manifest.get("checksum") != _checksum(manifest) or not isinstance(files, dict):
        raise BundleError(f"'{path}' was changed since it was saved; {_AGAIN}")
    for name, digest in files.items():
        if Path(name).name != name:
            raise BundleError(
                f"'{path}' names the file '{name}', but a bundle's files are in its own folder; {_AGAIN}"
            )
        file = folder / name
        if not file.is_file():
            raise BundleError(f"bundle '{folder}' lacks its file '{name}'; {_AGAIN}")
        if sha256(file) != digest:
            raise BundleError(
                f"'{file}' was changed since the bundle was saved (its SHA-256 differs); {_AGAIN}"
            )
    return dict(manifest)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _may_write(folder: Path, overwrite: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST).is_file():
        raise BundleError(
            f"'{folder}' exists and is not a bundle, so it is not overwritten; remedy: choose "
            f"another folder"
        )
    if not overwrite:
        raise BundleError(
            f"bundle '{folder}' exists already; remedy: choose another folder, or "
            f"overwrite=True (on the command line: --overwrite)"
        )


def _checksum(manifest: dict[str, Any]) -> str:
    """SHA-256 of the manifest's content without the checksum itself."""
    content = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
