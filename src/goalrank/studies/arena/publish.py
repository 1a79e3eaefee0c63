"""Publication of a benchmark's results: ledger, tables and figures, small enough to commit."""

from __future__ import annotations

import shutil
from pathlib import Path

from goalrank.storage import whole_file, write_text
from goalrank.studies.arena.figures import draw_leaderboards
from goalrank.studies.arena.leaderboards import load_leaderboards
from goalrank.studies.arena.ledger import Ledger
from goalrank.studies.arena.runner import SUITE_FILE, stored_plan
from goalrank.studies.arena.tables import latex, markdown


def publish(folder: str | Path, out: str | Path) -> list[Path]:
    """Write `ledger.parquet` (one row per cell), `suite.json`, `table.md`, `table.tex` and figures.

    Metrics per request are not published; the tables have the results of the tests. Existing files
    are replaced, each of them whole.

    Args:
        folder: of `run_suite`.
        out: folder of the results; made if missing.

    Returns:
        The files.

    Raises:
        DataError: no cell is finished.
    """
    folder, out = Path(folder), Path(out)
    rows = Ledger(folder).read(cell.key for cell in stored_plan(folder))
    leaderboards = load_leaderboards(folder)
    out.mkdir(parents=True, exist_ok=True)
    files = [out / name for name in ("ledger.parquet", SUITE_FILE, "table.md", "table.tex")]
    with whole_file(files[0]) as temporary:
        rows.sort("dataset", "size", "ranker", "seed").write_parquet(temporary, compression="zstd")
    with whole_file(files[1]) as temporary:
        shutil.copyfile(folder / SUITE_FILE, temporary)
    for path, text in zip(files[2:], (markdown(leaderboards), latex(leaderboards)), strict=True):
        write_text(path, text)
    return [*files, *draw_leaderboards(leaderboards, folder, out)]
