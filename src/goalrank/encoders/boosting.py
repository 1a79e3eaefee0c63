"""Gradient-boosted trees of LightGBM, kept as text."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.errors import MissingExtraError

TreeTable = tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int64]]
LEVELS = 4  # relevance is rounded to 0 … 4; gains are linear in it
_MOST_IN_GROUP = 10_000  # rows; LightGBM takes no more
_FEW_ROWS = 10_000  # starting threads costs more than scoring fewer rows


def has_boosting() -> bool:
    """Whether the extra `trees` (LightGBM) is installed."""
    return importlib.util.find_spec("lightgbm") is not None


def relevance_levels(relevance: NDArray[np.float32], top: float) -> NDArray[np.int32]:
    """Relevance in levels: 0 for none, 1 … 4 in proportion to the highest.

    Args:
        relevance: [...] at least 0 where it counts.
        top: the highest relevance of the training requests.
    """
    level = np.round(relevance / max(top, 1e-9) * LEVELS)
    return np.where(relevance > 0, np.clip(level, 1, LEVELS), 0).astype(np.int32)


def fit_trees(
    table: TreeTable,
    settings: dict[str, Any],
    trees: int,
    *,
    names: Sequence[str],
    validation: TreeTable | None = None,
    patience: int = 0,
) -> str:
    """Fit trees that rank within groups of rows.

    A group of more than 10,000 rows is cut into parts, since LightGBM takes no larger ones.

    Args:
        table: features [M, F], labels [M] in 0, 1, 2, …, and rows per group.
        settings: of LightGBM.
        trees: the most trees.
        names: of the F features.
        validation: a table for early stopping, or None.
        patience: trees without a better validation metric before fitting stops.

    Returns:
        The trees as LightGBM's text.

    Raises:
        MissingExtraError: LightGBM is not installed.
    """
    lgb = _lightgbm()
    features, label, groups = table
    data = lgb.Dataset(features, label, group=_parts(groups), feature_name=list(names))
    valid: list[Any] = []
    stop: list[Any] = []
    if validation is not None:
        x, y, sizes = validation
        valid = [lgb.Dataset(x, y, group=_parts(sizes), reference=data)]
        stop = [lgb.early_stopping(patience, verbose=False)]
    booster = lgb.train({"verbose": -1, **settings}, data, trees, valid, callbacks=stop)
    text: str = booster.model_to_string(num_iteration=booster.best_iteration)
    return text


def _parts(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sizes of groups, of which those above the limit are cut into parts alike in size."""
    parts = -(-groups // _MOST_IN_GROUP)
    size, more = np.divmod(groups, parts)
    place = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    out: NDArray[np.int64] = np.repeat(size, parts) + (place < np.repeat(more, parts))
    return out


class Trees:
    """Trees made of text.

    Args:
        text: what `fit_trees` returned.

    Raises:
        MissingExtraError: LightGBM is not installed.
        ValueError: the text holds no trees.
    """

    def __init__(self, text: str) -> None:
        lgb = _lightgbm()
        try:
            self._booster = lgb.Booster(model_str=text)
        except lgb.basic.LightGBMError as error:
            raise ValueError(f"no text of LightGBM: {error}") from error

    @property
    def features(self) -> int:
        """F, numbers per row that the trees read."""
        return int(self._booster.num_feature())

    def scores(self, rows: NDArray[Any], threads: int = 0) -> NDArray[np.float32]:
        """Score rows [M, F]: [M].

        Args:
            rows: features.
            threads: of LightGBM; 0 uses all cores where there are many rows.
        """
        if len(rows) == 0:
            return np.zeros(0, np.float32)
        threads = scoring_threads(len(rows), threads)
        return np.asarray(self._booster.predict(rows, num_threads=threads), np.float32)


def scoring_threads(rows: int, threads: int) -> int:
    """Threads for scoring: those asked for; otherwise one for few rows, and 0, all cores, for many.

    Args:
        rows: how many are scored.
        threads: asked for; 0 leaves it open.
    """
    return threads or int(rows <= _FEW_ROWS)


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtraError("boosted trees", "trees") from error
    return lightgbm
