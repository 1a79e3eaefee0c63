"""Cells: the combinations of a suite, their keys, and their division into shards."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from goalrank.errors import ConfigError
from goalrank.studies.common.row_specs import RowSpec
from goalrank.studies.common.suite import DatasetSpec, SizeSpec, Suite


@dataclass(frozen=True)
class Cell:
    """One row on one data set at one size and one seed.

    Attributes:
        dataset: the data set.
        row: the row.
        seed: of the training.
        size: the size.
        key: name of the files of the cell; it has a hash of all settings that the cell depends on.
        config_hash: hash of these settings without the seed.
    """

    dataset: DatasetSpec
    row: RowSpec
    seed: int
    size: SizeSpec
    key: str
    config_hash: str

    @property
    def name(self) -> str:
        """Name of the cell for people."""
        return f"{self.dataset.name} / {self.row.label} / seed {self.seed} / {self.size.name}"


def json_hash(content: object) -> str:
    """Hash a JSON value: 16 hexadecimal digits of its SHA-256.

    Args:
        content: the value.
    """
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan_cells(suite: Suite) -> list[Cell]:
    """List all cells, seed by seed, so that the table of the first seed is complete first.

    Baselines learn nothing: they have one cell per data set, for all seeds and sizes.

    Args:
        suite: the suite.
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
    """Make a cell; the same settings have the same key in any suite and folder.

    Args:
        suite: the suite.
        dataset: the data set.
        row: the row.
        seed: the seed.
        size: the size.
    """
    settings = {
        "slots": suite.slots,
        "metrics": suite.metrics,
        "recipe": suite.base().model_dump(mode="json"),
        "tuning": {**suite.tuning.model_dump(), "metric": suite.metric},
        "dataset": dataset.model_dump(mode="json"),
        "row": row.model_dump(mode="json"),
        "size": size.model_dump(mode="json"),
    }
    config = json_hash(settings)
    key = f"{dataset.name}.{_safe(row.label)}.{seed}.{size.name}.{json_hash([config, seed])}"
    return Cell(dataset, row, seed, size, key, config)


def _safe(label: str) -> str:
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in label)[:60]


def parse_shard(text: str) -> tuple[int, int]:
    """Read a shard, such as "2/4".

    Args:
        text: "i/n".

    Returns:
        (i, n).

    Raises:
        ConfigError: these are not two whole numbers with 1 ≤ i ≤ n.
    """
    try:
        i, n = (int(part) for part in text.split("/"))
    except ValueError:
        i, n = 0, 0
    if not 1 <= i <= n:
        raise ConfigError(f"shard '{text}' must read i/n with 1 <= i <= n; option: --shard")
    return i, n


def shard_cells(cells: list[Cell], i: int, n: int, tuned: bool) -> list[Cell]:
    """Select the cells of one shard; each cell is in exactly one shard.

    Cells that share costly work stay together if that leaves no shard empty: cells of one data set
    and row if settings are tuned, else cells of one data set and seed.

    Args:
        cells: all cells.
        i: number of the shard, from 1.
        n: number of shards.
        tuned: whether the suite tunes settings.
    """

    def group(cell: Cell) -> str:
        return f"{cell.dataset.name}/{cell.row.label if tuned else cell.seed}"

    groups = {name: at for at, name in enumerate(dict.fromkeys(group(c) for c in cells))}
    if len(groups) < n:
        return [cell for at, cell in enumerate(cells) if at % n == i - 1]
    return [cell for cell in cells if groups[group(cell)] % n == i - 1]
