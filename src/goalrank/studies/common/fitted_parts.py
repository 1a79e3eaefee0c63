"""Fitted models that several cells need: trained once per folder and loaded afterwards.

The folder of a model is named by a hash of all that it depends on: data, settings and the code of the
package, so that a changed checkout trains anew. Such models are the light models, the reward model of
GoalRank and of every generator–evaluator, and the small copies of a multi-generator.
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

from goalrank.models import source_digest
from goalrank.rankers import Ranker, build_ranker
from goalrank.rewards import Ensemble, Reward
from goalrank.storage import holding, whole_file, write_text
from goalrank.studies.common.biased_reward import BiasedReward
from goalrank.studies.common.cells import json_hash
from goalrank.studies.common.datasets import EncodedDataset
from goalrank.studies.common.row_specs import BiasSpec
from goalrank.training import (
    FitConfig,
    Job,
    LinearStart,
    LoopConfig,
    RunOptions,
    build_reward,
    read_comparison,
)

M = TypeVar("M", bound=nn.Module)


@dataclass
class FittedParts:
    """Fitted models of one data set.

    Attributes:
        folder: of the benchmark.
        data: the data set.
        options: of the training; each stage gets its own folder.
        scratch: folder of models that are not shared; None keeps them with the shared ones.
        keep_members: whether the generators that an evaluator chooses from are shared.
        seconds: name of model → seconds of its training, now or earlier.
        kept: name of ranker → "start" or "trained": which was better on validation; only models that
            begin as a linear solution have it.
    """

    folder: Path
    data: EncodedDataset
    options: RunOptions
    scratch: Path | None = None
    keep_members: bool = True
    seconds: dict[str, float] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    _linear: dict[tuple[int, int], LinearStart] = field(default_factory=dict)

    def job(self, config: FitConfig, place: Path) -> Job:
        """Make a training job; as in one job, linear solutions are solved once for all parts.

        Args:
            config: its recipe.
            place: its folder.
        """
        options = replace(self.options, folder=place, resume=False, progress=False)
        job = Job(self.data.spec, self.data.train, self.data.validation, config, options)
        own = (job.config.ranker.slots, job.config.seed)
        job.linear_start = self._linear.setdefault(own, job.linear_start)
        return job

    def file_name(self, name: str, settings: object) -> str:
        """Name the file or folder of what is fitted to the data by this code.

        Args:
            name: for people, and the first part.
            settings: everything that the result depends on, except data and code.
        """
        return f"{safe_name(name)}.{json_hash([source_digest(), self.data.key, settings])}"

    def load_or_fit(
        self,
        name: str,
        settings: object,
        empty: Callable[[], M],
        fit: Callable[[Path], M],
        *,
        shared: bool = False,
    ) -> M:
        """Load a fitted module, or fit it and keep it.

        Args:
            name: for people; part of the folder's name.
            settings: everything that the result depends on, except data and code.
            empty: makes a module of the same shape with random weights.
            fit: fits a module in a folder that is removed afterwards.
            shared: whether other rows need it too, so that it is never in `scratch`.

        Returns:
            The module, on the CPU and in evaluation mode.
        """
        root = self.folder / "shared" / "stages"
        root = root if shared or self.scratch is None else self.scratch
        place = root / self.file_name(name, settings)
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
                seconds = time.perf_counter() - start
                found = read_comparison(place / "run" / safe_name(name))
                kept = None if found is None else found.kept
                content = {"seconds": seconds, "kept": kept, "settings": settings}
                write_text(done, json.dumps(content, indent=1))
                shutil.rmtree(place / "run", ignore_errors=True)  # checkpoints; weights are kept
            facts = json.loads(done.read_text())
            self.seconds[place.name] = float(facts["seconds"])
            if facts.get("kept") is not None:
                self.kept[name] = facts["kept"]
        return module.eval()

    def supervised(
        self, config: FitConfig, name: str, loop: LoopConfig, seed: int, *, shared: bool = False
    ) -> Ranker:
        """Train a ranker by its own supervised loss; one without weights stays as it is.

        Args:
            config: the recipe.
            name: of the ranker.
            loop: of the training.
            seed: of the training.
            shared: see `load_or_fit`.
        """
        config = _at(config, name, seed)
        encoder = self.pretrained(config)  # before the clock of what begins with it

        def fit(place: Path) -> Ranker:
            return self.job(config, place).fit_supervised(name, loop, encoder)

        settings = [*_common(config), "supervised", config.ranker.model_dump(), loop.model_dump()]
        return self.load_or_fit(name, settings, lambda: self.untrained(config), fit, shared=shared)

    def untrained(self, config: FitConfig) -> Ranker:
        """Make a ranker with random weights.

        Args:
            config: the recipe.
        """
        return build_ranker(self.data.spec, config.ranker)

    def pretrained(self, config: FitConfig) -> Mapping[str, Tensor] | None:
        """Load the weights of the pre-trained encoder, or pre-train it.

        Args:
            config: the recipe.

        Returns:
            The weights; None if the recipe has no pre-training.
        """
        if config.pretrain == 0:
            return None
        plain = config.training.model_dump()
        settings = [*_common(config), "encoder", config.ranker.sizes().__dict__, plain]
        place = self.folder / "shared" / "stages" / self.file_name("encoder", settings)
        done, weights = place / "done.json", place / "pretrain" / "weights.safetensors"
        with holding(place.with_name(place.name + ".lock")):
            if not done.exists():
                shutil.rmtree(place, ignore_errors=True)
                start = time.perf_counter()
                self.job(config, place).pretrain()
                write_text(done, json.dumps({"seconds": time.perf_counter() - start}))
            self.seconds[place.name] = float(json.loads(done.read_text())["seconds"])
        return load_file(weights)

    def reward(self, config: FitConfig, seed: int, bias: BiasSpec | None = None) -> Reward:
        """Load or train the reward model.

        Args:
            config: the recipe.
            seed: of the training.
            bias: added to the reward; None adds none.
        """
        config = config.model_copy(update={"seed": seed})
        slots = config.ranker.slots
        encoder = self.pretrained(config)

        def fit(place: Path) -> Reward:
            return self.job(config, place).fit_reward(encoder)

        def empty() -> Reward:
            one = config.reward.model_copy(update={"members": 1})
            parts = [
                build_reward(self.data.spec, one, self.data.train, slots)
                for _ in range(config.reward.members)
            ]
            return parts[0] if len(parts) == 1 else Ensemble(parts, config.reward.pessimism)

        # Observed feedback is added when a policy is trained, not when the model is fitted.
        fitted = config.reward.model_dump(exclude={"observed"})
        settings = [*_common(config), "reward", fitted, slots]
        reward = self.load_or_fit("reward", settings, empty, fit, shared=True)
        if bias is None or bias == BiasSpec():
            return reward
        return BiasedReward(reward, bias, self.data.train, slots).eval()


def safe_name(name: str) -> str:
    """Make a class path a file's name: not every system has ":" in names.

    Args:
        name: of a ranker.
    """
    return name.replace(":", ".")


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
    """Copy a ranker to train it further, so that the shared one stays as it is.

    Args:
        ranker: the ranker.
    """
    out = copy.deepcopy(ranker)
    for parameter in out.parameters():
        parameter.requires_grad_(True)
    return out


def on_device(options: RunOptions) -> torch.device:
    """Choose the device of evaluation.

    Args:
        options: gives the accelerator.
    """
    wanted = options.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if wanted else "cpu")
