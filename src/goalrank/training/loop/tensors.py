"""Writes tensors to a safetensors file in pieces, also those sharded over several processes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, distributed

from goalrank.encoders import block_of
from goalrank.errors import BundleError

_PIECE = 1 << 26  # bytes moved at once
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def is_sharded(value: Any) -> bool:
    """Whether a value is a distributed tensor; does not import the module that defines them."""
    return isinstance(value, Tensor) and hasattr(value, "to_local")


def split_sharded(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Separate plain and distributed tensors; one operation cannot take both."""
    parts = [[t for t in tensors if is_sharded(t) is kind] for kind in (False, True)]
    return [part for part in parts if part]


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Compute the Euclidean norm of all tensors together, the same scalar in every process."""
    norms: list[Any] = [torch.nn.utils.get_total_norm(part) for part in split_sharded(tensors)]
    full = [norm.full_tensor() if is_sharded(norm) else norm for norm in norms]
    out: Tensor = full[0] if len(full) == 1 else torch.stack(full).norm()
    return out


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as a safetensors file (not atomic: give a temporary name).

    Where tensors are sharded, all processes call this with the same names: the first writes, the
    others send it their rows. No process holds more than its own rows and a piece of 64 MiB.

    Raises:
        BundleError: a dtype that the format does not have.
    """
    if distributed.is_available() and distributed.is_initialized() and distributed.get_rank() > 0:
        for tensor in tensors.values():
            if is_sharded(tensor):
                _send(tensor)
        return
    header, at = {}, 0
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise BundleError(f"tensor '{name}' is {tensor.dtype}, which a file cannot hold")
        end = at + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            _write(file, tensor)


def _write(file: BinaryIO, tensor: Any) -> None:
    if not is_sharded(tensor):
        for piece in _pieces(tensor.detach()):
            file.write(_bytes(piece))
        return
    mesh = tensor.device_mesh
    for piece in _pieces(tensor.detach().to_local()):
        file.write(_bytes(piece))
    for rank in range(1, mesh.size()):
        first, last = block_of(tensor.shape[0], rank, mesh.size())
        shape = torch.empty((last - first, *tensor.shape[1:]), dtype=tensor.dtype, device="meta")
        for piece in _pieces(shape):
            received = torch.empty_like(piece, device="cpu")
            distributed.recv(received, rank)
            file.write(_bytes(received))


def _send(tensor: Any) -> None:
    for piece in _pieces(tensor.detach().to_local()):
        distributed.send(piece.cpu().contiguous(), 0)


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Split into blocks of rows of at most 64 MiB (or one row), the same for sender and receiver."""
    if tensor.dim() == 0 or tensor.numel() == 0:
        yield from (tensor,) * (tensor.numel() > 0)
        return
    row = tensor[0].numel() * tensor.element_size()
    yield from tensor.split(max(_PIECE // max(row, 1), 1))


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data)
