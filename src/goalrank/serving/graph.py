"""`ListGraph`: lists with their log-probabilities from one exported graph, in ONNX Runtime.

Inputs are the batch, the feature tables (so that new items' rows work), and what every slot may
take; the whole greedy decode lies in the graph.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from goalrank._version import __version__
from goalrank.errors import BundleError, ConfigError
from goalrank.rankers import Generator
from goalrank.requests import Batch, Encoder, EntityTable
from goalrank.serving.bundle import Bundle
from goalrank.serving.files import MANIFEST
from goalrank.serving.greedy import decodes_greedily, greedy_lists
from goalrank.serving.onnx import BATCH_INPUTS, dynamic, need, stretched, widened
from goalrank.serving.samples import made_up

Backend = Literal["torch", "onnx"]
_TABLES = tuple(f"{side}_{f.name}" for side in ("items", "users") for f in fields(EntityTable))
_FORMAT = 1  # of the inputs and outputs; part of a cached graph's name


class _Decode(nn.Module):
    """Batch, feature tables and open slots [B, L, N] in; lists and log-probabilities out."""

    def __init__(self, ranker: Generator, slots: int) -> None:
        super().__init__()
        self.ranker, self.slots = ranker, slots

    def forward(self, open_to: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip((*BATCH_INPUTS, *_TABLES), tensors, strict=True))
        items, users = (
            EntityTable(*(given.pop(f"{side}_{f.name}") for f in fields(EntityTable)))
            for side in ("items", "users")
        )
        nothing = given["candidates"].new_zeros((1, 0))
        batch = Batch(
            index=given["user"], key=given["user"], items=items, users=users, shown=nothing,
            feedback=nothing, relevance=nothing, observed=nothing, propensity=nothing, **given,
        )  # fmt: skip
        # N at least L, so that the number of steps is fixed; padding is never picked.
        memory = self.ranker.encode(widened(batch, self.slots))
        open_to = nn.functional.pad(open_to, (0, self.slots))
        return greedy_lists(self.ranker, memory, self.slots, open_to)


class ListGraph:
    """Greedy lists, and their exact log-probabilities, from an exported graph.

    Args:
        model: what `export_graph` wrote.
        threads: of the runtime.

    Raises:
        BundleError: not such a graph.
        MissingExtraError: the extra `onnx` is not installed.
    """

    def __init__(self, model: str | Path, threads: int = 1) -> None:
        runtime = need("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        try:
            self._session = runtime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
            self._inputs = [given.name for given in self._session.get_inputs()]
            self.slots = int(self._session.get_modelmeta().custom_metadata_map["slots"])
        except Exception as error:  # the runtime raises classes of its own
            raise BundleError(
                f"'{model}' cannot be read as an exported ranker ({str(error).splitlines()[0]}); "
                f"remedy: remove it, and it is exported again"
            ) from error

    def rank(
        self, batch: Batch, slots: int, open_to: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Lists [B, slots] and log-probabilities [B] in double precision.

        Args:
            slots: at most the graph's own.
            open_to: [B, slots, N] of `open_slots`; None allows everything.
        """
        may = np.zeros((batch.size, self.slots, batch.candidates.shape[1]), np.bool_)
        may[:, :slots] = True if open_to is None else open_to.numpy()
        given = {name: _input(batch, name) for name in self._inputs if name != "open_to"}
        lists, log_prob = self._session.run(None, given | {"open_to": may})
        return torch.from_numpy(lists[:, :slots]), torch.from_numpy(log_prob)


def _input(batch: Batch, name: str) -> Any:
    if name in _TABLES:
        side, _, field = name.partition("_")
        return getattr(getattr(batch, side), field).numpy()
    return getattr(batch, name).numpy()


