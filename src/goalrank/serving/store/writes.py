"""Writes on their way to the store: each is stored, refused, or withdrawn by whoever waits for it."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import Any, Literal

from goalrank.errors import StoreError
from goalrank.serving.store.database import store_error

State = Literal["waiting", "running", "committing", "finished", "withdrawn"]


class Write:
    """Exposures that the writer stores, all or none.

    Whoever waits for them can withdraw them. Before its commit a write is then left out; one whose
    commit is under way is deleted again as soon as it is known to be stored. Either way a request
    that was answered as not stored is not found later.

    Args:
        rows: of `records.exposure_row`.

    Attributes:
        done: a future that is done when the exposures are on disk, refused, or left out.
    """

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.done: Future[None] = Future()
        self._lock = threading.Lock()
        self._state: State = "waiting"
        self._undo = False

    def withdraw(self) -> bool:
        """Ask that the exposures are not stored.

        Returns:
            Whether they are not; False if they are stored or refused already, as `done` says.
        """
        with self._lock:
            if self._state == "finished":
                return False
            self._undo = self._state == "committing"
            if not self._undo:
                self._state = "withdrawn"
            return True

    def begin(self, state: Literal["running", "committing"]) -> bool:
        """Go on to the next state; called by the writer.

        Args:
            state: "running" before the insert, "committing" before the commit.

        Returns:
            False if the write was withdrawn.
        """
        with self._lock:
            if self._state == "withdrawn" or (state == "running" and self._undo):
                return False
            self._state = state
            return True

    def finish(self, error: Exception | None = None) -> bool:
        """Say how the write ended; called by the writer.

        Args:
            error: why it was refused; None if it is stored.

        Returns:
            Whether it is, or may be, stored and must be deleted again: it was withdrawn while it was
            committed, or the answer to its commit was lost.
        """
        with self._lock:
            unknown = self._state == "committing" and error is not None
            self._state = "finished"
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(store_error(error, self.rows))
        return self._undo or unknown


def confirm(write: Write, timeout: float | None = 0.0) -> None:
    """Check that exposures are on disk; withdraw them if that is not known in time.

    Args:
        write: of `Store.submit`.
        timeout: seconds to wait, at most; None waits as long as it takes.

    Raises:
        DuplicateRequestError: a request id is in the store already.
        StoreFullError: the disk is full.
        StoreError: the database refuses, cannot be reached, or has not answered yet.
    """
    wait([write.done], timeout)
    if not write.done.done() and write.withdraw():
        raise StoreError(
            "the store did not confirm in time; nothing was stored; remedy: send the request again, "
            "and look at the database's load; option: store_timeout"
        )
    write.done.result()
