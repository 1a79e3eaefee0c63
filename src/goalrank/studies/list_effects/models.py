"""Three reward models that differ in what they see of a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from goalrank.requests import EncodedRequests
from goalrank.rewards import ListReward
from goalrank.training import FitConfig, Job, RewardConfig

ITEMS, POSITIONS, LISTS = "item-wise", "item and position", "list-level"
MODELS = (ITEMS, POSITIONS, LISTS)
_BATCH = 256
FloatArray = NDArray[np.float32]

_SEES: Mapping[str, Mapping[str, Any]] = {
    ITEMS: {"neighbours": False, "positions": False},
    POSITIONS: {"neighbours": False, "positions": True},
    LISTS: {"neighbours": True, "positions": True},
}


def study_recipe(config: FitConfig, kind: str, seed: int) -> FitConfig:
    """The recipe of one seed: one kind, and an encoder that looks at candidates one by one.

    Attention among the candidates (`reward.layers`) would show the item-wise model the others of
    a list whose candidates are all shown.
    """
    reward = config.reward.model_copy(update={"kinds": (kind,), "weights": None, "layers": 0})
    return config.model_copy(update={"reward": reward, "seed": seed})


def what_it_sees(config: RewardConfig, model: str) -> RewardConfig:
    """Settings of one of `MODELS`; all three share layers, the encoder's first weights, and batches."""
    return config.model_copy(update=dict(_SEES[model]))


def fit_model(job: Job, model: str) -> ListReward:
    """Fit one of `MODELS` on the job's requests."""
    settings = what_it_sees(job.config.reward, model)
    return cast(ListReward, job.fit_reward_member(settings, model.replace(" ", "-")))


def predict(model: ListReward, requests: EncodedRequests) -> FloatArray:
    """Probabilities [R, S] of the kind at each slot of the shown lists; NaN at empty slots."""
    width = int(np.diff(requests.shown_start).max(initial=1))
    out = np.full((len(requests), width), np.nan, np.float32)
    with torch.inference_mode():
        for batch in requests.batches(_BATCH):
            p = model.slot_probabilities(batch, batch.shown.unsqueeze(1))[:, 0, :, 0]
            p = p.masked_fill(~batch.shown_mask, torch.nan)
            out[batch.index.numpy(), : p.shape[1]] = p.numpy()
    return out
