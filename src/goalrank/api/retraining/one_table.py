"""One table of requests that were imported and served, by models whose features may differ."""

from __future__ import annotations

import polars as pl

from goalrank.errors import DataError
from goalrank.requests import Requests, TableInfo
from goalrank.wording import counted

_FEATURES = "candidate_features"


def one_table(tables: dict[str, Requests]) -> tuple[list[pl.DataFrame], list[str]]:
    """Make frames that can be one table, with the columns and features of the first.

    A store keeps the lists of all models that were served from it, with the features and feedback
    kinds of all of them. What the first table does not have is left out; what others lack is null.
    Lists that have features, and none of the first table's, are those of a model for other data and
    are left out.

    Args:
        tables: by name; the first says what is kept.

    Returns:
        A frame per table, and sentences on what was left out or is missing.

    Raises:
        DataError: their descriptions or ids differ, or what was served lacks the retriever's score.
    """
    first_name, first = next(iter(tables.items()))
    for name, table in tables.items():
        refuse_unlike(first.info, table.info, first_name, name)
    scored = {name: "candidate_score" in table.frame.columns for name, table in tables.items()}
    drop = ["slot_propensity"]  # the server knows whole lists' propensities only
    said = []
    if not all(scored.values()) and any(scored.values()):
        if scored[first_name]:
            lacking = [name for name, has in scored.items() if not has]
            raise DataError(
                f"{lacking} lack the retriever's score, which '{first_name}' has; remedy: send "
                f"candidate_score with requests, or train on what was served alone (base = false)"
            )
        drop.append("candidate_score")
        said.append(
            f"'{first_name}' has no candidate_score, so that of served requests is left out"
        )
    frames = []
    for name, table in tables.items():
        frame, told = _as_first(table, first, first_name, name)
        said += told
        frames.append(frame.drop(drop, strict=False))
    return [_cast(frame, frames[0], name) for frame, name in zip(frames, tables)], said


def refuse_unlike(ours: TableInfo, theirs: TableInfo, first: str, name: str) -> None:
    """Refuse tables that cannot be one; the name of the data set may differ.

    Args:
        ours: description of the first table.
        theirs: of another.
        first: name of the first.
        name: of the other.

    Raises:
        DataError: another protocol, another target, or no feature in common.
    """
    odd = [
        f"{field} is {getattr(theirs, field)!r}, in '{first}' {getattr(ours, field)!r}"
        for field in ("protocol", "target")
        if getattr(ours, field) != getattr(theirs, field)
    ]
    here, there = ours.candidate_features, theirs.candidate_features
    if here != there and not set(here) & set(there):
        odd.append(f"{_FEATURES}: {_difference(here, there, first)}")
    if odd:
        raise DataError(
            f"'{name}' cannot be one table with '{first}': {'; '.join(odd)}; remedy: the data that "
            f"the served model was trained on (--data), a store that holds no other model's lists "
            f"(--store), or what was served alone (base = false)"
        )


def _difference(here: tuple[str, ...], there: tuple[str, ...], first: str) -> str:
    """What one list of names has and the other has not."""
    more, less = ([x for x in a if x not in b] for a, b in ((there, here), (here, there)))
    said = [f"{_some(more)} not in '{first}'" if more else ""]
    said += [f"{_some(less)} of '{first}' lacking" if less else ""]
    return "; ".join(filter(None, said))


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} others"


def _as_first(
    table: Requests, first: Requests, first_name: str, name: str
) -> tuple[pl.DataFrame, list[str]]:
    """A frame with the features and feedback kinds of the first, and what that took."""
    frame, said = table.frame, []
    kinds, known = first.info.feedback_kinds, table.info.feedback_kinds
    if kinds != known:
        if odd := _difference(kinds, known, first_name):
            said.append(f"'{name}', feedback kinds: {odd}; what is lacking counts as unknown")
        none = pl.lit(None, pl.List(pl.Float32))
        feedback = pl.col("feedback").struct
        each = [(feedback.field(k) if k in known else none).alias(k) for k in kinds]
        frame = frame.with_columns(pl.struct(each).alias("feedback"))
    here, there = first.info.candidate_features, table.info.candidate_features
    if here != there:
        if odd := _difference(here, there, first_name):
            said.append(f"'{name}', {_FEATURES}: {odd}; what is lacking counts as unknown")
        place = {feature: i for i, feature in enumerate(there)}
        values = [
            pl.element().arr.get(place[n]) if n in place else pl.lit(None, pl.Float32) for n in here
        ]
        vector = pl.concat_list(values).list.to_array(len(here))
        before = frame.select(_has_values()).to_series()
        frame = frame.with_columns(pl.col(_FEATURES).list.eval(vector))
        foreign = before & ~frame.select(_has_values()).to_series()
        if lost := int(foreign.sum()):
            said.append(
                f"'{name}': {counted(lost, 'list has', 'lists have')} none of the features of "
                f"'{first_name}', as of a model for other data, and {'is' if lost == 1 else 'are'} left out"
            )
            frame = frame.filter(~foreign)
    return frame, said


def _has_values() -> pl.Expr:
    """Whether any candidate of a request has any feature; False where there are no vectors."""
    some = pl.element().arr.to_list().list.drop_nulls().list.len() > 0
    return pl.col(_FEATURES).list.eval(some).list.any().fill_null(False)


def _cast(frame: pl.DataFrame, first: pl.DataFrame, name: str) -> pl.DataFrame:
    """A frame with the column types of the first."""
    types = [pl.col(n).cast(t) for n, t in first.schema.items() if n in frame.columns]
    try:
        return frame.with_columns(types)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"'{name}' has columns of other types than the rest ({str(error).splitlines()[0]}); "
            f"remedy: ids of one type everywhere"
        ) from error
