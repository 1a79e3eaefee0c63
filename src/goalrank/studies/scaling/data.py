"""Requests of a scaling cell, and the true rewards of its test requests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from goalrank.errors import ConfigError, DataError
from goalrank.requests import Encoder, EncoderConfig, Requests
from goalrank.rewards import Reward
from goalrank.studies.common import BiasSpec, EncodedDataset, FittedParts, json_hash
from goalrank.studies.scaling.rounds import log_in_rounds
from goalrank.studies.scaling.suite import ScalingCell, ScalingSuite
from goalrank.training import FitConfig, build_config
from goalrank.worlds import ReferenceRewards, RegretMeter, TrueReward, World, WorldConfig

_last: dict[str, CellData] = {}  # cells of the same requests follow one another
_TEST_SEED = 2**30  # no seed of a suite: every cell is measured on the same test requests


@dataclass(frozen=True)
class TrueTest:
    """True rewards of the test requests of a world.

    Attributes:
        meter: measures the true rewards and the regret of a ranker.
        truth: near-optimum and references of each request.
    """

    meter: RegretMeter
    truth: ReferenceRewards


@dataclass(frozen=True)
class CellData:
    """Requests of a cell, and the known facts about them.

    Attributes:
        data: encoded training, validation and test requests.
        slots: L.
        true_test: true rewards of the test requests; None on real data.
        teacher: true reward of the training and validation requests, if it is the teacher.
    """

    data: EncodedDataset
    slots: int
    true_test: TrueTest | None = None
    teacher: Reward | None = None


class GivenRewardParts(FittedParts):
    """Fitted parts with a given reward, if there is one, instead of a learned one."""

    given: Reward | None = None

    def reward(self, config: FitConfig, seed: int, bias: BiasSpec | None = None) -> Reward:
        """Return the given reward; without one, do what `FittedParts.reward` does."""
        return super().reward(config, seed, bias) if self.given is None else self.given


def check_inputs(suite: ScalingSuite) -> None:
    """Refuse a suite whose world or folder of requests is not there.

    Args:
        suite: the suite.

    Raises:
        ConfigError: the world's file cannot be read, or its settings are wrong.
        DataError: a file of requests is missing.
    """
    if suite.world is not None:
        WorldConfig.load(suite.world)
    missing = [path for path in _files(suite).values() if not path.exists()]
    if missing:
        raise DataError(
            f"'{missing[0]}' does not exist; remedy: a folder with train, validation and "
            f"test.parquet, such as `goalrank data import` makes (option: requests)"
        )


def _files(suite: ScalingSuite) -> dict[str, Path]:
    """Files of the suite's folder of requests, by part; none without such a folder."""
    if suite.requests is None:
        return {}
    return {part: suite.requests / f"{part}.parquet" for part in ("train", "validation", "test")}


def prepare(suite: ScalingSuite, cell: ScalingCell, accelerator: str = "auto") -> CellData:
    """Sample or read the requests of a cell and encode them.

    The encoder is fitted to the cell's training requests.

    Args:
        suite: the suite.
        cell: gives data size and seed.
        accelerator: "cpu", "gpu" or "auto", for the policies that log later rounds.

    Raises:
        DataError: there are fewer requests than the cell needs.
    """
    key = json_hash([suite.model_dump(mode="json"), cell.source, cell.data, cell.seed])
    if key not in _last:
        _last.clear()
        _last[key] = _prepare(suite, cell, accelerator)
    return _last[key]


def _prepare(suite: ScalingSuite, cell: ScalingCell, accelerator: str) -> CellData:
    path = suite.world if cell.source == "world" else suite.requests
    if path is None:
        raise ConfigError(
            f"the suite names no {cell.source}, which cell '{cell.name}' needs; remedy: name it "
            f"(option: {cell.source})"
        )
    if cell.source == "world":
        return _from_world(suite, cell, path, accelerator)
    return _from_folder(suite, cell, path)


def _from_world(suite: ScalingSuite, cell: ScalingCell, path: Path, accelerator: str) -> CellData:
    world, most = World(WorldConfig.load(path)), max(suite.data)
    validation = world.sample(suite.validation, seed=cell.seed, first=most)
    # In one round these are the first requests of any larger sample.
    train = log_in_rounds(suite, world, cell.data, cell.seed, validation, accelerator=accelerator)
    test = world.sample(suite.test, seed=_TEST_SEED, first=most + suite.validation)
    encoder = Encoder.fit(train, _encoding(suite))
    parts = [encoder.encode(each) for each in (train, validation, test)]
    key = [world.config.model_dump(mode="json"), suite.validation, suite.teacher, most]
    if suite.rounds > 1:
        key += [suite.rounds, suite.recipe, suite.sizes[0].model_dump(mode="json")]
    key += [cell.data, cell.seed, _encoding(suite).model_dump(mode="json")]
    data = EncodedDataset(json_hash(key), encoder.spec, train.info, *parts)
    meter = RegretMeter(world, test, parts[2])
    teacher = None
    if suite.teacher == "truth":
        both = Requests(
            pl.concat([train.frame, validation.frame]), items=train.items, users=train.users,
            info=train.info,
        )  # fmt: skip
        teacher = TrueReward(world, both, encoder.encode(both))
    truth = _truth(path.read_text("utf-8"), path, suite.test, most + suite.validation)
    return CellData(data, world.config.slots, TrueTest(meter, truth), teacher)


@lru_cache(maxsize=2)
def _truth(text: str, path: Path, count: int, first: int) -> ReferenceRewards:
    """Compute the references on the test requests, once per process and per content of the file."""
    world = World(WorldConfig.load(path))
    test = world.sample(count, seed=_TEST_SEED, first=first)
    return RegretMeter(world, test, Encoder.fit(test).encode(test)).reference_rewards()


def _from_folder(suite: ScalingSuite, cell: ScalingCell, folder: Path) -> CellData:
    read = {part: Requests.read(file) for part, file in _files(suite).items()}
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
    key = json_hash([str(folder), cell.data, cell.seed, _encoding(suite).model_dump(mode="json")])
    return CellData(EncodedDataset(key, encoder.spec, train.info, *parts), suite.slots)


def _encoding(suite: ScalingSuite) -> EncoderConfig:
    return build_config(suite.recipe).encoder
