"""Bundles that a server serves: loaded, measured, and replaced while requests go on."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from goalrank.bundles import MANIFEST, Bundle, LatestRows, ListGraph, Predictor, load_graph
from goalrank.errors import BundleError, ConfigError, GoalRankError, MissingExtraError
from goalrank.requests import Bounds
from goalrank.serving.observability.metrics import Metrics
from goalrank.serving.store.store import Store

_LOG = logging.getLogger("goalrank.serving")
_UNBOUNDED: Bounds = (None, None)
DEFAULT = "default"
_TRIES = 5  # loads of a folder that is replaced again and again
ServedBackend = Literal["torch", "onnx", "auto"]


class ServedBundles:
    """Predictors of the bundles in some folders.

    Args:
        folders: name → folder; one is named "default".
        options: of each `Predictor`.
        store: told of each model; None for none.
        metrics: where failures to load are counted.
        backend: see `Service`.
        threads: of ONNX Runtime.
        allow: packages whose rankers and rewards bundles may load.

    Attributes:
        predictors: by name. A new dictionary replaces it, so that readers see old or new.
        feedback_ranges: range of each kind of feedback that is accepted.
        faults: name → why the bundle that is in its folder now cannot be served.
        before_serving: called with the name and the predictor before it serves; where it raises, the
            old bundle stays.

    Raises:
        BundleError: a folder holds no bundle that can be loaded.
        ConfigError: two bundles need different candidate features.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        options: Mapping[str, Any],
        *,
        store: Store | None,
        metrics: Metrics,
        backend: ServedBackend = "torch",
        threads: int = 1,
        allow: Sequence[str] = (),
    ) -> None:
        self.folders, self._options, self._store = dict(folders), dict(options), store
        self._metrics, self._backend, self._threads = metrics, backend, threads
        self._allow = tuple(allow)
        self.predictors: dict[str, Predictor] = {}
        self.feedback_ranges: dict[str, Bounds] = {}
        self.faults: dict[str, str] = {}
        self._versions: dict[str, object] = {}
        self._loading = threading.Lock()
        self.before_serving: Callable[[str, Predictor], None] = lambda name, predictor: None
        self._latest: LatestRows | None = None
        self.reload()

    def rank_by(self, latest: LatestRows) -> None:
        """Let all predictors, also later ones, know what is known of items and users.

        Args:
            latest: see `Predictor`.
        """
        with self._loading:
            self._latest = latest
            for predictor in self.predictors.values():
                predictor.latest = latest

    def reload(self) -> list[str]:
        """Load the bundles whose folders changed and serve them from now on.

        Requests that are being ranked finish with the old bundle. A bundle that cannot be loaded
        leaves the old one of its name; the others are replaced all the same.

        Returns:
            Names of the bundles that were replaced, sorted.

        Raises:
            BundleError: a folder holds no bundle that can be loaded.
            ConfigError: a bundle needs other candidate features than the default one.
            StoreError: the store cannot be told of a model.
        """
        with self._loading:
            loaded: list[str] = []
            failed: Exception | None = None
            for name, place in self.folders.items():
                version = _folder_version(place.resolve())
                if version is not None and version == self._versions.get(name):
                    continue
                try:
                    predictor, version = self._load_settled(name, place)
                    self._serve(name, predictor)
                except Exception as error:
                    self.faults[name] = (
                        f"bundle '{name}' cannot be served, the old one stays: {error}"
                    )
                    self._metrics.reload_failures.inc()
                    failed = failed or error
                    continue
                self.faults.pop(name, None)
                self._versions[name] = version
                loaded.append(name)
            if failed is not None:
                raise failed
            return sorted(loaded)

    def _serve(self, name: str, predictor: Predictor) -> None:
        """Tell the store what a predictor is given and what feedback it knows, and serve it."""
        self.before_serving(name, predictor)
        predictors = self.predictors | {name: predictor}
        if self._store is not None:
            for told in (predictor, predictors[DEFAULT]):  # the description is the default one's
                known = self._store.describe(told.bundle.encoder.info)
                ranges = dict.fromkeys(known.feedback_kinds, _UNBOUNDED) | known.feedback_ranges
                self.feedback_ranges = ranges
        self.predictors = predictors
        self._metrics.bundle(name, predictor.name)

    def _load_settled(self, name: str, place: Path) -> tuple[Predictor, object]:
        """Load what a folder holds, and anew where it was replaced meanwhile.

        A bundle is read in several steps, and its graph may take seconds to export: parts of two
        bundles must not become one predictor.

        Returns:
            The predictor, and the version of its folder.
        """
        for _ in range(_TRIES):
            folder = place.resolve()  # a link to a version may be moved while it is read
            version = _folder_version(folder)
            try:
                predictor = self._load(name, folder)
            except GoalRankError:
                if _folder_version(folder) == version:
                    raise
            else:
                if _folder_version(folder) == version:
                    return predictor, version
        raise BundleError(
            f"'{place}' was replaced {_TRIES} times, each time before it was loaded; remedy: put "
            f"another bundle there less often"
        )

    def _load(self, name: str, folder: Path) -> Predictor:
        bundle = Bundle.load(folder, allow=self._allow)
        old = self.predictors.get(DEFAULT)
        wanted = bundle.encoder.info.candidate_features
        if old is not None and wanted != old.bundle.encoder.info.candidate_features:
            raise ConfigError(
                f"bundle '{folder}' wants candidate features {list(wanted)}"
                f", but requests bring {list(old.bundle.encoder.info.candidate_features)}; "
                f"remedy: start a separate server for it"
            )
        predictor = Predictor(
            bundle, name=f"{bundle.config.name}@{_manifest_digest(folder)}",
            graph=self._graph(bundle, folder), latest=self._latest, **self._options,
        )  # fmt: skip
        predictor.warm()
        if self._backend == "auto" and predictor.graph is not None:
            seconds = predictor.choose_backend()
            _LOG.info("bundle '%s': seconds per batch by backend %s", name, seconds)
        return predictor

    def _graph(self, bundle: Bundle, folder: Path) -> ListGraph | None:
        if self._backend == "torch":
            return None
        if not bundle.ranker.exportable:
            _LOG.info("ranker %s cannot be exported as a graph; PyTorch ranks", bundle.config.name)
            return None
        try:
            graph = load_graph(
                _manifest(folder).parent, export=self._backend == "onnx", threads=self._threads
            )
        except (BundleError, MissingExtraError):
            if self._backend == "onnx":
                raise
            _LOG.exception("the exported graph cannot be used; PyTorch ranks")
            return None
        if graph is None:
            _LOG.info(
                "PyTorch ranks the lists of '%s'. An exported graph is faster: with the extra 'onnx', "
                "start once with --backend onnx; 'auto' takes it from then on",
                folder,
            )
        return graph


