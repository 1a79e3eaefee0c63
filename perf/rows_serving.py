"""Times of ranking: greedy decoding compared with a PRM pass, the authors' decoding and ONNX; GPU."""

from __future__ import annotations

import tempfile
import time

import torch

import authors_schedule
from goalrank.rankers import parameter_count
from goalrank.requests import Batch
from timing import Compared, compare, once
from workloads import Sizes, group_task, make_models, make_step


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


def onnx(pairs: int) -> Compared:
    """Compare PyTorch's greedy decoding with the exported graph, at batch 1.

    Args:
        pairs: number of pairs.

    Raises:
        ImportError: the extra `onnx` is not installed.
    """
    from goalrank.bundles import ListGraph, export_graph
    from goalrank.errors import MissingExtraError

    models = make_models(Sizes(batch=1, history=20))
    rows = models.columns.batch(slice(0, 1))
    slots = models.sizes.slots
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = export_graph(models.generator, models.columns, slots, f"{folder}/g.onnx")
            exported = ListGraph(path, threads=1)
    except MissingExtraError as error:
        raise ImportError(str(error)) from error
    with torch.inference_mode():
        return compare(
            ("eager", lambda: models.generator.rank(rows, slots)),
            ("onnx", lambda: exported.rank(rows, slots)), pairs, warm=10,
            repeats={"eager": 20, "onnx": 20},
        )  # fmt: skip


def product_rate(device: str = "cuda", size: int = 8192) -> float:
    """Measure the device's bf16 FLOPs per second on large square products.

    Args:
        device: the device.
        size: rows and columns of the matrices.
    """
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)

    def work() -> None:
        for _ in range(10):
            a @ a
        torch.cuda.synchronize()

    once(work, 3)
    return 10 * 2 * size**3 / once(work, 5)


def gpu(pairs: int) -> tuple[float, float]:
    """Measure a training step and a ranking at about 0.1 B parameters on a GPU.

    FLOPs are counted as 6 per parameter outside the embeddings and per token (candidate), the usual
    convention. The work of the decoder and of the reward is left out, so the true utilisation is
    higher.

    Args:
        pairs: number of training steps.

    Returns:
        FLOPs utilisation of a training step, and p99 milliseconds of ranking a batch of 256.
    """
    sizes = Sizes(batch=512, width=1024, layers=8, heads=16, history=20)
    models = make_models(sizes, 1024)
    for module in (models.generator, models.reward, models.prm):
        module.to("cuda")
    task = group_task(models)
    task.to("cuda")
    columns = models.columns

    def loss(batch: Batch) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            value = task.training_step(batch.to("cuda"), 0)
        assert isinstance(value, torch.Tensor)
        return value

    step = make_step(task, columns, sizes.batch, loss)

    def synchronised() -> None:
        step()
        torch.cuda.synchronize()

    once(synchronised, 3)
    seconds = once(synchronised, pairs)
    ids = models.generator.encoder.items.ids
    dense = parameter_count(models.generator) - (0 if ids is None else ids.weight.numel())
    used = 6 * dense * sizes.batch * sizes.candidates / seconds / product_rate()
    rows = columns.batch(slice(0, 256)).to("cuda")
    times = []
    models.generator.eval()
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        for _ in range(200):
            start = time.perf_counter()
            models.generator.rank(rows, sizes.slots)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return used, sorted(times[20:])[int(180 * 0.99)] * 1e3
