"""Engines without a cluster: order, errors, bounded look-ahead, stores that fail."""

from __future__ import annotations

import builtins
import errno
from collections.abc import Generator

import fsspec
import pytest

from goalrank.compute import LocalExecutor, open_executor
from goalrank.errors import ConfigError, DataError, ExecutorError, MissingExtraError
from goalrank.storage import Location, transient, with_retries
from tests.compute.kit import FlakyFileSystem, refuses, scaled

fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("goalrank.storage.retry.time.sleep", waits.append)
    FlakyFileSystem.fail = FlakyFileSystem.tries = 0
    return waits


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_parts(workers):
    with open_executor("local", workers=workers) as engine:
        assert list(engine.map(scaled, 3, range(50))) == [3 * i for i in range(50)]
        assert list(engine.map(scaled, 3, [])) == []
        with pytest.raises(DataError, match="breaks a rule"):
            list(engine.map(refuses, None, range(50)))


@pytest.mark.parametrize("workers", [1, 2])
def test_parts_are_taken_as_they_are_needed(workers):
    taken = []

    def parts():
        for i in range(1000):
            taken.append(i)
            yield i

    with LocalExecutor(workers) as engine:
        results = engine.map(scaled, 1, parts())
        assert next(results) == 0
        assert len(taken) < 10
        assert isinstance(results, Generator)
        results.close()


def test_executors_are_named():
    with pytest.raises(ConfigError, match="local, ray"):
        open_executor("spark")
    with pytest.raises(ConfigError, match="workers"):
        open_executor("local", workers=-1)


def test_without_the_extra_the_remedy_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "ray":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'goalrank\[ray\]'"):
        open_executor("ray")


def test_what_is_tried_again():
    assert transient(TimeoutError())
    assert transient(ConnectionResetError())
    assert transient(OSError(errno.EIO, "store"))
    assert not transient(FileNotFoundError(errno.ENOENT, "gone"))
    assert not transient(OSError(errno.ENOSPC, "full"))
    assert not transient(OSError("no Parquet file"))
    assert not transient(ValueError())


def test_waits_grow_and_then_it_is_said(no_waiting):
    def never():
        raise TimeoutError("silence")

    with pytest.raises(ExecutorError, match=r"reading 'x' failed 4 times.*silence.*remedy"):
        with_retries(never, "reading 'x'", retries=3)
    assert no_waiting == [0.5, 1.0, 2.0]


def test_a_store_that_times_out_is_asked_again(tmp_path, no_waiting):
    (tmp_path / "a.txt").write_bytes(b"whole")
    file = Location(f"flaky://{tmp_path}/a.txt")
    FlakyFileSystem.fail = 2
    assert file.read(lambda f: f.read()) == b"whole"
    assert no_waiting == [0.5, 1.0]
    FlakyFileSystem.fail = 99
    with pytest.raises(ExecutorError, match="reading"):
        file.read(lambda f: f.read())


def test_files_appear_whole_or_not_at_all(tmp_path, no_waiting):
    file = Location(f"flaky://{tmp_path}/new/b.txt")
    FlakyFileSystem.fail = 1
    file.write(lambda f: f.write(b"one"))
    assert (tmp_path / "new" / "b.txt").read_bytes() == b"one"

    def breaks(f):
        f.write(b"half")
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        file.write(breaks)
    with pytest.raises(DataError, match="could not write"):
        Location(f"{tmp_path}/new/b.txt/c").write(lambda f: f.write(b"x"))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["b.txt"]
    assert (tmp_path / "new" / "b.txt").read_bytes() == b"one"


def test_memory_and_disk_are_alike(tmp_path):
    for address in ("memory://engine-test", str(tmp_path / "d")):
        folder = Location(address)
        assert not folder.exists()
        folder.child("b.parquet").write(lambda f: f.write(b"b"))
        folder.child("a.parquet").write(lambda f: f.write(b"a"))
        folder.child("_x.parquet").write(lambda f: f.write(b"x"))
        assert folder.is_folder()
        assert [f.name for f in folder.files(".parquet")] == ["a.parquet", "b.parquet"]
        folder.child("a.parquet").remove()
        folder.child("a.parquet").remove()
        assert folder.child("b.parquet").read(lambda f: f.read()) == b"b"
        assert folder.child("b.parquet").parent().address == address
        assert [f.name for f in folder.files(".parquet")] == ["b.parquet"]


def test_protocols_that_nobody_knows():
    with pytest.raises(ConfigError, match="nowhere"):
        Location("nowhere://x").exists()
