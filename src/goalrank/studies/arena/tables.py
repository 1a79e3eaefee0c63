"""Leaderboards as Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence

from goalrank.evaluation import METRICS
from goalrank.reporting import Bold, Column, Markup, Table, make_columns, milliseconds
from goalrank.studies.arena.leaderboards import LEVEL, Leaderboard, LeaderboardRow
from goalrank.studies.arena.ledger import BASELINE_PREFIX
from goalrank.studies.common import METHOD_ROWS
from goalrank.wording import counted, decimal, signed

_OTHERS = ("recall", "hit_rate", "map")
_BASELINE = "†"
_ONE_SEED = "‡"
_SMALLEST = 1e-4  # p values below are printed as "≤"
_SHORT = 5  # columns of the LaTeX table, without further metrics


def markdown(leaderboards: Sequence[Leaderboard]) -> str:
    """All leaderboards, with what they rest on, their warnings and the cells that failed."""
    return "\n\n".join(_markdown(leaderboard) for leaderboard in leaderboards) + "\n"


def _markdown(leaderboard: Leaderboard) -> str:
    others = _other_metrics(leaderboard)
    headings = [
        leaderboard.metric, *others, f"{leaderboard.main} − row [95 %]", "p", "parameters", "beside ids", "training s", "ms/request",
    ]  # fmt: skip
    held = leaderboard.has_validation
    rows = []
    for row in leaderboard.rows:
        name, *values = _cells(leaderboard, row, others)
        values += [percent(row.on_validation)] if held else []
        rows.append([Bold(name) if row.label == leaderboard.main else name, *values])
    headings += ["on validation"] if held else []
    size = "" if leaderboard.size == "base" else f", size {leaderboard.size}"
    table = Table(
        [Column("row"), *make_columns(*headings, align="right")], rows, _notes(leaderboard)
    )
    return "\n\n".join(
        [
            f"### {leaderboard.dataset}{size}",
            *(f"> **Warning:** {warning}" for warning in leaderboard.warnings),
            verdict(leaderboard),
            table.markdown(),
        ]
    )


def _other_metrics(leaderboard: Leaderboard) -> list[str]:
    """Columns besides the main metric: three of ours, and all of other packages that were measured."""
    names = [f"{m}@{leaderboard.facts.get('slots')}" for m in _OTHERS]
    measured = dict.fromkeys(metric for row in leaderboard.rows for metric in row.means)
    ours = {*METRICS.builtin_names, "auc"}
    names += [name for name in measured if name.partition("@")[0] not in ours]
    return [
        n
        for n in names
        if n != leaderboard.metric and any(n in row.means for row in leaderboard.rows)
    ]


def _cells(leaderboard: Leaderboard, row: LeaderboardRow, others: Sequence[str]) -> list[str]:
    gap = "–"
    if not math.isnan(row.difference):
        mark = f" {_ONE_SEED}" if row.compared == 1 else ""
        gap = f"{_points(row.difference)} [{_points(row.low)}, {_points(row.high)}]{mark}"
    return [
        f"{row.label} {_BASELINE}" if row.baseline else row.label,
        _value(row, leaderboard.metric),
        *(_value(row, metric) for metric in others),
        gap,
        p_text(row.p),
        *([""] * 3 if row.baseline else _sizes(row)),
        milliseconds(row.facts["ms_per_request"]),
    ]


def _sizes(row: LeaderboardRow) -> list[str]:
    return [
        f"{row.facts['parameters']:,.0f}",
        f"{row.facts['parameters_beside_ids']:,.0f}",
        f"{row.facts['training_seconds']:,.0f}",
    ]


def _value(row: LeaderboardRow, metric: str) -> str:
    mean = row.means.get(metric, math.nan)
    spread = row.deviations.get(metric, math.nan)
    return percent(mean) + ("" if math.isnan(spread) else f" ± {100 * spread:.2f}")


def percent(value: float) -> str:
    """A metric in %, "–" where it is not defined."""
    return decimal(100 * value, 2)


def _points(value: float) -> str:
    """A difference in points of the metric."""
    return signed(100 * value, 2)


def p_text(value: float) -> str:
    """A p value for a table: "–" where nothing is tested, "≤" below 10⁻⁴."""
    if math.isnan(value):
        return "–"
    if value < _SMALLEST:
        return f"≤{_SMALLEST:.4f}"
    return f"{value:.4f}" if value < 10 * _SMALLEST else f"{value:.3f}"


def weaker_baselines(count: int) -> str:
    """Say how many baselines below those shown are left out."""
    return f"{counted(count, 'weaker baseline is', 'weaker baselines are')} not shown."


def verdict(leaderboard: Leaderboard) -> str:
    """A sentence: the main row compared with the best rival and the best baseline."""
    main = leaderboard.row(leaderboard.main)
    if main is None:
        return (
            f"The main row, {leaderboard.main}, is not on this leaderboard, so nothing is tested."
        )
    if leaderboard.metric not in main.means:
        return (
            f"The main row, {main.label}, gives lists without scores and so has no "
            f"{leaderboard.metric}: nothing is tested."
        )
    parts = []
    baseline = next((row.label for row in leaderboard.rows if row.baseline), None)
    for what, label in (("best rival", leaderboard.rival), ("best baseline", baseline)):
        row = None if label is None else leaderboard.row(label)
        if row is None or math.isnan(row.difference):
            continue
        parts.append(_compared(row, what, leaderboard.metric))
    start = f"{leaderboard.main}: {_value(main, leaderboard.metric)} {leaderboard.metric}"
    return start + (", " + "; ".join(parts) if parts else "") + "."


def _compared(row: LeaderboardRow, what: str, metric: str) -> str:
    """How the main row stands to another one, and how sure that is."""
    who = f"the {what}, {row.label.removeprefix(BASELINE_PREFIX)} ({_value(row, metric)}; "
    span = f"[{_points(row.low)}, {_points(row.high)}]"
    if row.level:
        return f"level with {who}difference {_points(row.difference)} {span}, within ± {100 * LEVEL:g})"
    if row.low == row.high == 0.0:
        return f"equal on every scored request to {who}no difference)"
    way = "above" if row.difference > 0 else "below"
    sure = f"p {_is(row.p)} over {row.compared} seeds and the users, Holm-corrected"
    if row.compared == 1:
        sure = "one seed: this says nothing about the methods"
    return f"{abs(100 * row.difference):.2f} points {way} {who}95 % interval {span}; {sure})"


def _is(p: float) -> str:
    text = p_text(p)
    return text.replace("≤", "≤ ") if text.startswith("≤") else f"= {text}"


def _notes(leaderboard: Leaderboard) -> list[str]:
    facts = leaderboard.facts
    seeds = sorted({s for row in leaderboard.rows if not row.baseline for s in row.seeds})
    notes = []
    if facts:
        notes.append(
            f"{facts['log']}, protocol {facts['protocol']}, L = {facts['slots']}; "
            f"{facts['requests_train']:,} training, {facts['requests_validation']:,} validation and "
            f"{counted(facts['requests_test'], 'test request')}, {facts['test_scored']:,} of them scored and "
            f"{facts['test_excluded']:,} without positives left out. {_over(len(seeds))}"
            f"in %. {counted(facts['trials'], 'tuning trial')} a row. "
            f"Run on {facts['devices']} at {facts['commits']}."
        )
        tested = (
            "Intervals and p are over seeds and users together (Student's t, both variances), p "
            "corrected by Holm over the rows shown. "
        )
        notes.append(
            f"{_BASELINE} baseline: a ranker without learning. "
            f"{tested if any(row.compared > 1 for row in leaderboard.rows) else ''}"
            f"Parameters include the reward model where a row needs one to serve; training s includes "
            f"parts that are shared with other rows. Trees count no parameters."
        )
    if leaderboard.has_validation:
        notes.append(
            f"On validation: {leaderboard.metric} on the validation requests. They choose when training "
            f"stops, and settings where a row is tuned; test requests choose nothing."
        )
    notes += [
        f"{row.label}: {METHOD_ROWS[row.label]}."
        for row in leaderboard.rows
        if row.kind == "goalrank" and row.label in METHOD_ROWS
    ]
    if begun := [row for row in leaderboard.rows if row.as_begun]:
        each = ", ".join(f"{row.label} ({row.as_begun} of {row.as_begun_of})" for row in begun)
        notes.append(
            f"Kept the model that networks begin as, in so many seeds, since training was not better on "
            f"validation: {each}. In one seed such rows score candidates alike; those that train on from "
            f"there or make lists of the scores in a way of their own differ a little."
        )
    if untuned := [row.label for row in leaderboard.rows if row.untuned]:
        notes.append(
            f"No tuning trial could be measured, so that the recipe's settings stand: "
            f"{', '.join(untuned)}. The ledger has the reasons (column `tuning`)."
        )
    if any(row.compared == 1 for row in leaderboard.rows):
        notes.append(
            f"{_ONE_SEED} one seed: the interval is over users alone. It speaks of these two trained "
            f"models; another seed gives another model, so that nothing is claimed about the methods "
            f"and nothing is tested."
        )
    if leaderboard.hidden_baselines:
        notes.append(weaker_baselines(leaderboard.hidden_baselines))
    few = [
        row.label for row in leaderboard.rows if not row.baseline and len(row.seeds) < len(seeds)
    ]
    if few:
        notes.append(
            f"Fewer seeds than others: {', '.join(few)}. A difference is over the seeds that both rows "
            f"have, so that it may be another than that of the means shown."
        )
    if leaderboard.missing:
        notes.append(f"{counted(leaderboard.missing, 'cell has', 'cells have')} not run yet.")
    if leaderboard.failed:
        notes.append("Failed cells:")
        notes.append(
            "\n".join(f"- {n}, seed {s}: {' '.join(r.split())}" for n, s, r in leaderboard.failed)
        )
    return notes


def _over(seeds: int) -> str:
    """What the numbers of a table are over."""
    if seeds == 0:
        return ""
    spread = "mean ± standard deviation over seeds, " if seeds > 1 else ""
    return f"{counted(seeds, 'seed')}; {spread}"


def latex(leaderboards: Sequence[Leaderboard]) -> str:
    """All leaderboards as `table` environments (booktabs); the best value of the metric is bold."""
    return "\n\n".join(_latex(leaderboard) for leaderboard in leaderboards) + "\n"


def _latex(leaderboard: Leaderboard) -> str:
    others = _other_metrics(leaderboard)
    values = [row.means.get(leaderboard.metric, -math.inf) for row in leaderboard.rows]
    best = max(values, default=math.nan)
    rows: list[list[str | Bold]] = []
    for row, value in zip(leaderboard.rows, values, strict=True):
        name, main, *more = _cells(leaderboard, row, others)[: _SHORT + len(others)]
        rows.append([name, Bold(main) if value == best else main, *more])
    test = Markup("$p$")
    table = Table(
        [
            Column("row"),
            *make_columns(
                leaderboard.metric, *others, "difference", test, "parameters", align="right"
            ),
        ],
        rows,
    )
    return table.latex(
        f"{leaderboard.dataset}, size {leaderboard.size}. {verdict(leaderboard)}",
        comments=[f"Warning: {warning}" for warning in leaderboard.warnings],
    )
