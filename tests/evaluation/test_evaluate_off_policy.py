"""`off_policy` from table and bundle to estimates, against enumerated truth."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from goalrank.bundles import Bundle, Predictor
from goalrank.cli import app
from goalrank.constraints import AtMost, Constraints
from goalrank.encoders import EncoderSizes
from goalrank.errors import ConfigError, DataError, InfeasibleError
from goalrank.evaluation import BIASED, evaluate_off_policy
from goalrank.rankers import RankerConfig, build_ranker
from goalrank.requests import Encoder, LogFingerprint, Requests
from goalrank.rewards import ListReward
from goalrank.testing import shake
from goalrank.worlds import LoggingConfig, TrueReward, World, WorldConfig, enumerate_lists

SLOTS = 2
WORLD = World(
    WorldConfig(
        users=3000, items=60, clusters=6, candidates=5, slots=SLOTS, history=3,
        logging=LoggingConfig(random=0.5, pointwise=0.4, popular=0.1, shuffle=0.0),
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def log() -> Requests:
    return WORLD.sample(4000, seed=1)


@pytest.fixture(scope="module")
def new(log) -> Bundle:
    return bundle(log, "goalrank")


def bundle(log: Requests, name: str) -> Bundle:
    encoder = Encoder.fit(log)
    torch.manual_seed(3)
    sizes: dict[str, Any] = {} if name in ("retriever",) else {"width": 16, "layers": 1, "heads": 2}
    config = RankerConfig(name=name, slots=SLOTS, **sizes)
    reward = ListReward(
        encoder.spec, EncoderSizes(width=16, layers=1, heads=2, dropout=0.0), ("click",), (1.0,)
    )
    ranker = build_ranker(encoder.spec, config)
    shake(ranker)  # untrained their networks give 0
    shake(reward, 1)
    other = LogFingerprint.of(log.head(0))  # shaken, not trained
    return Bundle(ranker, config, encoder, reward, {"dataset": "w", "log": other.to_dict()})


def truth(new: Bundle, log: Requests, temperature: float | None) -> float:
    """Mean of the true reward over every list, weighted by the policy's exact probability."""
    columns = new.encoder.encode(log)
    batch = columns.batch(slice(0, len(log)))
    reward = TrueReward(WORLD, log, columns)
    with torch.inference_mode():
        if temperature is None:
            return float(reward(batch, new.ranker.rank(batch, SLOTS)[:, None]).mean())
        lists = enumerate_lists(5, SLOTS).expand(len(log), -1, -1)
        chance = new.ranker.log_prob(batch, lists, temperature=temperature).exp()
        assert chance.sum(1) == pytest.approx(np.ones(len(log)), abs=1e-4)
        return float((chance * reward(batch, lists)).sum(1).mean())


@pytest.mark.parametrize("temperature", [1.0, 0.3, None])
def test_every_estimator_finds_the_truth(new, log, temperature):
    found = evaluate_off_policy(new, log, temperature=temperature, cap=1e6, bootstrap=300)
    true = truth(new, log, temperature)
    assert list(found.estimates) == [
        "ips",
        "snips",
        "clipped",
        "dm",
        "dr",
        "sndr",
        "switch-dr",
        "position-ips",
        "position-snips",
    ]
    for name, each in found.estimates.items():
        if name in BIASED:
            assert np.isnan([each.value.low, each.gain.high]).all()
            continue
        wide = 1.0 * (each.value.high - each.value.low)  # twice the 95 % half-width: 4 errors
        assert abs(each.value.mean - true) < wide, name
    assert found.lower is not None
    assert found.lower.value < true
    assert found.lower.gain < true - found.logged.mean + 0.05
    assert not found.warnings
    assert found.support["mean_weight"] == pytest.approx(1, abs=0.15)


RULES = Constraints(blocked=(0, 1, 2), at_most=(AtMost(by="kind", most=1),))


