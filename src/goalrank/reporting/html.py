"""A `Report` to one self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from goalrank.evaluation import CONVENTIONS
from goalrank.reporting.descriptions import (
    FEATURE,
    metric_words,
    protocol_words,
    ranker_words,
    source_words,
    stage_words,
)
from goalrank.reporting.figures import histogram, line_chart, scatter_fit, stacked_area
from goalrank.reporting.first_screen import EXAMPLES, difference_rows, told_move
from goalrank.reporting.report import Example, Report
from goalrank.reporting.svg import to_svg
from goalrank.reporting.tables import milliseconds
from goalrank.storage import write_text
from goalrank.wording import counted, decimal, p_value, signed, signed_percent

_TRAINED, _BASELINE = "trained ranker", "baseline"
_SOURCE = "best_from/"
_BASELINES = 12  # of the table of all rankers; weaker ones are folded
_MINOR = ("map@", "f1@")  # columns that narrow screens leave out
# Telemetry worth a chart, in this order: name in the log → title, and what it says. Others come after.
_CURVES = {
    "loss": (
        "training loss",
        "Mean over the steps since the last point. Down is good; it is higher for requests with more "
        "candidates.",
    ),
    "val_score": (
        "validation score",
        "ndcg of a ranker's lists, minus the log loss of a reward model. Up is good. The weights of "
        "the highest point are kept, or those of the start where training does not beat it.",
    ),
    "val_ndcg": ("validation ndcg", "ndcg of the lists for validation requests. Up is good."),
    "val_reward": (
        "validation reward of the chosen list",
        "What the reward model says of the lists for validation requests. Up is good where ndcg does "
        "not fall meanwhile.",
    ),
    "reward_mean": (
        "mean reward in a group",
        "Up is good where the same requests are drawn; requests with more candidates have higher "
        "ones.",
    ),
    "reward_std": (
        "spread of rewards in a group",
        "Standard deviation. Up is good: near 0 the lists of a group teach nothing.",
    ),
    "gap_median": (
        "median reward gap in a group",
        "Between lists that are neighbours by reward. Up is good: small gaps may be errors of the "
        "reward model.",
    ),
    "entropy_policy": (
        "entropy of the policy over a group",
        "Neither is good in itself: high where all lists of a group are as likely, low where one "
        "is. It should go down slowly.",
    ),
    "zero_variance": (
        "share of groups without reward spread",
        "Down is good: these groups teach nothing.",
    ),
    "grad_norm": (
        "gradient norm",
        "Length of the gradient in the last step before each point. Neither up nor down is good in "
        "itself; peaks mean a learning rate that is too high.",
    ),
}
_OTHER = "As the training logged it."
_NO_CURVE = {"step", "epoch", "valid_lists", "entropy_reference", "gap_smallest"}


def render(report: Report) -> str:
    """The page as HTML: styles and figures inside, nothing fetched from elsewhere."""
    words = _words(report)
    return _template().render(
        report=report,
        headline=headline(report),
        differences=difference_rows(report),
        best_value=_value(report, report.best_baseline),
        words=words,
        of_features=[name for name in words if name.startswith(FEATURE)],
        metrics=_metrics(report),
        metric_words=_metric_words(report),
        protocol=protocol_words(report.metadata.get("protocol", "")),
        tables=_tables(report),
        minor=[metric for metric in _metrics(report) if metric.startswith(_MINOR)],
        curves=_curves(report),
        gaps=_gaps(report),
        sources=_sources(report),
        reward_model=_reward_model(report),
        examples=[_example(example, report) for example in report.examples],
        first_examples=EXAMPLES,
        conventions=report.metadata.get("conventions", CONVENTIONS),
    )


def write_report(report: Report, path: str | Path) -> Path:
    """Write the page, whole or not at all."""
    target = Path(path)
    write_text(target, render(report))
    return target


def headline(report: Report) -> str:
    """What is said first: how much better, how sure, what next; else the audit's first sentence.

    Without either it is the best ranker's score.
    """
    if report.lines or report.verdict:
        return " ".join(report.lines.values()) or report.verdict[0]
    ranked = [row for row in _rows(report) if row["cells"]]
    if not ranked:
        return "Nothing was evaluated."
    best = max(ranked, key=lambda row: row["value"])
    said = f"{report.metric} {best['value']:.3f}."
    if len(ranked) == 1:
        return f"The one ranker, {best['name']}: {said}"
    return f"The best of {len(ranked)} rankers is {best['name']}: {said}"


def _rows(report: Report) -> list[dict[str, Any]]:
    """Table rows of all rankers, best first by the report's metric."""
    out = []
    milliseconds = report.metadata.get("milliseconds", {})
    for group, table in ((_TRAINED, report.trained), (_BASELINE, report.baselines)):
        for name, cells in table.items():
            value = cells.get(report.metric, {}).get("mean", float("nan"))
            out.append(
                {
                    "name": name,
                    "group": group,
                    "value": value,
                    "cells": cells,
                    "milliseconds": milliseconds.get(name),
                    "difference": report.differences.get(name),
                }
            )
    return sorted(out, key=lambda row: -row["value"] if math.isfinite(row["value"]) else math.inf)


