"""Settings of a server: one declaration for Python, options, environment, file and workers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

import goalrank.serving.http.server as http_server
from goalrank.cli.application import app
from goalrank.errors import ConfigError
from goalrank.serving import DEFAULT_STORE, ServeSettings
from goalrank.settings import checked


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("GOALRANK_"):
            monkeypatch.delenv(name)


def settings(**given: object) -> ServeSettings:
    return checked(ServeSettings, given, "the server", "see --help")


def test_keywords_win_over_environment_over_file_over_defaults(tmp_path, monkeypatch):
    file = tmp_path / "server.toml"
    file.write_text('bundle = "b"\nport = 1\nthreads = 2\nrate = 3.0\nitems = "/a/items.parquet"\n')
    monkeypatch.setenv("GOALRANK_SERVE_THREADS", "4")
    monkeypatch.setenv("GOALRANK_SERVE_PORT", "5")
    monkeypatch.setenv("GOALRANK_SERVE_TRACE", "true")
    found = settings(port=6, settings=file)
    assert (found.port, found.threads, found.rate) == (6, 4, 3.0)
    assert found.trace
    assert found.deadline == 0.5
    assert found.store == DEFAULT_STORE
    assert found.bundle == tmp_path / "b"  # from the file's own folder
    assert found.items == Path("/a/items.parquet")
    monkeypatch.setenv("GOALRANK_SERVE_SETTINGS", str(file))
    assert settings() == found.model_copy(update={"port": 5})


def test_earlier_names_of_the_environment_still_count(monkeypatch):
    monkeypatch.setenv("GOALRANK_STORE", "none")
    monkeypatch.setenv("GOALRANK_RATE", "7")
    assert (settings(bundle="b").store, settings(bundle="b").rate) == (None, 7.0)
    monkeypatch.setenv("GOALRANK_SERVE_STORE", "sqlite:///new.db")
    assert settings(bundle="b").store == "sqlite:///new.db"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('bundle = "b"\nport = 0\n', r"port = 0: .*greater than or equal to 1"),
        ('bundle = "b"\nbackend = "onx"\n', r"backend = 'onx': .*did you mean 'onnx'"),
        ('bundle = "b"\ntreads = 1\n', r"treads = 1: no such setting; did you mean 'threads'"),
        ("port = 1\n", "bundle: must be given"),
        ("port = \n", "is not TOML"),
    ],
)
def test_a_faulty_file_is_refused(tmp_path, text, fault):
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=fault):
        settings(settings=file)


def test_an_absent_file_names_the_option(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml.*option: settings"):
        settings(bundle="b", settings=tmp_path / "absent.toml")


def serve(monkeypatch, *options: object) -> ServeSettings:
    """What `goalrank serve` would run with."""
    seen: list[ServeSettings] = []
    monkeypatch.setattr(http_server, "run_server", lambda settings, say: seen.append(settings))
    result = CliRunner().invoke(app, ["serve", *map(str, options)])
    assert result.exit_code == 0, result.output
    return seen[0]


def test_every_option_reaches_its_field(monkeypatch):
    given = {
        "bundle": "b", "host": "::1", "port": 9, "workers": 2, "store": "none", "experiments": "e",
        "rules": "r", "items": "i", "users": "u", "examples": "x", "temperature": 0.5, "seed": 3,
        "backend": "torch", "threads": 4, "deadline": 0.1, "on_store_failure": "serve-unlogged",
        "rate": 2.5, "max_body": 2048, "watch": 0.2, "missing": "mean", "store_timeout": 2.0,
        "log_level": "error", "log_format": "json", "state": "s", "keep_alive": 90.0,
    }  # fmt: skip
    options = [each for name, value in given.items()
               for each in (f"--{name.replace('_', '-')}", value)]  # fmt: skip
    plugins = ("--allow-plugin", "one", "--allow-plugin", "two")
    hosts = ("--allowed-host", "a.example", "--allowed-host", "*.b.example")
    flags = ("--trace", "--insecure", "--no-access-log")
    found = serve(monkeypatch, *options, *flags, *plugins, *hosts)
    assert found == settings(
        **given, trace=True, insecure=True, no_access_log=True, allow_plugins=("one", "two"),
        allowed_hosts=("a.example", "*.b.example"),
    )  # fmt: skip
    others = {"trace", "allow_plugins", "settings", "insecure", "no_access_log", "allowed_hosts"}
    others.add("models")  # instead of bundle
    assert set(given) | others == set(ServeSettings.model_fields)


def test_a_registry_is_served_by_its_champion(monkeypatch, tmp_path):
    served = tmp_path / "models" / "champion"
    told = serve(monkeypatch, "--models", tmp_path / "models")
    assert told.bundle == served
    assert ServeSettings.model_validate_json(told.model_dump_json()) == told  # as workers read it
    (tmp_path / "server.toml").write_text('models = "models"')  # from the file's own folder
    assert serve(monkeypatch, "--settings", tmp_path / "server.toml").bundle == served
    result = CliRunner().invoke(app, ["serve", "--models", "m", "--bundle", "b"])
    assert result.exit_code == 2
    assert "give one of them" in result.output


def test_packages_of_the_environment_are_parted_by_commas(monkeypatch):
    monkeypatch.setenv("GOALRANK_SERVE_ALLOW_PLUGINS", "one, two,")
    assert settings(bundle="b").allow_plugins == ("one", "two")


def test_what_is_no_option_comes_from_environment_or_file(monkeypatch, tmp_path):
    file = tmp_path / "server.toml"
    file.write_text("threads = 3\nworkers = 2\n")
    monkeypatch.setenv("GOALRANK_SERVE_WORKERS", "4")
    found = serve(monkeypatch, "--bundle", "b", "--settings", file)
    assert (found.threads, found.workers, found.rate) == (3, 4, None)


def test_workers_read_what_the_command_was_told(monkeypatch):
    told = settings(bundle="b", store="none", rate=2.0, threads=3)
    monkeypatch.setenv("GOALRANK_SERVE_RATE", "9")
    monkeypatch.setenv("GOALRANK_SERVE_TEMPERATURE", "9")
    assert ServeSettings.model_validate_json(told.model_dump_json()) == told
