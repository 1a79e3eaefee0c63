"""Addresses where paths are needed: copies and drafts are whole, refusals leave nothing behind."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest

from goalrank.errors import ConfigError, DataError
from goalrank.storage import address_of, check_place, local_copy, local_draft, local_path


@pytest.fixture
def address() -> str:
    return f"memory://{uuid.uuid4().hex}/folder"


def put(address: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        with fsspec.open(f"{address}/{name}", "w") as file:
            file.write(text)


def found(address: str) -> dict[str, str]:
    system, base = fsspec.core.url_to_fs(address)
    return {path[len(base) + 1 :]: system.cat(path).decode() for path in sorted(system.find(base))}


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("s3://bucket/a", "s3://bucket/a"),
        (Path("s3://bucket/a"), "s3://bucket/a"),
        ("memory://x", "memory://x"),
        ("simplecache::s3://b", "simplecache::s3://b"),
        ("a/b", None),
        (Path("/a/b"), None),
        ("file:///a/b", None),
        (Path("file:///a/b"), None),
        ("C:/a", None),
        ("odd:name", None),
    ],
)
def test_an_address_is_known_also_as_a_path(place, address):
    assert address_of(place) == address


def test_files_of_this_machine_are_paths():
    assert local_path("file:///a/b", "x") == local_path(Path("file:///a/b"), "x") == Path("/a/b")
    assert local_path("a/b", "x") == Path("a/b")
    with pytest.raises(ConfigError, match=r"'s3://b/c' is an address.*option: out"):
        local_path(Path("s3://b/c"), "out")


def test_a_folder_is_copied_with_all_below(address):
    put(address, {"a.txt": "1", "deep/b.txt": "2", ".hidden": "3"})
    with local_copy(address) as here:
        assert here.name == "folder"
        assert {p.relative_to(here).as_posix() for p in here.rglob("*") if p.is_file()} == {
            "a.txt", "deep/b.txt",
        }  # fmt: skip
        assert (here / "deep/b.txt").read_text() == "2"
    assert not here.exists()


def test_a_file_is_copied_with_those_beside_it(address):
    put(address, {"t.parquet": "t", "items.parquet": "i", "other": "o"})
    with local_copy(f"{address}/t.parquet", beside=("items.parquet", "users.parquet")) as here:
        assert {p.name for p in here.parent.iterdir()} == {"t.parquet", "items.parquet"}


def test_a_path_is_given_itself(tmp_path):
    for place in (tmp_path, f"file://{tmp_path}"):
        with local_copy(place) as here, local_draft(place) as there:
            assert here == there == tmp_path


def test_nothing_there_is_said(address):
    with pytest.raises(DataError, match=address), local_copy(address):
        pass
    with pytest.raises(ConfigError, match="nowhere"):
        check_place("nowhere://x")


def test_a_draft_is_sent_at_the_end_and_its_last_file_last(address):
    put(address, {"done.json": "old"})
    with local_draft(address, last="done.json") as here:
        here.mkdir()
        (here / "z.txt").write_text("z")
        (here / "done.json").write_text("new")
        assert found(address) == {"done.json": "old"}
    assert found(address) == {"done.json": "new", "z.txt": "z"}
    system, base = fsspec.core.url_to_fs(address)
    times = {name: system.created(f"{base}/{name}") for name in ("z.txt", "done.json")}
    assert times["z.txt"] <= times["done.json"]


def test_a_draft_that_fails_sends_nothing(address):
    def fail(here: Path) -> None:
        (here / "a.txt").parent.mkdir()
        (here / "a.txt").write_text("half")
        raise DataError(f"'{here}' is bad")

    with pytest.raises(DataError) as caught, local_draft(address) as here:
        fail(here)
    assert str(caught.value) == f"'{address}' is bad"
    assert found(address) == {}
