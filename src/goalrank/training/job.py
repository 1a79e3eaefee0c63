"""The job: light models, a reward model, and the generator taught by it."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from goalrank._version import __version__
from goalrank.encoders import EncoderSizes, deferred_tables
from goalrank.errors import ConfigError
from goalrank.nn import mixed_seed
from goalrank.rankers import Ranker, build_ranker
from goalrank.requests import EncodedRequests, InputSpec
from goalrank.rewards import Ensemble, ListReward, ObservedGain, Reward, Weighted
from goalrank.settings import old_names_accepted
from goalrank.training.config import FitConfig, LoopConfig, RewardConfig, build_config
from goalrank.training.distributed.options import RunOptions
from goalrank.training.distributed.process_group import (
    all_reduce_max,
    barrier,
    check_equal,
    is_distributed,
    is_first,
)
from goalrank.training.groups.builder import GroupBuilder
from goalrank.training.groups.cached_scores import cache_scores
from goalrank.training.loop.stage import run_stage
from goalrank.training.modules.group import GroupTask
from goalrank.training.modules.pretraining import PretrainTask, transfer_encoder
from goalrank.training.modules.reward_model import RewardTask
from goalrank.training.modules.supervised import SupervisedTask
from goalrank.training.objectives.propensity_weights import check_known

Weights = Mapping[str, Tensor]


@dataclass
class Fitted:
    """What a job leaves.

    Attributes:
        rankers: light models by name, and the generator under the configured ranker's name.
        reward: what the generator was taught by; None for a supervised job.
        telemetry: rows of each stage's log.
        seconds: of each stage.
    """

    rankers: dict[str, Ranker] = field(default_factory=dict)
    reward: Reward | None = None
    telemetry: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Job:
    """Stages of one training job; each can be run on its own.

    Attributes:
        spec: input sizes.
        train, validation: encoded requests; validation may be empty or None.
        config: all settings.
        options: how stages run; each gets its own folder inside `options.folder`.
    """

    spec: InputSpec
    train: EncodedRequests
    validation: EncodedRequests | None
    config: FitConfig
    options: RunOptions
    fitted: Fitted = field(default_factory=Fitted)

    def run(self) -> Fitted:
        """All stages of the recipe, in order."""
        pretrained = self.pretrain()
        for name in self.config.light:
            self.fit_supervised(name, self.config.light_loop, pretrained)
        if self.config.objective.name == "supervised":
            self.fit_supervised(self.config.ranker.name, self.config.training, pretrained)
            return self.fitted
        if self.fitted.reward is None:
            self.fitted.reward = self.fit_reward(pretrained)
        self.fit_generator(self.teacher(self.fitted.reward), pretrained)
        return self.fitted

    def teacher(self, learned: Reward) -> Reward:
        """What the generator is taught by: the learned reward, and the logged feedback itself."""
        weight = self.config.reward.observed
        return Weighted([learned, ObservedGain()], [1.0, weight]).eval() if weight else learned

    def stage(self, name: str) -> RunOptions:
        """Options with a stage's own folder."""
        return replace(self.options, folder=self.options.folder / name)

    def _tables(self, loop: LoopConfig) -> AbstractContextManager[None]:
        """Leave large tables that will be sharded undrawn (see `deferred_tables`)."""
        return deferred_tables(loop.shard_items and self.options.is_multi_process)

    def _refuse_parts(self, name: str) -> None:
        if self.options.split_data and is_distributed():
            raise ConfigError(
                f"'{name}' is fitted on the whole table at once, and every process has a part of "
                f"it; remedy: train without --split-data, or without this light model"
            )

    def _seeded(self, name: str, extra: int = 0) -> int:
        """The seed of a stage; also seeds the initial weights."""
        seed = mixed_seed(self.config.seed, extra, name)
        torch.manual_seed(seed)
        return seed

    def pretrain(self) -> Weights | None:
        """Next-item prediction on the training histories; returns the encoder's weights."""
        if self.config.pretrain == 0:
            return None
        start = time.perf_counter()
        seed = self._seeded("pretrain")
        loop = self.config.training.model_copy(
            update={"steps": self.config.pretrain, "patience": 0}
        )
        with self._tables(loop):
            task = PretrainTask(self.spec, self.config.ranker.sizes(), loop, seed)
        options = self.stage("pretrain")
        self.fitted.telemetry["pretrain"] = run_stage(task, self.train, None, options)
        self.fitted.seconds["pretrain"] = time.perf_counter() - start
        return load_file(options.folder / "weights.safetensors")

    def fit_supervised(
        self, name: str, loop: LoopConfig, pretrained: Weights | None = None
    ) -> Ranker:
        """Fit one ranker by its own supervised loss."""
        start = time.perf_counter()
        seed = self._seeded(name)
        with self._tables(loop):
            config = self.config.ranker.model_copy(update={"name": name})
            ranker = build_ranker(self.spec, config)
        slots = self.config.ranker.slots
        if ranker.closed_form:
            self._refuse_parts(name)
            ranker.fit_closed_form(self.train, self.validation, slots, seed)
        elif ranker.trainable:
            transfer_encoder(pretrained, ranker.request_encoder)
            task = SupervisedTask(ranker, loop, seed, slots)
            rows = run_stage(task, self.train, self.validation, self.stage(name))
            self.fitted.telemetry[name] = rows
        self.fitted.seconds[name] = time.perf_counter() - start
        self.fitted.rankers[name] = ranker.eval()
        return ranker

    def fit_reward(self, pretrained: Weights | None = None) -> Reward:
        """Fit the reward ensemble on what was shown and answered."""
        config = self.config.reward
        members = []
        for i in range(config.members):
            members.append(self.fit_reward_member(config, f"reward-{i}", i, pretrained))
        if len(members) == 1:
            return members[0]
        return Ensemble(members, config.pessimism).eval()

    def fit_reward_member(
        self, config: RewardConfig, name: str, index: int = 0, pretrained: Weights | None = None
    ) -> ListReward:
        """Fit one reward model."""
        start = time.perf_counter()
        negative = unexposed_is_negative(config, self.train)
        if config.propensity_cap > 0:
            check_known(self.train, negative)
        seed = self._seeded("reward", index)
        with self._tables(config.loop):
            model = build_reward(self.spec, config, self.train, self.config.ranker.slots)
        transfer_encoder(pretrained, model.encoder)
        task = RewardTask(
            model,
            config.loop,
            seed,
            slots=self.config.ranker.slots,
            negative=negative,
            lists=config.lists,
            listwise=config.listwise,
            propensity_cap=config.propensity_cap,
        )
        self.fitted.telemetry[name] = run_stage(task, self.train, self.validation, self.stage(name))
        self.fitted.seconds[name] = time.perf_counter() - start
        return model.eval()

    def fit_generator(self, reward: Reward, pretrained: Weights | None = None) -> Ranker:
        """Fit the policy against a reward by the configured objective."""
        config = self.config
        start = time.perf_counter()
        name = config.ranker.name
        seed = self._seeded(name)
        with self._tables(config.training):
            ranker = build_ranker(self.spec, config.ranker)
        transfer_encoder(pretrained, ranker.request_encoder)
        if config.objective.warm_start:
            transfer_encoder(_encoder_of(reward), ranker.request_encoder)
        names = config.light if config.group.light else ()
        light = [self.fitted.rankers[n] for n in names if n in self.fitted.rankers]
        visits = config.training.steps * config.training.batch_size
        proposers = [cache_scores(ranker, self.train, visits) for ranker in light]
        groups = GroupBuilder(config.group, config.ranker.slots, proposers)
        task = GroupTask(
            ranker, config.training, seed, reward=reward, groups=groups, objective=config.objective
        )
        validation = None if config.objective.monitor == "none" else self.validation
        rows = run_stage(task, self.train, validation, self.stage(name))
        reward.cpu()
        self.fitted.telemetry[name] = rows
        self.fitted.seconds[name] = time.perf_counter() - start
        self.fitted.rankers[name] = ranker.eval()
        return ranker


