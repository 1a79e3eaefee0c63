"""The whole greedy decode of a generator as one ONNX graph, with each list's log-probability."""

from __future__ import annotations

import os
import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from goalrank.bundles.bundle import Bundle
from goalrank.bundles.onnx.graph import TABLES, ListGraph, cached_graph, graph_input, need
from goalrank.bundles.synthetic import synthetic_requests
from goalrank.errors import BundleError, ConfigError
from goalrank.rankers import Ranker
from goalrank.requests import Batch, EncodedRequests, Encoder, EntityTable
from goalrank.storage import whole_file

# All of a batch that a generator reads.
_BATCH = (
    "user", "history", "history_mask", "history_feedback", "history_age", "candidates",
    "candidate_mask", "candidate_score", "candidate_features",
)  # fmt: skip
_CHECKED = 64  # requests


class _Decode(nn.Module):
    """Batch, feature tables and open slots [B, L, N] in; lists and log-probabilities out."""

    def __init__(self, ranker: Ranker, slots: int) -> None:
        super().__init__()
        self.ranker, self.slots = ranker, slots

    def forward(self, open_to: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip((*_BATCH, *TABLES), tensors, strict=True))
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
        batch = _widened(batch, self.slots)
        open_to = nn.functional.pad(open_to, (0, self.slots))
        return self.ranker.greedy(self.ranker.encode(batch), batch, self.slots, open_to)


def export_graph(ranker: Ranker, columns: EncodedRequests, slots: int, path: str | Path) -> Path:
    """Write encoder, cache and all L greedy steps as one graph, whole or not at all.

    B, N, H and the feature tables' rows are open. The graph's lists are compared with PyTorch's on
    the first of the given requests.

    Args:
        ranker: the ranker to export.
        columns: any requests that the ranker's own encoder encoded.
        slots: L, fixed in the graph.
        path: the ONNX file.

    Raises:
        ConfigError: a ranker whose lists are not greedy decodes, no slot, or no request.
        BundleError: an operation has no graph, or the graph emits other lists.
        MissingExtraError: the extra `onnx` is not installed.
    """
    onnx = need("onnx")
    need("onnxscript")
    if not ranker.exportable:
        raise ConfigError(
            f"{type(ranker).__name__} cannot be exported: only rankers that say has_graph can; "
            f"remedy: option: backend torch (or ranker.beam 1, where that is above 1)"
        )
    if slots < 1 or len(columns) == 0:
        raise ConfigError(f"slots = {slots} and {len(columns)} requests: both must be at least 1")
    model = _program(ranker.eval(), columns, slots)
    onnx.helper.set_model_props(model, {"slots": str(slots)})
    target = Path(path)
    with whole_file(target, error=BundleError) as temporary:
        temporary.write_bytes(model.SerializeToString())
        _check(ranker, columns, ListGraph(temporary))
    return target


def _program(ranker: Ranker, columns: EncodedRequests, slots: int) -> Any:
    """The exported model, with B, N, H and the tables' rows left open."""
    sample = _stretched(columns.batch([0, len(columns) - 1]))
    n = sample.candidates.shape[1]
    tensors = [torch.ones(2, slots, n, dtype=torch.bool)]
    tensors += [getattr(sample, name) for name in _BATCH]
    tensors += [torch.from_numpy(graph_input(sample, name)) for name in TABLES]
    open_dim = torch.export.Dim.DYNAMIC
    wide = {0: open_dim, 1: open_dim}
    shapes = ({0: open_dim, 2: open_dim}, tuple(
        [{0: open_dim} if name == "user" else wide for name in _BATCH]
        + [{0: open_dim} for _ in TABLES]
    ))  # fmt: skip
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                _Decode(ranker, slots), tuple(tensors), dynamo=True, verbose=False,
                input_names=["open_to", *_BATCH, *TABLES], output_names=["lists", "log_prob"],
                dynamic_shapes=shapes,
            )  # fmt: skip
        except Exception as error:  # the exporter raises its own classes, and whatever it meets
            # The exporter's own text refers to a report that nobody sees.
            cause = str(error.__cause__ or error).strip() or type(error).__name__
            name = type(ranker).__name__
            raise BundleError(
                f"{name} says has_graph, but cannot be exported ({cause.splitlines()[0]}); "
                f"remedy: tensor operations that ONNX has, or option: backend torch"
            ) from error
    if program is None:
        raise ConfigError("this PyTorch exported nothing; remedy: torch 2.6 or later")
    return program.model_proto


def _widened(batch: Batch, slots: int) -> Batch:
    """The batch with L more, empty candidates, which changes no list."""
    names = [name for name in _BATCH if name.startswith("candidate")]
    wide: dict[str, Any] = {}
    for name in names:
        x = getattr(batch, name)
        pad = (0, 0, 0, slots) if x.dim() == 3 else (0, slots)
        wide[name] = nn.functional.pad(x, pad)
    return replace(batch, **wide)


def _stretched(batch: Batch) -> Batch:
    """At least two of each dynamic size: a size of 1 would be taken for a constant."""
    wide: dict[str, Any] = {}
    for name in _BATCH:
        x = getattr(batch, name)
        if x.dim() > 1 and x.shape[1] < 3:
            pad = (0, 0, 0, 3 - x.shape[1]) if x.dim() == 3 else (0, 3 - x.shape[1])
            wide[name] = nn.functional.pad(x, pad)
    return replace(batch, **wide)


@torch.inference_mode()
def _check(ranker: Ranker, columns: EncodedRequests, graph: ListGraph) -> None:
    most = min(len(columns), _CHECKED)
    for count in {1, most // 2 + 1, most}:  # other sizes than the sample's
        batch = columns.batch(slice(0, count))
        want, value = ranker.greedy(ranker.encode(batch), batch, graph.slots)
        lists, log_prob = graph.rank(batch, graph.slots)
        if not torch.equal(want, lists) or not torch.allclose(value, log_prob, atol=1e-3):
            raise BundleError(
                "the exported graph emits other lists than PyTorch; remedy: option: backend torch"
            )


def _made_up(encoder: Encoder) -> EncodedRequests:
    """Requests of a bundle's own ids: with few candidates first, then with many."""
    rows = [row for most in (1, 3, 40) for row in synthetic_requests(encoder, 3, most)]
    named = [row | {"request_id": str(i)} for i, row in enumerate(rows)]
    return encoder.encode_flat(encoder.flat(named))


def export_main(folder: str, path: str) -> None:
    """Export a folder's bundle to a path; the work of a separate process.

    Raises:
        BundleError: the folder holds another bundle by now, whose graph must not be kept as this
            one's; or as `export_graph`.
    """
    os.nice(10)  # a server may be answering meanwhile
    bundle = Bundle.load(folder)
    if cached_graph(folder) != Path(path):
        raise BundleError(f"bundle '{folder}' was replaced before its graph was exported")
    export_graph(bundle.ranker, _made_up(bundle.encoder), bundle.config.slots, path)
