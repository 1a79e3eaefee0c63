"""Interleaving in the service: what is shown is the draft of both rankers' lists, and is recorded so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from goalrank.constraints.constraints import Constraints
from goalrank.experiments import draft_coins, interleave_report, team_draft
from goalrank.experiments.config import Experiment, Experiments, Metric, Variant
from goalrank.serving.http.schemas import RankBody
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.export import stored_requests
from goalrank.serving.store.records import Event
from goalrank.serving.store.store import Store
from tests.bundles.kit import make_bundle
from tests.serving.http.test_app import body

ROWS = range(12)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("duel")
    return [
        make_bundle(name, reward=False).save(root / name / "bundle") for name in ("goalrank", "prm")
    ]


@pytest.fixture
def served(folders, tmp_path):
    old, new = Variant(name="old"), Variant(name="new", bundle=str(folders[1]))
    metrics = (Metric(name="clicks", kind="click"),)
    duel = Experiment(
        name="duel", salt="s", variants=(old, new), metrics=metrics, interleave=("old", "new")
    )
    store = Store(f"sqlite:///{tmp_path / 's.db'}")
    service = Service(folders[0], store, experiments=Experiments(experiment=(duel,)), deadline=30.0)
    yield service, duel
    service.close()


def test_the_list_is_the_draft_and_its_teams_are_kept(served, folders):
    service, duel = served
    bodies: list[Any] = [RankBody(**body(row)) for row in ROWS]
    answers = service.rank(bodies)
    predictors = service.predictors
    alone = [
        predictors[name].rank([each.row(each.request_id, each.time) for each in bodies])
        for name in ("default", str(folders[1]))
    ]
    differ = 0
    for row, answer in enumerate(answers):
        first, second = (np.array([lists[row].positions]) for lists in alone)
        coins = draft_coins(duel, [answer.request_id], first.shape[1])
        made = team_draft(first, second, coins)
        candidates = bodies[row].candidates
        assert answer.items == [candidates[at] for at in made.lists[0]]
        teams = "".join(map(str, made.teams[0]))
        assert answer.experiment == f"duel:interleave[{teams}]"
        assert answer.propensity is None
        assert answer.log_prob is None
        assert answer.policy == "+".join(each.name for each in predictors.values())
        differ += answer.items != alone[0][row].items
    assert differ > 0  # the rankers disagree, so the drafts say something


def test_the_report_prefers_the_ranker_whose_picks_are_liked(served):
    service, duel = served
    events = []
    for row in range(20):
        answer = service.rank([RankBody(**body(row))])[0]
        teams = answer.experiment.split("[")[1].rstrip("]")
        liked = [item for item, team in zip(answer.items, teams, strict=True) if team == "1"]
        events += [
            Event(request_id=answer.request_id, item=item, kind="click", value=1.0)
            for item in liked
        ]
    service.feedback(events)
    report = interleave_report(duel, list(stored_requests(service.store)))
    click = next(each for each in report.preferences if each.kind == "click")
    assert click.wins_first == 0
    assert click.wins_second > 0
    assert click.first == 0.0


def test_rules_that_a_draft_could_break_are_served_by_one_ranker(served):
    service, _ = served
    given = body(0)
    item = given["candidates"][3]
    pinned = service.rank([RankBody(**given | {"rules": Constraints(pinned={0: item})})])[0]
    assert pinned.experiment is None
    assert pinned.items[0] == item
    assert pinned.policy == service.predictors["default"].name
    other = body(1)
    gone = other["candidates"][0]
    blocked = service.rank([RankBody(**other | {"rules": Constraints(blocked=(gone,))})])[0]
    assert blocked.experiment.startswith("duel:interleave[")
    assert gone not in blocked.items
