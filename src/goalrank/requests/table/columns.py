"""Makes tables conform to the schema: names are checked, lossless casts done, the rest refused."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import polars as pl

from goalrank.errors import DataError, SchemaError
from goalrank.requests.table.info import NAME_RULE, TableInfo, complete_info, storable_name
from goalrank.requests.table.schema import BY_NAME, EXPECTED, SCHEMA, TIME

COLUMNS = tuple(column.name for column in SCHEMA)
REQUIRED = tuple(column.name for column in SCHEMA if column.is_required)


@dataclass(frozen=True)
class Context:
    """What a column's check needs besides the column: id types and the table's description."""

    item: pl.DataType
    user: pl.DataType
    info: TableInfo | None


def conform(
    frame: pl.DataFrame,
    info: TableInfo | None = None,
    *,
    item_id: pl.DataType | None = None,
    user_id: pl.DataType | None = None,
) -> tuple[pl.DataFrame, TableInfo]:
    """The table with the agreed columns, types and order, and its completed description.

    Casts that lose nothing (narrower integers, float64 features, other time zones and units,
    categoricals, empty lists without a type) are done silently. Absent or null `history`,
    `history_feedback`, `history_time`, `shown` and `feedback` become empty lists.

    Args:
        frame: the user's table.
        info: its description; what it leaves open is taken from the table.
        item_id: id type of the table of items, None without it.
        user_id: id type of the table of users, None without it.

    Raises:
        SchemaError: a column is missing, unknown, or of a type that cannot be cast safely.
    """
    if not isinstance(frame, pl.DataFrame):
        raise SchemaError(
            f"the requests table is a {type(frame).__name__}, expected a polars DataFrame; "
            f"remedy: LazyFrame.collect(), or pl.from_pandas / pl.from_arrow"
        )
    _check_names(frame.columns)
    context = _context(frame, info, item_id, user_id)
    out = []
    for name in COLUMNS:
        column = frame[name] if name in frame else _empty(name, frame.height, context)
        if column is not None:
            column = _CASTS[name](column, context)
        if column is not None:
            out.append(column)
    table = pl.DataFrame(out)
    return table, _complete(table, info)


def _context(
    frame: pl.DataFrame,
    info: TableInfo | None,
    item_id: pl.DataType | None,
    user_id: pl.DataType | None,
) -> Context:
    items = {"items.item_id": item_id} | {
        name: _inner(frame[name], EXPECTED[name])
        for name in ("candidates", "history")
        if name in frame
    }
    users = {"users.user_id": user_id, "user_id": frame["user_id"].dtype}
    return Context(common_id_type(items), common_id_type(users), info)


def conform_side(side: pl.DataFrame | None, key: str) -> pl.DataFrame | None:
    """A side table with a checked key column (`item_id` or `user_id`) of type i64 or str.

    Raises:
        SchemaError: no key column, or not of an id type.
        DataError: a key is null or occurs twice.
    """
    if side is None:
        return None
    name = key.removesuffix("_id") + "s"
    if not isinstance(side, pl.DataFrame):
        raise SchemaError(f"{name} is a {type(side).__name__}, expected a polars DataFrame")
    if key not in side.columns:
        raise SchemaError(
            f"side table {name} has no column '{key}'{_nearest(key, side.columns)}; "
            f"found {side.columns}; remedy: rename the id column to '{key}'"
        )
    labels = [n for n, dtype in side.schema.items() if isinstance(dtype, pl.Categorical | pl.Enum)]
    side = side.with_columns(pl.col(labels).cast(pl.String)) if labels else side
    side = side.with_columns(
        _cast(side[key], common_id_type({f"{name}.{key}": side[key].dtype}), "id")
    )
    bad = side[key].is_null() | side[key].is_duplicated()
    if bad.any():
        values = side[key].filter(bad).unique(maintain_order=True).head(5).to_list()
        raise DataError(
            f"side table {name}: '{key}' must be unique and not null, but {int(bad.sum())} rows are "
            f"not (values {values}); remedy: {name}.drop_nulls('{key}').unique('{key}')"
        )
    return side


def common_id_type(found: dict[str, pl.DataType | None]) -> pl.DataType:
    """The one id type (Int64 or String) of columns that hold the same ids.

    Args:
        found: column → its type; None and Null (nothing in it) agree with everything.

    Raises:
        SchemaError: a type is no id type, or the columns differ.
    """
    known: dict[str, pl.DataType] = {}
    for name, dtype in found.items():
        if dtype is None or dtype == pl.Null:
            continue
        if dtype.is_integer():
            known[name] = pl.Int64()
        elif isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
            known[name] = pl.String()
        else:
            raise _wrong(
                name, dtype, "ids: integers or strings", "cast the ids to pl.Int64 or pl.String"
            )
    if len(set(known.values())) > 1:
        listed = ", ".join(f"'{name}' is {dtype}" for name, dtype in known.items())
        raise SchemaError(
            f"id types differ: {listed}; one kind of id has one type everywhere; "
            f"remedy: cast them all to pl.String, or all to pl.Int64"
        )
    return next(iter(known.values()), pl.Int64())


def _check_names(names: list[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in REQUIRED if name not in names]
    absent = [name for name in COLUMNS if name not in names]
    faults = [f"unknown column '{name}'{_nearest(name, absent)}" for name in unknown]
    faults += [f"missing column '{name}' ({EXPECTED[name]})" for name in missing]
    if not faults:
        return
    remedies = ["rename it, or drop it with frame.drop(...)"] if unknown else []
    remedies += [f"add {missing}"] if missing else []
    raise SchemaError(
        f"{'; '.join(faults)}; the columns of a requests table are {', '.join(COLUMNS)}; "
        f"remedy: {'; '.join(remedies)}"
    )


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _wrong(name: str, found: object, expected: str, remedy: str) -> SchemaError:
    return SchemaError(f"column '{name}' is {found}, expected {expected}; remedy: {remedy}")


def _inner(column: pl.Series, expected: str) -> pl.DataType:
    """Type of a list column's entries; Null where the column has none."""
    dtype = column.dtype
    if isinstance(dtype, pl.List):
        return dtype.inner  # type: ignore[return-value]
    if isinstance(dtype, pl.Array):
        return column.head(0).arr.to_list().dtype.inner  # type: ignore[attr-defined, no-any-return]
    if dtype == pl.Null:
        return pl.Null()
    raise _wrong(
        column.name,
        dtype,
        expected,
        f"make it one list per row: group_by(...).agg('{column.name}')",
    )


