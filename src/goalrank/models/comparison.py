"""What differs between two versions: settings, data and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from goalrank.models.registry import Version

_ABSENT = "absent"
_MOST_NAMED = 10  # values of a list; the digests of users are thousands


@dataclass(frozen=True)
class Change:
    """One thing in which two versions differ.

    Attributes:
        name: dotted, e.g. "recipe.training.steps", "trained.last" or "challenger ndcg@6".
        before, after: the first and the second version's; "absent" where one has none.
    """

    name: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.name}: {_text(self.before)} -> {_text(self.after)}"


def compare_versions(before: Version, after: Version) -> list[Change]:
    """List what differs: recipe, ranker, settings, code, data ranges and figures.

    Args:
        before: the version that is compared with.
        after: the other one.

    Raises:
        BundleError: a version's bundle is damaged.
    """
    ours, theirs = _facts(before), _facts(after)
    names = dict.fromkeys([*ours, *theirs])
    pairs = [(name, ours.get(name, _ABSENT), theirs.get(name, _ABSENT)) for name in names]
    return [Change(name, old, new) for name, old, new in pairs if old != new]


def _facts(version: Version) -> dict[str, Any]:
    record, manifest = version.record, version.manifest()
    train = manifest["train"]
    parts = {
        "ranker": manifest["ranker"],
        "recipe": train.get("recipe", {}),
        "train": {name: train[name] for name in sorted(train) if name != "recipe"},
        "settings": record.settings,
        "code": record.code.model_dump(),
        "trained": None if record.trained is None else record.trained.model_dump(mode="json"),
        "judged": None if record.judged is None else record.judged.model_dump(mode="json"),
    }
    facts = {name: value for key, part in parts.items() for name, value in _flat(key, part)}
    facts |= {figure.name: figure.value for figure in record.figures}
    return facts | {"accepted": record.accepted}


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, inner in value.items():
        yield from _flat(f"{name}.{key}", inner)


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) > _MOST_NAMED:
        return f"[{value[0]}, …, {value[-1]}] ({len(value):,} values)"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
