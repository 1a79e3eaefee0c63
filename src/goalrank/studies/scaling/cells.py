"""Finished cells of scaling grids: one JSON file each, checked when it is read."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from goalrank.errors import DataError
from goalrank.wording import counted

# What a file must hold, and what it may; later readers take more where it is there.
_FACTS: dict[str, type] = {"suite": str, "source": str, "ranker": str, "size": str, "status": str,
                           "data": int, "group": int, "seed": int}  # fmt: skip
_NUMBERS = ("loss", "parameters", "flops_training")
_WORLD = ("true_reward", "regret", "best")
_OPTIONAL = ("choices", "policy_error", "reward_error",
             "correlation_random", "correlation_proposed")  # fmt: skip
_ONE = ("suite", "source", "ranker", "size", "data", "group", "seed")


def read_cells(folder: str | Path) -> list[dict[str, Any]]:
    """Read the finished cells of a folder, in the order of their names.

    Args:
        folder: of `run_scaling`.

    Returns:
        Facts and numbers of each cell, and its `file`.

    Raises:
        DataError: there is none, a file is damaged, or two cells are of one row, size, number of
            requests, group and seed.
    """
    files = sorted((Path(folder) / "cells").glob("*.json"))
    if not files:
        raise DataError(
            f"'{folder}' holds no finished cell; remedy: goalrank scaling run SUITE --out {folder}"
        )
    cells = [read_cell(file) for file in files]
    refuse_repeats(cells)
    return cells


def read_cell(file: Path) -> dict[str, Any]:
    """Read one finished cell.

    Args:
        file: of the cell.

    Raises:
        DataError: the file cannot be read, or does not hold what a cell must.
    """
    remedy = "remedy: run its suite again, which runs damaged cells anew, or remove it"
    try:
        cell = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cell '{file}' cannot be read ({error}); {remedy}") from error
    if (wrong := fault(cell)) is not None:
        raise DataError(f"cell '{file}' is damaged: {wrong}; {remedy}")
    return {**cell, "file": str(file)}


def fault(cell: Any) -> str | None:
    """Say why a value is no finished cell; None if it is one.

    Args:
        cell: content of a file, or what is to be written into it.
    """
    if not isinstance(cell, dict):
        return f"it holds {json.dumps(cell)[:20]} instead of named facts"
    for name, kind in _FACTS.items():
        value = cell.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            return f"{name} is {value!r}, but must be {'text' if kind is str else 'a whole number'}"
    if cell["status"] != "ok":
        return None
    needed = _NUMBERS + (_WORLD if cell["source"] == "world" else ())
    for name in (*needed, *(name for name in _OPTIONAL if cell.get(name) is not None)):
        value = cell.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            return f"{name} is {value!r}, but must be a finite number"
    return None


def refuse_repeats(cells: Iterable[Mapping[str, Any]], also: Sequence[str] = ()) -> None:
    """Refuse cells that would be counted as two seeds although they have one.

    Args:
        cells: of `read_cells`.
        also: names of numbers that set cells apart too.

    Raises:
        DataError: two cells are of one row, size, number of requests, group and seed.
    """
    seen: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for cell in cells:
        first = seen.setdefault(tuple(cell.get(name) for name in (*_ONE, *also)), cell)
        if first is not cell:
            raise DataError(
                f"'{first['file']}' and '{cell['file']}' are both of {_said(cell)}, so one seed "
                f"would count twice: a folder given twice, a copy, or a suite that was changed and "
                f"run again; remedy: give each folder once, and remove what no longer counts"
            )


def said_failures(reasons: Iterable[str]) -> str:
    """Say why cells failed: a line per reason, the most frequent first, and the remedy.

    Args:
        reasons: of failed cells, one per cell.

    Returns:
        Empty without reasons.
    """
    often = Counter(reasons).most_common()
    lines = [f"{counted(count, 'cell')} failed: {reason}" for reason, count in often]
    return "\n".join([*lines, "remedy: goalrank scaling run SUITE --out DIR --retry"] * bool(lines))


def failures(folders: Iterable[str | Path]) -> list[str]:
    """Reasons of the failed cells of folders, one per cell.

    Args:
        folders: of `run_scaling`.

    Raises:
        DataError: a folder has no finished cell, or a file is damaged.
    """
    cells = [cell for folder in folders for cell in read_cells(folder)]
    return [str(cell.get("reason")) for cell in cells if cell["status"] != "ok"]


def _said(cell: Mapping[str, Any]) -> str:
    group = f", groups of {cell['group']}" if cell["group"] else ""
    return (
        f"row '{cell['ranker']}' of suite '{cell['suite']}', size {cell['size']}, "
        f"{counted(cell['data'], 'request')}{group}, seed {cell['seed']}"
    )
