"""Team-draft interleaving: two rankers share one list, and clicks say whose picks are better.

Every user compares both rankers on the same screen, so that far fewer requests are needed than by
splitting users. Source: Radlinski, Kurup & Joachims, 2008, "How does clickthrough data reflect
retrieval quality?". Two captains pick in turn; a coin says who picks first in each round of two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import ConfigError, DataError, MissingExtraError
from goalrank.experiments.config import Experiment
from goalrank.experiments.units import check_kinds, labels
from goalrank.requests import Requests

_MARK = "interleave"
_ROUNDS = 512  # bits of the longest hash


@dataclass(frozen=True)
class Draft:
    """Lists made of two rankers' picks.

    Attributes:
        lists: [B, L] positions, -1 where both rankers have no more.
        teams: [B, L] 0 = the first ranker's pick, 1 = the second's, -1 = empty.
    """

    lists: NDArray[np.int64]
    teams: NDArray[np.int64]


def draft_coins(
    experiment: Experiment, request_ids: Sequence[str], slots: int
) -> NDArray[np.bool_]:
    """[B, ceil(L / 2)] True = the second ranker picks first in that round.

    A hash of salt and request id: every process tosses the same coins.

    Raises:
        ConfigError: more slots than a hash has bits for.
    """
    rounds = -(-slots // 2)
    if rounds > _ROUNDS:
        raise ConfigError(f"slots is {slots}, but a draft has at most {2 * _ROUNDS}; option: slots")
    size = max(1, -(-rounds // 8))
    salt = f"draft\0{experiment.name}\0{experiment.salt}\0"
    hashes = [hashlib.blake2b((salt + x).encode(), digest_size=size).digest() for x in request_ids]
    bits = np.unpackbits(np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, size), axis=1)
    return bits[:, :rounds].astype(np.bool_)


def team_draft(
    first: NDArray[np.int64], second: NDArray[np.int64], coins: NDArray[np.bool_]
) -> Draft:
    """Interleave two rankers' lists of the same requests.

    Args:
        first, second: [B, L] distinct positions on the N axis, -1 where a list has ended.
        coins: [B, ceil(L / 2)], see `draft_coins`.

    Raises:
        ConfigError: shapes that do not fit.
    """
    rows, slots = first.shape
    if second.shape != first.shape or coins.shape != (rows, -(-slots // 2)):
        raise ConfigError(
            f"lists {first.shape} and {second.shape} with coins {coins.shape} do not fit; remedy: "
            f"[B, L], [B, L] and [B, ceil(L / 2)]"
        )
    both = np.stack([first, second], 1)  # [B, 2, L]
    used = np.zeros((rows, max(int(both.max(initial=0)), 0) + 2), np.bool_)
    used[:, -1] = True  # where -1 points: never free
    lists, teams = np.full((2, rows, slots), -1, np.int64)
    every = np.arange(rows)
    for t in range(slots):
        turn = (coins[:, t // 2].astype(np.int64) + t) % 2
        free = ~used[every[:, None, None], both]  # [B, 2, L]
        # Whoever has no pick left passes its turn on.
        has: NDArray[np.bool_] = np.any(free, axis=2)
        team = np.where(has[every, turn], turn, 1 - turn)
        pick = both[every, team, free[every, team].argmax(1)]
        real = free[every, team].any(1)
        lists[real, t], teams[real, t] = pick[real], team[real]
        used[every[real], pick[real]] = True
    return Draft(lists, teams)


def draft_label(experiment: Experiment, teams: Sequence[int]) -> str:
    """What an exposure's `experiment` says of a drafted list: `name:interleave[0110]`."""
    return f"{experiment.name}:{_MARK}[{''.join(str(team) for team in teams if team >= 0)}]"


