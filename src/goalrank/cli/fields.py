"""Options of a verb made from the fields of a settings class, so that neither repeats the other."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

Verb = Callable[..., None]


def options_of(
    model: type[BaseModel], *, names: Mapping[str, str] | None = None
) -> Callable[[Verb], Verb]:
    """Give a verb one option for each field of a settings class, besides its own parameters.

    The verb has a parameter `given`: the options that were given, by field. What was not given is
    not in it, so that the environment, a file or the field's default decides.

    Args:
        model: its fields' types, limits, defaults and descriptions become the options'.
        names: field → name of its option, where it is not the field's own; "estimators" →
            "estimator", for an option that is repeated.
    """
    fields = {name: _parameter(name, field, (names or {}).get(name, name))
              for name, field in model.model_fields.items()}  # fmt: skip

    def decorate(function: Verb) -> Verb:
        @functools.wraps(function)
        def run(**values: Any) -> None:
            given = {name: values.pop(name) for name in fields}
            function(given={n: v for n, v in given.items() if v not in (None, [])}, **values)

        own = inspect.signature(function, eval_str=True).parameters.values()
        mine = [each.replace(kind=each.KEYWORD_ONLY) for each in own if each.name != "given"]
        required = [each for each in mine if each.default is each.empty]
        rest = [each for each in mine if each.default is not each.empty]
        parameters = [*required, *fields.values(), *rest]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _parameter(name: str, field: FieldInfo, option: str) -> inspect.Parameter:
    plain = _plain(field.annotation)
    limits = {key: getattr(m, key) for m in field.metadata for key in ("ge", "le")
              if hasattr(m, key) and plain is int}  # fmt: skip
    told = typer.Option(
        f"--{option.replace('_', '-')}",
        help=field.description,
        min=limits.get("ge"),
        max=limits.get("le"),
        show_default=_shown(field),
    )
    shown = plain if plain is bool else plain | None  # a flag takes no value
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[shown, told]
    )


def _plain(annotation: Any) -> Any:
    """The type of an option's value: without None; a sequence or mapping is a repeated text."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (each for each in get_args(annotation) if each is not type(None))
    return list[str] if get_origin(annotation) in (tuple, list, dict) else annotation


def _shown(field: FieldInfo) -> str | bool:
    """The default as `--help` shows it."""
    if field.is_required() or field.default in (None, False, ()):
        return False
    return str(field.default)
