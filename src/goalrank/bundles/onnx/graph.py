"""`ListGraph`: lists with their log-probabilities from one exported graph, in ONNX Runtime.

Inputs are the batch, the feature tables (so that new items' rows work), and what every slot may
take; the whole greedy decode is in the graph. `goalrank.bundles.onnx.export` writes it.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from goalrank._version import __version__
from goalrank.bundles.manifest import MANIFEST
from goalrank.errors import BundleError, MissingExtraError
from goalrank.requests import Batch, EntityTable
from goalrank.storage import holding

Backend = Literal["torch", "onnx"]
TABLES = tuple(f"{side}_{f.name}" for side in ("items", "users") for f in fields(EntityTable))
_FORMAT = 1  # of the inputs and outputs; part of a cached graph's name


def need(module: str) -> Any:
    """Import a module of the extra `onnx`, or say which extra is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError("ONNX export", "onnx") from error


class ListGraph:
    """Greedy lists, and their exact log-probabilities, from an exported graph.

    Args:
        model: what `goalrank.bundles.onnx.export` wrote.
        threads: of the runtime.

    Raises:
        BundleError: not such a graph.
        MissingExtraError: the extra `onnx` is not installed.
    """

    def __init__(self, model: str | Path, threads: int = 1) -> None:
        runtime = need("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # An arena grows with the largest batch ever seen, and is never given back.
        options.enable_cpu_mem_arena = False
        try:
            self._session = runtime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
            self._inputs = [given.name for given in self._session.get_inputs()]
            self.slots = int(self._session.get_modelmeta().custom_metadata_map["slots"])
        except Exception as error:  # the runtime raises its own classes
            raise BundleError(
                f"'{model}' cannot be read as an exported ranker ({str(error).splitlines()[0]}); "
                f"remedy: remove it, and it is exported again"
            ) from error

    def rank(
        self, batch: Batch, slots: int, open_to: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Lists [B, slots] and log-probabilities [B] in double precision.

        Args:
            batch: the encoded requests.
            slots: at most the graph's own.
            open_to: [B, slots, N] of `open_slots`; None allows everything.
        """
        may = np.zeros((batch.size, self.slots, batch.candidates.shape[1]), np.bool_)
        may[:, :slots] = True if open_to is None else open_to.numpy()
        given = {name: graph_input(batch, name) for name in self._inputs if name != "open_to"}
        lists, log_prob = self._session.run(None, given | {"open_to": may})
        return torch.from_numpy(lists[:, :slots]), torch.from_numpy(log_prob)


def graph_input(batch: Batch, name: str) -> Any:
    """A batch's array for an input of the graph."""
    if name in TABLES:
        side, _, field = name.partition("_")
        return getattr(getattr(batch, side), field).numpy()
    return getattr(batch, name).numpy()


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
        export: make the graph where it is not kept yet, in a separate process (seconds of work
            that must not hold up a server); several servers make it only once. False: return None
            then.
        threads: of the ONNX runtime.

    Raises:
        BundleError: it cannot be exported, or emits other lists.
    """
    path = cached_graph(folder)
    if not path.is_file():
        if not export:
            return None
        try:
            with holding(path.with_suffix(".lock")):
                if not path.is_file():
                    _export_apart(Path(folder), path)
        except OSError as error:
            raise BundleError(
                f"no ONNX graph can be kept in '{path.parent}' ({error}); remedy: set "
                f"XDG_CACHE_HOME to a folder that can be written, or option: backend torch"
            ) from error
    return ListGraph(path, threads)


def _export_apart(folder: Path, path: Path) -> None:
    code = "import sys; from goalrank.bundles.onnx.export import export_main; export_main(*sys.argv[1:])"
    done = subprocess.run(  # noqa: S603  this Python, no shell
        [sys.executable, "-c", code, str(folder), str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no word of it"]
        raise BundleError(f"bundle '{folder}' has no ONNX graph: {lines[-1]}")
