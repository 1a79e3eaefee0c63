"""Requests of a study: split, capped, encoded, and the shown lists of the test part as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.encoders import add_tree_scores
from goalrank.errors import DataError
from goalrank.requests import EncodedRequests, Encoder, InputSpec, Requests
from goalrank.studies.common import sample_requests
from goalrank.studies.list_effects.settings import (
    ListEffectsConfig,
    check_levels,
    check_lists,
    check_protocol,
    chosen_kind,
)
from goalrank.wording import counted

PARTS = ("train", "validation", "test")
_SHARES = (0.7, 0.1)  # of users, of a split at random; the rest is test
_SEED = 0  # of splits and samples: seeds of the models share their requests

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Tables = Mapping[str, Requests]
Number = TypeVar("Number", np.float64, np.int64)


@dataclass(frozen=True)
class ShownLists:
    """Shown lists of R requests.

    Attributes:
        items: [R, S] numbers of the shown items, -1 where empty.
        feedback: [R, S] of the predicted kind; NaN where empty.
        users: [R] numbers of the users; each request's own where the log has none.
        has_users: whether any user has two requests.
    """

    items: Ints
    feedback: Floats
    users: Ints
    has_users: bool


@dataclass(frozen=True)
class StudyData:
    """What models are fitted to and judged on.

    Attributes:
        spec: input sizes.
        train, validation, test: encoded requests; no validation is None.
        kind: the predicted feedback kind.
        shown: lists of the test requests.
        notes: sentences on what was done to the requests.
    """

    spec: InputSpec
    train: EncodedRequests
    validation: EncodedRequests | None
    test: EncodedRequests
    kind: str
    shown: ShownLists
    notes: tuple[str, ...]


def study_tables(tables: Tables, config: ListEffectsConfig) -> tuple[dict[str, Requests], str]:
    """Split and cap the requests.

    Args:
        tables: train, validation (may be absent) and test.
        config: says how.

    Returns:
        The parts that models see, and a sentence about them.

    Raises:
        DataError: another protocol than "exposed", or no training or test requests.
    """
    for table in tables.values():
        check_protocol(table)
    kept, empty = _with_lists(tables)
    parts = _dealt(kept) if config.split == "random" else kept
    limits = (config.max_train, config.max_validation, config.max_test)
    said = []
    for part, limit in zip(PARTS, limits, strict=True):
        if part in parts:
            before = len(parts[part])
            parts[part] = sample_requests(parts[part], limit, _SEED)
            said.append(f"{len(parts[part]):,} of {before:,} {part}")
    for part in ("train", "test"):
        if not len(parts.get(part, ())):
            raise DataError(_lacking(part, kept, config.split))
    how = "users dealt anew at random" if config.split == "random" else "split by time, as imported"
    left = f"; left out: {counted(empty, 'request')} without a shown item" if empty else ""
    return parts, f"{', '.join(said)} requests; {how}{left}"


def _with_lists(tables: Tables) -> tuple[dict[str, Requests], int]:
    """The requests that show something, and how many do not: they say nothing of lists."""
    shows = {name: table.frame["shown"].list.len() > 0 for name, table in tables.items()}
    kept = {name: table.take(np.flatnonzero(shows[name])) for name, table in tables.items()}
    return kept, sum(int((~each).sum()) for each in shows.values())


def _lacking(part: str, tables: Tables, split: str) -> str:
    """Why a part is empty, and what to do."""
    if split == "random":
        ids = [table.frame["user_id"] for table in tables.values()]
        users = pl.concat(ids).n_unique() if ids else 0
        return (
            f"no {part} requests are left when whole users are dealt at random, as there are "
            f"{counted(users, 'user')}; remedy: a log of more users, or --split time (option: --split)"
        )
    return (
        f"there are no {part} requests; remedy: a folder of goalrank data import with "
        f"{part}.parquet, or --split random to deal all requests anew"
    )


def _dealt(tables: Tables) -> dict[str, Requests]:
    """All requests, dealt to the parts by user."""
    first = next(iter(tables.values()))
    frame = pl.concat([table.frame for table in tables.values()])
    _, user = np.unique(frame["user_id"].to_numpy(), return_inverse=True)
    place = np.random.default_rng(_SEED).random(int(user.max(initial=-1)) + 1)[user]
    part = np.searchsorted(np.cumsum(_SHARES), place, side="right")
    whole = Requests(frame, items=first.items, users=first.users, info=first.info)
    return {name: whole.take(np.flatnonzero(part == i)) for i, name in enumerate(PARTS)}


def prepare(parts: Mapping[str, Requests], config: ListEffectsConfig) -> StudyData:
    """Encode the parts; the encoder is fitted to the training requests.

    Raises:
        ConfigError: the feedback kind does not exist.
        DataError: no feedback, feedback that never varies (in training or in validation), or no
            list of two.
    """
    settings = config.fit.encoder
    encoder = Encoder.fit(parts["train"], settings)
    plain = encoder.encode(parts["train"])
    kind = chosen_kind(config.kind, plain)
    for part in ("train", "test"):
        check_lists(part, plain if part == "train" else encoder.encode(parts[part]))
    encoder, train, note = add_tree_scores(encoder, plain, folds=settings.tree_folds, seed=_SEED)
    validation = encoder.encode(parts["validation"]) if len(parts.get("validation", ())) else None
    if validation is not None:
        check_levels(kind, validation)
    test = encoder.encode(parts["test"])
    shown = shown_lists(parts["test"], test, kind)
    return StudyData(encoder.spec, train, validation, test, kind, shown, (note,))


def shown_lists(table: Requests, encoded: EncodedRequests, kind: str) -> ShownLists:
    """The shown lists of a table, by its own ids."""
    ids = table.frame.select(pl.col("candidates").list.gather(pl.col("shown")))["candidates"]
    _, item = np.unique(
        ids.explode(empty_as_null=False, keep_nulls=False).to_numpy(), return_inverse=True
    )
    _, user = np.unique(table.frame["user_id"].to_numpy(), return_inverse=True)
    items = _by_slot(encoded, item, -1)
    feedback = feedback_by_slot(encoded, kind)
    return ShownLists(items, feedback, user.astype(np.int64), len(np.unique(user)) < len(user))


def feedback_by_slot(encoded: EncodedRequests, kind: str) -> Floats:
    """Feedback [R, S] within [0, 1] to the shown lists; NaN where empty."""
    values = encoded.feedback[:, encoded.kinds.index(kind)].clip(0, 1)
    return _by_slot(encoded, values.astype(np.float64), np.nan)


def _by_slot(encoded: EncodedRequests, values: NDArray[Number], empty: float) -> NDArray[Number]:
    """Values along the shown items as [R, S]."""
    length = np.diff(encoded.shown_start)
    real = np.arange(int(length.max(initial=0))) < length[:, None]
    out = np.full(real.shape, empty, values.dtype)
    out[real] = values
    return out


def tables_digest(parts: Mapping[str, Requests]) -> str:
    """Hash of the requests' names, so that a folder can tell other data."""
    digest = hashlib.sha256()
    for part in PARTS:
        if part in parts:
            ids = parts[part].frame["request_id"].cast(pl.String)
            digest.update(f"{part}:{len(ids)}:{'|'.join(ids)}".encode())
    return digest.hexdigest()
