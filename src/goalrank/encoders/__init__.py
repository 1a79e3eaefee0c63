"""Encoders of requests as vectors, shared by rankers and rewards."""

from goalrank.encoders.boosting import (
    LEVELS,
    Trees,
    TreeTable,
    fit_trees,
    has_boosting,
    relevance_levels,
    scoring_threads,
)
from goalrank.encoders.conditional_logit import (
    RIDGE,
    LogitTable,
    fit_conditional_logit,
    logit_table,
    solve_logit,
)
from goalrank.encoders.entities import EntityEmbedding
from goalrank.encoders.history_events import HistoryEvents
from goalrank.encoders.id_table import IdTable, as_block, block_of, deferred_tables, id_tables
from goalrank.encoders.plain import PlainFeatures
from goalrank.encoders.request import Encoded, EncoderSizes, RequestEncoder
from goalrank.encoders.samples import sample_within, shown_rows, with_order
from goalrank.encoders.training_counts import (
    TrainingCounts,
    feedback_rate,
    id_rows,
    item_popularity,
    latest_events,
    transitions,
)
from goalrank.encoders.tree_scores import TreeScores, add_tree_scores
from goalrank.encoders.vector_similarity import history_similarity
from goalrank.encoders.wide import Wide, WideWeights, wide_parameters

__all__ = [
    "LEVELS",
    "RIDGE",
    "Encoded",
    "EncoderSizes",
    "EntityEmbedding",
    "HistoryEvents",
    "IdTable",
    "LogitTable",
    "PlainFeatures",
    "RequestEncoder",
    "TrainingCounts",
    "TreeScores",
    "TreeTable",
    "Trees",
    "Wide",
    "WideWeights",
    "add_tree_scores",
    "as_block",
    "block_of",
    "deferred_tables",
    "feedback_rate",
    "fit_conditional_logit",
    "fit_trees",
    "has_boosting",
    "history_similarity",
    "id_rows",
    "id_tables",
    "item_popularity",
    "latest_events",
    "logit_table",
    "relevance_levels",
    "sample_within",
    "scoring_threads",
    "shown_rows",
    "solve_logit",
    "transitions",
    "wide_parameters",
    "with_order",
]
