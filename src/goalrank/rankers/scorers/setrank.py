"""SetRank: a permutation-equivariant ranker (Pang et al., 2019, arXiv 1912.05891)."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import at_least_single, zeroed
from goalrank.rankers.base import Scorer
from goalrank.rankers.initial_order import known_candidates
from goalrank.rankers.scorers.dlcm import attention_rank
from goalrank.requests import Batch, InputSpec


class SetRank(Scorer):
    """A scorer with self-attention between candidates without positions; attention rank loss.

    The score of a candidate depends on the set of candidates and not on their order, for any N.
    `inducing` > 0 gives the paper's induced attention (IMSAB) through that many learned points,
    at a cost linear in N; 0 gives full attention (MSAB). The initial rank is not an input (the
    paper's variant without ordinal embeddings); the retriever's score is, as for every ranker here.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
        inducing: points of the induced attention; None uses `sizes.inducing`.
    """

    has_graph = True

    def __init__(
        self, spec: InputSpec, sizes: EncoderSizes, *, inducing: int | None = None
    ) -> None:
        super().__init__()
        points = sizes.inducing if inducing is None else inducing
        self.encoder = RequestEncoder(spec, replace(sizes, inducing=points))
        self.wide = Wide(spec)
        self.head = zeroed(nn.Linear(sizes.width, 1))

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]."""
        encoded = self.encoder(batch)
        scores = at_least_single(self.head(encoded.candidates)) + self.wide(batch, encoded.plain)
        out: Tensor = scores.squeeze(-1)
        return out

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Attention rank loss, a scalar."""
        return attention_rank(self.scores(batch), batch.relevance, known_candidates(batch))
