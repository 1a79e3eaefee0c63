"""Bundles: a trained ranker with all it needs, on disk and at work."""

from goalrank.serving.bundle import Bundle
from goalrank.serving.engine import Engine, Ranked
from goalrank.serving.files import FORMAT_VERSION
from goalrank.serving.onnx import OnnxRanker, export_onnx
from goalrank.serving.rules import AtLeast, AtMost, Diversity, Rules

__all__ = [
    "FORMAT_VERSION",
    "AtLeast",
    "AtMost",
    "Bundle",
    "Diversity",
    "Engine",
    "OnnxRanker",
    "Ranked",
    "Rules",
    "export_onnx",
]
