"""Scores of cross-fitted boosted trees as a candidate feature of every network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from goalrank.encoders.boosting import (
    LEVELS,
    Trees,
    TreeTable,
    fit_trees,
    has_boosting,
    relevance_levels,
)
from goalrank.encoders.plain import MOST_ITEM_NUMBERS, SMALLEST_VARIANCE
from goalrank.encoders.samples import sample_within, shown_rows, with_order
from goalrank.encoders.training_counts import (
    COUNTED,
    MOST_LINKS,
    TrainingCounts,
    latest_events,
)
from goalrank.encoders.vector_similarity import history_similarity
from goalrank.errors import BundleError
from goalrank.requests import EncodedRequests, Encoder, InputSpec, history_ages, mix64

Longs = NDArray[np.int64]
Floats = NDArray[np.float32]

_MOST_ROWS = 300_000  # candidates to learn from; a sample of the requests beyond
_MOST_EVENTS = 20_000_000  # of histories to count on; a sample of the requests beyond
_FEWEST_REQUESTS = 200  # with an order to learn, for each fold
_FEWEST_USERS = 30  # for folds of users; with fewer, requests are dealt out instead
_TREES = 100
# What is better beside the plain features on validation, see docs/decisions/0024.
_PLAIN: dict[str, Any] = {"objective": "rank_xendcg"}
_COUNTED: dict[str, Any] = {"objective": "lambdarank", "lambdarank_truncation_level": 9}
_BATCH = 512
_HISTORY_NUMBERS = 5  # of `_in_history`


@dataclass(frozen=True)
class CrossFitted:
    """Trees of one kind, and what standardises their scores.

    Attributes:
        texts: K texts of LightGBM.
        mean, deviation: of the raw scores over training.
    """

    texts: tuple[str, ...]
    mean: float = 0.0
    deviation: float = 1.0

    @cached_property
    def trees(self) -> tuple[Trees, ...]:
        """The trees of each fold, parsed once."""
        return tuple(Trees(text) for text in self.texts)

    def raw(self, table: Floats, fold: Longs) -> Floats:
        """Scores [C] of rows [C, F], each by the trees of its request's fold [C]."""
        out = np.zeros(len(table), np.float32)
        for k, trees in enumerate(self.trees):
            mine = fold == k
            if mine.any():
                out[mine] = trees.scores(table[mine])
        return out

    def standardised(self, table: Floats, fold: Longs) -> Floats:
        """Scores [C] with mean 0 and deviation 1 over training."""
        return ((self.raw(table, fold) - self.mean) / self.deviation).astype(np.float32)

    def over(self, table: Floats, fold: Longs) -> CrossFitted:
        """The same trees, standardised over the rows of training."""
        raw = self.raw(table, fold)
        return replace(self, mean=float(raw.mean()), deviation=float(raw.std()) or 1.0)


