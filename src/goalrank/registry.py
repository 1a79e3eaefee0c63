"""Names for what others can add: rankers, rewards, log readers, metrics, objectives and more.

A `Registry` knows things of one kind by name. A name is one of three:

- built in: "dnn"; kept as "module:attribute" and imported on first use, so that importing stays light;
- of a plug-in: the name of an entry point of an installed package, in a group of `GROUPS`;
- a class path: "package.module:Class", of anything that can be imported.

A plug-in that cannot be imported, and a name that two packages claim, are errors where that name is
used and nowhere else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, invalidate_caches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from goalrank.errors import BundleError, ConfigError
from goalrank.settings import did_you_mean

__all__ = [
    "GROUPS",
    "Plugin",
    "Registry",
    "also_search",
    "class_path",
    "installed_plugins",
    "is_foreign",
    "package_of",
]

T = TypeVar("T")

GROUPS = tuple(
    f"goalrank.{kind}"
    for kind in ("channels", "features", "metrics", "objectives", "rankers", "rewards", "sources")
)
_HOME = "goalrank"
_FOLDERS: list[str] = []  # of `also_search`
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Plugin:
    """An entry point of an installed package.

    Attributes:
        group: one of `GROUPS`.
        name: what it is asked for by.
        path: "module:attribute".
        distribution: name of the package as pip knows it, with its version.
    """

    group: str
    name: str
    path: str
    distribution: str


@cache
def _found(search: tuple[str, ...]) -> tuple[Plugin, ...]:
    """Plug-ins of all groups; `search` is sys.path, so that a changed path is searched again."""
    found: tuple[EntryPoint, ...] = tuple(
        point for group in GROUPS for point in entry_points(group=group)
    )
    return tuple(Plugin(p.group, p.name, p.value, _distribution(p)) for p in found)


def _distribution(point: EntryPoint) -> str:
    made_by = point.dist
    return "unknown package" if made_by is None else f"{made_by.name} {made_by.version}"


def installed_plugins(group: str | None = None) -> list[Plugin]:
    """Plug-ins of a group, or of all; none is imported."""
    found = _found(tuple(sys.path))
    return sorted(
        (p for p in found if group in (None, p.group)), key=lambda p: (p.group, p.name, p.path)
    )


class Registry(Generic[T]):
    """Things of one kind by name: built in, of plug-ins, or by class path.

    Args:
        kind: one of them, e.g. "ranker".
        group: of the entry points; one of `GROUPS`, or None where plug-ins cannot add any.
        builtins: name → "module:attribute" within goalrank.
        option: the setting that takes such a name, said in errors.
        base: the class that things of this kind are subclasses of; None where they are functions.
    """

    def __init__(
        self,
        kind: str,
        group: str | None,
        builtins: Mapping[str, str],
        *,
        option: str,
        base: type | None = None,
    ) -> None:
        self.kind = kind
        self.group = group
        self.option = option
        self._builtins = dict(builtins)
        self._base = base

    @property
    def builtin_names(self) -> list[str]:
        """Names of goalrank's own, sorted."""
        return sorted(self._builtins)

    def names(self) -> list[str]:
        """All names, of plug-ins too, sorted; nothing is imported."""
        return sorted({*self._builtins, *(plugin.name for plugin in self.plugins())})

    def plugins(self) -> list[Plugin]:
        """Plug-ins that add a thing of this kind; none is imported."""
        return [] if self.group is None else installed_plugins(self.group)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.fault(name) is None

    def checked(self, name: str, *, also: Iterable[str] = ()) -> str:
        """A name as it is, for validators of settings; nothing is imported.

        Args:
            name: a name or class path.
            also: words that the setting takes besides names.

        Raises:
            ValueError: see `fault`.
        """
        if (fault := self.fault(name, also=also)) is not None:
            raise ValueError(fault)
        return name

    def __getitem__(self, name: str) -> T:
        return self.get(name)

    def get(self, name: str, *, option: str | None = None) -> T:
        """What a name or class path refers to; imported now.

        Args:
            name: a name or class path.
            option: the setting that took the name, where it is not the registry's usual one.

        Raises:
            ConfigError: the name is unknown or claimed twice, the plug-in cannot be imported, or what
                it names is of another kind.
        """
        self.check(name, option=option)
        path, plugin = self._origin(name)
        return self._import(path, plugin, option or self.option)

    def check(self, name: str, *, option: str | None = None) -> None:
        """Refuse a name that cannot refer to anything; nothing is imported.

        Raises:
            ConfigError: see `fault`.
        """
        if (fault := self.fault(name)) is not None:
            raise ConfigError(f"{fault}; option: {option or self.option}")

    def fault(self, name: str, *, also: Iterable[str] = ()) -> str | None:
        """What is wrong with a name: unknown, with the nearest, or claimed by two; None if nothing.

        Args:
            name: a name or class path.
            also: words that are taken besides names.
        """
        if name in also:
            return None
        if ":" in name:
            if _PATH.fullmatch(name):
                return None
            return f"{self.kind} '{name}' is no class path; write package.module:name"
        claims = self._claims(name)
        if len(claims) > 1:
            first = claims[0].partition(" (")[0]
            return (
                f"{len(claims)} {self.kind}s are called '{name}': {' and '.join(claims)}; remedy: "
                f"name one in full, e.g. '{first}', or uninstall the other"
            )
        if not claims:
            known = sorted({*self.names(), *also})
            hint = did_you_mean(name, known) or "."
            return (
                f"{self.kind} '{name}' is unknown{hint} Known: {', '.join(known)}, or "
                f"package.module:name"
            )
        return None

    def path(self, name: str) -> str:
        """The "module:attribute" of a known name."""
        return self._origin(name)[0]

    def builtin(self, name: str) -> T:
        """One of goalrank's own, even if plug-ins claim its name.

        Args:
            name: its name; or its class's name, alone or in a path as it was in any version.

        Raises:
            ConfigError: goalrank has none of this name.
        """
        by_class = {path.partition(":")[2]: path for path in self._builtins.values()}
        path = self._builtins.get(name) or by_class.get(name.partition(":")[2] or name)
        if path is None:
            raise ConfigError(
                f"goalrank has no {self.kind} '{name}'{did_you_mean(name, self._builtins)}; "
                f"option: {self.option}"
            )
        return self._import(path, None, self.option)

    def recorded(self, reference: str) -> T:
        """What a file refers to: one of goalrank's own, or a class path of another package.

        Names of entry points are not looked up: what they refer to may change.

        Raises:
            ConfigError: goalrank has none of this name, or the class cannot be imported.
        """
        known = {path.partition(":")[2] for path in self._builtins.values()}
        if ":" not in reference or (
            not is_foreign(reference) and reference.partition(":")[2] in known
        ):
            return self.builtin(reference)
        return self._import(reference, None, self.option)

    def _claims(self, name: str) -> list[str]:
        """Who gives something this name, each as "path (package)"."""
        claims = [f"{p.path} ({p.distribution})" for p in self._plugins(name)]
        if name in self._builtins:
            claims.insert(0, f"{self._builtins[name]} ({_HOME} itself)")
        return claims

    def _plugins(self, name: str) -> list[Plugin]:
        return [plugin for plugin in self.plugins() if plugin.name == name]

    def _origin(self, name: str) -> tuple[str, Plugin | None]:
        if ":" in name:
            return name, None
        if name in self._builtins:
            return self._builtins[name], None
        plugin = self._plugins(name)[0]
        return plugin.path, plugin

    def _import(self, path: str, plugin: Plugin | None, option: str) -> T:
        if path in self._builtins.values():
            value = _attribute(path)
        else:
            try:
                value = _attribute(path)
            except (Exception, SystemExit) as error:  # others' code may raise anything
                raise ConfigError(self._unusable(path, plugin, error, option)) from error
        base = self._base
        if not (callable(value) if base is None else _is_subclass(value, base)):
            wanted = "a function" if base is None else f"a subclass of {base.__name__}"
            raise ConfigError(
                f"'{path}' is no {self.kind}: it is {_described(value)}, but must be {wanted}; "
                f"option: {option}"
            )
        return cast(T, value)

    def _unusable(self, path: str, plugin: Plugin | None, error: BaseException, option: str) -> str:
        what = f"{type(error).__name__}: {error}"
        if plugin is not None:
            return (
                f"{self.kind} '{plugin.name}' of the plug-in {plugin.distribution} cannot be imported "
                f"from '{path}' ({what}); remedy: mend or uninstall the plug-in; option: {option}"
            )
        package = path.partition(":")[0].partition(".")[0]
        return (
            f"{self.kind} '{path}' cannot be imported ({what}); remedy: check the path, and that the "
            f"package '{package}' is installed where goalrank runs, or lies in the folder in which the "
            f"command runs; option: {option}"
        )

    def problem(self, plugin: Plugin) -> str | None:
        """Why a plug-in of this group cannot be used, tried out; None if it can."""
        if len(self._claims(plugin.name)) > 1:
            return self.fault(plugin.name)
        try:
            self._import(plugin.path, plugin, self.option)
        except ConfigError as error:
            return str(error)
        return None


