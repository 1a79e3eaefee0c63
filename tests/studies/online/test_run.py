"""A whole test: planted laws, and a killed run that goes on gives the same."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from goalrank.errors import ConfigError, DataError
from goalrank.studies.online import report_online, run_online
from tests.studies.online.kit import SMOKE, smoke

_ARMS = ("logging", "logging_again", "goalrank", "prm_kept", "oracle")


class _Killed(Exception):
    pass


@pytest.fixture(scope="module")
def config():
    return smoke(_ARMS, control="logging", days=2, requests=1500, warm=300)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("online") / "whole"
    return folder, run_online(config, folder)


def test_planted_laws(config, whole):
    _, result = whole
    arms = result["arms"]
    for metric in ("click", "reward", "true reward"):
        again = arms["logging_again"]["lifts"][metric]["relative"]
        assert again["low"] <= 0 <= again["high"], metric
        assert arms["oracle"]["lifts"][metric]["relative"]["low"] > 0
    assert all(arms["oracle"]["true_reward"] > arm["true_reward"]
               for name, arm in arms.items() if name != "oracle")  # fmt: skip
    assert arms["oracle"]["regret"] == pytest.approx(0, abs=1e-9)
    assert all(arm["regret"] > 0.01 for name, arm in arms.items() if name != "oracle")
    assert sum(arm["requests"] for arm in arms.values()) == config.days * config.requests
    assert result["size_p_value"][0] > 0.001
    assert "logging" not in [name for name, arm in arms.items() if arm["lifts"]]


def test_files(config, whole):
    folder, _ = whole
    assert not (folder / "work").exists()
    names = {path.name for path in folder.iterdir()}
    figures = {f"{n}.{e}" for n in ("true_reward", "regret", "regret_best") for e in ("svg", "png")}
    assert names == {"config.json", "online.json", "table.md", "ledger"} | figures
    text = (folder / "table.md").read_text()
    assert "| arm | click | reward | true reward |" in text
    assert "A/A" in text
    for day in range(config.days):
        frame = pl.read_parquet(folder / f"ledger/seed-0/day-{day:02d}/goalrank.parquet")
        assert len(frame) > 100
        assert frame["propensity"].to_numpy().min() > 0
    assert "world" in (folder / "config.json").read_text()


def test_a_killed_run_goes_on_and_gives_the_same(config, whole, tmp_path):
    folder, result = whole

    def kill(done: int, total: int) -> None:
        assert total == config.days + 1
        if done == 2:
            raise _Killed

    with pytest.raises(_Killed):
        run_online(config, tmp_path / "again", progress=kill)
    assert not (tmp_path / "again" / "online.json").exists()
    with pytest.raises(DataError, match="not over"):
        report_online(tmp_path / "again")
    first = tmp_path / "again/ledger/seed-0/day-00/goalrank.parquet"
    stamp = first.stat().st_mtime_ns
    seen: list[int] = []
    again = run_online(config, tmp_path / "again", progress=lambda n, _: seen.append(n))
    assert seen == [1, 2, 3]
    assert first.stat().st_mtime_ns == stamp  # kept, not served again
    assert (tmp_path / "again" / "table.md").read_text() == (folder / "table.md").read_text()
    for path in sorted((folder / "ledger").rglob("*.parquet")):
        twin = tmp_path / "again" / path.relative_to(folder)
        assert_frame_equal(pl.read_parquet(path), pl.read_parquet(twin))
    assert again == result


def test_no_request_is_served_twice(config, whole):
    folder, _ = whole
    ids = [
        set(pl.read_parquet(folder / f"ledger/seed-0/day-{day:02d}/{arm}.parquet")["request_id"])
        for day in range(2) for arm in _ARMS
    ]  # fmt: skip
    assert len(set.union(*ids)) == sum(len(each) for each in ids) == 3000


def test_another_test_s_folder_is_refused(config, whole):
    folder, _ = whole
    with pytest.raises(ConfigError, match="other settings"):
        run_online(config.model_copy(update={"explore": 0.3}), folder)


@pytest.mark.slow
def test_the_smoke_test_by_the_verb(tmp_path):
    from typer.testing import CliRunner

    from goalrank.cli import app

    out = tmp_path / "online"
    done = CliRunner().invoke(app, ["world", "online", str(SMOKE), "--out", str(out)])
    assert done.exit_code == 0, done.output
    for label in ("GoalRank", "hybrid, 30 %", "PRM", "near-optimum of the truth"):
        assert f"| {label} |" in done.stdout
