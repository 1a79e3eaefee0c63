"""Rules of the house that can be proved."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import goalrank

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "goalrank"
MODULES = sorted(SOURCE.rglob("*.py"))
_TEXT = {".py", ".md", ".toml", ".txt", ".cff", ".yaml", ".yml", ".cfg", ".j2", ".json", ".sh", ""}
STUDIES = SOURCE / "studies"
_HOME = re.compile(r'^        "(\w+)": "goalrank\.[\w.]+",$', re.MULTILINE)  # of a lazy door
_PACKAGES = sorted(
    [f"goalrank.{m.name}" for m in pkgutil.iter_modules([str(SOURCE)]) if m.ispkg]
    + [f"goalrank.studies.{m.name}" for m in pkgutil.iter_modules([str(STUDIES)])]
)
_PACKAGES.remove("goalrank.studies")


def _room(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The room of a module: its first folder, and below studies the second too."""
    return parts[: 2 if parts[0] == "studies" else 1]


def test_rooms_import_only_from_earlier_rooms():
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(command)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _place(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions; by name within each."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", ["goalrank", *_PACKAGES])
def test_doors_are_sorted_and_open(name):
    module = importlib.import_module(name)
    names = list(module.__all__)
    assert names == sorted(set(names), key=_place)
    for each in names:
        assert getattr(module, each) is not None


def test_no_name_of_a_lazy_door_is_that_of_a_file_beside_it():
    """Importing the file would put the module where the name is looked up first."""
    doors = {path for path in MODULES if "lazy_door(" in path.read_text("utf-8")}
    homes = {door: _HOME.findall(door.read_text("utf-8")) for door in doors}
    assert sum(map(bool, homes.values())) >= 8
    found = [
        f"{door.relative_to(SOURCE)}: {name}"
        for door, names in homes.items()
        for name in names
        if (door.parent / f"{name}.py").exists() or (door.parent / name).is_dir()
    ]
    assert found == []


def test_other_rooms_come_in_by_the_door():
    wrong = []
    for path in MODULES:
        room = _room(path.relative_to(SOURCE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("goalrank."):
                parts = tuple((node.module or "").split(".")[1:])
                if _room(parts) != room and parts != _room(parts):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.module}")
    assert wrong == []


@pytest.mark.parametrize(
    "module",
    [
        "goalrank",
        "goalrank.requests",
        "goalrank.logs",
        "goalrank.bundles.manifest",
        "goalrank.models.registry",  # a rollback is in a hurry
    ],
)
def test_importing_stays_light(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)
    assert done.returncode == 0


def test_ranking_and_evaluating_load_no_training_library():
    names = (
        "audit_table, evaluate, evaluate_off_policy, load, rank_dataset, recipe_path, world_card"
    )
    code = f"import sys; from goalrank.api import {names}; sys.exit('lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)
    assert done.returncode == 0


def test_no_pickle():
    forbidden = re.compile(
        r"\b(import pickle|from pickle|cloudpickle|joblib|torch\.save|torch\.load|allow_pickle=True)\b"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()}"
        for path in MODULES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if forbidden.search(line)
    ]
    assert found == []


def _tracked() -> list[Path]:
    """Files that git knows or would add; without git, the source and its neighbours."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        return [p for name in ("src", "tests", "docs", "configs") for p in (ROOT / name).rglob("*")]
    return [ROOT / name for name in done.stdout.splitlines()]


def test_no_machine_paths():
    places = re.compile(r"(?<![\w.])/(?:home|Users|root|work|opt|mnt)/[\w.-]+")
    found = []
    for path in _tracked():
        if not path.is_file() or path.suffix not in _TEXT or path == Path(__file__):
            continue
        for number, line in enumerate(
            path.read_text(encoding="utf-8", errors="replace").splitlines(), 1
        ):
            if places.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number} {line.strip()[:100]}")
    assert found == []


def test_packaged_files_are_declared():
    """What is not Python and lies in the package must be in the wheel too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["goalrank"]
    declared = {path for pattern in patterns for path in SOURCE.glob(pattern)}
    present = {
        path
        for path in SOURCE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".so") and "cache" not in str(path)
    }
    assert present - declared == set()


def test_version_is_told_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["version"] == goalrank.__version__