def _cast(column: pl.Series, dtype: pl.DataType, expected: str) -> pl.Series:
    if column.dtype == dtype:
        return column
    try:
        return column.cast(dtype)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise _wrong(
            column.name,
            column.dtype,
            f"{expected} ({dtype})",
            f"cast it yourself; a lossless cast failed: {reason}",
        ) from error


def _lists(column: pl.Series, inner: pl.DataType, *, fill: bool) -> pl.Series:
    column = _cast(column, pl.List(inner), EXPECTED.get(column.name, "a list per row"))
    if fill and column.null_count():
        column = column.to_frame().select(pl.col(column.name).fill_null([]))[column.name]
    return column


def _ids(column: pl.Series, context: Context) -> pl.Series:
    return _lists(column, context.item, fill=BY_NAME[column.name].is_filled)


def _string(column: pl.Series, context: Context) -> pl.Series:
    if not isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum | pl.Null):
        raise _wrong(
            column.name, column.dtype, "a string", f"pl.col('{column.name}').cast(pl.String)"
        )
    return _cast(column, pl.String(), "a string")


def _number(column: pl.Series, context: Context) -> pl.Series:
    if not (column.dtype.is_numeric() or column.dtype == pl.Null):
        raise _wrong(column.name, column.dtype, "a number (float64)", "cast it to pl.Float64")
    return _cast(column, pl.Float64(), "a number")


