"""`ModelRegistry`: versions of a model in a folder, and the pointers that servers follow."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from goalrank.bundles import MANIFEST, read_manifest
from goalrank.errors import BundleError, ConfigError
from goalrank.models.record import (
    RECORD_FORMAT,
    Code,
    History,
    Move,
    Pointer,
    State,
    VersionRecord,
)
from goalrank.models.source import source_digest
from goalrank.settings import nearest
from goalrank.storage import Place, holding, local_path, replace_link, whole_folder, write_text
from goalrank.wording import counted

if TYPE_CHECKING:
    from goalrank.bundles import Bundle

_VERSIONS, _HISTORY, _LOCK, _RECORD, _BUNDLE = (
    "versions", "history.json", ".lock", "record.json", "bundle",
)  # fmt: skip
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Version:
    """A version of a model and where it stands.

    Attributes:
        record: what is known about it.
        state: where it stands now.
        folder: holds record.json and bundle/; what `goalrank serve --bundle` takes.
    """

    record: VersionRecord
    state: State
    folder: Path

    @property
    def number(self) -> int:
        """Number of the version, from 1."""
        return self.record.version

    @property
    def policy(self) -> str:
        """Name by which a server logs its lists."""
        return self.record.policy

    def manifest(self) -> dict[str, Any]:
        """The bundle's manifest, after checking every file's checksum.

        Raises:
            BundleError: the bundle is missing or damaged.
        """
        return read_manifest(self.folder / _BUNDLE)

    def load(self, **options: Any) -> Bundle:
        """Load the bundle.

        Args:
            **options: of `Bundle.load`.

        Raises:
            BundleError: see `Bundle.load`.
        """
        from goalrank.bundles import Bundle  # pointers are moved and listed without torch

        return Bundle.load(self.folder / _BUNDLE, **options)


class ModelRegistry:
    """Versions of a model, kept in a folder; several processes may use it at once.

    ::

        models/
          champion, canary, previous   links to the versions of these names
          history.json                 every promotion and rollback
          versions/0001/               record.json and bundle/, never changed

    A server that serves `models/champion` follows a promotion as it follows a new bundle: the link
    is replaced in one step, and a request is ranked by the old version or by the new one. The
    links are written after history.json, which decides: what a killed promotion left undone is
    done by the next command that changes the registry, and by the next `goalrank retrain`.

    Args:
        folder: on a file system of this machine that has links; it is made by the first version.

    Raises:
        ConfigError: an address; links and locks need a file system.
    """

    def __init__(self, folder: Place) -> None:
        self.folder = local_path(folder, "models")

    def __repr__(self) -> str:
        found = self.versions()
        champion = next((v.number for v in found if v.state == "champion"), None)
        return f"{type(self).__name__}('{self.folder}', {counted(len(found), 'version')}, champion {champion})"

    def versions(self) -> list[Version]:
        """All versions, oldest first.

        Raises:
            BundleError: a record or the history is damaged, or of a newer goalrank.
        """
        history = self.history()
        found = (self.folder / _VERSIONS).glob("[0-9]*")  # copies with other names are none
        places = sorted((p for p in found if p.name.isdecimal()), key=lambda place: int(place.name))
        records = [(_read_record(place), place) for place in places]
        return [Version(record, _state(record, history), place) for record, place in records]

    def history(self) -> History:
        """Every move of the pointers.

        Raises:
            BundleError: it is damaged.
        """
        path = self.folder / _HISTORY
        return _read(path, History) if path.exists() else History()

    def get(self, name: int | str) -> Version:
        """A version by its number, or by the pointer that leads to it.

        Args:
            name: 3, "3", "champion", "canary" or "previous".

        Raises:
            ConfigError: no such version.
        """
        known = {version.number: version for version in self.versions()}
        pointers: dict[str, int] = dict(self.history().pointers.items())
        number = pointers.get(str(name), name)
        if str(number).isdecimal() and int(number) in known:
            return known[int(number)]
        if not known:
            raise ConfigError(
                f"'{self.folder}' holds no version of a model; remedy: goalrank retrain, or "
                f"goalrank models add, or another folder; option: models"
            )
        if str(name) in pointers:
            raise BundleError(
                f"'{self.folder / _HISTORY}' says that {name} is version {number}, which is not in "
                f"'{self.folder / _VERSIONS}'; remedy: restore its folder from a copy, or promote "
                f"another version; option: version"
            )
        hint = nearest(str(name), [*map(str, known), *get_args(Pointer)])
        raise ConfigError(f"no version '{name}' in '{self.folder}'{hint}; option: version")

    @property
    def champion(self) -> Version | None:
        """The version that serves; None before the first promotion."""
        return self.get("champion") if self.history().champions else None

    def find(self, key: str) -> Version | None:
        """The version that the same data, settings, recipe and code made.

        Args:
            key: of the record.
        """
        return next((each for each in self.versions() if each.record.key == key), None)

    def pointer(self, name: Pointer = "champion") -> Path:
        """Where a pointer's link is: the folder to serve.

        Args:
            name: of the pointer.
        """
        return self.folder / name

    def add(self, bundle: Bundle, **facts: Any) -> Version:
        """Register a trained bundle as a version; it serves only once it is promoted.

        Args:
            bundle: the bundle.
            **facts: further fields of `VersionRecord`.

        Raises:
            BundleError: the disk refuses; nothing was registered.
        """
        return self._register(bundle.save, facts)

    def adopt(self, folder: Place, **facts: Any) -> Version:
        """Register a bundle that is on disk already, byte for byte.

        Args:
            folder: of the bundle, or of the training that made it; it is copied.
            **facts: further fields of `VersionRecord`.

        Raises:
            BundleError: no bundle there, or the disk refuses; nothing was registered.
        """
        given = local_path(folder, "bundle")
        source = _bundle_folder(given)
        read_manifest(source)
        recipe = {} if source == given else _given_recipe(given)
        return self._register(
            lambda place: shutil.copytree(source, place),
            {"start": "added", "recipe": recipe, **facts},
        )

    def _register(self, write: Callable[[Path], object], facts: dict[str, Any]) -> Version:
        with holding(self._lock):
            number = max((each.number for each in self.versions()), default=0) + 1
            place = self.folder / _target(number)
            with whole_folder(place, error=BundleError) as temporary:
                write(temporary / _BUNDLE)
                record = VersionRecord(
                    version=number, created=datetime.now(UTC),
                    policy=_policy(temporary / _BUNDLE), code=Code(source=source_digest()), **facts,
                )  # fmt: skip
                text = record.model_dump_json(indent=2)
                (temporary / _RECORD).write_text(text + "\n", encoding="utf-8")
        return self.get(number)

    def promote(
        self,
        name: int | str,
        *,
        pointer: Literal["champion", "canary"] = "champion",
        reason: str = "",
        force: bool = False,
    ) -> Version:
        """Have a pointer lead to a version; servers that follow it serve that version within a second.

        A new champion ends the canary's test: `canary` leads to it too.

        Args:
            name: of the version, see `get`.
            pointer: "champion", or "canary", which an experiment's variant may serve.
            reason: kept in the history.
            force: also a version that the gate turned down.

        Raises:
            ConfigError: no such version, one that was turned down, or a canary without a champion.
            BundleError: the version's bundle is damaged; nothing changed.
        """
        with self._changing() as history:
            version = self.get(name)
            _check_promotion(version, pointer, history, force)
            version.manifest()
            if history.pointers.get(pointer) != version.number:
                self._move("promote", pointer, version.number, reason)
        return self.get(version.number)

    def rollback(self, reason: str = "") -> Version:
        """Have the champion's last promotion taken back: the champion before serves again.

        Args:
            reason: kept in the history.

        Returns:
            The champion that serves now.

        Raises:
            ConfigError: there was no champion before this one.
            BundleError: its bundle is damaged; nothing changed.
        """
        with self._changing() as history:
            if len(history.champions) < 2:
                raise ConfigError(
                    f"'{self.folder}' has no champion before this one to go back to; remedy: "
                    f"goalrank models promote VERSION"
                )
            before = self.get(history.champions[-2])
            before.manifest()
            self._move("rollback", "champion", before.number, reason)
        return self.get(before.number)

    def settle(self) -> bool:
        """Finish what a killed promotion or rollback left: every link leads where the history says.

        Returns:
            Whether there was something to finish.

        Raises:
            BundleError: the history is damaged, or the disk refuses.
        """
        history = self.history()
        if all(self._leads(name, number) for name, number in history.pointers.items()):
            return False
        with self._changing():
            return True

    @property
    def _lock(self) -> Path:
        return self.folder / _LOCK

    @contextmanager
    def _changing(self) -> Iterator[History]:
        """Hold the lock, with every link where the history says that it leads."""
        with holding(self._lock):
            history = self.history()
            self._link(history)
            yield history

    def _move(
        self, kind: Literal["promote", "rollback"], pointer: Literal["champion", "canary"],
        version: int, reason: str,
    ) -> None:  # fmt: skip
        move = Move(
            time=datetime.now(UTC), kind=kind, pointer=pointer, version=version, reason=reason
        )
        history = self.history()
        history = history.model_copy(update={"moves": (*history.moves, move)})
        write_text(self.folder / _HISTORY, history.model_dump_json(indent=2) + "\n")
        self._link(history)

    def _link(self, history: History) -> None:
        for name, version in history.pointers.items():
            if not self._leads(name, version):
                replace_link(self.folder / name, _target(version), error=BundleError)

    def _leads(self, name: str, version: int) -> bool:
        link = self.folder / name
        return link.is_symlink() and str(link.readlink()) == _target(version)


def _target(version: int) -> str:
    """What a link to a version holds."""
    return f"{_VERSIONS}/{version:04d}"


def _policy(folder: Path) -> str:
    """Name by which a server logs the lists of a bundle."""
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()[:12]
    return f"{read_manifest(folder)['ranker']['name']}@{digest}"


def _bundle_folder(folder: Path) -> Path:
    """The bundle itself, where the folder of a training was given."""
    inner = folder / _BUNDLE
    return inner if (inner / MANIFEST).is_file() and not (folder / MANIFEST).is_file() else folder


def _given_recipe(training: Path) -> dict[str, Any]:
    """The recipe that a training's folder keeps as it was given; empty where it keeps none.

    Raises:
        BundleError: it is damaged.
    """
    path = training / "run" / "recipe.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(
            f"'{path}' is damaged ({error}); remedy: add the training's folder 'bundle' alone; "
            f"option: bundle"
        ) from error


def _state(record: VersionRecord, history: History) -> State:
    if history.pointers.get("champion") == record.version:
        return "champion"
    if record.version in history.served:
        return "retired"
    return "refused" if record.accepted is False else "challenger"


def _check_promotion(version: Version, pointer: str, history: History, force: bool) -> None:
    if version.state == "refused" and not force:
        failed = "; ".join(each.said for each in version.record.reasons if each.passed is False)
        raise ConfigError(
            f"the gate turned version {version.number} down ({failed}); remedy: another version, "
            f"or --force to serve it all the same"
        )
    if pointer == "canary" and not history.champions:
        raise ConfigError(
            "a canary is tested beside a champion, and there is none yet; remedy: promote a "
            "version to champion first; option: pointer"
        )


def _read_record(folder: Path) -> VersionRecord:
    """The record of a version's folder.

    Raises:
        BundleError: damaged, or of another version.
    """
    record = _read(folder / _RECORD, VersionRecord)
    if record.version != int(folder.name):
        raise BundleError(
            f"'{folder}' holds version {record.version}; remedy: give folders of versions back "
            f"their names, and move copies elsewhere"
        )
    return record


def _read(path: Path, model: type[M]) -> M:
    """A record or the history.

    Raises:
        BundleError: it is not there, damaged, or of a newer goalrank.
    """
    try:
        found = model.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise BundleError(
            f"'{path}' is missing, damaged, or of a newer goalrank ({_why(error)}); remedy: restore it "
            f"from a copy, or upgrade goalrank"
        ) from error
    if getattr(found, "format", 0) > RECORD_FORMAT:
        raise BundleError(
            f"'{path}' has format {getattr(found, 'format', 0)}, made by a later goalrank; remedy: "
            f"pip install --upgrade goalrank"
        )
    return found


def _why(error: OSError | ValueError) -> str:
    """What is wrong, in one line: of a record, its first fault."""
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return ": ".join(filter(None, [".".join(map(str, fault["loc"])), fault["msg"]]))
    return str(error)
