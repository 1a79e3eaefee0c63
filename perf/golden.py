"""Check that a refactoring changed no number.

    python perf/golden.py CHECKOUT --out FOLDER             # writes FOLDER/golden.json
    python perf/golden.py CHECKOUT --out FOLDER --only theory-full
    python perf/golden.py --compare BEFORE.json AFTER.json  # exit code 1 if anything differs

A run imports the shipped data, trains, evaluates, ranks and serves small models, and runs the smoke
suites of the arena, of scaling and of online traffic. It uses only the command line and HTTP and
imports nothing from the package, so modules can move and be renamed. Seeds are fixed, and every
process computes on one thread. Figures are kept with all digits, tables and weights as SHA-256.
Times, memory, paths, versions and settings are left out.

`goalrank theory run` has no option that makes it small: the part `theory` reads its first fits,
which are printed with five digits, and stops it; `theory-full` waits for all (some minutes).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
from safetensors.numpy import load_file

# Verbs, options, settings, files and URL paths that were renamed: name in this script -> its newer
# spellings, newest first, e.g. {"light_loop.steps": ("light.loop.steps",)}. Where a checkout
# refuses a spelling the next one is tried, and at last the name itself.
NEWER: dict[str, tuple[str, ...]] = {}
# Words of figures' names that were changed between versions; values are compared under the new ones.
RENAMED = (
    (r"/rules/", "/baselines/"),
    (r"/rule$", "/baseline"),
    (r"\brule: ", "baseline: "),
    (r"best_rule", "best_baseline"),
    (r"hidden_rules", "hidden_baselines"),
)
# Keys whose values differ from run to run, and settings, which are no results.
LEFT_OUT = {"seconds", "training_seconds", "ms_per_request", "peak_memory_mb", "threads", "cores",
            "options", "settings"}  # fmt: skip
LOOP = {"steps": 20, "warmup": 2, "validate_every": 10}
RECIPE = ["seed=0", "light=['dnn','prm']", "ranker.width=16", "ranker.layers=1", "ranker.heads=2",
          "ranker.slots=6", "reward.width=16", "reward.heads=2",
          *(f"{loop}.{name}={value}" for loop in ("light_loop", "reward.loop", "training")
            for name, value in LOOP.items())]  # fmt: skip
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
FITS = 10  # of the theory run, in the part `theory`
RULES: dict[str, dict[str, Any]] = {
    "free": {},
    "window": {"at_most": [{"by": "upload_type", "most": 3, "window": 4}],
               "diversity": {"by": "upload_type", "weight": 0.5}},
    "group": {"at_least": [{"by": "upload_type", "value": "Web", "least": 2}], "dedupe": "author"},
    "relaxed": {"at_least": [{"by": "upload_type", "value": "no such type", "least": 1}],
                "dedupe": "upload_type"},
}  # fmt: skip
Figures = Iterator[tuple[str, str]]


@dataclass
class Checkout:
    """A checkout, and the folder in which its commands run; `skipped` counts refused spellings."""

    path: Path
    work: Path
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """This checkout's package, one thread, none of the caller's settings."""
        kept = {name: each for name, each in os.environ.items() if not name.startswith("GOALRANK")}
        own = {"PYTHONPATH": str(self.path / "src"), "COLUMNS": "200", "CUDA_VISIBLE_DEVICES": ""}
        return {**kept, **own, **dict.fromkeys(ONE_THREAD, "1")}

    def check(self) -> None:
        """Stop unless `goalrank` means this checkout."""
        code = "import importlib.util; print(importlib.util.find_spec('goalrank').origin)"
        found = subprocess.run([sys.executable, "-c", code], env=self.environment, cwd=self.work,
                               capture_output=True, text=True, check=True).stdout  # fmt: skip
        if not Path(found).is_relative_to(self.path):
            sys.exit(f"{found.strip()} would run instead of {self.path}")

    def left(self, name: str) -> tuple[str, ...]:
        """The spellings of a name that were not refused, the one to use first."""
        return (*NEWER.get(name, ()), name)[self.skipped.get(name, 0) :]

    def refuse(self, name: str) -> None:
        """Go on to the next spelling."""
        self.skipped[name] = self.skipped.get(name, 0) + 1

    def file(self, name: str) -> Path:
        """A file of the checkout."""
        return next(self.path / each for each in self.left(name) if (self.path / each).exists())

    def command(self, verb: str, arguments: tuple[object, ...]) -> list[str]:
        """A command in this checkout's spelling; of NAME=VALUE the name is spelled."""
        words = [str(each).partition("=") for each in arguments]
        spelled = [self.left(name)[0] + sign + value for name, sign, value in words]
        return [sys.executable, "-m", "goalrank", *self.left(verb)[0].split(), *spelled]

    def run(self, verb: str, *arguments: object) -> str:
        """What a command prints on stdout."""
        while True:
            done = subprocess.run(self.command(verb, arguments), env=self.environment,
                                  cwd=self.work, capture_output=True, text=True)  # fmt: skip
            if done.returncode == 0:
                return done.stdout
            names = {verb, *(str(each).partition("=")[0] for each in arguments)}
            refused = [name for name in names if len(self.left(name)) > 1
                       and any(word in done.stderr for word in self.left(name)[0].split())]  # fmt: skip
            if done.returncode != 2 or not refused:  # 2: an unknown verb, option or setting
                sys.exit(f"goalrank {verb} ended with {done.returncode}:\n{done.stderr}")
            for name in refused:
                self.refuse(name)

    @contextmanager
    def running(self, verb: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        """A command, its stderr to be read; it is stopped at the end of the block."""
        self.run(verb, *arguments, "--help")  # finds the spellings
        log = (self.work / "log").open("w+")
        with subprocess.Popen(self.command(verb, arguments), env=self.environment, cwd=self.work,
                              stdout=log, stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()


def digest(value: object) -> str:
    """SHA-256 of bytes, or of a value's repr."""
    return hashlib.sha256(value if isinstance(value, bytes) else repr(value).encode()).hexdigest()


def numbers(value: Any, key: str) -> Figures:
    """Every number and truth value inside a JSON value."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name not in LEFT_OUT:
                yield from numbers(each, f"{key}/{name}")
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from numbers(each, f"{key}/{place}")
    elif isinstance(value, bool | int | float):
        yield key, repr(value)


def table(path: Path, key: str) -> Figures:
    """A digest of each column of a Parquet file: its type and values, however they are stored."""
    frame = pl.read_parquet(path)
    for column in frame.columns:
        yield f"{key}/{column}", digest((str(frame.schema[column]), frame[column].to_list()))


def weights(path: Path, key: str) -> Figures:
    """Digests of a safetensors file: its values whatever their names, and its names and shapes."""
    arrays = load_file(path)
    yield f"{key}/values", digest(sorted(digest(each.tobytes()) for each in arrays.values()))
    yield f"{key}/names", digest(sorted((name, each.shape) for name, each in arrays.items()))


def stages(folder: Path, key: str) -> Figures:
    """Weights that a run keeps: one digest a kind, which is the folder's name without its hash."""
    kinds: dict[str, list[str]] = {}
    for path in folder.rglob("*.safetensors"):
        kinds.setdefault(path.parent.name.split(".")[0], []).append(next(weights(path, key))[1])
    yield from ((f"{key}/weights/{kind}", digest(sorted(each))) for kind, each in kinds.items())


def imports(at: Checkout) -> Figures:
    """Both shipped logs as requests: lists that were shown, and retrieved candidates."""
    for name, *options in (["kuairand"], ["movielens", "--set", "stride=40"]):
        said = at.run("data import", name, "--out", name, *options, "--json")
        yield from numbers(json.loads(said), f"import/{name}")
        for path in sorted((at.work / name).glob("*.parquet")):
            yield from table(path, f"import/{name}/{path.stem}")


def training(at: Checkout) -> Figures:
    """On both: losses, weights, metrics on the test part, and lists with log-probabilities."""
    settings = [word for setting in RECIPE for word in ("--set", setting)]
    for name in ("kuairand", "movielens"):
        out, lists = at.work / f"{name}-run", at.work / f"{name}-lists.parquet"
        at.run("train", name, "--out", out, "--accelerator", "cpu", *settings)
        for path in sorted(out.rglob("*")):
            key = f"train/{name}/{path.relative_to(out)}"
            if path.suffix == ".safetensors":
                yield from weights(path, key)
            elif path.name == "metrics.csv":
                for place, row in enumerate(csv.DictReader(path.read_text().splitlines())):
                    yield from ((f"{key}/{place}/{k}", each) for k, each in row.items() if each)
        said = at.run("evaluate", "--bundle", out, "--data", name, "--bootstrap", 100, "--json")
        yield from numbers(json.loads(said), f"evaluate/{name}")
        at.run("rank", "--bundle", out, "--requests", f"{name}/test.parquet", "--out", lists)
        yield from table(lists, f"rank/{name}")


def arena(at: Checkout) -> Figures:
    """Every row of the smoke suite: the ledger's numbers, each request's metrics, and weights."""
    suite = at.file("configs/suites/smoke.toml")
    at.run("benchmark run", suite, "--out", "arena", "--jobs", 2, "--accelerator", "cpu")
    for path in sorted((at.work / "arena/ledger").glob("*.parquet")):
        for row in pl.read_parquet(path).to_dicts():
            yield f"arena/{row['ranker']}/status", row["status"]
            yield from numbers(row, f"arena/{row['ranker']}")
        values = at.work / "arena/values" / path.name
        yield from table(values, f"arena/{path.name.split('.')[1]}/values")
    yield from stages(at.work / "arena", "arena")


def asked(at: Checkout) -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests of the test part, each without rules and under several."""
    rows = pl.read_parquet(at.work / "kuairand/test.parquet").drop("shown", "feedback")
    for row in rows.filter(pl.col("candidates").list.len() >= 10).head(6).to_dicts():
        ids = row["candidates"]
        placed = {"blocked": {"blocked": ids[:2], "pinned": {"1": ids[-1]}}}
        for name, rules in {**RULES, **placed}.items():
            yield f"{row['request_id']}/{name}", {**row, "rules": rules}


def http(at: Checkout, base: str, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer of a path: to a POST if there is a body, otherwise to a GET."""
    data = json.dumps(body, default=datetime.isoformat).encode() if body else None
    request = urllib.request.Request(base + at.left(name)[0], data)
    request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        if error.code != 404 or len(at.left(name)) == 1:
            raise
    at.refuse(name)
    return http(at, base, name, body)


def serving(at: Checkout) -> Figures:
    """Served lists with log-probabilities and propensities: the best ones, and drawn ones."""
    for kind, more in {"best": (), "drawn": ("--temperature", "1")}.items():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        base = f"http://127.0.0.1:{port}"
        given = ("--bundle", "kuairand-run", "--items", "kuairand/items.parquet", "--port", port)
        with at.running("serve", *given, "--store", "none", "--deadline", 60, *more) as server:
            for _ in range(600):
                try:
                    http(at, base, "/health/ready")
                    break
                except OSError:
                    time.sleep(0.1)
                    if server.poll() is not None:
                        sys.exit(f"goalrank serve ended: {server.stderr and server.stderr.read()}")
            for key, body in asked(at):
                answer = http(at, base, "/v1/rank", body)
                for part in ("items", "log_prob", "propensity", "relaxed", "degraded"):
                    yield f"serve/{kind}/{key}/{part}", repr(answer[part])


def worlds(at: Checkout) -> Figures:
    """The smallest scaling grid and the smallest online test, on a planted world."""
    at.run("scaling run", at.file("configs/scaling/smoke.toml"), "--out", "scaling")
    for path in sorted((at.work / "scaling/cells").glob("*.json")):
        yield from numbers(json.loads(path.read_text()), f"scaling/{path.name.split('.')[0]}")
    yield from stages(at.work / "scaling", "scaling")
    suite = at.file("configs/online/smoke.toml")
    said = at.run("world online", suite, "--out", "online", "--json")
    yield from numbers(json.loads(said), "online")
    for path in sorted((at.work / "online").rglob("*.parquet")):
        yield from table(path, str(path.relative_to(at.work)))


def theory(at: Checkout) -> Figures:
    """The errors of the first fits, as they are printed; then the run is stopped."""
    with at.running("theory run", "--out", "theory", "--seed", 0, "--jobs", 1) as process:
        errors = (re.search(r"=([\d.]+)$", line.rstrip()) for line in process.stderr or ())
        found = [error[1] for error in islice(filter(None, errors), FITS)]
    yield from ((f"theory/fit {place}", error) for place, error in enumerate(found))


def theory_full(at: Checkout) -> Figures:
    """The whole theory run."""
    said = at.run("theory run", "--out", "theory-full", "--seed", 0, "--jobs", 2, "--json")
    yield from numbers(json.loads(said), "theory-full")


PARTS: dict[str, Callable[[Checkout], Figures]] = {
    "import": imports, "train": training, "serve": serving, "arena": arena, "worlds": worlds,
    "theory": theory, "theory-full": theory_full,
}  # fmt: skip


def measure(checkout: Path, out: Path, parts: list[str]) -> None:
    """Run parts and write their figures; `serve` needs `train`, which needs `import`."""
    out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=out.resolve()) as work:
        at = Checkout(checkout.resolve(), Path(work))
        at.check()
        for name in parts:
            start, found = time.monotonic(), dict(PARTS[name](at))
            figures |= found
            seconds = time.monotonic() - start
            print(f"{name}: {len(found)} figures in {seconds:.0f} s", file=sys.stderr, flush=True)
    (out / "golden.json").write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    print(f"{len(figures)} figures in {out / 'golden.json'}")


def _renamed(figures: dict[str, str]) -> dict[str, str]:
    """The figures under the words of today."""
    for word, now in RENAMED:
        figures = {re.sub(word, now, name): value for name, value in figures.items()}
    return figures


def compare(before: Path, after: Path) -> int:
    """Print each difference; 1 if there is any."""
    old, new = (_renamed(json.loads(path.read_text())) for path in (before, after))
    differ = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    for key in differ:
        print(f"{key}: {old.get(key, 'missing')} -> {new.get(key, 'missing')}")
    count, many = len(old | new), len(differ)
    print(f"{many} of {count} figures differ" if many else f"all {count} figures are equal")
    return int(bool(differ))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Check that a refactoring changed no number.")
    parser.add_argument("checkout", type=Path, nargs="?", help="folder that holds src/goalrank")
    parser.add_argument("--out", type=Path, help="folder for golden.json")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS)[:-1])
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    given = parser.parse_args()
    if given.compare:
        return compare(*given.compare)
    if given.checkout is None or given.out is None:
        parser.error("give CHECKOUT and --out FOLDER, or --compare BEFORE AFTER")
    measure(given.checkout, given.out, given.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
