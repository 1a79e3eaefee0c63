"""A minute of load with faults: what was acknowledged is stored, and nothing else is."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from goalrank.requests import Requests
from goalrank.serving import Store, check_store, export_store
from tests.bundles.kit import make_bundle
from tests.serving.databases import fill, small_disk
from tests.serving.http.test_app import body

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("GOALRANK_CHAOS_SECONDS", "60"))
CLIENTS = 4
# The clock of one process, shifted: only its wall clock, as when an administrator sets it.
_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static volatile long *shift;
__attribute__((constructor)) static void begin(void) {
  int file = open(getenv("CLOCK_SHIFT"), O_RDONLY);
  void *at = file < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
  if (at != MAP_FAILED) shift = at;
}
int clock_gettime(clockid_t id, struct timespec *to) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int got = real(id, to);
  if (!got && shift && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) to->tv_sec += *shift;
  return got;
}
int gettimeofday(struct timeval *restrict to, void *restrict zone) {
  struct timespec now;
  int got = clock_gettime(CLOCK_REALTIME, &now);
  to->tv_sec = now.tv_sec;
  to->tv_usec = now.tv_nsec / 1000;
  return got;
}
time_t time(time_t *to) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (to) *to = now.tv_sec;
  return now.tv_sec;
}
"""


class Clock:
    """The wall clock of a server, which can be set; not where there is no C compiler."""

    def __init__(self, folder: Path) -> None:
        self.file, self.library = folder / "shift", folder / "clock.so"
        self.set(0)
        compiler = shutil.which("cc")
        self.works = sys.platform == "linux" and compiler is not None
        if self.works:
            command = [str(compiler), "-shared", "-fPIC", "-O1", "-o", str(self.library)]
            source = _CLOCK.encode()
            subprocess.run([*command, "-x", "c", "-", "-ldl"], input=source, check=True)

    def set(self, seconds: int) -> None:
        with self.file.open("r+b" if self.file.exists() else "wb") as opened:
            opened.write(struct.pack("l", seconds))

    @property
    def environment(self) -> dict[str, str]:
        shifted = {"LD_PRELOAD": str(self.library), "CLOCK_SHIFT": str(self.file)}
        return shifted if self.works else {}


class Server:
    """A server that is started again whenever it has ended, as a service manager does."""

    def __init__(self, folder: Path, disk: Path, clock: Clock) -> None:
        self.folder, self.disk, self.clock = folder, disk, clock
        self.store = f"sqlite:///{disk / 's.db'}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.starts, self.wanted = 0, True
        self.log = (folder / "server.log").open("wb")
        self.process = self._start()
        self._keeper = threading.Thread(target=self._keep)
        self._keeper.start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        command = [sys.executable, "-c", "from goalrank.cli import main; main()", "serve"]
        command += ["--bundle", "bundle", "--port", str(self.port), "--store", self.store]
        command += ["--store-timeout", "1", "--watch", "0.2", "--no-access-log"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | self.clock.environment
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=self.log, stderr=self.log
        )

    def _keep(self) -> None:
        while self.wanted:
            if self.process.poll() is not None:
                self.process = self._start()
            time.sleep(0.05)

    def ready(self, limit: float = 60.0) -> bool:
        end = time.monotonic() + limit
        while time.monotonic() < end:
            try:
                if httpx.get(f"{self.url}/health/ready", timeout=2).status_code == 200:
                    return True
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        return False

    def close(self) -> int:
        self.wanted = False
        self._keeper.join()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def end(self) -> None:
        self.wanted = False
        self._keeper.join()
        self.process.kill()
        self.process.wait()
        self.log.close()


@dataclass
class Caller:
    """A client that knows of each of its requests whether it was acknowledged.

    Attributes:
        acknowledged: request ids answered as logged, also after a broken connection and a retry.
        refused: request ids that were answered with an error and not sent again.
        feedback: (request id, slot, kind) → values that were acknowledged.
        said: status and code of answers → how many.
    """

    url: str
    number: int
    draws: random.Random
    stop: threading.Event
    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    feedback: dict[tuple[str, int, str], float] = field(default_factory=dict)
    said: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=20) as client:
            count = 0
            while not self.stop.is_set():
                count += 1
                self._one(client, f"c{self.number}-{count}")

    def _one(self, client: httpx.Client, name: str) -> None:
        asked = body(self.draws.randrange(20), request_id=name)
        if self.draws.random() < 0.5:  # the server's clock gives the time
            asked = {key: asked[key] for key in asked if key not in ("time", "history_time")}
            asked |= {"missing": "mean"}
        answer = self._post(client, "/v1/rank", asked)
        while answer is None:  # was it stored? the same request says so, now or as a repetition
            answer = self._post(client, "/v1/rank", asked)
            if answer is not None and self._code(answer) == "409 duplicate_request":
                self.acknowledged.add(name)
                return
            if answer is not None and answer.status_code == 503:
                answer = None
                time.sleep(0.05)
        if answer.status_code != 200:
            self.refused.add(name)
            time.sleep(0.05)
            return
        shown = answer.json()
        assert shown["logged"], shown
        self.acknowledged.add(name)
        if self.draws.random() < 0.3:
            self._answer(client, name, shown["items"])

    def _answer(self, client: httpx.Client, name: str, items: list[Any]) -> None:
        slot = self.draws.randrange(len(items))
        value = float(self.draws.randrange(2))
        event = {"request_id": name, "item": items[slot], "kind": "click", "value": value}
        answer = None
        while answer is None or answer.status_code == 503:
            answer = self._post(client, "/v1/feedback", {"events": [event]})
            time.sleep(0.0 if answer is not None and answer.status_code == 200 else 0.05)
        assert answer.status_code == 200, answer.text
        self.feedback[name, slot, "click"] = value

    def _post(self, client: httpx.Client, path: str, sent: dict[str, Any]) -> httpx.Response | None:
        try:
            answer = client.post(path, json=sent)
        except httpx.TransportError as error:
            self.said[type(error).__name__] += 1
            time.sleep(0.02)
            return None
        self.said[self._code(answer)] += 1
        return answer

    @staticmethod
    def _code(answer: httpx.Response) -> str:
        if answer.status_code == 200:
            return "200"
        return f"{answer.status_code} {answer.json()['error']['code']}"


