"""Every error that goalrank raises on purpose.

::

    GoalRankError
    ├── ConfigError        a setting is unknown, of the wrong type or out of range
    ├── DataError          a table, a log or a side table breaks a rule
    │   ├── SchemaError    a column is missing, misspelt or of the wrong type
    │   ├── ValidationError  rows break a rule; carries every fault
    │   ├── MissingInputError      a request lacks what the model was trained with
    │   ├── UnknownRequestError    feedback on what was never shown
    │   ├── DuplicateRequestError  a request id is in the store already
    │   └── TooFewUnitsError       a variant of an experiment has too few units yet
    ├── BundleError        a bundle is missing, altered, or of another version
    ├── FetchError         a download failed or its checksum differs
    ├── MissingExtraError  an optional library is not installed
    ├── InfeasibleError    what was asked for cannot exist (e.g. an enumeration too large)
    ├── OutOfMemoryError   memory ran out
    ├── ExecutorError        a worker, a cluster or an object store failed on every try
    └── StoreError         the store cannot be opened, read or written
        └── StoreFullError   its disk is full

Each message says the value met, the rule it breaks, the remedy and, where one exists, the option's
name. `code` is the same for machines: what a server's refusals carry.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence

_NO_MEMORY = re.compile(
    r"out of memory|can(no|')t allocate memory|not enough memory|memory allocation|"
    r"failed to allocate",
    re.IGNORECASE,
)


class GoalRankError(Exception):
    """Base of all errors that a user can cause and correct."""

    exit_code = 1
    code = "internal"


class ConfigError(GoalRankError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 2
    code = "invalid_request"


class RenamedSettingWarning(FutureWarning):
    """A setting was given by its old name, which works for one release more."""


class UnorderedListsWarning(UserWarning):
    """A model gave no numbers for some requests, so that the order of their lists says nothing."""


class DataError(GoalRankError):
    """A table, a log or a side table breaks a rule."""

    exit_code = 3
    code = "invalid_data"


class SchemaError(DataError):
    """A column is missing, misspelt or of the wrong type."""


class ValidationError(DataError):
    """Rows of a requests table break rules.

    Args:
        message: the first screenful, fit for a terminal.
        faults: every fault found, in row order.
    """

    def __init__(self, message: str, faults: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class MissingInputError(DataError):
    """A request lacks an input that the model was trained with."""

    code = "missing_input"


class UnknownRequestError(DataError):
    """Feedback names a request, or an item of it, that was never shown (or is past retention)."""

    code = "unknown_request"


class DuplicateRequestError(DataError):
    """A request id is in the store already."""

    code = "duplicate_request"


class TooFewUnitsError(DataError):
    """A variant of an experiment has too few units yet; later it may have enough."""

    code = "too_few_units"


class BundleError(GoalRankError):
    """A bundle is missing, altered, or written by another version."""

    exit_code = 4
    code = "bundle_unusable"


class FetchError(GoalRankError):
    """A download failed, or the file does not have the expected checksum."""

    exit_code = 5
    code = "fetch_failed"


class MissingExtraError(GoalRankError):
    """An optional library is needed and not installed.

    Args:
        feature: what was asked for, in the user's words.
        extra: the extra of the goalrank package that brings it.
    """

    exit_code = 6
    code = "missing_extra"

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs an optional library that is not installed; "
            f"remedy: pip install 'goalrank[{extra}]'"
        )


class InfeasibleError(GoalRankError):
    """What was asked for cannot be built or computed."""

    exit_code = 7
    code = "infeasible_rules"


class StoreError(GoalRankError):
    """The store cannot be opened, read or written."""

    exit_code = 8
    code = "store_unavailable"


class StoreFullError(StoreError):
    """The store's disk is full; what it held before is whole."""

    code = "store_full"


class OverloadError(GoalRankError):
    """A server has more work than it can do in time; sending it again later may do."""

    exit_code = 11
    code = "overloaded"


class ExecutorError(GoalRankError):
    """A worker, a cluster or an object store failed on every try; running again may do."""

    exit_code = 9
    code = "engine_failed"


class OutOfMemoryError(GoalRankError):
    """Memory ran out, on the processor's side or on an accelerator.

    Args:
        what: what was asked for, in the words of the library that could not have it.
    """

    exit_code = 10
    code = "out_of_memory"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"out of memory: {what}; files are written whole or not at all, so what was there "
            f"before is whole; remedy: smaller batches (--batch-size; for training --set "
            f"training.batch_size=32), fewer requests or candidates at once, fewer processes, or "
            f"a machine with more memory"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library says that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return not isinstance(error, GoalRankError) and bool(_NO_MEMORY.search(str(error)))


def rebuilt_error(name: str, message: str) -> GoalRankError:
    """An error that another process met, from its class's name and its message."""
    found = globals().get(name)
    kind = found if isinstance(found, type) and issubclass(found, GoalRankError) else GoalRankError
    error: GoalRankError = kind.__new__(kind)
    Exception.__init__(error, message)
    if isinstance(error, ValidationError):
        error.faults = ()
    return error
