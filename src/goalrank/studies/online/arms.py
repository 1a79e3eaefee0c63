"""Policies of the arms: the lists that they show, with the exact probability of each list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from goalrank.errors import ConfigError
from goalrank.experiments import Experiment, Variant
from goalrank.rankers import MultiGenerator, Ranker, diverse_members
from goalrank.requests import Batch, EncodedRequests
from goalrank.studies.online.config import MEMBERS, ArmConfig, OnlineConfig
from goalrank.studies.online.models import Models
from goalrank.worlds import (
    DrawnRequests,
    LoggingPolicy,
    World,
    exploration_probability,
    near_optimum,
)

_BATCH = 512


@dataclass(frozen=True)
class Choice:
    """Lists that an arm shows to B requests.

    Attributes:
        lists: [B, L] the lists that are shown.
        best: [B, L] the lists that would be shown without exploration.
        propensity: [B] float64 probability of `lists`, over all that is random in the arm.
    """

    lists: Tensor
    best: Tensor
    propensity: Tensor


class Arm(Protocol):
    """Policy that serves requests."""

    def choose(
        self, asked: DrawnRequests, columns: EncodedRequests, rng: torch.Generator
    ) -> Choice:
        """Choose the lists to show.

        Args:
            asked: B requests as the world draws them.
            columns: the same requests, encoded for models.
            rng: of the draws.
        """
        ...


@dataclass(frozen=True)
class RankedArm:
    """Arm of one ranker, or of several that share its requests by a hash of the request.

    P(l) = Σ_m share_m · [(1 − ε) · 1(l is m's best list) + ε · π_m(l)], π_m at the temperature of
    exploration. The hash counts as a random draw, as only the salt decides it.

    Attributes:
        members: (share, ranker); the shares sum to 1.
        slots: L.
        explore: ε in [0, 1].
        temperature: of the drawn lists, above 0.
        route: assigns requests to members; None for a single member.
    """

    members: Sequence[tuple[float, Ranker]]
    slots: int
    explore: float
    temperature: float
    route: Experiment | None = None

    def choose(
        self, asked: DrawnRequests, columns: EncodedRequests, rng: torch.Generator
    ) -> Choice:
        """Choose the best list of the member of each request, or with ε a drawn one."""
        picks = self._routed(asked)
        parts = []
        with torch.inference_mode():
            for at in range(0, len(columns), _BATCH):
                rows = slice(at, at + _BATCH)
                parts.append(self._choose_batch(columns.take(rows), picks[rows], rng))
        return Choice(
            torch.cat([p.lists for p in parts]),
            torch.cat([p.best for p in parts]),
            torch.cat([p.propensity for p in parts]),
        )

    def _routed(self, asked: DrawnRequests) -> Tensor:
        """Index of the member that answers each request: [B]."""
        if self.route is None:
            return torch.zeros(len(asked.users), dtype=torch.long)
        index = {variant.name: i for i, variant in enumerate(self.route.variants)}
        chosen = [self.route.assign(unit) for unit in asked.time_us.tolist()]
        return torch.tensor([index[v.name] for v in chosen if v is not None])

    def _choose_batch(self, columns: EncodedRequests, pick: Tensor, rng: torch.Generator) -> Choice:
        batch = columns.batch(slice(0, len(columns)))
        row = torch.arange(len(pick))
        states = [ranker.encode(batch) for _, ranker in self.members]
        bests, draws = [], []
        for (_, ranker), state in zip(self.members, states, strict=True):
            bests.append(ranker.best(state, batch, self.slots))
            drawn = ranker.draw(state, batch, 1, self.slots, rng, self.temperature)
            draws.append(drawn.squeeze(1))
        best, drawn = torch.stack(bests)[pick, row], torch.stack(draws)[pick, row]
        explores = torch.rand(len(pick), generator=rng) < self.explore
        lists = torch.where(explores[:, None], drawn, best)
        propensity = self._probability(batch, states, bests, lists.unsqueeze(1))[:, 0]
        return Choice(lists, best, propensity)

    def probability(self, columns: EncodedRequests, lists: Tensor) -> Tensor:
        """Probability of showing each of several lists.

        Args:
            columns: B encoded requests.
            lists: [B, G, L].

        Returns:
            [B, G] float64.
        """
        with torch.inference_mode():
            batch = columns.batch(slice(0, len(columns)))
            states = [ranker.encode(batch) for _, ranker in self.members]
            pairs = zip(self.members, states, strict=True)
            bests = [ranker.best(state, batch, self.slots) for (_, ranker), state in pairs]
            return self._probability(batch, states, bests, lists)

    def _probability(
        self, batch: Batch, states: Sequence[Any], bests: Sequence[Tensor], lists: Tensor
    ) -> Tensor:
        probability = torch.zeros(lists.shape[:2], dtype=torch.float64)
        for (share, ranker), state, own in zip(self.members, states, bests, strict=True):
            log_p = ranker.list_log_prob(state, batch, lists, self.temperature)
            probability += share * exploration_probability(lists, own, log_p, self.explore)
        return probability


@dataclass(frozen=True)
class LoggingArm:
    """Arm of the world's logging policy.

    Attributes:
        world: the world.
    """

    world: World

    def choose(
        self, asked: DrawnRequests, columns: EncodedRequests, rng: torch.Generator
    ) -> Choice:
        """Draw lists from the logging policy."""
        lists, propensity = LoggingPolicy(self.world.config.logging)(self.world, asked, rng)
        if propensity is None:
            raise ConfigError(
                "the world's logging policy gives no probabilities, which an arm needs; remedy: "
                "another logging policy (option: logging)"
            )
        return Choice(lists, lists, propensity)


@dataclass(frozen=True)
class OracleArm:
    """Arm that always shows the near-optimum, which no learned policy can know.

    Attributes:
        world: the world.
        beam: width of the search.
    """

    world: World
    beam: int

    def choose(
        self, asked: DrawnRequests, columns: EncodedRequests, rng: torch.Generator
    ) -> Choice:
        """Choose the near-optimum of each request."""
        lists = near_optimum(
            self.world, asked.users, asked.items, asked.days, beam=self.beam, restarts=1,
            bound_depth=0,
        ).lists  # fmt: skip
        return Choice(lists, lists, torch.ones(len(lists), dtype=torch.float64))


def build_arm(
    config: OnlineConfig, arm: ArmConfig, world: World, models: Models, features: int, seed: int
) -> Arm:
    """Make an arm from its models.

    Args:
        config: the test.
        arm: settings of the arm.
        world: the world.
        models: name → trained model, see `OnlineConfig.needs`.
        features: F, number of candidate features.
        seed: of the generators of MG-E and of the hybrid's routing.
    """
    if arm.policy == "logging":
        return LoggingArm(world)
    if arm.policy == "oracle":
        return OracleArm(world, config.beam)
    members: list[tuple[float, Ranker]] = []
    route = None
    if arm.policy in ("mg_e", "hybrid"):
        members.append((1.0, _multi_generator(arm, models, features, seed)))
    if arm.policy == "hybrid":
        members = [(arm.share, cast(Ranker, models["goalrank"])), (1 - arm.share, members[0][1])]
        variants = tuple(Variant(name=f"{i}", weight=w) for i, (w, _) in enumerate(members))
        route = Experiment(
            name=arm.name, salt=f"{config.salt}-{seed}-route", variants=variants, unit="request_id"
        )
    if not members:
        members.append((1.0, cast(Ranker, models[arm.policy])))
    return RankedArm(members, world.config.slots, config.explore, config.temperature, route)


def _multi_generator(arm: ArmConfig, models: Models, features: int, seed: int) -> Ranker:
    rankers = [cast(Ranker, models[name]) for name in MEMBERS]
    members = diverse_members(arm.k, rankers, features)
    evaluator: nn.Module = models["reward"]
    return MultiGenerator(rankers, members, evaluator, seed).eval()


def select_requests(asked: DrawnRequests, rows: Tensor) -> DrawnRequests:
    """Select some requests; `first` of the result does not number them any more.

    Args:
        asked: the requests.
        rows: [R] their indices.
    """
    names = (
        "users",
        "time_us",
        "days",
        "items",
        "scores",
        "history",
        "history_us",
        "history_length",
    )
    return replace(asked, **{name: getattr(asked, name)[rows] for name in names})
