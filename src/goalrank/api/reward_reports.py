"""How good a reward model is, on requests that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank import evaluation as ev
from goalrank.rankers import RandomOrder, Ranker
from goalrank.requests import Batch, EncodedRequests
from goalrank.rewards import ListReward, Reward
from goalrank.training import Job, feedback_at

_LISTS = 16  # lists per request
PROXY = (
    "within a request, over random lists of candidates with known feedback: the reward against the "
    "feedback observed on the same items, summed with the reward's own weights. A proxy: nobody "
    "was shown these lists"
)
Array = NDArray[np.float64]


def fit_itemwise(job: Job) -> ListReward:
    """Fit a model of each item alone, to compare with: it sees neither place nor other items.

    It has the reward model's network and is trained on the same requests for as long. Attention
    among the candidates is left out: it would show the rest of a list whose candidates are all shown.
    """
    alone = {"neighbours": False, "positions": False, "layers": 0}
    settings = job.config.reward.model_copy(update=alone)
    return cast(ListReward, job.fit_reward_member(settings, "itemwise"))


@dataclass
class _Found:
    """Gathered over batches; each entry is one batch's."""

    probability: list[Array] = field(default_factory=list)  # [n, L, K']
    itemwise: list[Array] = field(default_factory=list)  # [n, L, K']
    label: list[Array] = field(default_factory=list)  # [n, L, K']
    mask: list[NDArray[np.bool_]] = field(default_factory=list)  # [n, L]
    reward: list[Array] = field(default_factory=list)  # [b, G]
    observed: list[Array] = field(default_factory=list)  # [b, G]


