"""Probe of the store: a thread of its own tries it, so that no health check waits for a database."""

from __future__ import annotations

import threading
from time import monotonic

from goalrank.errors import StoreError
from goalrank.serving.store.store import Store

_EVERY_S, _PATIENCE_S = 1.0, 3.0


class StoreProbe:
    """Whether the store takes writes, as it was found a moment ago.

    Args:
        store: the store.
        every: seconds between two tries.
        patience: seconds without an answer after which the store counts as stalled.
    """

    def __init__(
        self, store: Store, every: float = _EVERY_S, patience: float = _PATIENCE_S
    ) -> None:
        self._store, self._every, self._patience = store, every, patience
        self._answered, self._fault = monotonic(), self._try()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="goalrank-probe", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str | None:
        """What is wrong with the store; None if nothing is."""
        silent = monotonic() - self._answered
        if silent > self._every + self._patience:
            return f"the store has not answered for {silent:.0f} s"
        return self._fault

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._fault = self._try()
            self._answered = monotonic()

    def _try(self) -> str | None:
        try:
            self._store.probe(fresh=self._every)
        except StoreError as error:
            return str(error)
        return None
