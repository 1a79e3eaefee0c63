"""The contracts themselves: each breaks on a graph that it must refuse."""

from __future__ import annotations

import pytest
from grimp import ImportGraph

from tests.contracts import LibraryHome, NoCircles


def graph(*imports: tuple[str, str]) -> ImportGraph:
    """A graph of the package with these imports."""
    made = ImportGraph()
    for name in ("goalrank", "goalrank.nn", "goalrank.cli", "goalrank.nn.a", "goalrank.nn.b"):
        made.add_module(name)
    made.add_module("typer", is_squashed=True)
    for importer, imported in imports:
        made.add_import(importer=importer, imported=imported)
    return made


def home(*homes: str) -> LibraryHome:
    return LibraryHome(
        "name", {"root_packages": ["goalrank"]}, {"libraries": ["typer"], "homes": list(homes)}
    )


def test_a_library_away_from_home_is_found():
    assert home("cli").check(graph(("goalrank.cli", "typer")), False).kept
    check = home("cli").check(graph(("goalrank.cli", "typer"), ("goalrank.nn.a", "typer")), False)
    assert check.metadata["found"] == [("goalrank.nn.a", "typer")]


def test_a_home_that_is_no_room_is_refused():
    with pytest.raises(ValueError, match="'clii'"):
        home("clii").check(graph(), False)


def test_a_circle_of_files_is_found():
    contract = NoCircles("name", {"root_packages": ["goalrank"]}, {})
    one_way = ("goalrank.nn.a", "goalrank.nn.b")
    assert contract.check(graph(one_way), False).kept
    check = contract.check(graph(one_way, one_way[::-1]), False)
    assert not check.kept
    assert set(check.metadata["circle"]) == {"goalrank.nn.a", "goalrank.nn.b"}
