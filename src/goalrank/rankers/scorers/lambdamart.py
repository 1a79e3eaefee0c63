"""LambdaMART: gradient-boosted trees on plain numbers (Burges, 2010; LightGBM's lambdarank)."""

from __future__ import annotations

from goalrank.encoders import LEVELS, EncoderSizes, Trees, TreeTable, fit_trees
from goalrank.rankers.scorers.boosted_trees import BoostedTrees, check_ranges
from goalrank.requests import InputSpec


class LambdaMART(BoostedTrees):
    """Gradient-boosted trees of LightGBM with lambda gradients of NDCG@L; see `BoostedTrees`.

    Needs the extra `trees`.

    Args:
        spec: shapes of the batches.
        sizes: unused; trees have no such sizes.
        trees: the most trees, at least 1; fewer if validation stops improving, and at most 300 without
            validation.
        leaves: leaves per tree, at least 2.
        learning_rate: shrinkage, above 0.
        min_leaf: the least candidates per leaf, at least 0.
        folds: groups of users for cross-fitted counts, at least 1; 1 counts on everything (which
            leaks labels; for ablation).
        patience: at least 1; trees without a better validation NDCG before fitting stops. At a learning rate
            of 0.02 noise hides progress over fewer than a hundred.
        threads: threads of LightGBM; 0 uses all cores.

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
        min_leaf: int = 20,
        folds: int = 4,
        patience: int = 150,
        threads: int = 0,
    ) -> None:
        super().__init__(spec, trees, folds, threads)
        check_ranges(
            learning_rate,
            trees=(trees, 1),
            leaves=(leaves, 2),
            min_leaf=(min_leaf, 0),
            patience=(patience, 1),
        )
        self.leaves, self.learning_rate = leaves, learning_rate
        self.min_leaf, self.patience = min_leaf, patience

    def grow(
        self, table: TreeTable, validation: TreeTable | None, most: int, slots: int, seed: int
    ) -> bytes:
        """Fit trees and give them as LightGBM's text; see `BoostedTrees.grow`."""
        settings = {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [slots],
            "lambdarank_truncation_level": slots + 3,
            "label_gain": list(range(LEVELS + 1)),
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_leaf,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": self.threads,
        }
        names = self.features.names
        text = fit_trees(
            table, settings, most, names=names, validation=validation, patience=self.patience
        )
        return text.encode()

    def parse(self, saved: bytes) -> Trees:
        """Make trees of LightGBM's text."""
        return Trees(saved.decode())
