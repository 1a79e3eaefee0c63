"""`LogFingerprint`: which requests a model was trained on, in a few kilobytes."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.requests.encoding.vocabulary import mix64, stable_hash
from goalrank.requests.table.requests import Requests
from goalrank.wording import counted

_KEPT = 512  # hashes in a sketch


@dataclass(frozen=True)
class LogFingerprint:
    """A table of requests, recognised again by what it holds.

    Attributes:
        first, last: times of the first and of the last request (ISO 8601, UTC); empty without any.
        requests: how many.
        digest: SHA-256 over the sorted hashes of all requests (id and time); equal tables in any
            order have equal digests.
        sketch: the 512 smallest of these hashes, all of them where there are fewer (bottom-k sketch;
            Bar-Yossef et al., 2002). A part of the table holds its part of them.
    """

    first: str
    last: str
    requests: int
    digest: str
    sketch: tuple[str, ...]

    @classmethod
    def of(cls, requests: Requests) -> LogFingerprint:
        """The fingerprint of a table.

        Args:
            requests: the table.
        """
        hashes = np.sort(_hashes(requests))
        times = requests.frame["time"]
        first, last = ("", "") if len(times) == 0 else (_iso(times.min()), _iso(times.max()))
        digest = hashlib.sha256(hashes.astype("<u8").tobytes()).hexdigest()
        sketch = tuple(f"{value:016x}" for value in hashes[:_KEPT].tolist())
        return cls(first, last, len(hashes), digest, sketch)

    @classmethod
    def read(cls, facts: dict[str, Any]) -> LogFingerprint:
        """The fingerprint that `to_dict` wrote.

        Args:
            facts: its plain values.
        """
        return cls(**{**facts, "sketch": tuple(facts["sketch"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "sketch": list(self.sketch)}

    def share_in(self, log: Requests) -> float:
        """Estimate which share of a log's requests this table holds.

        The estimate is exact where the table has at most 512 requests. Else it looks at those of the
        log's requests whose hashes are as small as the sketch's; of a log of far fewer requests than
        the table it may see none, and is 0.

        Args:
            log: the log.
        """
        if not self.sketch or len(log) == 0:
            return 0.0
        mine = np.array([int(value, 16) for value in self.sketch], dtype=np.uint64)
        theirs = np.unique(_hashes(log))
        if self.requests > len(mine):
            theirs = theirs[theirs <= mine[-1]]
        return float(np.isin(theirs, mine).mean()) if len(theirs) else 0.0

    def __str__(self) -> str:
        return f"{counted(self.requests, 'request')} of {self.first} to {self.last}"


def _hashes(requests: Requests) -> NDArray[np.uint64]:
    """[R] of request id and time: ids alone may be counted from 0 in every log."""
    times = requests.frame["time"].dt.epoch("us").to_numpy()
    return mix64(stable_hash(requests.frame["request_id"]) ^ mix64(times))


def _iso(time: object) -> str:
    return time.isoformat() if hasattr(time, "isoformat") else str(time)
