"""A suite's data set: imported once into the benchmark's folder, then encoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from goalrank.errors import DataError
from goalrank.logs import import_log, write_import
from goalrank.requests import (
    EncodedRequests,
    Encoder,
    EncoderConfig,
    InputSpec,
    Requests,
    TableInfo,
)
from goalrank.storage import holding
from goalrank.studies.common.cells import digest
from goalrank.studies.common.suite import DatasetSpec, dataset_path, import_options

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class EncodedDataset:
    """Encoded parts of a data set.

    Attributes:
        key: changes with anything that the encoded parts depend on.
    """

    key: str
    spec: InputSpec
    info: TableInfo
    train: EncodedRequests
    validation: EncodedRequests
    test: EncodedRequests

    def sizes(self) -> dict[str, int]:
        """Requests of each part."""
        return {f"requests_{name}": len(getattr(self, name)) for name in _PARTS}


def load_data(folder: Path, dataset: DatasetSpec, encoding: EncoderConfig) -> EncodedDataset:
    """Import (or find the import), thin and encode; the encoder learns from training only.

    Raises:
        ConfigError, DataError: the log cannot be read or yields no requests.
    """
    place = _imported(folder, dataset)
    limits = (dataset.max_train, dataset.max_validation, dataset.max_test)
    parts = {
        name: thin(Requests.read(place / f"{name}.parquet", allow_empty=True), limit, dataset.seed)
        for name, limit in zip(_PARTS, limits, strict=True)
    }
    for name, part in parts.items():
        if len(part) == 0:
            raise DataError(
                f"data set '{dataset.name}' has no {name} requests; remedy: import more "
                f"(options: datasets.options, datasets.max_{name})"
            )
    encoder = Encoder.fit(parts["train"], encoding)
    return EncodedDataset(
        digest([dataset.model_dump(mode="json"), encoding.model_dump(mode="json")]),
        encoder.spec,
        parts["train"].info,
        *(encoder.encode(parts[name]) for name in _PARTS),
    )


def _imported(folder: Path, dataset: DatasetSpec) -> Path:
    """The folder of the three tables; the first process imports, others wait for it."""
    source = dataset_path(dataset)
    if dataset.source == "requests":
        if source is None:
            raise DataError(
                f"data set '{dataset.name}' of source 'requests' needs the folder of its tables "
                f"(option: datasets.path)"
            )
        return source
    options = import_options(dataset)
    place = folder / "shared" / "data" / digest([dataset.source, dataset.path, options])
    with holding(place.with_suffix(".lock")):
        if not (place / "import.json").exists():  # written last, so it says that all is there
            write_import(import_log(dataset.source, source, options), place)
    return place


def thin(requests: Requests, most: int, seed: int) -> Requests:
    """At most so many requests, drawn at random, in their old order; 0 keeps all."""
    if most == 0 or len(requests) <= most:
        return requests
    rows = np.random.default_rng(seed).choice(len(requests), most, replace=False)
    return requests.take(np.sort(rows))
