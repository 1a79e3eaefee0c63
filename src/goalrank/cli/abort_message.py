"""A last sentence where a library ends the whole process, as some do where memory runs out."""

from __future__ import annotations

import faulthandler
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, cast

_SENTENCE = (
    "goalrank was ended by one of its libraries (abort), which most often means that memory ran "
    "out; files are written whole or not at all, so what was there before is whole; remedy: "
    "smaller batches (--batch-size; for training --set training.batch_size=32), fewer requests or "
    "candidates at once, or a machine with more memory; a training goes on with --resume"
)
# The signal's report comes from C code, which may neither allocate nor ask the interpreter: it is
# written to a pipe, whose reader says it in words.
_READER = r"""trap '' INT TERM HUP
while IFS= read -r line; do
  case $line in
    'Fatal Python error: Aborted'*) printf '%s\n' "$0" >&2 ;;
    'Fatal Python error:'*) printf '%s\n' "$line" >&2 ;;
  esac
done"""


@contextmanager
def abort_message() -> Iterator[None]:
    """Say in words that a library aborted the process; without a shell, Python's own report."""
    shell = shutil.which("sh")
    if shell is None:
        faulthandler.enable()
        yield
        return
    reader = subprocess.Popen([shell, "-c", _READER, _SENTENCE], stdin=subprocess.PIPE, bufsize=0)  # noqa: S603  fixed text
    pipe = cast("IO[bytes]", reader.stdin)
    faulthandler.enable(pipe.fileno(), all_threads=False)
    try:
        yield
    finally:
        faulthandler.disable()
        pipe.close()
        with suppress(subprocess.TimeoutExpired):  # a child of this process still holds the pipe
            reader.wait(1)
