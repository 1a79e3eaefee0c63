"""True reward and regret of rankers on requests that a world sampled."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from goalrank.errors import DataError
from goalrank.evaluation import Spread, order_correlation
from goalrank.rankers import RandomOrder, Ranker
from goalrank.requests import Batch, EncodedRequests, Requests
from goalrank.rewards import Reward
from goalrank.worlds.truth.headroom import pointwise_lists
from goalrank.worlds.truth.reward_search import search_best_lists
from goalrank.worlds.truth.search import near_optimum
from goalrank.worlds.truth.true_reward import TrueReward
from goalrank.worlds.world.world import PlantedWorld

_BATCH = 64


@dataclass(frozen=True)
class ReferenceRewards:
    """True rewards of baselines and of the near-optimum on R requests.

    Attributes:
        rewards: baseline → true reward [R] float64 of its lists; the last is the near-optimum.
        gap: mean certified gap of the near-optimum.
    """

    rewards: dict[str, Tensor]
    gap: float

    @property
    def best(self) -> Tensor:
        """True reward [R] of the near-optimum."""
        return self.rewards["near-optimum"]


@dataclass(frozen=True)
class TrueEvaluation:
    """True and learned rewards of a ranker's lists; [R] float64 each.

    Attributes:
        reward: true reward of the ranker's lists.
        found: true reward of the best list under the learned reward; None without a learned one.
        learned: learned reward of the ranker's lists; None without a learned one.
        learned_found: learned reward of the best list under it; None without a learned one.
        correlation: "random" or "proposed" lists → statistic → within-request correlation of the
            learned with the true reward.
    """

    reward: Tensor
    found: Tensor | None
    learned: Tensor | None
    learned_found: Tensor | None
    correlation: dict[str, dict[str, Spread]]


class RegretMeter:
    """A meter of true reward and regret on the requests of one table.

    Args:
        world: the world that sampled the table.
        requests: R requests.
        columns: the table encoded by any encoder; only the order of candidates matters.

    Raises:
        DataError: the table was not sampled by this world.
    """

    def __init__(self, world: PlantedWorld, requests: Requests, columns: EncodedRequests) -> None:
        _check_world(world, requests)
        self.world = world
        self.slots = world.config.slots
        self._true = TrueReward(world, requests, columns)
        self._columns = columns

    def true_reward(self, batch: Batch, lists: Tensor) -> Tensor:
        """True rewards [B, G] float64 of lists.

        Args:
            batch: B requests of the table.
            lists: [B, G, L] positions.
        """
        users, items, days = self._true.rows(batch)
        return self.world.reward(users, items, lists.cpu(), days)

    def reference_rewards(self, beam: int = 128) -> ReferenceRewards:
        """True rewards of the random, logged, retriever's, true pointwise and near-optimal lists.

        Args:
            beam: beam width of the search for the near-optimum.
        """
        parts: dict[str, list[Tensor]] = {}
        gaps = []
        for batch in self._columns.batches(_BATCH):
            users, items, days = self._true.rows(batch)
            model = self.world.response_model(users, items, days)
            score = batch.candidate_score.masked_fill(~batch.candidate_mask, -torch.inf)
            best = near_optimum(self.world, users, items, days, beam=beam)
            baselines = {
                "random": RandomOrder().rank(batch, self.slots),
                "logging policy": batch.shown[:, : self.slots],
                "retriever's order": score.topk(self.slots, dim=1).indices,
                "true pointwise sort": pointwise_lists(model, self.slots),
                "near-optimum": best.lists,
            }
            for name, lists in baselines.items():
                parts.setdefault(name, []).append(model.reward(lists[:, None, :]).squeeze(1))
            gaps.append(best.gap)
        rewards = {name: torch.cat(values) for name, values in parts.items()}
        return ReferenceRewards(rewards, float(torch.cat(gaps).mean()))

    def evaluate(
        self,
        ranker: Ranker,
        reward: Reward | None,
        columns: EncodedRequests,
        *,
        beam: int = 8,
        lists: int = 16,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> TrueEvaluation:
        """Evaluate a ranker and its teacher by their true reward.

        Args:
            ranker: the ranker.
            reward: the ranker's teacher, or None.
            columns: the same table encoded by the ranker's own encoder.
            beam: width of the search over the learned reward; 0 leaves reward error out.
            lists: random and proposed lists per request for the correlations; below 2 leaves the
                correlations out.
            seed: seed of those lists.
            device: where ranker and reward run; both are moved there.
        """
        ranker.to(device).eval()
        if reward is not None:
            reward.to(device).eval()
        rng = torch.Generator().manual_seed(seed)
        parts: dict[str, list[Tensor]] = {}
        with torch.inference_mode():
            for encoded in columns.batches(_BATCH):
                batch = encoded.to(device)
                for name, values in self._batch(ranker, reward, batch, beam, lists, rng).items():
                    parts.setdefault(name, []).append(values.cpu().double())
        all_of = {name: torch.cat(values) for name, values in parts.items()}
        correlation = {
            name: order_correlation(
                all_of[f"learned {name}"].numpy(), all_of[f"true {name}"].numpy()
            )
            for name in ("random", "proposed")
            if f"true {name}" in all_of
        }
        found, learned = all_of.get("found"), all_of.get("learned")
        return TrueEvaluation(
            all_of["reward"], found, learned, all_of.get("learned found"), correlation
        )

    def _batch(
        self,
        ranker: Ranker,
        reward: Reward | None,
        batch: Batch,
        beam: int,
        lists: int,
        rng: torch.Generator,
    ) -> dict[str, Tensor]:
        """Rewards of one batch: [B] or, for correlations, [B, G]."""
        best = ranker.rank(batch, self.slots).unsqueeze(1)
        out = {"reward": self.true_reward(batch, best).squeeze(1)}
        if reward is None:
            return out
        out["learned"] = reward(batch, best).squeeze(1)
        if beam:
            found, value = search_best_lists(reward, batch, self.slots, starts=best, beam=beam)
            out["found"] = self.true_reward(batch, found.unsqueeze(1)).squeeze(1)
            out["learned found"] = value
        if lists > 1:
            salts = torch.randint(2**62, (lists,), generator=rng).tolist()
            drawn = {
                "random": torch.stack([RandomOrder(s).rank(batch, self.slots) for s in salts], 1),
                "proposed": ranker.propose(batch, lists, self.slots, rng).lists,
            }
            for name, each in drawn.items():
                out[f"learned {name}"] = reward(batch, each)
                out[f"true {name}"] = self.true_reward(batch, each)
        return out


def _check_world(world: PlantedWorld, requests: Requests) -> None:
    """Refuse a table of another world, recognised by its items."""
    items = requests.items
    if items is None or not {"item_id", "log_popularity"} <= set(items.columns):
        return
    ids, popularity = items["item_id"].to_numpy(), items["log_popularity"].to_numpy()
    same = (
        len(ids) == world.config.items
        and ids.dtype.kind == "i"
        and bool((ids >= 0).all() and (ids < world.config.items).all())
        and abs(world.popularity_score.cpu().numpy()[ids] - popularity).max() < 1e-4
    )
    if not same:
        raise DataError(
            f"the item table of the requests ('{requests.info.dataset}') is not that of world "
            f"'{world.config.name}'; remedy: the TOML file that sampled them (option: --world)"
        )
