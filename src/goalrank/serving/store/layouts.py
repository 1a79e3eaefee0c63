"""What a store knows of the models it served: feedback kinds with their ranges, candidate features.

Bundles change while a store stays. Its description holds the kinds and features of all of them, and
each exposure names its layout: the kinds and features of the model that served it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from goalrank.requests import TableInfo, hull
from goalrank.serving.store.database import FEEDBACK, META, take_turns
from goalrank.serving.store.upserts import upsert

_LOG = logging.getLogger("goalrank.serving")
_INFO, _LAYOUT = "info", "layout:"
EARLIER = ""
"""Name of the layout of exposures that name none: those that earlier versions wrote."""


@dataclass(frozen=True)
class Layout:
    """Feedback kinds and candidate features of the model that served a list.

    Attributes:
        feedback_kinds: their names.
        candidate_features: F names, in the order of the vectors.
    """

    feedback_kinds: tuple[str, ...] = ()
    candidate_features: tuple[str, ...] = ()

    @classmethod
    def of(cls, info: TableInfo) -> Layout:
        """Take the layout of a model.

        Args:
            info: of the table that it was trained on.
        """
        return cls(info.feedback_kinds, info.candidate_features)

    @property
    def name(self) -> str:
        """A short name; equal layouts have equal names."""
        return _name(self.feedback_kinds, self.candidate_features)


@functools.lru_cache(maxsize=256)
def _name(*names: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]


def merged_info(old: TableInfo, new: TableInfo) -> TableInfo:
    """Describe a store that served two models: all kinds and features of both, and wide enough ranges.

    Args:
        old: of the store so far.
        new: of the model that is served from now on; the rest of the description is its.
    """
    ranges = dict(old.feedback_ranges)
    for kind, bounds in new.feedback_ranges.items():
        ranges[kind] = hull(ranges[kind], bounds) if kind in ranges else bounds
        if kind in old.feedback_ranges and ranges[kind] != old.feedback_ranges[kind]:
            _LOG.warning(
                "feedback kind '%s' now takes values in %s, before %s", kind, ranges[kind],
                old.feedback_ranges[kind],
            )  # fmt: skip
    return new.replace(
        feedback_kinds=_union(old.feedback_kinds, new.feedback_kinds),
        candidate_features=_union(old.candidate_features, new.candidate_features),
        feedback_ranges=ranges,
    )


def _union(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*old, *new)))


def describe(connection: sa.Connection, info: TableInfo) -> TableInfo:
    """Add a model to the description of a store.

    Args:
        connection: inside a transaction that writes.
        info: of the table that the model was trained on.

    Returns:
        The description of all models so far.
    """
    take_turns(connection)
    old, known = stored_info(connection), stored_layouts(connection)
    if old is not None and not known:  # of an earlier version, which kept the latest model's alone
        kinds = connection.scalars(sa.select(FEEDBACK.c.kind).distinct()).all()
        put_meta(connection, _LAYOUT + EARLIER, _layout_json(Layout.of(old)))
        old = old.replace(feedback_kinds=_union(old.feedback_kinds, tuple(sorted(kinds))))
    merged = info if old is None else merged_info(old, info)
    layout = Layout.of(info)
    put_meta(connection, _LAYOUT + layout.name, _layout_json(layout))
    put_meta(connection, _INFO, merged.model_dump_json())
    return merged


def _layout_json(layout: Layout) -> str:
    return json.dumps(
        {"feedback_kinds": layout.feedback_kinds, "candidate_features": layout.candidate_features}
    )


def put_meta(connection: sa.Connection, name: str, value: str) -> None:
    """Set a named text of the store.

    Args:
        connection: inside a transaction that writes.
        name: of the text.
        value: the text.
    """
    insert = upsert(META, connection.dialect.name)
    update = insert.on_conflict_do_update(
        index_elements=["name"], set_={"value": insert.excluded.value}
    )
    connection.execute(update, {"name": name, "value": value})


def stored_info(connection: sa.Connection) -> TableInfo | None:
    """Read the description of a store; None before the first model.

    Args:
        connection: the connection.
    """
    value = connection.scalar(sa.select(META.c.value).where(META.c.name == _INFO))
    return None if value is None else TableInfo.model_validate_json(value)


def stored_layouts(connection: sa.Connection) -> dict[str, Layout]:
    """Read the layouts of a store by name.

    Args:
        connection: the connection.
    """
    query = sa.select(META.c.name, META.c.value).where(META.c.name.startswith(_LAYOUT))
    found: dict[str, Layout] = {}
    for name, value in connection.execute(query):
        names: dict[str, Any] = json.loads(value)
        found[name.removeprefix(_LAYOUT)] = Layout(**{k: tuple(v) for k, v in names.items()})
    return found
