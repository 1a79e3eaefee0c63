"""Signals that end a server: it says at once that it is draining."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from goalrank.serving.ranking.service import Service


def drain_on_signals(service: Service) -> None:
    """Mark a service as draining when its process is told to end; its own handlers run after.

    Only the main thread can handle signals: elsewhere nothing is done.

    Args:
        service: the service.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        usual = signal.getsignal(number)

        def handle(given: int, frame: FrameType | None, usual: object = usual) -> None:
            service.draining = True
            if callable(usual):
                usual(given, frame)

        if callable(usual):
            signal.signal(number, handle)
