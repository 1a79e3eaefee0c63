"""Messages for the case that a process of a job ends before the others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from goalrank.errors import GoalRankError, OutOfMemoryError, is_out_of_memory, rebuilt_error
from goalrank.training.distributed.process_group import is_distributed

_REMEDY = (
    "finished stages and checkpoints are kept; remedy: the same command with --resume "
    "(fit: resume=True)"
)
_PEER = re.compile(r"by peer|peer closed|broken pipe|remote process|process exit", re.IGNORECASE)


class PeerLostError(GoalRankError):
    """A process of the job ended, and the others cannot go on without it."""


@contextmanager
def lost_processes() -> Iterator[None]:
    """Say what happened to another process, and the way on, where one ends or fails.

    Raises:
        PeerLostError: another process ended without a message.
        GoalRankError: the error of ours that another process met.
        FloatingPointError: the loss of another process is no longer a number.
    """
    try:
        yield
    except ProcessExitedException as error:  # of a process that the strategy started
        signal = f"signal {error.signal_name}" if error.signal_name else f"code {error.exit_code}"
        raise PeerLostError(
            f"process {error.error_index} of this training was ended by {signal}, not by an error "
            f"of its own; the system sends SIGKILL where memory runs out, and a library ends with "
            f"SIGABRT; {_REMEDY}; where memory ran out, free some first or use fewer --devices"
        ) from error
    except ProcessRaisedException as error:
        raise _of_process(str(error), error.error_index) from error
    except RuntimeError as error:
        if is_distributed() and _PEER.search(str(error)):  # gloo and NCCL say so when one is gone
            raise _peer_lost() from error
        raise


def _peer_lost() -> PeerLostError:
    return PeerLostError(
        f"another process of the job ended, and this one cannot go on without it; its own message "
        f"says why, or torchrun names the signal that ended it; {_REMEDY}, or torchrun "
        f"--max-restarts 3, which resumes by itself"
    )


def _of_process(report: str, index: int) -> Exception:
    """The error that another process met, from the traceback that it sent."""
    last = report.rpartition("Traceback (most recent call last):")[2]
    found = re.search(r"^([A-Za-z_][\w.]*)(?:: (.*))?\Z", last.rstrip(), re.MULTILINE | re.DOTALL)
    kind, text = (found[1], found[2] or "") if found else ("", report)
    name = kind.rpartition(".")[2]
    if name == "FloatingPointError":
        return FloatingPointError(text)
    if kind.startswith("goalrank.errors."):
        return rebuilt_error(name, text)
    if name.endswith("MemoryError") or is_out_of_memory(RuntimeError(text)):
        return OutOfMemoryError(f"process {index} of this training: {text or name}")
    if _PEER.search(text):
        return _peer_lost()
    return RuntimeError(f"process {index} of this training failed: {kind}: {text}")
