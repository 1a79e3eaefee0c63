"""How a bundle's policy sees logged lists: probabilities, and a reward model's values of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.bundles import Bundle, Predictor
from goalrank.constraints import Constraints, Resolved, constrained_lists
from goalrank.errors import ConfigError
from goalrank.nn import request_salt
from goalrank.requests import Batch, Requests, feedback_lists
from goalrank.rewards import Reward

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TargetPolicy:
    """What chooses the lists.

    Attributes:
        bundle: the ranker and its encoder.
        temperature: None is greedy, the best list with probability 1; a number draws.
        rules: hold for every list.
    """

    bundle: Bundle
    temperature: float | None = None
    rules: Constraints = field(default_factory=Constraints)

    @property
    def stepwise(self) -> bool:
        """Whether the first items of a list have their own probability."""
        return self.temperature is None or self.bundle.ranker.stepwise


@dataclass(frozen=True)
class Views:
    """A policy's view of R logged lists of at most S slots.

    Attributes:
        prefix: [R, S] log-probability of the first t + 1 items; of the whole list in the last.
        predicted, baseline: [R] see `goalrank.evaluation.Logged`; NaN without a model.
    """

    prefix: Array
    predicted: Array
    baseline: Array


def view(
    policy: TargetPolicy,
    requests: Requests,
    *,
    model: Reward | None = None,
    weights: Mapping[str, float] | None = None,
    prefixes: bool = False,
    lists: int = 16,
    seed: int = 0,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Views:
    """Judge logged lists by a policy, which is asked for as many items as were shown.

    Args:
        policy: the policy to judge.
        requests: R, each with at least one item shown.
        model: reward model for `predicted` and `baseline`.
        weights: of the feedback kinds in the reward that the model is to predict.
        prefixes: fill all of `prefix`, not only its last column.
        lists: drawn per request for the baseline's mean under the policy.
        seed: of these draws; they do not depend on `batch_size`.
        batch_size: requests per batch; the result does not depend on it.
        device: where to compute.
        progress: called with (requests done, requests in all).

    Raises:
        ConfigError: a rule on an unknown column, or on a ranker that cannot be masked.
        InfeasibleError: rules that no list obeys and that must not be relaxed.
    """
    predictor = Predictor(policy.bundle, rules=policy.rules)
    columns = policy.bundle.encoder.encode(requests)
    columns = replace(columns, items=columns.items.to(device), users=columns.users.to(device))
    policy.bundle.ranker.to(device)
    length = np.diff(columns.shown_start)
    out = Views(np.zeros((len(columns), int(length.max()))), *np.full((2, len(columns)), np.nan))
    value = None if model is None else _predictor(model.to(device).eval(), weights or {}, policy)
    done = 0
    # A policy asked for fewer items is another policy, so lists of one length go together.
    for slots in np.unique(length):
        rows = np.flatnonzero(length == slots)
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            batch = columns.batch(part).to(device)
            plans = None if policy.rules.empty else predictor.plans(requests.take(part), int(slots))
            under = _Under(policy, plans, batch, int(slots))
            _judge(out, part, under, value, prefixes, lists, seed)
            done += len(part)
            if progress is not None:
                progress(done, len(columns))
    return out


class _Under:
    """A policy's lists of `slots` items for one batch, under its rules if it has any."""

    @torch.inference_mode()
    def __init__(
        self,
        policy: TargetPolicy,
        plans: Sequence[Resolved | None] | None,
        batch: Batch,
        slots: int,
    ) -> None:
        self.ranker, self.plans, self.batch, self.slots = policy.bundle.ranker, plans, batch, slots
        self.temperature = policy.temperature
        self.state = self.ranker.encode(batch)

    def best(self) -> Tensor:
        """Best lists [B, L]."""
        if self.plans is None:
            return self.ranker.best(self.state, self.batch, self.slots)
        return self._ruled(self.plans)[0]

    def draw(self, lists: int, rng: torch.Generator) -> Tensor:
        """Drawn lists [B, G, L]."""
        if self.plans is None:
            warmth = self.temperature or 1.0
            return self.ranker.draw(self.state, self.batch, lists, self.slots, rng, warmth)
        drawn = [
            self._ruled(self.plans, salt=request_salt(self.batch.key, rng))[0] for _ in range(lists)
        ]
        return torch.stack(drawn, 1)

    def log_prob(self, shown: Tensor, prefixes: bool) -> Tensor:
        """[B, L] log-probabilities of prefixes, or [B, 1] of the whole lists."""
        if self.plans is not None:
            steps: list[Tensor] = []
            _, total = self._ruled(self.plans, forced=shown, steps=steps)
            return torch.stack(steps, 1).cumsum(1) if prefixes else total.unsqueeze(1)
        lists = shown.unsqueeze(1)
        if prefixes:
            upto = torch.ones(self.slots, self.slots, dtype=torch.bool, device=shown.device).tril()
            lists = lists.expand(-1, self.slots, -1).masked_fill(~upto, -1)  # [B, L, L]
        warmth = self.temperature or 1.0
        return self.ranker.list_log_prob(self.state, self.batch, lists, warmth)

    def _ruled(self, plans: Sequence[Resolved | None], **how: Any) -> tuple[Tensor, Tensor]:
        return constrained_lists(
            self.ranker, self.state, self.batch, plans, self.slots,
            temperature=self.temperature or 1.0, **how,
        )  # fmt: skip


