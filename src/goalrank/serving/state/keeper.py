"""`StateKeeper`: a live state that follows the event log, with snapshots on disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from goalrank.errors import GoalRankError, StoreError
from goalrank.logs import LearntRetrieval
from goalrank.requests import TableInfo, Told
from goalrank.serving.state.event_log import Appended, Deleted, EventLog
from goalrank.serving.state.live import Asked, LiveState
from goalrank.serving.state.logged import LoggedEvent, LogRow, SideTable
from goalrank.serving.state.metrics import StateMetrics
from goalrank.serving.state.snapshots import load_snapshot, remove_snapshot
from goalrank.serving.store.records import micros

__all__ = ["Progress", "StateKeeper"]

_LOG = logging.getLogger("goalrank.serving")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REFUSED = "events cannot be stored"
_LOOK_S = 0.25  # seconds between looks for events of other processes
_SNAPSHOT_S = 300.0
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Place:
    """How far a state has come in the log: the newest event, and the newest deletion of a user."""

    event: int
    deletion: int = 0


class StateKeeper:
    """State of one server process.

    The event log is the truth. The state is read from the snapshot, if it is good, and the events
    after it; else from all events. Events and deletions of other processes are seen within a quarter
    of a second.

    Args:
        info: description of the table that the model was trained on.
        learnt: what the import of that table learnt.
        log: events.
        folder: of the snapshot.
        progress: called with (events read, events in all) while the state is made.
        metrics: where events and sizes are counted.

    Attributes:
        live: histories and features; another object after `adopt`.
        replayed: events that were read at the start, beside the snapshot.
        seconds: that the start took.

    Raises:
        ConfigError: the model cannot be served from events.
        StoreError: the log cannot be read.
    """

    def __init__(
        self,
        info: TableInfo,
        learnt: LearntRetrieval | None,
        log: EventLog,
        folder: Path,
        *,
        progress: Progress | None = None,
        metrics: StateMetrics | None = None,
    ) -> None:
        begin = perf_counter()
        self._log, self._folder, self._progress = log, folder, progress
        self._metrics = metrics
        self._faults: dict[str, str] = {}
        self._lock = threading.RLock()
        self._disk = threading.Lock()  # taken before the other one
        self.live = LiveState(info, learnt)
        self._place = _Place(load_snapshot(self.live.state, folder, log.identity) or 0)
        if self._place.event > log.last:  # of a log that was brought back from a backup
            _LOG.warning("the snapshot '%s' is ahead of the event log and is not used", folder)
            self.live, self._place = LiveState(info, learnt), _Place(0)
        # Before the fold: what was replayed is worth a snapshot, too.
        self._saved: _Place | None = self._place
        self._place, self.replayed = self._fold(self.live, self._place)
        self.seconds, self._looked = perf_counter() - begin, monotonic()
        self._stop = threading.Event()
        self._saver = threading.Thread(target=self._save_forever, daemon=True)
        self._saver.start()

    def _fold(self, live: LiveState, place: _Place) -> tuple[_Place, int]:
        """Fold in the events and deletions after a place; the new place, and how many events."""
        count, event, deletion = 0, place.event, place.deletion
        last = self._log.last  # read first: every deletion before this event can be seen now
        for gone in self._log.forgotten(since=deletion, position=event):
            count += self._fold_events(live, event, gone.position, last)
            live.forget_hash(gone.user_hash)
            event, deletion = gone.position, gone.seq
        count += self._fold_events(live, event, last, last)
        return _Place(max(event, last), deletion), count

    def _fold_events(self, live: LiveState, after: int, until: int, last: int) -> int:
        count = 0
        for part in self._log.after(after, until=until):
            live.add(part.events, part.told)
            count += len(part)
            if self._progress is not None:
                self._progress(part.position, last)
        return count

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Keep in mind that the store refuses, until it does the same again."""
        try:
            yield
        except StoreError as error:
            self._faults[what] = f"{what} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}: {error}"
            raise
        self._faults.pop(what, None)

    @property
    def faults(self) -> list[str]:
        """What the event log refused when it was last asked; empty where nothing is wrong."""
        return list(self._faults.values())

    @property
    def position(self) -> int:
        """Number of the latest event that is folded in."""
        return self._place.event

    def follow(self, *, now: bool = False) -> None:
        """Fold in what other processes have stored since the last look.

        Args:
            now: look even if the last look was a moment ago.
        """
        if now or monotonic() - self._looked > _LOOK_S:
            with self._lock, self._noting("events cannot be read"):
                self._place, _ = self._fold(self.live, self._place)
                self._looked = monotonic()
            if self._metrics is not None:
                self._metrics.look(self.live)

    def append(self, events: Sequence[LogRow]) -> Appended:
        """Store events; when this returns they are on disk and folded in.

        Args:
            events: in the order in which they came.

        Raises:
            DuplicateRequestError: an id that is there with another content.
            StoreError: the store refuses.
        """
        with self._noting(_REFUSED):
            done = self._log.append(events)
        self.follow(now=True)
        if self._metrics is not None:
            self._metrics.count(done)
        return done

    def age(self, moment: datetime) -> float | None:
        """Seconds from the latest event to a moment; None before the first event."""
        if not self.live.state.taken:
            return None
        newest = _EPOCH + timedelta(microseconds=self.live.state.newest)
        return max((moment - newest).total_seconds(), 0.0)

    def ahead(self, moment: datetime) -> float:
        """Seconds by which the state is later than a moment; 0 where it is not."""
        return max(self.live.state.clock - micros(moment), 0) / 1e6

    def latest_events(self, user: int | str, most: int) -> list[LoggedEvent]:
        """A user's latest events; see `EventLog.latest`."""
        return self._log.latest(user, most)

    def latest(self, table: SideTable, ids: Sequence[Any]) -> Told:
        """What is said of items or users; see `LiveState.latest`."""
        return self.live.latest(table, ids)

    def rows(self, asked: Sequence[Asked]) -> list[dict[str, Any]]:
        """History and features of requests; see `LiveState.rows`."""
        self.follow()
        return self.live.rows(asked)

    def adopt(self, info: TableInfo, learnt: LearntRetrieval | None) -> None:
        """Serve a model of another import; the old state answers until the new one is made.

        Args:
            info: description of its table.
            learnt: what its import learnt.

        Raises:
            ConfigError: the model cannot be served from events; the old state stays.
        """
        fresh = LiveState(info, learnt)
        place, _ = self._fold(fresh, _Place(0))
        with self._lock:
            self._place, _ = self._fold(fresh, place)
            self.live = fresh

    def forget(self, user: int | str) -> tuple[bool, Deleted]:
        """Forget a user in log, store, state and snapshot; where the store refuses, in none.

        Args:
            user: id.

        Returns:
            Whether the state knew the user, and what was deleted.

        Raises:
            StoreError: the store refuses, or the snapshot cannot be removed.
        """
        with self._disk, self._lock:
            self._saved = None
            # First: no file is to know a user whose events are gone, whenever a kill comes.
            remove_snapshot(self._folder)
            with self._noting(_REFUSED):
                deleted = self._log.forget(user)
            known = self.live.forget(user)
            self._try(self._write)
        return known, deleted

    def save(self) -> None:
        """Write a snapshot, if there are new events or none was written.

        Raises:
            DataError: the folder cannot be written.
        """
        with self._disk:  # one after another: an older state is not to come last
            self._write()

    def _write(self) -> None:
        with self._lock:
            if self._place == self._saved:
                return
            place = self._place
            snapshot = self.live.snapshot(place.event, self._log.identity)
        snapshot.write(self._folder)
        self._saved = place

    def _save_forever(self) -> None:
        while not self._stop.wait(_SNAPSHOT_S):
            self._try(self.save)

    def _try(self, save: Callable[[], None]) -> None:
        try:
            save()
        except GoalRankError as error:
            _LOG.error("no snapshot was written, the next start reads more events: %s", error)

    def close(self) -> None:
        """Write a snapshot and stop."""
        self._stop.set()
        self._saver.join()
        self._try(self.save)
