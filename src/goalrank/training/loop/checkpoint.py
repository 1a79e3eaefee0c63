"""Checkpoints without pickle: tensors in safetensors, the rest in JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors.torch import load_file
from torch import distributed

from goalrank.errors import BundleError
from goalrank.storage import remove_folder, surviving_folder, whole_folder
from goalrank.training.loop.tensors import is_sharded, write_tensors


class SafeCheckpointIO(CheckpointIO):
    """A checkpoint is a folder: tensors.safetensors and state.json; written whole or not at all.

    All processes save and the first writes, since tensors may be sharded over them.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint as a folder of JSON and safetensors, whole or not at all."""
        target = Path(path)
        tensors: dict[str, torch.Tensor] = {}
        state = _pack(checkpoint, tensors)
        if distributed.is_available() and distributed.is_initialized() and distributed.get_rank():
            write_tensors(target, tensors)  # only sends
            return
        with whole_folder(target, replace=True) as temporary:
            write_tensors(temporary / "tensors.safetensors", tensors)
            (temporary / "state.json").write_text(json.dumps(state))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint folder."""
        source = surviving_folder(Path(path))
        try:
            state = json.loads((source / "state.json").read_text())
            unpacked = _unpack(state, load_file(source / "tensors.safetensors"))
            if not isinstance(unpacked, dict):
                raise ValueError(f"its state is a {type(unpacked).__name__}")
        except Exception as error:
            raise BundleError(
                f"checkpoint '{path}' cannot be read ({error}); remedy: remove the folder and "
                f"start again without --resume"
            ) from error
        return unpacked

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint folder."""
        remove_folder(Path(path))


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach() if is_sharded(value) else value.detach().cpu()
        return {"@tensor": name}
    if isinstance(value, dict):
        return {"@dict": [[_pack(k, tensors), _pack(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple | list):
        kind = "@tuple" if isinstance(value, tuple) else "@list"
        return {kind: [_pack(v, tensors) for v in value]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"@float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise BundleError(f"a checkpoint cannot hold a {type(value).__name__}; it is not plain data")


def _unpack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "@tensor":
        return tensors[inner]
    if kind == "@dict":
        return {_unpack(k, tensors): _unpack(v, tensors) for k, v in inner}
    if kind == "@float":
        return float(inner)
    items = [_unpack(v, tensors) for v in inner]
    return tuple(items) if kind == "@tuple" else items
