"""The exported graph emits the generator's own lists, at any B, N and H."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from goalrank.errors import BundleError, ConfigError, MissingExtraError
from goalrank.rankers import Generator
from goalrank.serving import OnnxRanker, export_onnx
from goalrank.serving import onnx as room
from tests.rankers.kit import SMALL, make_ranker, padded, rich_columns, shake, spec_of

COLUMNS = rich_columns(9, 7, seed=3)


def generator() -> Generator:
    torch.manual_seed(0)
    model = Generator(spec_of(COLUMNS), replace(SMALL, dropout=0.0), 4)
    shake(model, size=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generator, Path]:
    pytest.importorskip("onnx", reason="extra onnx: onnx")
    pytest.importorskip("onnxscript", reason="extra onnx: onnxscript")
    pytest.importorskip("onnxruntime", reason="extra onnx: onnxruntime")
    model, path = generator(), tmp_path_factory.mktemp("onnx") / "ranker.onnx"
    assert path.parent.exists()
    data = export_onnx(model, COLUMNS, 5, path)
    assert path.read_bytes() == data
    assert [p.name for p in path.parent.iterdir()] == ["ranker.onnx"]
    return model, path


@torch.no_grad()
def test_lists_equal_the_generators(exported):
    model, path = exported
    runner = OnnxRanker(path)
    short = 0
    for rows in ([0], [1, 2], list(range(9)), [8]):
        for more in (0, 3):
            batch = padded(COLUMNS.batch(rows), more) if more else COLUMNS.batch(rows)
            want = model.rank(batch, 5)
            assert torch.equal(runner.rank(batch), want)
            short += int((want < 0).any())
    assert short > 0  # requests with fewer candidates than slots were among them


def test_what_is_no_export_is_refused(exported):
    with pytest.raises(BundleError, match="export it again"):
        OnnxRanker(b"not a graph")


def test_only_greedy_generators_are_exported(exported):
    with pytest.raises(ConfigError, match="only greedy generators"):
        export_onnx(make_ranker("prm", COLUMNS), COLUMNS, 4)
    beam = generator()
    beam.beam = 3
    with pytest.raises(ConfigError, match=r"ranker\.beam 1"):
        export_onnx(beam, COLUMNS, 4)


def test_without_the_extra_it_is_named(monkeypatch):
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(room.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"goalrank\[onnx\]"):
        export_onnx(generator(), COLUMNS, 4)
