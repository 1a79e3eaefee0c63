"""Whether new feedback can be trusted: its rates, who and what got it, and what the champion is worth."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import polars as pl

from goalrank import evaluation as ev
from goalrank.api.retraining.settings import GateSettings
from goalrank.bundles import Bundle
from goalrank.errors import DataError
from goalrank.models import Reason
from goalrank.rankers import Constant
from goalrank.requests import Requests
from goalrank.wording import signed

LEAD = "lead over chance"
_STANDARD_ERRORS = 4.0  # a change this small may be chance


def check_data(past: Requests, new: Requests, gate: GateSettings, what: str) -> list[Reason]:
    """Compare new requests with those before.

    A day of flipped labels changes rates; a spammed item or a robot changes who has the positives.

    Args:
        past: what is known to be good.
        new: what is looked at.
        gate: its limits.
        what: name of the new requests in the sentences, e.g. "the window".

    Returns:
        One reason for each feedback type's rate, and for the items' and the users' shares.
    """
    return [
        *_rates(past, new, gate.rate_ratio, what),
        _share(past, new, "item", gate.share_growth, what),
        _share(past, new, "user", gate.share_growth, what),
    ]


def check_lead(
    champion: Bundle, new: Requests, gate: GateSettings, before: float | None, what: str
) -> Reason:
    """Whether the champion still leads over chance; where it does not, the labels are doubted.

    Args:
        champion: the champion.
        new: requests that it was not trained on.
        gate: its metric and limit.
        before: its lead when it was registered; None where it is not known.
        what: name of the new requests in the sentence.
    """
    if before is None or before <= 0:
        said = (
            f"{what}: the champion's {LEAD} at its registration is not known, so none is compared"
        )
        return Reason(check=LEAD, passed=None, said=said)
    slots, metric = champion.config.slots, gate.metric.partition("@")[0]
    rankers = {"champion": champion.ranker, "chance": Constant()}
    try:
        found = ev.evaluate(
            rankers, champion.encoder.encode(new), slots=slots, metrics=(metric,),
            bootstrap=gate.bootstrap, seed=gate.seed,
        )  # fmt: skip
    except DataError as error:
        return Reason(check=LEAD, passed=False, said=f"{what}: {error}")
    lead, limit = found.paired("champion", "chance", metric), gate.lead_kept * before
    return Reason(
        check=LEAD, passed=lead.high >= limit,
        said=f"{what}: the champion's {found.metric_name(metric)} less that of chance is "
        f"{signed(lead.mean, 4)} [{signed(lead.low, 4)}, {signed(lead.high, 4)}], and was {signed(before, 4)} when it was "
        f"registered; below {limit:.4f} the feedback is doubted (setting: gate.lead_kept)",
    )  # fmt: skip


def _rates(past: Requests, new: Requests, limit: float, what: str) -> Iterator[Reason]:
    for kind in past.info.feedback_kinds:
        (before, seen), (after, count) = _rate(past, kind), _rate(new, kind)
        if not seen or not count:
            yield Reason(check=f"rate of {kind}", passed=None, said=f"{what}: nothing was shown")
            continue
        error = math.sqrt(before * (1 - before) / seen + after * (1 - after) / count)
        low, high = sorted((before, after))
        ratio = high / low if low else math.inf
        odd = ratio > limit and high - low > _STANDARD_ERRORS * error
        yield Reason(
            check=f"rate of {kind}", passed=not odd,
            said=f"{what}: {kind} per shown item is {after:.4f}, before {before:.4f}; a factor of "
            f"{ratio:.2f}, limit {limit:g} (setting: gate.rate_ratio)",
        )  # fmt: skip


def _rate(table: Requests, kind: str) -> tuple[float, int]:
    """Share of shown items with positive feedback, and how many were shown."""
    lists = table.frame["feedback"].struct.field(kind)
    values = lists.filter(lists.list.len() > 0).explode().to_numpy()
    return (float(np.mean(values > 0)), len(values)) if len(values) else (0.0, 0)


def _share(past: Requests, new: Requests, unit: str, limit: float, what: str) -> Reason:
    """The item, or user, whose share of the positives grew most."""
    before, after = _positives(past, unit), _positives(new, unit)
    name = f"share of one {unit}"
    if not before.height or not after.height:
        return Reason(check=name, passed=None, said=f"{what}: no positive feedback to share out")
    count = int(after["len"].sum())
    shares = after.with_columns(now=pl.col("len") / count).join(
        before.select("id", was=pl.col("len") / before["len"].sum()), on="id", how="left"
    )
    grown = shares.with_columns(pl.col("was").fill_null(0.0)).with_columns(
        growth=pl.col("now") - pl.col("was")
    )
    top = grown.sort("growth", descending=True).row(0, named=True)
    error = math.sqrt(top["now"] * (1 - top["now"]) / count)
    odd = top["growth"] - _STANDARD_ERRORS * error > limit
    return Reason(
        check=name, passed=not odd,
        said=f"{what}: {unit} {top['id']!r} has {top['now']:.1%} of the positives, before "
        f"{top['was']:.1%}; limit of the growth {limit:.1%} (setting: gate.share_growth)",
    )  # fmt: skip


def _positives(table: Requests, unit: str) -> pl.DataFrame:
    """Positives of the target by item or user: columns id and len."""
    shown = pl.col("candidates").list.gather(pl.col("shown")).alias("item")
    feedback = pl.col("feedback").struct.field(table.info.target or "").alias("value")
    rows = table.frame.filter(pl.col("shown").list.len() > 0).select(
        shown, feedback, pl.col("user_id").alias("user")
    )
    if not rows.height:
        return pl.DataFrame(schema={"id": pl.String, "len": pl.UInt32})
    liked = rows.explode("item", "value").filter(pl.col("value") > 0)
    return liked.group_by(pl.col(unit).alias("id")).agg(pl.len()).sort("id")
