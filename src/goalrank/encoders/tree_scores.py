"""Scores of cross-fitted boosted trees as a candidate feature of every network."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from goalrank.encoders.boosting import (
    LEVELS,
    Table,
    Trees,
    fit_trees,
    has_boosting,
    relevance_levels,
)
from goalrank.encoders.plain import MOST_ITEM_NUMBERS, SMALLEST_VARIANCE
from goalrank.encoders.samples import sample_within, shown_rows, with_order
from goalrank.encoders.vector_similarity import history_similarity
from goalrank.errors import BundleError
from goalrank.requests import EncodedRequests, Encoder, history_ages, mix64

Longs = NDArray[np.int64]
Floats = NDArray[np.float32]

_MOST_ROWS = 300_000  # candidates to learn from; a sample of the requests beyond
_FEWEST_REQUESTS = 200  # with an order to learn, for each fold
_FEWEST_USERS = 30  # for folds of users; with fewer, requests are dealt out instead
_TREES = 100
_BATCH = 512


@dataclass(frozen=True)
class TreeScores:
    """Scores of trees; each request is scored by trees that never saw its user.

    The users are dealt out to K folds by a hash, and the trees of a fold are fitted to the
    training requests of all others (stacking: Wolpert, 1992). Training, validation and serving use
    the same rule, so the scores mean the same everywhere. With fewer than 30 users, requests are
    dealt out instead.

    The trees see the candidate features, the retriever's score, the item's numbers and the
    similarity of its vectors to the history, each as it is and relative to the request; how often the candidate is in the history, and when and with what
    feedback last; the numbers of candidates and of history events; and the user's numbers.

    Attributes:
        texts: K texts of LightGBM.
        by_user: whether folds are of users.
        mean, deviation: of the raw scores over training.
        vectors: lengths of the vectors that the item numbers end with; see `InputSpec`.
    """

    texts: tuple[str, ...]
    by_user: bool
    mean: float = 0.0
    deviation: float = 1.0
    vectors: tuple[int, ...] = ()

    names = ("tree_score",)
    file = "tree_scores.json"

    def of(self, columns: EncodedRequests) -> Floats:
        """Standardised scores of all candidates: [C, 1]."""
        raw = self._raw(columns)
        return ((raw - self.mean) / self.deviation).astype(np.float32)[:, None]

    def write(self, folder: Path) -> list[str]:
        """Write the trees into an existing folder; returns the names of the files."""
        (folder / self.file).write_text(json.dumps(asdict(self)), encoding="utf-8")
        return [self.file]

    @classmethod
    def read(cls, folder: Path) -> TreeScores:
        """Read what `write` wrote, ready to score.

        Raises:
            BundleError: the file is damaged.
            MissingExtraError: LightGBM is not installed.
        """
        path = folder / cls.file
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            lists = {name: tuple(data.get(name, ())) for name in ("texts", "vectors")}
            found = cls(**{**data, **lists})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BundleError(
                f"'{path}' is damaged ({error}); remedy: save the bundle again"
            ) from error
        _ = found._trees  # now, and not at the first request
        return found

    @cached_property
    def _trees(self) -> tuple[Trees, ...]:
        return tuple(Trees(text) for text in self.texts)

    def _raw(self, columns: EncodedRequests) -> Floats:
        """Scores of all candidates, each by the trees of its request's fold: [C]."""
        table = _features(columns, self.vectors)
        fold = _folds(columns, len(self.texts), by_user=self.by_user)
        fold = np.repeat(fold, np.diff(columns.candidate_start))
        out = np.zeros(len(table), np.float32)
        for k, trees in enumerate(self._trees):
            mine = fold == k
            if mine.any():
                out[mine] = trees.scores(table[mine])
        return out


def add_tree_scores(
    encoder: Encoder, train: EncodedRequests, *, folds: int, seed: int
) -> tuple[Encoder, EncodedRequests, str]:
    """Fit trees to training requests, and have the encoder add their scores to all it encodes.

    Args:
        encoder: without such scores.
        train: training requests that it encoded.
        folds: K; 0 adds nothing.
        seed: of LightGBM and of the sample of requests, where they hold more than 300,000
            candidates.

    Returns:
        The encoder, the training requests with the scores, and a sentence on what was done or why
        nothing was.
    """
    if (obstacle := _obstacle(train, folds)) is not None:
        return encoder, train, f"tree scores: {obstacle}"
    scores = _fit(train, folds, seed, encoder.spec.item_vectors)
    if scores is None:
        few = f"fewer than {_FEWEST_REQUESTS} requests have an order to learn in a fold"
        return encoder, train, f"tree scores: left out, {few}"
    unseen = "user" if scores.by_user else "group of requests"
    said = f"{folds} × {_TREES} trees; no request is scored by trees that saw its {unseen}"
    encoder = replace(encoder, model_scores=scores)
    return encoder, train.with_model_scores(scores.of(train)), f"tree scores: {said}"


def _obstacle(train: EncodedRequests, folds: int) -> str | None:
    """Why no trees can be fitted; None where they can."""
    if not folds:
        return "switched off"
    if not has_boosting():
        return "left out, the extra 'trees' is not installed (pip install 'goalrank[trees]')"
    if train.target < 0:
        return "left out, no feedback type is the target"
    return None


