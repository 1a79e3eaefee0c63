"""Retrieval channels by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Events
from goalrank.logs.retrieval.channel import RetrievalChannel
from goalrank.logs.retrieval.factorisation import Factorisation
from goalrank.logs.retrieval.item_to_item import ItemToItem
from goalrank.logs.retrieval.popularity import Popularity
from goalrank.registry import Registry

__all__ = ["CHANNELS", "ChannelInputs"]


@dataclass(frozen=True)
class ChannelInputs:
    """What a retrieval channel is made from.

    Attributes:
        log: [E] consumed items, sorted by user and time; a channel learns a row only once `advance`
            has named it.
        items, users: sizes of the catalogue and of the user base.
        confidence: [E] weight of a row: 1 where it was liked, below 1 elsewhere.
        links: the item-to-item model that candidate features are computed from as well.
        factors: width of a factorisation.
        threads: worker threads; results must not depend on it.
        seed: of every random draw.
    """

    log: Events
    items: int
    users: int
    confidence: NDArray[np.float32]
    links: ItemToItem
    factors: int
    threads: int
    seed: int


def factorisation(inputs: ChannelInputs) -> RetrievalChannel:
    """Implicit-feedback factorisation."""
    return Factorisation(
        inputs.log,
        inputs.items,
        inputs.users,
        factors=inputs.factors,
        confidence=inputs.confidence,
        threads=inputs.threads,
        seed=inputs.seed,
    )


def item_to_item(inputs: ChannelInputs) -> RetrievalChannel:
    """The shared item-to-item model."""
    return inputs.links


def popularity(inputs: ChannelInputs) -> RetrievalChannel:
    """Counts of consumption."""
    return Popularity(inputs.log, inputs.items)


CHANNELS: Registry[Callable[[ChannelInputs], RetrievalChannel]] = Registry(
    "channel",
    "goalrank.channels",
    {name: f"{__name__}:{name}" for name in ("factorisation", "item_to_item", "popularity")},
    option="quotas",
)
