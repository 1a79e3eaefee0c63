"""What is printed is printed as it is: nothing of the user's, and no help text, is markup."""

from __future__ import annotations

import ast
import gzip
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

import goalrank as package
from goalrank.api import audit_table
from goalrank.cli import app, application, common
from goalrank.features import feature_meanings
from goalrank.logs.readers.parsing import read_any
from goalrank.requests import ComputedFeatures, Requests
from tests.logs.logs_data import exposures
from tests.tables import make_table

SOURCE = Path(package.__file__).parent
ODD = "runs[new] [red]x[/red] [/bold] :smile: [ray]"
WIDE = {"COLUMNS": "1000"}


@pytest.fixture
def raw(monkeypatch) -> Any:
    """The tree of commands with its texts as they are written."""
    with monkeypatch.context() as patch:
        patch.setattr(application, "escape_help", lambda command: None)
        return get_command(app)


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*path, name))


def plain(text: str) -> str:
    """Words alone: how help is laid out does not matter."""
    return re.sub(r"[\s│╭╮╰╯─*]+", "", text)


def test_every_help_text_is_shown_as_written(raw):
    brackets = 0
    for path, command in walk(raw):
        shown = plain(CliRunner().invoke(app, [*path, "--help"], env=WIDE).stdout)
        assert shown, path
        seen = [each for each in command.params if not getattr(each, "hidden", False)]
        texts = [command.help, command.epilog, *(getattr(each, "help", None) for each in seen)]
        for text in filter(None, texts):
            assert plain(text) in shown, (path, text)
            brackets += len(re.findall(r"\[\w+\]", text))
    assert brackets >= 2  # there are extras in help texts


def test_no_console_takes_text_for_markup():
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\[/?(bold|dim|red|yellow|green|italic)[^\]\n]*\]", text), path
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", "")
            options = {word.arg: word.value for word in node.keywords}
            if name in ("Console", "TextColumn"):
                markup = options.get("markup")
                assert isinstance(markup, ast.Constant), (path, node.lineno)
                assert markup.value is False, (path, node.lineno)
            assert name != "Progress" or all(not isinstance(a, ast.Constant) for a in node.args)


def test_messages_are_printed_as_they_are(capsys, monkeypatch):
    monkeypatch.setattr(common, "show_progress", lambda: True)
    common.say(ODD, "dim")
    common.warn(ODD)
    common.console(stderr=False).print(ODD)
    with common.busy(ODD), common.progress_bar(ODD) as bar:
        bar(1, 2)
    out, err = capsys.readouterr()
    assert out == f"{ODD}\n"
    assert err.splitlines()[:2] == [ODD, f"Warning: {ODD}"]