def _encoder_of(reward: Reward) -> Weights:
    """The weights of a reward model's encoder; of several models the first one's."""
    weights = reward.encoder_state()
    if weights is None:
        raise ConfigError(
            "this generator is taught by a reward without an encoder to begin with; remedy: train "
            "without a warm start (option: objective.warm_start)"
        )
    return weights


def run_job(
    spec: InputSpec,
    train: EncodedRequests,
    validation: EncodedRequests | None,
    config: FitConfig,
    options: RunOptions,
) -> Fitted:
    """Run a whole recipe; see `Job`. The recipe is kept in the folder and checked on resume.

    Raises:
        ConfigError: resuming with another recipe than the one that was started.
    """
    record = options.folder / "recipe.json"
    text = config.model_dump_json(indent=2)
    check_equal(_facts(spec, train, validation, text, options))
    if options.resume and record.exists() and not _same_settings(record, config):
        raise ConfigError(
            f"'{options.folder}' holds a job with other settings; remedy: resume with the same "
            f"settings, or start afresh without --resume"
        )
    barrier()  # until all have compared
    if is_first():
        options.folder.mkdir(parents=True, exist_ok=True)
        if not options.resume:
            _clear(options.folder)
        record.write_text(text)
    barrier()
    return Job(spec, train, validation, config, options).run()


