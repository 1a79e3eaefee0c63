"""The gate: a challenger against the champion on requests that neither was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from goalrank import evaluation as ev
from goalrank.api.retraining.data_checks import LEAD
from goalrank.api.retraining.settings import GateSettings
from goalrank.api.reward_reports import reward_report
from goalrank.api.scorecard import Scorecard, evaluate
from goalrank.bundles import Bundle
from goalrank.errors import DataError, InfeasibleError
from goalrank.models import Figure, Reason
from goalrank.requests import Requests
from goalrank.wording import signed

CHALLENGER, CHAMPION = "challenger", "champion"
_CHANCE = "constant"  # every order alike: its expected value is exact


@dataclass
class Judgement:
    """What a gate found.

    Attributes:
        figures: numbers.
        reasons: what each check found.
        lower: checks that passed though the challenger is lower, since that may be chance.
    """

    figures: list[Figure] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    lower: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> bool:
        """Whether no check failed; those that could not be made turn nothing down."""
        return all(reason.passed is not False for reason in self.reasons)

    def measured(self, name: str, found: ev.Interval | float) -> None:
        """Keep a figure.

        Args:
            name: of the figure.
            found: an interval, or a number without one.
        """
        if isinstance(found, float):
            self.figures.append(Figure(name=name, value=found))
        else:
            self.figures.append(Figure(name=name, value=found.mean, low=found.low, high=found.high))

    def checked(self, check: str, passed: bool | None, said: str) -> None:
        """Keep a reason.

        Args:
            check: name of the check.
            passed: None where it could not be made.
            said: a sentence for people.
        """
        self.reasons.append(Reason(check=check, passed=passed, said=said))

    def compared(self, check: str, passed: bool, difference: ev.Interval, said: str) -> None:
        """Keep a reason that rests on a difference; a loss that may be chance is named.

        Args:
            check: name of the check.
            passed: whether the difference is allowed.
            difference: of the challenger to the other.
            said: a sentence whose "{}" is the difference.
        """
        span = _span(difference)
        if passed and difference.mean < 0:
            self.lower.append(check)
            span += ", lower but not significantly"
        self.checked(check, passed, said.replace("{}", span))


def judge(
    bundles: Mapping[str, Bundle],
    window: Requests,
    train: Requests,
    gate: GateSettings,
) -> Judgement:
    """Judge a challenger.

    Args:
        bundles: "challenger", and "champion" where there is one.
        window: requests that none of them was trained on.
        train: what the challenger was trained on; baselines count over it.
        gate: its limits.

    Raises:
        MissingInputError: the champion needs an input that the requests lack.
    """
    found = Judgement()
    try:
        card = evaluate(
            bundles, window, train=train, metric=gate.metric, bootstrap=gate.bootstrap,
            seed=gate.seed, slots=min(bundle.config.slots for bundle in bundles.values()),
        )  # fmt: skip
    except DataError as error:
        found.checked(gate.metric, False, str(error))
        return found
    _judge_lists(found, card, gate)
    _judge_reward(found, bundles, window, gate)
    _judge_off_policy(found, bundles, window, gate)
    return found


def _judge_lists(found: Judgement, card: Scorecard, gate: GateSettings) -> None:
    """Judge by the ranking metric: against the champion, the baselines and chance."""
    both, metric = card.both, card.audit.metric
    present = [name for name in (CHALLENGER, CHAMPION) if name in both.rankers]
    for name in present:
        found.measured(f"{name} {metric}", both.interval(name, metric))
        found.measured(f"{name} {LEAD}", both.paired(name, _CHANCE, metric))
    if CHAMPION in present:
        difference = both.paired(CHALLENGER, CHAMPION, metric)
        found.measured(f"gain in {metric}", difference)
        _compare(found, difference, metric, gate)
    if gate.audit:
        baseline = card.audit.baseline
        found.measured(f"best baseline {metric}", both.interval(baseline, metric))
        over = both.paired(CHALLENGER, baseline, metric)
        found.compared(
            "audit", over.high >= 0, over,
            f"{metric} less that of the best baseline ({baseline}) is {{}}; a challenger "
            f"significantly below it is refused (setting: gate.audit)",
        )  # fmt: skip


def _compare(found: Judgement, difference: ev.Difference, metric: str, gate: GateSettings) -> None:
    if gate.require == "better":
        passed, rule = difference.low > 0, "a significant gain is required"
    else:
        passed = difference.high >= 0 and difference.mean >= -gate.margin
        rule = f"no significant loss is allowed, and none above {gate.margin:g} (gate.margin)"
    said = f"{metric} less the champion's is {{}}; {rule} (setting: gate.require)"
    found.compared(metric, passed, difference, said)


def _judge_reward(
    found: Judgement, bundles: Mapping[str, Bundle], window: Requests, gate: GateSettings
) -> None:
    """Judge reward models by the calibration of the target's probability."""
    errors = {name: _calibration_error(bundle, window) for name, bundle in bundles.items()}
    for name, error in errors.items():
        if error is not None:
            found.measured(f"{name} calibration error", error)
    challenger, champion = errors[CHALLENGER], errors.get(CHAMPION)
    if challenger is None or champion is None:
        lacking = "the challenger" if challenger is None else "the champion"
        said = f"{lacking} has no reward model that predicts the target, so none is compared"
        found.checked("calibration", None, said)
        return
    found.checked(
        "calibration", challenger - champion <= gate.calibration,
        f"the reward model's calibration error is {challenger:.4f}, the champion's "
        f"{champion:.4f}; limit of the growth {gate.calibration:g} (setting: gate.calibration)",
    )  # fmt: skip


