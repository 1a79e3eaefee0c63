"""What pyproject.toml declares and the versions that tests are run with agree."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILES = ("constraints.txt", "constraints-oldest.txt", "constraints-newest.txt")
TOOLS = ("dev", "docs")  # extras of contributors; constraints.txt alone says their versions


def requirements(*, tools: bool) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    lines = [*project["dependencies"]]
    lines += [line for name in extras if tools or name not in TOOLS for line in extras[name]]
    found = [Requirement(line) for line in lines]
    return [each for each in found if each.marker is None or each.marker.evaluate()]


def lower_bounds() -> dict[str, str]:
    """Each library of the core and of users' extras with the oldest version declared."""
    found: dict[str, str] = {}
    for each in requirements(tools=False):
        (bound,) = [part.version for part in each.specifier if part.operator == ">="]
        found[canonicalize_name(each.name)] = bound
    return found


def pins(name: str) -> dict[str, str]:
    """The lines of a constraints file, each of which names one version."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    pairs = [line.split("==") for line in lines if line]
    found: dict[str, str] = {canonicalize_name(library): version for library, version in pairs}
    assert len(found) == len(pairs)
    return found


def test_the_oldest_versions_declared_are_those_tested():
    oldest = pins("constraints-oldest.txt")
    tested = {name: oldest.get(name) for name in lower_bounds()}
    assert tested == {**lower_bounds(), "torch": oldest["torch"]}


def test_the_newest_versions_are_not_held_back():
    assert set(pins("constraints-newest.txt")) == {"torch"}


def test_every_file_takes_the_same_torch():
    """Another release, or none named, brings gigabytes of CUDA where no GPU is."""
    assert len({pins(name)["torch"] for name in FILES}) == 1


@pytest.mark.parametrize("name", FILES)
def test_versions_tested_are_allowed(name):
    held = pins(name)
    refused = [
        f"{each} but {held[library]}"
        for each in requirements(tools=name == "constraints.txt")
        if (library := canonicalize_name(each.name)) in held
        and not each.specifier.contains(held[library])
    ]
    assert refused == []


def test_a_library_declared_twice_has_one_range():
    ranges = defaultdict(set)
    for each in requirements(tools=True):
        ranges[canonicalize_name(each.name)].add(str(each.specifier))
    assert {name: found for name, found in ranges.items() if len(found) > 1} == {}