def _numbers(column: pl.Series, context: Context) -> pl.Series:
    inner = _inner(column, "a list of float32")
    if not (inner.is_numeric() or inner in (pl.Boolean, pl.Null)):
        raise _wrong(
            column.name, column.dtype, "a list of float32", "cast its entries to pl.Float32"
        )
    known = BY_NAME.get(column.name)  # a kind of feedback is a part of its column
    return _lists(column, pl.Float32(), fill=known is not None and known.is_filled)


def _probabilities(column: pl.Series, context: Context) -> pl.Series:
    inner = _inner(column, EXPECTED["slot_propensity"])
    if not (inner.is_float() or inner == pl.Null):
        raise _wrong(
            column.name,
            column.dtype,
            EXPECTED["slot_propensity"],
            "give one probability per shown item, or null",
        )
    return _lists(column, pl.Float64(), fill=False)


def _positions(column: pl.Series, context: Context) -> pl.Series:
    inner = _inner(column, EXPECTED["shown"])
    if not (inner.is_integer() or inner == pl.Null):
        raise _wrong(
            column.name,
            column.dtype,
            EXPECTED["shown"],
            "give positions in `candidates` (0 is the first), not item ids",
        )
    return _lists(column, pl.Int32(), fill=True)


def _check_time(name: str, dtype: pl.DataType, value: str) -> None:
    """Refuse times without a zone: a wrong guess of the zone shifts every event.

    Args:
        name: of the column.
        dtype: its type.
        value: the polars expression that the remedy applies to.
    """
    if dtype == pl.Null or (isinstance(dtype, pl.Datetime) and dtype.time_zone is not None):
        return
    remedy = f"{value}.cast(pl.Datetime('us')).dt.replace_time_zone('UTC')"
    if isinstance(dtype, pl.Datetime):
        remedy = f"say which zone it is in: {value}.dt.replace_time_zone('UTC')"
    elif dtype.is_integer():
        remedy = f"pl.from_epoch({value}, time_unit='s').dt.replace_time_zone('UTC')"
    elif dtype == pl.String:
        remedy = f"{value}.str.to_datetime(time_zone='UTC')"
    found = "a Datetime without a time zone" if isinstance(dtype, pl.Datetime) else dtype
    raise _wrong(name, found, EXPECTED[name], remedy)


def _time(column: pl.Series, context: Context) -> pl.Series:
    _check_time(column.name, column.dtype, f"pl.col('{column.name}')")
    return _cast(column, TIME, EXPECTED[column.name])


def _times(column: pl.Series, context: Context) -> pl.Series:
    inner = _inner(column, EXPECTED[column.name])
    _check_time(column.name, inner, f"in pl.col('{column.name}').list.eval(...): pl.element()")
    return _lists(column, TIME, fill=True)


def _vectors(column: pl.Series, context: Context) -> pl.Series | None:
    """List of F-wide arrays; None where no row has a vector and no features are named."""
    inner = _inner(column, EXPECTED[column.name])
    if isinstance(inner, pl.Array):
        dtype = pl.List(pl.Array(pl.Float32, inner.size))
        return _cast(column, dtype, EXPECTED[column.name]) if inner.size else None
    cells = pl.DataFrame({"row": pl.int_range(column.len(), eager=True), "cell": column})
    cells = cells.explode("cell").drop_nulls("cell")
    if cells["cell"].dtype != pl.Null:
        _inner(cells["cell"].alias(column.name), EXPECTED[column.name])
    named = len(context.info.candidate_features) if context.info else 0
    if cells.height == 0:
        empty = pl.List(pl.Array(pl.Float32, named))
        blank = pl.Series(column.name, [[]] * column.len(), dtype=empty)
        return blank if named else None
    widths = cells.select("row", width=pl.col("cell").list.len())
    width = named if (widths["width"] == named).any() else int(widths["width"].mode()[0])
    odd = widths.filter(pl.col("width") != width)
    if odd.height or width == 0:
        rows = odd["row"].unique(maintain_order=True).head(10).to_list()
        raise SchemaError(
            f"column '{column.name}': vectors of one table have one width, here {width}, but widths "
            f"{odd['width'].unique().sort().to_list()} occur (rows {rows}); remedy: give every "
            f"candidate the same features in the same order"
        )
    return _cast(column, pl.List(pl.Array(pl.Float32, width)), EXPECTED[column.name])