@pytest.fixture(scope="module")
def kinds(log) -> Requests:
    """The log with a column of items that rules can look at."""
    items = pl.DataFrame({"item_id": range(60)}).with_columns(kind=pl.col("item_id") % 3)
    return Requests(log.frame, items=items, info=log.info)


def ruled_truth(new: Bundle, log: Requests, temperature: float | None) -> float:
    """`truth` of the policy masked slot by slot to the pairs that `RULES` allow, by enumeration."""
    columns = new.encoder.encode(log)
    batch, pairs = columns.batch(slice(0, len(log))), enumerate_lists(5, SLOTS)
    ids = torch.tensor(log.frame["candidates"].to_list())
    a, b = ids[:, pairs[:, 0]], ids[:, pairs[:, 1]]
    may = (a > 2) & (b > 2) & (a % 3 != b % 3)
    # All of one kind: the rule on kinds is given up, blocking never is.
    may = torch.where(may.any(1, keepdim=True), may, (a > 2) & (b > 2))
    assert may.any(1).all()
    lists = pairs.expand(len(log), -1, -1)
    with torch.inference_mode():
        chance = new.ranker.log_prob(batch, lists, temperature=temperature or 1.0).exp().double()
        first = torch.nn.functional.one_hot(pairs[:, 0], 5).double()  # [20, 5]
        start = chance @ first
        start = start * ((may.double() @ first) > 0)
        start = start / start.sum(1, keepdim=True)
        left = chance * may
        after = left / ((left @ first) @ first.T).clamp_min(1e-300)
        if temperature is None:
            best = torch.nn.functional.one_hot((start.float() @ first.T.float()).argmax(1), 20)
            same = (first @ first.T)[best.argmax(1)]
            chance = torch.nn.functional.one_hot((after * same).argmax(1), 20).double()
        else:
            chance = (start @ first.T) * after
        assert chance.sum(1) == pytest.approx(np.ones(len(log)), abs=1e-6)
        return float((chance * TrueReward(WORLD, log, columns)(batch, lists)).sum(1).mean())


@pytest.mark.parametrize("temperature", [1.0, None])
def test_the_value_under_rules(new, kinds, temperature):
    options: dict[str, Any] = {"temperature": temperature, "cap": 1e6, "bootstrap": 300}
    found = evaluate_off_policy(new, kinds, rules=RULES, **options)
    true = ruled_truth(new, kinds, temperature)
    for name, each in found.estimates.items():
        if name in BIASED:
            assert np.isnan([each.value.low, each.gain.high]).all()
            continue
        wide = 1.0 * (each.value.high - each.value.low)  # twice the 95 % half-width: 4 errors
        assert abs(each.value.mean - true) < wide, name
    assert found.support["mean_weight"] == pytest.approx(1, abs=0.15)
    assert "under rules" in found.settings["policy"]
    free = evaluate_off_policy(new, kinds, **options)
    assert free.estimates["ips"].value.mean != found.estimates["ips"].value.mean


def test_a_log_served_under_rules_gives_its_propensities_back(new, kinds):
    asked = kinds.head(300)
    engine = Predictor(new, rules=RULES, temperature=1.0)
    served = engine.rank(asked)
    frame = asked.frame.drop("slot_propensity").with_columns(
        shown=pl.Series([each.positions for each in served], dtype=pl.List(pl.Int32)),
        propensity=pl.Series([each.propensity for each in served]),
    )
    log = Requests(frame, items=kinds.items, info=kinds.info)
    options: dict[str, Any] = {"temperature": 1.0, "bootstrap": 20, "logging": (new, 1.0)}
    found = evaluate_off_policy(new, log, rules=RULES, logging_rules=RULES, **options)
    for each in ("ips", "position-ips"):
        assert found.estimates[each].value.mean == pytest.approx(found.logged.mean, rel=1e-4)
    with pytest.raises(DataError, match="other propensities"):
        evaluate_off_policy(new, log, rules=RULES, **options)


