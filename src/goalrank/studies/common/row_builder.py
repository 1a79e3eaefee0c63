"""`RowBuilder`: makes the fitted ranker of a row."""

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
_MEMBERS = ("dnn", "prm", "generator")  # rankers from which the diverse generators are made
_OWN_TASK: dict[str, Callable[..., Task[Any]]] = {"egrank": PPOTask, "nlgr": NeighbourTask}
_COPY = {"base": "generator", "width": 32, "layers": 1, "steps": 0}
_SELECT = 1000  # validation requests on which CLIG chooses its generators
_COPY_SEEDS = 10_000  # larger than any seed of a suite


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
            row: its `set`, `options` and `objective` change the recipe.
            size: overrides of the `ranker` section.
            tuned: overrides that tuning found.
        """
        plain = row.name not in COMPOSITES
        own = {"ranker": {"name": row.name, "options": row.options}} if plain else {}
        whole = merge(merge(self.recipe, {"ranker": size}), merge(own, row.set))
        if row.objective != "own":
            whole = merge(whole, {"objective": {"name": row.objective}})
        return build_config(merge(whole, tuned))

    def helpers(self, row: RowSpec) -> FitConfig:
        """Make the settings of the light models and the reward model.

        They are the recipe's, so the same for every row, except what the row sets in these
        sections.

        Args:
            row: the row.
        """
        kept = {k: v for k, v in row.set.items() if k in _HELPERS}
        return build_config(merge(self.recipe, kept))

    def fit(self, row: RowSpec, config: FitConfig, seed: int) -> dict[str, Ranker]:
        """Fitted rankers by label: one, or every baseline.

        Args:
            row: the row.
            config: its settings, see `config`.
            seed: of the training.

        Raises:
            ConfigError: the row is impossible on this data.
        """
        if row.name == "baselines":
            return dict(
                audit_baselines(self.parts.data.train, self.parts.data.info.candidate_features)
            )
        if row.name in _COMPOSITE:
            return {row.label: _COMPOSITE[row.name](self, row, config, seed, row.options)}
        return {row.label: self._single(row, config, seed)}

    def _single(self, row: RowSpec, config: FitConfig, seed: int) -> Ranker:
        name = row.name
        if row.labels_only:
            return self.parts.supervised(config, name, config.training, seed)
        if row.objective == "own" and name in _OWN_TASK:
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

        def fit(place: Path) -> Ranker:
            job = self.parts.job(config, place)
            job.fitted.rankers.update(light)
            return job.fit_generator(job.teacher(reward), self.parts.pretrained(config))

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
            task = _OWN_TASK[row.name](
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

    def best_of(
        self, row: RowSpec, config: FitConfig, seed: int, options: Mapping[str, Any]
    ) -> Ranker:
        """Make a generator–evaluator: one generator draws lists, the shared reward picks one.

        Args:
            row: the row.
            config: its settings.
            seed: of the training and of the draws.
            options: `base` (a ranker), `lists` (number of draws), `temperature`.
        """
        base = self._member(config, str(options.get("base", "prm")), seed)
        reward = self.parts.reward(self.helpers(row), seed, row.bias)
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
        """Make a ranker that sorts candidates by the shared reward.

        Args:
            row: the row.
            config: not used.
            seed: of the reward model.
            options: not used.
        """
        return EvaluatorSort(self.parts.reward(self.helpers(row), seed, row.bias))

    def mg_e(
        self, row: RowSpec, config: FitConfig, seed: int, options: Mapping[str, Any]
    ) -> Ranker:
        """Make a multi-generator: k different generators from three trained rankers.

        Args:
            row: the row.
            config: its settings.
            seed: of the training and of the draws.
            options: `k`.
        """
        rankers = self._members(config, seed)
        members = diverse_members(int(options.get("k", 20)), rankers, self._features())
        reward = self.parts.reward(self.helpers(row), seed, row.bias)
        return MultiGenerator(rankers, members, reward, seed)

    def clig(
        self, row: RowSpec, config: FitConfig, seed: int, options: Mapping[str, Any]
    ) -> Ranker:
        """Make CLIG: k generators of a pool, chosen by reward and coverage on validation requests.

        Args:
            row: the row.
            config: its settings.
            seed: of the training and of the draws.
            options: `k`, `pool` (number of generators), `weight` (of coverage).
        """
        rankers = self._members(config, seed)
        pool = diverse_members(int(options.get("pool", 100)), rankers, self._features())
        reward = self.parts.reward(self.helpers(row), seed, row.bias)
        whole = MultiGenerator(rankers, pool, reward, seed).eval()
        requests = self.parts.data.validation
        if len(requests) > _SELECT:
            requests = requests.take(torch.arange(_SELECT).numpy())
        lists, rewards = member_lists(whole, requests, config.ranker.slots)
        k = min(int(options.get("k", 20)), len(pool))
        chosen = select_members(lists, rewards, k, float(options.get("weight", 1.0)))
        return MultiGenerator(rankers, [pool[i] for i in chosen], reward, seed)

    def mg_e_copies(
        self, row: RowSpec, config: FitConfig, seed: int, options: Mapping[str, Any]
    ) -> Ranker:
        """Make a multi-generator of k small generators that differ in their seed.

        Rows of smaller k share the first ones.

        Args:
            row: the row.
            config: its settings.
            seed: the seeds of the copies are made from it.
            options: `k`, `base` (a ranker), `width`, `layers`, `steps`.
        """
        small = {**_COPY, **options}
        sizes = {"width": int(small["width"]), "layers": int(small["layers"])}
        heads = config.ranker.heads or 2
        heads = heads if sizes["width"] % heads == 0 else 2
        ranker = config.ranker.model_copy(update={**sizes, "heads": heads})
        config = config.model_copy(update={"ranker": ranker})
        steps = int(small["steps"]) or config.training.steps
        loop = config.training.model_copy(update={"steps": steps})
        members = [
            self.parts.supervised(config, str(small["base"]), loop, _COPY_SEEDS * (seed + 1) + i)
            for i in range(int(options.get("k", 3)))
        ]
        return copies(members, self.parts.reward(self.helpers(row), seed, row.bias))

    def _members(self, config: FitConfig, seed: int) -> list[Ranker]:
        return [self._member(config, name, seed) for name in _MEMBERS]

    def _member(self, config: FitConfig, name: str, seed: int) -> Ranker:
        """Train a generator that an evaluator chooses from; rows of other k use the same one."""
        kept = self.parts.keep_members
        return self.parts.supervised(config, name, config.training, seed, shared=kept)

    def _features(self) -> int:
        return self.parts.data.spec.candidate_features


_Make = Callable[[RowBuilder, RowSpec, FitConfig, int, Mapping[str, Any]], Ranker]
_COMPOSITE: dict[str, _Make] = {
    "best_of": RowBuilder.best_of,
    "mg_e": RowBuilder.mg_e,
    "mg_e_copies": RowBuilder.mg_e_copies,
    "clig": RowBuilder.clig,
    "evaluator_sort": RowBuilder.evaluator_sort,
}


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
