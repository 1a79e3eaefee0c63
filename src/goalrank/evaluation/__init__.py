"""Metrics, comparisons with intervals, the audit of rules without learning, reward-model quality."""

from goalrank.evaluation.audit import Audit, absent_rules, audit, audit_rules
from goalrank.evaluation.bootstrap import Difference, Interval, Resampler
from goalrank.evaluation.evaluate import DEFAULT_METRICS, evaluate, known_only
from goalrank.evaluation.metrics import METRICS, SlotValues, from_lists, from_scores
from goalrank.evaluation.result import CONVENTIONS, Evaluation, milliseconds
from goalrank.evaluation.reward_quality import (
    Calibration,
    Spread,
    calibration,
    constant_log_loss,
    log_loss,
    log_loss_gain,
    order_correlation,
    slot_quality,
)
from goalrank.evaluation.reward_quality import auc as reward_auc

__all__ = [
    "CONVENTIONS",
    "DEFAULT_METRICS",
    "METRICS",
    "Audit",
    "Calibration",
    "Difference",
    "Evaluation",
    "Interval",
    "Resampler",
    "SlotValues",
    "Spread",
    "absent_rules",
    "audit",
    "audit_rules",
    "calibration",
    "constant_log_loss",
    "evaluate",
    "from_lists",
    "from_scores",
    "known_only",
    "log_loss",
    "log_loss_gain",
    "milliseconds",
    "order_correlation",
    "reward_auc",
    "slot_quality",
]
