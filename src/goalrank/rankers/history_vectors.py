"""The history as a sequence of vectors, for rankers that read it directly."""

from __future__ import annotations

from torch import Tensor, nn

from goalrank.encoders import EntityEmbedding, HistoryEvents
from goalrank.requests import Batch


class HistoryVectors(nn.Module):
    """Vectors of history events: item embedding + the event's own vector, normalised.

    Args:
        width: D, the width of the item embedding.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.event = HistoryEvents(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, items: EntityEmbedding, batch: Batch) -> Tensor:
        """Compute the vectors [B, H, D] of a batch; padded events are 0.

        Args:
            items: embedding of items, of width D.
            batch: B requests.
        """
        vectors = self.norm(items(batch.items, batch.history) + self.event.of(batch))
        out: Tensor = vectors * batch.history_mask.unsqueeze(-1)
        return out


def run_packed(rnn: nn.LSTM, x: Tensor, length: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run a recurrent network over sequences of different lengths without their padding.

    Args:
        rnn: the network, batch first.
        x: [M, T, D], real entries first.
        length: [M] 0…T; empty sequences read their first (padded) entry.

    Returns:
        Outputs [M, T, ·] (0 where padded) and the last states, as `nn.LSTM` returns them.
    """
    packed = nn.utils.rnn.pack_padded_sequence(
        x, length.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False
    )
    out, state = rnn(packed)
    padded, _ = nn.utils.rnn.pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
    return padded, state
