"""Fitted parts that several cells need: computed once a folder, found again afterwards.

A stage's folder is named by a hash of all settings it depends on. The light models, the reward model that
serves every generator-evaluator and GoalRank, and the small copies of a multi-generator are such parts.
"""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from goalrank.rankers import Ranker, build_ranker
from goalrank.rewards import Ensemble, Reward
from goalrank.storage import holding, whole_file, write_text
from goalrank.studies.common.biased_reward import BiasedReward
from goalrank.studies.common.cells import digest
from goalrank.studies.common.datasets import EncodedDataset
from goalrank.studies.common.row_specs import BiasSpec
from goalrank.training import FitConfig, Job, LoopConfig, RunOptions, build_reward

M = TypeVar("M", bound=nn.Module)


@dataclass
class FittedParts:
    """One data set, one seed: where rows fetch their parts.

    Attributes:
        folder: the benchmark's.
        options: accelerator and so on; folders are set stage by stage.
        scratch: where parts of a trial go, None = with the others; shared parts never do.
        keep_members: whether generators that an evaluator chooses from are shared parts.
        seconds: of the parts fetched, whether computed now or earlier, by stage.
    """

    folder: Path
    data: EncodedDataset
    options: RunOptions
    scratch: Path | None = None
    keep_members: bool = True
    seconds: dict[str, float] = field(default_factory=dict)

    def job(self, config: FitConfig, place: Path) -> Job:
        """A training job in a folder."""
        options = replace(self.options, folder=place, resume=False, progress=False)
        return Job(self.data.spec, self.data.train, self.data.validation, config, options)

    def stage(
        self,
        name: str,
        settings: Any,
        empty: Callable[[], M],
        fit: Callable[[Path], M],
        *,
        shared: bool = False,
    ) -> M:
        """A fitted module: from the folder if it is there, else fitted and kept.

        Args:
            name: for people; part of the folder's name.
            settings: everything that the result depends on beside the data.
            empty: an unfitted module of the same shape.
            fit: fits one in a folder that is removed afterwards.
            shared: trials of other rows need it too.
        """
        root = self.folder / "shared" / "stages"
        root = root if shared or self.scratch is None else self.scratch
        place = root / f"{name}.{digest([self.data.key, settings])}"
        done, weights = place / "done.json", place / "weights.safetensors"
        with holding(place.with_name(place.name + ".lock")):
            if done.exists():
                module = empty()
                _load(module, weights)
            else:
                shutil.rmtree(place, ignore_errors=True)
                start = time.perf_counter()
                module = fit(place / "run")
                module.cpu()
                _save(module, weights)
                content = {"seconds": time.perf_counter() - start, "settings": settings}
                write_text(done, json.dumps(content, indent=1))
                shutil.rmtree(place / "run", ignore_errors=True)  # checkpoints; weights are kept
            self.seconds[place.name] = float(json.loads(done.read_text())["seconds"])
        return module.eval()

    def supervised(
        self, config: FitConfig, name: str, loop: LoopConfig, seed: int, *, shared: bool = False
    ) -> Ranker:
        """A ranker fitted by its own supervised loss, or as it is where nothing can be learned."""
        config = _at(config, name, seed)

        def fit(place: Path) -> Ranker:
            job = self.job(config, place)
            return job.fit_supervised(name, loop, self.pretrained(config))

        settings = [*_common(config), "supervised", config.ranker.model_dump(), loop.model_dump()]
        return self.stage(name, settings, lambda: self.empty(config), fit, shared=shared)

    def empty(self, config: FitConfig) -> Ranker:
        """An unfitted ranker."""
        return build_ranker(self.data.spec, config.ranker)

    def pretrained(self, config: FitConfig) -> Mapping[str, Tensor] | None:
        """Weights of a pre-trained encoder, kept as a stage of its own."""
        if config.pretrain == 0:
            return None
        plain = config.training.model_dump()
        settings = [*_common(config), "encoder", config.ranker.sizes().__dict__, plain]
        place = self.folder / "shared" / "stages" / f"encoder.{digest([self.data.key, settings])}"
        found = place / "pretrain" / "weights.safetensors"
        with holding(place.with_name(place.name + ".lock")):
            if not found.exists():
                start = time.perf_counter()
                self.job(config, place).pretrain()
                self.seconds[place.name] = time.perf_counter() - start
        return load_file(found)

    def reward(self, config: FitConfig, seed: int, bias: BiasSpec | None = None) -> Reward:
        """The list reward model, spoilt if a bias is given."""
        config = config.model_copy(update={"seed": seed})
        slots = config.ranker.slots

        def fit(place: Path) -> Reward:
            return self.job(config, place).fit_reward(self.pretrained(config))

        def empty() -> Reward:
            one = config.reward.model_copy(update={"members": 1})
            parts = [
                build_reward(self.data.spec, one, self.data.train, slots)
                for _ in range(config.reward.members)
            ]
            return parts[0] if len(parts) == 1 else Ensemble(parts, config.reward.pessimism)

        # What is observed is added when a policy is taught, not when the model is fitted.
        fitted = config.reward.model_dump(exclude={"observed"})
        settings = [*_common(config), "reward", fitted, slots]
        reward = self.stage("reward", settings, empty, fit, shared=True)
        if bias is None or bias == BiasSpec():
            return reward
        return BiasedReward(reward, bias, self.data.train, slots).eval()


def _at(config: FitConfig, name: str, seed: int) -> FitConfig:
    ranker = config.ranker.model_copy(update={"name": name})
    return config.model_copy(update={"ranker": ranker, "seed": seed})


def _common(config: FitConfig) -> list[Any]:
    return [config.seed, config.pretrain]


def _save(module: nn.Module, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    with whole_file(path) as temporary:
        save_file(state, temporary)


def _load(module: nn.Module, path: Path) -> None:
    module.load_state_dict(load_file(path))


def frozen_copy(ranker: Ranker) -> Ranker:
    """A copy to be trained further, so that a shared part stays as it is."""
    out = copy.deepcopy(ranker)
    for parameter in out.parameters():
        parameter.requires_grad_(True)
    return out


def on_device(options: RunOptions) -> torch.device:
    """Where evaluation runs."""
    wanted = options.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if wanted else "cpu")
