"""Times without guessing: units, time zones and the order of day and month are found or asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import polars as pl

from goalrank.errors import ConfigError, SchemaError
from goalrank.logs.tabular.ids import check_no_empty
from goalrank.logs.tabular.notes import ImportNotes
from goalrank.wording import counted

MICROS_PER_UNIT = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
_AUTO = (("s", 1e11), ("ms", 1e14), ("us", 1e17), ("ns", float("inf")))
_SLASHED = re.compile(r"^\s*(\d{1,2})([/.\-])(\d{1,2})\2(\d{4})(.*)$")
_ZONED = r":\d{2}[^+\-Z]*\s*(Z|[+-]\d{2}:?\d{2})\s*$"  # an offset stands behind a time of day
_OFFSET = r"\s*(Z|[+-]\d{2}:?\d{2})\s*$"
_SOME = 1000  # values that are looked at before all are
_COMPACT = {8: "000000", 12: "00", 14: ""}  # digits of a date → what makes it YYYYMMDDHHMMSS
_RANGE = (-2_208_988_800_000_000, 7_258_118_400_000_000)  # 1900 to 2200
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S%.f", "T%H:%M:%S", "T%H:%M:%S%.f")
_ISO = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d")


@dataclass(frozen=True)
class TimeRules:
    """How a column of times is to be read.

    Attributes:
        unit: of numbers: auto, s, ms, us or ns; auto decides by their size, and says so.
        format: strptime format of text, such as "%d/%m/%Y %H:%M"; None finds it.
        timezone: IANA name (or "UTC") of times without one; None refuses them.
    """

    unit: str = "auto"
    format: str | None = None
    timezone: str | None = None


def as_micros(column: pl.Series, rules: TimeRules, notes: ImportNotes, *, where: str) -> pl.Series:
    """A column of times as Int64 microseconds since 1970, UTC.

    Args:
        column: numbers, dates or text.
        rules: how to read it.
        notes: get what was guessed.
        where: the file, named in errors.

    Raises:
        SchemaError: an empty or unreadable time (row, value and remedy are named), a time without
            a zone and no `timezone`, or text in which day and month cannot be told apart.
        ConfigError: an unknown time zone.
    """
    found = _read(column, rules, notes, where)
    odd = ~found.is_between(*_RANGE)
    if odd.any():
        row = int(odd.arg_max() or 0)
        raise SchemaError(
            f"{where}: {column.name} = {column[row]!r} in row {row + 1} is a time outside 1900 to "
            f"2200 ({counted(int(odd.sum()), 'row')}); remedy: another unit or format (options: time_unit, "
            f"time_format), or mend these rows"
        )
    return found


def _read(column: pl.Series, rules: TimeRules, notes: ImportNotes, where: str) -> pl.Series:
    check_no_empty(column, where=where)
    if column.dtype == pl.String:
        numbers = column.cast(pl.Float64, strict=False)
        if rules.format is None and not numbers.null_count():
            whole = column.cast(pl.Int64, strict=False)
            column = numbers if whole.null_count() else whole
        else:
            return _text(column, rules, notes, where)
    if isinstance(column.dtype, pl.Datetime):
        return _moments(column, rules, where)
    if column.dtype == pl.Date:
        return _moments(column.cast(pl.Datetime("us")), rules, where)
    if column.dtype.is_numeric():
        return _numbers(column, rules, notes, where)
    raise SchemaError(
        f"{where}: {column.name} has type {column.dtype}; expected numbers, dates or text "
        f"(option: columns)"
    )


def zone(name: str) -> str:
    """A time zone's name, checked.

    Raises:
        ConfigError: no such zone.
    """
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigError(
            f"timezone '{name}' is unknown; remedy: an IANA name such as UTC, Europe/Paris or "
            f"America/New_York; option: timezone"
        ) from error
    return name


def _numbers(column: pl.Series, rules: TimeRules, notes: ImportNotes, where: str) -> pl.Series:
    unit = rules.unit
    if unit == "auto":
        dates = _compact_dates(column)
        if dates is not None:
            notes.guess(
                f"format of {column.name}", "dates written as one number, YYYYMMDD…", "time_unit"
            )
            return _moments(dates, rules, where)
        middle = abs(float(column.cast(pl.Float64).median() or 0.0))  # type: ignore[arg-type]
        unit = next(name for name, top in _AUTO if middle < top)
        notes.guess(f"unit of {column.name}", unit, "time_unit")
    if unit == "ns":
        return column.cast(pl.Int64) // 1000
    factor = MICROS_PER_UNIT[unit]
    large = column.cast(pl.Float64).abs() * factor > 9e18  # the product would not fit
    if column.dtype.is_integer():
        found = column.cast(pl.Int64, strict=False) * int(factor)
    else:
        found = (column * factor).round(0).cast(pl.Int64, strict=False)
    return found.set(large, _RANGE[1] + 1)  # outside the range, so that its row is named


def _compact_dates(column: pl.Series) -> pl.Series | None:
    """Numbers such as 20260102 or 20260102103000 as naive moments, if all of them are dates."""
    if column.dtype.is_float() and bool((column == column.floor()).all()):
        column = column.cast(pl.Int64, strict=False)
    if not column.dtype.is_integer() or column.null_count():
        return None
    if len(column) > _SOME and _compact_dates(column.head(_SOME)) is None:
        return None  # without making text of a long column
    text = column.cast(pl.String)
    digits = text.str.len_chars()
    for count, rest in _COMPACT.items():
        years = text.str.head(4).cast(pl.Int32, strict=False)
        if bool((digits == count).all()) and bool(years.is_between(1900, 2199).all()):
            read = (text + rest).str.strptime(pl.Datetime("us"), "%Y%m%d%H%M%S", strict=False)
            return None if read.null_count() else read
    return None


def _moments(column: pl.Series, rules: TimeRules, where: str) -> pl.Series:
    """Datetimes as microseconds; naive ones are read in the zone that was given."""
    time_zone = getattr(column.dtype, "time_zone", None)
    column = column.cast(pl.Datetime("us", time_zone))
    if time_zone is not None:
        return column.cast(pl.Int64)
    if rules.timezone is None:
        raise SchemaError(
            f"{where}: {column.name} = {column[0]} has no time zone; remedy: say which one the log "
            f"was written in, for instance --timezone UTC or --timezone Europe/Paris "
            f"(option: timezone)"
        )
    local = column.dt.replace_time_zone(
        zone(rules.timezone), ambiguous="earliest", non_existent="null"
    )
    if local.null_count() > column.null_count():
        row = int(local.is_null().arg_max() or 0)
        raise SchemaError(
            f"{where}: {column.name} = {column[row]} in row {row + 1} does not exist in "
            f"{rules.timezone} (clocks go forward then); remedy: another --timezone, or times with "
            f"an offset"
        )
    return local.cast(pl.Int64)


def _text(column: pl.Series, rules: TimeRules, notes: ImportNotes, where: str) -> pl.Series:
    column = column.str.strip_chars()
    pattern = rules.format or _format(column, notes, where)
    zoned = column.str.contains(_ZONED)
    if rules.format is None and zoned.any():
        plain = column.str.replace(r"\s*Z$", "+00:00")
        plain = plain.str.replace(r"(:\d{2}[^+\-]*?)\s*([+-]\d{2}):?(\d{2})$", "$1$2:$3")
        _check_read(_parsed(_bare(column), pattern), column, pattern, where)
        if not zoned.all():
            row = int((~zoned).arg_max() or 0)
            raise SchemaError(
                f"{where}: {column.name} has a time zone in some rows only (row {row + 1}: "
                f"{column[row]!r}); remedy: write all times with an offset, or none"
            )
        read = plain.str.strptime(pl.Datetime("us", "UTC"), pattern + "%:z", strict=False)
    else:
        read = _parsed(column, pattern)
    _check_read(read, column, pattern, where)
    return _moments(read, rules, where)


def _bare(column: pl.Series) -> pl.Series:
    """Text without the offset that stands behind a time of day."""
    frame = pl.DataFrame({"text": column})
    stripped = pl.col("text").str.replace(_OFFSET, "")
    zoned = pl.col("text").str.contains(_ZONED)
    return frame.select(pl.when(zoned).then(stripped).otherwise("text"))["text"]


def _parsed(column: pl.Series, pattern: str) -> pl.Series:
    """Text as moments by a pattern; null where it does not fit."""
    if re.search(r"%(:?z|Z)", pattern):
        return column.str.strptime(pl.Datetime("us", "UTC"), pattern, strict=False)
    if re.search(r"%[HIMSTXR]", pattern):
        return column.str.strptime(pl.Datetime("us"), pattern, strict=False)
    return column.str.strptime(pl.Date, pattern, strict=False).cast(pl.Datetime("us"))


def _check_read(read: pl.Series, column: pl.Series, pattern: str, where: str) -> None:
    if read.null_count():
        row = int(read.is_null().arg_max() or 0)
        raise SchemaError(
            f"{where}: {column.name} = {column[row]!r} in row {row + 1} does not follow the format "
            f"{pattern!r} of the rows before ({read.null_count():,} rows in all); remedy: give the "
            f"format (option: time_format, as strptime writes it) or mend these rows"
        )


def _format(column: pl.Series, notes: ImportNotes, where: str) -> str:
    """The strptime format of a column of text, without its offset."""
    bare = _bare(column)
    first = str(bare[0])
    slashed = _SLASHED.match(first)
    years = re.match(r"^\d{4}(?!\d{1,3}$)", first)
    dates = _slashed(bare, slashed, notes, where) if slashed else _ISO if years else ()
    for date in dates:
        for clock in _CLOCKS:
            form = date + clock
            dtype = pl.Datetime("us") if clock else pl.Date
            if bare.head(1).str.strptime(dtype, form, strict=False).null_count():
                continue
            if clock.endswith("%S") and bare.str.contains(r"\.\d+$").any():
                form += "%.f"
            return form
    raise SchemaError(
        f"{where}: {column.name} = {column[0]!r} is neither a number nor a date and time that is "
        f"known; remedy: give its format (option: time_format, for instance '%d %b %Y %H:%M')"
    )


def _slashed(
    column: pl.Series, first: re.Match[str], notes: ImportNotes, where: str
) -> tuple[str, ...]:
    """Day first or month first, as all rows together tell; refused where none of them does."""
    mark = first.group(2)
    parts = column.str.extract_groups(r"^(\d{1,2})[/.\-](\d{1,2})[/.\-]")
    one = parts.struct.field("1").cast(pl.Int32, strict=False)
    two = parts.struct.field("2").cast(pl.Int32, strict=False)
    day_first, month_first = bool((one > 12).any()), bool((two > 12).any())
    day, month = f"%d{mark}%m{mark}%Y", f"%m{mark}%d{mark}%Y"
    if day_first and month_first:
        a, b = int((one > 12).arg_max() or 0), int((two > 12).arg_max() or 0)
        raise SchemaError(
            f"{where}: {column.name} has the day first in row {a + 1} ({column[a]!r}) and the month "
            f"first in row {b + 1} ({column[b]!r}); remedy: write all rows the same way"
        )
    if not day_first and not month_first:
        row = int((one != two).arg_max() or 0)
        raise SchemaError(
            f"{where}: {column.name} = {column[row]!r} can be read as day {one[row]}, month "
            f"{two[row]} or as month {one[row]}, day {two[row]}, and no row tells which; remedy: "
            f"give the format (option: time_format): '{day}' or '{month}', with the time of day "
            f"behind it"
        )
    found = day if day_first else month
    notes.guess(f"order of day and month in {column.name}", found, "time_format")
    return (found,)
