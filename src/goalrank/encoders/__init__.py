"""Encoders of requests as vectors, shared by rankers and rewards."""

from goalrank.encoders.entities import EntityEmbedding
from goalrank.encoders.id_table import IdTable, as_block, block_of, deferred_tables, id_tables
from goalrank.encoders.request import Encoded, EncoderSizes, RequestEncoder

__all__ = [
    "Encoded",
    "EncoderSizes",
    "EntityEmbedding",
    "IdTable",
    "RequestEncoder",
    "as_block",
    "block_of",
    "deferred_tables",
    "id_tables",
]