def test_what_takes_long_says_so_without_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(common, "show_progress", lambda: False)
    with common.progress_bar("evaluating") as moved:
        moved(1, 9)
    with common.busy("reading"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(common, "_QUIET_S", 0.05)
    with common.progress_bar("evaluating") as moved, common.busy("reading"):
        time.sleep(0.2)
        moved(3, 9)
    time.sleep(0.1)
    said = capsys.readouterr()
    assert sorted(said.err.splitlines()) == ["evaluating: 3 of 9", "reading …"]
    assert said.out == ""


@pytest.mark.parametrize("show", ["busy", "progress_bar"])
def test_what_moves_is_shown_as_it_is(show, monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200, markup=False, emoji=False)
    monkeypatch.setattr(common, "show_progress", lambda: True)
    monkeypatch.setattr(common, "console", lambda **_: console)
    with getattr(common, show)(ODD):
        pass
    assert ODD in screen.getvalue()


def test_scorecard_of_odd_names(capsys):
    table = make_table(30, warning=ODD)
    card = audit_table(table, make_table(30, seed=1, warning=ODD), bootstrap=5)
    values = dict(card.baselines.values)
    values[ODD] = values[card.baselines.rankers[0]]
    seconds = {**card.baselines.seconds, ODD: 1.0}
    card = replace(card, baselines=replace(card.baselines, values=values, seconds=seconds))
    common.print_scorecard(card, baselines=100)
    out = capsys.readouterr().out
    assert f"Warning: {ODD}" in " ".join(out.split())
    assert ODD[:20] in out.split("Warning", 1)[1]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_names_of_metrics_are_never_cut(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    card = audit_table(make_table(30), make_table(30, seed=1), bootstrap=5)
    values = dict(card.baselines.values)
    name = "feature:user_category_long_view_rate_of_late (reversed)"
    values[name] = values[card.baselines.rankers[0]]
    seconds = {**card.baselines.seconds, name: 1.0}
    card = replace(card, baselines=replace(card.baselines, values=values, seconds=seconds))
    common.print_scorecard(card, baselines=100)
    lines = capsys.readouterr().out.splitlines()
    head = next(line for line in lines if "ranker" in line)
    assert max(map(len, lines[: lines.index(head) + 3])) <= width
    shown = [cell.strip() for cell in head.strip("┃").split("┃")]
    assert shown[2] == "ndcg@6"
    assert set(shown[2:]) <= set(card.baselines.metrics)
    assert len(shown) == {60: 3, 80: 3, 100: 3, 200: 8}[width]
    body = [line.split("│") for line in lines if line.count("│") == len(shown) + 1]
    assert name.replace(" ", "") in "".join(row[1] for row in body).replace(" ", "")
    assert not any("…" in line for line in lines)


def test_doctor_names_the_extra(goalrank, monkeypatch):
    monkeypatch.setattr("goalrank.cli.commands.doctor._there", lambda module: False)
    out = plain(goalrank("doctor").stdout)
    project = (SOURCE.parents[1] / "pyproject.toml").read_text()
    extras = re.findall(r"^(\w+) = \[", project.split("[project.optional-dependencies]")[1], re.M)
    for extra in extras[: extras.index("dev")]:
        assert plain(f"missing: pip install 'goalrank[{extra}]'") in out


def test_import_of_an_odd_file_into_an_odd_folder(goalrank, tmp_path):
    log, out = tmp_path / "log[1].csv", tmp_path / "runs[new]"
    exposures().write_csv(log)
    exposures().head(3).write_csv(tmp_path / "log1.csv")  # what log[1].csv names as a pattern
    done = goalrank(
        "data", "import", "exposures", log, "--out", out, "--columns",
        "time=time_ms", "--kinds", "is_click", "--set", "min_list=1",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert str(out) in done.stdout.replace("\n", "")
    assert "log[1]" in done.stdout
    assert "fault" not in done.stderr
    table = Requests.read(out / "train.parquet")
    assert table.info.dataset == "log[1]"
    assert len(table) > 3
    described = goalrank("data", "describe", out / "train.parquet")
    assert "log[1]" in described.stdout


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "csv.gz"])
def test_names_of_files_are_no_patterns(tmp_path, ending):
    frame = pl.DataFrame({"a": [1, 2]})
    file = tmp_path / f"log[1]*.{ending}"
    if ending == "parquet":
        frame.write_parquet(file)
    else:
        data = frame.write_csv(separator="\t" if ending == "tsv" else ",").encode()
        file.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    assert read_any(file).equals(frame)


def test_bundle_and_lists_in_odd_folders(goalrank, bundle, data, tmp_path):
    odd = tmp_path / "runs[new]"
    shutil.copytree(bundle, odd / "b[1]")
    shutil.copy(data / "test.parquet", odd / "test[1].parquet")
    out = odd / "lists[1].parquet"
    done = goalrank(
        "rank", "--bundle", odd / "b[1]", "--requests", odd / "test[1].parquet", "--out", out
    )
    assert done.exit_code == 0, done.output
    assert str(out) in done.stdout.replace("\n", "")
    assert pl.read_parquet(out, glob=False).height == 60


def test_report_of_an_odd_title(goalrank, bundle, data, tmp_path):
    report = tmp_path / "r[1].html"
    name = "a[new] <i>[red]"
    done = goalrank(
        "evaluate", "--bundle", f"{name}={bundle}", "--data", data, "--report", report,
        "--bootstrap", 5,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert name[:6] in done.stdout
    page = report.read_text(encoding="utf-8")
    assert html.escape(name) in page
    assert name not in page


def test_a_report_says_what_the_features_are(goalrank, bundle, data, tmp_path):
    table = Requests.read(data / "test.parquet")
    computed = ComputedFeatures(families=("popularity",), kinds=table.info.feedback_kinds)
    info = table.info.model_copy(update={"computed": computed})
    part = Requests(table.frame, items=table.items, users=table.users, info=info)
    part.write(tmp_path / "data" / "test.parquet")
    report = tmp_path / "report.html"
    done = goalrank(
        "evaluate", "--bundle", bundle, "--data", tmp_path / "data", "--report", report,
        "--bootstrap", 5,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    page = report.read_text(encoding="utf-8").replace("<wbr>", "")
    meaning = feature_meanings(computed)["log_popularity"]
    assert f"<dt>log_popularity</dt><dd>{meaning}</dd>" in page


def test_slots_of_an_evaluation_are_the_bundles(goalrank, bundle, data):
    done = goalrank("evaluate", "--bundle", bundle, "--data", data, "--bootstrap", 5, "--json")
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert json.loads(done.stdout)["metadata"]["slots"] == manifest["slots"] != 6


def test_completion(tmp_path):
    code = "from goalrank.cli import main; main()"
    environment = {
        **os.environ, "_GOALRANK_COMPLETE": "complete_bash", "COMP_WORDS": "goalrank data im",
        "COMP_CWORD": "2",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["import"]
    shown = CliRunner().invoke(app, ["--help"], env=WIDE).stdout
    assert "--install-completion" in shown
    assert "--show-completion" in shown


def test_start_loads_no_layout_library():
    code = (
        "import sys; sys.argv = ['goalrank', '--version']\n"
        "from goalrank.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('rich', 'polars', 'numpy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[1] == "[]"
