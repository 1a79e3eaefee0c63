"""Result of an import in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from goalrank.logs.text.text_vectors import TextVectors
from goalrank.requests import Requests

__all__ = ["ImportResult"]


@dataclass(frozen=True)
class ImportResult:
    """Tables of train, validation and test, and a report of the import.

    Attributes:
        train, validation, test: requests; some may be empty, but not all.
        report: dataset, protocol, target, counts, seconds, recall (channel → share among N),
            candidate_features, options and warnings, as JSON values.
        text: how the items' texts became vectors, where they did.
    """

    train: Requests
    validation: Requests
    test: Requests
    report: dict[str, Any]
    text: TextVectors | None = None
