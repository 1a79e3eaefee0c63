"""Bundles: a trained ranker with all it needs, on disk and in use without a server."""

from goalrank.bundles.asked import LatestRows, Ranked
from goalrank.bundles.bundle import Bundle
from goalrank.bundles.manifest import FORMAT_VERSION, MANIFEST, read_manifest
from goalrank.bundles.onnx.export import export_graph
from goalrank.bundles.onnx.graph import Backend, ListGraph, load_graph
from goalrank.bundles.plugins import needed_plugins
from goalrank.bundles.predictor import Predictor
from goalrank.bundles.synthetic_requests import synthetic_requests
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
