"""MovieLens (GroupLens): ratings with times, in any edition and file format.

Reads a folder, a downloaded zip, or a single ratings file (.dat, .csv, .parquet); without a path,
the shipped small edition.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import polars as pl

from goalrank.errors import DataError
from goalrank.logs.download.data_folders import shipped_path
from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.parsing import (
    as_float,
    as_id,
    as_micros,
    drop_duplicates,
    first_existing,
    pick,
    read_any,
    read_zip_member,
)
from goalrank.logs.readers.raw_log import RawLog

__all__ = ["read_movielens"]

_RATINGS = ("user_id", "item_id", "rating", "timestamp")
_MOVIES = ("item_id", "title", "genres")
_USERS = ("user_id", "gender", "age", "occupation", "zip")
_ALIASES = {
    "user_id": ("user_id", "userId", "UserID"),
    "item_id": ("item_id", "movieId", "MovieID"),
    "rating": ("rating", "Rating"),
    "time": ("timestamp", "Timestamp"),
}


def read_movielens(path: Path | None, options: ImportOptions) -> RawLog:
    """Read a MovieLens edition.

    Feedback types: rating (stars), like (1 from ``like_threshold`` stars on). Target: like. If the
    folder of the ratings contains ``approx_timestamps*.parquet``, the rows that it lists have
    estimated times and are dropped.

    Args:
        path: folder, zip or file; ``None`` reads the shipped edition.
        options: settings of the import.

    Raises:
        DataError: nothing to read, or a damaged file.
        SchemaError: a column is missing or of the wrong type.
    """
    where = shipped_path("movielens-small") if path is None else path
    ratings, movies, users, approximate = _tables(where)
    rows = ratings.height
    ratings = pick(ratings, _ALIASES, where=f"{where} (ratings)")
    ratings, duplicates = drop_duplicates(ratings)
    counts = {"rows_read": rows, "duplicates_dropped": duplicates}
    label = f"{where} (ratings)"
    rating = as_float(ratings, "rating", where=label)
    events = pl.DataFrame(
        {
            "user_id": as_id(ratings, "user_id", where=label),
            "item_id": as_id(ratings, "item_id", where=label),
            "time": as_micros(ratings, "time", where=label, unit="s"),
            "rating": rating,
            "like": (rating >= options.like_threshold).cast(pl.Float32),
        }
    )
    if approximate is not None:
        pairs = approximate.select(pl.col("user_id", "item_id").cast(pl.Int64))
        before = events.height
        events = events.join(pairs, on=["user_id", "item_id"], how="anti", maintain_order="left")
        counts["estimated_times_dropped"] = before - events.height
    items = None if movies is None else _items(movies, str(where))
    return RawLog(
        dataset="movielens-small" if path is None else f"movielens ({where.stem})",
        shape="interactions",
        events=events,
        kinds=("rating", "like"),
        target=options.target or "like",
        strength="rating",
        rate_kinds=("like",),
        items=items,
        users=None if users is None else _users(users, str(where)),
        categories=() if items is None else ("genres",),
        counts=counts,
    )


_Tables = tuple[pl.DataFrame, pl.DataFrame | None, pl.DataFrame | None, pl.DataFrame | None]


def _tables(where: Path) -> _Tables:
    if where.suffix == ".zip":
        return _zip_tables(where)
    folder = where if where.is_dir() else where.parent
    main = where
    if where.is_dir():
        found = first_existing(where, ("ratings.parquet", "ratings.dat", "ratings.csv"))
        if found is None:
            raise DataError(f"{where}: no ratings.dat, ratings.csv or ratings.parquet in it")
        main = found
    movies = first_existing(folder, ("movies.parquet", "movies.dat", "movies.csv"))
    users = first_existing(folder, ("users.parquet", "users.dat", "users.csv"))
    approximate = first_existing(folder, ("approx_timestamps*.parquet",))
    return (
        read_any(main, names=_RATINGS),
        None if movies is None else read_any(movies, names=_MOVIES),
        None if users is None else read_any(users, names=_USERS),
        None if approximate is None else read_any(approximate),
    )


def _zip_tables(where: Path) -> _Tables:
    if not where.is_file():
        raise DataError(f"no such file: {where}")
    try:
        with zipfile.ZipFile(where) as archive:

            def member(name: str, names: tuple[str, ...]) -> pl.DataFrame | None:
                found = (
                    read_zip_member(archive, name + ending, names)
                    for ending in (".dat", ".csv", ".parquet")
                )
                return next((frame for frame in found if frame is not None), None)

            ratings = member("ratings", _RATINGS)
            if ratings is None or ratings.height == 0:
                raise DataError(f"{where}: no rows of ratings (.dat, .csv or .parquet) in the zip")
            return ratings, member("movies", _MOVIES), member("users", _USERS), None
    except (zipfile.BadZipFile, EOFError, OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{where} is a damaged zip ({error}); download it again") from None


def _items(movies: pl.DataFrame, where: str) -> pl.DataFrame:
    """Item features: title (for display), genres (list of strings), year (from the title)."""
    aliases = {
        "item_id": _ALIASES["item_id"],
        "title": ("title", "Title"),
        "genres": ("genres", "Genres"),
    }
    frame = pick(movies, aliases, where=f"{where} (movies)")
    frame = frame.with_columns(as_id(frame, "item_id", where=f"{where} (movies)"))
    genres = pl.col("genres").cast(pl.String).fill_null("").str.split("|")
    none = ("", "(no genres listed)")
    return frame.unique("item_id", keep="first", maintain_order=True).with_columns(
        genres.list.eval(pl.element().filter(~pl.element().is_in(none))),
        pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Float32).alias("year"),
    )


def _users(users: pl.DataFrame, where: str) -> pl.DataFrame:
    """User features: gender, age group and occupation as categories."""
    aliases = {name: (name, {"user_id": "UserID"}.get(name, name.title())) for name in _USERS[:4]}
    frame = pick(users, aliases, where=f"{where} (users)")
    return frame.with_columns(
        as_id(frame, "user_id", where=f"{where} (users)"),
        pl.col("gender", "age", "occupation").cast(pl.String),
    ).unique("user_id", keep="first", maintain_order=True)
