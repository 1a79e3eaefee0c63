"""Bundles that change under a server: whatever is put there, the next good one is served."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from goalrank.bundles import Bundle, Predictor, manifest
from goalrank.errors import BundleError
from goalrank.serving.http.app import create_app
from goalrank.serving.ranking.service import Service
from tests.bundles.kit import make_bundle
from tests.serving.http.test_app import body


def put(path: Path, content: bytes) -> None:
    """Replace a file whole, so that the watcher sees one fault."""
    path.with_name("new").write_bytes(content)
    path.with_name("new").replace(path)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest, with a checksum that fits."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    content["checksum"] = manifest._checksum(content)
    put(path, json.dumps(content).encode())


def cut_off(folder: Path) -> None:
    path = folder / "ranker.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    rewrite(folder, lambda m: m["files"].update({path.name: manifest.sha256(path)}))


def names_a_file_elsewhere(folder: Path) -> None:
    digest = manifest.sha256(Path("/etc/hostname"))
    rewrite(folder, lambda m: m["files"].update({"../" * 30 + "etc/hostname": digest}))


BROKEN: dict[str, Callable[[Path], object]] = {
    "a missing key": lambda f: rewrite(f, lambda m: m.pop("reward")),
    "too deep": lambda f: put(f / "manifest.json", b"[" * 200_000),
    "no text": lambda f: put(f / "manifest.json", b"\xff\xfe\x00"),
    "an absurd width": lambda f: rewrite(f, lambda m: m["ranker"].update(width=1_000_000)),
    "settings of another type": lambda f: rewrite(f, lambda m: m.update(ranker=7)),
    "weights cut off": cut_off,
    "a file elsewhere": names_a_file_elsewhere,
    "no folder": lambda f: f.rename(f.with_name("away")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_watcher_outlives_any_bundle(tmp_path, caplog, name):
    folder = make_bundle(reward=False).save(tmp_path / "b")
    service = Service(folder, deadline=10.0)
    with (
        caplog.at_level(logging.ERROR, "goalrank.serving"),
        TestClient(create_app(service, watch=0.02)) as client,
    ):
        first = client.post("/v1/rank", json=body(0)).json()["policy"]
        BROKEN[name](folder)
        end = time.monotonic() + 20
        while not (warned := client.get("/health/ready").json()["warnings"]):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert "cannot be served, the old one stays" in warned[0]
        assert client.post("/v1/rank", json=body(1)).json()["policy"] == first
        time.sleep(0.2)
        failures = client.get("/metrics").text.split("\ngoalrank_reload_failures_total ")[1]
        assert float(failures.split("\n")[0]) >= 2
        said = [r for r in caplog.records if "cannot be served" in r.getMessage()]
        # Weights change before their manifest does: two faults, each said once.
        assert len(said) == len({r.getMessage() for r in said}) <= 2
        make_bundle("dnn", reward=False).save(tmp_path / "new")
        if folder.exists():
            folder.rename(tmp_path / "old")
        (tmp_path / "new").rename(folder)
        end = time.monotonic() + 20
        while client.post("/v1/rank", json=body(2)).json()["policy"] == first:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert client.get("/health/ready").json()["warnings"] == []
        served = client.get("/v1/models").json()["models"][0]["policy"]
        assert f'goalrank_bundle{{bundle="default",version="{served}"}} 1.0' in (
            client.get("/metrics").text
        )


@pytest.mark.parametrize("name", BROKEN)
def test_every_broken_bundle_is_a_bundle_error(tmp_path, name):
    folder = make_bundle(reward=False).save(tmp_path / "b")
    BROKEN[name](folder)
    with pytest.raises(BundleError, match="remedy"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("slower", "most", "sizes"),
    [("onnx", 0, {1, 4}), ("torch", 32, {1, 4, 16, 32}), ("large batches", 4, {1, 4, 16})],
)
def test_the_faster_backend_ranks(monkeypatch, slower, most, sizes):
    """What each backend takes is planted; the choice must follow it."""
    predictor = Predictor(make_bundle(reward=False))

    def seconds(self, rows):
        if self.graph is None:
            return 1.0
        return {"onnx": 2.0, "torch": 0.5, "large batches": 0.2 * len(rows)}[slower]

    monkeypatch.setattr(Predictor, "_seconds", seconds)

    class Graph:
        slots = predictor.slots

    predictor.graph = Graph()  # type: ignore[assignment]
    measured = predictor.choose_backend()
    assert set(measured) == sizes
    assert predictor.graph_most == most
    for size in (1, 4, 16, 32):
        wanted = "onnx" if size <= most else "torch"
        assert predictor.backend([None] * size, predictor.slots, None) == wanted


def test_a_bundle_that_is_replaced_while_it_is_loaded_is_loaded_anew(tmp_path, monkeypatch):
    """What was read of the first bundle was served under the name of the second."""
    folder = make_bundle().save(tmp_path / "bundle")
    other = make_bundle(slots=3).save(tmp_path / "other")
    wanted = f"goalrank@{hashlib.sha256((other / 'manifest.json').read_bytes()).hexdigest()[:12]}"
    loads: list[Bundle] = []
    load = Bundle.load

    def replaced_meanwhile(path: Path, **options: Any) -> Bundle:
        loads.append(load(path, **options))
        if len(loads) == 1:
            folder.rename(tmp_path / "away")
            other.rename(folder)
        return loads[-1]

    monkeypatch.setattr(Bundle, "load", replaced_meanwhile)
    service = Service(folder)
    try:
        predictor = service.predictors["default"]
        assert predictor.name == wanted
        assert predictor.bundle is loads[-1]
        assert len(loads) == 2
    finally:
        service.close()


def test_a_bundle_that_is_replaced_at_every_load_is_refused(tmp_path, monkeypatch):
    folder = make_bundle().save(tmp_path / "bundle")
    load = Bundle.load

    def touched(path: Path, **options: Any) -> Bundle:
        found = load(path, **options)
        manifest = folder / "manifest.json"
        put(manifest, manifest.read_bytes())
        return found

    monkeypatch.setattr(Bundle, "load", touched)
    with pytest.raises(BundleError, match="replaced 5 times"):
        Service(folder)
