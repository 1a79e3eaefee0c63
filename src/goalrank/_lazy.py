"""Package doors whose names are loaded on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from goalrank.errors import MissingExtraError


def lazy_door(
    package: str, homes: Mapping[str, str], *, extra: tuple[str, str] | None = None
) -> Callable[[str], Any]:
    """A module's `__getattr__` that imports each name from its home on first use.

    Args:
        package: the package's `__name__`.
        homes: public name → full name of the module that defines it.
        extra: what needs an extra and the extra's name, said where a library of it is missing.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(import_module(homes[name]), name)
        except ModuleNotFoundError as error:
            if extra is None or (error.name or "").startswith("goalrank"):
                raise
            raise MissingExtraError(*extra) from error

    return load
