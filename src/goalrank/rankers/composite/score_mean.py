"""Ensembles of scorers: the mean of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from goalrank.errors import ConfigError
from goalrank.rankers.base import Ranker, Scorer
from goalrank.requests import Batch


class ScoreMean(Scorer):
    """The mean score of several trained scorers, such as one ranker trained from several seeds.

    Scores count as they are, so members should be of one kind: scores of other losses have other
    scales.

    Args:
        members: scorers, at least one.

    Raises:
        ConfigError: no member, or one that does not score candidates.
    """

    def __init__(self, members: Sequence[Ranker]) -> None:
        super().__init__()
        other = [type(m).__name__ for m in members if not m.scores_candidates]
        if other or not members:
            raise ConfigError(
                f"members {other or 'none'} of an ensemble do not score candidates; remedy: "
                f"scorers such as prm or dnn (option: rankers.options.base)"
            )
        self.members = nn.ModuleList(members)

    @property
    def exportable(self) -> bool:
        """Whether every member is."""
        return all(cast(Ranker, member).exportable for member in self.members)

    def scores(self, batch: Batch) -> Tensor:
        """Mean scores of the candidates: [B, N]."""
        each = [cast(Ranker, member).scores(batch) for member in self.members]
        out: Tensor = torch.stack(each).mean(0)
        return out