def test_numbers_do_not_depend_on_batches_and_follow_the_seed(new, log):
    part = log.head(300)
    same: dict[str, Any] = {"temperature": 1.0, "bootstrap": 50, "lists": 3}
    one = evaluate_off_policy(new, part, batch_size=7, **same)
    two = evaluate_off_policy(new, part, batch_size=300, **same)
    for name, each in one.estimates.items():
        assert each.value.mean == pytest.approx(two.estimates[name].value.mean, rel=1e-5)
    other = evaluate_off_policy(new, part, seed=5, **same)
    assert other.estimates["dr"].value.mean != two.estimates["dr"].value.mean
    assert other.estimates["ips"].value.mean == pytest.approx(two.estimates["ips"].value.mean)


def test_the_bundle_that_served_gives_slot_propensities_back(new, log):
    """A log as served by a bundle: without the column, its own probabilities are recomputed."""
    serving = bundle(log, "prm")
    asked = log.head(600)
    columns = serving.encoder.encode(asked)
    batch = columns.batch(slice(0, 600))
    drawn = serving.ranker.propose(batch, 1, SLOTS, torch.Generator().manual_seed(0))
    frame = asked.frame.drop("slot_propensity").with_columns(
        shown=pl.Series(drawn.lists[:, 0].tolist(), dtype=pl.List(pl.Int32)),
        propensity=pl.Series(drawn.log_prob[:, 0].double().exp().tolist()),
    )
    served = Requests(frame, info=log.info)
    with pytest.raises(DataError, match="slot_propensity"):
        evaluate_off_policy(new, served, temperature=1.0, estimators=["position-ips"])
    options: dict[str, Any] = {"temperature": 1.0, "bootstrap": 20, "min_effective": 1}
    assert "position-ips" not in evaluate_off_policy(new, served, **options).estimates
    found = evaluate_off_policy(new, served, logging=(serving, 1.0), **options)
    assert "position-ips" in found.estimates
    own = evaluate_off_policy(serving, served, logging=(serving, 1.0), **options)
    for each in ("ips", "position-ips", "position-snips"):
        assert own.estimates[each].value.mean == pytest.approx(own.logged.mean, rel=1e-4)
    with pytest.raises(DataError, match="other propensities"):
        evaluate_off_policy(new, served, logging=(serving, 2.0), **options)


def test_lists_of_different_lengths_are_each_asked_for(new, log):
    """Half of the lists are cut to one item: the prefix's probability is the logged one."""
    short = pl.int_range(pl.len()) % 2 == 0
    frame = log.frame.with_columns(
        shown=pl.when(short).then(pl.col("shown").list.head(1)).otherwise("shown"),
        feedback=pl.struct(
            click=pl.when(short)
            .then(pl.col("feedback").struct.field("click").list.head(1))
            .otherwise(pl.col("feedback").struct.field("click"))
        ),
        propensity=pl.when(short)
        .then(pl.col("slot_propensity").list.first())
        .otherwise("propensity"),
        slot_propensity=pl.when(short)
        .then(pl.col("slot_propensity").list.head(1))
        .otherwise("slot_propensity"),
    )
    cut = Requests(frame, items=log.items, info=log.info)
    assert cut.validate() == []
    found = evaluate_off_policy(new, cut, temperature=1.0, bootstrap=50)
    assert found.support["mean_weight"] == pytest.approx(1, abs=0.15)
    assert set(found.estimates) >= {"dr", "position-snips"}


