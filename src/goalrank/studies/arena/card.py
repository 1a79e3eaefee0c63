"""Card of a ranker on a board of a suite: one command, one row, tested against the suite's own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from goalrank.bundles import needed_plugins
from goalrank.errors import ConfigError, DataError
from goalrank.evaluation import over_seeds_and_users
from goalrank.rankers import RANKERS
from goalrank.settings import did_you_mean
from goalrank.storage import json_values, write_json, write_text
from goalrank.studies.arena.card_text import card_markdown
from goalrank.studies.arena.committed import ONE_SEED, PAIRED, Measured, compare_with_published
from goalrank.studies.arena.leaderboards import Leaderboard, LeaderboardRow, load_leaderboards
from goalrank.studies.arena.ledger import Ledger, read_published
from goalrank.studies.arena.runner import Progress, run_suite, stored_plan, stored_suite
from goalrank.studies.common import Suite, build_suite

CARD_VERSION = 1
_MADE = ("commit", "goalrank", "python", "machine", "cores", "device", "threads", "finished")


def card_suite(
    suite: Suite,
    ranker: str,
    *,
    dataset: str | None = None,
    label: str | None = None,
    seeds: Sequence[int] = (),
    options: Mapping[str, Any] | None = None,
    beside: Sequence[str] = (),
) -> Suite:
    """Cut a suite down to one board, one ranker and the rows that it is tested against.

    Args:
        suite: the suite.
        ranker: a ranker's name or class path.
        dataset: name of the data set; may be left out where the suite has one.
        label: of the ranker's row; by default the name, or the class.
        seeds: of the trainings; none takes those of the suite.
        options: of the ranker.
        beside: labels of the suite's rows to run too; none takes its main row. Baselines are always
            run where the suite has them.

    Raises:
        ConfigError: an unknown ranker, option, data set or row, or a label that the suite has.
    """
    name = label or ranker.rpartition(":")[2]
    known = {row.label: row for row in suite.rankers}
    wanted = [*(beside or (suite.main,))]
    for row in wanted:
        if row not in known:
            raise ConfigError(
                f"suite '{suite.name}' has no row '{row}'{did_you_mean(row, known)}; option: --beside"
            )
    wanted += [row.label for row in suite.rankers if row.name == "baselines"]
    if name in wanted:
        raise ConfigError(
            f"the card's row and one beside it are both called '{name}'; remedy: another --label, or "
            f"another row with --beside"
        )
    own = {"name": ranker, "label": name, "options": dict(options or {})}
    content = suite.model_dump(mode="json")
    others = [row for row in content["rankers"] if row["label"] in wanted]
    return build_suite(
        {
            **content,
            "name": f"{suite.name}.{name}",
            "main": name,
            "seeds": list(seeds) or content["seeds"],
            "datasets": [_board(suite, dataset)],
            "sizes": content["sizes"][:1],
            "rankers": [own, *others],
        }
    )


def _board(suite: Suite, dataset: str | None) -> dict[str, Any]:
    names = [each.name for each in suite.datasets]
    if dataset is None and len(names) > 1:
        raise ConfigError(
            f"suite '{suite.name}' has several boards; remedy: name one of {', '.join(names)} "
            f"(option: --dataset)"
        )
    wanted = dataset or names[0]
    if wanted not in names:
        raise ConfigError(
            f"suite '{suite.name}' has no data set '{wanted}'{did_you_mean(wanted, names)}; "
            f"option: --dataset"
        )
    return suite.datasets[names.index(wanted)].model_dump(mode="json")


def make_card(
    suite: Suite,
    folder: str | Path,
    *,
    results: str | Path | None = None,
    jobs: int = 0,
    accelerator: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run the missing cells of a card's suite, and write `card.json` and `card.md` into its folder.

    Args:
        suite: of `card_suite`.
        folder: of the run; as for `run_suite`, it can be killed and started again.
        results: a folder of `publish` whose rows the card is compared with; None compares with the
            rows run beside it alone.
        jobs: as for `run_suite`.
        accelerator: as for `run_suite`.
        progress: as for `run_suite`.

    Returns:
        The content of card.json; NaN, which is null there, where nothing is tested.

    Raises:
        ConfigError: the folder holds another suite.
        DataError: every training of the ranker failed, with the reasons; cells in the folder stand on
            different tables; the ranker has not the suite's metric; or `results` cannot be read.
    """
    place = Path(folder)
    published = None if results is None else Path(results)
    if published is not None:
        read_published(published)  # an error now, not after the run
    run_suite(suite, place, jobs=jobs, accelerator=accelerator, progress=progress)
    card = read_card(place, published)
    write_json(place / "card.json", json_values(card))
    write_text(place / "card.md", card_markdown(card))
    return card


