"""Boards as Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence

from goalrank.evaluation import milliseconds
from goalrank.studies.arena.leaderboards import Leaderboard, LeaderboardRow

_OTHERS = ("recall", "hit_rate", "map")
_RULE = "†"


def markdown(boards: Sequence[Leaderboard]) -> str:
    """All boards, with what they rest on, their warnings and the cells that failed."""
    return "\n\n".join(_markdown(board) for board in boards) + "\n"


def _markdown(board: Leaderboard) -> str:
    others = _other_metrics(board)
    head = [
        "row", board.metric, *others, f"{board.main} − row [95 %]", "p requests", "p seeds",
        "parameters", "beside ids", "training s", "ms/request",
    ]  # fmt: skip
    lines = [f"### {board.dataset}" + ("" if board.size == "base" else f", size {board.size}"), ""]
    for warning in board.warnings:
        lines += [f"> **Warning:** {warning}", ""]
    lines += [verdict(board), ""]
    lines.append("| " + " | ".join(head) + " |")
    lines.append("|---|" + "---:|" * (len(head) - 1))
    lines += ["| " + " | ".join(_cells(board, line, others)) + " |" for line in board.lines]
    lines += ["", *_notes(board)]
    return "\n".join(lines)


def _other_metrics(board: Leaderboard) -> list[str]:
    names = [f"{m}@{board.facts.get('slots')}" for m in _OTHERS]
    return [n for n in names if n != board.metric and any(n in line.means for line in board.lines)]


def _cells(board: Leaderboard, line: LeaderboardRow, others: Sequence[str]) -> list[str]:
    name = f"{line.label} {_RULE}" if line.rule else line.label
    name = f"**{name}**" if line.label == board.main else name
    gap = "–"
    if not math.isnan(line.difference):
        gap = f"{100 * line.difference:+.2f} [{100 * line.low:+.2f}, {100 * line.high:+.2f}]"
    return [
        name,
        _value(line, board.metric),
        *(_value(line, metric) for metric in others),
        gap,
        _p(line.p_requests),
        _p(line.p_seeds),
        *([""] * 3 if line.rule else _sizes(line)),
        milliseconds(line.facts["ms_per_request"]),
    ]


def _sizes(line: LeaderboardRow) -> list[str]:
    return [
        f"{line.facts['parameters']:,.0f}",
        f"{line.facts['parameters_beside_ids']:,.0f}",
        f"{line.facts['training_seconds']:,.0f}",
    ]


def _value(line: LeaderboardRow, metric: str) -> str:
    mean = line.means.get(metric, math.nan)
    if math.isnan(mean):
        return "–"
    spread = line.deviations.get(metric, math.nan)
    return f"{100 * mean:.2f}" + ("" if math.isnan(spread) else f" ± {100 * spread:.2f}")


def _p(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def verdict(board: Leaderboard) -> str:
    """A sentence: the main row beside the best rival and the best rule."""
    main = board.line(board.main)
    if main is None:
        return f"The main row, {board.main}, is not on this board, so nothing is tested."
    parts = []
    rule = next((line.label for line in board.lines if line.rule), None)
    for what, label in (("best rival", board.rival), ("best rule without learning", rule)):
        line = None if label is None else board.line(label)
        if line is None or math.isnan(line.difference):
            continue
        way = "above" if line.difference > 0 else "below"
        tests = f"p = {_p(line.p_requests)} over requests"
        if not math.isnan(line.p_seeds):
            tests += f", {_p(line.p_seeds)} over {len(main.seeds)} seeds"
        parts.append(
            f"{abs(100 * line.difference):.2f} points {way} the {what}, {line.label} "
            f"({_value(line, board.metric)}; {tests}, Holm-corrected)"
        )
    start = f"{board.main}: {_value(main, board.metric)} {board.metric}"
    return start + (", " + "; ".join(parts) if parts else "") + "."


def _notes(board: Leaderboard) -> list[str]:
    facts = board.facts
    seeds = sorted({s for line in board.lines if not line.rule for s in line.seeds})
    notes = []
    if facts:
        notes.append(
            f"{facts['log']}, protocol {facts['protocol']}, L = {facts['slots']}; "
            f"{facts['requests_train']:,} training, {facts['requests_validation']:,} validation and "
            f"{facts['requests_test']:,} test requests, {facts['test_scored']:,} of them scored and "
            f"{facts['test_excluded']:,} without positives left out. {len(seeds)} seed(s); mean ± "
            f"standard deviation over seeds, in %. {facts['trials']} tuning trials a row. "
            f"Run on {facts['devices']} at {facts['commits']}."
        )
        notes.append(
            f"{_RULE} a rule without learning. p requests: paired bootstrap over users, seeds of a "
            f"request averaged; p seeds: paired t-test; both corrected by Holm over the rows shown. "
            f"Parameters include the evaluator where a row needs one to serve; training s includes "
            f"parts that are shared with other rows. Trees count no parameters."
        )
    if board.hidden_rules:
        notes.append(f"{board.hidden_rules} weaker rules are not shown.")
    few = [line.label for line in board.lines if not line.rule and len(line.seeds) < len(seeds)]
    if few:
        notes.append(f"Fewer seeds than others: {', '.join(few)}.")
    if board.missing:
        notes.append(f"{board.missing} cells have not run yet.")
    if board.failed:
        notes.append("Failed cells:")
        notes.append(
            "\n".join(f"- {n}, seed {s}: {' '.join(r.split())}" for n, s, r in board.failed)
        )
    return "\n\n".join(notes).splitlines()


def latex(boards: Sequence[Leaderboard]) -> str:
    """All boards as `table` environments (booktabs)."""
    return "\n\n".join(_latex(board) for board in boards) + "\n"


def _latex(board: Leaderboard) -> str:
    others = _other_metrics(board)
    title = f"{board.dataset}, size {board.size}. {verdict(board)}"
    best = max((line.means.get(board.metric, -math.inf) for line in board.lines), default=math.nan)
    head = ["row", board.metric, *others, "difference", "$p$ requests", "$p$ seeds", "parameters"]
    lines = [
        *(f"% Warning: {warning}" for warning in board.warnings),
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(title)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        " & ".join(part if "$" in part else _tex(part) for part in head) + r" \\",
        r"\midrule",
    ]
    for line in board.lines:
        cells = _cells(board, line, others)
        cells = [cells[0].replace("*", ""), *cells[1 : 6 + len(others)]]
        text = [_tex(cell) for cell in cells]
        if line.means.get(board.metric) == best:
            text[1] = rf"\textbf{{{text[1]}}}"
        lines.append(" & ".join(text) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines)


def _tex(text: str) -> str:
    plain = {"\\": r"\textbackslash{}", "±": r"$\pm$", "−": r"$-$", "–": "--", _RULE: r"$\dagger$"}
    plain |= {c: f"\\{c}" for c in "&%#_{}$"} | {"<": "$<$", ">": "$>$", "~": r"\textasciitilde{}"}
    return "".join(plain.get(c, c) for c in text)
