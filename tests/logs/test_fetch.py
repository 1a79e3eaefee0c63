"""Downloads, against a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from types import SimpleNamespace
from typing import Any

import pytest

from goalrank.errors import ConfigError, FetchError
from goalrank.logs import DATASETS, Dataset, fetch
from goalrank.logs.download import unpacking


class Server:
    """Serves one file, with ranges; ``short`` cuts an answer, ``ranges`` turns ranges off."""

    def __init__(self, data):
        self.data, self.short, self.ranges = data, None, True
        self.asked: list[Any] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                outer.asked.append(wanted)
                start = int(wanted[6:-1]) if wanted and outer.ranges else 0
                if self.path == "/gone.zip":
                    self.send_error(404)
                    return
                if start >= len(outer.data):
                    self.send_error(416)
                    return
                body = outer.data[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: outer.short] if outer.short else body)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def entry(self, name="small.zip", checksum=None):
        url = f"http://127.0.0.1:{self.http.server_address[1]}/{name}"
        return {"small": Dataset(url, checksum, "movielens", "small", "none")}


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(
            "small/ratings.csv", "userId,movieId,rating,timestamp\n" + "1,2,3,4\n" * 5000
        )
    return buffer.getvalue()


@pytest.fixture
def server():
    made = Server(zipped())
    yield made
    made.http.shutdown()
    made.http.server_close()


def md5(data):
    return "md5:" + hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_downloads_checks_and_unpacks(server, tmp_path, capsys):
    folder = fetch("small", tmp_path, datasets=server.entry(checksum=md5(server.data)))
    assert (folder / "ratings.csv").read_text().startswith("userId")
    assert "licence" in capsys.readouterr().err
    asked = len(server.asked)
    assert fetch("small", tmp_path, datasets=server.entry()) == folder
    assert len(server.asked) == asked  # nothing is downloaded twice


def test_interrupted_download_resumes(server, tmp_path):
    entry = server.entry(checksum=md5(server.data))
    server.short = 100
    with pytest.raises(FetchError, match=r"again|reached"):
        fetch("small", tmp_path, datasets=entry, show=False)
    assert (tmp_path / "small.zip.part").stat().st_size == 100
    server.short = None
    fetch("small", tmp_path, datasets=entry, show=False)
    assert server.asked[-1] == "bytes=100-"
    assert not list(tmp_path.glob("*.part"))


def test_a_server_without_ranges_starts_over(server, tmp_path):
    (tmp_path / "small.zip.part").write_bytes(b"garbage")
    server.ranges = False
    fetch("small", tmp_path, datasets=server.entry(checksum=md5(server.data)), show=False)


def test_a_complete_partial_file_is_used(server, tmp_path):
    (tmp_path / "small.zip.part").write_bytes(server.data)
    fetch("small", tmp_path, datasets=server.entry(checksum=md5(server.data)), show=False)


def test_wrong_checksum_removes_the_file(server, tmp_path):
    with pytest.raises(FetchError, match="md5"):
        fetch("small", tmp_path, datasets=server.entry(checksum="md5:" + "0" * 32), show=False)
    assert list(tmp_path.iterdir()) == []


def test_damaged_archive(tmp_path):
    made = Server(b"not an archive")
    with pytest.raises(FetchError, match="damaged"):
        fetch("small", tmp_path, datasets=made.entry(), show=False)
    assert list(tmp_path.iterdir()) == []
    made.http.shutdown()
    made.http.server_close()


def tar_of(name: str, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = 3
        if link:
            info.type, info.linkname, info.size = tarfile.SYMTYPE, link, 0
        archive.addfile(info, io.BytesIO(b"a,b"))
    return buffer.getvalue()


@pytest.fixture(params=["new Python", "Python before 3.11.4"])
def _tarfile(request, monkeypatch):
    if request.param == "Python before 3.11.4":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    elif not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python has no filters for archives")


@pytest.mark.usefixtures("_tarfile")
def test_tar_archives(tmp_path):
    made = Server(tar_of("small/log.csv"))
    folder = fetch("small", tmp_path, datasets=made.entry("small.tar.gz"), show=False)
    assert (folder / "log.csv").read_text() == "a,b"
    made.http.shutdown()
    made.http.server_close()


@pytest.mark.usefixtures("_tarfile")
@pytest.mark.parametrize(("name", "link"), [("../../out.csv", ""), ("small/l", "/etc/passwd")])
def test_archives_that_write_outside_their_folder_are_refused(tmp_path, name, link):
    made = Server(tar_of(name, link))
    folder = tmp_path / "deep" / "down"
    with pytest.raises(FetchError, match="damaged"):
        fetch("small", folder, datasets=made.entry("small.tar.gz"), show=False)
    assert [p for p in tmp_path.rglob("*") if not p.is_dir()] == []
    made.http.shutdown()
    made.http.server_close()


def zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            archive.writestr(f"small/{number}.csv", b"0" * (20 << 20))
    return buffer.getvalue()


def tar_bomb() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("small/0.csv")
        info.size = 100 << 20
        archive.addfile(info, io.BytesIO(b"0" * info.size))
    return buffer.getvalue()


def many_files() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(50):
            archive.writestr(f"small/{number}", b"")
    return buffer.getvalue()


@pytest.mark.parametrize("bomb", [zip_bomb, tar_bomb, many_files])
def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch, bomb):
    monkeypatch.setattr(unpacking, "MOST_MEMBERS", 40)
    name = "small.tar.gz" if bomb is tar_bomb else "small.zip"
    made = Server(bomb())
    with pytest.raises(FetchError, match=r"unpack to .* remedy"):
        fetch("small", tmp_path, datasets=made.entry(name), show=False)
    assert [path.name for path in tmp_path.rglob("*")] == [name]
    assert (tmp_path / name).stat().st_size < 1 << 20
    made.http.shutdown()
    made.http.server_close()


def test_an_archive_that_the_disk_cannot_hold_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(FetchError, match=r"only 1,000 are free in .*free space"):
        fetch("small", tmp_path, datasets=server.entry(), show=False)
    monkeypatch.undo()
    assert fetch("small", tmp_path, datasets=server.entry(), show=False).is_dir()


def test_not_found(server, tmp_path):
    with pytest.raises(FetchError, match="404"):
        fetch("small", tmp_path, datasets=server.entry("gone.zip"), show=False)


def test_no_network_gives_a_clear_error(tmp_path):
    nowhere = {"small": Dataset("http://127.0.0.1:9/small.zip", None, "movielens", "small", "none")}
    with pytest.raises(FetchError, match="no network"):
        fetch("small", tmp_path, datasets=nowhere, show=False)


def test_known_data_sets():
    assert {"ml-1m", "ml-latest-small", "kuairand-pure"} <= set(DATASETS)
    assert all(d.url.startswith("https://") for d in DATASETS.values())
    with pytest.raises(ConfigError, match="ml-1m"):
        fetch("ml-2m", "nowhere")


def test_only_web_addresses_are_opened(tmp_path):
    file = tmp_path / "small.zip"
    file.write_bytes(zipped())
    entry = {"small": Dataset(file.as_uri(), None, "movielens", "small", "none")}
    with pytest.raises(FetchError, match="https://"):
        fetch("small", tmp_path / "data", datasets=entry, show=False)
