"""Run of a simulated online test, day by day; a killed run continues with the first missing day.

OUT/ledger/seed-S/day-DD/ARM.parquet holds the lists that were shown and their feedback; it is
written whole when the day is over. OUT/work holds what the next day needs (weights, full logs) and
is removed when a seed ends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from goalrank.errors import ConfigError
from goalrank.nn import mixed_seed
from goalrank.requests import EncodedRequests, Encoder, Requests
from goalrank.storage import whole_file, whole_folder, write_text
from goalrank.studies.online.arms import Arm, build_arm
from goalrank.studies.online.config import ArmConfig, OnlineConfig
from goalrank.studies.online.models import ArmTrainer, Models, save_models
from goalrank.studies.online.report import report_online
from goalrank.studies.online.traffic import (
    LEDGER_COLUMNS,
    Router,
    assignment,
    serve_day,
    user_sums,
)
from goalrank.training import RunOptions
from goalrank.worlds import World

Progress = Callable[[int, int], None]


def run_online(
    config: OnlineConfig,
    out: str | Path,
    *,
    accelerator: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run the days that are missing in the folder, then write the tables and figures.

    Args:
        config: the test.
        out: folder of the test.
        accelerator: "cpu", "gpu" or "auto", for training.
        progress: called with (days done, days in all); the warm start of a seed counts as a day.

    Returns:
        The content of online.json, see `report_online`.

    Raises:
        ConfigError: the folder holds another test.
    """
    folder = Path(out)
    _claim(config, folder)
    write_text(folder / "work" / ".gitignore", "*\n")  # checkpoints hold paths of this machine
    total, done = len(config.seeds) * (config.days + 1), 0
    for seed in config.seeds:
        for _ in SeedRun(config, folder, seed, accelerator).run():
            done += 1
            if progress is not None:
                progress(done, total)
    shutil.rmtree(folder / "work", ignore_errors=True)
    return report_online(folder)


def _claim(config: OnlineConfig, folder: Path) -> None:
    """Write the settings into the folder; refuse a folder of another test."""
    record = folder / "config.json"
    content = config.model_dump(mode="json", exclude={"world"})
    content["world"] = config.world_config().model_dump(mode="json")
    text = json.dumps(content, indent=1)
    if record.exists():
        if json.loads(record.read_text("utf-8")) != json.loads(text):
            raise ConfigError(
                f"'{folder}' holds a test with other settings; remedy: the same settings, or a "
                f"new folder; option: --out"
            )
        return
    write_text(record, text)


