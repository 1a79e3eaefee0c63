"""The laboratory's figures. Fits that have not converged are hollow marks, never part of a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goalrank.reporting import line_chart, save_figure, scatter_fit

Point = tuple[float, float, bool]  # x, y, converged


def error_chart(series: Mapping[str, Sequence[Point]], xlabel: str) -> Any:
    """E against something: lines through neighbouring converged fits, hollow marks for the others.

    Returns:
        a matplotlib Figure.
    """
    runs = {name: _runs(points) for name, points in series.items()}
    first = {name: (list(run[0][0]), list(run[0][1])) for name, run in runs.items() if run}
    figure = line_chart(
        first, xlabel=xlabel, ylabel="E = KL(π* ‖ π), nats", size=(6.4, 4.0), logx=True,
        markers=True,
    )  # fmt: skip
    axes = figure.axes[0]
    colors = {line.get_label(): line.get_color() for line in axes.get_lines()}
    for name, points in series.items():
        color = colors.get(name, "#7f7f8c")
        for x, y in runs[name][1:]:
            axes.plot(x, y, color=color, linewidth=1.8, marker="o", markersize=4)
        loose = [(x, y) for x, y, done in points if not done]
        if loose:
            axes.scatter(
                [x for x, _ in loose],
                [y for _, y in loose],
                facecolors="none",
                edgecolors=color,
                s=34,
                zorder=4,
            )
    if any(not done for points in series.values() for _, _, done in points):
        axes.scatter([], [], facecolors="none", edgecolors="#7f7f8c", label="not converged")
    axes.set_yscale("log")
    axes.legend(fontsize=8)
    most = max((x for points in series.values() for x, _, _ in points), default=1.0)
    ticks = [2**i for i in range(12) if 2**i <= most]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    return figure


def _runs(points: Sequence[Point]) -> list[tuple[list[float], list[float]]]:
    """Stretches of neighbouring converged points."""
    runs: list[tuple[list[float], list[float]]] = []
    open_run = False
    for x, y, done in sorted(points):
        if done and not open_run:
            runs.append(([], []))
        if done:
            runs[-1][0].append(x)
            runs[-1][1].append(y)
        open_run = done
    return runs


def _point(x: float, fit: dict[str, Any]) -> Point:
    return x, fit["E"], fit["converged"]


def _pairs(family: dict[str, Any]) -> list[tuple[int, int, dict[str, Any]]]:
    """(k, α, fit) from keys like ``k4_a2``."""
    found = []
    for key, fit in family.items():
        k, a = key.split("_")[:2]
        found.append((int(k[1:]), int(a[1:]), fit))
    return found


def by_width(results: dict[str, Any]) -> Any:
    """E against the total width k·α."""
    families = results["families"]
    series = {"one generator": [_point(float(w[1:]), f) for w, f in families["single"].items()]}
    for family, label in (("mixture", "mixture of {}"), ("best_of", "best of {} (true reward)")):
        for k, a, f in sorted(_pairs(families[family]), key=lambda row: row[:2]):
            series.setdefault(label.format(k), []).append(_point(float(k * a), f))
    return error_chart(series, "total width of the generators, k·α")


def by_k(results: dict[str, Any], alpha: int) -> Any:
    """E against k at one α; k = 1 is one generator of width α."""
    families = results["families"]
    one = families["single"][f"w{alpha}"]
    series: dict[str, list[Point]] = {}
    for family, label in (("mixture", "mixture"), ("best_of", "best of k, true reward")):
        rows = [_point(k, f) for k, a, f in _pairs(families[family]) if a == alpha]
        series[label] = [_point(1.0, one), *rows]
    for key, f in families["best_of_noisy"].items():
        k, a, noise = key.split("_")
        if int(a[1:]) == alpha:
            label = f"best of k, noise {noise.removeprefix('noise')}"
            series.setdefault(label, [_point(1.0, one)]).append(_point(float(k[1:]), f))
    wide = [(x, families["single"].get(f"w{int(x) * alpha}")) for x, _, _ in series["mixture"]]
    series["one generator of width k·α"] = [_point(x, f) for x, f in wide if f]
    return error_chart(series, f"k (generators of width {alpha})")


def bound_traces(results: dict[str, Any], names: Sequence[str]) -> Any:
    """Both sides of the bound along training."""
    series = {}
    for name in names:
        if name in results["bound"]:
            trace = results["bound"][name]["trace"]
            series[f"{name}: bound"] = (trace["step"], trace["bound"])
            series[f"{name}: KL"] = (trace["step"], trace["kl"])
    figure = line_chart(series, ylabel="nats", size=(6.4, 4.0))
    axes = figure.axes[0]
    lines = axes.get_lines()
    for above, below in zip(lines[::2], lines[1::2]):
        below.set(color=above.get_color(), linestyle="--")
    axes.set_ylim(0.0, 1.3 * axes.get_ylim()[1])
    if lines:
        axes.legend(fontsize=8, ncols=2, loc="upper right")
    return figure


def slack_scatter(results: dict[str, Any]) -> Any:
    """Bound minus KL at the end of each unbiased run, against the group's coverage."""
    runs = [run for run in results["bound"].values() if run["settings"]["amplitude"] == 0.0]
    own, paper = (
        [run["end"] for run in runs if run["settings"]["scale"] == scale]
        for scale in ("none", "group")
    )
    figure = scatter_fit(
        [end["coverage"] for end in own],
        [end["bound"] - end["kl"] for end in own],
        xlabel="coverage π*(B) of the group",
        ylabel="bound − KL, nats",
    )
    axes = figure.axes[0]
    axes.collections[0].set_label("reference at τ")
    axes.scatter(
        [end["coverage"] for end in paper],
        [end["bound"] - end["kl"] for end in paper],
        color="#d97a1d", marker="s", s=26, label="z-score",
    )  # fmt: skip
    axes.legend(fontsize=9)
    return figure


