"""Requests to vectors: what rankers and rewards share."""

from goalrank.encoders.entities import EntityEmbedding
from goalrank.encoders.request import Encoded, EncoderSizes, RequestEncoder
from goalrank.encoders.table import IdTable, as_block, block_of, deferred_tables

__all__ = [
    "Encoded",
    "EncoderSizes",
    "EntityEmbedding",
    "IdTable",
    "RequestEncoder",
    "as_block",
    "block_of",
    "deferred_tables",
]
