"""Requests to vectors: what rankers and rewards share."""

from goalrank.encoders.entities import EntityEmbedding
from goalrank.encoders.request import Encoded, EncoderSizes, RequestEncoder

__all__ = ["Encoded", "EncoderSizes", "EntityEmbedding", "RequestEncoder"]