@torch.inference_mode()
def _judge(
    out: Views,
    rows: NDArray[np.int64],
    under: _Under,
    value: Callable[[Batch, Tensor], Tensor] | None,
    prefixes: bool,
    lists: int,
    seed: int,
) -> None:
    """Fill the rows of one batch whose lists have the same number of items."""
    shown = under.batch.shown[:, : under.slots]
    if under.temperature is None:
        drawn = under.best().unsqueeze(1)
        same = (drawn[:, 0] == shown).long().cumprod(1)
        log_prob = torch.where(same.bool(), 0.0, -torch.inf)
    else:
        drawn = shown.unsqueeze(1)
        if value is not None:
            # Anew for each batch: see `request_salt`.
            drawn = under.draw(lists, torch.Generator().manual_seed(seed))
        log_prob = under.log_prob(shown, prefixes)
    # A list that has ended keeps its last value, so that prefixes stay defined in all S slots.
    tail = log_prob[:, -1:].expand(-1, out.prefix.shape[1] - log_prob.shape[1])
    out.prefix[rows] = torch.cat([log_prob, tail], 1).double().cpu().numpy()
    if value is not None:
        out.predicted[rows] = value(under.batch, shown.unsqueeze(1))[:, 0].double().cpu().numpy()
        out.baseline[rows] = value(under.batch, drawn).double().mean(1).cpu().numpy()


def _predictor(
    model: Reward, weights: Mapping[str, float], policy: TargetPolicy
) -> Callable[[Batch, Tensor], Tensor]:
    """Value of lists [B, G, L] → [B, G] in the units of the measured reward, as far as known.

    List rewards predict every kind's probability, and these are added up with the kinds' weights.
    Other models give their own reward: the estimate stays without bias, only its variance suffers.
    """
    kinds = policy.bundle.encoder.spec.kinds
    wanted = [kinds.index(kind) if kind in kinds else -1 for kind in weights]
    apt = [m for m in model.members if m.kind_index and set(wanted) <= set(m.kind_index)]
    if len(apt) < len(model.members):
        return model
    vectors = [
        torch.tensor([dict(zip(wanted, weights.values())).get(k, 0.0) for k in m.kind_index])
        for m in apt
    ]

    def value(batch: Batch, lists: Tensor) -> Tensor:
        each = [
            (m.slot_probabilities(batch, lists) @ v.to(lists.device)).sum(-1)
            for m, v in zip(apt, vectors)
        ]
        return torch.stack(each).mean(0)

    return value


def slot_rewards(requests: Requests, weights: Mapping[str, float]) -> Array:
    """[R, S] Σ_kinds weight · feedback of each slot, 0 in empty slots.

    Raises:
        ConfigError: a kind that the log does not have.
    """
    kinds = requests.frame["feedback"].struct.fields
    if not weights or (unknown := [kind for kind in weights if kind not in kinds]):
        raise ConfigError(
            f"reward kinds {list(weights) if not weights else unknown} are not in the log, which "
            f"has {kinds}; remedy: --reward KIND=WEIGHT; option: reward"
        )
    length = requests.frame["shown"].list.len().to_numpy()
    real = np.arange(int(length.max(initial=1))) < length[:, None]
    out = np.zeros(real.shape)
    for kind, weight in weights.items():
        column = requests.frame.select(feedback_lists(kind))[kind]
        if (column.list.len().to_numpy() != length).any():
            raise ConfigError(
                f"feedback '{kind}' is not aligned with 'shown'; remedy: goalrank data validate"
            )
        out[real] += weight * column.explode(empty_as_null=False, keep_nulls=False).to_numpy()
    return out
