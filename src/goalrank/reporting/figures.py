"""The figures of reports. Each function draws one `Figure`; `to_svg` or `save_figure` take it from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from goalrank.reporting.svg import FAINT, INK, PALETTE, new_axes, style

_MOST_POINTS = 300  # a line is block-averaged down to this, so that pages stay light

FloatArray = NDArray[np.float64]
Series = Mapping[str, tuple[ArrayLike, ArrayLike]]


@dataclass(frozen=True)
class Bar:
    """One bar: its name, value, interval (NaN if none) and the group that colours it."""

    name: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    group: str = ""


def bar_chart(
    bars: Sequence[Bar], *, colors: Mapping[str, str] | None = None, xlabel: str = ""
) -> Figure:
    """Horizontal bars in the order given, top first, with intervals and values.

    Args:
        bars: at least one.
        colors: group → colour, in legend order; groups not named take the palette.
        xlabel: of the value axis.
    """
    groups = list(dict.fromkeys([*(colors or {}), *(bar.group for bar in bars)]))
    groups = [g for g in groups if any(bar.group == g for bar in bars)]
    hue = {g: (colors or {}).get(g, PALETTE[i % len(PALETTE)]) for i, g in enumerate(groups)}
    with style():
        figure, axes = new_axes(8.0, 1.0 + 0.3 * len(bars))
        place = np.arange(len(bars))
        value = np.array([bar.value for bar in bars])
        ends = np.array([[bar.low, bar.high] for bar in bars]).reshape(-1, 2)
        axes.barh(place, value, height=0.66, color=[hue[bar.group] for bar in bars])
        low, high = np.fmin(value, ends[:, 0]), np.fmax(value, ends[:, 1])
        tips = np.maximum(high, 0.0)  # a bar to the left has its number next to its foot
        for at, start, end in zip(place, *ends.T):
            if np.isfinite([start, end]).all():
                axes.plot([start, end], [at, at], color=INK, linewidth=1.4, solid_capstyle="butt")
        left, right = float(np.nanmin(low, initial=0.0)), float(np.nanmax(tips, initial=0.0))
        span = (right - left) or 1.0
        for at, tip, v in zip(place, tips, value):
            axes.text(tip + 0.01 * span, at, f"{v:.3f}", va="center", fontsize=9)
        axes.set_yticks(place, [_short(bar.name, 44) for bar in bars])
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(left - 0.02 * span * (left < 0), right + 0.1 * span)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(xlabel)
        if len(groups) > 1:
            handles = [Patch(color=hue[g], label=_plain(g)) for g in groups]
            figure.legend(handles=handles, loc="outside upper left", ncols=len(groups))
    return figure


def line_chart(
    series: Series,
    *,
    xlabel: str = "step",
    ylabel: str = "",
    title: str = "",
    size: tuple[float, float] = (5.2, 3.0),
    logx: bool = False,
    markers: bool = False,
    spread: Mapping[str, ArrayLike] | None = None,
    joined: bool = True,
) -> Figure:
    """Lines of y over x; long ones are averaged in blocks, NaNs are left out.

    Args:
        series: name of the line → (x, y).
        xlabel: label of the x axis.
        ylabel: label of the y axis.
        title: of the figure.
        size: width and height in inches.
        logx: use a logarithmic x axis.
        markers: mark the points.
        spread: deviations of a series' points, drawn as a band of one up and down.
        joined: whether a series is one line; if not, its points stand alone, without bands.
    """
    with style():
        figure, axes = new_axes(*size)
        for i, (name, (x, y)) in enumerate(series.items()):
            xs, ys = _thin(x, y)
            lone = markers or not joined or len(xs) < 3
            axes.plot(
                xs, ys, color=PALETTE[i % len(PALETTE)], linewidth=1.8 * joined, label=_plain(name),
                marker="o" if lone else None, markersize=4 if joined else 6,
            )  # fmt: skip
            if spread is not None and name in spread:
                at, mid = np.asarray(x, float), np.asarray(y, float)
                off = np.nan_to_num(np.asarray(spread[name], float))
                color = PALETTE[i % len(PALETTE)]
                if joined:
                    axes.fill_between(at, mid - off, mid + off, color=color, alpha=0.12, lw=0)
                axes.errorbar(at, mid, off, fmt="none", ecolor=color, alpha=0.6, capsize=2)
        if logx:
            axes.set_xscale("log")
        axes.set(xlabel=xlabel, ylabel=ylabel, title=_plain(title))
        if len(series) > 1:
            axes.legend(fontsize=9)
    return figure


def legend_outside(figure: Figure, *, columns: int) -> None:
    """Put the legend of a figure above its axes.

    Args:
        figure: with one pair of axes.
        columns: of the legend.
    """
    if (inside := figure.axes[0].get_legend()) is not None:
        inside.remove()
    figure.legend(loc="outside upper left", ncols=columns, fontsize=9)


def stacked_area(
    x: ArrayLike,
    shares: Mapping[str, ArrayLike],
    *,
    xlabel: str = "step",
    ylabel: str = "share",
    size: tuple[float, float] = (8.0, 3.2),
) -> Figure:
    """Shares over x stacked to their sum, the first at the bottom."""
    with style():
        figure, axes = new_axes(*size)
        thinned = [_thin(x, np.nan_to_num(np.asarray(y, float))) for y in shares.values()]
        colors = [PALETTE[i % len(PALETTE)] for i in range(len(shares))]
        axes.stackplot(
            thinned[0][0],
            [y for _, y in thinned],
            labels=[_plain(name) for name in shares],
            colors=colors,
            alpha=0.9,
        )
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.margins(x=0)
        axes.set_ylim(0, None)
        figure.legend(loc="outside upper left", ncols=min(len(shares), 6), fontsize=9)
    return figure


def histogram(
    values: ArrayLike,
    *,
    bins: int = 30,
    xlabel: str = "",
    ylabel: str = "count",
    size: tuple[float, float] = (5.2, 3.0),
) -> Figure:
    """Counts in equal bins, the median marked; values beyond the 99.5 % quantiles go to the end bins."""
    data = np.asarray(values, float).ravel()
    data = data[np.isfinite(data)]
    with style():
        figure, axes = new_axes(*size)
        if len(data):
            low, high = np.quantile(data, [0.005, 0.995])
            axes.hist(np.clip(data, low, high), bins=bins, color=PALETTE[0], edgecolor="none")
            median = float(np.median(data))
            axes.axvline(median, color=INK, linewidth=1.2)
            axes.annotate(
                f"median {median:.3g}", (median, 0.96), xycoords=("data", "axes fraction"),
                xytext=(5, 0), textcoords="offset points", fontsize=9, va="top",
            )  # fmt: skip
        axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def scatter_fit(
    x: ArrayLike,
    y: ArrayLike,
    *,
    fit: tuple[ArrayLike, ArrayLike] | None = None,
    fit_label: str = "",
    xlabel: str = "",
    ylabel: str = "",
    errors: tuple[ArrayLike, ArrayLike] | None = None,
    logx: bool = False,
    logy: bool = False,
    diagonal: bool = False,
    size: tuple[float, float] = (5.2, 3.6),
) -> Figure:
    """Points, optionally with intervals, a fitted curve, and the line y = x.

    Args:
        x: of the points.
        y: of the points.
        fit: (x, y) of a curve to draw.
        fit_label: name of the curve in the legend.
        xlabel: label of the x axis.
        ylabel: label of the y axis.
        errors: (low, high) ends of each point's interval.
        logx: use a logarithmic x axis.
        logy: use a logarithmic y axis.
        diagonal: draw y = x.
        size: width and height in inches.
    """
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    with style():
        figure, axes = new_axes(*size)
        if diagonal and len(xs):
            low, high = min(xs.min(), ys.min()), max(xs.max(), ys.max())
            axes.plot([low, high], [low, high], color=FAINT, linestyle="--", label="y = x")
        if errors is not None:
            axes.vlines(xs, np.asarray(errors[0]), np.asarray(errors[1]), color=PALETTE[0])
        axes.scatter(xs, ys, color=PALETTE[0], s=26, zorder=3)
        if fit is not None:
            axes.plot(np.asarray(fit[0]), np.asarray(fit[1]), color=PALETTE[1], label=fit_label)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        if logx:
            axes.set_xscale("log")
        if logy:
            axes.set_yscale("log")
        if diagonal or (fit is not None and fit_label):
            axes.legend(fontsize=9)
    return figure


def _thin(x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Means of consecutive blocks, at most `_MOST_POINTS` of them."""
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    real = np.isfinite(ys) & np.isfinite(xs)
    xs, ys = xs[real], ys[real]
    if len(xs) <= _MOST_POINTS:
        return xs, ys
    block = np.arange(len(xs)) * _MOST_POINTS // len(xs)
    count = np.bincount(block)
    return np.bincount(block, xs) / count, np.bincount(block, ys) / count


def _short(text: str, most: int) -> str:
    return _plain(text if len(text) <= most else text[: most - 1] + "…")


def _plain(text: str) -> str:
    """Escape dollar signs, so that names are not read as formulas."""
    return text.replace("$", r"\$")