@dataclass(frozen=True)
class Preference:
    """Whose picks one kind of feedback prefers.

    Attributes:
        first, second: feedback given to each ranker's picks, summed.
        wins_first, wins_second, ties: units whose own sums prefer the one, the other, or neither.
        share: of units with a preference, those that prefer the second; 0.5 is no difference.
        low, high: its Wilson interval at the report's confidence.
        p_value: exact two-sided sign test.
    """

    kind: str
    first: float
    second: float
    wins_first: int
    wins_second: int
    ties: int
    share: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class InterleaveReport:
    """An interleaving experiment's numbers.

    Attributes:
        pair: names of the first and second variant.
        slots: share of slots that the second picked; 0.5 but for chance.
        broken: requests whose teams do not fit their list; they are left out.
    """

    experiment: str
    pair: tuple[str, str]
    confidence: float
    requests: int
    units: int
    slots: float
    broken: int
    preferences: tuple[Preference, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def interleave_report(
    experiment: Experiment, tables: Iterable[Requests], *, confidence: float = 0.95
) -> InterleaveReport:
    """Credit each slot's feedback to the ranker that picked it, and compare unit by unit.

    A unit (a user, or a request) counts once however much it clicked, so that its requests are not
    taken for independent. Every kind that the experiment's metrics name is compared.

    Raises:
        ConfigError: the experiment does not interleave, or names no metric.
        DataError: no drafted list in the tables, or no such feedback.
        MissingExtraError: the extra `ab` is not installed.
    """
    kinds = sorted({metric.kind for metric in experiment.metrics})
    if experiment.interleave is None or not kinds:
        raise ConfigError(
            f"experiment '{experiment.name}' needs interleave = [FIRST, SECOND] and a metric; option: "
            f"experiments"
        )
    parts, broken = [], 0
    for table in tables:
        part, wrong = _credits(table.frame, experiment, kinds)
        parts.append(part)
        broken += wrong
    units = pl.concat(parts).group_by("unit").agg(pl.all().sum()) if parts else pl.DataFrame()
    if units.height == 0:
        raise DataError(
            f"no list of experiment '{experiment.name}' records its teams ({broken} do not fit); "
            f"remedy: check the range of time, and that the server drafts lists"
        )
    picks = [float(units[f"picks{side}"].sum()) for side in (0, 1)]
    return InterleaveReport(
        experiment.name, experiment.interleave, confidence, int(units["requests"].sum()),
        units.height, picks[1] / sum(picks), broken,
        tuple(_preference(units, kind, confidence) for kind in kinds),
    )  # fmt: skip


def _credits(
    frame: pl.DataFrame, experiment: Experiment, kinds: list[str]
) -> tuple[pl.DataFrame, int]:
    """A row a unit: requests, and picks and feedback of each team; and requests that are broken."""
    check_kinds(frame, experiment, kinds)
    if "experiment" not in frame.columns:
        frame = frame.with_columns(experiment=pl.lit(None, pl.String))
    teams = labels(experiment).str.extract(rf"^{_MARK}\[([01]*)\]$")
    rows = frame.with_columns(unit=pl.col(experiment.unit).cast(pl.String), teams=teams)
    rows = rows.drop_nulls("teams")
    fits = rows["teams"].str.len_chars() == rows["shown"].list.len()
    rows, broken = rows.filter(fits), int((~fits).sum())
    team = pl.col("teams").str.split("").list.eval(pl.element().filter(pl.element() != ""))
    cells = rows.select(
        "unit", "request_id", team.alias("team"),
        *(pl.col("feedback").struct.field(kind).alias(f"of {kind}") for kind in kinds),
    )  # fmt: skip
    names = ["team", *(f"of {kind}" for kind in kinds)]
    cells = cells.filter(pl.col("team").list.len() > 0).explode(names)
    sums = [
        expression
        for side in ("0", "1")
        for mine in [pl.col("team") == side]
        for expression in (
            mine.sum().cast(pl.Float64).alias(f"picks{side}"),
            *(pl.col(f"of {k}").filter(mine).sum().cast(pl.Float64).alias(k + side) for k in kinds),
        )
    ]
    requests = pl.col("request_id").n_unique().cast(pl.Float64).alias("requests")
    return cells.group_by("unit").agg(requests, *sums), broken


def _preference(units: pl.DataFrame, kind: str, confidence: float) -> Preference:
    try:
        from scipy.stats import binomtest
    except ImportError as error:
        raise MissingExtraError("goalrank ab report", "ab") from error
    first, second = units[f"{kind}0"], units[f"{kind}1"]
    losses, wins = int((first > second).sum()), int((second > first).sum())
    decided = wins + losses
    share, low, high, p_value = 0.5, 0.0, 1.0, 1.0
    if decided:
        test = binomtest(wins, decided)
        low, high = test.proportion_ci(confidence, method="wilson")
        share, p_value = wins / decided, float(test.pvalue)
    return Preference(
        kind, float(first.sum()), float(second.sum()), losses, wins, units.height - decided,
        share, float(low), float(high), p_value,
    )  # fmt: skip
