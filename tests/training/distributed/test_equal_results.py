"""Two processes that torchrun would have started learn what one learns, however they are spread."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.multiprocessing.spawn import spawn

from goalrank.training import read_telemetry
from tests.training.distributed.ranks import CASES, Case, as_rank, run
from tests.training.distributed.same import assert_same_weights

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")


def check(cases: list[Case], folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(as_rank, (2, port, folder / "two", cases), nprocs=2)
    for case in cases:
        one, two = (
            run(case, folder / "one", several=False),
            read_telemetry(folder / "two" / case.name),
        )
        for figure, close in (("loss", 1e-5), ("grad_norm", 1e-4), ("val_score", 1e-5)):
            mine, theirs = ([r[figure] for r in rows if figure in r] for rows in (two, one))
            assert mine == pytest.approx(theirs, rel=close, abs=close), (case, figure)
        assert [row["loss"] for row in two if "loss" in row], case
        files = [folder / n / case.name / "weights.safetensors" for n in ("two", "one")]
        assert_same_weights(*(load_file(file) for file in files))


def test_supervised_model_with_a_spread_table(tmp_path):
    check([Case("prm", "ddp", True)], tmp_path)


@pytest.mark.slow
def test_every_stage_and_strategy(tmp_path):
    check(CASES, tmp_path)
