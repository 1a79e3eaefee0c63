"""A fresh reward from its settings and a table's feedback kinds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from goalrank.encoders import EncoderSizes
from goalrank.errors import ConfigError
from goalrank.rankers import known_id_dropout
from goalrank.requests import EncodedRequests, InputSpec
from goalrank.rewards import REWARDS, ListReward, Reward
from goalrank.training.config import LIST_REWARD, RewardConfig
from goalrank.training.data_rules import DataFacts
from goalrank.training.distributed.process_group import all_reduce_max


def unexposed_is_negative(config: RewardConfig, columns: EncodedRequests) -> bool:
    """Whether candidates that were not shown count as having no feedback."""
    if config.unexposed == "auto":
        return columns.protocol != "exposed"
    return config.unexposed == "negative"


def build_reward(
    spec: InputSpec, config: RewardConfig, train: EncodedRequests, slots: int
) -> Reward:
    """A fresh reward: the list reward model, or the one that the settings name.

    Raises:
        ConfigError: an unknown name or option, or feedback kinds that do not fit.
    """
    if config.name == LIST_REWARD:
        return build_list_reward(spec, config, train, slots)
    return REWARDS[config.name].from_config(spec, config.options, ())


def build_list_reward(
    spec: InputSpec, config: RewardConfig, train: EncodedRequests, slots: int
) -> ListReward:
    """A fresh list reward model for a table's feedback kinds.

    Raises:
        ConfigError: a kind that does not exist, is not within [0, 1], or weights that do not fit.
    """
    kinds = tuple(config.kinds) if config.kinds is not None else probability_kinds(train)
    _check_kinds(kinds, train)
    target = train.kinds[train.target] if train.target >= 0 else kinds[0]
    weights = config.weights or tuple(float(kind == target) for kind in kinds)
    if len(weights) != len(kinds):
        raise ConfigError(
            f"{len(weights)} weights for {len(kinds)} kinds {list(kinds)}; option: reward.weights"
        )
    if not any(weights):
        weights = (1.0,) * len(kinds)
    dcg = config.slot_weights == "dcg" or (
        config.slot_weights == "auto" and DataFacts.of(spec, train).relevance_known
    )
    shown = int(all_reduce_max([np.diff(train.shown_start).max(initial=1)])[0])

    sizes = EncoderSizes(
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        dropout=config.dropout,
        id_dropout=known_id_dropout(config.id_dropout),
        user_ids=config.user_ids,
        id_width=config.id_width,
    )
    return ListReward(
        spec,
        sizes,
        kinds,
        weights,
        list_layers=config.list_layers,
        relations=config.relations,
        slots=max(shown, slots) if not unexposed_is_negative(config, train) else slots,
        slot_weights=[1 / np.log2(t + 2) for t in range(max(slots, 50))] if dcg else None,
        causal=config.causal,
        positions=config.positions,
        link=config.link,
        neighbours=config.neighbours,
    )


def probability_kinds(train: EncodedRequests) -> tuple[str, ...]:
    """Feedback kinds whose training values are all in [0, 1]."""
    low = -all_reduce_max(-train.feedback.min(0, initial=0.0))
    high = all_reduce_max(train.feedback.max(0, initial=0.0))
    return tuple(
        kind for kind, a, b in zip(train.kinds, low, high, strict=True) if a >= 0 and b <= 1
    )


def _check_kinds(kinds: Sequence[str], train: EncodedRequests) -> None:
    if not kinds:
        raise ConfigError(
            f"no feedback kind of {list(train.kinds)} lies in [0, 1], so there is nothing whose "
            f"probability could be learned; remedy: add a 0/1 kind; option: reward.kinds"
        )
    good = probability_kinds(train)
    for kind in kinds:
        if kind not in train.kinds:
            raise ConfigError(
                f"feedback kind '{kind}' is not in the table, which has {list(train.kinds)}; "
                f"option: reward.kinds"
            )
        if kind not in good:
            raise ConfigError(
                f"feedback kind '{kind}' has values outside [0, 1], so it is no probability; "
                f"remedy: add a scaled or 0/1 version of it; option: reward.kinds"
            )
