"""The data of a retraining: what was imported, and what servers exported since."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.api.retraining.one_table import one_table, refuse_unlike
from goalrank.api.retraining.told import export_told, with_told
from goalrank.errors import DataError, StoreError
from goalrank.models import DataRange
from goalrank.requests import Requests
from goalrank.storage import holding, put_in_place, remove_folder
from goalrank.wording import counted

if TYPE_CHECKING:
    from goalrank.serving import Store

SERVED = "served"
_BASE = ("train", "validation", "test")
_DRAFT = ".draft"
_LOCK = ".export.lock"
_STAMP = "%Y%m%dT%H%M%S%fZ"


@dataclass(frozen=True)
class Pool:
    """All requests that a retraining may use, in order of time.

    Attributes:
        table: the requests.
        source: [R] which of `digests` holds each request.
        digests: SHA-256 of each source's files, by the source's name.
        said: sentences for people about what was left out.
        notes: those that a version made of it keeps.
    """

    table: Requests
    source: NDArray[np.int64]
    digests: dict[str, str]
    said: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def times(self) -> NDArray[np.datetime64]:
        """[R] Times, ascending, in microseconds (UTC)."""
        return self.table.frame["time"].dt.replace_time_zone(None).to_numpy()

    def part(self, start: int, end: int) -> tuple[Requests, DataRange]:
        """Consecutive requests, and what they are.

        Args:
            start: first request.
            end: request after the last.
        """
        table = self.table.take(range(start, end))
        names = list(self.digests)
        used = [names[i] for i in np.unique(self.source[start:end])]
        first, last = table.frame["time"][0], table.frame["time"][-1]
        facts = [*(f"{n} {self.digests[n]}" for n in used), str(first), str(last), str(len(table))]
        digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()
        return table, DataRange(first=first, last=last, requests=len(table), digest=digest)


def export_new(
    store: Store,
    data: Path,
    *,
    until: datetime | None = None,
    settle: timedelta = timedelta(),
    after: Path | None = None,
    base: bool = True,
) -> int:
    """Export the exposures since the last export as a new folder below DATA/served.

    What events say of items and users goes beside it; see `export_told`.

    Served lists are requests already, with the features and propensities of their moment, so they
    become partitions of the requests table; making a raw log of them would lose both.

    Args:
        store: the server's store.
        data: folder of the training data.
        until: exposures before this time; None up to now less `settle`.
        settle: how long an exposure waits for its feedback.
        after: folder whose last export this one continues; None is `data`.
        base: whether what is exported must fit the imported part, or earlier exports alone.

    Returns:
        Number of exported requests.

    Raises:
        DataError: the folder cannot be written, or the requests cannot be one table with what is
            there; nothing was exported.
        StoreError: the store refuses.
    """
    end = until or datetime.now(UTC) - settle
    if not _any_new(store, after or data, end)[0]:
        return 0
    # Retrainings of other models may use the same data: a draft is of one of them.
    with holding(data / _LOCK):
        some, start = _any_new(store, after or data, end)
        return _export(store, data, (start, end), until, after or data, base) if some else 0


def _export(
    store: Store,
    data: Path,
    span: tuple[datetime | None, datetime],
    until: datetime | None,
    after: Path,
    base: bool,
) -> int:
    """Export the exposures of a time range; see `export_new`."""
    from goalrank.serving import export_store

    draft = data / SERVED / _DRAFT
    remove_folder(draft)  # of a run that was killed
    done = export_store(store, draft, *span, validation=0)
    try:
        _check_draft(draft, after, base)
        export_told(store, data / SERVED, until=until)
    except (DataError, StoreError):
        remove_folder(draft)
        raise
    newest = pl.scan_parquet(draft / "train" / "*.parquet").select(pl.col("time").max()).collect()
    past = newest.item() + timedelta(microseconds=1)
    place = data / SERVED / past.strftime(_STAMP)
    try:
        put_in_place(draft, place)
    except OSError as error:
        raise DataError(
            f"'{place}' cannot be written ({error}); remedy: check disk and rights"
        ) from error
    return sum(done.requests.values())


def _any_new(store: Store, data: Path, end: datetime) -> tuple[bool, datetime | None]:
    """Whether exposures since the last export are there, and its end."""
    from goalrank.serving import stored_requests

    start = max((_end_of(place) for place in served_folders(data)), default=None)
    if start is not None and start >= end:
        return False, start
    return next(stored_requests(store, start, end, chunk=1), None) is not None, start


def _check_draft(draft: Path, data: Path, base: bool) -> None:
    """Refuse an export that every later retraining would stumble over."""
    places = _base_places(data) if base else {}
    places |= {f"{SERVED}/{place.name}": place / "train" for place in served_folders(data)}
    if not places:
        return
    name, place = next(iter(places.items()))
    ours, theirs = (next(Requests.iter_shards(p, 1), None) for p in (place, draft / "train"))
    if ours is not None and theirs is not None:
        refuse_unlike(ours.info, theirs.info, name, "what the server stored")


def served_folders(data: Path) -> list[Path]:
    """Exported folders, oldest first; each is named by the end of its time range.

    Args:
        data: folder of the training data.
    """
    return sorted(place for place in (data / SERVED).glob("[0-9]*Z") if place.is_dir())


def _end_of(folder: Path) -> datetime:
    return datetime.strptime(folder.name, _STAMP).replace(tzinfo=UTC)


def read_pool(
    folders: Sequence[Path], *, base: bool = True, exclude: Sequence[tuple[datetime, datetime]] = ()
) -> Pool:
    """Read imported and served requests as one table.

    Args:
        folders: of the training data; the first has the imported part and the side tables.
        base: whether the imported part is read.
        exclude: time ranges [from, to) to leave out.

    Raises:
        DataError: nothing there, or parts that cannot be one table.
    """
    places = _base_places(folders[0]) if base else {}
    for folder in folders:
        places |= {f"{SERVED}/{p.name}": p / "train" for p in served_folders(folder)}
    if not places:
        raise DataError(
            f"'{folders[0]}' holds no {', no '.join(f'{part}.parquet' for part in _BASE)} and nothing "
            f"that was served; remedy: the folder of goalrank data import; option: --data"
        )
    tables = {name: _read(place, folders[0]) for name, place in places.items()}
    frames, said = one_table(tables)
    sizes = [frame.height for frame in frames]
    joined = pl.concat(frames, how="diagonal").with_columns(
        pl.Series("source", np.repeat(np.arange(len(frames)), sizes))
    )
    joined, more = _kept(joined, exclude)
    first = next(iter(tables.values()))
    served = [folder / SERVED for folder in folders]
    items, of_items, not_of_items = with_told(first.items, "items", served)
    users, of_users, not_of_users = with_told(first.users, "users", served)
    notes = (*not_of_items, *not_of_users)
    said = [*said, *of_items, *of_users, *notes]
    table = Requests(joined.drop("source"), items=items, users=users, info=first.info)
    digests = {name: _digest(place) for name, place in places.items()}
    return Pool(table, joined["source"].to_numpy(), digests, (*said, *more), notes)


def _base_places(data: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for part in _BASE:
        options = [place for place in (data / f"{part}.parquet", data / part) if place.exists()]
        found |= {part: options[0]} if options else {}
    return found


def _read(place: Path, data: Path) -> Requests:
    items, users = data / "items.parquet", data / "users.parquet"
    return Requests.read(
        place,
        items=items if items.is_file() else None,
        users=users if users.is_file() else None,
        allow_empty=True,
    )


def _kept(
    joined: pl.DataFrame, exclude: Sequence[tuple[datetime, datetime]]
) -> tuple[pl.DataFrame, list[str]]:
    """Rows in order of time, without repeated requests and excluded ranges."""
    once = joined.unique("request_id", keep="first", maintain_order=True)
    twice = joined.height - once.height
    said = (
        [f"{counted(twice, 'request is', 'requests are')} in two parts and counted once"]
        if twice
        else []
    )
    for start, end in exclude:
        inside = pl.col("time").is_between(start, end, closed="left")
        left = once.filter(inside).height
        said.append(f"{counted(left, 'request')} from {start} to {end}: left out")
        once = once.filter(~inside)
    return once.sort("time", "request_id"), said


def _digest(place: Path) -> str:
    """SHA-256 over the names and contents of a source's files."""
    files = sorted(place.glob("*.parquet")) if place.is_dir() else [place]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(
                f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode()
            )
    return digest.hexdigest()
