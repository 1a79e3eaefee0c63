"""Files and folders appear whole or not at all, whatever interrupts their writing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from goalrank.errors import BundleError, DataError
from goalrank.storage import (
    remove_folder,
    replace_link,
    surviving_folder,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_at_the_end_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("first", "second"):
        with whole_file(path) as temporary:
            temporary.write_text(text)
            assert temporary.parent == path.parent
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert names(path.parent) == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def interrupted() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_and_missing_rights_say_what_to_do(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(DataError, match="check folder and rights"):
        write_text(path / "below" / "b.txt", "new")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"a\.txt.*No space left.*untouched; remedy: free space"):
        write_text(path, "new")
    with pytest.raises(BundleError, match="free space"), whole_file(path, error=BundleError) as t:
        t.write_text("new")
    with pytest.raises(DataError, match="free space"), whole_folder(tmp_path / "f") as folder:
        (folder / "b.txt").write_text("new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_json_is_strict_and_ends_a_line(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, "é"]}, indent=None)
    assert (tmp_path / "a.json").read_bytes() == b'{"a": [1, "\\u00e9"]}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert names(tmp_path) == ["a.json"]


def test_a_folder_with_content_is_replaced_only_where_asked(tmp_path):
    path = tmp_path / "f"
    with whole_folder(path) as folder:
        (folder / "a").write_text("first")
        assert not path.exists()
    with pytest.raises(DataError, match="exists already; remedy"), whole_folder(path):
        pass
    with whole_folder(path, replace=True) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "b").write_text("second")
        assert (path / "a").read_text() == "first"
    assert [str(p.relative_to(path)) for p in sorted(path.rglob("*"))] == ["sub", "sub/b"]
    assert names(tmp_path) == ["f"]


def test_an_empty_folder_is_no_obstacle(tmp_path):
    (tmp_path / "f").mkdir()
    with whole_folder(tmp_path / "f") as folder:
        (folder / "a").touch()
    assert names(tmp_path / "f") == ["a"]


def test_a_failed_replacement_leaves_the_old_folder(tmp_path, monkeypatch):
    path = tmp_path / "f"
    with whole_folder(path) as folder:
        (folder / "a").write_text("first")
    real = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name.endswith(".tmp"):
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DataError, match="untouched"), whole_folder(path, replace=True) as folder:
        (folder / "a").write_text("second")
    assert (path / "a").read_text() == "first"
    assert names(tmp_path) == ["f"]


KILLED = """
import os, signal, sys
from pathlib import Path
from goalrank.storage import whole_folder
real = os.replace
def die(source, target):
    if Path(source).name.endswith(".tmp"):
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = die
with whole_folder(Path(sys.argv[1]), replace=True) as folder:
    (folder / "a").write_text("second")
"""


def test_killed_between_the_two_renames_the_old_folder_is_found(tmp_path):
    path = tmp_path / "f"
    with whole_folder(path) as folder:
        (folder / "a").write_text("first")
    assert surviving_folder(path) == path
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    assert (surviving_folder(path) / "a").read_text() == "first"
    with whole_folder(path, replace=True) as folder:
        (folder / "a").write_text("third")
        assert (surviving_folder(path) / "a").read_text() == "first"
    assert (surviving_folder(path) / "a").read_text() == "third"
    remove_folder(path)
    assert not surviving_folder(path).exists()


def test_a_link_leads_to_the_old_place_or_the_new_one(tmp_path, monkeypatch):
    link = tmp_path / "models" / "champion"
    replace_link(link, "versions/0001")
    replace_link(link, "versions/0002")
    assert str(link.readlink()) == "versions/0002"
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(DataError, match="free space"):
            replace_link(link, "versions/0003")
    assert str(link.readlink()) == "versions/0002"
    assert names(link.parent) == ["champion"]
