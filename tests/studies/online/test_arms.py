"""What arms show, and with which probability, on a world of 120 lists."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from goalrank.requests import Encoder
from goalrank.studies.online.arms import (
    LoggingArm,
    OracleArm,
    RankedArm,
    build_arm,
    select_requests,
)
from goalrank.studies.online.models import ArmTrainer, save_models
from goalrank.studies.online.traffic import Router, assignment, serve_day, user_sums
from goalrank.training import RunOptions
from goalrank.worlds import World, drawn_table, exact_optimum
from goalrank.worlds.sampling.request_draws import draw_requests
from goalrank.worlds.world.world import EPOCH_US
from tests.studies.online.kit import smoke

CONFIG = smoke()
WORLD = World(CONFIG.world_config())
ARMS = {arm.name: arm for arm in CONFIG.arms}
LISTS = torch.tensor(list(permutations(range(6), 3)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Unfitted arms, the encoder, and 200 requests."""
    torch.manual_seed(0)
    common = WORLD.sample(300)
    encoder = Encoder.fit(common)
    fit = CONFIG.fit_config(WORLD.config)
    options = RunOptions(tmp_path_factory.mktemp("trainer"), progress=False)
    trainer = ArmTrainer(encoder.spec, fit, encoder.encode(common), options)
    arms = {}
    for name, arm in ARMS.items():
        models = trainer.untrained(CONFIG.needs(arm))
        for model in models.values():
            model.eval()
        arms[name] = build_arm(CONFIG, arm, WORLD, models, encoder.spec.candidate_features, 0)
    asked = draw_requests(WORLD, 0, 200, EPOCH_US, torch.Generator().manual_seed(1))
    return arms, encoder, asked


@pytest.mark.parametrize("name", ["mg_e", "goalrank", "hybrid", "prm"])
def test_probabilities_are_exact(made, name):
    """They sum to one over all lists, and lists come as often as they say."""
    arms, encoder, asked = made
    arm = arms[name]
    assert isinstance(arm, RankedArm)
    columns = encoder.encode(drawn_table(asked))
    whole = arm.probability(columns, LISTS.expand(200, -1, -1))
    torch.testing.assert_close(
        whole.sum(1), torch.ones(200, dtype=torch.float64), atol=1e-4, rtol=0
    )
    choice = arm.choose(asked, columns, torch.Generator().manual_seed(2))
    at = (choice.lists[:, None] == LISTS).all(-1).int().argmax(1)
    torch.testing.assert_close(choice.propensity, whole.gather(1, at[:, None])[:, 0])
    assert (choice.propensity > 0).all()
    share = (choice.lists == choice.best).all(-1).double().mean()
    assert 1 - CONFIG.explore - 0.12 < share < 1 - CONFIG.explore + 0.2


def test_the_hybrid_sends_its_share_to_goalrank(made):
    arms, encoder, _ = made
    asked = draw_requests(WORLD, 0, 2000, EPOCH_US, torch.Generator().manual_seed(1))
    hybrid = arms["hybrid"]
    routed = hybrid._routed(asked)
    assert abs(float((routed == 0).double().mean()) - 0.3) < 0.04
    assert [share for share, _ in hybrid.members] == [0.3, 0.7]
    few = select_requests(asked, torch.arange(100))
    columns = encoder.encode(drawn_table(few))
    best = hybrid.choose(few, columns, torch.Generator().manual_seed(0)).best
    for place, (_, ranker) in enumerate(hybrid.members):
        alone = ranker.rank(columns.batch(slice(0, 100)), 3)
        mine = routed[:100] == place
        assert torch.equal(best[mine], alone[mine])


def test_retraining_changes_every_model_and_gives_the_same_twice(tmp_path):
    torch.manual_seed(0)
    common = WORLD.sample(100)
    encoder = Encoder.fit(common)
    columns, fit = encoder.encode(common), CONFIG.fit_config(WORLD.config)
    trainer = ArmTrainer(encoder.spec, fit, columns, RunOptions(tmp_path / "x", progress=False))
    names, place = CONFIG.needs(ARMS["goalrank"]), tmp_path / "weights.safetensors"
    save_models(trainer.untrained(names), place)
    daily = CONFIG.daily.model_copy(update={"light": 2, "reward": 2, "training": 2})
    before, one, two = (trainer.load(place, names) for _ in range(3))
    trainer.retrain(one, columns, daily, 5)
    torch.rand(3)  # what happened meanwhile must not matter
    trainer.retrain(two, columns, daily, 5)
    for name in names:
        old, new, again = (m[name].state_dict() for m in (before, one, two))
        assert all(torch.equal(new[key], again[key]) for key in new), name
        assert any(not torch.equal(old[key], new[key]) for key in new), name


def test_oracle_and_logging(made):
    arms, encoder, asked = made
    assert isinstance(arms["oracle"], OracleArm)
    assert isinstance(arms["logging"], LoggingArm)
    few = select_requests(asked, torch.arange(50))
    columns = encoder.encode(drawn_table(few))
    lists = arms["oracle"].choose(few, columns, torch.Generator()).lists
    model = WORLD.response_model(few.users, few.items, few.days)
    _, best = exact_optimum(WORLD, few.users, few.items, few.days)[:2]
    assert float((best - model.reward(lists[:, None])[:, 0]).mean()) < 0.01
    logged = arms["logging"].choose(few, columns, torch.Generator().manual_seed(0))
    assert ((logged.propensity > 0) & (logged.propensity < 1)).all()


def test_a_day_is_split_by_user_and_told_truly(made):
    arms, encoder, _ = made
    arm_of = assignment(CONFIG, WORLD.config.users, 0)
    assert torch.equal(arm_of, assignment(CONFIG, WORLD.config.users, 0))
    assert not torch.equal(arm_of, assignment(CONFIG, WORLD.config.users, 1))
    config = CONFIG.model_copy(update={"requests": 600})
    router = Router(WORLD, list(arms.values()), arm_of, encoder, beam=8, seed=3)
    logs = serve_day(config, WORLD, router, 1, 0)
    assert sum(len(frame) for frame in logs.values()) == 600
    for place, (name, frame) in enumerate(logs.items()):
        assert {int(arm_of[user]) for user in frame["user_id"]} == {place}
        assert frame["experiment"].unique().to_list() == [f"smoke:{name}"]
        assert frame["day"].unique().to_list() == [1]
        # The search is near the optimum: now and then a served list is a hair better.
        over = (frame["true_reward"] - frame["optimum"]).clip(0.0)
        assert over.to_numpy().mean() < 1e-3
        kept = frame["is_best"]
        assert (frame["true_reward"] == frame["best_reward"]).filter(kept).all()
        sums = user_sums(frame, {"click": 2.0})
        assert float(sums["requests"].sum()) == len(frame)
        assert (sums["reward"] == 2 * sums["click"]).all()
