"""Report of a scaling grid: laws, tables and figures from finished cells."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from goalrank.errors import DataError, InfeasibleError
from goalrank.reporting import Table, line_chart, make_columns, save_figure, scatter_fit
from goalrank.storage import json_text, write_text
from goalrank.studies.scaling.cells import read_cells
from goalrank.studies.scaling.law import Estimate, Frontier, Law, fit_law, frontier

_SERIES = ("source", "ranker", "group")
_POINT = ("parameters", "data")
_LABEL = {"world": "regret to the near-optimum", "requests": "1 - ndcg"}


def fit_scaling(
    folder: str | Path, out: str | Path | None = None, *, bootstrap: int = 200, seed: int = 0
) -> dict[str, Any]:
    """Fit a law per row of the grid; write `fit.json`, `scaling.md` and figures.

    Args:
        folder: of `run_scaling`.
        out: folder of the results; None takes `folder`.
        bootstrap: resamples of the intervals, at least 20.
        seed: of the resamples.

    Returns:
        The content of `fit.json`: fits (one per row), points, failed cells, figures.

    Raises:
        DataError: no finished cell.
    """
    place = Path(out) if out is not None else Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    cells = read_cells(folder)
    good = [cell for cell in cells if cell["status"] == "ok"]
    if not good:
        raise DataError(f"all {len(cells)} cells of '{folder}' failed: {cells[0]['reason']}")
    frame = pl.DataFrame(good, infer_schema_length=None)
    fits = [_fit(key, part, bootstrap, seed) for key, part in _parts(frame)]
    figures = [path.name for path in _draw(frame, fits, place)]
    points = _points(frame)
    result = {
        "suite": good[0]["suite"],
        "cells": len(good),
        "failed": [
            {name: cell[name] for name in (*_SERIES, "size", "data", "seed", "reason")}
            for cell in cells
            if cell["status"] != "ok"
        ],
        "fits": [{**each, "law": each["law"] and each["law"].to_dict()} for each in fits],
        "points": points.to_dicts(),
        "figures": figures,
    }
    write_text(place / "fit.json", json_text(result, indent=1))
    write_text(place / "scaling.md", _markdown(fits, points))
    return result


def _parts(frame: pl.DataFrame) -> Iterable[tuple[dict[str, Any], pl.DataFrame]]:
    for key in frame.select(_SERIES).unique().sort(_SERIES).iter_rows(named=True):
        same = [pl.col(name) == value for name, value in key.items()]
        yield key, frame.filter(*same).sort(*_POINT, "seed")


def _fit(key: dict[str, Any], part: pl.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """Fit the law and the frontier of one row, or say why there is none; count where means fall."""
    p, d, y = (part[name].to_numpy() for name in (*_POINT, "loss"))
    law: Law | None = None
    try:
        law = fit_law(p, d, y, bootstrap=bootstrap, seed=seed)
        reason = law.reason
        best = frontier(law, p, d, part["flops_training"].to_numpy())
    except InfeasibleError as error:
        reason, best = str(error), Frontier(str(error))
    return {
        **key,
        "holds": law is not None and law.holds,
        "reason": reason,
        "law": law,
        "frontier": asdict(best),
        "falls": {along: _falls(part, along) for along in _POINT},
    }


def _falls(part: pl.DataFrame, along: str) -> dict[str, int]:
    """Count the neighbouring points along an axis, the other fixed, where the mean loss falls."""
    other = _POINT[1 - _POINT.index(along)]
    mean = part.group_by(*_POINT).agg(pl.col("loss").mean()).sort(other, along)
    step = mean.select(pl.col("loss").diff().over(other)).to_series().drop_nulls()
    return {"lower": int((step < 0).sum()), "pairs": len(step)}


def _points(frame: pl.DataFrame) -> pl.DataFrame:
    """Average each point of the grid over seeds, with the standard deviation of the loss."""
    names = ["flops_training", "flops_request", "steps", "true_share_of_best", "policy_error",
             "reward_error", "correlation_random", "correlation_proposed"]  # fmt: skip
    means = [pl.col(name).mean() for name in names if name in frame.columns]
    return (
        frame.group_by(*_SERIES, "size", *_POINT)
        .agg(
            pl.len().alias("seeds"),
            pl.col("loss").mean(),
            pl.col("loss").std().alias("deviation"),
            *means,
        )
        .sort(*_SERIES, *_POINT)
    )


def _draw(frame: pl.DataFrame, fits: list[dict[str, Any]], place: Path) -> list[Path]:
    """Draw the measured points of every row, and its law where it holds."""
    made: list[Path | None] = []
    for (key, part), fit in zip(_parts(frame), fits, strict=True):
        name = f"{key['source']}-{key['ranker']}-{key['group']}"
        title = str(key["ranker"]) + (f", groups of {key['group']}" if key["group"] else "")
        for along, unit in (
            ("parameters", "parameters without ids"),
            ("data", "training requests"),
        ):
            figure = line_chart(
                _lines(part, along), xlabel=unit, ylabel=_LABEL[key["source"]], title=title,
                logx=True, markers=True, size=(6.4, 3.8),
            )  # fmt: skip
            made.append(save_figure(figure, place / f"{name}-{along}.svg"))
        if fit["holds"]:
            made += [_draw_law(part, fit["law"], key, place / f"{name}-law.svg")]
            made += [_draw_frontier(part, fit["frontier"], key, place / f"{name}-compute.svg")]
    if frame.filter(pl.col("group") > 0)["group"].n_unique() > 1:
        made += _draw_groups(frame, place)
    return [path for path in made if path is not None]


def _lines(part: pl.DataFrame, along: str) -> dict[str, Any]:
    other = _POINT[1 - _POINT.index(along)]
    unit = "P" if other == "parameters" else "D"
    mean = part.group_by(*_POINT).agg(pl.col("loss").mean()).sort(*_POINT)
    return {
        f"{unit} = {value:,}": (line[along].to_numpy(), line["loss"].to_numpy())
        for value in mean[other].unique().sort()
        for line in [mean.filter(pl.col(other) == value)]
    }


def _draw_law(part: pl.DataFrame, law: Law, key: dict[str, Any], path: Path) -> Path | None:
    label = _LABEL[key["source"]]
    figure = scatter_fit(
        law.predict(part["parameters"].to_numpy(), part["data"].to_numpy()),
        part["loss"].to_numpy(), xlabel=f"{label}, by the law", ylabel=f"{label}, measured",
        diagonal=True,
    )  # fmt: skip
    return save_figure(figure, path)


def _draw_frontier(
    part: pl.DataFrame, found: dict[str, Any], key: dict[str, Any], path: Path
) -> Path | None:
    """Draw measured loss over compute, one line per size, and the compute-optimal frontier."""
    if found["reason"] is not None:
        return None
    mean = part.group_by(*_POINT).agg(pl.col("loss", "flops_training").mean()).sort(*_POINT)
    lines: dict[str, Any] = {}
    for value in mean["parameters"].unique().sort():
        line = mean.filter(pl.col("parameters") == value).sort("flops_training")
        lines[f"P = {value:,}"] = (line["flops_training"].to_numpy(), line["loss"].to_numpy())
    rows = found["rows"]
    lines["best of the law"] = ([r["flops"] for r in rows], [r["loss"] for r in rows])
    figure = line_chart(
        lines, xlabel="training FLOPs", ylabel=_LABEL[key["source"]], logx=True, markers=True,
        size=(6.4, 3.8),
    )  # fmt: skip
    return save_figure(figure, path)


def _draw_groups(frame: pl.DataFrame, place: Path) -> list[Path | None]:
    """Draw the loss over group size at the largest data size, one line per model size."""
    made: list[Path | None] = []
    by = frame.filter(pl.col("group") > 0)
    for source, ranker in by.select("source", "ranker").unique().sort("source", "ranker").rows():
        part = by.filter(pl.col("source") == source, pl.col("ranker") == ranker)
        part = part.filter(pl.col("data") == part["data"].max())
        mean = part.group_by("parameters", "group").agg(pl.col("loss").mean()).sort("group")
        lines: dict[str, Any] = {
            f"P = {value:,}": (line["group"].to_numpy(), line["loss"].to_numpy())
            for value in mean["parameters"].unique().sort()
            for line in [mean.filter(pl.col("parameters") == value)]
        }
        figure = line_chart(lines, xlabel="lists per group", ylabel=_LABEL[source], title=ranker,
                            logx=True, markers=True, size=(6.4, 3.8))  # fmt: skip
        made.append(save_figure(figure, place / f"{source}-{ranker}-groups.svg"))
    return made


def _markdown(fits: list[dict[str, Any]], points: pl.DataFrame) -> str:
    intro = "L(P, D) = E + A·P^-α + B·D^-β; 95 % bootstrap intervals"
    tables = (_fit_table(fits), _point_table(points))
    return "\n\n".join([intro, *(table.markdown() for table in tables)]) + "\n"


def _fit_table(fits: list[dict[str, Any]]) -> Table:
    rows = []
    for fit in fits:
        law = fit["law"]
        est = law.estimates if law is not None else {}
        cells = [_estimate(est.get(name)) if fit["holds"] else "–" for name in _SHOWN]
        said = "holds" if fit["holds"] else f"none: {fit['reason']}"
        falls = [f"{fit['falls'][a]['lower']} of {fit['falls'][a]['pairs']}" for a in _POINT]
        r2 = "–" if law is None or not math.isfinite(law.r2) else f"{law.r2:.2f}"
        group = str(fit["group"] or "–")
        rows.append([fit["source"], fit["ranker"], group, said, *cells, r2, *falls])
    head = ["on", "ranker", "group", "law", "α", "β", "E", "R²", "falls with P", "falls with D"]
    return Table(make_columns(*head), rows)


def _point_table(points: pl.DataFrame) -> Table:
    rows = [
        [
            p["source"],
            p["ranker"],
            str(p["group"] or "–"),
            p["size"],
            f"{p['parameters']:,}",
            f"{p['data']:,}",
            str(p["seeds"]),
            f"{p['loss']:.4f}",
            "–" if p["deviation"] is None else f"{p['deviation']:.4f}",
            f"{p['flops_training']:.3g}",
        ]
        for p in points.iter_rows(named=True)
    ]
    head = ["on", "ranker", "group", "size", "P", "D", "seeds", "loss", "±", "training FLOPs"]
    return Table(make_columns(*head), rows)


_SHOWN = ("alpha", "beta", "E")


def _estimate(each: Estimate | None) -> str:
    return "–" if each is None else f"{each.value:.3g} [{each.low:.3g}, {each.high:.3g}]"
