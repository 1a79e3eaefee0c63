"""Conditional logit over plain features, solved to convergence.

Source: McFadden (1974), with a ridge; the loss is ListNet's top-one loss (Cao et al., 2007).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.encoders.plain import PlainFeatures
from goalrank.encoders.samples import sample_within
from goalrank.encoders.wide import WideWeights
from goalrank.requests import EncodedRequests, InputSpec

if TYPE_CHECKING:  # SciPy takes a while to load, and serving does not need it
    from scipy import sparse

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]

RIDGE = 3.0  # precision of the weights of standardised features: a prior deviation of 0.6
_CATEGORY_RIDGE = 10.0  # times as much for categories: there are many, and each is rarely seen
_MOST_ROWS = 1_000_000  # candidates; a sample of the requests beyond, which moves no digit
_MOST_STEPS = 500
_BATCH = 512


@dataclass(frozen=True)
class LogitTable:
    """Labelled candidates of the requests that hold an order to learn.

    Attributes:
        features: [M, P] plain features.
        category: [M, C] sparse shares of the items' categories.
        label: [M] at least 0.
        group: [M] number of the request, 0, 1, 2, …
    """

    features: Floats
    category: sparse.csr_array
    label: Floats
    group: Longs

    @property
    def starts(self) -> Longs:
        """First row of each request."""
        out: Longs = np.searchsorted(self.group, np.arange(self.group.max(initial=-1) + 1))
        return out


def fit_conditional_logit(
    spec: InputSpec,
    train: EncodedRequests,
    kind: int,
    *,
    use: Tensor | None = None,
    all_known: bool = False,
    ridge: float = RIDGE,
    seed: int = 0,
) -> WideWeights:
    """Fit Σ_requests Σ_i (y_i / Σ y) log softmax_i(w · x) - ridge |w|² / 2 by L-BFGS.

    Weights of categories have ten times the ridge: there are many, and each is rarely seen.

    Features are standardised first, so that a constant one gets weight 0. The ridge keeps weights
    finite where the data can be separated. The slope and the intercept are a logistic regression
    of the labels on the scores (Platt, 1999).

    Args:
        spec: shapes of the batches.
        train: training requests.
        kind: column of the feedback that is learned.
        use: [P] which plain features may have a weight; None is all.
        all_known: whether candidates that were not shown count as without feedback.
        ridge: above 0.
        seed: of the sample of requests, where they hold more than a million candidates.

    Returns:
        The solution; all zeros where no request holds both liked and other candidates.
    """
    table = logit_table(spec, train, kind, all_known=all_known, seed=seed)
    return solve_logit(table, use=use, ridge=ridge)


def solve_logit(
    table: LogitTable, *, use: Tensor | None = None, ridge: float = RIDGE
) -> WideWeights:
    """Solve for labelled candidates; see `fit_conditional_logit`."""
    width, categories = table.features.shape[1], table.category.shape[1]
    if not len(table.label) or not width + categories:
        return WideWeights(torch.zeros(width), torch.zeros(categories), 1.0, 0.0)
    used = np.arange(width) if use is None else np.flatnonzero(use.numpy())
    if len(used) < width:
        table = replace(table, features=table.features[:, used])
    scale = _scale(table)
    solution = _solve(table, scale, ridge)
    own, category = solution[: len(used)] / scale, solution[len(used) :]
    slope, intercept = _platt(table.features @ own + table.category @ category, table.label)
    weight = np.zeros(width)
    weight[used] = own
    return WideWeights(
        torch.from_numpy(weight).float(), torch.from_numpy(category).float(), slope, intercept
    )


def logit_table(
    spec: InputSpec, train: EncodedRequests, kind: int, *, all_known: bool = False, seed: int = 0
) -> LogitTable:
    """Collect the labelled candidates; see `fit_conditional_logit` for the arguments."""
    from scipy import sparse

    features = PlainFeatures(spec)
    parts = [
        _rows_of(features, spec, train, rows, kind, all_known)
        for rows in _chunks(sample_within(train, _MOST_ROWS, seed)) or [np.zeros(0, np.int64)]
    ]
    sizes = np.concatenate([part[3] for part in parts])
    return LogitTable(
        np.concatenate([part[0] for part in parts]),
        sparse.csr_array(sparse.vstack([part[1] for part in parts])),
        np.concatenate([part[2] for part in parts]),
        np.repeat(np.arange(len(sizes)), sizes),
    )


def _chunks(rows: Longs) -> list[Longs]:
    return [rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH)]


def _rows_of(
    features: PlainFeatures,
    spec: InputSpec,
    train: EncodedRequests,
    rows: Longs,
    kind: int,
    all_known: bool,
) -> tuple[Floats, sparse.csr_array, Floats, Longs]:
    """Features, categories and labels of the candidates of some requests, and counts a request."""
    batch = train.batch(rows)
    label = _labels(batch.shown.numpy(), batch.feedback[..., kind].numpy(), batch.candidates.shape)
    known = batch.candidate_mask.numpy()
    if not all_known:
        known = known & batch.observed.numpy()
    some = ((label > 0) & known).any(-1) & ((label <= 0) & known).any(-1)
    known = known & some[:, None]
    items = batch.candidates.numpy()[known]
    plain = features(batch).numpy()[known].astype(np.float64)
    shares = _category_shares(
        batch.items.category.numpy()[items], batch.items.category_weight.numpy()[items], spec
    )
    counts = known.sum(-1)
    return plain, shares, label[known], counts[counts > 0]


def _labels(shown: Longs, feedback: Floats, shape: tuple[int, ...]) -> Floats:
    label = np.zeros(shape)
    request, slot = np.nonzero(shown >= 0)
    label[request, shown[request, slot]] = np.maximum(feedback[request, slot], 0.0)
    return label


def _category_shares(rows: Longs, weights: Floats, spec: InputSpec) -> sparse.csr_array:
    """[M, C] shares of each category among an item's."""
    from scipy import sparse

    columns = spec.item_category if spec.item_category_width else 0
    if not columns:
        return sparse.csr_array((len(rows), 0))
    row = np.repeat(np.arange(len(rows)), rows.shape[1])
    real = rows.ravel() > 0
    entries = (weights.ravel()[real].astype(np.float64), (row[real], rows.ravel()[real]))
    return sparse.csr_array(sparse.coo_array(entries, shape=(len(rows), columns)))


