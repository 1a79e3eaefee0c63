"""The wide path: a linear part over plain features, which networks start beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from goalrank.encoders.plain import PlainFeatures
from goalrank.nn import Linear, at_least_single, take_rows
from goalrank.requests import Batch, InputSpec


@dataclass(frozen=True)
class WideWeights:
    """A linear solution; see `goalrank.encoders.fit_conditional_logit`.

    Attributes:
        weight: [P] per plain feature.
        category: [C] per row of the items' joint category table.
        slope, intercept: logit of positive feedback = slope · score + intercept, slope ≥ 0.
    """

    weight: Tensor
    category: Tensor
    slope: float
    intercept: float

    @property
    def has_weights(self) -> bool:
        """Whether any weight is not 0; without one, all candidates have the same score."""
        return bool(self.weight.any()) or bool(self.category.any())


class Wide(nn.Module):
    """Linear scores of candidates over plain features and the items' categories.

    A network that adds its own output, zero before training, to these scores begins as the linear
    model and has to earn its part (wide and deep learning: Cheng et al., 2016, arXiv 1606.07792).
    What all candidates of a request share, such as the user's features, changes no order and is
    left out.

    Args:
        spec: shapes of the batches.
        outputs: K, scores per candidate.
        probabilities: whether the scores are logits of probabilities, which need a level, and not
            only an order.
    """

    def __init__(self, spec: InputSpec, outputs: int = 1, *, probabilities: bool = False) -> None:
        super().__init__()
        self.features = PlainFeatures(spec)
        self.outputs = outputs
        self.probabilities = probabilities
        width = self.features.width
        self.linear = Linear(width, outputs, bias=probabilities) if width else None
        self.category = (
            nn.EmbeddingBag(spec.item_category, outputs, mode="sum", padding_idx=0)
            if spec.item_category_width
            else None
        )
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, batch: Batch, plain: Tensor | None = None, at: Tensor | None = None
    ) -> Tensor:
        """Score candidates: [B, N, K].

        Args:
            batch: B requests.
            plain: [B, N, P] plain features of the candidates, where they are known already.
            at: [B, M] the only positions to score; N is then M, also in `plain`.
        """
        rows = batch.candidates if at is None else batch.candidates.gather(1, at)
        scores = batch.candidate_score.new_zeros(*rows.shape, self.outputs)
        if self.linear is not None:
            if plain is None:
                plain = self.features(batch)
                plain = plain if at is None else take_rows(plain, at)
            scores = at_least_single(self.linear(plain))
        if self.category is not None:
            flat = rows.reshape(-1)
            weight = batch.items.category_weight[flat].to(self.category.weight.dtype)
            bags = self.category(batch.items.category[flat], per_sample_weights=weight)
            scores = scores + bags.view(scores.shape)
        return scores

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load weights; a model of version 0.1.0 has no wide path, which is one of zeros."""
        mine = {f"{prefix}{name}": value for name, value in self.state_dict().items()}
        if not state.keys() & mine.keys():
            state.update({name: torch.zeros_like(value) for name, value in mine.items()})
        super()._load_from_state_dict(state, prefix, *rest)

    def start_from(self, solutions: Sequence[WideWeights]) -> None:
        """Take over linear solutions, one per output.

        Args:
            solutions: K solutions, fitted to the same `InputSpec`.
        """
        slopes = [s.slope if self.probabilities else 1.0 for s in solutions]
        with torch.no_grad():
            for k, (solution, slope) in enumerate(zip(solutions, slopes, strict=True)):
                if self.linear is not None:
                    self.linear.weight[k] = slope * solution.weight
                if self.linear is not None and self.probabilities:
                    self.linear.bias[k] = solution.intercept
                if self.category is not None:
                    self.category.weight[:, k] = slope * solution.category


def wide_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Parameters of a model's wide paths, which are trained apart from its networks."""
    paths = [module for module in model.modules() if isinstance(module, Wide)]
    return [parameter for path in paths for parameter in path.parameters()]
