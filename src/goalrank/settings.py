"""Settings from TOML files: read, checked, and every fault said with its name and the nearest known one."""

from __future__ import annotations

import difflib
import tomllib
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from goalrank.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


class RenamedWarning(FutureWarning):
    """A setting was given by its old name, which the next release will not know."""


def warn_renamed(old: str, new: str, option: str) -> None:
    """Warn that `option` was given the old name of something and say the new one.

    Args:
        old, new: names as they stand in the file or call.
        option: where they stand, e.g. "rankers".
    """
    warnings.warn(
        f"'{old}' is now called '{new}'; the next release will refuse the old name; remedy: write "
        f"'{new}' (option: {option})",
        RenamedWarning,
        stacklevel=2,
    )


def read_toml(path: str | Path, what: str, remedy: str) -> dict[str, Any]:
    """The contents of a TOML file, laid over those of the file that its key `extends` names, if it has one.

    `extends` is a path from the file's own folder. Tables are laid over tables, setting by setting; any
    other value, a list too, takes the place of the one it meets. Paths in the settings are read from the
    folder of the file that was asked for.

    Args:
        what: the file is, e.g. "suite".
        remedy: what to do where there is no such file.

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
    remedy = f"mend the path in '{path}' (setting: extends)"
    return merge(_extended(path.parent / base, what, remedy, (*above, path.resolve())), values)


def _parsed(path: Path, what: str, remedy: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{what} '{path}' does not exist or cannot be read ({error.strerror}); remedy: {remedy}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} '{path}' is not TOML: {error}; remedy: mend the file") from error


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries, those of `over` winning; neither is changed."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        out[key] = merge(old, value) if both and old is not None else value
    return out


def checked(
    model: type[M], data: Mapping[str, Any], what: str, remedy: str, *, prefix: str = ""
) -> M:
    """Settings as a model.

    Args:
        what: has the settings, e.g. "the suite".
        prefix: of their names, e.g. "recipe.".

    Raises:
        ConfigError: every fault at once: name, value, rule.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in faults(error, model, prefix))
        raise ConfigError(
            f"{len(error.errors())} setting(s) of {what} cannot be used:\n{lines}\nremedy: {remedy}"
        ) from error


def faults(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """A line a fault: the setting's name, the value met, the rule; of an unknown name the nearest."""
    lines = []
    for fault in error.errors():
        name = prefix + (".".join(str(part) for part in fault["loc"]) or "all")
        said = fault["msg"]
        if fault["type"] == "extra_forbidden":
            known = _fields(model, fault["loc"][:-1])
            said = f"no such setting{nearest(str(fault['loc'][-1]), known)}"
        elif fault["type"] == "literal_error":
            said += did_you_mean(str(fault["input"]), fault["ctx"]["expected"].split("'")[1::2])
        lines.append(f"{name} = {fault['input']!r}: {said}")
    return lines


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?", or what is known where nothing is near."""
    known = list(known)
    return did_you_mean(name, known) or (f"; known: {', '.join(known)}" if known else "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?", or nothing where nothing is near."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _fields(model: type[BaseModel], place: Iterable[int | str]) -> list[str]:
    """Names of the settings at a place inside nested models."""
    for part in place:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        if field is None:
            return []
        inner = [field.annotation, *get_args(field.annotation)]
        models = [x for x in inner if isinstance(x, type) and issubclass(x, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)
