"""Linear: a conditional logit on plain features, solved exactly in seconds."""

from __future__ import annotations

from torch import Tensor

from goalrank.encoders import RIDGE, Wide, fit_conditional_logit
from goalrank.errors import ConfigError
from goalrank.rankers.base import Scorer
from goalrank.requests import Batch, EncodedRequests, InputSpec


class LinearScores(Scorer):
    """Scores linear in the plain features and the item's categories, without scores of models.

    Fitted by `fit_closed_form`: the conditional logit with a ridge, to convergence by L-BFGS. It is
    what every network here begins as, and the first baseline that a network has to beat.

    Args:
        spec: shapes of the batches.
        ridge: precision of the standardised weights, above 0; larger keeps them closer to 0.

    Raises:
        ConfigError: a ridge of 0 or below.
    """

    closed_form = True
    has_graph = True

    def __init__(self, spec: InputSpec, *, ridge: float = RIDGE) -> None:
        super().__init__()
        if ridge <= 0:
            raise ConfigError(
                f"ridge {ridge} must be above 0, so that weights stay finite; "
                f"option: ranker.options.ridge"
            )
        self.spec, self.ridge = spec, ridge
        self.wide = Wide(spec).requires_grad_(False)
        self._own = ~self.wide.features.is_model_score

    @property
    def has_inputs(self) -> bool:
        """Whether there is anything to be linear in: a plain feature or a category of items."""
        return bool(self._own.any()) or self.wide.category is not None

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]; all 0 before fitting."""
        out: Tensor = self.wide(batch).squeeze(-1)
        return out

    def fit_closed_form(
        self, train: EncodedRequests, validation: EncodedRequests | None, slots: int, seed: int
    ) -> None:
        """Solve for the weights; validation and slots are not needed.

        Args:
            train: training requests.
            validation: unused.
            slots: unused.
            seed: of the sample of requests, where they hold more than a million candidates.

        Raises:
            ConfigError: candidates have no features, or there is no target.
        """
        if not self.has_inputs:
            raise ConfigError(
                "ranker 'linear' has nothing to be linear in: candidates have no features, no "
                "retriever score and no item columns; remedy: import with computed features (leave "
                "out --no-features), name your own (--candidate-features) or put items.parquet "
                "beside the log; or train another ranker (option: ranker.name)"
            )
        if train.target < 0:
            raise ConfigError("ranker 'linear' learns a target, and the table has none")
        solution = fit_conditional_logit(
            self.spec, train, train.target, use=self._own, ridge=self.ridge, seed=seed
        )
        self.wide.start_from([solution])
