"""Scaling law L(P, D) = E + A·P^-α + B·D^-β, fitted by non-linear least squares.

Source of the form: Hoffmann et al., 2022 (arXiv 2203.15556), §3.3.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from goalrank.errors import ConfigError, InfeasibleError, MissingExtraError

FloatArray = NDArray[np.float64]
_NAMES = ("E", "A", "alpha", "B", "beta")
_STEEPEST = 4.0  # larger exponents describe a step, not a power law
_FLATTEST = 0.005  # smaller exponents cannot be distinguished from a constant
_SAME = 1e-3  # relative difference of squared errors at which two starts count as equal
_LEAST_R2 = 0.5
_MOST_LOST = 0.2  # share of resamples that may fail


@dataclass(frozen=True)
class Estimate:
    """Estimate with its 95 % percentile-bootstrap interval.

    Attributes:
        value: the estimate.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Law:
    """Fit of the scaling law.

    Attributes:
        holds: whether the cells follow the law; if not, no line may be drawn.
        reason: why the law does not hold; None if it does.
        estimates: E, A, alpha, B, beta; empty if the solver did not converge from any start.
        r2: share of the variance of L that the fit explains.
        points: number of cells.
        lost: share of resamples for which the fit did not converge.
    """

    holds: bool
    reason: str | None
    estimates: dict[str, Estimate]
    r2: float
    points: int
    lost: float

    def predict(self, parameters: ArrayLike, data: ArrayLike) -> FloatArray:
        """Predict L.

        Args:
            parameters: P > 0.
            data: D > 0, of a shape that broadcasts with `parameters`.

        Raises:
            InfeasibleError: the law does not hold, so it cannot predict.
        """
        if not self.holds:
            raise InfeasibleError(f"there is no law to predict by: {self.reason}")
        e, a, alpha, b, beta = (self.estimates[name].value for name in _NAMES)
        p, d = np.asarray(parameters, float), np.asarray(data, float)
        return np.asarray(e + a * p**-alpha + b * d**-beta)

    def to_dict(self) -> dict[str, Any]:
        """Make plain values for JSON."""
        return asdict(self)


def fit_law(
    parameters: ArrayLike, data: ArrayLike, loss: ArrayLike, *, bootstrap: int = 200, seed: int = 0
) -> Law:
    """Fit the law and judge whether the cells follow it.

    Intervals come from resampled residuals, so they can be computed with one seed per point too;
    cells that share their training data are taken as independent.

    Args:
        parameters: [n] P > 0 of each cell.
        data: [n] D > 0 of each cell.
        loss: [n] L of each cell.
        bootstrap: number of resamples, at least 20.
        seed: of the resamples.

    Raises:
        InfeasibleError: fewer than three different P or D, or fewer than seven cells.
        ConfigError: bootstrap below 20, or values that are not positive and finite.
        MissingExtraError: SciPy is not installed.
    """
    p, d, y = (np.asarray(values, np.float64) for values in (parameters, data, loss))
    _check(p, d, y, bootstrap)
    model = _LawModel(p, d)
    found, agree = model.best(y)
    if found is None:
        return Law(
            False, "the solver did not converge from any start", {}, float("nan"), len(y), 1.0
        )
    fitted = model.values(found)
    variation = float(((y - y.mean()) ** 2).sum())
    r2 = 1.0 - float(((y - fitted) ** 2).sum()) / variation if variation > 0 else 0.0
    draws = _resampled(model, found, fitted, y, bootstrap, seed)
    lost = 1.0 - len(draws) / bootstrap
    value = model.plain(found)
    low, high = np.percentile(draws, [2.5, 97.5], axis=0) if len(draws) else (value, value)
    ends = zip(_NAMES, value, low, high)
    estimates = {name: Estimate(float(v), float(a), float(b)) for name, v, a, b in ends}
    reason = _objection(estimates, agree, r2, lost)
    return Law(reason is None, reason, estimates, r2, len(y), lost)


