"""`VersionRecord`: what is known about a version of a model; `Move`: a pointer's move to a version."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from goalrank._version import __version__

RECORD_FORMAT = 1

State = Literal["challenger", "champion", "retired", "refused"]
"""Where a version stands: not served yet, served, served earlier, or turned down by the gate."""

Pointer = Literal["champion", "canary", "previous"]
"""Names in a registry's folder that lead to a version."""

CHAMPION: Pointer = "champion"
"""The pointer that servers follow."""

Start = Literal["afresh", "added"]
"""How a version came about: trained from random weights, or added as a finished bundle."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataRange(_Record):
    """Requests of a time range.

    Attributes:
        first, last: times of the first and of the last request.
        requests: how many.
        digest: SHA-256 over the files that hold them and the range; equal data give equal digests.
    """

    first: AwareDatetime
    last: AwareDatetime
    requests: int = Field(ge=0)
    digest: str = ""


class Figure(_Record):
    """One measured number, with its 95 % interval where it has one.

    Attributes:
        name: what was measured, e.g. "challenger ndcg@6".
        value: the number.
        low, high: ends of the interval.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        span = (
            "" if self.low is None or self.high is None else f" [{self.low:.4g}, {self.high:.4g}]"
        )
        return f"{self.name} {self.value:.4g}{span}"


class Reason(_Record):
    """What one check of a gate found.

    Attributes:
        check: name of the check, e.g. "ndcg".
        passed: False turns the version down; None: the check could not be made, `said` tells why.
        said: a sentence with the numbers and the limit.
    """

    check: str
    passed: bool | None
    said: str


class Code(_Record):
    """What made a version.

    Attributes:
        goalrank: version of the package.
        source: SHA-256 over its source files, so that a changed checkout is another code.
    """

    goalrank: str = __version__
    source: str = ""


class VersionRecord(_Record):
    """A version of a model, as it was registered; it is written once and never changed.

    Attributes:
        format: of this record.
        version: number, from 1.
        created: when it was registered.
        parent: the champion that it was judged against; None without one.
        method: digest of the settings, recipe and code that made it.
        key: digest of the data and the method; two equal ones are one version.
        policy: name by which a server logs its lists (column `policy` of exposures).
        start: how it came about.
        code: what made it.
        settings: of the retraining.
        recipe: of the training, as it was given; the bundle has it as it followed from the data.
        trained: requests it was trained on (validation, which stops training early, included);
            None where nobody knows.
        judged: requests that the gate judged it on.
        figures: what the gate measured.
        reasons: what each check of the gate found.
        accepted: the gate's decision; None where there was no gate.
        note: of the person who added it, or of the retraining: what it left out and why.
    """

    format: int = RECORD_FORMAT
    version: int = Field(ge=1)
    created: AwareDatetime
    parent: int | None = None
    method: str | None = None
    key: str | None = None
    policy: str
    start: Start = "afresh"
    code: Code = Code()
    settings: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    trained: DataRange | None = None
    judged: DataRange | None = None
    figures: tuple[Figure, ...] = ()
    reasons: tuple[Reason, ...] = ()
    accepted: bool | None = None
    note: str = ""

    def figure(self, name: str) -> Figure | None:
        """A figure by its name; None where it was not measured.

        Args:
            name: of the figure.
        """
        return next((each for each in self.figures if each.name == name), None)


class Move(_Record):
    """A pointer that was moved to a version.

    Attributes:
        time: when.
        kind: a rollback takes the champion's last promotion back.
        pointer: which one.
        version: where it leads from then on.
        reason: why, in the words of who did it.
    """

    time: AwareDatetime
    kind: Literal["promote", "rollback"]
    pointer: Literal["champion", "canary"] = "champion"
    version: int = Field(ge=1)
    reason: str = ""


class History(_Record):
    """All moves of a registry's pointers, oldest first."""

    format: int = RECORD_FORMAT
    moves: tuple[Move, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> History:
        depth = 0
        for number, move in enumerate(self.moves, 1):
            depth += {"promote": 1, "rollback": -1}[move.kind] * (move.pointer == "champion")
            if depth < 1:
                raise ValueError(f"move {number} ({move.kind}) leaves no champion")
        return self

    @property
    def champions(self) -> tuple[int, ...]:
        """Versions that were promoted and not rolled back, the present champion last."""
        stack: list[int] = []
        for move in self.moves:
            if move.pointer == "canary":
                continue
            if move.kind == "rollback":
                stack.pop()
            else:
                stack.append(move.version)
        return tuple(stack)

    @property
    def served(self) -> frozenset[int]:
        """Versions that were champion at some time."""
        return frozenset(move.version for move in self.moves if move.pointer == "champion")

    @property
    def pointers(self) -> dict[Pointer, int]:
        """Where each pointer leads; empty before the first promotion.

        `previous` is the champion before this one, `canary` the version that was put there since
        the champion last changed. Each is the champion itself where there is no other, so that an
        experiment that names it always finds a bundle.
        """
        stack = self.champions
        if not stack:
            return {}
        previous = stack[-2] if len(stack) > 1 else stack[-1]
        return {"champion": stack[-1], "canary": self.moves[-1].version, "previous": previous}

    def since(self, pointer: Pointer) -> datetime | None:
        """When the version that a pointer leads to got there; None before the first promotion.

        Args:
            pointer: the pointer.
        """
        moves = (
            self.moves
            if pointer == "canary"
            else [m for m in self.moves if m.pointer == "champion"]
        )
        return moves[-1].time if moves else None
