"""Digest of the package's own source, so that a changed checkout counts as another code."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[1]


@cache
def source_digest() -> str:
    """SHA-256 over the names and contents of the package's Python files and recipes, in hex."""
    digest = hashlib.sha256()
    files = [path for path in _ROOT.rglob("*") if path.suffix in (".py", ".toml")]
    for path in sorted(files, key=lambda each: each.relative_to(_ROOT).as_posix()):
        digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
