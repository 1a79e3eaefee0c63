"""The blend of channels against the best channel alone, on one part of the requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Ints

__all__ = ["BlendGain", "best_channel", "blend_gain"]

BLEND = "blend"
_NORMAL = 1.96  # of a two-sided 95 % interval
Recall = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class BlendGain:
    """Recall of the blend less that of a channel.

    Attributes:
        channel: the channel.
        requests: with a positive.
        gain: mean difference.
        low, high: its 95 % interval.
    """

    channel: str
    requests: int
    gain: float
    low: float
    high: float

    @property
    def below(self) -> bool:
        """Whether the blend is below the channel by more than chance."""
        return self.high < 0


def best_channel(recall: Recall) -> str:
    """The channel with the largest mean recall.

    Args:
        recall: channel, or ``blend`` → [B] recall of each request; B at least 1.
    """
    return max((name for name in recall if name != BLEND), key=lambda name: recall[name].mean())


def blend_gain(recall: Recall, channel: str, user: Ints) -> BlendGain:
    """Compare the blend with a channel, request by request.

    The interval is normal; requests of one user vary together (cluster-robust error; Liang and
    Zeger, Biometrika 1986).

    Args:
        recall: channel, or ``blend`` → [B] recall of each request; B at least 1.
        channel: the channel.
        user: [B] code of each request's user.
    """
    difference = recall[BLEND] - recall[channel]
    gain = float(difference.mean())
    by_user = np.bincount(user, difference - gain)
    error = _NORMAL * float(np.sqrt(np.square(by_user).sum())) / len(difference)
    return BlendGain(channel, len(difference), gain, gain - error, gain + error)
