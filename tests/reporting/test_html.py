"""Reports: complete, self-contained, safe, and written whole."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalrank.errors import DataError
from goalrank.evaluation import (
    LINEAR,
    METRICS,
    Reason,
    absent_baselines,
    audit,
    audit_baselines,
    evaluate,
)
from goalrank.rankers import FeatureOrder, RandomOrder, RetrieverOrder, Scorer
from goalrank.rankers.build import RANKERS
from goalrank.reporting import (
    Example,
    Move,
    Report,
    choose_rows,
    find_moves,
    headline,
    make_examples,
    ranker_words,
    render,
)
from goalrank.reporting import write_report as write
from goalrank.reporting.descriptions import metric_words, protocol_words, source_words, stage_words
from goalrank.reporting.first_screen import axis_ticks, difference_rows
from goalrank.reporting.html import _CURVES, _OTHER
from goalrank.requests import Encoder, TableInfo
from goalrank.training.groups.group import SOURCES
from tests.helpers import make_columns
from tests.tables import make_table


class Oracle(Scorer):
    def scores(self, batch):
        return batch.relevance


class Page(HTMLParser):
    """Open tags, ids and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [v for k, v in attrs if k == "id"]
        self.addresses += [v for k, v in attrs if k in ("href", "src", "xlink:href")]
        if tag not in ("meta", "link", "br", "img", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()


@pytest.fixture(scope="module")
def full() -> Report:
    columns = make_columns(80, 8, users=40)
    trained = {"<b>prm</b>": Oracle(), "dnn": RandomOrder(5)}
    baselines = evaluate(audit_baselines(columns, ["a", "b"]), columns, slots=3, bootstrap=50)
    measured = evaluate(trained, columns, slots=3, bootstrap=50)
    found = audit(measured, baselines, notes=absent_baselines(columns))
    rows = choose_rows(measured.rows.tolist(), 10)
    ids = {
        r: columns.candidates[columns.candidate_start[r] : columns.candidate_start[r + 1]].tolist()
        for r in rows
    }
    steps = [
        {"step": s, "loss": 1 / (s + 1), "gap_median": 0.1, "best_from/own": s / 99,
         "best_from/sorts": 1 - s / 99}
        for s in range(100)
    ]  # fmt: skip
    return Report.of(
        "A <report>",
        measured,
        baselines,
        found,
        warning="Take care & beware",
        training={"goalrank": steps, "reward": [{"step": 1.0, "val_score": -0.5}]},
        reward_gaps=np.random.default_rng(0).exponential(size=50).tolist(),
        reward_model={
            "kinds": {"click": {"auc": 0.75, "gain_over_constant": -0.0004, "itemwise_auc": 0.7,
                                "gain_over_itemwise": 0.02}},
            "calibration": {"predicted": [0.1, 0.5], "observed": [0.2, 0.4]},
            "correlation": {"pearson": {"mean": 0.5, "std": 0.1, "count": 9}},
            "slots": [{"kind": "click", "slot": 0, "count": 5, "rate": 0.2, "auc": float("nan"),
                       "log_loss": 0.5, "constant_log_loss": 0.6, "calibration_error": 0.01}],
        },
        examples=make_examples(
            trained, columns, rows, candidates=ids, titles={1: "Casino <script>"}, slots=3,
            reward=lambda batch, lists: (lists >= 0).float().mean(-1),
            probabilities=lambda batch, lists: (lists >= 0).float() * 0.25,
        ),
        seconds={"train": 12.3},
        provenance={"seed": 7},
    )  # fmt: skip


def test_every_section_is_there(full):
    text = render(full)
    for words in (
        "Comparison", "Training", "Reward gaps", "Where the best list of a group came from",
        "Reward model", "5 example requests", "5 more example requests", "What the rankers are", "What the numbers rest on", "Provenance",
        "Take care &amp; beware", "A &lt;report&gt;", "retriever order (reversed)", "♥ liked",
        "expected 0.25", "12.3", "paired difference in ndcg@3", "0.750", "0.0 %", "+2.0 %",
        "What the metrics are", "drawn from the ranker that is trained", "how often chance alone",
    ):  # fmt: skip
        assert words in text, words
    assert full.verdict[0].replace("<", "&lt;").replace(">", "&gt;") in text


def test_page_is_well_formed_and_self_contained(full):
    text = render(full)
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert all(address.startswith("#") for address in page.addresses)
    assert {address[1:] for address in page.addresses} <= set(page.ids)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not re.search(r"@import|url\((?!#)", text)
    for raw in ("<script>", "<b>prm", "DOCTYPE svg"):  # titles and names are escaped
        assert raw not in text


def test_every_figure_says_what_it_shows_and_follows_the_ink(full):
    text = render(full)
    opening = re.findall(r"<svg[^>]*>", text)
    assert len(opening) >= 6
    assert all('role="img"' in tag and re.search(r'aria-label="[^"]{10,}"', tag) for tag in opening)
    assert all("viewBox" in tag and " width=" not in tag for tag in opening)
    assert "currentColor" in text
    assert "#1b1c1e" not in text.split("</style>", 1)[1].split("<svg", 1)[1].split("</svg>")[0]


def test_rendering_is_deterministic(full):
    assert render(full) == render(full)


def test_empty_parts_are_left_out():
    text = render(Report("Nothing", "ndcg@6"))
    assert headline(Report("Nothing", "ndcg@6")) == "Nothing was evaluated."
    assert "<svg" not in text
    for words in ("Comparison", "Training", "example request"):
        assert words not in text


def test_headline_without_an_audit():
    cell = {"mean": 0.5, "low": 0.4, "high": 0.6}
    report = Report("t", "ndcg@6", trained={"a": {"ndcg@6": cell}, "b": {}})
    assert headline(report) == "The one ranker, a: ndcg@6 0.500."


def test_written_whole_or_not_at_all(full, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "report.html"
    assert write(full, path).read_text() == render(full)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(DataError, match="disk full"):
        write(Report("other", "ndcg@6"), path)
    assert path.read_text() == render(full)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_examples_hold_titles_likes_and_choices():
    columns = make_columns(20, 6)
    row = int(evaluate({"o": Oracle()}, columns, bootstrap=1).rows[0])
    batch = columns.batch([row])
    n = int(batch.candidate_mask.sum())
    ids = [f"id{i}" for i in range(n)]
    ranker = RetrieverOrder().train()
    (example,) = make_examples(
        {"oracle": Oracle(), "retriever": ranker}, columns, [row],
        candidates={row: ids}, titles={"id0": "Alpha"}, histories={row: list(range(12))}, slots=2,
    )  # fmt: skip
    assert isinstance(example, Example)
    assert list(example.candidates) == ["Alpha", *ids[1:]]
    assert list(example.liked) == (batch.relevance[0] > 0).tolist()
    assert example.liked[example.choices["oracle"][0]]
    assert list(example.choices["retriever"]) == batch.candidate_score[0].topk(2).indices.tolist()
    assert list(example.history) == [str(i) for i in range(4, 12)]
    assert ranker.training
    with pytest.raises(DataError, match="same order"):
        make_examples({}, columns, [row], candidates={row: ids[:-1]}, titles={})


def test_choose_rows_is_seeded():
    rows = list(range(100, 150))
    assert choose_rows(rows, 5, seed=1) == choose_rows(rows, 5, seed=1) != choose_rows(rows, 5)
    assert choose_rows(rows[:3], 10) == rows[:3]


def test_the_first_screen_says_how_much_how_sure_and_what_next(full):
    text = render(full)
    first = text[: text.index('<div class="folds">')]
    for line in full.lines.values():
        assert line.replace("<", "&lt;").replace(">", "&gt;") in first
    assert list(full.lines) == ["How much better", "How sure", "What next"]
    assert "“minus best baseline”" not in first  # the table of all metrics is folded


def test_the_main_comparison_is_of_differences_around_zero(full):
    chart = difference_rows(full)
    assert chart is not None
    best = full.best_baseline
    assert best not in [row["name"] for row in chart["rows"]]
    assert {row["name"] for row in chart["rows"]} == set(full.differences)
    assert {"<b>prm</b>", "dnn"} < set(full.differences)
    means = [row["mean"] for row in chart["rows"]]
    assert means == sorted(means, reverse=True)
    for row in chart["rows"]:
        assert 0 <= row["from"] <= row["point"] <= row["from"] + row["width"] + 0.02 <= 100.04
        assert (row["point"] > chart["zero"]) == (row["mean"] > 0)
        assert row["sure"] == (
            row["from"] > chart["zero"] or row["from"] + row["width"] < chart["zero"]
        )
    page = render(full)
    first = page[: page.index('<div class="folds">')]
    assert first.count('class="whisker"') == len(chart["rows"])
    assert "<svg" not in first


def test_the_axis_of_differences_has_numbers(full):
    chart = difference_rows(full)
    assert chart is not None
    values = {tick["text"]: tick["at"] for tick in chart["ticks"]}
    assert values["0"] == chart["zero"]
    assert 3 <= len(values) == len(chart["ticks"]) <= 5
    ats = [tick["at"] for tick in chart["ticks"]]
    assert ats == sorted(ats)
    # A point stands where its number says: between two numbers of the axis in proportion.
    (a, at_a), (b, at_b) = [(t["value"], t["at"]) for t in chart["ticks"]][:2]
    for row in chart["rows"]:
        expected = at_a + (row["mean"] - a) / (b - a) * (at_b - at_a)
        assert row["point"] == pytest.approx(expected, abs=0.05)
    page = render(full)
    shown = page[page.index('<tr class="ticks"') : page.index('<tr class="ends"')]
    assert re.findall(r">([-+]?[\d.]+)</span>", shown) == list(values)


@given(low=st.floats(-1, 1), span=st.floats(1e-6, 10))
def test_numbers_of_an_axis_are_round_few_and_apart(low, span):
    ticks = axis_ticks(low, low + span)
    assert 1 <= len(ticks) <= 5
    assert len({tick["text"] for tick in ticks}) == len(ticks)
    for tick in ticks:
        assert low - 1e-9 <= tick["value"] <= low + span + 1e-9
        assert float(tick["text"]) == pytest.approx(tick["value"], abs=1e-9)
        assert tick["text"] not in ("+0", "-0", "0.000")


def test_features_are_explained_in_one_place(full):
    meanings = {"click_rate": "clicks < 1", "log_popularity": "earlier rows"}
    report = Report(
        "t", "ndcg@6", baselines={"feature:click_rate": cells(0.5), "random": cells(0.4)},
        meanings=meanings,
    )  # fmt: skip
    page = render(report).replace("<wbr>", "")
    fold = page[page.index('id="features"') :]
    for name, meaning in (("click_rate", "clicks &lt; 1"), ("log_popularity", "earlier rows")):
        assert f"<dt>{name}</dt><dd>{meaning}</dd>" in fold
    rankers = page[page.index('id="words"') : page.index('id="features"')]
    general, sorts = rankers.split('<summary id="sorts">')
    assert "<dt>random</dt>" in general
    assert "feature:click_rate" not in general
    assert sorts.startswith("1 sort by one feature<")
    assert "<dt>feature:click_rate</dt>" in sorts
    assert 'id="features"' not in render(full)  # nobody said what they are


def test_every_name_on_the_page_has_words():
    for name in [*METRICS.builtin_names, "auc"]:
        assert metric_words(f"{name}@6").endswith("Over the first 6 slots."), name
        assert metric_words(name).endswith("."), name
    assert metric_words("mine@6") == stage_words("mine") == source_words("mine") == ""
    assert metric_words("ndcg@1").endswith("Over the first 1 slot.")
    for name in SOURCES:
        assert source_words(name), name
    for name in get_args(TableInfo.model_fields["protocol"].annotation):
        assert protocol_words(name), name
    for name in ("goalrank", "reward-0", "reward-12", "itemwise", "import", "audit", "total"):
        assert stage_words(name).endswith("."), name
    assert stage_words("reward-x") == ""


def test_metrics_are_explained_to_mouse_and_keyboard(full):
    text = render(full)
    page = Page(text)
    terms = dict(
        re.findall(
            r'<span class="term" tabindex="0" aria-describedby="(metric-\d+)">([^<]+)<', text
        )
    )
    assert {"ndcg@3", "recall@3"} <= set(terms.values())
    assert set(terms) <= set(page.ids)


def test_one_is_singular_and_nothing_is_minus_nothing():
    example = Example(
        request="request 1", candidates=["Alpha"], liked=[True], choices={"goalrank": [0]},
        rewards={"goalrank": -0.0001},
    )  # fmt: skip
    difference = {"mean": -0.0001, "low": -0.0002, "high": 0.0001, "p": 0.0}
    report = Report(
        "t", "ndcg@1", trained={"goalrank": cells(0.5)}, baselines={"random": cells(0.5)},
        differences={"goalrank": difference}, best_baseline="random", examples=[example],
        metadata={"requests": 1, "excluded": 1, "slots": 1, "protocol": "exposed"},
    )  # fmt: skip
    said = " ".join(re.sub(r"<[^>]+>", " ", render(report)).split())
    assert "1 liked of 1 candidate" in said
    assert "1 request with a positive (a liked candidate); 1 more without one is left out" in said
    assert "Lists of 1 slot." in said
    assert "p <0.001" in html.unescape(said)
    assert "reward 0.000" in said
    assert not re.search(r"-0\.0+\b", said)
    assert "not liked" not in said  # there is none to list


def test_what_has_no_interval_shows_none():
    cell = {"ndcg@6": {"mean": 0.5, "low": float("-inf"), "high": float("inf")}}
    difference = {"mean": 0.1, "low": float("-inf"), "high": float("inf"), "p": 1.0}
    report = Report(
        "t", "ndcg@6", trained={"goalrank": cell}, baselines={"random": cell},
        differences={"goalrank": difference}, best_baseline="random",
    )  # fmt: skip
    page = render(report)
    assert "inf" not in page
    assert "–––" not in page
    assert "+0.100" in page


def test_everything_below_the_first_screen_is_folded(full):
    text = render(full)
    folds = text[text.index('<div class="folds">') :]
    depth = 0
    for tag in re.findall(r"</?(?:details|h2)\b", folds):
        depth += {"<details": 1, "</details": -1}.get(tag, 0)
        if tag == "<h2":
            assert depth > 0
    assert "<details open" not in text
    assert not re.search(r"<details[^>]* open", text)


def test_names_of_rankers_are_explained_to_mouse_and_keyboard(full):
    text = render(full)
    page = Page(text)
    terms = re.findall(r'<span class="term" tabindex="0" aria-describedby="([^"]+)">([^<]+)<', text)
    assert {"retriever order", "dnn", "random"} <= {name for _, name in terms}
    assert {target for target, _ in terms} <= set(page.ids)
    assert ".term:focus .tip" in text
    assert ".term:hover .tip" in text


def test_what_moved_up_and_why_is_told():
    reasons = [Reason("click_rate", 0.62, 0.31, 4), Reason("log_popularity", 5.0, 2.0, None)]
    example = Example(
        request="request 7", candidates=["Alpha", "Beta <b>"], liked=[False, True],
        choices={"goalrank": [1, 0], "popularity": [0, 1]},
        move=Move("goalrank", "popularity", 1, 1, 0, reasons),
    )  # fmt: skip
    page = render(Report("t", "ndcg@6", examples=[example], meanings={"click_rate": "clicks < 1"}))
    said = " ".join(re.sub(r"<[^>]+>", " ", page.replace("<wbr>", "")).split())
    assert "Beta &lt;b&gt; ♥ liked 2nd → 1st . Lifted by a high click_rate" in said
    assert "0.62 (5th with the mean, 0.31)" in said
    assert "and by a high log_popularity, 5 (not in the list with the mean, 2)." in said
    assert "clicks &lt; 1" in page
    stays = Example(
        request="request 8", candidates=["Alpha"], liked=[False], choices={"goalrank": [0]},
        move=Move("goalrank", "popularity", 0, 0, 0),
    )  # fmt: skip
    said = " ".join(re.sub(r"<[^>]+>", " ", render(Report("t", "m", examples=[stays]))).split())
    assert "Stays 1st: both lists agree. No single input lifts it." in said


def test_moves_are_the_largest_lifts():
    table = make_table(30, most=9)
    encoder = Encoder.fit(table)
    columns = encoder.encode(table)
    rows = [r for r in range(len(columns)) if columns.batch([r]).candidate_mask.sum() > 4][:5]
    up, down = FeatureOrder(0), FeatureOrder(0, reverse=True)
    moves = find_moves(("up", up), ("down", down), encoder, columns, rows, 3)
    assert list(moves) == rows
    for row, move in moves.items():
        values = columns.batch([row]).candidate_features[0, :, 0]
        real = int(columns.batch([row]).candidate_mask.sum())
        assert move.position == int(values[:real].argmax())
        assert (move.before, move.after) == (real - 1, 0)
        assert [reason.feature for reason in move.reasons] == [encoder.info.candidate_features[0]]
    same = find_moves(("up", up), ("up", up), encoder, columns, rows, 3)
    assert all((move.before, move.after) == (0, 0) for move in same.values())


def test_every_ranker_and_baseline_has_words():
    columns = make_columns(40, 6)
    baselines = audit_baselines(columns, ["a", "b"])
    for name in [*baselines, LINEAR, *RANKERS.builtin_names, "best_of_100", "retriever"]:
        assert ranker_words(name).endswith("."), name
    assert ranker_words("feature:a", {"a": "a share"}).endswith("a: a share.")
    assert "other way round: sorts" in ranker_words("popularity (reversed)")
    assert ranker_words("somebody's") == ""


def cells(mean: float) -> dict[str, dict[str, float]]:
    """A ranker's values by one metric."""
    return {"ndcg@6": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}}


def test_weak_baselines_are_folded():
    names = [f"feature:f_{i}" for i in range(15)]
    report = Report(
        "t", "ndcg@6", trained={"prm": cells(0.05)},
        baselines={name: cells(0.9 - 0.01 * i) for i, name in enumerate(names)},
    )  # fmt: skip
    page = render(report).replace("<wbr>", "")
    first, weaker = page.split('<summary id="weaker">', 1)
    first, weaker = first[first.index('id="comparison"') :], weaker[: weaker.index("</table>")]
    assert [name for name in names if f">{name}<" in first] == names[:12]
    assert [name for name in names if f">{name}<" in weaker] == names[12:]
    assert ">prm<" in first  # trained rankers stay, however weak
    assert ">prm<" not in weaker
    assert weaker.startswith("3 weaker baselines<")
    fewer = Report("t", "ndcg@6", baselines={name: cells(0.5) for name in names[:12]})
    assert 'id="weaker"' not in render(fewer)


def test_names_break_after_their_joints_alone(full):
    page = render(Report("t", "ndcg@6", baselines={"feature:click_rate<7d>": cells(0.5)}))
    assert "feature:<wbr>click_<wbr>rate&lt;7d&gt;" in page
    assert "smoothed feedback rate" in render(full)


def test_every_curve_says_what_it_shows(full):
    page = render(full)
    training = page[page.index('id="training"') : page.index('id="gaps"')]
    captions = re.findall(r"</svg>\s*<figcaption>([^<]+)</figcaption>", training)
    assert len(captions) == training.count("<svg") == 3
    assert all("good" in caption for caption in captions)
    assert "taught by a reward model" in training  # what each model is
    assert "predicts the feedback to each item" in render(
        replace(full, training={"reward-0": full.training["reward"]})
    )
    for words, caption in _CURVES.values():
        assert "good" in caption, words
    odd = Report("t", "m", training={"x": [{"step": 1.0, "odd_one": 2.0}]})
    assert f"<figcaption>{_OTHER}</figcaption>" in render(odd)


def test_two_kinds_of_intervals_are_told_apart(full):
    said = "corrected for the choice of the best among 2 trained rankers"
    assert full.choices == 2
    assert said in render(full)
    assert "corrected for the choice" in " ".join(full.lines.values())
    assert "corrected for the choice" not in render(replace(full, choices=1, lines={}, verdict=()))
