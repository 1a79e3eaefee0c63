"""Scaling suites: parameters × data size × group size × seeds, and the cells of that grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from goalrank.settings import checked, merge, read_toml
from goalrank.studies.common import Rows, RowSpec, SizeSpec, digest
from goalrank.training import (
    SOURCES,
    FitConfig,
    GroupConfig,
    LoopConfig,
    PartialRecipe,
    build_config,
)


class ScalingSuite(BaseModel):
    """A full grid on a world and, if wanted, on a folder of real requests.

    Attributes:
        name: printed in tables.
        world: a world's TOML file, relative to the suite's own file.
        requests: folder with train, validation and test.parquet; None leaves real data out.
        slots: L on the folder of requests; on the world it is the world's.
        rankers: rows as in a benchmark suite.
        sizes: named overrides of the `ranker` section.
        data: training requests.
        groups: lists a group; rows that are not taught by groups have one cell for all of them.
        seeds: of data, training and groups.
        teacher: "learned" (a reward model fitted to the same requests) or "truth" (worlds only).
        rounds: the world's log comes in so many parts of equal length; its own policy fills the
            first, and a GoalRank trained on the parts before draws the lists of each later one.
        epochs: passes over the requests, which sets the steps of every stage; 0 keeps the steps
            of the recipe, so that D changes the variety of the requests alone. A row that sets its
            own steps keeps them.
        validation, test: requests of the world to stop and to judge by.
        split: test requests on which regret is split in policy and reward error, for rows that a
            learned reward teaches or chooses for; 0 leaves it out.
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
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    teacher: Literal["learned", "truth"] = "learned"
    rounds: int = Field(default=1, ge=1)
    epochs: float = Field(default=0.0, ge=0)
    validation: int = Field(default=500, ge=1)
    test: int = Field(default=500, ge=2)
    split: int = Field(default=100, ge=0)
    recipe: PartialRecipe = Field(default_factory=dict)

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
    """One training run. `group` 0: the row is not taught by groups."""

    source: Literal["world", "requests"]
    row: RowSpec
    size: SizeSpec
    data: int
    group: int
    seed: int
    key: str

    @property
    def name(self) -> str:
        """For people."""
        group = f" / group {self.group}" if self.group else ""
        where = f"{self.source} / {self.row.label} / {self.size.name}"
        return f"{where} / {self.data} requests{group} / seed {self.seed}"


def load_scaling(path: str | Path) -> ScalingSuite:
    """Read a suite's TOML file; paths inside are relative to it.

    Raises:
        ConfigError: the file cannot be read, or every fault of its settings.
    """
    path = Path(path)
    data = read_toml(path, "scaling suite", "name a TOML file such as configs/scaling/smoke.toml")
    for name in ("world", "requests"):
        if isinstance(data.get(name), str):
            data[name] = path.parent / data[name]
    return build_scaling(data)


def build_scaling(data: Mapping[str, Any]) -> ScalingSuite:
    """Check a suite given as nested dictionaries; see `load_scaling`."""
    suite = checked(ScalingSuite, data, "the scaling suite", "correct them in the file")
    for size in suite.sizes:
        build_config(merge(suite.recipe, {"ranker": size.ranker}))
    return suite


def by_groups(row: RowSpec) -> bool:
    """Whether a row is taught by groups of lists, so that their size matters."""
    own = row.objective == "own" and row.name == "goalrank"
    return own or row.objective not in ("own", "supervised")


def plan_scaling(suite: ScalingSuite) -> list[ScalingCell]:
    """All cells; those that share data and reward model come in a row, small ones first."""
    return [
        _cell(suite, source, row, size, data, group, seed)
        for source in ("world", "requests")
        if getattr(suite, source) is not None
        for seed in suite.seeds
        for data in sorted(suite.data)
        for size in suite.sizes
        for row in suite.rankers
        for group in (suite.groups if by_groups(row) else (0,))
    ]


def _cell(
    suite: ScalingSuite, source: Any, row: RowSpec, size: SizeSpec, data: int, group: int, seed: int
) -> ScalingCell:
    """A cell with its key: a hash of all that its number depends on."""
    place = suite.world if source == "world" else suite.requests
    said = place.read_text("utf-8") if place is not None and place.is_file() else str(place)
    settings = suite.model_dump(
        mode="json", include={"slots", "teacher", "epochs", "validation", "test", "split", "recipe"}
    )
    depends = [source, said, settings, row.model_dump(mode="json"), size.model_dump(mode="json")]
    depends += [suite.rounds] if suite.rounds > 1 and source == "world" else []
    # The grid's largest data size is among them: smaller ones are the first requests of it.
    key = digest([depends, data, group, seed, max(suite.data)])
    label = "".join(c if c.isalnum() else "_" for c in f"{row.label}-{size.name}")[:40]
    return ScalingCell(source, row, size, data, group, seed, f"{label}-{data}-{group}-{seed}.{key}")


def group_overrides(suite: ScalingSuite, cell: ScalingCell) -> dict[str, Any]:
    """Settings that a cell's group size sets."""
    if not cell.group:
        return {}
    base = build_config(merge(suite.recipe, {"ranker": cell.size.ranker}))
    return {"group": group_of(cell.group, base).model_dump()}


def steps_overrides(suite: ScalingSuite, data: int) -> dict[str, Any]:
    """Steps of every stage that the suite's epochs set at a data size."""
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
    """Steps of so many passes over the data, and eight validations within."""
    steps = max(1, round(epochs * data / batch))
    return {"steps": steps, "validate_every": max(1, -(-steps // 8)), "warmup": min(50, steps // 4)}


def group_of(size: int, base: FitConfig) -> GroupConfig:
    """A group of exactly `size` lists in the recipe's proportions; what is left over is own.

    Light lists need light models: without any they take no share.
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