def _tables(report: Report) -> list[list[dict[str, Any]]]:
    """Rows of trained rankers and of the best baselines, then those of weaker baselines, if any."""
    rows = _rows(report)
    known = [row["name"] for row in rows if row["group"] == _BASELINE]
    weak = set(known[_BASELINES:])
    parts = (
        [row for row in rows if (row["group"] == _BASELINE and row["name"] in weak) == is_weak]
        for is_weak in (False, True)
    )
    return [part for part in parts if part]


def _metrics(report: Report) -> list[str]:
    names = dict.fromkeys([report.metric])
    for table in (report.trained, report.baselines):
        names.update(dict.fromkeys(m for cells in table.values() for m in cells))
    return list(names)


def _value(report: Report, ranker: str) -> float | None:
    """A ranker's mean by the report's metric; None where it has none."""
    cells = report.trained.get(ranker) or report.baselines.get(ranker) or {}
    return cells[report.metric]["mean"] if report.metric in cells else None


def _words(report: Report) -> dict[str, dict[str, str]]:
    """Ranker → what it does and the id of that text on the page, for those that are known."""
    shown = (name for example in report.examples for name in example.choices)
    names = dict.fromkeys([*report.trained, *report.baselines, *shown])
    said = {name: ranker_words(name, report.meanings) for name in names}
    return {
        name: {"text": text, "id": f"ranker-{i}"}
        for i, (name, text) in enumerate(said.items())
        if text
    }


def _metric_words(report: Report) -> dict[str, dict[str, str]]:
    """Metric → what it measures and the id of that text on the page, for those that are known."""
    said = {name: metric_words(name) for name in _metrics(report)}
    return {
        name: {"text": text, "id": f"metric-{i}"}
        for i, (name, text) in enumerate(said.items())
        if text
    }


def _curves(report: Report) -> list[dict[str, Any]]:
    """For each stage its name and the figures of what it logged."""
    out = []
    for stage, rows in report.training.items():
        seen = dict.fromkeys(key for row in rows for key in row)
        keys = [k for k in _CURVES if k in seen]
        keys += [k for k in seen if k not in _CURVES and k not in _NO_CURVE and "/" not in k]
        figures = []
        for key in keys:
            x, y = _column(rows, key)
            if len(y) > 0:
                words, meaning = _CURVES.get(key, (key.replace("_", " "), _OTHER))
                figure = line_chart({words: (x, y)}, title=words, size=(4.2, 2.5))
                said = f"{stage}: {words} from {y[0]:.4g} to {y[-1]:.4g} over {counted(int(x[-1]), 'step')}"
                figures.append({"figure": to_svg(figure, said), "meaning": meaning})
        if figures:
            grouped = any(key in seen for key in ("reward_mean", "gap_median"))
            out.append(
                {
                    "stage": stage,
                    "words": stage_words(stage),
                    "grouped": grouped,
                    "figures": figures,
                }
            )
    return out


