"""The gate's own checks, on bundles whose order is planted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from goalrank.api.retraining.judge import CHALLENGER, CHAMPION, Judgement, judge
from goalrank.api.retraining.settings import GateSettings
from goalrank.bundles import Bundle
from goalrank.encoders import EncoderSizes
from goalrank.rankers import RankerConfig, build_ranker
from goalrank.requests import Encoder, Requests
from goalrank.rewards import ListReward
from goalrank.worlds import World, WorldConfig

WORLD = World(
    WorldConfig(
        name="few", users=120, items=40, clusters=5, tastes=2, candidates=5, slots=2, history=2,
        bias=-1.0, retriever_noise=0.3, popularity_bias=0.0,
        logging={"random": 0.5, "pointwise": 0.5, "popular": 0.0, "temperature": 2.0},  # type: ignore[arg-type]
    )
)  # fmt: skip
TRAIN, WINDOW = WORLD.sample(900, seed=1), WORLD.sample(900, seed=2, first=900)
ENCODER = Encoder.fit(TRAIN)


def by_score(sign: float) -> Bundle:
    """A linear ranker that sorts by the retriever's score, or the other way round."""
    config = RankerConfig(name="linear", slots=2)
    ranker = build_ranker(ENCODER.spec, config)
    assert ranker.wide_path is not None
    for parameter in ranker.wide_path.parameters():
        torch.nn.init.zeros_(parameter)
    ranker.fit_closed_form(ENCODER.encode(TRAIN), None, 2, 0)
    for parameter in ranker.wide_path.parameters():
        parameter.data *= sign
    return Bundle(ranker, config, ENCODER)


GOOD, BAD = by_score(1.0), by_score(-1.0)
NEARLY = by_score(1.0)  # without one weight: lower, by less than chance may explain
assert NEARLY.ranker.wide_path is not None
next(NEARLY.ranker.wide_path.parameters()).data[0, 3] = 0.0


def verdict(challenger: Bundle, champion: Bundle | None, **gate: Any) -> Judgement:
    bundles = {CHALLENGER: challenger} | ({} if champion is None else {CHAMPION: champion})
    return judge(bundles, WINDOW, TRAIN, GateSettings(bootstrap=200, **gate))


def passed(found: Judgement, check: str) -> bool | None:
    return next(reason.passed for reason in found.reasons if reason.check == check)


def test_worse_is_refused_and_equal_is_not():
    found = verdict(BAD, GOOD)
    assert passed(found, "ndcg@2") is False
    assert passed(found, "audit") is False
    assert not found.accepted
    assert verdict(GOOD, GOOD).accepted
    assert passed(verdict(GOOD, GOOD, require="better"), "ndcg@2") is False
    assert passed(verdict(GOOD, BAD, require="better"), "ndcg@2") is True


def test_a_challenger_that_passes_though_it_is_lower_is_named():
    """The reason of a check that passed said the same above the baseline and below it."""
    almost = verdict(NEARLY, GOOD, audit=True, margin=1.0)
    for check in ("ndcg@2", "audit"):
        said = next(reason.said for reason in almost.reasons if reason.check == check)
        assert passed(almost, check) is True
        assert ", lower but not significantly; " in said
    assert almost.lower == ["ndcg@2", "audit"]
    assert "lower but" not in "".join(reason.said for reason in verdict(BAD, GOOD).reasons)
    better = verdict(GOOD, NEARLY)
    assert better.lower == []
    assert "lower but" not in "".join(reason.said for reason in better.reasons)


def test_figures_have_intervals():
    found = verdict(GOOD, BAD)
    gain = next(figure for figure in found.figures if figure.name == "gain in ndcg@2")
    assert gain.low is not None
    assert gain.high is not None
    assert 0 < gain.low < gain.value < gain.high
    assert {figure.name for figure in found.figures} >= {
        "challenger ndcg@2",
        "best baseline ndcg@2",
    }


def test_the_value_of_a_bad_policy_is_seen_in_the_propensities():
    bad, good = (verdict(each, None, temperature=1.0) for each in (BAD, GOOD))
    assert passed(bad, "off-policy") is False
    assert passed(good, "off-policy") is True
    value = {f.name: f for f in good.figures}["challenger off-policy gain"]
    assert value.low is not None
    assert value.low > 0
    strict = verdict(GOOD, None, temperature=1.0, lower_bound=0.9)
    assert passed(strict, "off-policy") is False


def test_without_support_there_is_no_estimate_and_no_refusal():
    unknown = Requests(WINDOW.frame.drop("propensity"), items=WINDOW.items, info=WINDOW.info)
    found = judge({CHALLENGER: GOOD}, unknown, TRAIN, GateSettings(bootstrap=50))
    assert passed(found, "off-policy") is None
    certain = WINDOW.frame.with_columns(propensity=1.0)
    table = Requests(certain, items=WINDOW.items, info=WINDOW.info)
    found = judge({CHALLENGER: GOOD}, table, TRAIN, GateSettings(bootstrap=50, temperature=1.0))
    reason = next(reason for reason in found.reasons if reason.check == "off-policy")
    assert reason.passed is None
    assert "probability 1" in reason.said
    assert "remedy" not in reason.said


def with_reward(shift: float) -> Bundle:
    """A bundle whose reward model gives everything the click rate, shifted in logits."""
    torch.manual_seed(0)
    sizes = EncoderSizes(width=16, layers=0, heads=2, dropout=0.0)
    model = ListReward(ENCODER.spec, sizes, ("click",), (1.0,), slots=2)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    rate = 0.3
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("head.bias") or name.endswith("output.bias"):
                parameter.fill_(torch.logit(torch.tensor(rate)).item() + shift)
    return replace(GOOD, reward=model.eval())


def test_a_reward_model_that_lost_its_calibration_is_refused():
    assert passed(verdict(GOOD, GOOD), "calibration") is None  # neither has one
    true, off = with_reward(0.0), with_reward(3.0)
    assert passed(verdict(off, true), "calibration") is False
    assert passed(verdict(true, off), "calibration") is True


def test_a_window_without_positives_is_refused():

    table = Requests(WINDOW.frame, items=WINDOW.items, info=WINDOW.info).filter(
        WINDOW.frame["feedback"].struct.field("click").list.sum() == 0
    )
    found = judge({CHALLENGER: GOOD}, table, TRAIN, GateSettings())
    assert passed(found, "ndcg") is False
    assert "has positive 'click' feedback" in found.reasons[0].said


@pytest.mark.parametrize("metric", ["recall", "map@2"])
def test_other_metrics(metric):
    found = verdict(GOOD, BAD, metric=metric)
    assert passed(found, f"{metric.partition('@')[0]}@2") is True