def _check(p: FloatArray, d: FloatArray, y: FloatArray, bootstrap: int) -> None:
    if bootstrap < 20:
        raise ConfigError(f"bootstrap={bootstrap} must be at least 20 (option: --bootstrap)")
    if not (np.isfinite(p * d * y).all() and (p > 0).all() and (d > 0).all()):
        raise ConfigError("parameters and data must be positive and the loss finite")
    sizes, amounts = len(np.unique(p)), len(np.unique(d))
    if sizes < 3 or amounts < 3 or len(y) < 7:
        raise InfeasibleError(
            f"{len(y)} cells with {sizes} numbers of parameters and {amounts} data sizes cannot "
            f"fix five unknowns; remedy: at least 3 sizes x 3 data sizes and 7 cells"
        )


class _LawModel:
    """Law with well-scaled unknowns θ = (E, log A', α, log B', β), at the centre of the grid."""

    def __init__(self, p: FloatArray, d: FloatArray) -> None:
        self.middle = np.exp(np.log(p).mean()), np.exp(np.log(d).mean())
        self.p, self.d = np.log(p / self.middle[0]), np.log(d / self.middle[1])

    def values(self, theta: FloatArray) -> FloatArray:
        """L of every cell: [n]."""
        e, a, alpha, b, beta = theta
        return np.asarray(e + np.exp(a - alpha * self.p) + np.exp(b - beta * self.d))

    def slopes(self, theta: FloatArray) -> FloatArray:
        """Derivatives of L by θ: [n, 5]."""
        _, a, alpha, b, beta = theta
        first, second = np.exp(a - alpha * self.p), np.exp(b - beta * self.d)
        return np.stack([np.ones_like(first), first, -self.p * first, second, -self.d * second], 1)

    def plain(self, theta: FloatArray) -> FloatArray:
        """Compute E, A, α, B, β in the units of P and D."""
        e, a, alpha, b, beta = theta
        return np.array([e, np.exp(a) * self.middle[0] ** alpha, alpha,
                         np.exp(b) * self.middle[1] ** beta, beta])  # fmt: skip

    def solve(self, y: FloatArray, start: FloatArray) -> tuple[FloatArray, float] | None:
        """Solve from one start: θ and half the squared error; None if it did not converge."""
        scale = float(np.abs(y).max()) or 1.0
        low = np.array([0.0, np.log(scale) - 16, 0.0, np.log(scale) - 16, 0.0])
        high = np.array([scale, np.log(scale) + 4, _STEEPEST, np.log(scale) + 4, _STEEPEST])
        inside = np.clip(start, low + 1e-6 * (high - low), high - 1e-6 * (high - low))
        done = _least_squares()(
            lambda theta: (self.values(theta) - y) / scale,
            inside,
            jac=lambda theta: self.slopes(theta) / scale,
            bounds=(low, high),
            x_scale=np.array([scale, 1.0, 1.0, 1.0, 1.0]),
            ftol=1e-12, xtol=1e-10, gtol=1e-12, max_nfev=2000,
        )  # fmt: skip
        return (done.x, float(done.cost)) if done.success else None

    def best(self, y: FloatArray) -> tuple[FloatArray | None, bool]:
        """Solve from many starts: the best θ, and whether another start ended there too."""
        floor, span = float(y.min()), max(float(np.ptp(y)), 1e-12)
        found = []
        for share in (0.1, 0.6, 0.95):
            for alpha in (0.2, 1.0):
                for beta in (0.2, 1.0):
                    part = np.log(max(span / 4, 1e-9))
                    start = np.array([max(floor, 0.0) * share, part, alpha, part, beta])
                    if (one := self.solve(y, start)) is not None:
                        found.append(one)
        if not found:
            return None, False
        found.sort(key=lambda each: each[1])
        best = found[0][1]
        near = [each for each in found if each[1] <= best * (1 + _SAME) + 1e-15]
        return found[0][0], len(near) > 1


def _least_squares() -> Any:
    try:
        from scipy.optimize import least_squares
    except ImportError:
        raise MissingExtraError("fitting a scaling law", "retrieval") from None
    return least_squares


