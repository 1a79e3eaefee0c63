"""Raw logs to requests: readers, time-respecting split, retrieval, candidate protocols.

>>> from goalrank.logs import import_log, write_import
>>> result = import_log("kuairand")  # doctest: +SKIP
>>> write_import(result, "data/kuairand")  # doctest: +SKIP
"""

from goalrank.logs.fetch import DATASETS, Dataset, fetch
from goalrank.logs.importer import ImportResult, import_log
from goalrank.logs.options import ImportOptions
from goalrank.logs.places import data_root, shipped_path
from goalrank.logs.protocols import INJECTED_WARNING
from goalrank.logs.retrieval import fit_factors
from goalrank.logs.write import write_import

__all__ = [
    "DATASETS",
    "INJECTED_WARNING",
    "Dataset",
    "ImportOptions",
    "ImportResult",
    "data_root",
    "fetch",
    "fit_factors",
    "import_log",
    "shipped_path",
    "write_import",
]
