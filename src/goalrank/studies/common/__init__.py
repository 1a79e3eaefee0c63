"""Parts that the studies share: rows, suites, cells, data sets and fitted models."""

from goalrank.studies.common.cells import Cell, json_hash, parse_shard, plan_cells, shard_cells
from goalrank.studies.common.datasets import EncodedDataset, load_data, sample_requests
from goalrank.studies.common.fitted_parts import FittedParts, on_device
from goalrank.studies.common.row_builder import RowBuilder, module_parameters
from goalrank.studies.common.row_specs import (
    METHOD_ROWS,
    BiasSpec,
    Rows,
    RowSpec,
    rename_rows,
    standard_rows,
)
from goalrank.studies.common.suite import (
    DatasetSpec,
    SizeSpec,
    Suite,
    TuningSpec,
    build_suite,
    dataset_path,
    load_suite,
)

__all__ = [
    "METHOD_ROWS",
    "BiasSpec",
    "Cell",
    "DatasetSpec",
    "EncodedDataset",
    "FittedParts",
    "RowBuilder",
    "RowSpec",
    "Rows",
    "SizeSpec",
    "Suite",
    "TuningSpec",
    "build_suite",
    "dataset_path",
    "json_hash",
    "load_data",
    "load_suite",
    "module_parameters",
    "on_device",
    "parse_shard",
    "plan_cells",
    "rename_rows",
    "sample_requests",
    "shard_cells",
    "standard_rows",
]