def test_refusals(new, log):
    certain = Requests(
        log.frame.drop("slot_propensity").with_columns(propensity=pl.lit(1.0)), info=log.info
    )
    with pytest.raises(InfeasibleError, match="probability 1"):
        evaluate_off_policy(new, certain, temperature=1.0)
    with pytest.raises(InfeasibleError, match=r"greedy.*temperature"):
        evaluate_off_policy(new, log.head(100))
    weak = evaluate_off_policy(new, log.head(100), allow_weak_support=True, bootstrap=20)
    assert "effective sample size" in weak.warnings[0]
    holes = Requests(
        log.frame.with_columns(propensity=pl.when(pl.int_range(pl.len()) > 0).then("propensity")),
        info=log.info,
    )
    with pytest.raises(DataError, match=r"1 of 4,000 requests.*drop-unknown"):
        evaluate_off_policy(new, holes, temperature=1.0)
    assert (
        evaluate_off_policy(
            new, holes, temperature=1.0, drop_unknown=True, bootstrap=20, estimators=["ips"]
        ).settings["left_out"]
        == 1
    )
    faults: dict[str, dict[str, Any]] = {
        "temperature": {"temperature": 0.0},
        "buy": {"reward": {"buy": 1.0}},
        "bootstrap": {"bootstrap": 0},
        "magic": {"estimators": ["magic"]},
    }
    for message, options in faults.items():
        with pytest.raises(ConfigError, match=message):
            evaluate_off_policy(new, log, **({"temperature": 1.0} | options))


def trained_on(new: Bundle, log: Requests) -> Bundle:
    return replace(new, train={"dataset": "w", "log": LogFingerprint.of(log).to_dict()})


def test_the_training_log_is_refused_whole_or_in_part(new, log):
    own = trained_on(new, log.head(3000))
    with pytest.raises(InfeasibleError, match=r"7\d% of the log.*trained on.*allow-training-log"):
        evaluate_off_policy(own, log, temperature=1.0)
    with pytest.raises(InfeasibleError, match=r"100% of the log"):
        evaluate_off_policy(own, log.take(range(500, 1500)), temperature=1.0)
    later = log.take(range(3000, 4000))
    assert not evaluate_off_policy(own, later, temperature=1.0, bootstrap=20).warnings
    seen = evaluate_off_policy(own, log, temperature=1.0, bootstrap=20, allow_training_log=True)
    assert "biased upwards" in seen.warnings[0]


def test_a_bundle_that_does_not_know_its_log_says_so(new, log):
    old = replace(new, train={"dataset": "w"})
    found = evaluate_off_policy(old, log.head(500), temperature=1.0, bootstrap=20)
    assert "nobody knows what the new policy was trained on" in found.warnings[0]


def test_few_answers_are_refused(new, log):
    with pytest.raises(InfeasibleError, match=r"answers of equal weight, below 100000"):
        evaluate_off_policy(new, log, temperature=1.0, min_clicks=1e5)


def test_the_verb(new, log, tmp_path):
    folder = new.save(tmp_path / "bundle")
    log.head(800).write(tmp_path / "log.parquet")
    out = tmp_path / "ope.json"
    arguments = ["ope", "--bundle", folder, "--log", tmp_path / "log.parquet", "--bootstrap", 50]
    result = run(*arguments, "--temperature", 1.0, "--reward", "click=2", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content == json.loads(out.read_text())
    assert content["settings"]["reward"] == {"click": 2.0}
    plain = run(*arguments, "--temperature", 1.0)
    assert "position-snips" in plain.stdout
    assert "(biased, so without interval)" in plain.stdout
    assert "at least " in plain.stdout
    own = trained_on(new, log).save(tmp_path / "own")
    again = run("ope", "--bundle", own, *arguments[3:], "--temperature", 1.0)
    assert again.exit_code == 7
    assert "--allow-training-log" in again.stderr
    model = run(*arguments, "--temperature", 1.0, "--model", own)
    assert "the reward model was trained on" in model.stderr
    (tmp_path / "rules.toml").write_text("blocked = [0, 1, 2]\n")
    ruled = run(*arguments, "--temperature", 1.0, "--rules", tmp_path / "rules.toml")
    assert "under rules" in ruled.stdout
    refused = run(*arguments, "--min-effective", 10**6)
    assert refused.exit_code == 7
    assert "support is missing" in refused.stderr
    assert run(*arguments, "--reward", "click=much").exit_code == 2
    foreign = run(*arguments, "--logging", folder)
    assert foreign.exit_code == 3
    assert "other propensities" in foreign.stderr


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])
