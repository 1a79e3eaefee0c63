"""Torch blocks that know nothing of recommenders."""

from goalrank.nn.gather import take_rows
from goalrank.nn.linear import Linear, linear, linear_gelu
from goalrank.nn.noise import distinct, gumbel, request_salt, uniform
from goalrank.nn.precision import at_least_single
from goalrank.nn.transformer import Attention, Block, FeedForward, InducedBlock, mlp

__all__ = [
    "Attention",
    "Block",
    "FeedForward",
    "InducedBlock",
    "Linear",
    "at_least_single",
    "distinct",
    "gumbel",
    "linear",
    "linear_gelu",
    "mlp",
    "request_salt",
    "take_rows",
    "uniform",
]