def _column(rows: Sequence[Mapping[str, float]], key: str) -> tuple[Any, Any]:
    """Steps and values of the rows that hold a finite `key`."""
    pairs = [(row.get("step", i), row[key]) for i, row in enumerate(rows) if key in row]
    pairs = [(x, y) for x, y in pairs if y is not None and math.isfinite(y)]
    return np.array([x for x, _ in pairs], float), np.array([y for _, y in pairs], float)


def _gaps(report: Report) -> dict[str, str] | None:
    values = np.asarray(report.reward_gaps, float)
    words = "difference between the rewards of neighbouring lists of a group"
    if len(values) == 0:
        logged = [_column(rows, "gap_median")[1] for rows in report.training.values()]
        values = np.concatenate(logged) if logged else values
        words = "median difference between the rewards of neighbouring lists of a group, one value per logged step"
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    label = f"Histogram of {counted(len(values), 'value')}: {words}; median {np.median(values):.4g}"
    figure = histogram(values, xlabel="reward gap", size=(6.4, 3.0))
    return {"figure": to_svg(figure, label), "words": words}


def _sources(report: Report) -> list[dict[str, Any]]:
    out = []
    for stage, rows in report.training.items():
        logged = [row for row in rows if any(key.startswith(_SOURCE) for key in row)]
        names = dict.fromkeys(k for row in logged for k in row if k.startswith(_SOURCE))
        if not names:
            continue
        steps = [row.get("step", i) for i, row in enumerate(logged)]
        shares = {
            name.removeprefix(_SOURCE): [row.get(name, 0.0) for row in logged] for name in names
        }
        said = ", ".join(f"{n} {s[0]:.0%} to {s[-1]:.0%}" for n, s in shares.items())
        figure = stacked_area(steps, shares, ylabel="share of groups")
        label = f"Stacked shares of groups by source of their best list over steps: {said}"
        words = {name: source_words(name) for name in shares}
        out.append({"stage": stage, "figure": to_svg(figure, label), "words": words})
    return out


def _reward_model(report: Report) -> dict[str, Any]:
    parts = dict(report.reward_model)
    calibration = parts.get("calibration")
    if calibration:
        predicted, observed = calibration["predicted"], calibration["observed"]
        figure = scatter_fit(
            predicted, observed, diagonal=True,
            xlabel="predicted probability", ylabel="observed share", size=(4.2, 3.4),
        )  # fmt: skip
        parts["figure"] = to_svg(
            figure,
            f"Calibration of the reward model in {counted(len(predicted), 'bin')} of equal size",
        )
    return parts


def _example(example: Example, report: Report) -> dict[str, Any]:
    """Titles instead of positions."""
    columns = {}
    for ranker, positions in example.choices.items():
        chances = list(example.probabilities.get(ranker, ()))
        columns[ranker] = [
            {
                "title": example.candidates[i],
                "liked": bool(example.liked[i]),
                "chance": chances[t] if t < len(chances) else None,
            }
            for t, i in enumerate(positions)
            if i >= 0
        ]
    hits = {
        ranker: sum(cell["liked"] is True for cell in cells) for ranker, cells in columns.items()
    }
    return {
        "request": example.request,
        "history": list(example.history),
        "liked": [t for t, good in zip(example.candidates, example.liked) if good],
        "others": [t for t, good in zip(example.candidates, example.liked) if not good],
        "columns": columns,
        "slots": max((len(cells) for cells in columns.values()), default=0),
        "hits": hits,
        "rewards": example.rewards,
        "move": told_move(example, report.meanings),
    }


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("goalrank.reporting", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = _number
    environment.filters["signed"] = signed
    environment.filters["signed_percent"] = signed_percent
    environment.filters["p_value"] = p_value
    environment.filters["counted"] = counted
    environment.filters["stage_words"] = stage_words
    environment.tests["finite"] = math.isfinite
    environment.filters["milliseconds"] = milliseconds
    return environment.get_template("report.html.j2")


def _number(value: Any, digits: int = 3) -> str:
    """A cell's text; a dash where there is no value."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return decimal(value, digits) if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
