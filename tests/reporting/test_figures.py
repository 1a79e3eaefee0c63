"""Figures draw what they are given and survive odd input."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest

from goalrank.errors import ConfigError
from goalrank.reporting import (
    Bar,
    bar_chart,
    histogram,
    line_chart,
    save_figure,
    scatter_fit,
    stacked_area,
    to_svg,
)


def test_bars_keep_their_order_values_and_intervals():
    figure = bar_chart([Bar("top", 0.7, 0.6, 0.8, "x"), Bar("next", 0.3, group="y")])
    (axes,) = figure.axes
    bars: Any = axes.patches
    assert [patch.get_width() for patch in bars] == [0.7, 0.3]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["top", "next"]
    assert axes.yaxis_inverted()
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [0.6, 0.8]
    assert len(axes.lines) == 1  # no interval for the second
    assert ">0.700<" in to_svg(figure, "two bars")


def test_long_lines_are_averaged_and_nans_left_out():
    x = np.arange(10_000)
    y = np.where(x % 2, np.nan, x * 1.0)
    (line,) = line_chart({"a": (x, y)}).axes[0].lines
    drawn_x, drawn_y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert len(drawn_x) == 300
    np.testing.assert_allclose(drawn_x, drawn_y)


def test_stack_and_histogram_hold_all_mass():
    axes = stacked_area([0, 1], {"own": [0.2, 0.6], "sorts": [0.8, 0.4]}).axes[0]
    assert axes.dataLim.ymax == pytest.approx(1.0)
    values = np.append(np.random.default_rng(0).normal(size=1000), 1e6)
    patches: Any = histogram(values).axes[0].patches
    assert sum(p.get_height() for p in patches) == 1001
    assert max(p.get_x() for p in patches) < 10  # the outlier does not stretch the axis


def test_odd_input_draws():
    for figure in (
        histogram([]),
        histogram([1.0, 1.0]),
        line_chart({"a": ([1], [2.0]), "b": ([], [])}, logx=True),
        scatter_fit([1, 2], [3, 4], errors=([2, 3], [4, 5]), fit=([1, 2], [3, 4]), fit_label="f"),
        scatter_fit([1, 2], [3, 4], logx=True, logy=True, diagonal=True),
        bar_chart([Bar("a $x$ $", 0.0, group="$"), Bar("b", 0.1)]),
        bar_chart([Bar("a", -0.5, -0.6, -0.4)]),
    ):
        assert to_svg(figure, 'say "it"').startswith('<svg role="img" aria-label="say &quot;it')


def test_axes_write_their_numbers_out():
    """Not as "1e−5 + 1.9598" at the end of the axis, which few can read."""
    page = to_svg(line_chart({"a": ([75, 149], [1.95986, 1.95989])}), "two points close together")
    ticks = re.findall(r">([^<>]*\d[^<>]*)</text>", page)
    assert [tick for tick in ticks if tick.startswith("1.9598")]
    assert not [tick for tick in ticks if "+" in tick or "e" in tick]


def test_files_are_whole_and_of_known_kinds(tmp_path):
    figure = histogram([1, 2, 3])
    assert save_figure(figure, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in save_figure(figure, tmp_path / "a.svg").read_text()
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        save_figure(figure, tmp_path / "a.pdf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.svg"]


def test_no_global_plotting_state():
    import matplotlib

    before = dict(matplotlib.rcParams)
    to_svg(bar_chart([Bar("a", 1.0)]), "one bar")
    assert dict(matplotlib.rcParams) == before
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )
