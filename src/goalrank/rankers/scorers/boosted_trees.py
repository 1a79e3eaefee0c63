"""What rankers of boosted trees share: features, honest counts, and trees kept as bytes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.encoders import TreeTable, relevance_levels
from goalrank.errors import ConfigError
from goalrank.rankers.base import Scorer
from goalrank.rankers.scorers.tree_features import TreeFeatures
from goalrank.requests import Batch, EncodedRequests, InputSpec

_TREES_WITHOUT_VALIDATION = 300


class FittedTrees(Protocol):
    """Trees, ready to score."""

    def scores(self, rows: NDArray[Any], threads: int = 0) -> NDArray[np.float32]:
        """Score rows [M, F]: [M]."""


class BoostedTrees(Scorer):
    """Gradient-boosted trees on `TreeFeatures`, fitted by `fit_closed_form`.

    Before it is fitted, candidates have the retriever's order. The state holds the trees as bytes of
    the library's own text or binary format, so that saving needs no pickle.

    Cross-fitted counts: the popularity, rates and links in the features of a training request are
    counted on other users' requests (`folds` groups of users), because later histories of the same
    user contain its labels. For serving they are counted on all training requests.

    Args:
        spec: shapes of the batches.
        trees: the most trees; fewer if validation stops improving, and at most 300 without
            validation.
        folds: groups of users for cross-fitted counts, at least 1; 1 counts on everything (which
            leaks labels; for ablation).
        threads: threads of the library; 0 uses all cores.

    Raises:
        ConfigError: `folds` is below 1.
    """

    closed_form = True
    text: Tensor

    def __init__(self, spec: InputSpec, trees: int, folds: int, threads: int) -> None:
        super().__init__()
        if folds < 1:
            raise ConfigError(f"{folds} folds are too few; option: ranker.options.folds")
        self.trees, self.folds, self.threads = trees, folds, threads
        self.features = TreeFeatures(spec)
        self.spec = spec
        self.register_buffer("text", torch.zeros(0, dtype=torch.uint8))
        self._model: tuple[int, FittedTrees] | None = None

    @abstractmethod
    def grow(
        self, table: TreeTable, validation: TreeTable | None, most: int, slots: int, seed: int
    ) -> bytes:
        """Fit trees and give them as bytes.

        Args:
            table: features [M, F], labels [M] in 0 … 4 and rows per request.
            validation: a table for early stopping, or None.
            most: the most trees.
            slots: L of NDCG@L.
            seed: of the library, from 0 to below 2³¹.

        Raises:
            MissingExtraError: the library is not installed.
        """

    @abstractmethod
    def parse(self, saved: bytes) -> FittedTrees:
        """Make trees of what `grow` returned."""

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates by the trees, or by the retriever before fitting: [B, N]."""
        if len(self.text) == 0:
            return batch.candidate_score.float()
        table = self.features(batch)
        mask = batch.candidate_mask
        out = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
        if mask.any():
            rows = table[mask].detach().cpu().numpy()
            out[mask] = torch.from_numpy(self._parsed().scores(rows, self.threads)).to(out.device)
        return out

    def _parsed(self) -> FittedTrees:
        """The trees, parsed once per text."""
        key = self.text.data_ptr()
        if self._model is None or self._model[0] != key:
            self._model = (key, self.parse(self.text.cpu().numpy().tobytes()))
        return self._model[1]

    def __getstate__(self) -> dict[str, Any]:
        """State without the parsed trees, which a copy parses again."""
        return {**self.__dict__, "_model": None}

    def fit_closed_form(
        self, train: EncodedRequests, validation: EncodedRequests | None, slots: int, seed: int
    ) -> None:
        """Fit the trees.

        Args:
            train: training requests.
            validation: requests for early stopping, or None.
            slots: L of NDCG@L.
            seed: seed of the library.

        Raises:
            MissingExtraError: the library is not installed.
            ConfigError: no training request holds both liked and other candidates.
        """
        table = self._cross_fitted_table(train)
        if len(table[2]) == 0:
            raise ConfigError(
                "no training request holds a positive candidate, so there is no order to learn; "
                "remedy: choose another target kind"
            )
        self.features.fit(train)
        held = None
        if validation is not None and len(validation):
            held = feature_table(self.features, validation, np.arange(len(validation)))
            held = held if len(held[2]) else None
        most = min(self.trees, _TREES_WITHOUT_VALIDATION) if held is None else self.trees
        saved = self.grow(table, held, most, slots, seed % 2**31)
        self.text = torch.from_numpy(np.frombuffer(saved, np.uint8).copy())
        self._model = None

    def _cross_fitted_table(self, train: EncodedRequests) -> TreeTable:
        """Features with counts of other users' requests, labels and group sizes of training."""
        if self.folds == 1:
            return feature_table(TreeFeatures(self.spec).fit(train), train, np.arange(len(train)))
        fold = train.user % self.folds
        parts = []
        for k in range(self.folds):
            inside, outside = np.flatnonzero(fold == k), np.flatnonzero(fold != k)
            counted = TreeFeatures(self.spec)
            if len(outside):
                counted.fit(train.take(outside))
            parts.append(feature_table(counted, train, inside))
        x, y, groups = (np.concatenate(column) for column in zip(*parts, strict=True))
        return x, y, groups

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Resize the buffers to the saved sizes, which depend on the training data, then load."""
        for name, buffer in self.named_buffers():
            saved = state.get(prefix + name)
            if saved is not None and saved.shape != buffer.shape:
                owner, _, leaf = name.rpartition(".")
                fresh = torch.empty_like(saved, device=buffer.device)
                self.get_submodule(owner).register_buffer(leaf, fresh)
        self._model = None
        super()._load_from_state_dict(state, prefix, *rest)


def check_ranges(learning_rate: float, **least: tuple[float, float]) -> None:
    """Refuse options of trees that no library can use.

    Args:
        learning_rate: must be above 0.
        **least: option → value, and the least that it may be.

    Raises:
        ConfigError: see above.
    """
    for name, (value, lowest) in least.items():
        if not value >= lowest:
            raise ConfigError(
                f"{name} is {value}, but must be at least {lowest}; option: ranker.options.{name}"
            )
    if not 0 < learning_rate < np.inf:
        raise ConfigError(
            f"learning_rate is {learning_rate}, but must be above 0; "
            f"option: ranker.options.learning_rate"
        )


def feature_table(
    features: TreeFeatures, columns: EncodedRequests, rows: NDArray[np.int64]
) -> TreeTable:
    """Features, labels 0 … 4 and group sizes of the candidates with known feedback.

    Requests without a positive candidate are left out, because they have no order to learn.

    Args:
        features: fitted features.
        columns: encoded requests.
        rows: requests to take.

    Returns:
        Features [M, F], labels [M] and candidates per request.
    """
    xs, ys, groups = [], [], []
    top = float(columns.feedback[:, columns.target].max(initial=0)) if columns.target >= 0 else 0.0
    for start in range(0, len(rows), 512):
        batch = columns.batch(rows[start : start + 512])
        known = batch.observed & batch.candidate_mask
        has = ((batch.relevance > 0) & known).any(-1, keepdim=True)
        known = known & has
        with torch.no_grad():
            xs.append(features(batch)[known].numpy())
        ys.append(relevance_levels(batch.relevance[known].numpy(), top))
        groups.append(known.sum(-1)[has.squeeze(-1)].numpy())
    if not xs:
        return (
            np.zeros((0, len(features.names)), np.float32),
            np.zeros(0, np.int32),
            np.zeros(0, np.int64),
        )
    return np.concatenate(xs), np.concatenate(ys), np.concatenate(groups)
