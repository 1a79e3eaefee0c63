"""docs/worlds.md does what it says."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from tests.docs.runner import run

ROOT = Path(__file__).parents[2]


def test_every_command_of_the_document(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    done = run(ROOT / "docs" / "worlds.md")
    verbs = {" ".join(c.split()[1:3]) for c in done if c.startswith("goalrank world")}
    assert verbs == {"world describe", "world fit", "world sample"}
    log = pl.concat(
        pl.read_parquet(f"data/kuairand/{part}.parquet", columns=["user_id"])
        for part in ("train", "validation", "test")
    )
    users = pl.read_parquet("sampled.parquet")["user_id"]
    assert len(users) == 500
    assert users.to_numpy().max() < log["user_id"].n_unique()
    assert users.n_unique() > 400  # a world as large as the log, not the 2,000 planted users
