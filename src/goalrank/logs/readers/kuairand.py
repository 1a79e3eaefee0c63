"""KuaiRand (Gao et al., CIKM 2022): short-video exposures with click, long view, like, play time.

Reads the publisher's csv files, or Parquet with the same columns; without a path, the shipped
part. The log has no request id: see ``windows``. The publisher's item statistics (shows, plays,
likes, ... of the whole period) are left out because they would leak the future; so are the users'
activity degrees, which were measured in the period of the log.
"""

from __future__ import annotations

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
)
from goalrank.logs.readers.raw_log import RawLog

__all__ = ["read_kuairand"]

_LOG = {
    "user_id": ("user_id",),
    "item_id": ("item_id", "video_id"),
    "time": ("time_ms",),
    "click": ("is_click",),
    "long_view": ("long_view",),
    "like": ("is_like",),
    "play_ms": ("play_time_ms",),
    "duration_ms": ("duration_ms",),
}
_USER_RANGES = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
_KINDS = ("click", "long_view", "like", "play_time", "play_ratio")


def read_kuairand(path: Path | None, options: ImportOptions) -> RawLog:
    """Read a KuaiRand folder or a single log file.

    Feedback types: click, long_view, like (0 or 1), play_time (seconds), play_ratio (share of the
    video played, at most 1). History strength: click + long_view + like.

    Args:
        path: folder or file; ``None`` reads the shipped part.
        options: settings of the import.

    Raises:
        DataError: no log file in the folder.
        SchemaError: a column is missing or of the wrong type.
    """
    shipped = path is None
    folder = shipped_path("kuairand") if path is None else path
    log_path = folder
    if folder.is_dir():
        found = first_existing(folder, ("log_standard*.parquet", "log_standard*.csv"))
        if found is None:
            raise DataError(
                f"{folder}: no log_standard*.csv or .parquet; give the folder of KuaiRand-Pure"
            )
        log_path = found
    read = read_any(log_path)
    kept, duplicates = drop_duplicates(read)
    frame = pick(kept, _LOG, where=str(log_path), optional=("duration_ms",))
    side = folder if folder.is_dir() else folder.parent
    items = _items(side)
    return RawLog(
        dataset="kuairand" + ("-shipped" if shipped else ""),
        shape="exposures",
        events=_events(frame, str(log_path)),
        kinds=_KINDS if "duration_ms" in frame.columns else _KINDS[:-1],
        target=options.target or "click",
        strength="strength",
        strength_parts=_KINDS[:3],
        rate_kinds=("click", "long_view", "like"),
        items=items,
        users=_users(side),
        categories=("author", "tag") if items is not None else (),
        prior=_prior(side),
        counts={"rows_read": read.height, "duplicates_dropped": duplicates},
        facts=(
            "the log does not say which videos were requested together, so a request here is a run "
            "of videos that one user was shown one after another, hours apart on average: scores "
            "compare rankers, and do not foretell those of a service",
        ),
    )


def _events(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    click, long_view, like = (as_float(frame, k, where=where) for k in _KINDS[:3])
    play = as_float(frame, "play_ms", where=where)
    out = pl.DataFrame(
        {
            "user_id": as_id(frame, "user_id", where=where),
            "item_id": as_id(frame, "item_id", where=where),
            "time": as_micros(frame, "time", where=where, unit="ms"),
            "click": click,
            "long_view": long_view,
            "like": like,
            "play_time": play / 1000,
            "strength": click + long_view + like,
        }
    )
    if "duration_ms" in frame.columns:
        length = as_float(frame, "duration_ms", where=where).clip(1.0, None)
        out = out.with_columns((play / length).clip(0.0, 1.0).alias("play_ratio"))
    return out


def _items(folder: Path) -> pl.DataFrame | None:
    """Item features that were fixed when the video was uploaded."""
    path = first_existing(folder, ("item_features.parquet", "video_features_basic*.csv"))
    if path is None:
        return None
    wanted = {
        "item_id": ("item_id", "video_id"),
        "author": ("author_id",),
        "video_type": ("video_type",),
        "upload_type": ("upload_type",),
        "music_type": ("music_type",),
        "duration": ("video_duration",),
        "tag": ("tag",),
    }
    frame = pick(read_any(path), wanted, where=str(path))
    frame = frame.unique("item_id", keep="first", maintain_order=True)
    music_type = pl.col("music_type").cast(pl.Float64).cast(pl.Int64).cast(pl.String)
    return frame.with_columns(
        as_id(frame, "item_id", where=str(path)),
        pl.col("author").cast(pl.String),
        music_type.alias("music_type"),
        (pl.col("duration").cast(pl.Float32) / 1000).alias("duration"),
        pl.col("tag").cast(pl.String).fill_null("").str.split(",").list.eval(
            pl.element().filter(pl.element() != "")
        ),
    )  # fmt: skip


def _users(folder: Path) -> pl.DataFrame | None:
    path = first_existing(folder, ("user_features.parquet", "user_features*.csv"))
    if path is None:
        return None
    frame = read_any(path)
    ranges = [f"{name}_range" for name in _USER_RANGES if f"{name}_range" in frame.columns]
    codes = [c for c in frame.columns if c.startswith("onehot_feat")]
    flags = [c for c in ("is_live_streamer", "is_video_author") if c in frame.columns]
    return frame.unique("user_id", keep="first", maintain_order=True).select(
        pl.col("user_id").cast(pl.Int64),
        *(pl.col(c).cast(pl.String) for c in ranges),
        *(pl.col(c).cast(pl.Float64).cast(pl.Int64).cast(pl.String) for c in [*flags, *codes]),
    )


def _prior(folder: Path) -> pl.DataFrame | None:
    """Views before the log began; all have the time of the user's last one.

    Strength is 1, plus 1 for a long view, plus 1 for a like.
    """
    path = first_existing(folder, ("user_history_sequences.parquet",))
    if path is None:
        return None
    wanted = ("user_id", "last_time_ms", "watch_seq", "long_watch_seq", "like_seq")
    frame = pick(read_any(path), {name: (name,) for name in wanted}, where=str(path))
    flat = (
        frame.select("user_id", "last_time_ms", "long_watch_seq", "like_seq", item_id="watch_seq")
        .explode("item_id")
        .drop_nulls("item_id")
    )
    marks = [pl.col("item_id").is_in(pl.col(c)) for c in ("long_watch_seq", "like_seq")]
    return flat.select(
        pl.col("user_id").cast(pl.Int64),
        pl.col("item_id").cast(pl.Int64),
        (pl.col("last_time_ms").cast(pl.Int64) * 1000).alias("time"),
        (1.0 + marks[0].cast(pl.Float32) + marks[1].cast(pl.Float32))
        .cast(pl.Float32)
        .alias("strength"),
    )
