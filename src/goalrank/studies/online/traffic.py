"""Traffic of one day: the requests, the arms that answer them, and the true rewards of the lists."""

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

LEDGER_COLUMNS = ("request_id", "user_id", "time", "day", "arm", "shown", "feedback", "propensity",
          "is_best", "true_reward", "best_reward", "optimum")  # fmt: skip


def assignment(config: OnlineConfig, users: int, seed: int) -> Tensor:
    """Assign every user to an arm by a salted hash of the user's number.

    Args:
        config: the test.
        users: U, number of users.
        seed: appended to the salt.

    Returns:
        [U] indices into `config.arms`.
    """
    split = Experiment(
        name=config.name,
        salt=f"{config.salt}-{seed}",
        variants=tuple(Variant(name=arm.name, weight=arm.weight) for arm in config.arms),
    )
    index = {arm.name: i for i, arm in enumerate(config.arms)}
    chosen = [split.assign(user) for user in range(users)]
    return torch.tensor([index[variant.name] for variant in chosen if variant is not None])


class Router:
    """All arms as one policy of the world: each request is answered by the arm of its user.

    Args:
        world: the world.
        arms: the arms, in the order of the test.
        arm_of: [U] the arm of each user, of `assignment`.
        encoder: encodes the requests for the models.
        beam: width of the search for the near-optimum.
        seed: of the arms' draws.

    Attributes:
        truth: true rewards of the answered requests, one table per block of requests.
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
        """Answer requests.

        Args:
            world: not used; `self.world` is the same.
            asked: B requests.
            generator: not used here; the world draws the users' feedback with it.

        Returns:
            Lists [B, L] and their probabilities [B].
        """
        columns = self.encoder.encode(drawn_table(asked))
        arm_of = self.arm_of[asked.users]
        lists = torch.zeros(len(asked.users), world.config.slots, dtype=torch.long)
        best, propensity = lists.clone(), torch.zeros(len(lists), dtype=torch.float64)
        for number, arm in enumerate(self.arms):
            rows = torch.nonzero(arm_of == number).squeeze(1)
            if len(rows) == 0:
                continue
            rng = torch.Generator().manual_seed(mixed_seed(self.seed, asked.first, number))
            own = arm.choose(select_requests(asked, rows), columns.take(rows.numpy()), rng)
            lists[rows], best[rows], propensity[rows] = own.lists, own.best, own.propensity
        self.truth.append(self._true_rewards(asked, Choice(lists, best, propensity), arm_of))
        return lists, propensity

    def _true_rewards(self, asked: DrawnRequests, choice: Choice, arm_of: Tensor) -> pl.DataFrame:
        response = self.world.response_model(asked.users, asked.items, asked.days)
        rewards = response.reward(torch.stack([choice.lists, choice.best], 1))
        optimum = near_optimum(
            self.world, asked.users, asked.items, asked.days, beam=self.beam, restarts=1,
            bound_depth=0,
        ).value  # fmt: skip
        return pl.DataFrame(
            {
                "arm_index": arm_of.numpy(),
                "is_best": (choice.lists == choice.best).all(-1).numpy(),
                "true_reward": rewards[:, 0].numpy(),
                "best_reward": rewards[:, 1].numpy(),
                "optimum": optimum.numpy(),
            }
        )


def serve_day(
    config: OnlineConfig, world: World, router: Router, day: int, seed: int
) -> dict[str, pl.DataFrame]:
    """Serve the requests of one day.

    Args:
        config: the test.
        world: the world.
        router: answers the requests.
        day: number of the day, from 0.
        seed: of the traffic.

    Returns:
        Name of arm → its requests, with the columns of the requests table and of `LEDGER_COLUMNS`.
    """
    table = world.sample(
        config.requests,
        seed=mixed_seed(seed, day + 1),
        policy=router,
        first=config.warm + day * config.requests,
    )
    truth = pl.concat(router.truth)
    all_names = np.array([arm.name for arm in config.arms])
    names = pl.Series("arm", all_names[truth["arm_index"].to_numpy()])
    frame = table.frame.hstack(truth.drop("arm_index")).with_columns(
        names,
        names.alias("policy"),
        (pl.lit(f"{config.name}:") + names).alias("experiment"),
        pl.lit(day, pl.Int32).alias("day"),
    )
    return {arm.name: frame.filter(pl.col("arm") == arm.name) for arm in config.arms}


def user_sums(frame: pl.DataFrame, weights: Mapping[str, float]) -> pl.DataFrame:
    """Sum requests, feedback and rewards over each user (and arm, if there are arms).

    Args:
        frame: requests with feedback, and with `arm` and `true_reward` if they are known.
        weights: feedback type → its weight in the reward.

    Returns:
        One row per user and arm: `requests`, each feedback type, `reward`, `true_reward`.
    """
    kinds = [pl.col("feedback").struct.field(k).list.sum().alias(k) for k in weights]
    reward = pl.sum_horizontal(pl.col(k).cast(pl.Float64) * w for k, w in weights.items())
    keys = [key for key in ("arm", "user_id") if key in frame.columns]
    extra = [key for key in ("true_reward",) if key in frame.columns]
    rows = frame.select(*keys, *extra, *kinds).with_columns(
        reward.alias("reward"), pl.lit(1.0).alias("requests")
    )
    # The order is kept, as sums in another order would differ in the last digits.
    sums = rows.group_by(keys, maintain_order=True).agg(pl.all().sum().cast(pl.Float64))
    return sums.sort(keys)
