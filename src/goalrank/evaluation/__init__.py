"""Metrics, comparisons with intervals, the audit of rules without learning, reward-model quality."""

from goalrank.evaluation.audit import Audit, absent_rules, audit, audit_rules
from goalrank.evaluation.bootstrap import Difference, Interval, Resampler
from goalrank.evaluation.evaluate import DEFAULT_METRICS, evaluate, known_only
from goalrank.evaluation.metrics import METRICS, SlotValues, from_lists, from_scores
from goalrank.evaluation.off_policy import (
    ESTIMATORS,
    Estimate,
    Logged,
    OffPolicy,
    check_estimators,
    effective_size,
    estimate,
)
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
from goalrank.evaluation.support import (
    Support,
    check_propensities,
    check_support,
    measure_support,
    refuse,
)

__all__ = [
    "CONVENTIONS",
    "DEFAULT_METRICS",
    "ESTIMATORS",
    "METRICS",
    "Audit",
    "Calibration",
    "Difference",
    "Estimate",
    "Evaluation",
    "Interval",
    "Logged",
    "OffPolicy",
    "Resampler",
    "SlotValues",
    "Spread",
    "Support",
    "absent_rules",
    "audit",
    "audit_rules",
    "calibration",
    "check_estimators",
    "check_propensities",
    "check_support",
    "constant_log_loss",
    "effective_size",
    "estimate",
    "evaluate",
    "from_lists",
    "from_scores",
    "known_only",
    "log_loss",
    "log_loss_gain",
    "measure_support",
    "milliseconds",
    "order_correlation",
    "refuse",
    "reward_auc",
    "slot_quality",
]