def is_foreign(reference: str) -> bool:
    """Whether a class path leads out of goalrank."""
    return ":" in reference and package_of(reference) != _HOME


def package_of(path: str) -> str:
    """The top-level package of a class path."""
    return path.partition(":")[0].partition(".")[0]


def class_path(thing: object) -> str:
    """The "module:Class" of an object's class.

    Raises:
        BundleError: the class is defined where no other process could find it.
    """
    cls = type(thing)
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        raise BundleError(
            f"class {cls.__qualname__} of '{cls.__module__}' cannot be found again by its name, so a "
            f"bundle cannot hold it; remedy: put the class at the top level of a module that can be "
            f"imported"
        )
    return f"{cls.__module__}:{cls.__qualname__}"


def also_search(folder: Path) -> None:
    """Look for modules of class paths in a folder too, where they are not found elsewhere.

    Args:
        folder: such as the one in which a command runs.
    """
    _FOLDERS.append(str(folder))


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != package_of(name):
            raise
        missing = [folder for folder in _FOLDERS if folder not in sys.path]
        if not missing:
            raise
        sys.path.extend(missing)  # last, so that nothing installed is hidden
        invalidate_caches()
        try:
            return import_module(name)
        except ModuleNotFoundError:
            sys.path[:] = [folder for folder in sys.path if folder not in missing]
            raise


def _attribute(path: str) -> Any:
    module, _, attributes = path.partition(":")
    value: Any = _module(module)
    for attribute in attributes.split("."):
        value = getattr(value, attribute)
    return value


def _is_subclass(value: object, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)


def _described(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
