"""A day of traffic: who comes, which arm answers, what the lists are truly worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from goalrank.experiments import Experiment, Variant
from goalrank.nn import mixed_seed
from goalrank.requests import Encoder
from goalrank.studies.online.arms import Arm, Choice, select_requests
from goalrank.studies.online.config import OnlineConfig
from goalrank.worlds import DrawnRequests, PlantedWorld, World, drawn_table, near_optimum

LEDGER = ("request_id", "user_id", "time", "day", "arm", "shown", "feedback", "propensity",
          "is_best", "true_reward", "best_reward", "optimum")  # fmt: skip


def assignment(config: OnlineConfig, users: int, seed: int) -> Tensor:
    """The arm of every user, [U] places in `config.arms`, by a salted hash of the user's number."""
    split = Experiment(
        name=config.name,
        salt=f"{config.salt}-{seed}",
        variants=tuple(Variant(name=arm.name, weight=arm.weight) for arm in config.arms),
    )
    place = {arm.name: i for i, arm in enumerate(config.arms)}
    chosen = [split.assign(user) for user in range(users)]
    return torch.tensor([place[variant.name] for variant in chosen if variant is not None])


class Router:
    """All arms as one policy of the world: each request goes to its user's arm.

    What the truth says of the lists is kept in `truth`, one frame a block of requests.
    """

    def __init__(
        self,
        world: World,
        arms: Sequence[Arm],
        arm_of: Tensor,
        encoder: Encoder,
        *,
        beam: int,
        seed: int,
    ) -> None:
        self.name = "online"
        self.world, self.arms, self.arm_of, self.encoder = world, arms, arm_of, encoder
        self.beam, self.seed = beam, seed
        self.truth: list[pl.DataFrame] = []

    def __call__(
        self, world: PlantedWorld, asked: DrawnRequests, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Lists [B, L] and P(list) [B]; `generator` is left to the users' answers."""
        columns = self.encoder.encode(drawn_table(asked))
        arm_of = self.arm_of[asked.users]
        lists = torch.zeros(len(asked.users), world.config.slots, dtype=torch.long)
        best, chance = lists.clone(), torch.zeros(len(lists), dtype=torch.float64)
        for number, arm in enumerate(self.arms):
            rows = torch.nonzero(arm_of == number).squeeze(1)
            if len(rows) == 0:
                continue
            rng = torch.Generator().manual_seed(mixed_seed(self.seed, asked.first, number))
            own = arm.choose(select_requests(asked, rows), columns.take(rows.numpy()), rng)
            lists[rows], best[rows], chance[rows] = own.lists, own.best, own.propensity
        self.truth.append(self._judge(asked, Choice(lists, best, chance), arm_of))
        return lists, chance

    def _judge(self, asked: DrawnRequests, choice: Choice, arm_of: Tensor) -> pl.DataFrame:
        scene = self.world.response_model(asked.users, asked.items, asked.days)
        worth = scene.reward(torch.stack([choice.lists, choice.best], 1))
        optimum = near_optimum(
            self.world, asked.users, asked.items, asked.days, beam=self.beam, restarts=1,
            bound_depth=0,
        ).value  # fmt: skip
        return pl.DataFrame(
            {
                "place": arm_of.numpy(),
                "is_best": (choice.lists == choice.best).all(-1).numpy(),
                "true_reward": worth[:, 0].numpy(),
                "best_reward": worth[:, 1].numpy(),
                "optimum": optimum.numpy(),
            }
        )


def serve_day(
    config: OnlineConfig, world: World, router: Router, day: int, seed: int
) -> dict[str, pl.DataFrame]:
    """A day's requests by arm: the requests table's columns and those of `LEDGER`."""
    table = world.sample(
        config.requests,
        seed=mixed_seed(seed, day + 1),
        policy=router,
        first=config.warm + day * config.requests,
    )
    truth = pl.concat(router.truth)
    names = pl.Series("arm", np.array([arm.name for arm in config.arms])[truth["place"].to_numpy()])
    frame = table.frame.hstack(truth.drop("place")).with_columns(
        names,
        names.alias("policy"),
        (pl.lit(f"{config.name}:") + names).alias("experiment"),
        pl.lit(day, pl.Int32).alias("day"),
    )
    return {arm.name: frame.filter(pl.col("arm") == arm.name) for arm in config.arms}


def user_sums(frame: pl.DataFrame, weights: Mapping[str, float]) -> pl.DataFrame:
    """A row a user (and arm, where there is one): requests, each kind, the reward, the truth.

    Args:
        weights: of each kind in the reward.
    """
    kinds = [pl.col("feedback").struct.field(k).list.sum().alias(k) for k in weights]
    reward = pl.sum_horizontal(pl.col(k).cast(pl.Float64) * w for k, w in weights.items())
    keys = [key for key in ("arm", "user_id") if key in frame.columns]
    extra = [key for key in ("true_reward",) if key in frame.columns]
    rows = frame.select(*keys, *extra, *kinds).with_columns(
        reward.alias("reward"), pl.lit(1.0).alias("requests")
    )
    # Kept in order: threads would otherwise add numbers up in another order each time.
    sums = rows.group_by(keys, maintain_order=True).agg(pl.all().sum().cast(pl.Float64))
    return sums.sort(keys)
