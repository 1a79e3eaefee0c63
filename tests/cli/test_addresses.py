"""Every command either takes an address for a path, or refuses it before any work."""

from __future__ import annotations

import inspect
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import fsspec
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from goalrank.cli import app
from goalrank.errors import ConfigError
from goalrank.requests import Requests
from goalrank.serving import ServeSettings, Service
from tests.bundles.kit import make_bundle
from tests.tables import make_table

TAKEN = {
    ("rank", "bundle"), ("rank", "requests"), ("rank", "out"), ("train", "data"),
    ("evaluate", "bundle"), ("evaluate", "data"), ("audit", "data"), ("ope", "bundle"),
    ("ope", "log"), ("ope", "model"), ("ope", "logging"), ("ab plan", "log"),
    ("data import", "path"), ("data import", "out"), ("data import", "feedback"),
    ("data preview", "file"), ("data preview", "feedback"), ("data validate", "file"),
    ("data describe", "file"), ("world sample", "policy"), ("world fit", "data"),
}  # fmt: skip


def verbs(group: typer.Typer = app, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command's name and function."""
    for each in group.registered_commands:
        name = each.name or str(getattr(each.callback, "__name__", "")).strip("_")
        yield f"{before} {name}".strip(), each.callback
    for below in group.registered_groups:
        assert below.typer_instance is not None
        yield from verbs(below.typer_instance, f"{before} {below.name}".strip())


def parameters(verb: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(dict(verbs())[verb], eval_str=True).parameters)


def kinds(annotation: Any) -> list[Any]:
    """The types that an annotation is made of."""
    parts = get_args(annotation) or (annotation,)
    return [annotation] if parts == (annotation,) else [k for part in parts for k in kinds(part)]


def command(verb: str, name: str, value: str) -> list[str]:
    """Words of a command with one parameter's value, and any value for what else it needs."""
    words, told = verb.split(), parameters(verb)
    for each in told.values():
        described = each.annotation.__metadata__[0]
        given = value if each.name == name else "1"
        if type(described).__name__ == "ArgumentInfo":
            words.append(given)
        elif each.name == name or each.default is inspect.Parameter.empty:
            words += [f"--{each.name.replace('_', '-')}", given]
    return words


PATHS = [
    pytest.param(verb, name, id=f"{verb} {name}")
    for verb, _ in verbs()
    for name, each in parameters(verb).items()
    if Path in kinds(each.annotation)
]


def test_the_tree_is_walked():
    refusing = {each.values for each in PATHS}
    assert len(refusing) > 40
    assert not refusing & TAKEN
    assert {(verb, name) for verb, _ in verbs() for name in parameters(verb)} > TAKEN


@pytest.mark.parametrize(("verb", "name"), PATHS)
def test_a_path_of_this_machine_is_no_address(verb, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address = f"memory://nowhere/{name}"
    done = CliRunner().invoke(app, command(verb, name, address))
    assert done.exit_code == 2, done.output
    assert f"'{address}' is an address" in done.output
    assert f"option: {name.replace('_', '-')}" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def store() -> str:
    """A store in memory with a log, a bundle and an import's folder."""
    base = f"memory://{uuid.uuid4().hex}"
    return base


@pytest.fixture(scope="module")
def filled(store, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("filled")
    make_bundle(reward=False).save(folder / "bundle")
    for seed, part in enumerate(("train", "validation", "test")):
        make_table(60, seed=seed).write(folder / "data" / f"{part}.parquet")
    system, base = fsspec.core.url_to_fs(store)
    system.put(str(folder), base, recursive=True)
    return store


def run(*words: object) -> Any:
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_lists_come_from_and_go_to_a_store(filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = ("--bundle", f"{filled}/bundle", "--requests", f"{filled}/data/test.parquet")
    assert run("rank", *told, "--out", f"{filled}/lists.parquet")["requests"] == 60
    with fsspec.open(f"{filled}/lists.parquet", "rb") as file:
        lists = pl.read_parquet(file)
    wanted = make_bundle(reward=False).rank(make_table(60, seed=2))
    assert lists.equals(wanted)
    assert list(tmp_path.iterdir()) == []


def test_a_training_reads_a_store(filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = ("light_loop.steps=1", "reward.loop.steps=1", "training.steps=1", "light=['dnn']")
    told = [word for each in (*quick, "ranker.slots=4") for word in ("--set", each)]
    done = run("train", f"{filled}/data", "--out", "first", "--accelerator", "cpu", *told)
    assert done["train"]["requests"] == 60
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_measurements_read_a_store(filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, bundle = f"{filled}/data", f"{filled}/bundle"
    local = tmp_path / "local"
    for part in ("train", "validation", "test"):
        Requests.read(f"{data}/{part}.parquet").write(local / f"{part}.parquet")
    assert (local / "items.parquet").is_file(), "side tables come with a table"
    for verb, words in (("audit", ()), ("evaluate", ("--bundle", f"a={bundle}"))):
        remote, here = (
            run(verb, *(("--data", place) if words else (place,)), *words, "--bootstrap", 20)
            for place in (data, local)
        )
        assert {**remote, "metadata": None} == {**here, "metadata": None}  # it holds seconds
    assert run("data", "describe", f"{data}/test.parquet")["requests"] == 60
    assert run("data", "validate", f"{data}/test.parquet")["faults"] == []


def test_an_import_goes_to_a_store(filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ["request_id,user_id,item_id,time,click"]
    for day in range(1, 21):
        rows += [f"r{day},u{day % 3},{i},2026-01-{day:02d}T10:00:00Z,{int(i == day % 4)}"
                 for i in range(4)]  # fmt: skip
    Path("log.csv").write_text("\n".join(rows) + "\n")
    limits = ("--set", "min_list=1", "--set", "min_test_list=1")
    run("data", "import", "exposures", "log.csv", "--out", f"{filled}/mine", *limits)
    run("data", "import", "exposures", "log.csv", "--out", "mine", *limits)
    for part in ("train", "validation", "test"):
        there = Requests.read(f"{filled}/mine/{part}.parquet")
        assert there.frame.equals(Requests.read(f"mine/{part}.parquet").frame)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "mine"]


@pytest.mark.parametrize(
    "words",
    [
        ("data", "import", "exposures", "log.csv", "--out", "nowhere://x"),
        ("rank", "--bundle", "b", "--requests", "r.parquet", "--out", "nowhere://x.parquet"),
        ("rank", "--bundle", "nowhere://x", "--requests", "r.parquet", "--out", "l.parquet"),
        ("train", "nowhere://x", "--out", "o"),
        ("evaluate", "--bundle", "nowhere://x", "--data", "d"),
    ],
    ids=" ".join,
)
def test_an_unknown_protocol_is_refused_before_any_work(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 2, done.output
    assert "nowhere" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["bundle", "settings", "rules", "items", "examples"])
def test_a_servers_settings_refuse_addresses_wherever_they_stand(name, monkeypatch):
    told: dict[str, Any] = {"bundle": "b", name: "s3://bucket/x"}
    with pytest.raises(ConfigError, match=f"'s3://bucket/x'.*option: {name}"):
        ServeSettings(**told)
    monkeypatch.setenv(f"GOALRANK_SERVE_{name.upper()}", "s3://bucket/x")
    with pytest.raises(ConfigError, match=f"option: {name}"):
        ServeSettings(**{key: value for key, value in told.items() if key != name})


def test_the_library_refuses_what_it_cannot_write(tmp_path, monkeypatch):
    from goalrank.api import fit

    monkeypatch.chdir(tmp_path)
    bundle, table = make_bundle(reward=False), make_table(4)
    for write, option in (
        (lambda place: bundle.save(place), "folder"),
        (lambda place: table.write(place), "path"),
        (lambda place: Requests.append(place, table), "path"),
        (lambda place: fit(table, out=place), "out"),
        (lambda place: Service(place), "bundle"),
        (lambda place: bundle.rank_file("r.parquet", place), "out"),
    ):
        for place in ("s3://bucket/x.parquet", Path("s3://bucket/x.parquet")):
            with pytest.raises(ConfigError, match=f"is an address.*option: {option}"):
                write(place)
    assert list(tmp_path.iterdir()) == []
