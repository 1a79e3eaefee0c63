"""Correction for the policy that chose which lists were logged."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.requests import Batch, EncodedRequests


def list_weights(batch: Batch, cap: float) -> Tensor:
    """Ratio [B] of a uniformly random policy's probability of each logged list to the propensity.

    A reward model trained with these weights is unbiased on average over all lists, not over those
    that the logging policy preferred.

    Args:
        batch: the encoded requests.
        cap: above 1; weights are in [1/cap, cap]. Where a share e of the log was random, no
            weight is above 1/e.

    Returns:
        (N - S)! / N! / propensity, cut to that range; 1 where the propensity is unknown.

    Source: inverse propensity weighting with truncation (Ionides, 2008).
    """
    n, shown = batch.candidate_mask.sum(-1), batch.shown_mask.sum(-1)
    log_uniform = torch.lgamma(n - shown + 1.0) - torch.lgamma(n + 1.0)
    weight = (log_uniform - batch.propensity.log()).exp().clamp(1.0 / cap, cap)
    return torch.where(batch.propensity.isnan(), 1.0, weight)


def check_known(train: EncodedRequests, negative: bool) -> None:
    """Refuse a correction without propensities.

    Raises:
        ConfigError: no logged list has a propensity, or training does not use the logged lists.
    """
    if negative:
        raise ConfigError(
            "reward.propensity_cap weighs logged lists, but where candidates that were not shown "
            "count as negative the lists are drawn anew; remedy: 0; option: reward.propensity_cap"
        )
    if train.propensity.size == 0 or bool(np.isnan(train.propensity).all()):
        raise ConfigError(
            "no training request has a propensity, so the logging policy cannot be corrected for; "
            "remedy: a log of lists drawn at a temperature (goalrank serve --temperature), or 0; "
            "option: reward.propensity_cap"
        )
