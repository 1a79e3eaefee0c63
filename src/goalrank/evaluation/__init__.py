"""Ranking metrics, statistics, quality of reward models, off-policy evaluation.

Names are loaded on first use, so that the options of an evaluation can be read without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from goalrank._lazy import lazy_door

if TYPE_CHECKING:
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
    from goalrank.evaluation.off_policy.options import OffPolicyOptions
    from goalrank.evaluation.off_policy.support import (
        Support,
        check_propensities,
        check_support,
        measure_support,
        refuse,
    )
    from goalrank.evaluation.ranking.audit import (
        LINEAR,
        Audit,
        absent_baselines,
        audit,
        audit_baselines,
        linear_baseline,
    )
    from goalrank.evaluation.ranking.evaluate import (
        DEFAULT_METRICS,
        evaluate,
        known_only,
        measured_with,
    )
    from goalrank.evaluation.ranking.evaluation import (
        CONVENTIONS,
        Evaluation,
        html_summary,
    )
    from goalrank.evaluation.ranking.metrics import (
        METRICS,
        Metric,
        SlotValues,
        from_lists,
        from_scores,
        ndcg,
    )
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
    from goalrank.evaluation.statistics.bootstrap import (
        Difference,
        FloatArray,
        Interval,
        Resampler,
    )
    from goalrank.evaluation.statistics.few_clusters import LeaveOneOut, resample
    from goalrank.evaluation.statistics.paired import (
        SeedsAndUsers,
        holm,
        over_seeds_and_users,
    )

__all__ = [
    "CONVENTIONS",
    "DEFAULT_METRICS",
    "ESTIMATORS",
    "LINEAR",
    "METRICS",
    "Audit",
    "Calibration",
    "Difference",
    "Estimate",
    "Evaluation",
    "FloatArray",
    "Interval",
    "LeaveOneOut",
    "Logged",
    "Metric",
    "OffPolicy",
    "OffPolicyOptions",
    "Resampler",
    "SeedsAndUsers",
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
    "html_summary",
    "known_only",
    "linear_baseline",
    "log_loss",
    "log_loss_gain",
    "measure_support",
    "measured_with",
    "ndcg",
    "order_correlation",
    "over_seeds_and_users",
    "refuse",
    "resample",
    "reward_auc",
    "slot_quality",
]

__getattr__ = lazy_door(
    __name__,
    {
        "CONVENTIONS": "goalrank.evaluation.ranking.evaluation",
        "DEFAULT_METRICS": "goalrank.evaluation.ranking.evaluate",
        "ESTIMATORS": "goalrank.evaluation.off_policy.estimators",
        "LINEAR": "goalrank.evaluation.ranking.audit",
        "METRICS": "goalrank.evaluation.ranking.metrics",
        "Audit": "goalrank.evaluation.ranking.audit",
        "Calibration": "goalrank.evaluation.reward_quality.reward_quality",
        "Difference": "goalrank.evaluation.statistics.bootstrap",
        "Estimate": "goalrank.evaluation.off_policy.estimators",
        "Evaluation": "goalrank.evaluation.ranking.evaluation",
        "FloatArray": "goalrank.evaluation.statistics.bootstrap",
        "Interval": "goalrank.evaluation.statistics.bootstrap",
        "LeaveOneOut": "goalrank.evaluation.statistics.few_clusters",
        "Logged": "goalrank.evaluation.off_policy.estimators",
        "Metric": "goalrank.evaluation.ranking.metrics",
        "OffPolicy": "goalrank.evaluation.off_policy.estimators",
        "OffPolicyOptions": "goalrank.evaluation.off_policy.options",
        "Resampler": "goalrank.evaluation.statistics.bootstrap",
        "SeedsAndUsers": "goalrank.evaluation.statistics.paired",
        "SlotValues": "goalrank.evaluation.ranking.metrics",
        "Spread": "goalrank.evaluation.reward_quality.reward_quality",
        "Support": "goalrank.evaluation.off_policy.support",
        "absent_baselines": "goalrank.evaluation.ranking.audit",
        "audit": "goalrank.evaluation.ranking.audit",
        "audit_baselines": "goalrank.evaluation.ranking.audit",
        "calibration": "goalrank.evaluation.reward_quality.reward_quality",
        "check_estimators": "goalrank.evaluation.off_policy.estimators",
        "check_propensities": "goalrank.evaluation.off_policy.support",
        "check_support": "goalrank.evaluation.off_policy.support",
        "constant_log_loss": "goalrank.evaluation.reward_quality.reward_quality",
        "effective_size": "goalrank.evaluation.off_policy.estimators",
        "estimate": "goalrank.evaluation.off_policy.estimators",
        "evaluate": "goalrank.evaluation.ranking.evaluate",
        "evaluate_off_policy": "goalrank.evaluation.off_policy.off_policy",
        "from_lists": "goalrank.evaluation.ranking.metrics",
        "from_scores": "goalrank.evaluation.ranking.metrics",
        "holm": "goalrank.evaluation.statistics.paired",
        "html_summary": "goalrank.evaluation.ranking.evaluation",
        "known_only": "goalrank.evaluation.ranking.evaluate",
        "linear_baseline": "goalrank.evaluation.ranking.audit",
        "log_loss": "goalrank.evaluation.reward_quality.reward_quality",
        "log_loss_gain": "goalrank.evaluation.reward_quality.reward_quality",
        "measure_support": "goalrank.evaluation.off_policy.support",
        "measured_with": "goalrank.evaluation.ranking.evaluate",
        "ndcg": "goalrank.evaluation.ranking.metrics",
        "order_correlation": "goalrank.evaluation.reward_quality.reward_quality",
        "over_seeds_and_users": "goalrank.evaluation.statistics.paired",
        "refuse": "goalrank.evaluation.off_policy.support",
        "resample": "goalrank.evaluation.statistics.few_clusters",
        "reward_auc": "goalrank.evaluation.reward_quality.reward_quality",
        "slot_quality": "goalrank.evaluation.reward_quality.reward_quality",
    },
)