def read_card(folder: Path, published: Path | None) -> dict[str, Any]:
    """Make the card of a finished run.

    Args:
        folder: of the run.
        published: see `results` of `make_card`.

    Raises:
        DataError: see `make_card`.
    """
    suite = stored_suite(folder)
    [board] = load_leaderboards(folder)
    if board.mixed is not None:
        raise DataError(f"no card: {board.mixed} (option: --out)")
    row = board.row(suite.main)
    if row is None:
        reasons = sorted({f"seed {s}: {r}" for n, s, r in board.failed if n == suite.main})
        raise DataError(f"'{suite.main}' has no result:\n" + "\n".join(reasons))
    if board.metric not in row.means:
        raise DataError(
            f"no card: '{row.label}' gives lists without scores and so has no {board.metric}, the suite's "
            f"metric; remedy: a suite with another one (option: metric)"
        )
    ledger = Ledger(folder)
    cells = ledger.read(cell.key for cell in stored_plan(folder))
    mine = cells.filter((pl.col("ranker") == suite.main) & (pl.col("status") == "ok")).sort("seed")
    measured = _measured(ledger, mine, board.metric)
    return {
        "format": CARD_VERSION,
        "board": _board_facts(suite, board, measured.facts),
        "ranker": _ranker_facts(suite, measured.facts),
        "made": _made(measured.facts),
        "result": _result(row, measured, board),
        "beside": {
            "how": PAIRED if any(r.compared > 1 for r in board.rows) else ONE_SEED,
            "rows": [_beside(r, board.metric) for r in board.rows if r is not row],
            "failed": [list(each) for each in board.failed if each[0] != suite.main],
            "hidden_baselines": board.hidden_baselines,
        },
        "published": None
        if published is None
        else compare_with_published(measured, published, board.dataset),
    }


def _measured(ledger: Ledger, cells: pl.DataFrame, metric: str) -> Measured:
    values = {}
    for key, column, seed, mean in cells.select("key", "column", "seed", metric).iter_rows():
        found = ledger.measured(key, column, metric, mean)
        values[int(seed)] = found.columns[column][metric]
    means = dict(cells.select("seed", metric).iter_rows())
    return Measured(metric, values, means, found.users, found.rows, cells.row(0, named=True))


def _board_facts(suite: Suite, board: Leaderboard, facts: Mapping[str, Any]) -> dict[str, Any]:
    names = ("log", "protocol", "slots", "requests_train", "requests_validation", "requests_test",
             "test_scored", "test_excluded", "warning")  # fmt: skip
    return {
        "suite": suite.name.removesuffix(f".{suite.main}"),
        "dataset": board.dataset,
        "size": board.size,
        "metric": board.metric,
        "trials": int(facts["trials"]),
        "tables": json.loads(facts["tables"]),
        **{name: facts[name] for name in names},
    }


def _ranker_facts(suite: Suite, facts: Mapping[str, Any]) -> dict[str, Any]:
    row = next(row for row in suite.rankers if row.label == suite.main)
    made_by = RANKERS[row.name] if not row.is_composite else None
    path = f"{made_by.__module__}:{made_by.__qualname__}" if made_by else row.name
    return {
        "label": row.label,
        "name": row.name,
        "class": path,
        "options": row.options,
        "packages": list(needed_plugins({"class": path} if made_by else {}).values()),
        "settings": json.loads(facts["settings"]),
    }


def _made(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: facts[name] for name in _MADE}, "versions": json.loads(facts["versions"])}


def _result(row: LeaderboardRow, mine: Measured, board: Leaderboard) -> dict[str, Any]:
    values = np.stack(list(mine.values.values()))
    found = over_seeds_and_users(values, np.zeros_like(values), mine.users)
    failed = [[seed, reason] for name, seed, reason in board.failed if name == row.label]
    return {
        "seeds": list(row.seeds),
        "failed": failed,
        "means": row.means,
        "per_seed": list(row.per_seed),
        "value": found.mean,
        "low": found.low,
        "high": found.high,
        "seconds": row.facts["seconds"],
        "training_seconds": row.facts["training_seconds"],
        "ms_per_request": row.facts["ms_per_request"],
        "parameters": row.facts["parameters"],
    }


def _beside(row: LeaderboardRow, metric: str) -> dict[str, Any]:
    return {
        "row": row.label,
        "mean": row.means.get(metric, math.nan),
        "seeds": row.compared,
        "difference": row.difference,
        "low": row.low,
        "high": row.high,
        "p": row.p,
        "level": row.level,
    }
