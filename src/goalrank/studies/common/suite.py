"""Suites: rows, data sets, sizes and seeds of a benchmark, from one TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from goalrank.errors import ConfigError
from goalrank.evaluation import DEFAULT_METRICS, METRICS
from goalrank.logs import SOURCES, ImportOptions, data_root
from goalrank.recipes import default_recipe
from goalrank.requests import EncoderConfig
from goalrank.settings import checked, did_you_mean, merge, nearest, read_toml
from goalrank.studies.common.row_specs import Rows, RowSpec
from goalrank.training import FitConfig, PartialRecipe, build_config


class _Strict(BaseModel):
    """Base of all sections: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# Names that are parts of files' names.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Seed = Annotated[int, Field(ge=0)]


class DatasetSpec(_Strict):
    """One data set under one protocol.

    Attributes:
        name: printed in tables; unique in the suite.
        source: a log source of `goalrank data import` (a name or class path), or "requests": a
            folder that such an import wrote.
        path: inside the folder named by GOALRANK_DATA, or absolute; None takes the shipped data.
        protocol: exposed, retrieved or injected; None takes the default of the source.
        options: other import options.
        max_train: training requests to keep, at most, drawn at random; 0 keeps all.
        max_validation: validation requests to keep, drawn in the same way.
        max_test: test requests to keep, drawn in the same way.
        seed: of that draw.
    """

    name: FileName
    source: str
    path: str | None = None
    protocol: Literal["exposed", "retrieved", "injected"] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    max_train: int = Field(default=0, ge=0)
    max_validation: int = Field(default=0, ge=0)
    max_test: int = Field(default=0, ge=0)
    seed: Seed = 0

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        return SOURCES.checked(source, also=("requests",))

    @model_validator(mode="after")
    def _has_tables(self) -> DatasetSpec:
        if self.source == "requests" and self.path is None:
            raise ValueError("source 'requests' needs path, the folder of its tables")
        return self


class SizeSpec(_Strict):
    """Size of models, for every row that has parameters.

    Attributes:
        name: printed in tables.
        ranker: overrides of the `ranker` section.
    """

    name: FileName = "base"
    ranker: dict[str, Any] = Field(default_factory=dict)


class TuningSpec(_Strict):
    """Tuning: the same number of trials on validation requests for every row that can be tuned.

    Attributes:
        trials: number of settings to try, including those of the recipe; 0 tunes nothing.
        steps: optimiser steps of a trial; None takes those of the recipe.
        requests: training requests of a trial, at most; 0 takes all.
        validation: validation requests on which a trial is measured, at most; 0 takes all.
        seed: of the draws of settings and of the training.
    """

    trials: int = Field(default=0, ge=0)
    steps: int | None = Field(default=None, ge=1)
    requests: int = Field(default=0, ge=0)
    validation: int = Field(default=0, ge=0)
    seed: Seed = 0


class Suite(_Strict):
    """Suite of a benchmark.

    Attributes:
        name: printed in tables.
        slots: L.
        seeds: of the trainings.
        metric: what tuning and the tables compare by; one of `metrics`.
        main: label of the row that the tests compare with the best other row.
        metrics: measured for every row: names of `goalrank.evaluation.METRICS`, "auc", or
            "package.module:function".
        datasets: the data sets; every combination of data set, row, size and seed is a cell.
        rankers: the rows.
        sizes: the sizes.
        tuning: see `TuningSpec`.
        recipe: settings that replace those of the default recipe, for every row alike.
    """

    name: str
    slots: int = Field(default=6, ge=1)
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    metric: str = "ndcg"
    main: str = "goalrank"
    metrics: tuple[str, ...] = DEFAULT_METRICS
    datasets: tuple[DatasetSpec, ...] = Field(min_length=1)
    rankers: Rows
    sizes: tuple[SizeSpec, ...] = (SizeSpec(),)
    tuning: TuningSpec = TuningSpec()
    recipe: PartialRecipe = Field(default_factory=dict)

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(METRICS.checked(name, also=("auc",)) for name in metrics)

    @model_validator(mode="after")
    def _unique(self) -> Suite:
        for axis, names in {
            "datasets": [d.name for d in self.datasets],
            "rankers": [r.label for r in self.rankers],
            "sizes": [s.name for s in self.sizes],
            "seeds": [str(s) for s in self.seeds],
        }.items():
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{axis} names {twice} more than once")
        if self.metric not in self.metrics:
            raise ValueError(
                f"metric '{self.metric}' is not measured{did_you_mean(self.metric, self.metrics)}; "
                f"remedy: name one of metrics {list(self.metrics)}, without @L, or add it there"
            )
        return self

    def base(self) -> FitConfig:
        """Make the recipe with the suite's L.

        Raises:
            ConfigError: a setting of the recipe cannot be used.
        """
        return build_config(self.whole_recipe())

    def encoding(self, row: RowSpec) -> EncoderConfig:
        """How requests become numbers for a row: as the recipe says, or as the row's `set` does.

        Args:
            row: the row.

        Raises:
            ConfigError: a setting cannot be used.
        """
        own = {"encoder": row.set.get("encoder", {})}
        return build_config(merge(self.whole_recipe(), own)).encoder

    def whole_recipe(self) -> dict[str, Any]:
        """The default recipe, under the suite's own settings and L."""
        own = merge(self.recipe, {"ranker": {"slots": self.slots}})
        return merge(default_recipe(), own)


