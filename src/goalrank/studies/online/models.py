"""Models of the arms: the common warm start, the training after each day, and files of weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from safetensors.torch import load_file, save_file
from torch import nn

from goalrank.nn import mixed_seed
from goalrank.rankers import Ranker, build_ranker
from goalrank.requests import EncodedRequests, InputSpec
from goalrank.rewards import Ensemble, ListReward, Reward
from goalrank.studies.online.config import DailyConfig
from goalrank.training import (
    CachedScores,
    FitConfig,
    GroupBuilder,
    GroupTask,
    Job,
    LoopConfig,
    RewardTask,
    RunOptions,
    SupervisedTask,
    Task,
    build_reward,
    run_stage,
    unexposed_is_negative,
)

Models = dict[str, nn.Module]


@dataclass(frozen=True)
class ArmTrainer:
    """Trains the models of the arms.

    Attributes:
        spec: input sizes.
        fit: the recipe.
        common: the common log, encoded; new models take their feedback types from it.
        options: of the training stages, which work in `options.folder`.
    """

    spec: InputSpec
    fit: FitConfig
    common: EncodedRequests
    options: RunOptions

    def warm_start(self, names: Iterable[str], seed: int) -> Models:
        """Train models on the common log by the recipe.

        Args:
            names: of the models, in the order of training; "reward" comes before "goalrank".
            seed: of the training.

        Returns:
            Name → trained model.
        """
        config = self.fit.model_copy(update={"seed": seed})
        job = Job(self.spec, self.common, None, config, self.options)
        models: Models = {}
        for name in names:
            if name == "reward":
                models[name] = job.fitted.reward = job.fit_reward()
            elif name == "goalrank":
                ranker = config.ranker.model_copy(update={"name": name})
                job.config = config.model_copy(update={"ranker": ranker, "seed": seed})
                models[name] = job.fit_generator(cast(Reward, models["reward"]))
            else:
                models[name] = job.fit_supervised(name, config.light_loop)
        return models

    def retrain(
        self, models: Models, train: EncodedRequests, daily: DailyConfig, seed: int
    ) -> None:
        """Train models further on the logs of their arm, in place and in the order given.

        Args:
            models: name → model.
            train: the arm's own logs.
            daily: steps and learning rate.
            seed: of the training.
        """
        for name, model in models.items():
            model.requires_grad_(True)
            model_seed = mixed_seed(seed, name)
            if name == "reward":
                self._retrain_reward(cast(Reward, model), train, daily, model_seed)
            elif name == "goalrank":
                loop = daily.loop(self.fit.training, daily.training)
                self._run(self._group_task(models, train, loop, model_seed), train)
            else:
                loop = daily.loop(self.fit.light_loop, daily.light)
                ranker, slots = cast(Ranker, model), self.fit.ranker.slots
                self._run(SupervisedTask(ranker, loop, model_seed, slots), train)
            model.eval()

    def _retrain_reward(
        self, reward: Reward, train: EncodedRequests, daily: DailyConfig, seed: int
    ) -> None:
        config = self.fit.reward
        loop = daily.loop(config.loop, daily.reward)
        negative = unexposed_is_negative(config, train)
        for i, member in enumerate(reward.members):
            task = RewardTask(
                cast(ListReward, member), loop, mixed_seed(seed, i), slots=self.fit.ranker.slots,
                negative=negative, lists=config.lists,
            )  # fmt: skip
            self._run(task, train)

    def _group_task(
        self, models: Models, train: EncodedRequests, loop: LoopConfig, seed: int
    ) -> GroupTask:
        light = [cast(Ranker, models[name]) for name in self.fit.light]
        proposers = [CachedScores(r, train) if r.scores_candidates else r for r in light]
        groups = GroupBuilder(
            self.fit.group, self.fit.ranker.slots, proposers if self.fit.group.light else []
        )
        return GroupTask(
            cast(Ranker, models["goalrank"]), loop, seed, reward=cast(Reward, models["reward"]),
            groups=groups, objective=self.fit.objective,
        )  # fmt: skip

    def _run(self, task: Task[Any], train: EncodedRequests) -> None:
        run_stage(task, train, None, replace(self.options, folder=self.options.folder / "stage"))

    def untrained(self, names: Iterable[str]) -> Models:
        """Make models with random weights.

        Args:
            names: of the models.
        """
        out: Models = {}
        for name in names:
            if name == "reward":
                one = self.fit.reward.model_copy(update={"members": 1})
                parts = [
                    build_reward(self.spec, one, self.common, self.fit.ranker.slots)
                    for _ in range(self.fit.reward.members)
                ]
                ensemble = Ensemble(parts, self.fit.reward.pessimism)
                out[name] = parts[0] if len(parts) == 1 else ensemble
            else:
                ranker = self.fit.ranker.model_copy(update={"name": name})
                out[name] = build_ranker(self.spec, ranker)
        return out

    def load(self, path: Path, names: Sequence[str]) -> Models:
        """Load models from a file of `save_models`.

        Args:
            path: of the file.
            names: of the models to load.
        """
        weights = load_file(path) if names else {}
        models = self.untrained(names)
        for name, model in models.items():
            prefix = f"{name}/"
            own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            model.load_state_dict(own)
            model.eval()
        return models


def save_models(models: Mapping[str, nn.Module], path: Path) -> None:
    """Write the weights of models into one file.

    Args:
        models: name → model.
        path: of the file; it is not written atomically, so give a temporary one.
    """
    weights = {
        f"{name}/{key}": value.detach().cpu().contiguous().clone()
        for name, model in models.items()
        for key, value in model.state_dict().items()
    }
    save_file(weights, path)
