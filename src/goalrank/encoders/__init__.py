"""Encoders of requests as vectors, shared by rankers and rewards."""

from goalrank.encoders.conditional_logit import RIDGE, fit_conditional_logit
from goalrank.encoders.entities import EntityEmbedding
from goalrank.encoders.id_table import IdTable, as_block, block_of, deferred_tables, id_tables
from goalrank.encoders.plain import PlainFeatures
from goalrank.encoders.request import Encoded, EncoderSizes, RequestEncoder
from goalrank.encoders.wide import Wide, WideWeights, wide_parameters

__all__ = [
    "RIDGE",
    "Encoded",
    "EncoderSizes",
    "EntityEmbedding",
    "IdTable",
    "PlainFeatures",
    "RequestEncoder",
    "Wide",
    "WideWeights",
    "as_block",
    "block_of",
    "deferred_tables",
    "fit_conditional_logit",
    "id_tables",
    "wide_parameters",
]
