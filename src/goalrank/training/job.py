"""The job: light models, a reward model, and the generator trained with it."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from goalrank._version import __version__
from goalrank.encoders import deferred_tables
from goalrank.errors import ConfigError
from goalrank.nn import mixed_seed
from goalrank.rankers import RANKERS, Ranker, build_ranker
from goalrank.requests import EncodedRequests, InputSpec
from goalrank.rewards import REWARDS, Ensemble, ListReward, ObservedGain, Reward, Weighted
from goalrank.settings import old_names_accepted
from goalrank.storage import write_text
from goalrank.training.config import (
    LIST_REWARD,
    FitConfig,
    LoopConfig,
    RewardConfig,
    build_config,
    known_weight,
)
from goalrank.training.data_rules import DataFacts, resolved, rules_applied
from goalrank.training.distributed.options import RunOptions
from goalrank.training.distributed.process_group import (
    barrier,
    check_equal,
    is_distributed,
    is_first,
)
from goalrank.training.groups.builder import GroupBuilder
from goalrank.training.groups.cached_scores import cache_scores
from goalrank.training.linear_start import LinearStart
from goalrank.training.loop.stage import run_stage
from goalrank.training.loop.start_candidate import StartComparison, read_comparison
from goalrank.training.modules.group import GroupTask
from goalrank.training.modules.pretraining import PretrainTask, transfer_encoder
from goalrank.training.modules.reward_model import RewardTask
from goalrank.training.modules.supervised import SupervisedTask
from goalrank.training.objectives.group_objectives import OBJECTIVES
from goalrank.training.objectives.propensity_weights import check_known
from goalrank.training.rewards import build_list_reward, build_reward, unexposed_is_negative

Weights = Mapping[str, Tensor]


@dataclass
class Fitted:
    """What a job leaves.

    Attributes:
        rankers: light models by name, and the generator under the configured ranker's name.
        reward: the reward that the generator was trained with; None for a supervised job.
        telemetry: rows of each stage's log.
        seconds: of each stage.
        starts: of each stage that begins as a linear model, what training gained over it.
        notes: sentences on what the data decided.
    """

    rankers: dict[str, Ranker] = field(default_factory=dict)
    reward: Reward | None = None
    telemetry: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    starts: dict[str, StartComparison] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Job:
    """Stages of one training job; each can be run on its own.

    Attributes:
        spec: input sizes.
        train, validation: encoded requests; validation may be empty or None.
        config: all settings; "auto" is replaced by what follows from `train`.
        options: how stages run; each gets its own folder inside `options.folder`.
        fitted: what is finished.
    """

    spec: InputSpec
    train: EncodedRequests
    validation: EncodedRequests | None
    config: FitConfig
    options: RunOptions
    fitted: Fitted = field(default_factory=Fitted)

    def __post_init__(self) -> None:
        """Resolve what follows from the training requests."""
        facts = DataFacts.of(self.spec, self.train, split=self.options.split_data)
        self.rules = rules_applied(self.config, facts)
        self.config = resolved(self.config, facts)

    def run(self) -> Fitted:
        """All stages of the recipe, in order."""
        self._note(*self.rules)
        self._run_stages()
        if self.linear_start.begun is not None:
            self._note(f"networks begin as: {self.linear_start.begun}")
        return self.fitted

    def _note(self, *sentences: str) -> None:
        self.fitted.notes += sentences
        if is_first():
            for sentence in sentences:
                self.options.tell(sentence)

    def _run_stages(self) -> None:
        pretrained = self.pretrain()
        for name in self.config.light:
            self.fit_supervised(name, self.config.light_loop, pretrained)
        if self.config.objective.name == "supervised":
            self.fit_supervised(self.config.ranker.name, self.config.training, pretrained)
            return
        if self.fitted.reward is None:
            self.fitted.reward = self.fit_reward(pretrained)
        self.fit_generator(self.teacher(self.fitted.reward), pretrained)

    @cached_property
    def linear_start(self) -> LinearStart:
        """Linear solutions that networks start from."""
        config = self.config
        return LinearStart(self.spec, self.train, self.validation, config.ranker.slots, config.seed)

    def teacher(self, learned: Reward) -> Reward:
        """The generator's reward: the learned one, and the logged feedback itself."""
        weight = known_weight(self.config.reward.observed)
        return Weighted([learned, ObservedGain()], [1.0, weight]).eval() if weight else learned

    def stage(self, name: str) -> RunOptions:
        """Options with a stage's own folder."""
        place = name.replace(":", ".")  # of a class path; not every system has ":" in names
        return replace(self.options, folder=self.options.folder / place)

    def _note_start(self, name: str) -> None:
        """Keep what a stage found out about its linear start."""
        found = read_comparison(self.stage(name).folder)
        if found is not None:
            self.fitted.starts[name] = found

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
            self.linear_start.give(ranker.wide_path, [self.train.target])
            task = SupervisedTask(ranker, loop, seed, slots)
            rows = run_stage(task, self.train, self.validation, self.stage(name))
            self.fitted.telemetry[name] = rows
            self._note_start(name)
        self.fitted.seconds[name] = time.perf_counter() - start
        self.fitted.rankers[name] = ranker.eval()
        return ranker

    def fit_reward(self, pretrained: Weights | None = None) -> Reward:
        """Fit the reward ensemble on the shown lists and their feedback."""
        config = self.config.reward
        members = []
        for i in range(config.members):
            members.append(self.fit_reward_member(config, f"reward-{i}", i, pretrained))
        if len(members) == 1:
            return members[0]
        return Ensemble(members, config.pessimism).eval()

    def fit_reward_member(
        self, config: RewardConfig, name: str, index: int = 0, pretrained: Weights | None = None
    ) -> Reward:
        """Fit one reward model."""
        start = time.perf_counter()
        seed = self._seeded("reward", index)
        if config.name == LIST_REWARD:
            model: Reward = self._fit_list_reward(config, name, seed, pretrained)
        else:
            model = build_reward(self.spec, config, self.train, self.config.ranker.slots)
            if type(model).fit is not Reward.fit:
                self._refuse_parts(config.name)
            model.fit(self.train, self.validation, self.config.ranker.slots, seed)
        self.fitted.seconds[name] = time.perf_counter() - start
        return model.eval()

    def _fit_list_reward(
        self, config: RewardConfig, name: str, seed: int, pretrained: Weights | None
    ) -> ListReward:
        """Fit a list reward model by gradients."""
        negative = unexposed_is_negative(config, self.train)
        if config.propensity_cap > 0:
            check_known(self.train, negative)
        with self._tables(config.loop):
            model = build_list_reward(self.spec, config, self.train, self.config.ranker.slots)
        transfer_encoder(pretrained, model.encoder)
        self.linear_start.give(model.wide, model.kind_index, all_known=negative)
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
        self._note_start(name)
        return model

    def fit_generator(self, reward: Reward, pretrained: Weights | None = None) -> Ranker:
        """Fit the policy against a reward by the configured objective."""
        config = self.config
        start = time.perf_counter()
        name = config.ranker.name
        seed = self._seeded(name)
        with self._tables(config.training):
            ranker = build_ranker(self.spec, config.ranker)
        transfer_encoder(pretrained, ranker.request_encoder)
        if not ranker.trainable:
            _refuse_untaught(config)
        if config.objective.warm_start:
            transfer_encoder(_encoder_of(reward), ranker.request_encoder)
        if config.objective.linear_start:
            self.linear_start.give(ranker.wide_path, [self.train.target])
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
        self._note_start(name)
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
) -> Job:
    """Run a whole recipe; see `Job`. The recipe is kept in the folder and checked on resume.

    Returns:
        The finished job, with what it fitted and solved.

    Raises:
        ConfigError: resuming with another recipe than the one that was started.
    """
    check_names(config)
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
        write_text(record, text)
    barrier()
    job = Job(spec, train, validation, config, options)
    job.run()
    return job


def _same_settings(record: Path, config: FitConfig) -> bool:
    """Whether a recorded recipe, also one with old names of settings, is this one."""
    try:
        with old_names_accepted():
            return build_config(json.loads(record.read_text())) == config
    except (ConfigError, ValueError):
        return False


def check_names(config: FitConfig) -> None:
    """Import everything that a recipe names, so that a mistake is found before anything is trained.

    Raises:
        ConfigError: a name is unknown or claimed twice, what it names cannot be imported, or a
            ranker that is solved from labels is to learn from a reward.
    """
    kind = RANKERS.get(config.ranker.name)
    for name in config.light:
        RANKERS.get(name, option="light")
    if config.objective.name != "supervised":
        OBJECTIVES.get(config.objective.name)
        REWARDS.get(config.reward.name)
        if kind.closed_form:
            _refuse_untaught(config)


def _refuse_untaught(config: FitConfig) -> None:
    name = config.ranker.name
    raise ConfigError(
        f"ranker '{name}' has no weights that objective '{config.objective.name}' could teach by a "
        f"reward; remedy: objective.name = supervised (on the command line: --set "
        f"ranker.name={name} --set objective.name=supervised)"
    )


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