def _fit(
    train: EncodedRequests, folds: int, seed: int, vectors: tuple[int, ...]
) -> TreeScores | None:
    """Cross-fitted trees; None where a fold has too little to learn from."""
    by_user = len(np.unique(train.user)) >= _FEWEST_USERS
    sample = train.take(sample_within(train, _MOST_ROWS, seed))
    table, label = _features(sample, vectors), _labels(sample)
    owner = np.repeat(np.arange(len(sample)), np.diff(sample.candidate_start))
    fold = _folds(sample, folds, by_user=by_user)[owner]
    known = with_order(sample, label, owner)
    texts = []
    for k in range(folds):
        rows = known & (fold != k)
        sizes = np.bincount(owner[rows])
        sizes = sizes[sizes > 0]
        if len(sizes) < _FEWEST_REQUESTS:
            return None
        texts.append(_fit_fold((table[rows], label[rows], sizes), seed))
    found = TreeScores(tuple(texts), by_user, vectors=vectors)
    raw = found._raw(sample)
    return replace(found, mean=float(raw.mean()), deviation=float(raw.std()) or 1.0)


def _fit_fold(table: Table, seed: int) -> str:
    # A listwise loss and few leaves overfit least: the trees are one voice among several.
    settings = {
        "objective": "rank_xendcg",
        "num_leaves": 15,
        "learning_rate": 0.05,
        "min_data_in_leaf": 50,
        "lambda_l2": 1.0,
        "seed": seed % 2**31,
        "objective_seed": seed % 2**31,
        "deterministic": True,
        "force_row_wise": True,
        "label_gain": list(range(LEVELS + 1)),
    }
    return fit_trees(table, settings, _TREES, names=[f"f{i}" for i in range(table[0].shape[1])])


def _folds(columns: EncodedRequests, folds: int, *, by_user: bool) -> Longs:
    """Fold of each request: [R]."""
    own = columns.users.id_row.numpy()[columns.user] if by_user else columns.key
    return (mix64(own.astype(np.uint64)) % np.uint64(folds)).astype(np.int64)


def _labels(columns: EncodedRequests) -> NDArray[np.int32]:
    """Relevance of each candidate in levels 0 … 4: [C]."""
    out = np.zeros(len(columns.candidates), np.int32)
    at = shown_rows(columns)
    value = columns.feedback[columns.shown >= 0, columns.target]
    out[at] = relevance_levels(value, float(value.max(initial=0)))
    return out


def _features(columns: EncodedRequests, vectors: tuple[int, ...] = ()) -> Floats:
    """Features of all candidates: [C, F]."""
    groups = np.diff(columns.candidate_start)
    items = columns.items.numeric.numpy()[columns.candidates, :MOST_ITEM_NUMBERS]
    similar = _similarity(columns, vectors)
    own = np.column_stack([columns.own_features, columns.candidate_score, items, similar])
    users = columns.users.numeric.numpy()[columns.user, :MOST_ITEM_NUMBERS]
    shared = np.column_stack([groups, users]).astype(np.float32)
    return np.column_stack(
        [own, _relative(own, groups), *_in_history(columns), np.repeat(shared, groups, axis=0)]
    ).astype(np.float32)


def _similarity(columns: EncodedRequests, vectors: tuple[int, ...]) -> Floats:
    """Similarity of each candidate's vectors to the history: [C, V]."""
    if not vectors or not len(columns):
        return np.zeros((len(columns.candidates), len(vectors)), np.float32)
    batches = columns.batches(_BATCH)
    each = (history_similarity(batch, vectors)[batch.candidate_mask] for batch in batches)
    return torch.cat(list(each)).numpy()


def _relative(x: Floats, groups: Longs) -> NDArray[np.float64]:
    """Values less the mean of their request, over its deviation; requests one after another."""
    some = groups[groups > 0]
    start = np.cumsum(some) - some
    owner = np.repeat(np.arange(len(some)), some)
    if not len(some):
        return np.zeros(x.shape)
    mean = np.add.reduceat(x.astype(np.float64), start) / some[:, None]
    centred = x - mean[owner]
    variance = np.add.reduceat(centred**2, start) / some[:, None]
    return centred / np.sqrt(variance + SMALLEST_VARIANCE)[owner]


def _in_history(columns: EncodedRequests) -> tuple[Floats, Floats]:
    """What the latest events that models see say of each candidate, and of the request.

    Returns:
        [C, 3] how often the candidate is among them, the age of its latest event (-1 for none) and
        the feedback then; [C, 2] events and age of the latest (-1 for none).
    """
    length = np.minimum(np.diff(columns.history_start), columns.history_limit)
    groups = np.diff(columns.candidate_start)
    requests = np.arange(len(columns))
    first = np.cumsum(length) - length
    event = np.arange(length.sum()) + np.repeat(columns.history_start[1:] - length - first, length)
    owner = np.repeat(requests, length)
    age = history_ages(columns.time[owner], columns.history_time[event])
    width = len(columns.items)
    key = owner * width + columns.history[event]
    order = np.argsort(key, kind="stable")  # events of one item stay in order of time
    wanted = np.repeat(requests, groups) * width + columns.candidates
    end = np.searchsorted(key[order], wanted, "right")
    times = end - np.searchsorted(key[order], wanted, "left")
    latest = np.append(order, -1)[end - 1]  # any event where there is none
    known = np.append(age, -1.0), np.append(columns.history_feedback[event], 0.0)
    own = [np.where(times > 0, values[latest], none) for values, none in zip(known, (-1.0, 0.0))]
    newest = np.where(length > 0, np.append(age, -1.0)[first + length - 1], -1.0)
    shared = np.column_stack([length, newest]).astype(np.float32)
    return np.column_stack([times, *own]).astype(np.float32), np.repeat(shared, groups, axis=0)
