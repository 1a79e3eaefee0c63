"""Training and test requests of a scaling cell, and the truth about the test requests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from goalrank.errors import DataError
from goalrank.requests import Encoder, EncoderConfig, Requests
from goalrank.rewards import Reward
from goalrank.studies.common import BiasSpec, EncodedDataset, FittedParts, digest
from goalrank.studies.scaling.rounds import log_in_rounds
from goalrank.studies.scaling.suite import ScalingCell, ScalingSuite
from goalrank.training import FitConfig, build_config
from goalrank.worlds import ReferenceRewards, RegretMeter, TrueReward, World, WorldConfig

_last: dict[str, Prepared] = {}  # cells of the same requests come in a row
_TEST_SEED = 2**30  # apart from the seeds of a suite: every cell is judged on the same requests


@dataclass(frozen=True)
class Prepared:
    """Everything of a cell but its ranker.

    Attributes:
        slots: L.
        judge, truth: of the test requests; None on real data.
        teacher: the world's truth for training and validation requests, if that is to teach.
    """

    data: EncodedDataset
    slots: int
    judge: RegretMeter | None = None
    truth: ReferenceRewards | None = None
    teacher: Reward | None = None


class TruthCache(FittedParts):
    """A lab whose reward is given, not learned."""

    given: Reward | None = None

    def reward(self, config: FitConfig, seed: int, bias: BiasSpec | None = None) -> Reward:
        return super().reward(config, seed, bias) if self.given is None else self.given


def prepare(suite: ScalingSuite, cell: ScalingCell, accelerator: str = "auto") -> Prepared:
    """Sample or read, cut to the cell's data size, encode by the training requests alone.

    Args:
        accelerator: where the policies of later rounds are trained.

    Raises:
        DataError: fewer requests than the cell wants.
    """
    key = digest([suite.model_dump(mode="json"), cell.source, cell.data, cell.seed])
    if key not in _last:
        _last.clear()
        _last[key] = _prepare(suite, cell, accelerator)
    return _last[key]


def _prepare(suite: ScalingSuite, cell: ScalingCell, accelerator: str) -> Prepared:
    if cell.source == "world":
        assert suite.world is not None
        return _from_world(suite, cell, World(WorldConfig.load(suite.world)), accelerator)
    assert suite.requests is not None
    return _from_folder(suite, cell, suite.requests)


def _from_world(suite: ScalingSuite, cell: ScalingCell, world: World, accelerator: str) -> Prepared:
    most = max(suite.data)
    validation = world.sample(suite.validation, seed=cell.seed, first=most)
    # In one round: the first requests of any larger sample.
    train = log_in_rounds(suite, world, cell.data, cell.seed, validation, accelerator=accelerator)
    test = world.sample(suite.test, seed=_TEST_SEED, first=most + suite.validation)
    encoder = Encoder.fit(train, _encoding(suite))
    parts = [encoder.encode(each) for each in (train, validation, test)]
    key = [world.config.model_dump(mode="json"), suite.validation, suite.teacher, most]
    if suite.rounds > 1:
        key += [suite.rounds, suite.recipe, suite.sizes[0].model_dump(mode="json")]
    key += [cell.data, cell.seed, _encoding(suite).model_dump(mode="json")]
    data = EncodedDataset(digest(key), encoder.spec, train.info, *parts)
    judge = RegretMeter(world, test, parts[2])
    teacher = None
    if suite.teacher == "truth":
        both = Requests(
            pl.concat([train.frame, validation.frame]), items=train.items, users=train.users,
            info=train.info,
        )  # fmt: skip
        teacher = TrueReward(world, both, encoder.encode(both))
    assert suite.world is not None
    text = suite.world.read_text("utf-8")
    truth = _truth(text, suite.world, suite.test, most + suite.validation)
    return Prepared(data, world.config.slots, judge, truth, teacher)


@lru_cache(maxsize=2)
def _truth(text: str, path: Path, count: int, first: int) -> ReferenceRewards:
    """References on the test requests, once a process; `text` is the file's, lest it change."""
    world = World(WorldConfig.load(path))
    test = world.sample(count, seed=_TEST_SEED, first=first)
    return RegretMeter(world, test, Encoder.fit(test).encode(test)).reference_rewards()


def _from_folder(suite: ScalingSuite, cell: ScalingCell, folder: Path) -> Prepared:
    read = {
        part: Requests.read(folder / f"{part}.parquet") for part in ("train", "validation", "test")
    }
    train = read["train"]
    if len(train) < cell.data:
        raise DataError(
            f"'{folder}' holds {len(train)} training requests, {cell.data} are wanted; remedy: "
            f"smaller sizes (option: data)"
        )
    rows = np.random.default_rng(cell.seed).permutation(len(train))[: cell.data]
    train = train.take(np.sort(rows))
    encoder = Encoder.fit(train, _encoding(suite))
    parts = [encoder.encode(each) for each in (train, read["validation"], read["test"])]
    key = digest([str(folder), cell.data, cell.seed, _encoding(suite).model_dump(mode="json")])
    return Prepared(EncodedDataset(key, encoder.spec, train.info, *parts), suite.slots)


def _encoding(suite: ScalingSuite) -> EncoderConfig:
    return build_config(suite.recipe).encoder
