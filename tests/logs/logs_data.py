"""Small made-up logs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

START = 1_600_000_000  # seconds


def ratings(
    users: int = 60, items: int = 80, rows: int = 40, seed: int = 0, ties: bool = True
) -> pl.DataFrame:
    """user_id, item_id, rating, timestamp; no user rates an item twice."""
    rng = np.random.default_rng(seed)
    taste = rng.permuted(np.tile(np.arange(items), (users, 1)), axis=1)[:, :rows]
    begin = rng.integers(0, 370_000, (users, 1))
    times = begin + np.sort(rng.integers(0, 30_000, (users, rows)), axis=1)
    if ties:
        times = times // 1000 * 1000
    return pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(1, users + 1), rows),
            "item_id": taste.ravel() + 100,
            "rating": rng.integers(1, 6, users * rows),
            "timestamp": START + times.ravel(),
        }
    )


def movies(items: int = 80) -> pl.DataFrame:
    genres = ["Action|Comedy", "Drama", "Comedy", "(no genres listed)"]
    return pl.DataFrame(
        {
            "item_id": np.arange(100, 100 + items),
            "title": [f"Film {i} ({1950 + i % 60})" for i in range(items)],
            "genres": [genres[i % 4] for i in range(items)],
        }
    )


def exposures(users: int = 30, items: int = 40, rows: int = 60, seed: int = 0) -> pl.DataFrame:
    """KuaiRand's columns; bursts of exposures with pauses."""
    rng = np.random.default_rng(seed)
    gaps = np.where(
        rng.random((users, rows)) < 0.08, 200_000_000, rng.integers(0, 60_000, (users, rows))
    )
    times = START * 1000 + rng.integers(0, 10**8, (users, 1)) + np.cumsum(gaps, axis=1)
    total = users * rows
    click = rng.integers(0, 2, total)
    return pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(users), rows),
            "item_id": rng.integers(0, items, total),
            "time_ms": times.ravel(),
            "is_click": click,
            "long_view": click * rng.integers(0, 2, total),
            "is_like": click * (rng.random(total) < 0.1),
            "play_time_ms": rng.integers(0, 50_000, total),
            "duration_ms": rng.integers(1000, 40_000, total),
        }
    ).with_columns(pl.col("is_like").cast(pl.Int64))


def movielens_folder(folder: Path, frame: pl.DataFrame | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (ratings() if frame is None else frame).write_parquet(folder / "ratings.parquet")
    movies().write_parquet(folder / "movies.parquet")
    return folder


def kuairand_folder(folder: Path, frame: pl.DataFrame | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (exposures() if frame is None else frame).write_parquet(folder / "log_standard.parquet")
    pl.DataFrame(
        {
            "item_id": np.arange(40),
            "author_id": np.arange(40) % 7,
            "video_type": ["NORMAL"] * 40,
            "upload_type": ["Web"] * 40,
            "music_type": [None if i % 5 == 0 else float(i % 3) for i in range(40)],
            "video_duration": np.arange(40) * 1000.0,
            "tag": ["1,2" if i % 3 else "3" for i in range(40)],
            "show_cnt": np.arange(40) * 1.0,
        }
    ).write_parquet(folder / "item_features.parquet")
    return folder
