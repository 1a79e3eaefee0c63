"""Bundles: a trained ranker with all it needs, on disk and in use without a server."""

from goalrank.bundles.bundle import Bundle
from goalrank.bundles.manifest import FORMAT_VERSION, MANIFEST
from goalrank.bundles.onnx.export import export_graph
from goalrank.bundles.onnx.graph import Backend, ListGraph, load_graph
from goalrank.bundles.predictor import Engine, Ranked
from goalrank.bundles.stage_timing import Mark, listening
from goalrank.bundles.synthetic_requests import made_up

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "Backend",
    "Bundle",
    "Engine",
    "ListGraph",
    "Mark",
    "Ranked",
    "export_graph",
    "listening",
    "load_graph",
    "made_up",
]
