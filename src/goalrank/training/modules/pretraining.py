"""Pre-training of request encoders: which item comes next in a history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from goalrank.encoders import EncoderSizes, RequestEncoder
from goalrank.nn import divisor, request_salt, uniform, whole_ids
from goalrank.requests import Batch, InputSpec
from goalrank.training.config import LoopConfig
from goalrank.training.modules.task import Task

_NEVER = -1e4  # a logit; finite, so that a batch without any next item has gradients


class PretrainTask(Task[RequestEncoder]):
    """Next-item prediction: each history is cut at a random event, whose item is to be found.

    The candidates are the next items of the whole batch, so that the parts of the encoder that
    compare candidates with the history are trained, on far more examples than logged lists.
    """

    def __init__(self, spec: InputSpec, sizes: EncoderSizes, loop: LoopConfig, seed: int) -> None:
        bare = replace(spec, candidate_features=0, model_scores=0, has_score=False)
        super().__init__(RequestEncoder(bare, replace(sizes, layers=0)), loop, seed)
        self.score = nn.Linear(sizes.width, 1)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Compute the mean cross-entropy of the next items among the items of the batch."""
        cut, target = cut_histories(batch, self.step_rng())
        encoded = self.model(cut)
        logits = self.score(encoded.candidates).squeeze(-1)
        logits = logits.masked_fill(~cut.candidate_mask, _NEVER)
        # An item that occurs several times in the batch is one item.
        same = (cut.candidates == target[:, None]) & (target[:, None] > 0)
        loss = logits.logsumexp(-1) - logits.masked_fill(~same, -torch.inf).logsumexp(-1)
        has = target > 0
        value = torch.where(has, loss, torch.zeros_like(loss)).sum() / divisor(has.sum())
        self.log("loss", value, prog_bar=True)
        return value

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule, with the scoring layer added."""
        chosen = super().configure_optimizers()
        chosen["optimizer"].add_param_group(
            {"params": list(self.score.parameters()), "weight_decay": 0.0}
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(chosen["optimizer"], self._factor)
        chosen["lr_scheduler"]["scheduler"] = schedule
        return chosen

    def validate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Refuse: pre-training is not validated."""
        raise NotImplementedError("pre-training is not validated")


def cut_histories(batch: Batch, rng: torch.Generator) -> tuple[Batch, Tensor]:
    """Cut histories at a random event; the items of these events become the candidates.

    Returns:
        the batch with history[:cut] and candidates [B, B] (of the whole batch where processes
        share it); target item rows [B], 0 where the history is too short.
    """
    length = batch.history_mask.sum(-1)
    u = uniform(request_salt(batch.key, rng), torch.zeros_like(length)[:, None], 1).flatten()
    cut = 1 + (u * (length - 1).clamp_min(0)).long()
    ok = cut < length
    target = batch.history.gather(1, cut.clamp_max(batch.history.shape[1] - 1)[:, None]).squeeze(1)
    target = torch.where(ok, target, 0)
    age = batch.history_age.gather(1, cut.clamp_max(batch.history.shape[1] - 1)[:, None])
    keep = torch.arange(batch.history.shape[1], device=length.device) < cut[:, None]
    keep = keep & batch.history_mask
    hours = (batch.history_age.expm1() - age.expm1()).clamp_min(0)
    offered = whole_ids(target)
    b, n = batch.size, len(offered)
    return replace(
        batch,
        history=batch.history * keep,
        history_mask=keep,
        history_feedback=batch.history_feedback * keep,
        history_age=hours.log1p() * keep,
        candidates=offered.expand(b, n),
        candidate_mask=(offered > 0).expand(b, n),
        candidate_score=batch.candidate_score.new_zeros(b, n),
        candidate_features=batch.candidate_features.new_zeros(b, n, 0),
    ), target


def transfer_encoder(weights: Mapping[str, Tensor] | None, encoder: RequestEncoder | None) -> None:
    """Copy weights into a request encoder, where names and shapes agree.

    Args:
        weights: another `RequestEncoder`'s by name; None copies nothing.
        encoder: None where the model has none; nothing is copied then.
    """
    if weights is None or encoder is None:
        return
    mine = encoder.state_dict()
    taken = {k: v for k, v in weights.items() if k in mine and mine[k].shape == v.shape}
    undrawn = any(p.is_meta for p in encoder.parameters())
    if undrawn:
        taken = {k: v.clone() for k, v in taken.items()}  # assigned, not copied
    encoder.load_state_dict({**mine, **taken}, assign=undrawn)
