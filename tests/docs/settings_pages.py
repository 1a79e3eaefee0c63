"""Reference pages of settings whose meaning stands in their class's docstring."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from goalrank.logs import ImportOptions
from goalrank.training import FitConfig
from tests.docs.markdown import table

_ENTRY = re.compile(r"    (\w[\w, ]*): (.+)")
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
HEAD = ("setting", "type", "default", "meaning")


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Field → its text under "Attributes:" of the class, or of a class it inherits from."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if cls is not BaseModel and issubclass(cls, BaseModel) and cls.__doc__:
            found |= _attributes(inspect.cleandoc(cls.__doc__))
    return found


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    names: list[str] = []
    for line in text.partition("Attributes:\n")[2].splitlines():
        if line and not line.startswith("    "):
            break
        if entry := _ENTRY.fullmatch(line):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        else:
            found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
    return {name: text.replace("``", "`") for name, text in found.items()}


def type_text(annotation: Any) -> str:
    """A type in words: choices by name, alternatives joined by "or"."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(inner[0])
    if origin is Literal:
        return " or ".join(f'"{choice}"' for choice in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(each) for each in inner)
    if annotation is type(None):
        return "none"
    if origin is not None:
        names = ", ".join("…" if each is Ellipsis else type_text(each) for each in inner)
        return f"{origin.__name__}[{names}]"
    return str(annotation.__name__)


def _bounds(field: FieldInfo) -> str:
    texts = [
        f"{sign}\N{NO-BREAK SPACE}{getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in _BOUNDS.items()
        if getattr(rule, name, None) is not None
    ]
    return ", " + ", ".join(texts) if texts else ""


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else f"`{value!r}`".replace("'", '"')


def rows(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """A row per field that is not a section of its own."""
    known = meanings(model)
    for name, field in model.model_fields.items():
        if not isinstance(field.default, BaseModel):
            kind = type_text(field.annotation) + _bounds(field)
            yield f"`{name}`", kind, _default(field), known.get(name, "")


def sections(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Each section of nested settings: its name in a recipe, its class."""
    yield path, model
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from sections(type(field.default), f"{path}.{name}".lstrip("."))


def _summary(model: type[BaseModel]) -> str:
    text = inspect.cleandoc(model.__doc__ or "").partition("Attributes:")[0].strip()
    return re.sub(r"\s*\n(?!\n)", " ", text.replace("\n\n", "\0")).replace("\0", "\n\n")


def training_settings() -> str:
    parts = (
        f"## {f'[{path}]' if path else 'Of the whole job'}\n\n{_summary(model)}\n\n"
        + table(HEAD, rows(model))
        for path, model in sections(FitConfig)
    )
    return (
        "# Settings of a training job\n\n"
        "Declared in `goalrank.training.FitConfig`. A recipe is a TOML file with the sections "
        "below (`goalrank train --config recipe.toml`); `--set SECTION.NAME=VALUE` overrides one "
        "setting. The defaults here are those of the classes. Without `--config`, the shipped "
        "recipe `default` is used, in which sizes and steps follow from the data; training prints "
        "what it chose.\n\n" + "\n".join(parts)
    )


def import_settings() -> str:
    return (
        "# Settings of an import\n\n"
        "Declared in `goalrank.logs.ImportOptions`. Set them with `--set NAME=VALUE` of "
        "`goalrank data import`, or as keywords in Python: "
        '`import_log("kuairand", settings={"max_list": 8})`. Some have options of their own, see '
        "the [command line](cli.md#goalrank-data-import).\n\n" + table(HEAD, rows(ImportOptions))
    )
