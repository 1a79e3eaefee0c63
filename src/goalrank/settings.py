"""Settings from TOML files, read and checked; a fault is reported with the nearest known name.

A setting that gets a new name keeps its old one for one release: its model declares

    renamed: ClassVar[Mapping[str, str]] = {"old": "new"}

and `checked` takes the old name with a `RenamedSettingWarning`. Where settings are merged from
several places (a file and the command line, say), `with_new_names` is called on each place first.
Files that an earlier version wrote are read within `old_names_accepted`.
"""

from __future__ import annotations

import difflib
import tomllib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from goalrank.errors import ConfigError, RenamedSettingWarning

M = TypeVar("M", bound=BaseModel)


def warn_renamed(old: str, new: str, option: str) -> None:
    """Warn that `option` was given the old name of something and say the new one.

    Args:
        old: earlier name.
        new: name of today.
        option: setting that holds the name, e.g. "rankers".
    """
    warnings.warn(
        f"'{old}' is now called '{new}'; the next release will refuse the old name; remedy: write "
        f"'{new}' (option: {option})",
        RenamedSettingWarning,
        stacklevel=2,
    )


def read_toml(path: str | Path, what: str, remedy: str) -> dict[str, Any]:
    """Read a TOML file, laid over the file that its key `extends` names, if it has one.

    `extends` is a path from the file's own folder. Tables are laid over tables, setting by setting; any
    other value, a list too, takes the place of the one it meets. Paths in the settings are read from the
    folder of the file that was asked for.

    Args:
        path: the file.
        what: kind of the file, e.g. "suite".
        remedy: said where there is no such file.

    Raises:
        ConfigError: a file cannot be read, is not TOML, or extends itself.
    """
    return _extended(Path(path), what, remedy, ())


def _extended(path: Path, what: str, remedy: str, above: tuple[Path, ...]) -> dict[str, Any]:
    """`read_toml` of a file that those `above` extend."""
    if path.resolve() in above:
        raise ConfigError(
            f"{what} '{path}' extends itself; remedy: let the first of a chain of files extend none"
            " (setting: extends)"
        )
    values = _parsed(path, what, remedy)
    if "extends" not in values:
        return values
    base = values.pop("extends")
    if not isinstance(base, str):
        raise ConfigError(
            f"{what} '{path}': extends = {base!r} is not a file's path; remedy: name one TOML file"
        )
    remedy = f"correct the path in '{path}' (setting: extends)"
    return merge(_extended(path.parent / base, what, remedy, (*above, path.resolve())), values)


def _parsed(path: Path, what: str, remedy: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{what} '{path}' does not exist or cannot be read ({error.strerror}); remedy: {remedy}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{what} '{path}' is not TOML: {error}; remedy: correct the file"
        ) from error


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries, those of `over` winning; neither is changed."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        out[key] = merge(old, value) if both and old is not None else value
    return out


def parse_override(override: str, example: str) -> tuple[str, Any]:
    """Name and value of NAME=VALUE; the value is TOML, or the text itself where it is none.

    Args:
        override: the text.
        example: of such a text, for the message.

    Raises:
        ConfigError: no name or no equals sign.
    """
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"override '{override}' must read NAME=VALUE, e.g. --set {example}")
    try:
        return name.strip(), tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return name.strip(), text.strip()


def checked(
    model: type[M], data: Mapping[str, Any], what: str, remedy: str, *, prefix: str = ""
) -> M:
    """Check settings and make a model of them; old names are replaced with a warning.

    Args:
        model: class of the settings.
        data: name → value, as read.
        what: where the settings come from, e.g. "the suite".
        remedy: of every fault.
        prefix: of the settings' names, e.g. "recipe.".

    Raises:
        ConfigError: every fault at once: name, value, rule; or a setting given by both of its names.
    """
    data = with_new_names(model, data, what, prefix=prefix)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in faults(error, model, prefix))
        raise ConfigError(
            f"{len(error.errors())} setting(s) of {what} cannot be used:\n{lines}\nremedy: {remedy}"
        ) from error


def with_new_names(
    model: type[BaseModel], data: Mapping[str, Any], what: str, *, prefix: str = ""
) -> dict[str, Any]:
    """Replace the old names of renamed settings, also in sections; `data` is not changed.

    Args:
        model: says by `renamed` which settings have new names, and has sections as fields.
        data: name → value, as read.
        what: where the settings come from, e.g. "the suite".
        prefix: of the settings' names.

    Raises:
        ConfigError: a setting is given by its old and by its new name.
    """
    renamed: Mapping[str, str] = getattr(model, "renamed", {})
    out: dict[str, Any] = {}
    for key, value in data.items():
        name = renamed.get(key, key)
        if name != key:
            old, new = f"{prefix}{key}", f"{prefix}{name}"
            if name in data:
                raise ConfigError(
                    f"{what} sets {old} = {value!r} and {new} = {data[name]!r}, but {old} is the old "
                    f"name of {new}; remedy: keep {new} only"
                )
            warnings.warn(
                f"{what} sets {old}, which is now called {new}; remedy: rename it, since the next "
                f"release will refuse the old name",
                RenamedSettingWarning,
                stacklevel=2,
            )
        section = _section(model, name)
        if section is not None and isinstance(value, Mapping):
            out[name] = with_new_names(section, value, what, prefix=f"{prefix}{name}.")
        else:
            out[name] = value
    return out


@contextmanager
def old_names_accepted() -> Iterator[None]:
    """Take old names of settings without a warning: for files that an earlier version wrote."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RenamedSettingWarning)
        yield


def faults(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """One line per fault: the setting's name, its value, the rule; the nearest of an unknown name."""
    lines = []
    for fault in error.errors():
        name = prefix + ".".join(str(part) for part in fault["loc"])
        said = fault["msg"].removeprefix("Value error, ")
        if not fault["loc"]:  # of several settings together, which the rule names
            lines.append(f"{prefix.rstrip('.')}: {said}".removeprefix(": "))
            continue
        if fault["type"] == "missing":
            lines.append(f"{name}: must be given")
            continue
        if fault["type"] == "extra_forbidden":
            known = _fields(model, fault["loc"][:-1])
            said = f"no such setting{nearest(str(fault['loc'][-1]), known)}"
        elif fault["type"] == "literal_error":
            said += did_you_mean(str(fault["input"]), fault["ctx"]["expected"].split("'")[1::2])
        lines.append(f"{name} = {fault['input']!r}: {said}")
    return lines


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message: "; did you mean 'x'?", or what is known where nothing is near."""
    known = list(known)
    return did_you_mean(name, known) or (f"; known: {', '.join(known)}" if known else "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message: "; did you mean 'x'?", or nothing where nothing is near."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _fields(model: type[BaseModel], path: Iterable[int | str]) -> list[str]:
    """Names of the settings at a path inside nested models."""
    for part in path:
        if isinstance(part, int):
            continue
        section = _section(model, part)
        if section is None:
            return []
        model = section
    return list(model.model_fields)


def _section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model of a section; None where that setting is a plain value or does not exist."""
    field = model.model_fields.get(name)
    if field is None:
        return None
    inner = [field.annotation, *get_args(field.annotation)]
    return next((x for x in inner if isinstance(x, type) and issubclass(x, BaseModel)), None)
