"""Scores of items by factors: a user is folded in from the items of the history."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.errors import MissingExtraError
from goalrank.logs.retrieval.channel import Chunk, RowWeights
from goalrank.logs.retrieval.sparse import load_sparse

__all__ = ["FoldedIn", "least_squares"]


class FoldedIn:
    """Inner products of items' factors with those that least squares finds for a history.

    Args:
        factors: width of the factors.
        confidence: weight of each row of the log.
        threads: worker threads; results do not depend on it.
        seed: seed of the initial factors.
        depth: number of latest history items to fold in.

    Raises:
        MissingExtraError: ``implicit`` is not installed (or remove the channel from ``quotas``).
    """

    name = "factorisation"
    needs_evidence = False
    personal = True

    def __init__(
        self, factors: int, confidence: RowWeights, *, threads: int, seed: int, depth: int = 50
    ) -> None:
        self._confidence, self._depth = confidence, depth
        self._model = least_squares(
            "factorisation retrieval (option quotas: leave 'factorisation' out to go without)",
            factors=factors,
            iterations=3,  # few, because a refit starts from the previous factors
            threads=threads,
            seed=seed,
        )

    def learnt(self) -> dict[str, NDArray[Any]]:
        """The items' factors."""
        return {"items": np.asarray(self._model.item_factors)}

    @classmethod
    def from_learnt(cls, kept: dict[str, NDArray[Any]], confidence: RowWeights) -> FoldedIn:
        """What `learnt` gave, for the rows of another log.

        Args:
            kept: arrays.
            confidence: weight of each row of that log.
        """
        made = FoldedIn(kept["items"].shape[1], confidence, threads=1, seed=0)
        made._model.item_factors = kept["items"]
        return made

    def score(self, chunk: Chunk) -> NDArray[np.float32]:
        """Inner products of folded-in users and items: [B, I].

        Args:
            chunk: B requests.
        """
        sparse = load_sparse()

        request, item, _, row = chunk.recent(self._depth)
        history = sparse.csr_matrix(
            (self._confidence[row], (request, item)), shape=(chunk.size, chunk.items)
        )
        vectors = self._model.recalculate_user(np.arange(chunk.size), history)
        # Always the padded chunk: rounding of a matrix product may depend on its shape.
        scores: NDArray[np.float32] = vectors @ self._model.item_factors.T
        return scores[: len(chunk)]


def least_squares(
    feature: str, *, factors: int, iterations: int, seed: int, threads: int = 0
) -> Any:
    """Make the library's unfitted model, with the settings shared by all fits of goalrank.

    Args:
        feature: feature that needs the library, named in the error.
        factors: width of the factors.
        iterations: rounds of alternating least squares.
        seed: seed of the initial factors.
        threads: worker threads; 0 uses all cores.

    Raises:
        MissingExtraError: ``implicit`` is not installed.
    """
    try:
        from implicit.cpu.als import AlternatingLeastSquares
    except ImportError:
        raise MissingExtraError(feature, "retrieval") from None
    return AlternatingLeastSquares(
        factors=factors,
        regularization=0.05,
        alpha=10.0,
        iterations=iterations,
        num_threads=threads,
        random_state=seed,
    )
