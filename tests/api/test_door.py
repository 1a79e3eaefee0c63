"""The Python door: overrides, callbacks and loggers, frames, tables of others, notebooks, examples."""

from __future__ import annotations

import doctest
import importlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import lightning as L
import polars as pl
import pytest
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from goalrank import evaluate, fit, load
from goalrank.api import Model
from goalrank.errors import ConfigError
from goalrank.rankers import RetrieverOrder
from goalrank.training import FitConfig, load_config
from tests.api.kit import TINY
from tests.bundles.kit import make_bundle
from tests.tables import make_table

SETTINGS = load_config(None, TINY)
STAGES = {"prm", "reward-0", "goalrank"}
EVIL = "<script>alert('x')</script> & \"runs[new]\""


class Counts(Callback):
    """Counts batches of each stage, and remembers a number in checkpoints."""

    def __init__(self) -> None:
        self.batches: dict[str, int] = {}

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        stage = Path(trainer.loggers[0].save_dir or "").name
        self.batches[stage] = self.batches.get(stage, 0) + 1

    def state_dict(self) -> dict[str, Any]:
        return {"batches": dict(self.batches)}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Model, Counts, list[str], Path]:
    folder = tmp_path_factory.mktemp("door")
    counts, stages = Counts(), []

    def loggers(stage: str) -> list[Any]:
        stages.append(stage)
        return [CSVLogger(folder / "csv", name=stage), TensorBoardLogger(folder / "tb", name=stage)]

    model = fit(
        make_table(), make_table(20, seed=1), config=SETTINGS, overrides={"training.steps": 3},
        callbacks=[counts], loggers=loggers, out=folder / "out", progress=False,
    )  # fmt: skip
    return model, counts, stages, folder


def test_callbacks_and_loggers_reach_every_stage(made):
    _, counts, stages, folder = made
    assert counts.batches == {"prm": 4, "reward-0": 4, "goalrank": 3}
    assert set(stages) == STAGES
    for stage in STAGES:
        assert list((folder / "csv" / stage).rglob("metrics.csv"))
        assert list((folder / "tb" / stage).rglob("events.*"))
        assert (folder / "out" / "run" / stage / "log" / "metrics.csv").exists()  # ours too


def test_weights_do_not_depend_on_who_looks_on(made):
    model = made[0]
    alone = fit(
        make_table(), make_table(20, seed=1), config=load_config(SETTINGS, ["training.steps=3"]),
        progress=False,
    )  # fmt: skip
    new = make_table(20, seed=2)
    assert alone.rank(new).equals(model.rank(new))


@pytest.mark.parametrize("option", ["callbacks", "loggers"])
@pytest.mark.parametrize("given", [["x"], 3, lambda stage: ["x"]])
def test_what_is_no_callback_is_refused(option, given):
    with pytest.raises(ConfigError, match=rf"no Lightning.*remedy.*option: {option}"):
        fit(make_table(), config=SETTINGS, progress=False, **{option: given})


def test_one_callback_needs_no_list():
    counts = Counts()
    fit(make_table(), config=SETTINGS, callbacks=counts, progress=False)
    assert set(counts.batches) == STAGES


@pytest.mark.parametrize(
    "overrides", [{"training.lr": 0.5, "seed": 3}, {"training": {"lr": 0.5}, "seed": 3},
                  ["training.lr=0.5", "seed=3"]],
)  # fmt: skip
def test_overrides(overrides):
    config = load_config(SETTINGS, overrides)
    assert (config.training.lr, config.seed) == (0.5, 3)
    expected = SETTINGS.model_dump()
    expected["training"]["lr"], expected["seed"] = 0.5, 3
    assert config.model_dump() == expected
    assert SETTINGS.training.lr != 0.5
    assert load_config(FitConfig(), overrides).training.lr == 0.5


def test_overrides_that_are_wrong():
    with pytest.raises(ConfigError, match=r"training\.lrr"):
        fit(make_table(), config=SETTINGS, overrides={"training.lrr": 1})
    with pytest.raises(ConfigError, match="'steps' is not a section"):
        load_config(SETTINGS, {"training.steps.x": 1})