def export_graph(bundle: Bundle, slots: int, path: str | Path) -> Path:
    """Write the graph of a bundle's greedy lists up to L slots, whole or not at all.

    The graph's lists are compared with PyTorch's on requests made up of the bundle's own ids.

    Raises:
        ConfigError: a ranker whose lists are not greedy decodes.
        BundleError: the graph emits other lists.
        MissingExtraError: the extra `onnx` is not installed.
    """
    onnx = need("onnx")
    need("onnxscript")
    ranker = bundle.ranker
    if not (isinstance(ranker, Generator) and decodes_greedily(ranker)):
        raise ConfigError(
            f"backend onnx serves greedy generators, but this bundle's ranker is "
            f"{bundle.config.name}; remedy: option: backend torch"
        )
    model = _program(ranker, bundle.encoder, slots)
    onnx.helper.set_model_props(model, {"slots": str(slots)})
    target = Path(path)
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(model.SerializeToString())
        _check(bundle, ListGraph(temporary))
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _program(ranker: Generator, encoder: Encoder, slots: int) -> Any:
    """The exported model, with B, N, H and the tables' rows left open."""
    sample = stretched(_batch(encoder, 2, 4))
    n = sample.candidates.shape[1]
    tensors = [torch.ones(2, slots, n, dtype=torch.bool)]
    tensors += [getattr(sample, name) for name in BATCH_INPUTS]
    tensors += [torch.from_numpy(_input(sample, name)) for name in _TABLES]
    open_dim = torch.export.Dim.DYNAMIC
    shapes = ({0: open_dim, 2: open_dim}, tuple(
        [dynamic(name) for name in BATCH_INPUTS] + [{0: open_dim} for _ in _TABLES]
    ))  # fmt: skip
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Decode(ranker.eval(), slots), tuple(tensors), dynamo=True, verbose=False,
            input_names=["open_to", *BATCH_INPUTS, *_TABLES], output_names=["lists", "log_prob"],
            dynamic_shapes=shapes,
        )  # fmt: skip
    if program is None:
        raise ConfigError("this PyTorch exported nothing; remedy: torch 2.6 or later")
    return program.model_proto


@torch.inference_mode()
def _check(bundle: Bundle, graph: ListGraph) -> None:
    ranker = bundle.ranker
    assert isinstance(ranker, Generator)
    for size in (1, 3, 40):
        batch = _batch(bundle.encoder, 3, size)
        want, value = greedy_lists(ranker, ranker.encode(batch), graph.slots)
        lists, log_prob = graph.rank(batch, graph.slots)
        if not torch.equal(want, lists) or not torch.allclose(value, log_prob, atol=1e-3):
            raise BundleError(
                "the exported graph emits other lists than PyTorch; remedy: option: backend torch"
            )


def _batch(encoder: Encoder, rows: int, most: int) -> Batch:
    return encoder.encode_flat(encoder.flat(made_up(encoder, rows, most))).batch(slice(0, rows))


def cached_graph(folder: str | Path) -> Path:
    """Where the graph of a bundle's folder is kept: named by the bundle's and the code's versions."""
    manifest = Path(folder) / MANIFEST
    text = manifest.read_bytes() + f"{_FORMAT} {__version__} {torch.__version__}".encode()
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "goalrank" / "onnx" / f"{hashlib.sha256(text).hexdigest()[:32]}.onnx"


def load_graph(folder: str | Path, *, export: bool, threads: int = 1) -> ListGraph | None:
    """The graph of a bundle's folder.

    Args:
        folder: that holds the manifest.
        export: make it where it is not kept yet, in a process of its own (seconds of work that
            must not hold up a server); several servers that want it make it once. False: None.

    Raises:
        BundleError: it cannot be exported, or emits other lists.
    """
    path = cached_graph(folder)
    if not path.is_file():
        if not export:
            return None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.is_file():
                    _export_apart(Path(folder), path)
        except OSError as error:
            raise BundleError(
                f"no ONNX graph can be kept in '{path.parent}' ({error}); remedy: set "
                f"XDG_CACHE_HOME to a folder that can be written, or option: backend torch"
            ) from error
    return ListGraph(path, threads)


def _export_apart(folder: Path, path: Path) -> None:
    code = "import sys; from goalrank.serving.graph import export_main; export_main(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no word of it"]
        raise BundleError(f"bundle '{folder}' has no ONNX graph: {lines[-1]}")


def export_main(folder: str, path: str) -> None:
    """Export a folder's bundle to a path; the work of the process apart."""
    os.nice(10)  # a server may be answering meanwhile
    bundle = Bundle.load(folder)
    export_graph(bundle, bundle.config.slots, path)