def _scale(table: LogitTable) -> Floats:
    """Deviation of each feature; infinity for a constant one, whose weight becomes 0."""
    deviation = table.features.std(axis=0)
    return np.where(deviation > 1e-8, deviation, np.inf)


def _solve(table: LogitTable, scale: Floats, ridge: float) -> Floats:
    """Weights of the standardised features, then of the categories."""
    from scipy.optimize import minimize

    x, shares, starts, group = table.features / scale, table.category, table.starts, table.group
    width, requests = x.shape[1], len(table.starts)
    target = table.label / np.add.reduceat(table.label, starts)[group]

    def loss(w: Floats) -> tuple[float, Floats]:
        scores = x @ w[:width] + shares @ w[width:]
        scores -= np.maximum.reduceat(scores, starts)[group]
        odds = np.exp(scores)
        total = np.add.reduceat(odds, starts)
        error = odds / total[group] - target
        value = float(np.log(total).sum() - target @ scores) + float(precision @ w**2) / 2
        slope = np.concatenate([x.T @ error, shares.T @ error]) + precision * w
        return value / requests, slope / requests

    def turned(v: Floats) -> tuple[float, Floats]:
        value, slope = loss(back(v))
        return value, np.concatenate([turn.T @ slope[:width], stretch * slope[width:]])

    def back(v: Floats) -> Floats:
        return np.concatenate([turn @ v[:width], stretch * v[width:]])

    start = np.zeros(width + shares.shape[1])
    if not len(start):  # SciPy 1.13 does not take a problem without unknowns
        return start
    precision = np.full(len(start), float(ridge))
    precision[width:] *= _CATEGORY_RIDGE
    turn = _turn(x, starts, group, ridge)
    stretch = _stretch(shares, starts, group, precision[width:])
    options = {"maxiter": _MOST_STEPS, "gtol": 1e-6, "ftol": 1e-10}
    return back(minimize(turned, start, jac=True, method="L-BFGS-B", options=options).x)


def _turn(x: Floats, starts: Longs, group: Longs, ridge: float) -> Floats:
    """[P, P] coordinates in which the loss curves alike in all directions where scores are equal.

    Features of late and of all time, values and ranks say nearly the same, and L-BFGS would need
    hundreds of steps along their differences. The solution is the same in any coordinates.
    """
    size = np.diff(starts, append=len(group))
    centred = x - (np.add.reduceat(x, starts) / size[:, None])[group]
    curvature = (centred / size[group, None]).T @ centred + ridge * np.eye(x.shape[1])
    root: Floats = np.linalg.inv(np.linalg.cholesky(curvature)).T * np.sqrt(len(starts))
    return root


def _stretch(shares: sparse.csr_array, starts: Longs, group: Longs, precision: Floats) -> Floats:
    """[C] stretch of each category's coordinate, so that common ones curve the loss as rare ones do."""
    even = 1.0 / np.diff(starts, append=len(group))[group]
    curvature = shares.multiply(shares).T @ (even * (1 - even)) + precision
    out: Floats = np.sqrt(len(starts) / curvature)
    return out


def _platt(scores: Floats, label: Floats) -> tuple[float, float]:
    """Slope ≥ 0 and intercept of a logistic regression of labels in [0, 1] on scores."""
    from scipy.optimize import minimize

    target = np.clip(label, 0.0, 1.0)
    rate = np.clip(target.mean(), 1e-6, 1 - 1e-6)

    def loss(w: Floats) -> tuple[float, Floats]:
        logit = w[0] * scores + w[1]
        error = 1 / (1 + np.exp(-logit)) - target
        value = float((np.logaddexp(0, logit) - target * logit).mean()) + 1e-6 * float(w @ w)
        return value, np.array([error @ scores, error.sum()]) / len(scores) + 2e-6 * w

    start = np.array([1.0, np.log(rate / (1 - rate))])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None), (None, None)])
    return float(found.x[0]), float(found.x[1])