class BundleWatcher:
    """Thread that looks for changed bundles; no bundle, however damaged, ends it.

    Args:
        reload: loads what changed; returns the names of what was replaced.
        seconds: between two looks. After a failure they double, up to `patience`.
        patience: seconds.
    """

    def __init__(self, bundles: ServedBundles, seconds: float, patience: float = 30.0) -> None:
        self._bundles, self._seconds, self._patience = bundles, seconds, patience
        self._stop = threading.Event()
        self._said = ""
        threading.Thread(target=self._run, name="goalrank-watcher", daemon=True).start()

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()

    def _run(self) -> None:
        wait = self._seconds
        while not self._stop.wait(wait):
            wait = self._seconds if self._look() else min(2 * wait, max(self._patience, wait))

    def _look(self) -> bool:
        try:
            for name in self._bundles.reload():
                _LOG.info("bundle '%s' was replaced", name)
        except Exception as error:
            if str(error) != self._said:  # once, not at every look
                _LOG.error("a changed bundle cannot be served, the old one stays: %s", error)
            self._said = str(error)
            return False
        self._said = ""
        return True


def _manifest(folder: Path) -> Path:
    inner = folder / "bundle" / MANIFEST
    return inner if inner.is_file() and not (folder / MANIFEST).is_file() else folder / MANIFEST


def _folder_version(folder: Path) -> object:
    """Give a value that changes when the folder holds another bundle; None without a bundle."""
    try:
        found = _manifest(folder).stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _manifest_digest(folder: Path) -> str:
    return hashlib.sha256(_manifest(folder).read_bytes()).hexdigest()[:12]
