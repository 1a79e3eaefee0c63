"""Bundles: a trained ranker with all it needs, on disk and at work."""

from goalrank.serving.bundle import Bundle
from goalrank.serving.files import FORMAT_VERSION

__all__ = ["FORMAT_VERSION", "Bundle"]
