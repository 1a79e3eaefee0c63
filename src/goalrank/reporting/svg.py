"""Figures to SVG that can be put inside a page, or to a file.

Figures are drawn with `matplotlib.figure.Figure` alone: no global state, no display. Inside a page, ink
takes the page's text colour (so dark mode works) and ids get a prefix (so that figures do not clash).
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from goalrank.errors import ConfigError
from goalrank.storage import whole_file

INK = "#1b1c1e"  # a placeholder of the page's text colour until `to_svg` replaces it
FAINT = "#8a8c90"
# Distinct for colour-blind readers too, and readable on white and on black (after Okabe & Ito).
PALETTE = ("#2f7fd6", "#d97a1d", "#2a9d6f", "#b565b8", "#c8553d", "#8d8d2a", "#4aa8b8", "#7f7f8c")
TRAINED, BASELINE = PALETTE[0], "#9a9ca3"

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "goalrank",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.0,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,  # numbers are written out, without "1e−5 + 1.96" at the end
    "axes.formatter.limits": (-6, 9),
    "legend.frameon": False,
}


def style() -> Any:
    """Context in which figures are drawn and saved."""
    return matplotlib.rc_context(_STYLE)


def new_axes(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of this size in inches with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    axes.set_axisbelow(True)
    axes.grid(True, color=FAINT, alpha=0.25, linewidth=0.6)
    return figure, axes


def to_svg(figure: Figure, label: str) -> str:
    """The figure as an <svg> element for a page.

    Args:
        figure: drawn inside `style()`.
        label: what the figure says, for those who cannot see it.
    """
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = _prefix_ids(text, label)
    text = text.replace(INK, "currentColor")
    opening = (
        f'<svg role="img" aria-label="{html.escape(label)}" preserveAspectRatio="xMinYMin meet" '
    )
    head, rest = text[: text.index(">")], text[text.index(">") :]
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return head.replace("<svg ", opening, 1) + rest


def _prefix_ids(text: str, label: str) -> str:
    prefix = f"f{_digest(label + text)}-"
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", text)
    return re.sub(r'href="#([^"]+)"', rf'href="#{prefix}\1"', text)


def _digest(text: str) -> str:

    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def figure_kind(path: str | Path) -> str:
    """Kind of a figure's file by its ending: "png" or "svg".

    Raises:
        ConfigError: another ending.
    """
    target = Path(path)
    kind = target.suffix.lstrip(".").lower()
    if kind not in ("png", "svg"):
        raise ConfigError(
            f"figure file '{target.name}' ends in '{target.suffix}', but must end in .png or .svg; "
            f"remedy: another name"
        )
    return kind


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as .png or .svg on white, whole or not at all.

    Raises:
        ConfigError: another file ending.
    """
    target, kind = Path(path), figure_kind(path)
    metadata = {"Date": None} if kind == "svg" else None
    with whole_file(target) as temporary, style():
        figure.savefig(temporary, format=kind, dpi=150, facecolor="white", metadata=metadata)
    return target