def gap_chart(results: dict[str, Any]) -> Any:
    """Share of pairs in the right order against their gap."""
    series = {}
    for kind, found in results["survival"].items():
        rows = zip(found["by_gap"]["gap"], found["by_gap"]["share"])
        kept = [(gap, share) for gap, share in rows if share is not None]
        series[kind] = ([gap for gap, _ in kept], [share for _, share in kept])
    figure = line_chart(
        series, xlabel="gap of r̂ within a pair, in units of β (bin's lower end)",
        ylabel="pairs in the order of r*", size=(6.4, 3.6), markers=True,
    )  # fmt: skip
    figure.axes[0].axvline(2.0, color="#8a8c90", linestyle="--", linewidth=1.0)
    return figure


def threshold_chart(results: dict[str, Any]) -> Any:
    """What thinning by a gap threshold buys and what it costs."""
    series = {}
    for kind, found in results["survival"].items():
        rows = [row for row in found["by_threshold"] if row["share"] is not None]
        series[f"{kind}: pairs in order"] = (
            [row["sigma"] for row in rows],
            [row["share"] for row in rows],
        )
    rows = results["survival"]["noise"]["by_threshold"]
    full = rows[0]["coverage"] or 1.0
    series["noise: coverage left"] = (
        [row["sigma"] for row in rows],
        [row["coverage"] / full for row in rows],
    )
    return line_chart(
        series, xlabel="threshold σ in units of β", ylabel="share", size=(6.4, 3.6), markers=True
    )


def draw_all(results: dict[str, Any], out: Path) -> list[Path]:
    """Every figure as .png and .svg; returns the files."""
    alphas = {a for _, a, _ in _pairs(results["families"]["mixture"])}
    noisy = {a for _, a, _ in _pairs(results["families"]["best_of_noisy"])} or alphas
    figures = {
        "error_by_width": by_width(results),
        "error_by_k": by_k(results, max(noisy)),
        "bound_coverage": bound_traces(
            results, ("own_4", "own_light_16", "own_light_40", "all_120")
        ),
        "bound_bias": bound_traces(results, ("noise_all_0.02", "noise_all_0.1")),
        "bound_slack": slack_scatter(results),
        "survival_gap": gap_chart(results),
        "survival_threshold": threshold_chart(results),
    }
    return [
        save_figure(figure, out / f"{name}.{ending}")
        for name, figure in figures.items()
        for ending in ("png", "svg")
    ]
