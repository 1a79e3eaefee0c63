"""Times of ranking: greedy decoding compared with a PRM pass, the authors' decoding and ONNX."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial

import torch

import authors_schedule
from goalrank.rankers import Ranker
from goalrank.requests import Batch
from timing import Compared, compare
from workloads import Sizes, make_models


def decoding(batch: int, pairs: int) -> tuple[Compared, Compared]:
    """Compare our greedy decoding with one PRM pass, and the authors' decoding with ours.

    Args:
        batch: B.
        pairs: number of pairs.

    Raises:
        RuntimeError: the two schedules emitted different lists.
    """
    models = make_models(Sizes(batch=batch))
    generator, slots = models.generator, models.sizes.slots
    rows = models.columns.batch(slice(0, batch))
    repeats = {1: 20, 16: 4}.get(batch, 1)
    with torch.inference_mode():
        if not torch.equal(
            generator.rank(rows, slots), authors_schedule.decode(generator, rows, slots)
        ):
            raise RuntimeError("the reference schedule and ours emit different lists")
        ours = ("goalrank", lambda: generator.rank(rows, slots))
        prm = compare(
            ours, ("prm", lambda: models.prm.scores(rows)), pairs, warm=5,
            repeats={"goalrank": repeats, "prm": repeats},
        )  # fmt: skip
        authors = compare(
            ("authors", lambda: authors_schedule.decode(generator, rows, slots)), ours,
            max(pairs // 2, 3), warm=2, repeats={"goalrank": repeats, "authors": max(repeats // 4, 1)},
        )  # fmt: skip
    return prm, authors


def onnx(pairs: int) -> Iterator[tuple[str, Compared]]:
    """Compare PyTorch's lists with those of the exported graph, at batch 1.

    Args:
        pairs: number of pairs.

    Yields:
        Name of the ranker, and the result.

    Raises:
        ImportError: the extra `onnx` is not installed.
    """
    from goalrank.bundles import ListGraph, export_graph
    from goalrank.errors import MissingExtraError

    models = make_models(Sizes(batch=1, history=20))
    rows = models.columns.batch(slice(0, 1))
    slots = models.sizes.slots
    for name, ranker in (("GoalRank", models.generator), ("PRM", models.prm)):
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = export_graph(ranker, models.columns, slots, f"{folder}/g.onnx")
                graph = ListGraph(path, threads=1)
        except MissingExtraError as error:
            raise ImportError(str(error)) from error
        with torch.inference_mode():
            yield name, compare(
                ("eager", partial(_eager, ranker, rows, slots)),
                ("onnx", partial(graph.rank, rows, slots)), pairs, warm=10,
                repeats={"eager": 20, "onnx": 20},
            )  # fmt: skip


def _eager(ranker: Ranker, rows: Batch, slots: int) -> None:
    """Lists and log-probabilities, which the graph gives too."""
    ranker.greedy(ranker.encode(rows), rows, slots)
