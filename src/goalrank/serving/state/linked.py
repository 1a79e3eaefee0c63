"""Retrieval and linked features from a state's histories, by what the latest import learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import ConfigError
from goalrank.features import RowPool
from goalrank.logs import (
    Affinity,
    ChannelLists,
    Chunk,
    Codes,
    FoldedIn,
    ItemScorer,
    LearntRetrieval,
    LinkVotes,
    Popularity,
    ScoringChannel,
    Transition,
    blend,
    scored,
    stable_hashes,
)
from goalrank.serving.state.state import CONSUMED, LIKED, State

__all__ = ["Linked", "Retrieved"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
_LINKS = LinkVotes.name
_CHANNELS: dict[str, Any] = {kind.name: kind for kind in (LinkVotes, FoldedIn, Popularity)}
_AFFINITY = "_affinity"


@dataclass(frozen=True)
class _Weights:
    """Weights of rows of histories: 1 where liked."""

    pool: RowPool
    other: float

    def __getitem__(self, rows: NDArray[np.int64], /) -> Floats:
        return np.where(self.pool.marks[rows] & LIKED > 0, 1.0, self.other).astype(np.float32)


@dataclass(frozen=True)
class _Now(Chunk):
    """Requests of now; what users have seen is known beyond their capped histories."""

    user: Ints
    state: State

    def recent(self, depth: int) -> tuple[Longs, Ints, Longs, Longs]:
        """See `Chunk`; rows of histories stand among others."""
        real, row = self.state.latest.latest(self.user, depth, CONSUMED)
        item = self.state.latest.item[row]
        request, age = np.nonzero(real & (item < self.items))
        return request, item[request, age], age, row[request, age]

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """Whether each known item was ever consumed: [B, I]."""
        table = np.zeros((len(self), self.items), bool)
        request, item = self.state.consumed(self.user)
        known = item < self.items
        table[request[known], item[known]] = True
        return table


@dataclass(frozen=True)
class Retrieved:
    """Candidates of B requests.

    Attributes:
        candidates: [B, N] codes, -1 for none.
        score: [B, N] as `candidate_score` of the requests table.
        features: linked features, name → [B, N].
    """

    candidates: Ints
    score: Floats
    features: dict[str, Floats]

    @property
    def real(self) -> Retrieved:
        """Without places that no request fills."""
        count = int((self.candidates >= 0).sum(axis=1).max(initial=0))
        features = {name: values[:, :count] for name, values in self.features.items()}
        return Retrieved(self.candidates[:, :count], self.score[:, :count], features)


class Linked:
    """Channels and links of an import at work on a state.

    Args:
        learnt: what the import learnt.
        state: its items' codes begin with those of `learnt`.

    Attributes:
        learnt: as given.
        channels: retrieval channels.
        scorers: models of the other linked features.

    Raises:
        ConfigError: a channel that cannot be kept.
        MissingExtraError: factorisation without its library.
    """

    def __init__(self, learnt: LearntRetrieval, state: State) -> None:
        if learnt.lacking:
            raise ConfigError(
                f"the channels {', '.join(learnt.lacking)} cannot be kept, since they have no method "
                f"learnt, so their scores cannot be served; remedy: import without them (option: "
                f"quotas)"
            )
        self.learnt, self._state = learnt, state
        weights = {
            _LINKS: _Weights(state.latest, learnt.vote_weight),
            FoldedIn.name: _Weights(state.latest, learnt.confidence),
        }
        made: dict[str, ScoringChannel] = {
            name: _CHANNELS[name].from_learnt(arrays, weights.get(name, weights[_LINKS]))
            for name, arrays in learnt.arrays.items()
        }
        self.channels = [made[name] for name in learnt.shares]
        self._best: dict[str, Ints] = {}
        self.scorers = [self._scorer(name, made[_LINKS]) for name in learnt.scorers]

    def _scorer(self, name: str, links: Any) -> ItemScorer:
        if not name.endswith(_AFFINITY):
            return Transition(links, last=name == "transition_last")
        items = self.learnt.items
        ids = items["item_id"]
        codes = Codes(ids, stable_hashes(ids), np.zeros(len(ids), np.int64))
        return Affinity(items, name.removesuffix(_AFFINITY), codes, self.learnt.depth)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all linked features."""
        channels = (f"{c.name}_{what}" for c in self.channels for what in ("score", "rank"))
        return (*channels, *self.learnt.scorers)

    @property
    def known(self) -> int:
        """Number of items that can be retrieved; their codes come first."""
        return self.learnt.known

    def chunk(self, users: Sequence[Any]) -> Chunk:
        """Requests of users at the clock."""
        state = self._state
        code = state.users.find(users)
        none = np.zeros(len(users), np.int64)  # rows are found by user, not between two places
        return _Now(state.latest, none, none, self.learnt.known, len(users), code, state)

    def of(self, users: Sequence[Any], candidates: Ints) -> Retrieved:
        """Linked features and scores of given candidates.

        Args:
            users: [B] ids.
            candidates: [B, N] codes, -1 for none.
        """
        chunk = self.chunk(users)
        lists = self._lists(chunk, self.learnt.exclude_seen)
        return self._retrieved(lists, chunk, candidates)

    def _retrieved(self, lists: ChannelLists, chunk: Chunk, candidates: Ints) -> Retrieved:
        shares = list(self.learnt.shares.values())
        features = {**lists.features(candidates), **scored(self.scorers, chunk, candidates)}
        return Retrieved(candidates, lists.blended_score(shares, candidates), features)

    def _lists(self, chunk: Chunk, exclude_seen: bool) -> ChannelLists:
        return ChannelLists.of(self.channels, chunk, self.learnt.count, exclude_seen, self._best)

    def retrieve(
        self, users: Sequence[Any], count: int | None = None, *, exclude_seen: bool | None = None
    ) -> Retrieved:
        """Candidates from the blended channels.

        Args:
            users: [B] ids.
            count: N; None takes the import's.
            exclude_seen: whether items that were ever consumed are left out; None does as the
                import did.

        Raises:
            ConfigError: the import had no retrieval, or it kept consumed items, so that the state
                does not know them all.
        """
        learnt = self.learnt
        if not self.channels:
            raise ConfigError(
                "the model was trained on lists that were shown, so nothing was learnt about "
                "retrieval; remedy: give candidates (POST /v1/rank), or import the log by protocol "
                "'retrieved'"
            )
        exclude_seen = learnt.exclude_seen if exclude_seen is None else exclude_seen
        if exclude_seen and not self._state.rule.exclude_seen:
            raise ConfigError(
                "exclude_seen is true, but the model's import kept items that users had consumed, so "
                "the state does not know all of them; remedy: leave exclude_seen out, or import the "
                "log with exclude_seen (option: exclude_seen)"
            )
        chunk = self.chunk(users)
        lists = self._lists(chunk, exclude_seen)
        shares = list(learnt.shares.values())
        candidates = blend(lists.tops, shares, count or learnt.count, chunk.items)
        return self._retrieved(lists, chunk, candidates)


def first_items(learnt: LearntRetrieval | None) -> list[Any]:
    """Ids that get the first codes of a state."""
    return [] if learnt is None else learnt.items["item_id"].to_list()


def side_table(learnt: LearntRetrieval | None) -> pl.DataFrame | None:
    """Categories of items, as far as an import knew them."""
    return learnt.items if learnt is not None and learnt.categories else None
