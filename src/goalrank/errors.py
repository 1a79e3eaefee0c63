"""Every error that goalrank raises on purpose.

::

    GoalRankError
    ├── ConfigError        a setting is unknown, of the wrong type or out of range
    ├── DataError          a table, a log or a side table breaks a rule
    │   ├── SchemaError    a column is missing, misspelt or of the wrong type
    │   └── ValidationError  rows break a rule; carries every fault
    ├── BundleError        a bundle is missing, altered, or of another version
    ├── FetchError         a download failed or its checksum differs
    ├── MissingExtraError  an optional library is not installed
    └── InfeasibleError    what was asked for cannot exist (e.g. an enumeration too large)

Each message says the value met, the rule it breaks, the remedy and, where one exists, the option's
name.
"""

from __future__ import annotations

from collections.abc import Sequence


class GoalRankError(Exception):
    """Base of all errors that a user can cause and mend."""

    exit_code = 1


class ConfigError(GoalRankError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 2


class DataError(GoalRankError):
    """A table, a log or a side table breaks a rule."""

    exit_code = 3


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


class BundleError(GoalRankError):
    """A bundle is missing, altered, or written by another version."""

    exit_code = 4


class FetchError(GoalRankError):
    """A download failed, or what came does not have the expected checksum."""

    exit_code = 5


class MissingExtraError(GoalRankError):
    """An optional library is needed and not installed.

    Args:
        feature: what was asked for, in the user's words.
        extra: the extra of the goalrank package that brings it.
    """

    exit_code = 6

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs an optional library that is not installed; "
            f"remedy: pip install 'goalrank[{extra}]'"
        )


class InfeasibleError(GoalRankError):
    """What was asked for cannot be built or computed."""

    exit_code = 7
