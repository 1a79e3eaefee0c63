"""The record of a demo that has begun and not ended, by which the next start goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goalrank.storage import remove_folder, write_json


@dataclass(frozen=True)
class UnfinishedDemo:
    """What a demo was asked for, on disk from the end of its import until its report is written.

    Attributes:
        folder: of the demo.
        asked: all that its results follow from, as JSON values; a demo that was asked for
            something else is no part of this one.
    """

    folder: Path
    asked: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The record."""
        return self.folder / "unfinished.json"

    def goes_on(self, overwrite: bool, say: Callable[[str], None]) -> bool:
        """Whether the folder holds the beginning of this very demo; else its stages are removed.

        Args:
            overwrite: start afresh whatever is there.
            say: told why the beginning of another demo is not used.
        """
        found = None if overwrite else self._read()
        if found == self.asked:
            return True
        if found is not None:
            changed = sorted(key for key in self.asked if found.get(key) != self.asked[key])
            say(
                f"'{self.folder}' holds an unfinished demo that differs in {', '.join(changed)}: "
                f"starting afresh"
            )
        self.end()  # before its stages, so that no record is left of stages that are gone
        remove_folder(self.folder / "run")
        return False

    def begin(self) -> None:
        """Write the record: the data are complete, and all stages in the folder are this demo's."""
        write_json(self.path, dict(self.asked))

    def end(self) -> None:
        """Remove the record: nothing is left to go on with."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
