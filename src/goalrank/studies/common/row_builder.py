"""From a row of the suite to a fitted ranker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from goalrank.errors import ConfigError
from goalrank.evaluation import audit_baselines
from goalrank.rankers import (
    BestOf,
    EvaluatorSort,
    MultiGenerator,
    Ranker,
    copies,
    diverse_members,
    member_lists,
    select_members,
)
from goalrank.settings import merge
from goalrank.studies.common.fitted_parts import FittedParts, frozen_copy
from goalrank.studies.common.row_specs import COMPOSITES, RowSpec
from goalrank.training import FitConfig, NeighbourTask, PPOTask, Task, build_config, run_stage

_HELPERS = ("light", "light_loop", "reward", "pretrain")
_MEMBERS = ("dnn", "prm", "generator")  # what the diverse generators stand on
_OWN_TASK: dict[str, Callable[..., Task[Any]]] = {"egrank": PPOTask, "nlgr": NeighbourTask}
_COPY = {"base": "generator", "width": 32, "layers": 1, "steps": 0}
_SELECT = 1000  # validation requests that CLIG chooses its generators on
_COPY_SEEDS = 10_000  # apart from any seed of a suite


class RowBuilder:
    """Fits rows of one data set.

    Args:
        lab: parts.
        recipe: the suite's, as nested dictionaries.
    """

    def __init__(self, lab: FittedParts, recipe: Mapping[str, Any]) -> None:
        self.lab = lab
        self.recipe = recipe

    def config(self, row: RowSpec, size: Mapping[str, Any], tuned: Mapping[str, Any]) -> FitConfig:
        """All settings of a row: the recipe, the size, the row's own, what tuning found."""
        plain = row.name not in COMPOSITES
        own = {"ranker": {"name": row.name, "options": row.options}} if plain else {}
        whole = merge(merge(self.recipe, {"ranker": size}), merge(own, row.set))
        if row.objective != "own":
            whole = merge(whole, {"objective": {"name": row.objective}})
        return build_config(merge(whole, tuned))

    def helpers(self, row: RowSpec) -> FitConfig:
        """Settings of the light models and the reward: the recipe's, the same for every row, but
        for what the row changes in just those sections."""
        kept = {k: v for k, v in row.set.items() if k in _HELPERS}
        return build_config(merge(self.recipe, kept))

    def fit(self, row: RowSpec, config: FitConfig, seed: int) -> dict[str, Ranker]:
        """Fitted rankers by label: one, or every baseline.

        Args:
            config: see `config`.

        Raises:
            ConfigError: the row cannot be had on this data.
        """
        if row.name == "baselines":
            return dict(audit_baselines(self.lab.data.train, self.lab.data.info.candidate_features))
        if row.name in _COMPOSITE:
            return {row.label: _COMPOSITE[row.name](self, row, config, seed, row.options)}
        return {row.label: self._single(row, config, seed)}

    def _single(self, row: RowSpec, config: FitConfig, seed: int) -> Ranker:
        name = row.name
        if row.labels_only:
            return self.lab.supervised(config, name, config.training, seed)
        if row.objective == "own" and name in _OWN_TASK:
            return self._rewarded(row, config, seed)
        return self._grouped(row, config, seed)

    def _grouped(self, row: RowSpec, config: FitConfig, seed: int) -> Ranker:
        """GoalRank's training, or any ranker's against the same groups."""
        helpers = self.helpers(row)
        config = config.model_copy(update={"seed": seed})
        if not self.lab.empty(config).trainable:
            raise ConfigError(
                f"ranker '{row.name}' has no weights that gradients could fit, so objective "
                f"'{row.objective}' is impossible; option: rankers.objective"
            )
        reward = self.lab.reward(helpers, seed, row.bias)
        light = {
            name: self.lab.supervised(helpers, name, helpers.light_loop, seed, shared=True)
            for name in (helpers.light if config.group.light else ())
        }

        def fit(place: Path) -> Ranker:
            job = self.lab.job(config, place)
            job.fitted.rankers.update(light)
            return job.fit_generator(job.teacher(reward), self.lab.pretrained(config))

        settings = [
            "grouped",
            config.model_dump(mode="json"),
            helpers.model_dump(mode="json"),
            row.bias.model_dump(),
        ]
        return self.lab.stage(row.name, settings, lambda: self.lab.empty(config), fit)

    def _rewarded(self, row: RowSpec, config: FitConfig, seed: int) -> Ranker:
        """EGRank by PPO, NLGR by neighbours; both from a warm start on labels."""
        helpers = self.helpers(row)
        reward = self.lab.reward(helpers, seed, row.bias)
        warm = self.lab.supervised(config, row.name, config.light_loop, seed)
        slots = config.ranker.slots
        number = seed * 31 + 7

        def fit(place: Path) -> Ranker:
            torch.manual_seed(number)
            policy = frozen_copy(warm)
            teacher = self.lab.job(helpers, place).teacher(reward)
            task = _OWN_TASK[row.name](
                policy, config.training, number, reward=teacher, slots=slots, **row.task
            )
            options = self.lab.job(config, place).options
            run_stage(task, self.lab.data.train, self.lab.data.validation, options)
            return policy

        settings = [
            "rewarded",
            seed,
            row.task,
            row.bias.model_dump(),
            config.model_dump(mode="json", exclude={"seed"}),
            helpers.model_dump(mode="json"),
        ]
        return self.lab.stage(row.name, settings, lambda: self.lab.empty(config), fit)

    def best_of(
        self, row: RowSpec, config: FitConfig, seed: int, options: Mapping[str, Any]
    ) -> Ranker:
        """One generator, sampled; the shared reward picks."""
        base = self._member(config, str(options.get("base", "prm")), seed)
        reward = self.lab.reward(self.helpers(row), seed, row.bias)
        return BestOf(
            [base],
            reward,
            lists=int(options.get("lists", 100)),
            temperature=float(options.get("temperature", 1.0)),
            seed=seed,
            slots=config.ranker.slots,
        )

    def evaluator_sort(
        self, row: RowSpec, config: FitConfig, seed: int, options: Mapping[str, Any]
    ) -> Ranker:
        """The shared reward alone."""
        return EvaluatorSort(self.lab.reward(self.helpers(row), seed, row.bias))

    def mg_e(
        self, row: RowSpec, config: FitConfig, seed: int, options: Mapping[str, Any]
    ) -> Ranker:
        """k different generators over three trained rankers."""
        rankers = self._members(config, seed)
        members = diverse_members(int(options.get("k", 20)), rankers, self._features())
        reward = self.lab.reward(self.helpers(row), seed, row.bias)
        return MultiGenerator(rankers, members, reward, seed)

    def clig(
        self, row: RowSpec, config: FitConfig, seed: int, options: Mapping[str, Any]
    ) -> Ranker:
        """k out of a pool of generators, chosen by reward and coverage on validation requests."""
        rankers = self._members(config, seed)
        pool = diverse_members(int(options.get("pool", 100)), rankers, self._features())
        reward = self.lab.reward(self.helpers(row), seed, row.bias)
        whole = MultiGenerator(rankers, pool, reward, seed).eval()
        held = self.lab.data.validation
        some = held if len(held) <= _SELECT else held.take(torch.arange(_SELECT).numpy())
        lists, rewards = member_lists(whole, some, config.ranker.slots)
        k = min(int(options.get("k", 20)), len(pool))
        chosen = select_members(lists, rewards, k, float(options.get("weight", 1.0)))
        return MultiGenerator(rankers, [pool[i] for i in chosen], reward, seed)

    def mg_e_copies(
        self, row: RowSpec, config: FitConfig, seed: int, options: Mapping[str, Any]
    ) -> Ranker:
        """k copies of a small generator, other seeds; smaller k share the first ones."""
        small = {**_COPY, **options}
        sizes = {"width": int(small["width"]), "layers": int(small["layers"])}
        heads = config.ranker.heads or 2
        heads = heads if sizes["width"] % heads == 0 else 2
        ranker = config.ranker.model_copy(update={**sizes, "heads": heads})
        config = config.model_copy(update={"ranker": ranker})
        steps = int(small["steps"]) or config.training.steps
        loop = config.training.model_copy(update={"steps": steps})
        members = [
            self.lab.supervised(config, str(small["base"]), loop, _COPY_SEEDS * (seed + 1) + i)
            for i in range(int(options.get("k", 3)))
        ]
        return copies(members, self.lab.reward(self.helpers(row), seed, row.bias))

    def _members(self, config: FitConfig, seed: int) -> list[Ranker]:
        return [self._member(config, name, seed) for name in _MEMBERS]

    def _member(self, config: FitConfig, name: str, seed: int) -> Ranker:
        """A generator that an evaluator chooses from; rows of other k stand on the same one."""
        kept = self.lab.keep_members
        return self.lab.supervised(config, name, config.training, seed, shared=kept)

    def _features(self) -> int:
        return self.lab.data.spec.candidate_features


_Make = Callable[[RowBuilder, RowSpec, FitConfig, int, Mapping[str, Any]], Ranker]
_COMPOSITE: dict[str, _Make] = {
    "best_of": RowBuilder.best_of,
    "mg_e": RowBuilder.mg_e,
    "mg_e_copies": RowBuilder.mg_e_copies,
    "clig": RowBuilder.clig,
    "evaluator_sort": RowBuilder.evaluator_sort,
}


def module_parameters(rankers: Mapping[str, Ranker]) -> tuple[int, int]:
    """Parameters of all modules that serve, evaluator included; and those beside id tables.

    Shared modules count once.
    """
    seen: dict[int, tuple[int, bool]] = {}
    for ranker in rankers.values():
        for name, parameter in ranker.named_parameters():
            seen[id(parameter)] = (parameter.numel(), ".ids." in f".{name}")
    return sum(n for n, _ in seen.values()), sum(n for n, ids in seen.values() if not ids)
