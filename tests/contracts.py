"""Contracts of import-linter that are made from the list of rooms, so that no room is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class LibraryHome(Contract):
    """Libraries from outside that only their home may import; every other room is forbidden to.

    Options:
        libraries: names of top-level packages.
        homes: rooms that may import them, without "goalrank.".
    """

    type_name = "library_home"

    # Fields on the class, sets of strings on its instances.
    libraries: Any = fields.SetField(subfield=fields.StringField())
    homes: Any = fields.SetField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Look at the importers of each library."""
        known = {child.removeprefix("goalrank.") for child in graph.find_children("goalrank")}
        strangers = sorted(set(self.homes) - known)
        if strangers:
            raise ValueError(f"homes {strangers} are no rooms; known: {', '.join(sorted(known))}")
        found = [
            (importer, library)
            for library in sorted(self.libraries)
            if library in graph.modules
            for importer in sorted(graph.find_modules_that_directly_import(library))
            if importer.split(".")[1] not in self.homes
        ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """A line per import that is not allowed."""
        for importer, library in check.metadata["found"]:
            output.print_error(f"{importer} imports {library}; home: {', '.join(self.homes)}")


class NoCircles(Contract):
    """No files import one another in a circle; imports inside functions and for types count too."""

    type_name = "no_circles"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Sort the files; what cannot be sorted is a circle."""
        try:
            TopologicalSorter(dict(_imports(graph))).prepare()
        except CycleError as error:
            return ContractCheck(kept=False, metadata={"circle": error.args[1]})
        return ContractCheck(kept=True)

    def render_broken_contract(self, check: ContractCheck) -> None:
        """The files of the circle, each imported by the one before."""
        output.print_error(" -> ".join(reversed(check.metadata["circle"])))


def _imports(graph: ImportGraph) -> Iterator[tuple[str, list[str]]]:
    for module in sorted(graph.modules):
        if not graph.is_module_squashed(module):
            yield module, sorted(graph.find_modules_directly_imported_by(module))
