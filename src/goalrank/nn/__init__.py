"""Torch blocks that know nothing of recommenders."""

from goalrank.nn.gather import take_rows
from goalrank.nn.noise import gumbel, request_salt, uniform
from goalrank.nn.precision import at_least_single
from goalrank.nn.transformer import Attention, Block, FeedForward, InducedBlock, mlp

__all__ = [
    "Attention",
    "Block",
    "FeedForward",
    "InducedBlock",
    "at_least_single",
    "gumbel",
    "mlp",
    "request_salt",
    "take_rows",
    "uniform",
]
