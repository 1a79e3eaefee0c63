"""A log by the import and by a server's state, side by side."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from goalrank.features import DEFAULT_FAMILIES, FeatureInputs, FeaturePlan, ItemCategories
from goalrank.logs import RawLog
from goalrank.logs.candidates.affinity import item_categories
from goalrank.logs.candidates.assembly import assemble
from goalrank.logs.candidates.features import LogFeatures
from goalrank.logs.candidates.pending import PendingRequests
from goalrank.logs.events.consumption import to_arrays
from goalrank.logs.events.request_points import RequestPoints
from goalrank.logs.spill.folder import Spill
from goalrank.requests import LogRule, TableInfo
from goalrank.serving.state.state import State

KINDS = ("click", "like")
DEPTH = 3  # of histories, so that they are cut
ITEMS = list(range(8))
SIDE = pl.DataFrame(
    {
        "item_id": ITEMS,
        "genre": [["a", "b"], ["a"], ["b", "c"], [], ["c"], ["a", "c"], ["b"], ["a"]],
    }
)


def side_categories(ids: list[int]) -> ItemCategories:
    """Genres by the codes that a state gives to `ids`."""
    genres = dict(zip(SIDE["item_id"], SIDE["genre"].to_list()))
    pairs = [(at, ord(g)) for at, item in enumerate(ids) for g in genres.get(item, [])]
    item, genre = np.array(pairs, np.int64).reshape(-1, 2).T
    return ItemCategories.from_pairs(item, genre)


def info(shape: str, seed: int = 0) -> TableInfo:
    """What the import of such a log says about itself."""
    rule = LogRule(shape=shape, strength=KINDS, depth=DEPTH, seed=seed)  # type: ignore[arg-type]
    return TableInfo(feedback_kinds=KINDS, target="click", log=rule)


def empty_state(shape: str) -> State:
    """A state that has seen nothing."""
    inputs = FeatureInputs(KINDS, {"genre": side_categories(ITEMS)}, repeats=True)
    return State(info(shape), FeaturePlan(DEFAULT_FAMILIES, inputs), ITEMS)


def imported(events: pl.DataFrame, shape: str, user: int, time: int, candidates: list[int]):
    """History and features of a request of a known user, by the import's own code."""
    raw = RawLog(
        "made", shape, events.with_columns(strength=pl.sum_horizontal(KINDS)),  # type: ignore[arg-type]
        kinds=KINDS, target="click", strength="strength", rate_kinds=KINDS, items=SIDE,
        categories=("genre",),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        spill = Spill(Path(folder))
        log = to_arrays(raw, spill)
        inputs = FeatureInputs(KINDS, {"genre": item_categories(SIDE, "genre", log.items)})
        plan = FeaturePlan(DEFAULT_FAMILIES, inputs)
        features = LogFeatures(log.events, len(log.items), plan, shown_only=True, spill=spill)
        at = np.array([time])
        points = RequestPoints(log.users.encode(pl.Series([user])), at, at, np.zeros(1, np.int64))
        codes = log.items.encode(pl.Series(candidates))[None]
        none = np.zeros((1, 0), np.int32)
        pending = PendingRequests(points, codes, none, none.astype(np.int64))
        frame = assemble(
            pending, np.zeros(1, np.int64), log.history, log.events, KINDS,
            users=log.users, items=log.items, depth=DEPTH, strength="strength",
        )  # fmt: skip
        values = features.of(points, codes)
    history = [
        frame["history"][0].to_list(),
        frame["history_feedback"][0].to_list(),
        frame["history_time"][0].cast(pl.Int64).to_list(),
    ]
    return history, values


def served(state: State, user: int, time: int, candidates: list[int]):
    """The same by a state."""
    state.advance(time)
    found = state.histories([user])
    history = [
        [state.items.ids[code] for code in found.item],
        found.feedback.tolist(),
        found.time.tolist(),
    ]
    return history, state.features([user], [candidates], np.array([time]))