def _same_settings(record: Path, config: FitConfig) -> bool:
    """Whether a recorded recipe, also one with old names of settings, is this one."""
    try:
        with old_names_accepted():
            return build_config(json.loads(record.read_text())) == config
    except (ConfigError, ValueError):
        return False


def _clear(folder: Path) -> None:
    """Remove an earlier job's stages: a later resumption must not take them for its own."""
    for name in ("weights.safetensors", "checkpoints"):
        for found in folder.glob(f"*/{name}"):
            shutil.rmtree(found.parent, ignore_errors=True)


def _facts(
    spec: InputSpec,
    train: EncodedRequests,
    validation: EncodedRequests | None,
    config: str,
    options: RunOptions,
) -> dict[str, str | bytes]:
    """Facts that must be the same in all processes of a job."""
    versions = f"{__version__} {torch.__version__}"
    facts: dict[str, str | bytes] = {
        "versions of goalrank and torch": versions,
        "settings": f"{config} {options.strategy} {options.split_data}",
        "the data's vocabularies": str(spec),
    }
    if not options.split_data:
        facts["training data"] = _digest(train)
        facts["validation data"] = b"" if validation is None else _digest(validation)
    return facts


def _digest(columns: EncodedRequests) -> bytes:
    digest = hashlib.sha256(str(columns.kinds).encode())
    for values in (columns.key, columns.candidates, columns.shown, columns.feedback):
        digest.update(np.ascontiguousarray(values).view(np.uint8).data)
    return digest.digest()


def unexposed_is_negative(config: RewardConfig, columns: EncodedRequests) -> bool:
    """Whether candidates that were not shown count as having no feedback."""
    if config.unexposed == "auto":
        return columns.protocol != "exposed"
    return config.unexposed == "negative"


def build_reward(
    spec: InputSpec, config: RewardConfig, train: EncodedRequests, slots: int
) -> ListReward:
    """A fresh reward model for a table's feedback kinds.

    Raises:
        ConfigError: a kind that does not exist, is not within [0, 1], or weights that do not fit.
    """
    kinds = tuple(config.kinds) if config.kinds is not None else probability_kinds(train)
    _check_kinds(kinds, train)
    target = train.kinds[train.target] if train.target >= 0 else kinds[0]
    weights = config.weights or tuple(float(kind == target) for kind in kinds)
    if len(weights) != len(kinds):
        raise ConfigError(
            f"{len(weights)} weights for {len(kinds)} kinds {list(kinds)}; option: reward.weights"
        )
    if not any(weights):
        weights = (1.0,) * len(kinds)
    dcg = config.slot_weights == "dcg" or (
        config.slot_weights == "auto" and train.protocol != "exposed"
    )
    shown = int(all_reduce_max([np.diff(train.shown_start).max(initial=1)])[0])

    sizes = EncoderSizes(
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        dropout=config.dropout,
        id_dropout=config.id_dropout,
        user_ids=config.user_ids,
        id_width=config.id_width,
    )
    return ListReward(
        spec,
        sizes,
        kinds,
        weights,
        list_layers=config.list_layers,
        relations=config.relations,
        slots=max(shown, slots) if not unexposed_is_negative(config, train) else slots,
        slot_weights=[1 / np.log2(t + 2) for t in range(max(slots, 50))] if dcg else None,
        causal=config.causal,
        positions=config.positions,
        link=config.link,
    )


def probability_kinds(train: EncodedRequests) -> tuple[str, ...]:
    """Feedback kinds whose training values all lie in [0, 1]."""
    low = -all_reduce_max(-train.feedback.min(0, initial=0.0))
    high = all_reduce_max(train.feedback.max(0, initial=0.0))
    return tuple(
        kind for kind, a, b in zip(train.kinds, low, high, strict=True) if a >= 0 and b <= 1
    )


def _check_kinds(kinds: Sequence[str], train: EncodedRequests) -> None:
    if not kinds:
        raise ConfigError(
            f"no feedback kind of {list(train.kinds)} lies in [0, 1], so there is nothing whose "
            f"probability could be learned; remedy: add a 0/1 kind; option: reward.kinds"
        )
    good = probability_kinds(train)
    for kind in kinds:
        if kind not in train.kinds:
            raise ConfigError(
                f"feedback kind '{kind}' is not in the table, which has {list(train.kinds)}; "
                f"option: reward.kinds"
            )
        if kind not in good:
            raise ConfigError(
                f"feedback kind '{kind}' has values outside [0, 1], so it is no probability; "
                f"remedy: add a scaled or 0/1 version of it; option: reward.kinds"
            )