def _calibration_error(bundle: Bundle, window: Requests) -> float | None:
    reward, target = bundle.reward, window.info.target
    if reward is None or target is None or not any(m.kind_index for m in reward.members):
        return None
    columns = bundle.encoder.encode(window)
    kinds = reward_report(reward, columns, slots=bundle.config.slots)["kinds"]
    return float(kinds[target]["calibration_error"]) if target in kinds else None


def _judge_off_policy(
    found: Judgement, bundles: Mapping[str, Bundle], window: Requests, gate: GateSettings
) -> None:
    """Judge by the value that the served lists' propensities say the challenger's would have."""
    if "propensity" not in window.frame.columns:
        found.checked("off-policy", None, "the requests have no propensities")
        return
    for name, bundle in bundles.items():
        try:
            value = ev.evaluate_off_policy(
                bundle, window, temperature=gate.temperature, drop_unknown=True,
                bootstrap=gate.bootstrap, seed=gate.seed,
            )  # fmt: skip
        except (DataError, InfeasibleError) as error:
            found.checked("off-policy", None, f"no estimate for the {name}: {_reason(error)}")
            continue
        _judge_value(found, name, value, gate)


def _judge_value(found: Judgement, name: str, value: ev.OffPolicy, gate: GateSettings) -> None:
    chosen = "dr" if "dr" in value.estimates else "snips"
    estimate, logged = value.estimates[chosen], value.logged.mean
    found.measured(f"{name} off-policy value", estimate.value)
    found.measured(f"{name} off-policy gain", estimate.gain)
    if name != CHALLENGER:
        return
    rule, passed = "a significant loss is refused", estimate.gain.high >= 0
    if gate.lower_bound is not None:
        limit, low = gate.lower_bound * abs(logged), _lower_gain(value, estimate)
        passed = passed and low >= limit
        rule += f", and a lower bound ({low:.4f}) below {limit:.4f} (setting: gate.lower_bound)"
    found.compared(
        "off-policy", passed, estimate.gain,
        f"by {chosen} the lists would earn {{}} more than the logged {logged:.4f} per request; {rule}",
    )  # fmt: skip


def _lower_gain(value: ev.OffPolicy, estimate: ev.Estimate) -> float:
    """The bound that holds for any sample; the interval's end where rewards have no known range."""
    return estimate.gain.low if value.lower is None else value.lower.gain


def _reason(error: Exception) -> str:
    """What an error says, without its remedy."""
    return str(error).partition("; remedy")[0]


def _span(found: ev.Interval) -> str:
    return f"{signed(found.mean, 4)} [{signed(found.low, 4)}, {signed(found.high, 4)}]"