def reward_report(
    reward: Reward,
    columns: EncodedRequests,
    *,
    slots: int = 6,
    itemwise: ListReward | None = None,
    proposer: Ranker | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> dict[str, Any]:
    """Probabilities by kind and slot, gains over simpler models, and the order of lists.

    Exposed lists are judged as they were shown. Where nothing was shown (retrieved candidates),
    lists are drawn at random and from `proposer`, and candidates not consumed count as negative.

    Args:
        reward: a ListReward, or an Ensemble of them (their mean probability is judged).
        columns: held-out requests.
        slots: L of the drawn lists.
        itemwise: from `fit_itemwise`.
        proposer: a ranker whose lists are judged along with random ones.
        seed: of every random draw.
        batch_size: requests per batch; the result does not depend on it.

    Returns:
        kinds (name → auc, log_loss, gains, calibration_error), slots (rows of `slot_quality`),
        calibration of the kind that weighs most, correlation (see `PROXY`).
    """
    found = _Found()
    rng = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        for batch in columns.batches(batch_size):
            lists = _lists(batch, columns.protocol, slots, proposer, rng)
            _judge_slots(found, reward, itemwise, batch, lists)
            _judge_order(found, reward, batch, max(slots // 2, 1), rng)
    kinds = tuple(columns.kinds[k] for k in _members(reward)[0].kind_index)
    weights = _members(reward)[0].kind_weights.tolist()
    return _summary(found, kinds, weights)


def _members(reward: Reward) -> list[ListReward]:
    """The models that predict feedback, one by one."""
    return [cast(ListReward, member) for member in reward.members if member.kind_index]


def _probabilities(reward: Reward, batch: Batch, lists: Tensor) -> Tensor:
    """[B, G, L, K'], the mean over an ensemble's members."""
    each = [member.slot_probabilities(batch, lists) for member in _members(reward)]
    return torch.stack(each).mean(0)


def _lists(
    batch: Batch, protocol: str, slots: int, proposer: Ranker | None, rng: torch.Generator
) -> Tensor:
    """Lists [B, G, L] to judge slot by slot."""
    if protocol == "exposed":
        return batch.shown.unsqueeze(1)
    parts = [_random_lists(batch, _LISTS // 2, slots, rng)]
    if proposer is not None:
        parts.append(proposer.propose(batch, _LISTS // 2, slots, rng).lists)
    return torch.cat(parts, 1)


def _random_lists(batch: Batch, count: int, slots: int, rng: torch.Generator) -> Tensor:
    """Uniformly random lists [B, count, L] of candidates whose feedback is known."""
    known = ev.known_only(batch)
    salts = torch.randint(2**62, (count,), generator=rng).tolist()
    return torch.stack([RandomOrder(salt).rank(known, slots) for salt in salts], 1)


def _judge_slots(
    found: _Found, reward: Reward, itemwise: ListReward | None, batch: Batch, lists: Tensor
) -> None:
    index = _members(reward)[0].kind_index
    label = feedback_at(batch, lists)[..., index].clamp(0, 1)
    real = lists >= 0
    found.probability.append(_flat(_probabilities(reward, batch, lists)))
    found.label.append(_flat(label))
    found.mask.append(real.flatten(0, 1).numpy())
    if itemwise is not None:
        found.itemwise.append(_flat(itemwise.slot_probabilities(batch, lists)))


def _judge_order(
    found: _Found, reward: Reward, batch: Batch, slots: int, rng: torch.Generator
) -> None:
    """Rewards of random lists, and what was observed on their items; see `PROXY`."""
    lists = _random_lists(batch, _LISTS, slots, rng)
    model = _members(reward)[0]
    label = feedback_at(batch, lists)[..., model.kind_index].clamp(0, 1)
    place = torch.arange(slots).clamp_max(len(model.slot_weights) - 1)
    gain = (label @ model.kind_weights) * model.slot_weights[place] * (lists >= 0)
    found.reward.append(reward(batch, lists).double().numpy())
    found.observed.append(gain.sum(-1).double().numpy())


def _flat(values: Tensor) -> Array:
    """[B, G, L, K'] → [B·G, L, K']."""
    return values.flatten(0, 1).double().numpy()


def _padded(parts: list[Any]) -> Any:
    """Batches of different widths one below another; added positions are masked."""
    width = max(part.shape[1] for part in parts)
    wide = [
        np.pad(part, [(0, 0), (0, width - part.shape[1])] + [(0, 0)] * (part.ndim - 2))
        for part in parts
    ]
    return np.concatenate(wide)


def _summary(found: _Found, kinds: tuple[str, ...], weights: list[float]) -> dict[str, Any]:
    p, y, mask = _padded(found.probability), _padded(found.label), _padded(found.mask)
    rival = _padded(found.itemwise) if found.itemwise else None
    table = {
        kind: _kind(
            p[..., k][mask], y[..., k][mask], None if rival is None else rival[..., k][mask]
        )
        for k, kind in enumerate(kinds)
    }
    main = int(np.argmax(weights))
    reliability = ev.calibration(p[..., main][mask], y[..., main][mask])
    order = ev.order_correlation(np.concatenate(found.reward), np.concatenate(found.observed))
    return {
        "kinds": table,
        "slots": ev.slot_quality(p, y, mask, kinds),
        "calibration": {
            "kind": kinds[main],
            "predicted": reliability.predicted.tolist(),
            "observed": reliability.observed.tolist(),
            "error": reliability.error,
        },
        "correlation": {
            f"{name} with observed gain (proxy)": spread.to_dict() for name, spread in order.items()
        },
        "correlation_note": PROXY,
    }


def _kind(p: Array, y: Array, rival: Array | None) -> dict[str, float]:
    out = {
        "auc": ev.reward_auc(p, y),
        "log_loss": ev.log_loss(p, y),
        "constant_log_loss": ev.constant_log_loss(y),
        "gain_over_constant": ev.log_loss_gain(p, y),
        "calibration_error": ev.calibration(p, y).error,
    }
    if rival is not None:
        out["itemwise_auc"] = ev.reward_auc(rival, y)
        out["itemwise_log_loss"] = ev.log_loss(rival, y)
        out["gain_over_itemwise"] = ev.log_loss_gain(p, y, rival)
    return out
