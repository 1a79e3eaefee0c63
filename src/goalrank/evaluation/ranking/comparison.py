"""The main comparison: the best trained ranker beside the best baseline, in numbers and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from goalrank.evaluation.ranking.evaluation import Evaluation
from goalrank.evaluation.statistics.bootstrap import Difference, FloatArray
from goalrank.wording import signed

LINEAR = "linear baseline"
LEVEL = 0.005  # of a metric in [0, 1]: a difference that nobody would act on

Outcome = Literal["above", "below", "level", "open", "one user", "undefined"]


@dataclass(frozen=True)
class Comparison:
    """The best trained ranker and the best baseline on the same requests.

    Attributes:
        metric: full name, such as "ndcg@6".
        trained, baseline: names of the two.
        trained_value, baseline_value: their means.
        difference: trained minus baseline; its interval and p are corrected where the trained one
            was chosen on these requests.
        scored: requests that the difference rests on.
        choices: of how many trained rankers the best was chosen on these requests.
    """

    metric: str
    trained: str
    baseline: str
    trained_value: float
    baseline_value: float
    difference: Difference
    scored: int
    choices: int = 1

    @classmethod
    def of(
        cls, both: Evaluation, trained: str, baseline: str, metric: str, *, choices: int = 1
    ) -> Comparison:
        """Compare two rankers of an evaluation.

        Args:
            both: evaluation of both.
            trained: name of the trained one.
            baseline: name of the baseline.
            metric: full name of the metric.
            choices: of how many rankers the trained one is the best on these very requests; 1 where
                it was chosen elsewhere, such as on validation.

        Raises:
            ConfigError: no such ranker or metric.
        """
        values = both.values[trained][metric]
        return cls(
            metric=metric,
            trained=trained,
            baseline=baseline,
            trained_value=_mean(values),
            baseline_value=_mean(both.values[baseline][metric]),
            difference=both.paired(trained, baseline, metric, choices),
            scored=int(np.isfinite(values).sum()),
            choices=choices,
        )

    @cached_property
    def outcome(self) -> Outcome:
        """What the interval of the difference shows.

        "above" and "below": it lies on one side of 0. "level": it contains 0 and lies within
        `LEVEL`. "open": it contains 0 and reaches further. "one user": there is none, as
        all requests are of one user or of a few who agree exactly. "undefined": no
        request has the metric.
        """
        if not self.scored:
            return "undefined"
        low, high = self.difference.low, self.difference.high
        if low > 0:
            return "above"
        if high < 0:
            return "below"
        if max(-low, high) <= LEVEL:
            return "level"
        return "one user" if math.isinf(high) else "open"

    @property
    def needed(self) -> int:
        """Requests whose interval reaches `LEVEL` to either side, to two digits; at least one more."""
        half = (self.difference.high - self.difference.low) / 2
        needed = max(math.ceil(self.scored * (half / LEVEL) ** 2), self.scored + 1)
        digit: int = 10 ** max(len(str(needed)) - 2, 0)
        return -(-needed // digit) * digit

    @property
    def verdict(self) -> str:
        """One sentence with all numbers."""
        span = f"95 % interval of the difference {self._span}{self.corrected}"
        a, b = f"{self.metric} {self.trained_value:.3f}", f"{self.baseline_value:.3f}"
        pair = (
            f"The best trained ranker ({self.trained}, {a}) and the best baseline "
            f"({self.baseline}, {b})"
        )
        if self.outcome == "above":
            return (
                f"The best trained ranker ({self.trained}, {a}) exceeds the best baseline "
                f"({self.baseline}, {b}) by {self.difference.mean:.3f} ({span})."
            )
        if self.outcome == "undefined":
            return (
                f"{self.trained} and {self.baseline} cannot be compared: {self.metric} is defined on "
                f"none of these requests; remedy: another metric (option: --metric)."
            )
        if self.outcome == "one user":
            return (
                f"{pair} cannot be compared: all requests are of one user, or of so few that they "
                f"cannot tell, and requests of one user are not independent; remedy: requests of more users."
            )
        if self.outcome == "open":
            return (
                f"{pair} are not told apart ({span}): about {self.needed:,} scored requests would "
                f"tell a difference of {LEVEL:g} from none, and there are {self.scored:,}."
            )
        place = "above" if self.outcome == "below" else "level with"
        return (
            f"A baseline ({self.baseline}) scores {b} {self.metric}, {place} the best trained ranker "
            f"({self.trained}, {self.trained_value:.3f}; {span}): {self._meaning}"
        )

    @property
    def lines(self) -> dict[str, str]:
        """How much better, how sure, and what to do next, for people who are new to all this."""
        return {
            "How much better": self.how_much,
            "How sure": self.how_sure,
            "What next": self.next_step,
        }

    @property
    def _span(self) -> str:
        return f"{signed(self.difference.low)} to {signed(self.difference.high)}"

    @property
    def corrected(self) -> str:
        """What the interval covers beyond chance; empty where nothing was chosen."""
        if self.choices == 1:
            return ""
        return f", corrected for the choice among {self.choices} trained rankers on these requests"

    @property
    def _meaning(self) -> str:
        """What it means that a baseline is as good or better."""
        if self.baseline == LINEAR:
            return (
                "train longer, or deploy the linear model itself "
                "(--set ranker.name=linear --set objective.name=supervised)."
            )
        return "this protocol, with these rankers, does not measure ranking."

    @property
    def how_much(self) -> str:
        """The difference in points and percent."""
        if self.outcome == "undefined":
            return f"No request has a value of {self.metric}."
        gap, value = self.difference.mean, f"{self.trained_value:.3f} {self.metric}"
        rest = f"the best baseline, {self.baseline} ({self.baseline_value:.3f})"
        if f"{abs(gap):.3f}" == "0.000":
            return f"{self.trained} scores {value}, as much as {rest}."
        side = "above" if gap > 0 else "below"
        share = abs(gap) / self.baseline_value if self.baseline_value > 0 else math.inf
        percent = f" ({share:.1%})".replace("%", " %") if math.isfinite(share) else ""
        return f"{self.trained} scores {value}, {abs(gap):.3f}{percent} {side} {rest}."

    @property
    def how_sure(self) -> str:
        """What the interval shows, and how many requests would show more."""
        if self.outcome == "undefined":
            return "Unknown: there is nothing to compare."
        interval = f"the 95 % interval of the difference, {self._span}{self.corrected},"
        if self.outcome == "above":
            small = ", though it is small" if self.difference.high <= LEVEL else ""
            return f"Sure: {interval} lies above 0{small}."
        if self.outcome == "below":
            return f"Sure that the baseline is better: {interval} lies below 0."
        if self.outcome == "level":
            return f"Sure that they are level: {interval} lies within {LEVEL:g} of 0."
        if self.outcome == "one user":
            return "Unknown: all requests are of one user or very few, and one user says nothing of others."
        return (
            f"Not sure: {interval} contains 0. About {self.needed:,} scored requests would tell a "
            f"difference of {LEVEL:g} from none; there are {self.scored:,}."
        )

    @property
    def next_step(self) -> str:
        """What to do with that."""
        if self.outcome == "above":
            return f"Test {self.trained} on users, in an experiment against the baseline."
        if self.outcome == "undefined":
            return "Compare by another metric (option: --metric)."
        if self.outcome == "one user":
            return "Bring requests of more users."
        if self.outcome == "open":
            return "Bring more requests with feedback, or decide by an experiment on users."
        meaning = self._meaning
        if self.baseline == LINEAR:
            return f"{meaning[0].upper()}{meaning[1:]}"
        return f"Deploy {self.baseline}, or look at what it knows: {meaning}"


def _mean(values: FloatArray) -> float:
    """Mean over the scored requests."""
    return float(np.nansum(values)) / max(int(np.isfinite(values).sum()), 1)
