"""PyTorch layers and losses that do not depend on recommender data."""

from goalrank.nn.attention import attention_bias, dot_product_attention
from goalrank.nn.chunks import CHUNK_ROWS, in_chunks
from goalrank.nn.distributed_means import divisor, sharing, whole_ids, whole_sum
from goalrank.nn.dropout import dropout
from goalrank.nn.gather import take_rows
from goalrank.nn.linear import Linear, linear, linear_gelu, zeroed
from goalrank.nn.losses import softmax_cross_entropy
from goalrank.nn.noise import distinct, gumbel, mixed_seed, request_salt, uniform
from goalrank.nn.precision import at_least_single
from goalrank.nn.transformer import (
    Attention,
    Block,
    FeedForward,
    InducedBlock,
    mlp,
)

__all__ = [
    "CHUNK_ROWS",
    "Attention",
    "Block",
    "FeedForward",
    "InducedBlock",
    "Linear",
    "at_least_single",
    "attention_bias",
    "distinct",
    "divisor",
    "dot_product_attention",
    "dropout",
    "gumbel",
    "in_chunks",
    "linear",
    "linear_gelu",
    "mixed_seed",
    "mlp",
    "request_salt",
    "sharing",
    "softmax_cross_entropy",
    "take_rows",
    "uniform",
    "whole_ids",
    "whole_sum",
    "zeroed",
]