def _resampled(
    model: _LawModel, found: FloatArray, fitted: FloatArray, y: FloatArray, count: int, seed: int
) -> FloatArray:
    """Fit again with resampled residuals: [resamples that converged, 5] E, A, α, B, β."""
    rng = np.random.default_rng(seed)
    residual = y - fitted
    residual = (residual - residual.mean()) * np.sqrt(len(y) / (len(y) - len(_NAMES)))
    out = []
    for _ in range(count):
        drawn = fitted + rng.choice(residual, len(y))
        one = model.solve(drawn, found)
        if one is not None:
            out.append(model.plain(one[0]))
    return np.array(out).reshape(-1, len(_NAMES))


def _objection(estimates: dict[str, Estimate], agree: bool, r2: float, lost: float) -> str | None:
    """Say why the cells do not follow the law; None if they do."""
    if not agree:
        return "no two starts of the solver ended at the same place: the fit is not determined"
    if lost > _MOST_LOST:
        return f"{lost:.0%} of the resampled fits did not converge"
    for name, axis in (("alpha", "parameters"), ("beta", "data")):
        each = estimates[name]
        if each.value <= _FLATTEST or each.low <= _FLATTEST:
            return f"{name} = {each.value:.3g} [{each.low:.3g}, {each.high:.3g}] cannot be told from 0: no fall with {axis}"
        if each.high >= 0.999 * _STEEPEST:
            return f"{name} = {each.value:.3g} [{each.low:.3g}, {each.high:.3g}] reaches its bound {_STEEPEST:g}: no power law in {axis}"
    if r2 < _LEAST_R2:
        return f"the fit explains {r2:.0%} of the variance, less than {_LEAST_R2:.0%}"
    return None


@dataclass(frozen=True)
class Frontier:
    """Compute-optimal P and D by a law, with the cost C = c·P^x·D^y fitted to counted FLOPs.

    Attributes:
        reason: why there is no frontier; None if there is one.
        cost: c, x, y.
        exponents: exponents of P and of D in C at the optimum.
        rows: per budget: flops, parameters, data, loss, and whether P and D are inside the grid.
    """

    reason: str | None
    cost: tuple[float, float, float] | None = None
    exponents: tuple[float, float] | None = None
    rows: tuple[dict[str, float], ...] = ()


def frontier(
    law: Law, parameters: ArrayLike, data: ArrayLike, flops: ArrayLike, budgets: int = 7
) -> Frontier:
    """Compute-optimal sizes: minimise the law under C = c·P^x·D^y.

    Args:
        law: the fitted law.
        parameters: [n] P of the cells.
        data: [n] D of the cells.
        flops: [n] training FLOPs of the cells.
        budgets: number of compute budgets, evenly spaced (in the logarithm) over those of the cells.
    """
    if not law.holds:
        return Frontier(f"no law: {law.reason}")
    p, d, c = (np.asarray(v, np.float64) for v in (parameters, data, flops))
    design = np.stack([np.ones_like(p), np.log(p), np.log(d)], 1)
    base, x, y = np.linalg.lstsq(design, np.log(c), rcond=None)[0]
    if x < 0.05 or y < 0.05:
        return Frontier(
            f"compute grows as P^{x:.2f} D^{y:.2f}: it does not grow with both, so nothing is "
            f"traded (the suite keeps steps fixed; option: epochs)"
        )
    _, a, alpha, b, beta = (law.estimates[name].value for name in _NAMES)
    budget = np.geomspace(c.min(), c.max(), budgets)
    # At the optimum α A P^-α / x = β B D^-β / y; D goes out by the budget.
    rest = (np.log(budget) - base) / y
    log_p = (np.log(alpha * a * y / (beta * b * x)) + beta * rest) / (alpha + beta * x / y)
    best_p, best_d = np.exp(log_p), np.exp(rest - x / y * log_p)
    inside = (best_p >= p.min()) & (best_p <= p.max()) & (best_d >= d.min()) & (best_d <= d.max())
    loss = law.predict(best_p, best_d)
    names = ("flops", "parameters", "data", "loss", "inside")
    rows = tuple(
        dict(zip(names, map(float, row)))
        for row in zip(budget, best_p, best_d, loss, inside.astype(float))
    )
    share = beta / (alpha * y + beta * x)
    return Frontier(None, (float(np.exp(base)), float(x), float(y)),
                    (float(share), float((1 - x * share) / y)), rows)  # fmt: skip
