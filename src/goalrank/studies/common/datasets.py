"""Data set of a suite: imported once into the folder of the benchmark, then encoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from goalrank.encoders import add_tree_scores
from goalrank.errors import DataError
from goalrank.logs import import_log, write_import
from goalrank.models import source_digest
from goalrank.requests import (
    EncodedRequests,
    Encoder,
    EncoderConfig,
    InputSpec,
    Requests,
    TableInfo,
    table_digest,
)
from goalrank.storage import holding
from goalrank.studies.common.cells import json_hash
from goalrank.studies.common.suite import DatasetSpec, dataset_path, import_options

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class EncodedDataset:
    """Encoded parts of a data set.

    Attributes:
        key: hash of everything that the encoded parts depend on.
        spec: input sizes of models.
        info: description of the tables.
        train: training requests.
        validation: validation requests.
        test: test requests.
        tables: name of a part → SHA-256 of its table, see `table_digest`; empty where parts come from
            no table.
    """

    key: str
    spec: InputSpec
    info: TableInfo
    train: EncodedRequests
    validation: EncodedRequests
    test: EncodedRequests
    tables: dict[str, str] = field(default_factory=dict, kw_only=True)

    def sizes(self) -> dict[str, int]:
        """Count the requests of each part."""
        return {f"requests_{name}": len(getattr(self, name)) for name in _PARTS}


def load_data(folder: Path, dataset: DatasetSpec, encoding: EncoderConfig) -> EncodedDataset:
    """Load a data set: import it if that was not done before, limit its parts and encode them.

    The encoder is fitted to the training requests.

    Args:
        folder: of the benchmark.
        dataset: the data set.
        encoding: options of the encoder.

    Raises:
        ConfigError: an option that cannot be used, or a log that does not exist.
        DataError: the log cannot be read or gives no requests.
    """
    place = _imported(folder, dataset)
    limits = (dataset.max_train, dataset.max_validation, dataset.max_test)
    parts = {
        name: sample_requests(
            Requests.read(place / f"{name}.parquet", allow_empty=True), limit, dataset.seed
        )
        for name, limit in zip(_PARTS, limits, strict=True)
    }
    for name, part in parts.items():
        if len(part) == 0:
            raise DataError(
                f"data set '{dataset.name}' has no {name} requests; remedy: import more "
                f"(options: datasets.options, datasets.max_{name})"
            )
    encoder = Encoder.fit(parts["train"], encoding)
    folds, info = encoding.tree_folds, parts["train"].info
    encoder, train, note = add_tree_scores(
        encoder, encoder.encode(parts["train"]), folds=folds, seed=dataset.seed
    )
    scores = encoder.spec.model_scores  # none without the extra 'trees': other inputs, other models
    if folds and not scores:
        warning = "; ".join(part for part in (info.warning, note) if part)
        info = info.model_copy(update={"warning": warning})
    tables = {name: table_digest(part) for name, part in parts.items()}
    settings = [dataset.model_dump(mode="json"), encoding.model_dump(mode="json")]
    return EncodedDataset(
        json_hash([*settings, scores, tables]),
        encoder.spec,
        info,
        train,
        *(encoder.encode(parts[name]) for name in _PARTS[1:]),
        tables=tables,
    )


def _imported(folder: Path, dataset: DatasetSpec) -> Path:
    """Find the folder of the three tables; the first process imports, others wait for it.

    Code that changed imports anew: what a log becomes is decided by it.
    """
    source = dataset_path(dataset)
    if dataset.source == "requests" and source is not None:
        return source
    options = import_options(dataset)
    identity = json_hash([source_digest(), dataset.source, dataset.path, options])
    place = folder / "shared" / "data" / identity
    with holding(place.with_suffix(".lock")):
        if not (place / "import.json").exists():  # written last: the import is complete
            write_import(import_log(dataset.source, source, options), place)
    return place


def sample_requests(requests: Requests, most: int, seed: int) -> Requests:
    """Draw requests at random; they stay in their order.

    Args:
        requests: the table.
        most: number of requests, at most; 0 keeps all.
        seed: of the draw.
    """
    if most == 0 or len(requests) <= most:
        return requests
    rows = np.random.default_rng(seed).choice(len(requests), most, replace=False)
    return requests.take(np.sort(rows))
