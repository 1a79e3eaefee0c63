"""The whole greedy decode of a generator as one ONNX graph, and a ranker that runs it."""

from __future__ import annotations

import importlib
import os
import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from goalrank.errors import BundleError, ConfigError, MissingExtraError
from goalrank.rankers import Generator, Ranker
from goalrank.requests import Batch, Columns, EntityTable

# Inputs in this order; all of a batch that a generator reads.
BATCH_INPUTS = (
    "user", "history", "history_mask", "history_feedback", "history_age", "candidates",
    "candidate_mask", "candidate_score", "candidate_features",
)  # fmt: skip


class _Greedy(nn.Module):
    """Batch tensors in, lists [B, L] out; the feature tables are constants of the graph."""

    def __init__(self, ranker: Generator, items: EntityTable, users: EntityTable, slots: int):
        super().__init__()
        self.ranker = ranker
        self.slots = slots
        for side, table in (("items", items), ("users", users)):
            for f in fields(EntityTable):
                self.register_buffer(f"{side}_{f.name}", getattr(table, f.name), persistent=False)

    def _table(self, side: str) -> EntityTable:
        return EntityTable(*(getattr(self, f"{side}_{f.name}") for f in fields(EntityTable)))

    def forward(self, *tensors: Tensor) -> Tensor:
        given = dict(zip(BATCH_INPUTS, tensors, strict=True))
        user, candidates = given["user"], given["candidates"]
        nothing = candidates.new_zeros((1, 0))
        batch = Batch(
            index=user, key=user, items=self._table("items"), users=self._table("users"),
            shown=nothing, feedback=nothing, relevance=nothing, observed=nothing,
            propensity=nothing, **given,
        )  # fmt: skip
        # N at least L, so that the number of steps is fixed; padding is never picked.
        memory = self.ranker.encode(widened(batch, self.slots))
        return self.ranker.decode(memory, self.slots).squeeze(1)


def widened(batch: Batch, slots: int) -> Batch:
    """The batch with L more, empty candidates, which changes no list."""
    names = [name for name in BATCH_INPUTS if name.startswith("candidate")]
    wide: dict[str, Any] = {}
    for name in names:
        x = getattr(batch, name)
        pad = (0, 0, 0, slots) if x.dim() == 3 else (0, slots)
        wide[name] = nn.functional.pad(x, pad)
    return replace(batch, **wide)


def need(module: str) -> Any:
    """Import a module of the extra `onnx`, or say which extra is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError("ONNX export", "onnx") from error


def export_onnx(
    ranker: Ranker, columns: Columns, slots: int, path: str | Path | None = None
) -> bytes:
    """Encoder, cache and all L steps as one graph with dynamic B, N and H.

    Args:
        ranker: a generator that decodes greedily.
        columns: any encoded requests; their feature tables become constants of the graph.
        slots: L, fixed in the graph.
        path: written there as well, whole or not at all.

    Returns:
        The serialised model, weights included (below ONNX's 2 GiB).

    Raises:
        ConfigError: a ranker of another kind, or one with a beam.
        MissingExtraError: the extra `onnx` is not installed.
    """
    need("onnx")
    need("onnxscript")
    if not isinstance(ranker, Generator) or ranker.beam > 1:
        raise ConfigError(
            f"{type(ranker).__name__} cannot be exported: only greedy generators can; remedy: "
            f"ranker.name goalrank with ranker.beam 1"
        )
    if slots < 1 or len(columns) == 0:
        raise ConfigError(f"slots = {slots} and {len(columns)} requests: both must be at least 1")
    sample = stretched(columns.batch([0, len(columns) - 1]))
    module = _Greedy(ranker.eval(), sample.items, sample.users, slots)
    tensors = tuple(getattr(sample, name) for name in BATCH_INPUTS)
    shapes = tuple(dynamic(name) for name in BATCH_INPUTS)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, tensors, dynamo=True, input_names=list(BATCH_INPUTS), output_names=["lists"],
            dynamic_shapes=(shapes,), verbose=False,
        )  # fmt: skip
    if program is None:
        raise ConfigError("this PyTorch exported nothing; remedy: torch 2.6 or later")
    data: bytes = program.model_proto.SerializeToString()
    if path is not None:
        target = Path(path)
        temporary = target.with_name(target.name + ".tmp")
        temporary.write_bytes(data)
        os.replace(temporary, target)
    return data


def dynamic(name: str) -> dict[int, Any]:
    """Sizes of a batch's tensor that the graph leaves open."""
    dim = torch.export.Dim.DYNAMIC
    return {0: dim} if name == "user" else {0: dim, 1: dim}


def stretched(batch: Batch) -> Batch:
    """At least two of each dynamic size: a size of 1 would be taken for a constant."""
    wide: dict[str, Any] = {}
    for name in BATCH_INPUTS:
        x = getattr(batch, name)
        if x.dim() > 1 and x.shape[1] < 3:
            pad = (0, 0, 0, 3 - x.shape[1]) if x.dim() == 3 else (0, 3 - x.shape[1])
            wide[name] = nn.functional.pad(x, pad)
    return replace(batch, **wide)


class OnnxRanker:
    """Greedy lists from an exported graph, equal to the generator's own.

    Args:
        model: what `export_onnx` returned, or a file of it.
        threads: of the runtime.

    Raises:
        BundleError: not an exported generator.
        MissingExtraError: the extra `onnx` is not installed.
    """

    def __init__(self, model: bytes | str | Path, threads: int = 1) -> None:
        runtime = need("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = runtime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
            self._inputs = [given.name for given in self._session.get_inputs()]
        except Exception as error:  # the runtime raises classes of its own
            name = "the given bytes" if isinstance(model, bytes) else f"'{model}'"
            raise BundleError(
                f"{name} cannot be read as an exported ranker ({str(error).splitlines()[0]}); "
                f"remedy: export it again"
            ) from error

    def rank(self, batch: Batch) -> Tensor:
        """Lists [B, L]: positions on the N axis, -1 where fewer than L candidates."""
        given = {name: getattr(batch, name).numpy() for name in self._inputs}
        return torch.from_numpy(self._session.run(None, given)[0])
