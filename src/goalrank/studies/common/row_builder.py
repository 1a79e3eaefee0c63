"""`RowBuilder`: makes the fitted ranker of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from goalrank.errors import ConfigError
from goalrank.rankers import Ranker
from goalrank.rewards import Reward
from goalrank.settings import merge
from goalrank.studies.common.fitted_parts import FittedParts, frozen_copy
from goalrank.studies.common.row_specs import COMPOSITES, OWN_TASKS, RowSpec
from goalrank.training import DataFacts, FitConfig, LoopConfig, build_config, resolved, run_stage

_COPY_SEEDS = 10_000  # larger than any seed of a suite
_HELPERS = ("light", "light_loop", "reward", "pretrain")


@dataclass(frozen=True)
class Row:
    """A row to make, with what it is made from.

    Attributes:
        builder: of the data set.
        spec: the row.
        config: its settings.
        seed: of its trainings and draws.
    """

    builder: RowBuilder
    spec: RowSpec
    config: FitConfig
    seed: int

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.spec.label

    @property
    def parts(self) -> FittedParts:
        """What rows of the data set share."""
        return self.builder.parts

    @property
    def slots(self) -> int:
        """L, slots per list."""
        return self.config.ranker.slots

    def reward(self) -> Reward:
        """The reward model that rows share."""
        return self.parts.reward(self.builder.helpers(self.spec), self.seed, self.spec.bias)

    def member(self, name: str) -> Ranker:
        """Train a generator that an evaluator chooses from; rows of other k use the same one.

        Args:
            name: of the ranker.
        """
        loop, kept = self.config.training, self.parts.keep_members
        return self.parts.supervised(self.config, name, loop, self.seed, shared=kept)

    def trained_copies(
        self,
        base: str,
        count: int,
        config: FitConfig | None = None,
        loop: LoopConfig | None = None,
    ) -> list[Ranker]:
        """Train one ranker from several seeds; a smaller count gives the first of them.

        Args:
            base: name of the ranker.
            count: of trainings.
            config: settings; None takes the row's.
            loop: of the training; None takes the row's.
        """
        config, loop = config or self.config, loop or self.config.training
        seeds = (_COPY_SEEDS * (self.seed + 1) + i for i in range(count))
        return [self.parts.supervised(config, base, loop, each) for each in seeds]


class RowBuilder:
    """Makes the rankers of rows on one data set.

    Args:
        parts: fitted models of the data set.
        recipe: of the suite, as nested dictionaries.
    """

    def __init__(self, parts: FittedParts, recipe: Mapping[str, Any]) -> None:
        self.parts = parts
        self.recipe = recipe

    def config(self, row: RowSpec, size: Mapping[str, Any], tuned: Mapping[str, Any]) -> FitConfig:
        """Make the settings of a row.

        Args:
            row: its `set`, `options` and `objective` change the recipe. What is trained on labels
                has a supervised objective, so that it gets the steps of one.
            size: overrides of the `ranker` section.
            tuned: overrides that tuning found.
        """
        own = {"ranker": {"name": row.name, "options": row.options}}
        own = {} if row.is_composite else own
        whole = merge(merge(self.recipe, {"ranker": size}), merge(own, row.set))
        objective = "supervised" if row.trains_on_labels else row.objective
        if objective != "own":
            whole = merge(whole, {"objective": {"name": objective}})
        return build_config(merge(whole, tuned))

    def helpers(self, row: RowSpec) -> FitConfig:
        """Make the settings of the light models and the reward model.

        They are the recipe's, so the same for every row, except what the row sets in these
        sections.

        Args:
            row: the row.
        """
        kept = {k: v for k, v in row.set.items() if k in _HELPERS}
        return self.resolved(build_config(merge(self.recipe, kept)))

    def resolved(self, config: FitConfig) -> FitConfig:
        """Replace what follows from the training requests of the data set.

        Args:
            config: settings, see `config`.
        """
        data = self.parts.data
        return resolved(config, DataFacts.of(data.spec, data.train))

    def fit(self, row: RowSpec, config: FitConfig, seed: int) -> dict[str, Ranker]:
        """Fitted rankers by label: one, or every baseline.

        Args:
            row: the row.
            config: its settings, see `config`.
            seed: of the training.

        Raises:
            ConfigError: the row is impossible on this data.
        """
        config = self.resolved(config)
        if row.is_composite:
            return COMPOSITES[row.name](Row(self, row, config, seed), **row.options)
        return {row.label: self._single(row, config, seed)}

    def _single(self, row: RowSpec, config: FitConfig, seed: int) -> Ranker:
        name = row.name
        if row.labels_only:
            return self.parts.supervised(config, name, config.training, seed)
        if row.objective == "own" and name in OWN_TASKS:
            return self._rewarded(row, config, seed)
        return self._grouped(row, config, seed)

    def _grouped(self, row: RowSpec, config: FitConfig, seed: int) -> Ranker:
        """Train GoalRank, or any ranker, on groups of lists."""
        helpers = self.helpers(row)
        config = config.model_copy(update={"seed": seed})
        if not self.parts.untrained(config).trainable:
            raise ConfigError(
                f"ranker '{row.name}' has no weights that gradients could fit, so objective "
                f"'{row.objective}' is impossible; option: rankers.objective"
            )
        reward = self.parts.reward(helpers, seed, row.bias)
        light = {
            name: self.parts.supervised(helpers, name, helpers.light_loop, seed, shared=True)
            for name in (helpers.light if config.group.light else ())
        }

        encoder = self.parts.pretrained(config)

        def fit(place: Path) -> Ranker:
            job = self.parts.job(config, place)
            job.fitted.rankers.update(light)
            return job.fit_generator(job.teacher(reward), encoder)

        settings = [
            "grouped",
            config.model_dump(mode="json"),
            helpers.model_dump(mode="json"),
            row.bias.model_dump(),
        ]
        return self.parts.load_or_fit(row.name, settings, lambda: self.parts.untrained(config), fit)

    def _rewarded(self, row: RowSpec, config: FitConfig, seed: int) -> Ranker:
        """Train EGRank by PPO or NLGR by neighbours, after a warm start on labels."""
        helpers = self.helpers(row)
        reward = self.parts.reward(helpers, seed, row.bias)
        warm = self.parts.supervised(config, row.name, config.light_loop, seed)
        slots = config.ranker.slots
        number = seed * 31 + 7

        def fit(place: Path) -> Ranker:
            torch.manual_seed(number)
            policy = frozen_copy(warm)
            teacher = self.parts.job(helpers, place).teacher(reward)
            task = OWN_TASKS[row.name](
                policy, config.training, number, reward=teacher, slots=slots, **row.task
            )
            options = self.parts.job(config, place).options
            run_stage(task, self.parts.data.train, self.parts.data.validation, options)
            return policy

        settings = [
            "rewarded",
            seed,
            row.task,
            row.bias.model_dump(),
            config.model_dump(mode="json", exclude={"seed"}),
            helpers.model_dump(mode="json"),
        ]
        return self.parts.load_or_fit(row.name, settings, lambda: self.parts.untrained(config), fit)


def module_parameters(rankers: Mapping[str, Ranker]) -> tuple[int, int]:
    """Count the parameters of all modules that serve, including the evaluator.

    Shared modules count once.

    Args:
        rankers: name → ranker.

    Returns:
        All parameters, and those outside id tables.
    """
    seen: dict[int, tuple[int, bool]] = {}
    for ranker in rankers.values():
        for name, parameter in ranker.named_parameters():
            seen[id(parameter)] = (parameter.numel(), ".ids." in f".{name}")
    return sum(n for n, _ in seen.values()), sum(n for n, ids in seen.values() if not ids)
