"""The requests table: schema, validation, files, vocabularies, and padded batches.

Names that need torch are loaded on first use, so that reading tables stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from goalrank._lazy import lazy_door
from goalrank.requests.table.columns import feedback_lists
from goalrank.requests.table.info import (
    PROBABILITY,
    Bounds,
    ComputedFeatures,
    LogRule,
    TableInfo,
    hull,
    is_within,
)
from goalrank.requests.table.parquet import write_table
from goalrank.requests.table.partitions import Dataset, Partition, open_dataset
from goalrank.requests.table.requests import Requests
from goalrank.requests.table.schema import SCHEMA, TIME, Column, aligned_with
from goalrank.requests.table.validation import Fault

if TYPE_CHECKING:
    from goalrank.requests.encoding.arrays import RequestArrays, Row, history_ages
    from goalrank.requests.encoding.batch import Batch, EntityTable, InputSpec
    from goalrank.requests.encoding.encoded import EncodedRequests
    from goalrank.requests.encoding.encoder import Encoder, EncoderConfig
    from goalrank.requests.encoding.encoder_files import load_encoder, save_encoder
    from goalrank.requests.encoding.entities import EntityEncoder
    from goalrank.requests.encoding.fingerprint import LogFingerprint
    from goalrank.requests.encoding.missing import Absent, Missing, check_missing
    from goalrank.requests.encoding.shard import read_shard
    from goalrank.requests.encoding.side_columns import SideColumns, Told
    from goalrank.requests.encoding.side_rows import SideRows
    from goalrank.requests.encoding.told import ToldOnto, told_onto
    from goalrank.requests.encoding.vocabulary import Ids, listed, mix64, stable_hash
    from goalrank.requests.table.digest import table_digest

__all__ = [
    "PROBABILITY",
    "SCHEMA",
    "TIME",
    "Absent",
    "Batch",
    "Bounds",
    "Column",
    "ComputedFeatures",
    "Dataset",
    "EncodedRequests",
    "Encoder",
    "EncoderConfig",
    "EntityEncoder",
    "EntityTable",
    "Fault",
    "Ids",
    "InputSpec",
    "LogFingerprint",
    "LogRule",
    "Missing",
    "Partition",
    "RequestArrays",
    "Requests",
    "Row",
    "SideColumns",
    "SideRows",
    "TableInfo",
    "Told",
    "ToldOnto",
    "aligned_with",
    "check_missing",
    "feedback_lists",
    "history_ages",
    "hull",
    "is_within",
    "listed",
    "load_encoder",
    "mix64",
    "open_dataset",
    "read_shard",
    "save_encoder",
    "stable_hash",
    "table_digest",
    "told_onto",
    "write_table",
]

__getattr__ = lazy_door(
    __name__,
    {
        "Absent": "goalrank.requests.encoding.missing",
        "Batch": "goalrank.requests.encoding.batch",
        "EncodedRequests": "goalrank.requests.encoding.encoded",
        "Encoder": "goalrank.requests.encoding.encoder",
        "EncoderConfig": "goalrank.requests.encoding.encoder",
        "EntityEncoder": "goalrank.requests.encoding.entities",
        "EntityTable": "goalrank.requests.encoding.batch",
        "Ids": "goalrank.requests.encoding.vocabulary",
        "LogFingerprint": "goalrank.requests.encoding.fingerprint",
        "RequestArrays": "goalrank.requests.encoding.arrays",
        "InputSpec": "goalrank.requests.encoding.batch",
        "Missing": "goalrank.requests.encoding.missing",
        "Row": "goalrank.requests.encoding.arrays",
        "SideColumns": "goalrank.requests.encoding.side_columns",
        "SideRows": "goalrank.requests.encoding.side_rows",
        "listed": "goalrank.requests.encoding.vocabulary",
        "Told": "goalrank.requests.encoding.side_columns",
        "ToldOnto": "goalrank.requests.encoding.told",
        "told_onto": "goalrank.requests.encoding.told",
        "check_missing": "goalrank.requests.encoding.missing",
        "history_ages": "goalrank.requests.encoding.arrays",
        "load_encoder": "goalrank.requests.encoding.encoder_files",
        "mix64": "goalrank.requests.encoding.vocabulary",
        "stable_hash": "goalrank.requests.encoding.vocabulary",
        "table_digest": "goalrank.requests.table.digest",
        "read_shard": "goalrank.requests.encoding.shard",
        "save_encoder": "goalrank.requests.encoding.encoder_files",
    },
)