@dataclass(frozen=True)
class TreeScores:
    """Scores of trees; each request is scored by trees that never saw its user.

    The users are dealt out to K folds by a hash, and the trees of a fold are fitted to the
    training requests of all others (stacking: Wolpert, 1992). Training, validation and serving use
    the same rule, so the scores mean the same everywhere. With fewer than 30 users, requests are
    dealt out instead.

    The trees see the candidate features, the retriever's score, the item's numbers and the
    similarity of its vectors to the history, each as it is and relative to the request; how often
    the candidate is in the history, and when and with what feedback last; the numbers of candidates
    and of history events; and the user's numbers.

    Trees of a second kind also see what the training requests of other folds say of the item: its
    popularity, feedback rate and links from the latest history events (see `TrainingCounts`). They
    learn from counts without their own fold, so that no label of a user reaches the trees that
    score this user. There are none where requests are dealt out, since later histories of a user
    hold the labels of earlier requests, or with two folds.

    Attributes:
        plain: trees without counts.
        by_user: whether folds are of users.
        vectors: lengths of the vectors that the item numbers end with; see `InputSpec`.
        counted: trees that see the counts; None in bundles of version 0.2.0, too.
        counts: of the K folds.
    """

    plain: CrossFitted
    by_user: bool
    vectors: tuple[int, ...] = ()
    counted: CrossFitted | None = None
    counts: tuple[TrainingCounts, ...] = field(default=(), compare=False, repr=False)

    file, arrays = "tree_scores.json", "tree_counts.safetensors"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the scores."""
        return ("tree_score",) if self.counted is None else ("tree_score", "counted_tree_score")

    @property
    def folds(self) -> int:
        """K."""
        return len(self.plain.texts)

    def of(self, columns: EncodedRequests) -> Floats:
        """Standardised scores of all candidates: [C, 1], or [C, 2] with trees that see counts."""
        fold = _candidate_folds(columns, self.folds, by_user=self.by_user)
        table = _features(columns, self.vectors)
        scores = [self.plain.standardised(table, fold)]
        if self.counted is not None:
            counted = _counted(columns, fold, dict(enumerate(self.counts)))
            scores.append(self.counted.standardised(np.hstack([table, counted]), fold))
        return np.column_stack(scores)

    def write(self, folder: Path) -> list[str]:
        """Write the trees into an existing folder; returns the names of the files."""
        content = {**asdict(self.plain), "by_user": self.by_user, "vectors": self.vectors}
        if self.counted is not None:
            content["counted"] = asdict(self.counted)
        (folder / self.file).write_text(json.dumps(content), encoding="utf-8")
        if self.counted is None:
            return [self.file]
        arrays = {
            f"{k}.{name}": values
            for k, counts in enumerate(self.counts)
            for name, values in counts.arrays().items()
        }
        save_file(arrays, folder / self.arrays)
        return [self.file, self.arrays]

    @classmethod
    def read(cls, folder: Path, spec: InputSpec) -> TreeScores:
        """Read what `write` wrote, ready to score.

        Args:
            folder: that holds the files.
            spec: of the encoder that the scores belong to.

        Raises:
            BundleError: a file is damaged, or does not fit the encoder.
            MissingExtraError: LightGBM is not installed.
        """
        path = folder / cls.file
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            vectors, by_user = tuple(data.pop("vectors", ())), data.pop("by_user")
            counted = data.pop("counted", None)
            found = cls(
                _cross_fitted(data), by_user, vectors,
                None if counted is None else _cross_fitted(counted),
                () if counted is None else _read_counts(folder / cls.arrays, len(data["texts"])),
            )  # fmt: skip
            found._refuse_misfits(spec)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise BundleError(
                f"'{path}' is damaged ({error}); remedy: save the bundle again"
            ) from error
        return found

    def _refuse_misfits(self, spec: InputSpec) -> None:
        """Refuse, now and not at the first request, what cannot score requests (ValueError)."""
        if not isinstance(self.by_user, bool) or self.vectors != spec.item_vectors:
            raise ValueError("folds or vectors are not those of the encoder")
        kinds = [(self.plain, _width(spec))]
        if self.counted is not None:
            kinds.append((self.counted, _width(spec) + 2 * len(COUNTED)))
        for trees, width in kinds:
            if len(trees.texts) != self.folds or not trees.texts:
                raise ValueError(
                    f"trees of {len(trees.texts)} folds, where others have {self.folds}"
                )
            if not (math.isfinite(trees.mean) and 0 < trees.deviation < math.inf):
                raise ValueError(f"scores of mean {trees.mean} and deviation {trees.deviation}")
            if odd := {each.features for each in trees.trees} - {width}:
                raise ValueError(f"trees read {odd} numbers of a candidate instead of {width}")
        for counts in self.counts:
            if len(counts.popularity) != spec.item_ids:
                raise ValueError(
                    f"counts of {len(counts.popularity)} items instead of {spec.item_ids}"
                )


def _cross_fitted(data: dict[str, Any]) -> CrossFitted:
    return CrossFitted(**{**data, "texts": tuple(data["texts"])})


def _read_counts(path: Path, folds: int) -> tuple[TrainingCounts, ...]:
    parts: dict[str, dict[str, NDArray[Any]]] = {str(k): {} for k in range(folds)}
    for name, values in load_file(path).items():
        k, _, array = name.partition(".")
        parts[k][array] = values
    return tuple(TrainingCounts.of_arrays(part) for part in parts.values())


def add_tree_scores(
    encoder: Encoder, train: EncodedRequests, *, folds: int, seed: int
) -> tuple[Encoder, EncodedRequests, str]:
    """Fit trees to training requests, and have the encoder add their scores to all it encodes.

    Args:
        encoder: without such scores.
        train: training requests that it encoded.
        folds: K; 0 adds nothing.
        seed: of LightGBM and of the samples of requests: trees learn from about 300,000 candidates
            at most, and counts are made on requests that hold about 20 million history events.

    Returns:
        The encoder, the training requests with the scores, and a sentence on what was done or why
        nothing was.
    """
    if (obstacle := _obstacle(train, folds)) is not None:
        return encoder, train, f"tree scores: {obstacle}"
    rows = sample_within(train, _MOST_ROWS, seed)
    scores = _fit(train, rows, folds, seed, encoder.spec.item_vectors)
    if scores is None:
        few = f"fewer than {_FEWEST_REQUESTS} requests have an order to learn in a fold"
        return encoder, train, f"tree scores: left out, {few}"
    unseen = "user" if scores.by_user else "group of requests"
    said = [f"{folds} × {_TREES} trees; no request is scored by trees that saw its {unseen}"]
    if len(rows) < len(train):
        said.append(f"they learn from {len(rows):,} of {len(train):,} requests")
    if scores.counted is not None:
        said = [f"2 × {said[0]}", *said[1:], *_said_of_counts(train, scores.counts, seed)]
    encoder = replace(encoder, model_scores=scores)
    return encoder, train.with_model_scores(scores.of(train)), f"tree scores: {'; '.join(said)}"


def _said_of_counts(
    train: EncodedRequests, counts: Sequence[TrainingCounts], seed: int
) -> list[str]:
    """What the second trees see, and what of it was cut."""
    said, rows = ["the second ones also see counts of other users' requests"], len(train)
    if (counted := len(_counted_rows(train, seed))) < rows:
        said.append(f"counts are made on {counted:,} of {rows:,} requests")
    if any(each.cut for each in counts):
        said.append(f"they keep the {MOST_LINKS:,} most frequent links per fold")
    return said


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
    train: EncodedRequests, rows: Longs, folds: int, seed: int, vectors: tuple[int, ...]
) -> TreeScores | None:
    """Cross-fitted trees that learn from some rows; None where a fold has too little to learn from."""
    by_user = len(np.unique(train.user)) >= _FEWEST_USERS
    sample = train.take(rows)
    label, table = _labels(sample), _features(sample, vectors)
    owner = np.repeat(np.arange(len(sample)), np.diff(sample.candidate_start))
    fold = _candidate_folds(sample, folds, by_user=by_user)
    known = with_order(sample, label, owner)
    if min(len(np.unique(owner[known & (fold != k)])) for k in range(folds)) < _FEWEST_REQUESTS:
        return None

    def fitted(settings: dict[str, Any], tables: Sequence[Floats]) -> CrossFitted:
        texts = []
        for k, rows in enumerate(known & (fold != k) for k in range(folds)):
            sizes = np.bincount(owner[rows])
            part = (tables[k][rows], label[rows], sizes[sizes > 0])
            texts.append(_fit_fold(part, settings, seed))
        return CrossFitted(tuple(texts))

    plain = fitted(_PLAIN, [table] * folds).over(table, fold)
    if not by_user or folds == 2:
        return TreeScores(plain, by_user, vectors)
    counts = _FoldCounts(train, folds, seed)
    seen = [_counted(sample, fold, others) for others in counts.for_training()]
    trees = fitted(_COUNTED, [np.hstack([table, each]) for each in seen])
    kept = counts.for_scores()
    held = np.hstack([table, _counted(sample, fold, kept)])
    return TreeScores(plain, by_user, vectors, trees.over(held, fold), tuple(kept.values()))


class _FoldCounts:
    """Counts on the training requests of some folds of users.

    Args:
        train: training requests.
        folds: K, above 2.
        seed: of the sample of requests.
    """

    def __init__(self, train: EncodedRequests, folds: int, seed: int) -> None:
        self.train, self.folds = train.take(_counted_rows(train, seed)), folds
        self.fold = _folds(self.train, folds, by_user=True)

    def without(self, *left_out: int) -> TrainingCounts:
        """Counts without the requests of some folds."""
        return TrainingCounts.fit(self.train.take(np.flatnonzero(~np.isin(self.fold, left_out))))

    def for_scores(self) -> dict[int, TrainingCounts]:
        """Counts for requests of each fold, which is left out."""
        return {k: self.without(k) for k in range(self.folds)}

    def for_training(self) -> list[dict[int, TrainingCounts]]:
        """The same for the training of each fold's trees, which leave that fold out too."""
        every = range(self.folds)
        pairs = {(j, k): self.without(j, k) for k in every for j in range(k)}
        return [{j: pairs[min(j, k), max(j, k)] for j in every if j != k} for k in every]


