"""Suites of scaling studies: parameters × data size × group size × seeds, and their cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from goalrank.settings import checked, merge, read_toml
from goalrank.studies.common import Rows, RowSpec, SizeSpec, json_hash
from goalrank.training import (
    SOURCES,
    FitConfig,
    GroupConfig,
    LoopConfig,
    PartialRecipe,
    build_config,
)

Source = Literal["world", "requests"]
_SOURCES: tuple[Source, ...] = ("world", "requests")


class ScalingSuite(BaseModel):
    """Suite of a scaling study: a full grid on a world and on a folder of requests, or on one.

    Attributes:
        name: printed in tables.
        world: TOML file of a world, relative to the file of the suite; None leaves worlds out.
        requests: folder with train, validation and test.parquet; None leaves real data out.
        slots: L on the folder of requests; the world has its own.
        rankers: rows as in a benchmark suite.
        sizes: named overrides of the `ranker` section.
        data: numbers of training requests.
        groups: numbers of lists per group; rows that are not trained on groups have one cell for
            all of them.
        seeds: of data, training and groups.
        teacher: "learned" (a reward model fitted to the same requests) or "truth" (worlds only).
        rounds: number of parts of equal length in which the world's log is made; its logging
            policy answers the first, and a GoalRank trained on the earlier parts draws the lists of
            each later one.
        epochs: passes over the requests, which set the steps of every stage; 0 keeps the steps of
            the recipe, so that D changes only the variety of the requests. A row that sets its own
            steps keeps them.
        validation: number of requests of the world for early stopping.
        test: number of test requests of the world.
        split: number of test requests on which regret is split into the errors of policy and
            reward, for rows that use a learned reward; 0 leaves it out.
        recipe: a partial training recipe, the base of every cell.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    world: Path | None = None
    requests: Path | None = None
    slots: int = Field(default=6, ge=1)
    rankers: Rows
    sizes: tuple[SizeSpec, ...] = Field(min_length=1)
    data: tuple[int, ...] = Field(min_length=1)
    groups: tuple[int, ...] = (20,)
    seeds: tuple[NonNegativeInt, ...] = Field(default=(0,), min_length=1)
    teacher: Literal["learned", "truth"] = "learned"
    rounds: int = Field(default=1, ge=1)
    epochs: float = Field(default=0.0, ge=0)
    validation: int = Field(default=500, ge=1)
    test: int = Field(default=500, ge=2)
    split: int = Field(default=100, ge=0)
    recipe: PartialRecipe = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_encoder(self) -> ScalingSuite:
        encoded = [row.label for row in self.rankers if "encoder" in row.set]
        if encoded:
            raise ValueError(
                f"rankers {encoded} set the encoder, but all rows of a study share one; set it in "
                f"the recipe"
            )
        return self

    @model_validator(mode="after")
    def _whole(self) -> ScalingSuite:
        if self.world is None and self.requests is None:
            raise ValueError("neither world nor requests is given, so there is nothing to run on")
        if min(self.data) < 1 or not self.groups or min(self.groups) < 2:
            raise ValueError("data must be at least 1 and groups at least 2")
        if self.teacher == "truth" and self.requests is not None:
            raise ValueError("teacher 'truth' exists in worlds only; leave requests out")
        if self.rounds > 1 and (self.teacher == "truth" or self.world is None):
            raise ValueError(
                "rounds of logging need a world and a learned teacher; leave rounds out"
            )
        if self.rounds > min(self.data):
            raise ValueError(f"{self.rounds} rounds need at least as many requests in data")
        for axis in ("data", "groups", "seeds"):
            if len(set(getattr(self, axis))) < len(getattr(self, axis)):
                raise ValueError(f"{axis} repeats a value")
        for axis, names in (
            ("sizes", [size.name for size in self.sizes]),
            ("rankers", [row.label for row in self.rankers]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"{axis} names {names} repeat")
        return self


@dataclass(frozen=True)
class ScalingCell:
    """Cell of the grid: one training run.

    Attributes:
        source: on what it is trained and tested.
        row: the row.
        size: the size.
        data: number of training requests.
        group: lists per group; 0 for a row that is not trained on groups.
        seed: the seed.
        key: name of its file; it has a hash of everything that the result depends on.
    """

    source: Source
    row: RowSpec
    size: SizeSpec
    data: int
    group: int
    seed: int
    key: str

    @property
    def name(self) -> str:
        """Name of the cell for people."""
        group = f" / group {self.group}" if self.group else ""
        where = f"{self.source} / {self.row.label} / {self.size.name}"
        return f"{where} / {self.data} requests{group} / seed {self.seed}"


def load_scaling(path: str | Path) -> ScalingSuite:
    """Read the TOML file of a suite; paths in it are relative to it.

    Args:
        path: of the file.

    Raises:
        ConfigError: the file cannot be read, or settings are wrong (all of them are named).
    """
    path = Path(path)
    data = read_toml(path, "scaling suite", "name a TOML file such as configs/scaling/smoke.toml")
    for name in ("world", "requests"):
        if isinstance(data.get(name), str):
            data[name] = path.parent / data[name]
    return build_scaling(data)


def build_scaling(data: Mapping[str, Any]) -> ScalingSuite:
    """Check a suite given as nested dictionaries.

    Args:
        data: the settings.

    Raises:
        ConfigError: settings are wrong (all of them are named).
    """
    suite = checked(ScalingSuite, data, "the scaling suite", "correct them in the file")
    for size in suite.sizes:
        build_config(merge(suite.recipe, {"ranker": size.ranker}))
    return suite


def uses_groups(row: RowSpec) -> bool:
    """Whether a row is trained on groups of lists, so that their size matters.

    Args:
        row: the row.
    """
    own = row.objective == "own" and row.name == "goalrank"
    return own or row.objective not in ("own", "supervised")


def plan_scaling(suite: ScalingSuite) -> list[ScalingCell]:
    """List all cells; those that share data and reward model follow one another, small ones first.

    Args:
        suite: the suite.
    """
    return [
        _cell(suite, source, row, size, data, group, seed)
        for source in _SOURCES
        if getattr(suite, source) is not None
        for seed in suite.seeds
        for data in sorted(suite.data)
        for size in suite.sizes
        for row in suite.rankers
        for group in (suite.groups if uses_groups(row) else (0,))
    ]


def _cell(
    suite: ScalingSuite,
    source: Source,
    row: RowSpec,
    size: SizeSpec,
    data: int,
    group: int,
    seed: int,
) -> ScalingCell:
    """Make a cell with its key, which has a hash of everything that the result depends on."""
    place = suite.world if source == "world" else suite.requests
    content = place.read_text("utf-8") if place is not None and place.is_file() else str(place)
    settings = suite.model_dump(
        mode="json", include={"slots", "teacher", "epochs", "validation", "test", "split", "recipe"}
    )
    depends: list[object] = [
        source,
        content,
        settings,
        row.model_dump(mode="json"),
        size.model_dump(mode="json"),
    ]
    depends += [suite.rounds] if suite.rounds > 1 and source == "world" else []
    # The largest data size matters too: smaller data are the first requests of the largest.
    key = json_hash([depends, data, group, seed, max(suite.data)])
    label = "".join(c if c.isalnum() else "_" for c in f"{row.label}-{size.name}")[:40]
    return ScalingCell(source, row, size, data, group, seed, f"{label}-{data}-{group}-{seed}.{key}")


def group_overrides(suite: ScalingSuite, cell: ScalingCell) -> dict[str, Any]:
    """Make the settings that the group size of a cell changes.

    Args:
        suite: the suite.
        cell: the cell.
    """
    if not cell.group:
        return {}
    base = build_config(merge(suite.recipe, {"ranker": cell.size.ranker}))
    return {"group": group_of(cell.group, base).model_dump()}


def steps_overrides(suite: ScalingSuite, data: int) -> dict[str, Any]:
    """Make the settings that the suite's epochs change: the steps of every stage.

    Args:
        suite: the suite.
        data: number of training requests.
    """
    if suite.epochs == 0:
        return {}
    base = build_config(suite.recipe)

    def steps(loop: LoopConfig) -> dict[str, int]:
        return steps_for(suite.epochs, data, loop.batch_size)

    return {
        "light_loop": steps(base.light_loop),
        "reward": {"loop": steps(base.reward.loop)},
        "training": steps(base.training),
    }


def steps_for(epochs: float, data: int, batch: int) -> dict[str, int]:
    """Compute the steps of some passes over the data, with eight validations.

    Args:
        epochs: number of passes.
        data: number of requests.
        batch: requests per step.
    """
    steps = max(1, round(epochs * data / batch))
    return {"steps": steps, "validate_every": max(1, -(-steps // 8)), "warmup": min(50, steps // 4)}


def group_of(size: int, base: FitConfig) -> GroupConfig:
    """Make a group of another size in the recipe's proportions; own lists make up the difference.

    Without light models the group has no light lists.

    Args:
        size: lists per group.
        base: the recipe.
    """
    given = base.group.model_dump()
    share = {source: float(given[source]) for source in SOURCES}
    share["light"] *= bool(base.light)
    total = sum(share.values())
    count = {source: int(size * part / total) for source, part in share.items()}
    count["logged"] = min(count["logged"], 1)
    main = "own" if share["own"] else max(share, key=lambda source: share[source])
    count[main] += size - sum(count.values())
    return base.group.model_copy(update={**count, "thin": 0})
