"""XGBoost: gradient-boosted trees on plain numbers (Chen and Guestrin, 2016, arXiv 1603.02754)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.encoders import EncoderSizes, TreeTable, scoring_threads
from goalrank.errors import MissingExtraError
from goalrank.rankers.scorers.boosted_trees import BoostedTrees, check_ranges
from goalrank.requests import InputSpec


class XGBoost(BoostedTrees):
    """Gradient-boosted trees of XGBoost with lambda gradients of NDCG@L; see `BoostedTrees`.

    Needs the extra `xgboost`. Features, labels, linear gains and truncation are those of
    `LambdaMART`; the library grows other trees and draws pairs in its own way.

    Args:
        spec: shapes of the batches.
        sizes: unused; trees have no such sizes.
        trees: the most trees, at least 1; fewer if validation stops improving, and at most 300 without
            validation.
        leaves: the most leaves per tree, at least 2; the leaf that gains most is split first.
        learning_rate: shrinkage, above 0.
        min_weight: the least sum of second derivatives per leaf, at least 0.
        folds: groups of users for cross-fitted counts, at least 1; 1 counts on everything (which
            leaks labels; for ablation).
        patience: at least 1; trees without a better validation NDCG before fitting stops.
        threads: threads of XGBoost; 0 uses all cores.

    Raises:
        ConfigError: `folds` or another option is out of its range.
    """

    def __init__(
        self,
        spec: InputSpec,
        sizes: EncoderSizes | None = None,
        *,
        trees: int = 3000,
        leaves: int = 31,
        learning_rate: float = 0.05,
        min_weight: float = 1.0,
        folds: int = 4,
        patience: int = 150,
        threads: int = 0,
    ) -> None:
        super().__init__(spec, trees, folds, threads)
        check_ranges(
            learning_rate,
            trees=(trees, 1),
            leaves=(leaves, 2),
            min_weight=(min_weight, 0),
            patience=(patience, 1),
        )
        self.leaves, self.learning_rate = leaves, learning_rate
        self.min_weight, self.patience = min_weight, patience

    def grow(
        self, table: TreeTable, validation: TreeTable | None, most: int, slots: int, seed: int
    ) -> bytes:
        """Fit trees and give them in XGBoost's binary format; see `BoostedTrees.grow`."""
        xgb = _xgboost()
        settings = {
            "objective": "rank:ndcg",
            "ndcg_exp_gain": False,
            "lambdarank_pair_method": "topk",
            "lambdarank_num_pair_per_sample": slots + 3,
            "eval_metric": f"ndcg@{slots}",
            "tree_method": "hist",
            "grow_policy": "lossguide",
            "max_depth": 0,
            "max_leaves": self.leaves,
            "eta": self.learning_rate,
            "min_child_weight": self.min_weight,
            "seed": seed,
            "nthread": self.threads,
            "verbosity": 0,
        }
        held = [] if validation is None else [(self._matrix(xgb, validation), "validation")]
        booster = xgb.train(
            settings, self._matrix(xgb, table), most,
            evals=held, early_stopping_rounds=self.patience if held else None, verbose_eval=False,
        )  # fmt: skip
        if held:
            booster = booster[: booster.best_iteration + 1]
        return bytes(booster.save_raw("ubj"))

    def _matrix(self, xgb: Any, table: TreeTable) -> Any:
        features, label, groups = table
        names = self.features.names
        return xgb.DMatrix(
            features, label, group=groups, feature_names=names, nthread=self.threads or None
        )

    def parse(self, saved: bytes) -> _Parsed:
        """Make trees of XGBoost's binary format."""
        return _Parsed(saved)


class _Parsed:
    """Trees of XGBoost, ready to score."""

    def __init__(self, saved: bytes) -> None:
        self._booster = _xgboost().Booster()
        self._booster.load_model(bytearray(saved))

    def scores(self, rows: NDArray[Any], threads: int = 0) -> NDArray[np.float32]:
        """Score rows [M, F]: [M]; many rows by all cores if `threads` is 0."""
        self._booster.set_param({"nthread": scoring_threads(len(rows), threads)})
        scores = self._booster.inplace_predict(rows, validate_features=False)
        return np.asarray(scores, np.float32)


def _xgboost() -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise MissingExtraError("XGBoost", "xgboost") from error
    return xgboost
