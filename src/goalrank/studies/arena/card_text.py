"""A card as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from goalrank.reporting import Table, make_columns
from goalrank.studies.arena.tables import p_text, percent, weaker_baselines
from goalrank.wording import counted, signed

_ONE_SEED = (
    "One seed: the intervals are over users alone. They speak of these trained models; another seed "
    "gives other models, so that nothing is claimed about the methods and nothing is tested."
)


_ONE_SHARED = "Of one seed alone, as others failed: {}. These intervals are over users, and nothing is tested."


def card_markdown(card: Mapping[str, Any]) -> str:
    """Write a card in Markdown.

    Args:
        card: of `make_card`.
    """
    board, result = card["board"], card["result"]
    title = f"# {card['ranker']['label']} on {board['suite']}, {board['dataset']}"
    span = f"[{percent(result['low'])}, {percent(result['high'])}]"
    seeds = len(result["seeds"])
    what = "users alone" if seeds == 1 else "seeds and users"
    first = (
        f"**{board['metric']} {percent(result['value'])}** {span} (95 % over {what}; in %, "
        f"{counted(seeds, 'seed')}, {board['trials']} tuning trials)"
    )
    warning = [f"> **Warning:** {board['warning']}"] if board["warning"] else []
    failed = [
        f"Seed {seed} failed: {' '.join(reason.split())}" for seed, reason in result["failed"]
    ]
    alone = [row["row"] for row in card["beside"]["rows"] if row["seeds"] == 1]
    one = [_ONE_SEED] if seeds == 1 else [_ONE_SHARED.format(", ".join(alone))] if alone else []
    parts = [title, *warning, first, *failed, _facts(card), _beside(card["beside"]), *one]
    if card["published"] is not None:
        parts.append(_published(card["published"]))
    return "\n\n".join(parts) + "\n"


def _facts(card: Mapping[str, Any]) -> str:
    board, made, result = card["board"], card["made"], card["result"]
    packages = ", ".join([f"goalrank {made['goalrank']}", *card["ranker"]["packages"]])
    libraries = ", ".join(f"{name} {v}" for name, v in made["versions"].items() if v)
    rows = [
        ["class", f"`{card['ranker']['class']}`"],
        ["board", f"{board['log']}, protocol {board['protocol']}, L = {board['slots']}"],
        ["requests", ", ".join(f"{board[f'requests_{n}']:,} {n}" for n in board["tables"])],
        ["scored", f"{board['test_scored']:,}; {board['test_excluded']:,} without positives left out"],
        *([f"SHA-256 of {name}", f"`{value}`"] for name, value in board["tables"].items()),
        ["seeds", ", ".join(map(str, result["seeds"]))],
        ["training", f"{result['training_seconds']:,.1f} s per seed"],
        ["parameters", f"{result['parameters']:,.0f}"],
        ["packages", f"{packages}; commit {made['commit'] or 'unknown'}"],
        ["libraries", f"Python {made['python']}, {libraries}"],
        ["machine", f"{made['machine']}, {made['cores']} cores, {made['threads']} threads, {made['device']}"],
    ]  # fmt: skip
    return Table(make_columns("", "what was run"), rows).markdown()


def _beside(beside: Mapping[str, Any]) -> str:
    head = f"## Against rows run beside it\n\nCompared {beside['how']}{_holm(beside['rows'])}."
    parts = [head, _table(beside["rows"])]
    if beside["hidden_baselines"]:
        parts.append(weaker_baselines(beside["hidden_baselines"]))
    parts += [
        f"{row}, seed {seed} failed: {' '.join(reason.split())}"
        for row, seed, reason in beside["failed"]
    ]
    return "\n\n".join(parts)


def _holm(rows: Sequence[Mapping[str, Any]]) -> str:
    return "; p corrected by Holm" if any(row["p"] == row["p"] for row in rows) else ""


def _published(published: Mapping[str, Any]) -> str:
    head = f"## Against the published rows of {published['folder']}"
    if not published["rows"]:
        return f"{head}\n\nNot compared: {published['split']}."
    ways = "; ".join(dict.fromkeys(row["how"] for row in published["rows"]))
    return (
        f"{head}\n\nSplit: {published['split']}. Compared by {ways}{_holm(published['rows'])}.\n\n"
        f"{_table(published['rows'])}"
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [
            row["row"],
            percent(row["mean"]),
            str(row["seeds"]),
            signed(100 * row["difference"], 2),
            f"[{signed(100 * row['low'], 2)}, {signed(100 * row['high'], 2)}]" if row["low"] == row["low"] else "–",
            p_text(row["p"]),
        ]
        for row in rows
    ]  # fmt: skip
    return Table(make_columns("row", "%", "seeds", "card − row", "95 %", "p"), cells).markdown()