@dataclass
class SeedRun:
    """Run of one seed of a test.

    Attributes:
        config: the test.
        out: folder of the test.
        seed: of traffic, assignment and training.
        accelerator: "cpu", "gpu" or "auto", for training.
    """

    config: OnlineConfig
    out: Path
    seed: int
    accelerator: str = "cpu"

    def run(self) -> Iterator[int]:
        """Run the missing days.

        Yields:
            -1 after the warm start, then the number of each day when it is done.
        """
        days = range(self.config.days)
        first = next((day for day in days if not self._ledger(day).exists()), None)
        if first is None:
            yield from range(-1, self.config.days)
            return
        while first > 0 and not self._state(first - 1).exists():
            first -= 1  # a day that is run again gives the same
        self._warm_start()
        yield from range(-1, first)
        for day in range(first, self.config.days):
            self._day(day)
            yield day
        shutil.rmtree(self.work, ignore_errors=True)

    @cached_property
    def world(self) -> World:
        """The world in which the test runs."""
        return World(self.config.world_config())

    @property
    def work(self) -> Path:
        """Folder of what only the next day needs."""
        return self.out / "work" / f"seed-{self.seed}"

    def _state(self, day: int) -> Path:
        return self.work / f"day-{day:02d}"

    def _ledger(self, day: int) -> Path:
        return self.out / "ledger" / f"seed-{self.seed}" / f"day-{day:02d}"

    @cached_property
    def common(self) -> Requests:
        """Common log before the test, served by the world's logging policy."""
        return self.world.sample(self.config.warm, seed=mixed_seed(self.seed, 0))

    @cached_property
    def encoder(self) -> Encoder:
        """Encoder fitted to the common log."""
        return Encoder.fit(self.common, self.config.fit_config(self.world.config).encoder)

    @cached_property
    def trainer(self) -> ArmTrainer:
        """Trainer of the models of all arms."""
        options = RunOptions(self.work / "stages", progress=False, accelerator=self.accelerator)
        fit = self.config.fit_config(self.world.config)
        return ArmTrainer(self.encoder.spec, fit, self.encoder.encode(self.common), options)

    def _warm_start(self) -> None:
        """Train every model that an arm needs on the common log; all arms start with the same."""
        place = self.work / "warm"
        if place.exists():
            return
        needed = [name for arm in self.config.arms for name in self.config.needs(arm)]
        light = [name for name in dict.fromkeys(needed) if name not in ("reward", "goalrank")]
        rest = [name for name in ("reward", "goalrank") if name in needed]
        models = self.trainer.warm_start([*light, *rest], mixed_seed(self.seed, "warm"))
        with whole_folder(place, replace=True) as temporary:
            save_models(models, temporary / "models.safetensors")
            sums = user_sums(self.common.frame, self._weights)
            sums.write_parquet(temporary / "before.parquet")
        before = self.out / "ledger" / f"seed-{self.seed}" / "before.parquet"
        with whole_file(before) as file:
            shutil.copyfile(place / "before.parquet", file)

    @property
    def _weights(self) -> dict[str, float]:
        return {kind.name: kind.weight for kind in self.world.config.kinds}

    def _models(self, arm: ArmConfig, day: int) -> Models:
        """Load the models of an arm as they are at the start of a day."""
        names = self.config.needs(arm)
        if day == 0 or not arm.retrain:
            return self.trainer.load(self.work / "warm" / "models.safetensors", names)
        return self.trainer.load(self._state(day - 1) / f"{arm.name}.safetensors", names)

    def _day(self, day: int) -> None:
        """Serve a day, then retrain each arm on its own logs."""
        models = {arm.name: self._models(arm, day) for arm in self.config.arms}
        logs = serve_day(self.config, self.world, self._router(models, day), day, self.seed)
        with whole_folder(self._state(day), replace=True) as temporary:
            for arm in self.config.arms:
                logs[arm.name].write_parquet(temporary / f"{arm.name}.parquet")
            if day + 1 < self.config.days:  # models trained after the last day would never serve
                for arm in self.config.arms:
                    self._retrain(arm, models[arm.name], temporary, day)
        with whole_folder(self._ledger(day), replace=True) as temporary:
            for arm in self.config.arms:
                kept = logs[arm.name].select(LEDGER_COLUMNS)
                kept.write_parquet(temporary / f"{arm.name}.parquet")

    def _router(self, models: dict[str, Models], day: int) -> Router:
        features = self.encoder.spec.candidate_features
        arms: list[Arm] = [
            build_arm(self.config, arm, self.world, models[arm.name], features, self.seed)
            for arm in self.config.arms
        ]
        arm_of = assignment(self.config, self.world.config.users, self.seed)
        seed = mixed_seed(self.seed, "serve", day)
        return Router(self.world, arms, arm_of, self.encoder, beam=self.config.beam, seed=seed)

    def _retrain(self, arm: ArmConfig, models: Models, today: Path, day: int) -> None:
        if not models or not arm.retrain:
            return
        train = self._own_logs(arm, today, day)
        if len(train):
            seed = mixed_seed(self.seed, "night", day, arm.name)
            self.trainer.retrain(models, train, self.config.daily, seed)
        save_models(models, today / f"{arm.name}.safetensors")

    def _own_logs(self, arm: ArmConfig, today: Path, day: int) -> EncodedRequests:
        """Read the arm's own logs of the days in the window, encoded."""
        window = self.config.window or day + 1
        places = [self._state(d) for d in range(max(day + 1 - window, 0), day)] + [today]
        frame = pl.concat(
            [pl.read_parquet(place / f"{arm.name}.parquet", glob=False) for place in places]
        )
        common = self.common
        logs = Requests(
            frame.drop("is_best", "true_reward", "best_reward", "optimum", "arm", "day"),
            items=common.items, users=common.users, info=common.info,
        )  # fmt: skip
        return self.encoder.encode(logs)
