"""Locks exclude other holders and vanish with their process."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from goalrank.storage import Claim, holding

HOLDER = """
import sys
from pathlib import Path
from goalrank.storage import Claim
claim = Claim(Path(sys.argv[1]))
assert claim.take()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_claim_excludes_others_until_it_is_dropped(tmp_path):
    mine, other = Claim(tmp_path / "new" / "a.lock"), Claim(tmp_path / "new" / "a.lock")
    assert mine.take()
    assert not other.take()
    mine.drop()
    assert other.take()
    other.drop()
    other.drop()
    assert mine.path.exists()


def test_a_killed_process_holds_nothing(tmp_path):
    path = tmp_path / "a.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert not Claim(path).take()
        holder.kill()
        holder.wait(timeout=30)
        mine = Claim(path)
        assert mine.take()
        mine.drop()


def test_holding_waits_for_its_turn(tmp_path):
    path, order = tmp_path / "a.lock", list[str]()

    def second(path: Path) -> None:
        with holding(path):
            order.append("second")

    with holding(path):
        thread = threading.Thread(target=second, args=(path,))
        thread.start()
        thread.join(timeout=0.2)
        assert thread.is_alive()
        order.append("first")
    thread.join(timeout=30)
    assert order == ["first", "second"]