def load_suite(path: str | Path) -> Suite:
    """Read and check the TOML file of a suite.

    Args:
        path: of the file.

    Raises:
        ConfigError: the file cannot be read, or a setting, row or source is unknown.
    """
    data = read_toml(path, "suite", "name a TOML file such as configs/suites/smoke.toml")
    suite = build_suite(data)
    _check_meant(suite, data)
    return suite


def _check_meant(suite: Suite, data: Mapping[str, Any]) -> None:
    """Refuse what a file says and no cell would heed; suites stored by a run may hold it."""
    labels = [row.label for row in suite.rankers if row.name != "baselines"]
    if "main" in data and suite.main not in labels:
        raise ConfigError(
            f"main '{suite.main}' is the label of no row that learns"
            f"{did_you_mean(suite.main, labels)}; remedy: one of {labels} (option: main)"
        )
    for dataset in suite.datasets:
        ignored = [name for name in ("protocol", "options") if getattr(dataset, name)]
        if dataset.source == "requests" and ignored:
            raise ConfigError(
                f"data set '{dataset.name}' has {ignored}, but its source 'requests' is tables that an "
                f"import has made; remedy: leave them out, or set them in goalrank data import "
                f"(option: datasets)"
            )


def build_suite(data: Mapping[str, Any]) -> Suite:
    """Check a suite given as nested dictionaries.

    Args:
        data: the settings.

    Raises:
        ConfigError: a setting, row or source cannot be used.
    """
    suite = checked(Suite, data, "the suite", "correct them in the file")
    suite.base()
    for dataset in suite.datasets:
        if dataset.source != "requests":
            ImportOptions.from_mapping(import_options(dataset))
    return suite


def import_options(dataset: DatasetSpec) -> dict[str, Any]:
    """Make the options of the import of a data set.

    Args:
        dataset: the data set.
    """
    protocol = {} if dataset.protocol is None else {"protocol": dataset.protocol}
    return {**dataset.options, **protocol}


def dataset_path(dataset: DatasetSpec) -> Path | None:
    """Find the log of a data set.

    Args:
        dataset: the data set.

    Returns:
        Its path; None for the shipped data.

    Raises:
        ConfigError: it does not exist; the message names the nearest folder of GOALRANK_DATA. Or it
            lacks tables that source "requests" needs.
    """
    if dataset.path is None:
        return None
    given = Path(dataset.path)
    root = data_root()
    found = given if given.is_absolute() or root is None else root / given
    if found.exists():
        _check_tables(dataset, found)
        return found
    have = sorted(p.name for p in root.iterdir()) if root else []
    where = f"'{root}'" if root else "GOALRANK_DATA, which names no folder"
    raise ConfigError(
        f"data set '{dataset.name}' was looked for at '{given}' in {where}, and is not there"
        f"{nearest(str(given), have)}; remedy: set GOALRANK_DATA, or goalrank data fetch "
        f"(option: datasets.path)"
    )


def _check_tables(dataset: DatasetSpec, folder: Path) -> None:
    names = [f"{part}.parquet" for part in ("train", "validation", "test")]
    lacking = [name for name in names if not (folder / name).exists()]
    if dataset.source == "requests" and lacking:
        raise ConfigError(
            f"data set '{dataset.name}' is to be tables of requests, but '{folder}' has no "
            f"{', '.join(lacking)}; remedy: name a folder that goalrank data import wrote, or the "
            f"source of this log (option: datasets.path)"
        )
