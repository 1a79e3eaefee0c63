"""A real PostgreSQL of its own for tests, and a disk that is really small."""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_OPTIONS = "-c listen_addresses= -c fsync=on -c max_connections=50 -c shared_buffers=16MB"


@functools.cache
def postgres_binaries() -> Path | None:
    """The folder of initdb and pg_ctl, the newest version first; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    folders = [*found[::-1], *([Path(x).parent] if (x := shutil.which("initdb")) else [])]
    return next((f for f in folders if (f / "initdb").exists() and (f / "pg_ctl").exists()), None)


def missing_postgres() -> str | None:
    """Why no PostgreSQL can be started here; None where one can."""
    if postgres_binaries() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed (pip install 'goalrank[postgres]')"
    return None


class Postgres:
    """A server on a socket in a folder of its own; as root it runs as an unprivileged user."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="goalrank-pg-"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            names = {entry.pw_name for entry in pwd.getpwall()}
            user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self._run(
            "initdb", "-D", "data", "-U", "goalrank", "-A", "trust", "--no-locale", "--no-sync",
            "--encoding=UTF8",
        )  # fmt: skip
        self.start()

    def _run(self, name: str, *arguments: str) -> None:
        binaries = postgres_binaries()
        assert binaries is not None
        with (self.folder / f"{name}.out").open("a") as out:
            done = subprocess.run(
                [str(binaries / name), *arguments], cwd=self.folder, stdout=out, stderr=out,
                timeout=180, **self._as,
            )  # fmt: skip
        if done.returncode:
            raise RuntimeError((self.folder / f"{name}.out").read_text())

    def _pg_ctl(self, *arguments: str) -> None:
        self._run(
            "pg_ctl", "-D", "data", "-w", "-t", "150", "-l", str(self.folder / "log"), *arguments
        )

    def start(self) -> None:
        self._pg_ctl("start", "-o", f"{_OPTIONS} -k {self.folder}")

    def stop(self, mode: str = "fast") -> None:
        """`immediate` is a crash: clients and transactions are cut off, recovery at the start."""
        self._pg_ctl("stop", "-m", mode)

    def close(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(
            host=str(self.folder), user="goalrank", dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://goalrank@/{database}?host={self.folder}"

    def new(self, extra: str = "") -> str:
        """The address of a new, empty database."""
        name = f"d{uuid.uuid4().hex}"
        self.ask(f"create database {name} {extra}")
        return self.url(name)

    def own(self, path: Path) -> None:
        """Give a folder to the server's user."""
        if self._as:
            os.chown(path, self._as["user"], self._as["group"])


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path | None]:
    """A file system of so many MiB; None where this user may not mount one."""
    folder = Path(tempfile.mkdtemp(prefix="goalrank-disk-"))
    folder.chmod(0o755)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    may = os.geteuid() == 0 and shutil.which("mount") is not None
    mounted = may and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def fill(folder: Path, leave: int = 0) -> Path:
    """A file that takes all but `leave` bytes of a disk."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        free = shutil.disk_usage(folder).free
        file.write(b"\0" * max(free - leave, 0))
    return ballast
