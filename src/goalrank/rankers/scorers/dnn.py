"""DNN: a pointwise network of user, history and item."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from torch.nn import functional as F

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import at_least_single, divisor, mlp, zeroed
from goalrank.rankers.base import Scorer
from goalrank.requests import Batch, InputSpec


class DNN(Scorer):
    """A scorer of each candidate alone, trained by binary cross-entropy.

    The request encoder without layers between candidates, then a network of `sizes.layers` hidden
    layers, so that the depth is that of the other rankers. Its output is added to linear scores of
    the plain features.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
    """

    has_graph = True

    def __init__(self, spec: InputSpec, sizes: EncoderSizes) -> None:
        super().__init__()
        self.encoder = RequestEncoder(spec, replace(sizes, layers=0))
        hidden = [2 * sizes.width] * max(sizes.layers, 1)
        self.wide = Wide(spec, probabilities=True)
        self.head = zeroed(mlp(sizes.width, *hidden, 1, dropout=sizes.dropout))

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]."""
        return self._scores(batch, None)

    def _scores(self, batch: Batch, at: Tensor | None) -> Tensor:
        encoded = self.encoder(batch, at=at)
        scores = at_least_single(self.head(encoded.candidates)) + self.wide(
            batch, encoded.plain, at
        )
        out: Tensor = scores.squeeze(-1)
        return out

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Binary cross-entropy on candidates with known feedback, a scalar."""
        known = batch.observed & batch.candidate_mask
        target = batch.relevance.clamp(0, 1)
        at = None
        most = int(known.sum(1).max())
        if most < known.shape[1]:  # few known labels: the others need no scores
            at = known.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
            known, target = known.gather(1, at), target.gather(1, at)
        each = F.binary_cross_entropy_with_logits(self._scores(batch, at), target, reduction="none")
        return (each * known).sum() / divisor(known.sum())
