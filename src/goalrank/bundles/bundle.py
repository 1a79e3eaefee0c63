"""`Bundle`: a ranker with its encoder, and the reward that trained it, kept as a folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import polars as pl
import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from goalrank._notebook import html_table
from goalrank._version import __version__
from goalrank.bundles.manifest import MANIFEST, read_manifest, write_folder
from goalrank.bundles.plugins import check_plugins, needed_plugins
from goalrank.bundles.ranked_lists import list_frame, rank_file
from goalrank.encoders import TreeScores
from goalrank.errors import BundleError, ConfigError, GoalRankError
from goalrank.logs import LearntRetrieval
from goalrank.rankers import RANKERS, Ranker, RankerConfig, build_ranker
from goalrank.registry import class_path
from goalrank.requests import Encoder, Missing, Requests, load_encoder, save_encoder
from goalrank.rewards import Reward, describe_reward, rebuild_reward
from goalrank.storage import local_copy, local_path
from goalrank.wording import counted

_RANKER, _REWARD = "ranker.safetensors", "reward.safetensors"
_EXAMPLES = "examples.parquet"
_GROWTH, _SMALL = 4, 10_000_000  # of weights that are not in a file, and are taken memory for

Progress = Callable[[int, int], None]
_Module = TypeVar("_Module", bound=nn.Module)


@dataclass
class Bundle:
    """All that is needed to rank: no training data, no settings from elsewhere.

    Attributes:
        ranker: in evaluation mode.
        config: name and sizes that `build_ranker` makes it from.
        encoder: requests to tensors.
        reward: the reward that the ranker was trained with, if kept.
        train: about the training: dataset, protocol, warning, seeds.
        examples: a few requests that the server's page offers to start from. They hold users'
            histories, so no bundle gets them unasked.
        learnt: what the import learnt for retrieval and linked features; None where the training
            requests were not written by one.
    """

    ranker: Ranker
    config: RankerConfig
    encoder: Encoder
    reward: Reward | None = None
    train: dict[str, Any] = field(default_factory=dict)
    examples: Requests | None = None
    learnt: LearntRetrieval | None = None

    def __post_init__(self) -> None:
        self.ranker.eval()
        if self.reward is not None:
            self.reward.eval()

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.ranker.parameters())
        return (
            f"{type(self).__name__}({self.config.name}, {counted(parameters, 'parameter')}, slots "
            f"{self.config.slots}, trained on {self.train.get('dataset', 'unknown')})"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: its ranker, the length of its lists, its reward."""
        spec = self.encoder.spec
        rows: list[tuple[str, object]] = [
            ("ranker", self.config.name),
            ("parameters", sum(p.numel() for p in self.ranker.parameters())),
            ("slots", self.config.slots),
            ("feedback", ", ".join(spec.kinds) or "none"),
            ("reward", "none" if self.reward is None else type(self.reward).__name__),
            ("trained on", self.train.get("dataset", "unknown")),
        ]
        rows += [("requests", self.train["requests"])] if "requests" in self.train else []
        notes = [self.train["warning"]] if self.train.get("warning") else []
        return html_table(type(self).__name__, rows, notes=notes)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the bundle, whole or not at all.

        Args:
            folder: a new or empty folder.
            overwrite: replace a bundle that is there; anything else is never replaced.

        Raises:
            BundleError: the folder is taken or cannot be written, or a class cannot be found again.
        """
        return write_folder(local_path(folder, "folder"), self._write, overwrite=overwrite)

    def _write(self, folder: Path) -> dict[str, Any]:
        save_encoder(self.encoder, folder)
        if self.encoder.model_scores is not None:
            self.encoder.model_scores.write(folder)
        save_file(_state(self.ranker), folder / _RANKER)
        spec = self.encoder.spec
        reward = None
        if self.reward is not None:
            reward = describe_reward(self.reward)
            save_file(_state(self.reward), folder / _REWARD)
        if self.examples is not None:
            self.examples.write(folder / _EXAMPLES)
        if self.learnt is not None:
            self.learnt.save(folder)
        manifest = {
            "goalrank": __version__,
            "torch": torch.__version__,
            "class": class_path(self.ranker),
            "ranker": self.config.model_dump(mode="json"),
            "slots": self.config.slots,
            "spec": {**asdict(spec), "kinds": list(spec.kinds)},
            "reward": reward,
            "train": self.train,
        }
        classes = {"class": manifest["class"], "reward": reward}
        return {**manifest, "plugins": needed_plugins(classes)}

    @classmethod
    def load(cls, folder: str | Path, *, allow: Sequence[str] = ()) -> Self:
        """Read a bundle; every file's checksum is verified.

        Args:
            folder: of the bundle, or the output folder of a training that holds one; a path, or an
                fsspec address (s3://…).
            allow: packages besides goalrank whose code may run, where the bundle's ranker or reward
                is of such a package; also those of the variable GOALRANK_ALLOW_PLUGINS.

        Raises:
            BundleError: no bundle there, a changed byte, a missing file, a newer format, or a
                plug-in that is not installed or not allowed.
        """
        with local_copy(folder) as path:
            try:
                return cls._read(path, allow)
            except GoalRankError:
                raise
            except Exception as error:  # whatever is in the folder, callers get one kind of error
                raise BundleError(
                    f"bundle '{folder}' cannot be read ({type(error).__name__}: "
                    f"{next(iter(str(error).splitlines()), 'no word of it')}); remedy: save the "
                    f"bundle again, or copy it anew from where it was made"
                ) from error

    @classmethod
    def _read(cls, path: Path, allow: Sequence[str]) -> Self:
        if not (path / MANIFEST).is_file() and (path / "bundle" / MANIFEST).is_file():
            path = path / "bundle"
        manifest = read_manifest(path)
        check_plugins(path, manifest, allow)
        encoder = load_encoder(path)
        if TreeScores.file in manifest["files"]:
            encoder = replace(encoder, model_scores=TreeScores.read(path, encoder.spec))
        try:
            config = RankerConfig(**manifest["ranker"])
        except (TypeError, ValidationError) as error:
            raise BundleError(
                f"bundle '{path}' has ranker settings that this goalrank does not know; it was "
                f"made by {manifest.get('goalrank')}; remedy: use that version"
            ) from error
        kind = _ranker_class(manifest)
        ranker = _made(lambda: build_ranker(encoder.spec, config, kind), path / _RANKER)
        _load(ranker, path / _RANKER)
        reward = None
        if manifest["reward"] is not None:
            reward = rebuild_reward(manifest["reward"], encoder.spec)
            _load(reward, path / _REWARD)
        there = _EXAMPLES in manifest["files"]
        examples = Requests.read(path / _EXAMPLES, validate=False) if there else None
        learnt = LearntRetrieval.load(path)
        return cls(ranker, config, encoder, reward, manifest["train"], examples, learnt)

    def rank(
        self,
        requests: Requests,
        slots: int | None = None,
        *,
        batch_size: int = 256,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
        missing: Missing = "refuse",
    ) -> pl.DataFrame:
        """The ranker's best list for every request.

        Args:
            requests: of the layout of the training table; feedback is not looked at.
            slots: L; None takes the length that the ranker was trained for.
            batch_size: requests per batch; the lists do not depend on it.
            device: where to compute.
            progress: called with (requests done, requests in all) after each batch.
            missing: what is done where an input that the model was trained with is lacking
                (candidate_score, candidate_features, history_feedback, history_time, columns of new
                items and users): "refuse", or "mean", which takes its mean over the training
                requests.

        Returns:
            request_id, user_id, items (list of ids), positions (list of i32 in `candidates`) and
            log_prob (of the list under the policy), a row per request in their order. A request
            with fewer than L candidates gets them all. With `missing` "mean" also filled: the names
            of the inputs of each request that are means.

        Raises:
            ConfigError: slots or batch_size below 1.
            MissingInputError: a request lacks an input that the model was trained with.
            DataError: ids or features of other types than in training.

        Warns:
            UnorderedListsWarning: the model gave no numbers for some requests.
        """
        length = self.config.slots if slots is None else slots
        return list_frame(
            self.ranker,
            self.encoder,
            requests,
            slots=length,
            batch_size=batch_size,
            device=device,
            progress=progress,
            missing=missing,
        )

    def rank_file(
        self,
        requests: str | Path,
        out: str | Path,
        slots: int | None = None,
        *,
        batch_size: int = 256,
        shard_rows: int = 65_536,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
        missing: Missing = "refuse",
    ) -> Path:
        """Rank a Parquet file or folder of shards into a Parquet file, in bounded memory.

        Args:
            requests: what `Requests.iter_shards` reads, on this machine; `rank_dataset` reads and
                writes addresses.
            out: the file; it appears whole at the end or not at all.
            slots: as in `rank`.
            batch_size: as in `rank`.
            shard_rows: requests held at once.
            device: as in `rank`.
            progress: called with (requests done, requests in all).
            missing: as in `rank`.

        Raises:
            ValidationError: faulty rows; nothing is written.
            DataError: `out` cannot be written; what was there is untouched.
        """

        def rank(shard: Requests) -> pl.DataFrame:
            return self.rank(shard, slots, batch_size=batch_size, device=device, missing=missing)

        places = local_path(requests, "requests"), local_path(out, "out")
        return rank_file(rank, *places, shard_rows, progress)


def _ranker_class(manifest: dict[str, Any]) -> type[Ranker]:
    """The class that the manifest names; manifests of 0.1.0 name only goalrank's own rankers.

    Raises:
        BundleError: the class cannot be imported, or is no ranker.
    """
    try:
        return RANKERS.recorded(manifest.get("class", manifest["ranker"]["name"]))
    except ConfigError as error:
        raise BundleError(f"the bundle's ranker cannot be made: {error}") from error


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu().contiguous() for name, value in module.state_dict().items()}


class _TooLargeError(Exception):
    """Error of a module that takes more memory than its weights' file accounts for."""


class _Memory(TorchFunctionMode):
    """Counts the numbers that a module takes memory for, before it does so.

    Args:
        most: numbers, at most.
    """

    _SIZED = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full)

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch, unless it takes too much memory."""
        given = kwargs or {}
        if func in self._SIZED:
            size = given.get("size") or args
            size = size if all(isinstance(each, int) for each in size) else size[0]
            self.left -= math.prod(size)
            if self.left < 0:
                raise _TooLargeError
        return func(*args, **given)


def _made(make: Callable[[], _Module], path: Path) -> _Module:
    """Make a module; refuse weights of other sizes before memory is taken for it."""
    with safe_open(path, framework="pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    there = sum(map(math.prod, shapes))
    most = _GROWTH * there + _SMALL  # bundles of earlier versions may lack some
    try:
        with _Memory(most):
            return make()
    except _TooLargeError:
        _refuse_other_sizes(make, path, there, most)
        return make()  # it needs memory for more than its weights


def _refuse_other_sizes(make: Callable[[], nn.Module], path: Path, there: int, most: int) -> None:
    """Refuse weights whose number is far from a module's.

    A module without numbers shows its shapes, but making it loads PyTorch's compiler, which takes
    more than a second: only where there is doubt.
    """
    try:
        with torch.device("meta"):
            needed = sum(value.numel() for value in make().state_dict().values())
    except (NotImplementedError, RuntimeError):
        return  # a ranker that cannot be made without numbers; loading will say what does not fit
    if needed > most:
        raise BundleError(
            f"the weights in '{path}' do not fit the ranker that the manifest names: they are "
            f"{there:,} numbers for {needed:,}; remedy: use the goalrank version that made the bundle"
        )


def _load(module: nn.Module, path: Path) -> None:
    try:
        module.load_state_dict(load_file(path))
    except Exception as error:
        raise BundleError(
            f"the weights in '{path}' do not fit the ranker that the manifest names "
            f"({str(error).splitlines()[0]}); remedy: use the goalrank version that made the bundle"
        ) from error
