"""Team-draft interleaving: two rankers share one list, and clicks show whose items users prefer.

Every user compares both rankers in one list, so that far fewer requests are needed than in an A/B
test. The rankers pick items in turn; a coin decides which one picks first in each round of two
slots. Source: Radlinski, Kurup & Joachims, 2008, "How does clickthrough data reflect retrieval
quality?".
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
from goalrank.requests import Requests, feedback_lists

_MARK = "interleave"
_MOST_ROUNDS = 512  # bits of the longest hash


@dataclass(frozen=True)
class Draft:
    """Interleaved lists.

    Attributes:
        lists: [B, L] positions, -1 where both rankers have no more candidates.
        teams: [B, L] 0 = the first ranker's pick, 1 = the second's, -1 = empty.
    """

    lists: NDArray[np.int64]
    teams: NDArray[np.int64]


def draft_coins(
    experiment: Experiment, request_ids: Sequence[str], slots: int
) -> NDArray[np.bool_]:
    """Draw which ranker picks first in each round.

    The coins are a hash of salt and request id, so that every process gets the same ones.

    Args:
        experiment: an interleaving experiment.
        request_ids: ids of B requests.
        slots: L.

    Returns:
        [B, ceil(L / 2)]; True if the second ranker picks first in that round.

    Raises:
        ConfigError: more slots than a hash has bits.
    """
    rounds = -(-slots // 2)
    if rounds > _MOST_ROUNDS:
        raise ConfigError(
            f"slots is {slots}, but a draft has at most {2 * _MOST_ROUNDS}; option: slots"
        )
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
        first: [B, L] distinct positions on the N axis, -1 where the list has ended.
        second: as `first`.
        coins: [B, ceil(L / 2)] from `draft_coins`.

    Raises:
        ConfigError: the shapes do not fit.
    """
    rows, slots = first.shape
    if second.shape != first.shape or coins.shape != (rows, -(-slots // 2)):
        raise ConfigError(
            f"lists {first.shape} and {second.shape} with coins {coins.shape} do not fit; remedy: "
            f"[B, L], [B, L] and [B, ceil(L / 2)]"
        )
    both = np.stack([first, second], 1)  # [B, 2, L]
    used = np.zeros((rows, max(int(both.max(initial=0)), 0) + 2), np.bool_)
    used[:, -1] = True  # the column of -1: never free
    lists, teams = np.full((2, rows, slots), -1, np.int64)
    row = np.arange(rows)
    for t in range(slots):
        turn = (coins[:, t // 2].astype(np.int64) + t) % 2
        free = ~used[row[:, None, None], both]  # [B, 2, L]
        # A ranker without a candidate left gives its turn to the other one.
        has_pick: NDArray[np.bool_] = np.any(free, axis=2)
        team = np.where(has_pick[row, turn], turn, 1 - turn)
        pick = both[row, team, free[row, team].argmax(1)]
        real = free[row, team].any(1)
        lists[real, t], teams[real, t] = pick[real], team[real]
        used[row[real], pick[real]] = True
    return Draft(lists, teams)


def draft_label(experiment: Experiment, teams: Sequence[int]) -> str:
    """Label of an interleaved list in the column `experiment`, such as `name:interleave[0110]`.

    Args:
        experiment: the interleaving experiment.
        teams: [L] the ranker of each slot, 0 or 1; -1 is left out.
    """
    return f"{experiment.name}:{_MARK}[{''.join(str(team) for team in teams if team >= 0)}]"


@dataclass(frozen=True)
class Preference:
    """Preference of users between two rankers by one feedback type.

    Attributes:
        kind: feedback type.
        first, second: sum of the feedback on each ranker's items.
        wins_first, wins_second, ties: units whose feedback prefers the first, the second, neither.
        share: units that prefer the second / units with a preference; 0.5 is no difference.
        low, high: Wilson interval of the share at the report's confidence.
        p_value: p-value of the exact two-sided sign test.
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
    """Statistics of an interleaving experiment.

    Attributes:
        experiment: name of the experiment.
        pair: names of the first and second variant.
        confidence: level of the intervals, in (0, 1).
        requests: interleaved requests.
        units: units with interleaved requests.
        slots: share of slots that the second variant filled; about 0.5.
        broken: requests whose label does not fit their list; they are left out.
        preferences: one per feedback type.
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
    """Credit the feedback of each slot to the ranker that filled it, and compare per unit.

    A unit (user or request) counts once, however many clicks it has, so that its requests do not
    count as independent. Every feedback type of the experiment's metrics is compared.

    Args:
        experiment: an interleaving experiment with metrics.
        tables: requests served during the experiment.
        confidence: level of the intervals, in (0, 1).

    Raises:
        ConfigError: the experiment does not interleave, or has no metric.
        DataError: the tables hold no interleaved list, or lack a feedback type.
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
            f"remedy: check the time range, and that the server interleaves lists"
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
    """One row per unit (requests, slots and feedback of each team), and the broken requests."""
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
        *(feedback_lists(kind).alias(f"of {kind}") for kind in kinds),
    )  # fmt: skip
    names = ["team", *(f"of {kind}" for kind in kinds)]
    cells = cells.filter(pl.col("team").list.len() > 0).explode(names)
    sums = [
        expression
        for side in ("0", "1")
        for of_side in [pl.col("team") == side]
        for expression in (
            of_side.sum().cast(pl.Float64).alias(f"picks{side}"),
            *(
                pl.col(f"of {k}").filter(of_side).sum().cast(pl.Float64).alias(k + side)
                for k in kinds
            ),
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
