"""goalrank data preview, and what an import says of its guesses."""

from __future__ import annotations

import json
import shlex

import polars as pl
import pytest
from typer.testing import CliRunner

from goalrank.cli import app
from goalrank.logs import import_dataset
from tests.logs.logs_data import movielens_folder

RUN = CliRunner()


@pytest.fixture
def log(tmp_path):
    rows = ["request_id,user_id,item_id,time,position,click"]
    for day in range(1, 21):
        for item in range(4):
            time = f"2026-01-{day:02d} 10:00:00"
            rows.append(f"r{day},u{day % 3},i{item},{time},{item},{int(item == day % 4)}")
    path = tmp_path / "log.csv"
    path.write_text("\n".join(rows))
    return path


def test_the_preview_says_what_stands_in_the_way_and_then_gives_the_command(log, tmp_path):
    first = RUN.invoke(app, ["data", "preview", str(log)])
    assert first.exit_code == 0, first.output
    assert "--timezone" in first.output
    told = RUN.invoke(app, ["data", "preview", str(log), "--timezone", "UTC", "--json"])
    found = json.loads(told.stdout)
    assert found["facts"]["requests"] == "20"
    assert found["click_rate"] == {str(place): 0.25 for place in range(4)}
    assert found["problem"] is None
    assert len(found["requests"]) == 3
    assert [row["item_id"] for row in found["requests"][0]["rows"]] == ["i0", "i1", "i2", "i3"]
    command = shlex.split(found["command"])[1:]
    command[command.index("--out") + 1] = str(tmp_path / "out")
    done = RUN.invoke(app, [*command, "--set", "min_test_list=1"])
    assert done.exit_code == 0, done.output
    train = pl.read_parquet(tmp_path / "out" / "train.parquet")
    assert train.height == 14
    assert train["feedback"].struct.field("click").list.sum().to_list() == [1.0] * 14


def test_an_import_prints_its_guesses_and_what_it_left_out(log, tmp_path):
    log.write_text(log.read_text() + "\ns1,u9,i0,2026-01-01 10:00:00,0,1\n")
    arguments = ["data", "import", "exposures", str(log), "--timezone", "UTC"]
    done = RUN.invoke(app, [*arguments, "--set", "min_test_list=1", "--out", str(tmp_path / "o")])
    assert done.exit_code == 0, done.output
    assert (
        "guessed: feedback type is 'click', the only column of 0 and 1  (otherwise: --kinds)"
        in done.output
    )
    assert "left out: 1 of 81 rows: in lists of fewer than 2 items" in done.output


def test_lists_of_values_are_read_with_commas(log, tmp_path):
    arguments = ["data", "import", "exposures", str(log), "--timezone", "UTC", "--json"]
    given = ["--set", "fractions=1,0,0", "--out", str(tmp_path / "o")]
    done = RUN.invoke(app, [*arguments, *given])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["counts"]["train"] == 20


def test_an_append_says_that_it_makes_all_requests_anew(tmp_path):
    data = movielens_folder(tmp_path / "m")
    options = {"first_fit": 100, "factors": 4}
    import_dataset("movielens", data, options, out=tmp_path / "films")
    told = RUN.invoke(app, ["data", "append", str(tmp_path / "films"), str(data)])
    assert "made anew" in told.stderr
    assert "Remedy: append many rows at once" in told.stderr
