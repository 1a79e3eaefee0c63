"""Rewards described by the arguments that build them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from goalrank.encoders import EncoderSizes
from goalrank.errors import BundleError
from goalrank.nn import InducedBlock
from goalrank.requests import InputSpec
from goalrank.rewards.base import Reward
from goalrank.rewards.combined import Ensemble, Weighted
from goalrank.rewards.list_reward import ListReward
from goalrank.rewards.observed import ObservedGain


def describe_reward(reward: Reward, spec: InputSpec) -> dict[str, Any]:
    """What `build_reward` needs to make an empty reward of the same shape; plain values.

    Raises:
        BundleError: a reward of a class that bundles do not know.
    """
    if isinstance(reward, ListReward):
        return {"class": "ListReward", "arguments": _list_reward(reward, spec)}
    if isinstance(reward, Ensemble):
        members = [describe_reward(member, spec) for member in _rewards(reward.members)]
        return {"class": "Ensemble", "members": members, "pessimism": reward.pessimism}
    if isinstance(reward, Weighted):
        members = [describe_reward(member, spec) for member in _rewards(reward.rewards)]
        return {"class": "Weighted", "members": members, "weights": reward.weights.tolist()}
    if isinstance(reward, ObservedGain):
        return {"class": "ObservedGain"}
    raise BundleError(
        f"a bundle cannot hold a reward of class {type(reward).__name__}; it holds ListReward, "
        f"Ensemble, Weighted and ObservedGain; remedy: save the bundle without the reward"
    )


def rebuild_reward(description: dict[str, Any], spec: InputSpec) -> Reward:
    """A reward of the described shape; its weights are to be loaded.

    Raises:
        BundleError: a class that this version does not know.
    """
    name = description["class"]
    if name == "ListReward":
        arguments = dict(description["arguments"])
        sizes = EncoderSizes(**arguments.pop("sizes"))
        return ListReward(spec, sizes, **arguments)
    if name == "Ensemble":
        members = [rebuild_reward(member, spec) for member in description["members"]]
        return Ensemble(members, description["pessimism"])
    if name == "Weighted":
        members = [rebuild_reward(member, spec) for member in description["members"]]
        return Weighted(members, description["weights"])
    if name == "ObservedGain":
        return ObservedGain()
    raise BundleError(
        f"the bundle's reward is of class '{name}', which this goalrank does not know; remedy: "
        f"pip install --upgrade goalrank"
    )


def _rewards(modules: Any) -> list[Reward]:
    return list(modules)


def _list_reward(reward: ListReward, spec: InputSpec) -> dict[str, Any]:
    return {
        "sizes": asdict(_sizes(reward)),
        "kinds": [spec.kinds[k] for k in reward.kind_index],
        "weights": reward.kind_weights.tolist(),
        "list_layers": len(reward.blocks),
        "relations": reward.relations,
        "slots": 1 if reward.position is None else len(reward.position),
        "slot_weights": reward.slot_weights.tolist(),
        "causal": reward.causal,
        "positions": reward.position is not None,
        "link": reward.link,
    }


def _sizes(reward: ListReward) -> EncoderSizes:
    encoder = reward.encoder
    blocks = list(encoder.blocks)
    induced = blocks[0].points.shape[1] if blocks and isinstance(blocks[0], InducedBlock) else 0
    return EncoderSizes(
        width=reward.head.in_features,
        layers=len(blocks),
        heads=encoder.cross.heads,
        dropout=encoder.cross.dropout,
        id_dropout=encoder.items.id_dropout,
        inducing=induced,
        user_ids=encoder.users.ids is not None,
        id_width=out.in_features if (out := encoder.items.ids_out) is not None else 0,
    )
