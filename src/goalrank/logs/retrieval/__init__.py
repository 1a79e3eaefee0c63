"""Retrieval channels that are refitted as the log grows, and their blend."""

from goalrank.logs.retrieval.blending import (
    blend,
    reciprocal_ranks,
    top_items,
    top_items_shared,
)
from goalrank.logs.retrieval.channel import Chunk, RetrievalChannel
from goalrank.logs.retrieval.factorisation import Factorisation
from goalrank.logs.retrieval.item_to_item import ItemToItem
from goalrank.logs.retrieval.log_factors import fit_factors
from goalrank.logs.retrieval.popularity import Popularity
from goalrank.logs.retrieval.refit_scoring import (
    ChunkResult,
    one_blas_thread,
    score_refits,
    worker_count,
)
from goalrank.logs.retrieval.refits import Refits, plan_refits

__all__ = [
    "Chunk",
    "ChunkResult",
    "Factorisation",
    "ItemToItem",
    "Popularity",
    "Refits",
    "RetrievalChannel",
    "blend",
    "fit_factors",
    "one_blas_thread",
    "plan_refits",
    "reciprocal_ranks",
    "score_refits",
    "top_items",
    "top_items_shared",
    "worker_count",
]
