"""Bundles: a trained ranker with all it needs, on disk and at work.

Names that need the extras `serve` and `ab` are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from goalrank.errors import MissingExtraError
from goalrank.serving.ab import Effect, Report, ab_report
from goalrank.serving.bundle import Bundle
from goalrank.serving.decode import Settled, constrained
from goalrank.serving.engine import Engine, Ranked
from goalrank.serving.experiments import Duel, Experiment, Experiments, Metric, Variant
from goalrank.serving.files import FORMAT_VERSION
from goalrank.serving.graph import ListGraph
from goalrank.serving.interleave import (
    Draft,
    InterleaveReport,
    Preference,
    draft_coins,
    draft_label,
    interleave_report,
    team_draft,
)
from goalrank.serving.onnx import export_graph
from goalrank.serving.page_examples import Examples
from goalrank.serving.plan import Baseline, Plan, ab_plan, read_baseline
from goalrank.serving.rules import AtLeast, AtMost, Diversity, Rules, read_rules
from goalrank.serving.sequential import AlwaysValid, always_valid

if TYPE_CHECKING:
    from goalrank.serving.app import create_app
    from goalrank.serving.export import export_store, stored_requests
    from goalrank.serving.service import Service
    from goalrank.serving.start import DEFAULT_STORE, ServeSettings, build_app, run_server
    from goalrank.serving.store import Event, Exposure, Store

__all__ = [
    "DEFAULT_STORE",
    "FORMAT_VERSION",
    "AlwaysValid",
    "AtLeast",
    "AtMost",
    "Baseline",
    "Bundle",
    "Diversity",
    "Draft",
    "Duel",
    "Effect",
    "Engine",
    "Event",
    "Examples",
    "Experiment",
    "Experiments",
    "Exposure",
    "InterleaveReport",
    "ListGraph",
    "Metric",
    "Plan",
    "Preference",
    "Ranked",
    "Report",
    "Rules",
    "ServeSettings",
    "Service",
    "Settled",
    "Store",
    "Variant",
    "ab_plan",
    "ab_report",
    "always_valid",
    "build_app",
    "constrained",
    "create_app",
    "draft_coins",
    "draft_label",
    "export_graph",
    "export_store",
    "interleave_report",
    "read_baseline",
    "read_rules",
    "run_server",
    "stored_requests",
    "team_draft",
]

_LAZY = {
    "DEFAULT_STORE": "start",
    "Event": "store",
    "Exposure": "store",
    "ServeSettings": "start",
    "Service": "service",
    "Store": "store",
    "build_app": "start",
    "create_app": "app",
    "export_store": "export",
    "run_server": "start",
    "stored_requests": "export",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'goalrank.serving' has no attribute {name!r}")
    try:
        return getattr(import_module(f"goalrank.serving.{_LAZY[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("goalrank"):
            raise
        raise MissingExtraError("the service", "serve") from error
