"""Import of raw logs: readers, split by time, retrieval and candidate protocols.

>>> from goalrank.logs import import_log, write_import
>>> result = import_log("kuairand")  # doctest: +SKIP
>>> write_import(result, "data/kuairand")  # doctest: +SKIP

Names are loaded on first use: a server needs only what an import learnt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from goalrank._lazy import lazy_door

if TYPE_CHECKING:
    from goalrank.logs.candidates.affinity import Affinity, item_categories
    from goalrank.logs.candidates.protocols import INJECTED_WARNING
    from goalrank.logs.download.data_folders import data_root, shipped_path
    from goalrank.logs.download.fetch import DATASETS, Dataset, fetch
    from goalrank.logs.events.arrays import Codes, stable_hashes
    from goalrank.logs.events.consumption import as_imported
    from goalrank.logs.events.ordering import row_ties
    from goalrank.logs.importer import append_rows, import_dataset, import_log, read_log
    from goalrank.logs.options import ImportOptions
    from goalrank.logs.output import RETRIEVAL, import_options, write_import
    from goalrank.logs.preview import Preview, preview_log
    from goalrank.logs.readers.raw_log import RawLog
    from goalrank.logs.readers.sources import SOURCES, Reader
    from goalrank.logs.result import ImportResult
    from goalrank.logs.retrieval.blending import (
        blend,
        reciprocal_ranks,
        top_items,
        top_items_shared,
    )
    from goalrank.logs.retrieval.channel import (
        Chunk,
        ItemScorer,
        RetrievalChannel,
        RowWeights,
        ScoringChannel,
    )
    from goalrank.logs.retrieval.channel_lists import ChannelLists, scored
    from goalrank.logs.retrieval.channels import CHANNELS, ChannelInputs
    from goalrank.logs.retrieval.folded_in import FoldedIn
    from goalrank.logs.retrieval.item_to_item import ItemToItem
    from goalrank.logs.retrieval.learnt import LearntRetrieval
    from goalrank.logs.retrieval.link_votes import LinkVotes, Transition
    from goalrank.logs.retrieval.log_factors import fit_factors
    from goalrank.logs.retrieval.popularity import Popularity
    from goalrank.logs.retrieval.refits import plan_refits
    from goalrank.logs.retrieval.refreshing import LogRows, refresh
    from goalrank.logs.tabular.notes import ImportNotes, how_to_tell
    from goalrank.logs.text.item_texts import embed_items
    from goalrank.logs.text.sentences import SENTENCE_MODELS, SentenceModel
    from goalrank.logs.text.text_vectors import TextVectors

__all__ = [
    "CHANNELS",
    "DATASETS",
    "INJECTED_WARNING",
    "RETRIEVAL",
    "SENTENCE_MODELS",
    "SOURCES",
    "Affinity",
    "ChannelInputs",
    "ChannelLists",
    "Chunk",
    "Codes",
    "Dataset",
    "FoldedIn",
    "ImportNotes",
    "ImportOptions",
    "ImportResult",
    "ItemScorer",
    "ItemToItem",
    "LearntRetrieval",
    "LinkVotes",
    "LogRows",
    "Popularity",
    "Preview",
    "RawLog",
    "Reader",
    "RetrievalChannel",
    "RowWeights",
    "ScoringChannel",
    "SentenceModel",
    "TextVectors",
    "Transition",
    "append_rows",
    "as_imported",
    "blend",
    "data_root",
    "embed_items",
    "fetch",
    "fit_factors",
    "how_to_tell",
    "import_dataset",
    "import_log",
    "import_options",
    "item_categories",
    "plan_refits",
    "preview_log",
    "read_log",
    "reciprocal_ranks",
    "refresh",
    "row_ties",
    "scored",
    "shipped_path",
    "stable_hashes",
    "top_items",
    "top_items_shared",
    "write_import",
]

__getattr__ = lazy_door(
    __name__,
    {
        "CHANNELS": "goalrank.logs.retrieval.channels",
        "DATASETS": "goalrank.logs.download.fetch",
        "INJECTED_WARNING": "goalrank.logs.candidates.protocols",
        "RETRIEVAL": "goalrank.logs.output",
        "SENTENCE_MODELS": "goalrank.logs.text.sentences",
        "SOURCES": "goalrank.logs.readers.sources",
        "Affinity": "goalrank.logs.candidates.affinity",
        "ChannelInputs": "goalrank.logs.retrieval.channels",
        "ChannelLists": "goalrank.logs.retrieval.channel_lists",
        "Chunk": "goalrank.logs.retrieval.channel",
        "Codes": "goalrank.logs.events.arrays",
        "Dataset": "goalrank.logs.download.fetch",
        "FoldedIn": "goalrank.logs.retrieval.folded_in",
        "ImportNotes": "goalrank.logs.tabular.notes",
        "ImportOptions": "goalrank.logs.options",
        "ImportResult": "goalrank.logs.result",
        "ItemScorer": "goalrank.logs.retrieval.channel",
        "ItemToItem": "goalrank.logs.retrieval.item_to_item",
        "LearntRetrieval": "goalrank.logs.retrieval.learnt",
        "LinkVotes": "goalrank.logs.retrieval.link_votes",
        "LogRows": "goalrank.logs.retrieval.refreshing",
        "Popularity": "goalrank.logs.retrieval.popularity",
        "Preview": "goalrank.logs.preview",
        "RawLog": "goalrank.logs.readers.raw_log",
        "Reader": "goalrank.logs.readers.sources",
        "RetrievalChannel": "goalrank.logs.retrieval.channel",
        "RowWeights": "goalrank.logs.retrieval.channel",
        "ScoringChannel": "goalrank.logs.retrieval.channel",
        "SentenceModel": "goalrank.logs.text.sentences",
        "TextVectors": "goalrank.logs.text.text_vectors",
        "Transition": "goalrank.logs.retrieval.link_votes",
        "append_rows": "goalrank.logs.importer",
        "as_imported": "goalrank.logs.events.consumption",
        "blend": "goalrank.logs.retrieval.blending",
        "data_root": "goalrank.logs.download.data_folders",
        "embed_items": "goalrank.logs.text.item_texts",
        "fetch": "goalrank.logs.download.fetch",
        "fit_factors": "goalrank.logs.retrieval.log_factors",
        "how_to_tell": "goalrank.logs.tabular.notes",
        "import_dataset": "goalrank.logs.importer",
        "import_log": "goalrank.logs.importer",
        "import_options": "goalrank.logs.output",
        "item_categories": "goalrank.logs.candidates.affinity",
        "plan_refits": "goalrank.logs.retrieval.refits",
        "preview_log": "goalrank.logs.preview",
        "read_log": "goalrank.logs.importer",
        "reciprocal_ranks": "goalrank.logs.retrieval.blending",
        "refresh": "goalrank.logs.retrieval.refreshing",
        "row_ties": "goalrank.logs.events.ordering",
        "scored": "goalrank.logs.retrieval.channel_lists",
        "shipped_path": "goalrank.logs.download.data_folders",
        "stable_hashes": "goalrank.logs.events.arrays",
        "top_items": "goalrank.logs.retrieval.blending",
        "top_items_shared": "goalrank.logs.retrieval.blending",
        "write_import": "goalrank.logs.output",
    },
)