def _counted_rows(train: EncodedRequests, seed: int) -> Longs:
    """Training requests that counts are made on: all, or a sample."""
    return sample_within(train, _MOST_EVENTS, seed, held=len(train.history))


def _fit_fold(table: TreeTable, settings: dict[str, Any], seed: int) -> str:
    # Few leaves overfit least: the trees are one voice among several.
    whole = {
        "num_leaves": 15,
        "learning_rate": 0.05,
        "min_data_in_leaf": 50,
        "lambda_l2": 1.0,
        "seed": seed % 2**31,
        "objective_seed": seed % 2**31,
        "deterministic": True,
        "force_row_wise": True,
        "label_gain": list(range(LEVELS + 1)),
        **settings,
    }
    return fit_trees(table, whole, _TREES, names=[f"f{i}" for i in range(table[0].shape[1])])


def _candidate_folds(columns: EncodedRequests, folds: int, *, by_user: bool) -> Longs:
    """Fold of each candidate's request: [C]."""
    return np.repeat(_folds(columns, folds, by_user=by_user), np.diff(columns.candidate_start))


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
    """Features of all candidates that need no counts: [C, F]."""
    groups = np.diff(columns.candidate_start)
    items = columns.items.numeric.numpy()[columns.candidates, :MOST_ITEM_NUMBERS]
    similar = _similarity(columns, vectors)
    own = np.column_stack([columns.own_features, columns.candidate_score, items, similar])
    users = columns.users.numeric.numpy()[columns.user, :MOST_ITEM_NUMBERS]
    shared = np.column_stack([groups, users]).astype(np.float32)
    return np.column_stack(
        [own, _relative(own, groups), *_in_history(columns), np.repeat(shared, groups, axis=0)]
    ).astype(np.float32)


def _counted(columns: EncodedRequests, fold: Longs, counts: Mapping[int, TrainingCounts]) -> Floats:
    """What training requests say of candidates, as it is and relative to the request: [C, 10].

    Args:
        columns: encoded requests.
        fold: [C] of each candidate's request; those of a fold without counts get 0.
        counts: by fold.
    """
    out = np.zeros((len(fold), len(COUNTED)), np.float32)
    groups = np.diff(columns.candidate_start)
    items = columns.items.id_row.numpy()[columns.candidates]
    owner = np.repeat(np.arange(len(columns)), groups)
    latest = latest_events(columns)
    for k, each in counts.items():
        mine = fold == k
        if mine.any():
            out[mine] = each.of(items[mine], latest[owner[mine]])
    return np.hstack([out, _relative(out, groups).astype(np.float32)])


def _width(spec: InputSpec) -> int:
    """F of `_features`."""
    items, users = (min(n, MOST_ITEM_NUMBERS) for n in (spec.item_numeric, spec.user_numeric))
    own = spec.candidate_features - spec.model_scores + 1 + items + len(spec.item_vectors)
    return 2 * own + _HISTORY_NUMBERS + 1 + users


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
