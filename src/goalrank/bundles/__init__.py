"""Bundles: a trained ranker with all it needs, on disk and in use without a server.

Names are loaded on first use, so that manifests can be read without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from goalrank._lazy import lazy_door

if TYPE_CHECKING:
    from goalrank.bundles.asked import LatestRows, Ranked
    from goalrank.bundles.bundle import Bundle
    from goalrank.bundles.manifest import FORMAT_VERSION, MANIFEST, read_manifest
    from goalrank.bundles.onnx.export import export_graph
    from goalrank.bundles.onnx.graph import Backend, ListGraph, load_graph
    from goalrank.bundles.plugins import needed_plugins
    from goalrank.bundles.predictor import Predictor
    from goalrank.bundles.synthetic import synthetic_requests
    from goalrank.bundles.timing import TimedStep, record_times

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "Backend",
    "Bundle",
    "LatestRows",
    "ListGraph",
    "Predictor",
    "Ranked",
    "TimedStep",
    "export_graph",
    "load_graph",
    "needed_plugins",
    "read_manifest",
    "record_times",
    "synthetic_requests",
]

__getattr__ = lazy_door(
    __name__,
    {
        "Backend": "goalrank.bundles.onnx.graph",
        "Bundle": "goalrank.bundles.bundle",
        "FORMAT_VERSION": "goalrank.bundles.manifest",
        "LatestRows": "goalrank.bundles.asked",
        "ListGraph": "goalrank.bundles.onnx.graph",
        "MANIFEST": "goalrank.bundles.manifest",
        "Predictor": "goalrank.bundles.predictor",
        "Ranked": "goalrank.bundles.asked",
        "TimedStep": "goalrank.bundles.timing",
        "export_graph": "goalrank.bundles.onnx.export",
        "load_graph": "goalrank.bundles.onnx.graph",
        "needed_plugins": "goalrank.bundles.plugins",
        "read_manifest": "goalrank.bundles.manifest",
        "record_times": "goalrank.bundles.timing",
        "synthetic_requests": "goalrank.bundles.synthetic",
    },
)
