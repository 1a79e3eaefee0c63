"""Options of a class: the keyword-only parameters of its constructor."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from goalrank.errors import ConfigError
from goalrank.settings import did_you_mean

__all__ = ["NO_DEFAULT", "check_options", "keyword_options", "other_parameters"]

NO_DEFAULT = inspect.Parameter.empty


def keyword_options(cls: Callable[..., object]) -> dict[str, Any]:
    """Keyword-only parameters with their defaults; `NO_DEFAULT` where there is none."""
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def other_parameters(cls: Callable[..., object], given: Iterable[str]) -> list[str]:
    """Parameters before the star that have no default and are not among those given."""
    parameters = inspect.signature(cls).parameters.values()
    wanted = (p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    return [p.name for p in wanted if p.default is NO_DEFAULT and p.name not in set(given)]


def check_options(
    given: Mapping[str, Any], known: Mapping[str, Any], what: str, option: str
) -> None:
    """Refuse options that are unknown, missing or of another type than their defaults.

    Args:
        given: option → value.
        known: what `keyword_options` gave.
        what: has the options, e.g. "ranker 'dnn'".
        option: name of the section that holds them, e.g. "ranker.options".

    Raises:
        ConfigError: see above.
    """
    for name, value in given.items():
        if name not in known:
            hint = did_you_mean(name, known) or "."
            raise ConfigError(
                f"{what} has no option '{name}'{hint} Known: "
                f"{', '.join(sorted(known)) or 'none'}; option: {option}.{name}"
            )
        if not _fits(value, known[name]):
            wanted = int if known[name] is None else type(known[name])
            raise ConfigError(
                f"option '{name}' of {what} is {value!r}, but must be of type {wanted.__name__}; "
                f"option: {option}.{name}"
            )
    for name, default in known.items():
        if default is NO_DEFAULT and name not in given:
            raise ConfigError(
                f"{what} needs its option '{name}', which has no default; option: {option}.{name}"
            )


def _fits(value: object, default: object) -> bool:
    """Whether a value is of its default's type; None means a whole number."""
    if default is NO_DEFAULT:
        return True
    wanted = int if default is None else type(default)
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, wanted) or (wanted is float and isinstance(value, int))