# Where a class of ours may be asked for, and why; everything else is a method of the object.
_ASKED_FOR = {
    "api/model.py": {"FitConfig", "Requests"},  # an argument may be a path instead
    "api/scorecard.py": {"Bundle", "Requests"},  # an argument may be a path, or a bare ranker
    "bundles/predictor.py": {"Requests"},  # an argument may be rows instead
    "encoders/id_table.py": {"IdTable"},  # a walk over a tree of any torch modules
    "encoders/wide.py": {"Wide"},  # a walk over a tree of any torch modules
    "errors.py": {"GoalRankError", "ValidationError"},  # an error rebuilt from its class's name
    "logs/importer.py": {"ImportOptions", "RawLog"},  # a dictionary instead; what others' code gave
    "logs/preview.py": {"ImportOptions"},  # an argument may be a dictionary instead
    "models/registry.py": {"ValidationError"},  # pydantic's, which has faults to tell
    "reporting/tables.py": {"Bold", "Markup"},  # a cell is a plain value or a marked one
    "requests/encoding/encoded.py": {"EntityTable"},  # a walk over dataclass fields
    "serving/store/database.py": {"StoreError"},  # an error beside the database's
    "testing/batches.py": {"EntityTable"},  # a walk over dataclass fields
    "testing/readers.py": {"RawLog"},  # what others' code gave
    "training/config.py": {"FitConfig"},  # an argument may be a path instead
}


def _names(node: ast.AST) -> set[str]:
    return {getattr(x, "id", getattr(x, "attr", "")) for x in ast.walk(node)}


def test_capabilities_are_asked_of_the_object():
    trees = {p.relative_to(SOURCE).as_posix(): ast.parse(p.read_text("utf-8")) for p in MODULES}
    nodes = [(name, node) for name, tree in trees.items() for node in ast.walk(tree)]
    ours = {node.name for _, node in nodes if isinstance(node, ast.ClassDef)}
    found: dict[str, set[str]] = {}
    for name, node in nodes:
        if not isinstance(node, ast.Call) or len(node.args) != 2:
            continue
        if _names(node.func) & {"isinstance", "issubclass"}:
            found.setdefault(name, set()).update(_names(node.args[1]) & ours)
    assert {name: classes for name, classes in found.items() if classes} == _ASKED_FOR


_RENAMING = {("os", "replace"), ("os", "rename"), ("os", "renames"), ("shutil", "move")}
_MAY_RENAME = {
    "storage/atomic.py": "the one place where what was written gets its name",
    "logs/download/fetch.py": "lifts an archive's files out of their folder, inside a whole_folder",
}


def _renames(tree: ast.AST) -> list[tuple[int, str]]:
    """Calls that rename files, and texts that make names for unfinished ones."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, name = node.func.value, node.func.attr
            known = isinstance(owner, ast.Name) and (owner.id, name) in _RENAMING
            # Path.replace and Path.rename take one path; str.replace takes two arguments and a
            # table's rename takes a mapping.
            single = len(node.args) == 1 and not node.keywords
            target = node.args[0] if single else None
            path_like = isinstance(target, ast.Name | ast.BinOp) or (
                isinstance(target, ast.Call)
                and isinstance(target.func, ast.Attribute)
                and target.func.attr in ("with_name", "with_suffix")
            )
            of_path = name == "replace" and single
            of_path |= name == "rename" and path_like and not _names_a_column(target)
            if known or of_path:
                found.append((node.lineno, ast.unparse(node)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.endswith(".tmp"):
                found.append((node.lineno, repr(node.value)))
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "shutil"):
            found += [
                (node.lineno, alias.name)
                for alias in node.names
                if (node.module, alias.name) in _RENAMING
            ]
    return found


def _names_a_column(target: ast.expr | None) -> bool:
    return isinstance(target, ast.Name) and target.id in ("name", "names")


def test_only_one_place_renames_files():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} {call}"
        for path in MODULES
        if str(path.relative_to(SOURCE)) not in _MAY_RENAME
        for line, call in _renames(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert wrong == [], "remedy: goalrank.storage.whole_file or whole_folder"


@pytest.mark.parametrize(
    "code",
    [
        "os.replace(a, b)", "os.rename(a, b)", "shutil.move(a, b)", "from os import replace",
        "temporary.replace(path)", "temporary.rename(path)", "a.rename(b / 'c')",
        "log.rename(log.with_name('b'))", "path.with_name(f'.{path.name}.tmp')",
    ],
)  # fmt: skip
def test_renaming_is_noticed(code):
    assert _renames(ast.parse(code))