def faults(server: Server, draws: random.Random) -> dict[str, Callable[[], None]]:
    """What goes wrong: each fault lasts a moment, and ends."""
    spare = server.folder / "bundles"
    for name in ("goalrank", "dnn"):
        make_bundle(name, reward=False).save(spare / name)

    def kill() -> None:
        server.process.kill()
        time.sleep(draws.uniform(0.0, 3.0))

    def stall() -> None:
        with sqlite3.connect(server.disk / "s.db", timeout=5, isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            time.sleep(draws.uniform(0.2, 4.0))
            other.execute("ROLLBACK")
        other.close()

    def freeze() -> None:
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(draws.uniform(0.2, 2.0))
        server.process.send_signal(signal.SIGCONT)

    def swap() -> None:
        new = shutil.copytree(spare / draws.choice(("goalrank", "dnn")), server.folder / "new")
        if draws.random() < 0.3:  # one that cannot be served: the old one stays
            (new / "ranker.safetensors").write_bytes(b"cut off")
        shutil.rmtree(server.folder / "old", ignore_errors=True)
        (server.folder / "bundle").rename(server.folder / "old")
        new.rename(server.folder / "bundle")
        time.sleep(1.0)
        if (server.folder / "bundle" / "ranker.safetensors").stat().st_size < 100:
            shutil.rmtree(server.folder / "bundle")  # put right, so that a restart finds a bundle
            shutil.copytree(spare / "goalrank", server.folder / "bundle")

    def full() -> None:
        ballast = fill(server.disk, draws.choice((0, 20_000)))
        time.sleep(draws.uniform(0.5, 3.0))
        ballast.unlink()

    def step() -> None:
        server.clock.set(draws.choice((-86_400 * 40, -3_600, -2, 0, 2, 3_600, 86_400 * 3)))

    found = {"kill": kill, "stall": stall, "freeze": freeze, "swap": swap}
    if server.disk != server.folder:
        found["full disk"] = full
    if server.clock.works:
        found["clock step"] = step
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "seed", [int(each) for each in os.environ.get("GOALRANK_CHAOS_SEEDS", "1").split(",")]
)
def test_what_was_acknowledged_is_stored_and_nothing_else(tmp_path, seed):
    draws = random.Random(seed)
    clocks = Path(tempfile.mkdtemp(dir=tmp_path))
    make_bundle(reward=False).save(tmp_path / "bundle")
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(48)) or tmp_path
        server = Server(tmp_path, disk, Clock(clocks))
        stack.callback(server.end)
        assert server.ready(120)
        stop, happened = threading.Event(), Counter[str]()
        callers = [
            Caller(server.url, i, random.Random(f"{seed} {i}"), stop) for i in range(CLIENTS)
        ]
        threads = [threading.Thread(target=caller.run) for caller in callers]
        for thread in threads:
            thread.start()
        known = faults(server, draws)
        order = list(known)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            # Each kind once, then any.
            name = order.pop(0) if order else draws.choice(list(known))
            happened[name] += 1
            known[name]()
            time.sleep(draws.uniform(0.5, 2.0))
        server.clock.set(0)
        assert server.ready(120), (tmp_path / "server.log").read_text()[-3000:]
        before = sum(len(each.acknowledged) for each in callers)
        limit = time.monotonic() + 30
        while sum(len(each.acknowledged) for each in callers) < before + 20:
            assert time.monotonic() < limit, "the server answers no more"
            time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert server.close() in (0, -signal.SIGTERM)
        _compare(server, callers, tmp_path, happened, seed)


def _compare(
    server: Server, callers: list[Caller], folder: Path, happened: Counter[str], seed: int
) -> None:
    acknowledged = set().union(*(each.acknowledged for each in callers))
    refused = set().union(*(each.refused for each in callers))
    feedback = {key: value for each in callers for key, value in each.feedback.items()}
    said = sum((each.said for each in callers), Counter[str]())
    with Store(server.store) as store:
        rows = [row for part in store.rows() for row in part]
        counts = export_store(store, folder / "export").requests
    stored = {row["request_id"] for row in rows}
    kept = {
        (row["request_id"], slot, kind): value
        for row in rows
        for (slot, kind), value in row["slot_feedback"].items()
    }
    print(
        f"chaos, seed {seed}, {SECONDS:g} s: {dict(happened)}, {server.starts} starts; answers "
        f"{dict(said.most_common())}; {len(acknowledged)} acknowledged, {len(stored)} stored, "
        f"{len(acknowledged - stored)} lost, {len(stored - acknowledged)} phantoms; "
        f"{len(refused)} refused; feedback {len(feedback)} acknowledged, {len(kept)} stored; "
        f"exported {counts}"
    )
    assert acknowledged == stored
    assert refused.isdisjoint(stored)
    assert kept == feedback
    assert check_store(server.store).faults == ()
    assert sum(counts.values()) == len(stored)
    for part in counts:
        assert Requests.read(folder / "export" / part).validate() == []
    assert not {each for each in said if each.startswith(("4", "5"))} - {
        "503 store_unavailable", "503 store_full", "503 overloaded", "409 duplicate_request",
    }  # fmt: skip
