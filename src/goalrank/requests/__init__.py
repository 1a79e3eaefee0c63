"""The requests table: schema, validation, files, vocabularies, and padded batches.

Names that need torch are loaded on first use, so that reading tables stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from goalrank.requests.info import TableInfo
from goalrank.requests.io import whole_file, write_text
from goalrank.requests.parts import Dataset, Part, open_dataset
from goalrank.requests.table import Requests
from goalrank.requests.validate import Fault

if TYPE_CHECKING:
    from goalrank.requests.batch import Batch, EntityTable, InputSpec
    from goalrank.requests.columns import Columns
    from goalrank.requests.encoder import Encoder, EncoderConfig
    from goalrank.requests.flat import FlatRequests, Row
    from goalrank.requests.share import read_share
    from goalrank.requests.state import load_encoder, save_encoder

__all__ = [
    "Batch",
    "Columns",
    "Dataset",
    "Encoder",
    "EncoderConfig",
    "EntityTable",
    "Fault",
    "FlatRequests",
    "InputSpec",
    "Part",
    "Requests",
    "Row",
    "TableInfo",
    "load_encoder",
    "open_dataset",
    "read_share",
    "save_encoder",
    "whole_file",
    "write_text",
]

_LAZY = {
    "Batch": "batch",
    "Columns": "columns",
    "Encoder": "encoder",
    "EncoderConfig": "encoder",
    "EntityTable": "batch",
    "FlatRequests": "flat",
    "InputSpec": "batch",
    "Row": "flat",
    "load_encoder": "state",
    "read_share": "share",
    "save_encoder": "state",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"goalrank.requests.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'goalrank.requests' has no attribute {name!r}")