def _feedback(column: pl.Series, context: Context) -> pl.Series:
    """Struct of lists, fields in the order of the description where they agree with it."""
    dtype = column.dtype
    names = [field.name for field in dtype.fields] if isinstance(dtype, pl.Struct) else []
    if dtype == pl.Null:
        return _empty_struct(column.len(), context)
    if not isinstance(dtype, pl.Struct):
        raise _wrong(column.name, dtype, EXPECTED["feedback"], "pl.struct(click='feedback'), say")
    odd = [name for name in names if not storable_name(name)]
    if odd:
        raise SchemaError(f"column 'feedback' has fields {odd}: {NAME_RULE}")
    told = context.info.feedback_kinds if context.info else ()
    names = [k for k in told if k in names] + [k for k in names if k not in told]
    if not names:
        return _empty_struct(column.len(), context)
    fields = []
    for kind in names:
        field = column.struct.field(kind).alias(f"feedback.{kind}")
        fields.append(_numbers(field, context).alias(kind))
    return pl.DataFrame(fields).to_struct("feedback")


def feedback_lists(kind: str) -> pl.Expr:
    """Feedback of one kind along `shown`; 0 in requests in which the kind is null (not collected).

    Args:
        kind: a field of the column `feedback`.
    """
    lists = pl.col("feedback").struct.field(kind)
    zeros = pl.lit(0.0, pl.Float32).repeat_by(pl.col("shown").list.len())
    return pl.when(lists.is_null()).then(zeros).otherwise(lists).alias(kind)


def _empty(name: str, height: int, context: Context) -> pl.Series | None:
    """Column of empty lists for a column that a table made for ranking only may leave out."""
    if name == "feedback":
        return _empty_struct(height, context)
    column = BY_NAME[name]
    if not column.is_filled:
        return None
    return pl.Series(name, [[]], dtype=column.dtype(context.item)).new_from_index(0, height)


def _empty_lists(name: str, height: int, inner: pl.DataType) -> pl.Series:
    return pl.Series(name, [[]], dtype=pl.List(inner)).new_from_index(0, height)


def _empty_struct(height: int, context: Context) -> pl.Series:
    kinds = context.info.feedback_kinds if context.info else ()
    if kinds:
        lists = [_empty_lists(kind, height, pl.Float32()) for kind in kinds]
        return pl.DataFrame(lists).to_struct("feedback")
    return pl.Series("feedback", [None], dtype=pl.Struct([])).new_from_index(0, height)


def _complete(table: pl.DataFrame, info: TableInfo | None) -> TableInfo:
    kinds = table["feedback"].struct.fields
    vectors = table.schema.get("candidate_features")
    width = vectors.inner.size if isinstance(vectors, pl.List) else 0  # type: ignore[union-attr]
    return complete_info(info, kinds, width)


_CASTS: dict[str, Callable[[pl.Series, Context], pl.Series | None]] = {
    "request_id": _string,
    "user_id": lambda column, context: _cast(column, context.user, "an id"),
    "time": _time,
    "history": _ids,
    "history_feedback": _numbers,
    "history_time": _times,
    "candidates": _ids,
    "candidate_score": _numbers,
    "candidate_features": _vectors,
    "shown": _positions,
    "feedback": _feedback,
    "propensity": _number,
    "slot_propensity": _probabilities,
    "policy": _string,
    "experiment": _string,
}
