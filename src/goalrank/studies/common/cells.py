"""Cells: the combinations of a suite, their keys, and which shard runs which."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from goalrank.errors import ConfigError
from goalrank.studies.common.row_specs import RowSpec
from goalrank.studies.common.suite import DatasetSpec, SizeSpec, Suite


@dataclass(frozen=True)
class Cell:
    """One number of the tables before it is averaged over seeds.

    Attributes:
        key: file name of everything the cell leaves: a hash of all settings that it depends on.
    """

    dataset: DatasetSpec
    row: RowSpec
    seed: int
    size: SizeSpec
    key: str
    config_hash: str

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.dataset.name} / {self.row.label} / seed {self.seed} / {self.size.name}"


def digest(content: Any) -> str:
    """16 hexadecimal digits of a JSON value's SHA-256."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan_cells(suite: Suite) -> list[Cell]:
    """All cells, seed by seed, so that a first seed's table is whole before the second begins.

    Baselines learn nothing: they have one cell a data set, whatever the seeds and sizes.
    """
    out = []
    for seed in suite.seeds:
        for size in suite.sizes:
            for dataset in suite.datasets:
                for row in suite.rankers:
                    first = seed == suite.seeds[0] and size == suite.sizes[0]
                    if row.name != "baselines" or first:
                        out.append(make_cell(suite, dataset, row, seed, size))
    return out


def make_cell(suite: Suite, dataset: DatasetSpec, row: RowSpec, seed: int, size: SizeSpec) -> Cell:
    """A cell with its key: the same settings have the same key in any suite and folder."""
    settings = {
        "slots": suite.slots,
        "metrics": suite.metrics,
        "recipe": suite.base().model_dump(mode="json"),
        "tuning": {**suite.tuning.model_dump(), "metric": suite.metric},
        "dataset": dataset.model_dump(mode="json"),
        "row": row.model_dump(mode="json"),
        "size": size.model_dump(mode="json"),
    }
    config = digest(settings)
    key = f"{dataset.name}.{_safe(row.label)}.{seed}.{size.name}.{digest([config, seed])}"
    return Cell(dataset, row, seed, size, key, config)


def _safe(label: str) -> str:
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in label)[:60]


def parse_shard(text: str) -> tuple[int, int]:
    """ "2/4" → (2, 4).

    Raises:
        ConfigError: not two whole numbers 1 ≤ i ≤ n.
    """
    try:
        i, n = (int(part) for part in text.split("/"))
    except ValueError:
        i, n = 0, 0
    if not 1 <= i <= n:
        raise ConfigError(f"shard '{text}' must read i/n with 1 <= i <= n; option: --shard")
    return i, n


def shard(cells: list[Cell], i: int, n: int, tuned: bool) -> list[Cell]:
    """The cells of shard i of n (from 1); the shards together are all cells, each once.

    Cells that share costly work stay together where that leaves no shard empty: those of a data
    set and row where settings are tuned, those of a data set and seed otherwise.
    """

    def group(cell: Cell) -> str:
        return f"{cell.dataset.name}/{cell.row.label if tuned else cell.seed}"

    groups = {name: at for at, name in enumerate(dict.fromkeys(group(c) for c in cells))}
    if len(groups) < n:
        return [cell for at, cell in enumerate(cells) if at % n == i - 1]
    return [cell for cell in cells if groups[group(cell)] % n == i - 1]
