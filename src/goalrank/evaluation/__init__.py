"""Ranking metrics, statistics, quality of reward models, off-policy evaluation."""

from goalrank.evaluation.off_policy.estimators import (
    ESTIMATORS,
    Estimate,
    Logged,
    OffPolicy,
    check_estimators,
    effective_size,
    estimate,
)
from goalrank.evaluation.off_policy.off_policy import evaluate_off_policy
from goalrank.evaluation.off_policy.support import (
    Support,
    check_propensities,
    check_support,
    measure_support,
    refuse,
)
from goalrank.evaluation.ranking.audit import Audit, absent_baselines, audit, audit_baselines
from goalrank.evaluation.ranking.evaluate import DEFAULT_METRICS, evaluate, known_only
from goalrank.evaluation.ranking.evaluation import CONVENTIONS, Evaluation
from goalrank.evaluation.ranking.metrics import METRICS, SlotValues, from_lists, from_scores
from goalrank.evaluation.reward_quality.reward_quality import (
    Calibration,
    Spread,
    calibration,
    constant_log_loss,
    log_loss,
    log_loss_gain,
    order_correlation,
    reward_auc,
    slot_quality,
)
from goalrank.evaluation.statistics.bootstrap import Difference, Interval, Resampler
from goalrank.evaluation.statistics.paired import FloatArray, holm, over_requests, paired_t, t_tail

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
    "FloatArray",
    "Interval",
    "Logged",
    "OffPolicy",
    "Resampler",
    "SlotValues",
    "Spread",
    "Support",
    "absent_baselines",
    "audit",
    "audit_baselines",
    "calibration",
    "check_estimators",
    "check_propensities",
    "check_support",
    "constant_log_loss",
    "effective_size",
    "estimate",
    "evaluate",
    "evaluate_off_policy",
    "from_lists",
    "from_scores",
    "holm",
    "known_only",
    "log_loss",
    "log_loss_gain",
    "measure_support",
    "order_correlation",
    "over_requests",
    "paired_t",
    "refuse",
    "reward_auc",
    "slot_quality",
    "t_tail",
]
