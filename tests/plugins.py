"""Packages made on the spot, as pip would have installed them: a module and its entry points."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest


class Installer:
    """Installs small packages into a folder that stands on sys.path for one test."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._packages: list[str] = []

    def add(
        self, distribution: str, entries: Mapping[str, Mapping[str, str]], code: str = ""
    ) -> Path:
        """Install "name version", whose module is called like it, with _ for -.

        Args:
            entries: group → name → "module:attribute".
            code: of the module.
        """
        name, _, version = distribution.partition(" ")
        package = name.replace("-", "_")
        place = self.folder / f"site-{len(self._packages)}"
        about = place / f"{package}-{version}.dist-info"
        about.mkdir(parents=True)
        (place / f"{package}.py").write_text(dedent(code), encoding="utf-8")
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8"
        )
        (about / "top_level.txt").write_text(f"{package}\n", encoding="utf-8")
        lines = []
        for group, named in entries.items():
            lines += [f"[{group}]", *(f"{key} = {path}" for key, path in named.items())]
        (about / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._monkeypatch.syspath_prepend(str(place))
        self._packages.append(package)
        return place

    def forget(self) -> None:
        """Take the packages' modules out of this process."""
        for package in self._packages:
            sys.modules.pop(package, None)
