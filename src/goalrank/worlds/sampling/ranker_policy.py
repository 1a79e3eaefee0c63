"""A trained ranker as the behaviour policy of a world."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.rankers import Ranker
from goalrank.requests import Batch, Encoder
from goalrank.worlds.sampling.request_draws import DrawnRequests
from goalrank.worlds.sampling.tables import drawn_table
from goalrank.worlds.world.world import PlantedWorld

_BATCH = 256


class RankerPolicy:
    """A behaviour policy that shows a ranker's best list, or explores with a drawn one.

    The propensity is exact: P(l) = (1 − ε) · 1(l is the best list) + ε · π(l) at the temperature.

    Args:
        ranker: any ranker; it reads batches of `encoder`.
        encoder: fitted to the ranker's training requests.
        explore: ε in [0, 1], the share of requests with a drawn list.
        temperature: temperature of the draws, above 0; 1 is the policy as trained.
        name: written to the ``policy`` column.

    Raises:
        ConfigError: `explore` or `temperature` out of range.
    """

    def __init__(
        self,
        ranker: Ranker,
        encoder: Encoder,
        *,
        explore: float = 1.0,
        temperature: float = 1.0,
        name: str = "ranker",
    ) -> None:
        if not 0.0 <= explore <= 1.0 or not temperature > 0.0:
            raise ConfigError(
                f"explore={explore} must be in [0, 1] and temperature={temperature} above 0"
            )
        self.ranker, self.encoder, self.name = ranker.eval(), encoder, name
        self.explore, self.temperature = explore, temperature

    def __call__(
        self, world: PlantedWorld, drawn: DrawnRequests, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Choose a list per request: lists [B, L] and P(list) [B] float64."""
        columns = self.encoder.encode(drawn_table(drawn))
        parts = [
            self._batch(columns.batch(slice(at, at + _BATCH)), world.config.slots, generator)
            for at in range(0, len(columns), _BATCH)
        ]
        return torch.cat([lists for lists, _ in parts]), torch.cat([chance for _, chance in parts])

    @torch.inference_mode()
    def _batch(self, batch: Batch, slots: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        state = self.ranker.encode(batch)
        best = self.ranker.best(state, batch, slots)
        drawn = self.ranker.draw(state, batch, 1, slots, generator, self.temperature)[:, 0]
        explores = torch.rand(len(best), generator=generator) < self.explore
        lists = torch.where(explores[:, None], drawn, best)
        log_prob = self.ranker.list_log_prob(state, batch, lists[:, None], self.temperature)
        return lists, exploration_probability(lists[:, None], best, log_prob, self.explore)[:, 0]


def exploration_probability(
    lists: Tensor, best: Tensor, log_prob: Tensor, explore: float
) -> Tensor:
    """Probability of lists under ε-exploration: (1 − ε) · 1(l is the best list) + ε · π(l).

    Args:
        lists: [B, G, L].
        best: [B, L], the ranker's best list of each request.
        log_prob: [B, G], log π(l).
        explore: ε in [0, 1].

    Returns:
        [B, G] float64.
    """
    greedy = (lists == best.unsqueeze(1)).all(-1).double()
    return (1 - explore) * greedy + explore * log_prob.double().exp()