def test_a_loaded_model_is_a_model(made, tmp_path):
    model, _, _, folder = made
    again = Model.load(folder / "out")
    assert type(again) is Model
    assert again.job is None
    assert set(again.rankers) == {"goalrank"}
    assert type(load(folder / "out")) is not Model
    new = make_table(20, seed=2)
    assert again.rank(new).equals(model.rank(new))
    assert Model.load(again.save(tmp_path / "b")).rank(new).equals(model.rank(new))


def test_slots_are_the_bundles(made):
    model, test = made[0], make_table(30, seed=3)
    card = evaluate(model, test, bootstrap=5)
    assert card.baselines.slots == model.config.slots == 3
    assert evaluate(model, test, 4, bootstrap=5).baselines.slots == 4
    other = make_bundle(reward=False)
    other.config = other.config.model_copy(update={"slots": 5})
    with pytest.raises(ConfigError, match=r"several lengths \('a' 3, 'b' 5\).*option: slots"):
        evaluate({"a": model, "b": other, "c": RetrieverOrder()}, test)


def test_frames(made):
    card = evaluate(made[0], make_table(30, seed=3), train=make_table(), bootstrap=20)
    assert card.trained is not None
    frame = card.trained.to_frame()
    assert frame.height == len(card.trained.metrics)
    for row in frame.iter_rows(named=True):
        interval = card.trained.summaries[row["ranker"]][row["metric"]]
        assert (row["mean"], row["low"], row["high"]) == (
            interval.mean,
            interval.low,
            interval.high,
        )
        values = card.trained.values[row["ranker"]][row["metric"]]
        assert row["requests"] == sum(v == v for v in values) <= card.trained.n
        assert (row["slots"], row["protocol"]) == (3, "exposed")
    both = card.to_frame()
    assert both.drop("trained").filter(pl.col("ranker") == "goalrank").equals(frame)
    assert set(both.filter("trained")["ranker"]) == {"goalrank"}
    assert set(both["ranker"]) == {"goalrank", *card.baselines.rankers}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def test_notebooks_show_tables_and_run_nothing(made):
    table = make_table(30, seed=3, warning=EVIL)
    model = Model.load(made[3] / "out")
    model.train = {**model.train, "dataset": EVIL, "warning": EVIL}
    card = evaluate({EVIL: model}, table, bootstrap=5)
    assert card.trained is not None
    shown = {
        "Requests": table._repr_html_(),
        "Model": model._repr_html_(),
        "Bundle": make_bundle()._repr_html_(),
        "Evaluation": card.trained._repr_html_(),
        "Scorecard": card._repr_html_(),
    }
    for name, text in shown.items():
        page = Tags()
        page.feed(text)
        assert page.open == []
        assert page.seen <= {
            "div",
            "p",
            "strong",
            "small",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
        }
        assert name in page.text
        assert len(text) < 10_000
        assert name == "Bundle" or EVIL in page.text
    assert "30 rows" in shown["Requests"]
    assert f"{card.baselines.rankers[0]}" in shown["Scorecard"]


EXAMPLES: list[tuple[str, str]] = [
    ("goalrank.api.model", "fit"),
    ("goalrank.api.model", "Model"),
    ("goalrank.api.bulk", "load"),
    ("goalrank.api.bulk", "rank_dataset"),
    ("goalrank.api.scorecard", "evaluate"),
    ("goalrank.requests", "Requests.from_polars"),
    ("goalrank.requests", "Requests.from_pandas"),
]


def test_examples_of_docstrings_run(tmp_path):
    tables = [make_table(60, seed=seed) for seed in range(3)]
    tables[2].write(tmp_path / "test.parquet")
    names = dict(zip(("train", "validation", "test"), tables, strict=True), folder=tmp_path)
    for module, path in EXAMPLES:  # in this order: the first writes what others read
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
        text = found.__doc__ or ""
        assert "Examples:" in text, path
        parsed = doctest.DocTestParser().get_doctest(text, dict(names), path, module, 0)
        assert parsed.examples
        failed: list[str] = []
        result = doctest.DocTestRunner().run(parsed, out=failed.append)
        assert result.failed == 0, "".join(failed)
