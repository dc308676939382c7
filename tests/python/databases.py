"""Databases for tests, and their contents as seen by clients other than plantlake."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sqlite3
import subprocess
import time
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from harness import REPOSITORY


VERSIONS = sorted(int(path.name[:4]) for path in (REPOSITORY / "migrations" / "organisation" / "sqlite").glob("*.sql"))
# The number of migrations of the organisation database, and the version of the last one, which is that of the schema.
MIGRATIONS, SCHEMA = len(VERSIONS), VERSIONS[-1]


class Postgres:
    """A private Postgres server, which ends with this process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(REPOSITORY / "tests" / "postgres")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self._process.stdout.readline().strip()
        assert self.url.startswith("postgres://"), "tests/postgres did not start a server; its output is above"

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait(60)

    def new_database(self, kind: str = "organisation", options: str = "") -> str:
        """Creates a database and returns its URL. `options` are added to CREATE DATABASE."""
        name = f"{kind}_{uuid.uuid4().hex[:12]}"
        psql(self.url, f"CREATE DATABASE {name} {options}")
        return f"{self.url.rsplit('/', 1)[0]}/{name}"

    # ---- server failures

    @property
    def postmaster(self) -> int:
        """The process id of the postmaster, the parent of all server processes."""
        with open(f"/proc/{self._process.pid}/task/{self._process.pid}/children", encoding="ascii") as children:
            postmasters = [int(pid) for pid in children.read().split() if _command(int(pid))[0].endswith("/postgres")]
        assert len(postmasters) == 1, f"processes of tests/postgres: {postmasters}"
        return postmasters[0]

    def suspend(self) -> list[int]:
        """Suspends all server processes with SIGSTOP: connections stay open, but get no answers. Returns the process ids."""
        postmaster = self.postmaster
        process_ids = [postmaster]
        os.kill(postmaster, signal.SIGSTOP)
        with open(f"/proc/{postmaster}/task/{postmaster}/children", encoding="ascii") as children:
            process_ids += [int(pid) for pid in children.read().split()]
        for pid in process_ids[1:]:
            os.kill(pid, signal.SIGSTOP)
        return process_ids

    @staticmethod
    def resume(process_ids: list[int]) -> None:
        """Continues suspended processes."""
        for pid in process_ids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def crash(self) -> "Crashed":
        """Stops the server immediately (SIGQUIT), as in a crash. It can be restarted from its data on disk."""
        postmaster = self.postmaster
        crashed = Crashed(_command(postmaster), os.stat(f"/proc/{postmaster}").st_uid, os.stat(f"/proc/{postmaster}").st_gid)
        crashed.folder = crashed.command[crashed.command.index("-D") + 1]
        os.kill(postmaster, signal.SIGQUIT)
        end = time.monotonic() + 30
        while os.path.exists(f"/proc/{postmaster}") and _command(postmaster) != [""]:
            assert time.monotonic() < end, "the crashed server still runs after 30 s"
            time.sleep(0.05)
        return crashed


@dataclass
class Crashed:
    """A crashed server, which can be restarted."""

    command: list[str]
    user: int
    group: int
    folder: str = ""
    process: subprocess.Popen | None = None

    def start(self) -> None:
        owner = {"user": self.user, "group": self.group} if os.getuid() == 0 else {}
        log = open(Path(self.folder).parent / "server-again.log", "wb")  # noqa: SIM115 (the server keeps it open)
        self.process = subprocess.Popen(
            self.command, cwd=Path(self.folder).parent, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **owner
        )

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)


def _command(pid: int) -> list[str]:
    """Returns the command line of a process, or a blank one if it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as command:
        return command.read().decode().rstrip("\0").split("\0")
    return [""]


@functools.cache
def client_program(name: str) -> str:
    """Returns the path of a Postgres client program. Debian's program of this name is a Perl script that starts the installed
    version, and takes longer than most queries."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(installed[-1]) if installed else name


def psql(url: str, sql: str) -> str:
    """Runs SQL with psql and returns its output, values only."""
    command = [client_program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, f"psql: {finished.stderr}"
    return finished.stdout.strip()


@dataclass
class Database(ABC):
    """An organisation database."""

    url: str

    @abstractmethod
    def value(self, sql: str) -> str:
        """Returns the single value of a query as text."""

    @abstractmethod
    def insert(self, table: str, rows: list[dict]) -> None:
        """Inserts rows with the same columns directly, without plantlake."""

    @abstractmethod
    def change(self, table: str, sql: str) -> None:
        """Changes a table that is protected against changes."""

    @abstractmethod
    def dump(self) -> bytes:
        """Returns the whole content of the database as bytes."""


class SqliteDatabase(Database):
    @property
    def path(self) -> Path:
        return Path(self.url.removeprefix("sqlite:"))

    def value(self, sql: str) -> str:
        with sqlite3.connect(self.path) as connection:
            rows = connection.execute(sql).fetchall()
        connection.close()
        return "\n".join("|".join("" if cell is None else str(cell) for cell in row) for row in rows)

    def insert(self, table: str, rows: list[dict]) -> None:
        columns = list(rows[0])
        placeholders = ", ".join(f":{column}" for column in columns)
        with sqlite3.connect(self.path) as connection:
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({placeholders})", rows)
        connection.close()

    def change(self, table: str, sql: str) -> None:
        with sqlite3.connect(self.path) as connection:
            triggers = f"SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = '{table}'"
            triggers = connection.execute(triggers).fetchall()
            for name, _ in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute(sql)
            for _, definition in triggers:
                connection.execute(definition)
        connection.close()

    def dump(self) -> bytes:
        files = self.path.parent.glob(f"{self.path.name}*")
        return b"".join(path.read_bytes() for path in files)


class PostgresDatabase(Database):
    def value(self, sql: str) -> str:
        return psql(self.url, sql)

    def insert(self, table: str, rows: list[dict]) -> None:
        columns = ", ".join(rows[0])
        quoted = json.dumps(rows).replace("'", "''")
        sql = f"INSERT INTO {table} ({columns}) SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, '{quoted}')"
        command = [client_program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url, "-f", "-"]
        finished = subprocess.run(command, input=sql, capture_output=True, text=True, timeout=60)
        assert finished.returncode == 0, f"psql: {finished.stderr}"

    def change(self, table: str, sql: str) -> None:
        psql(self.url, f"ALTER TABLE {table} DISABLE TRIGGER USER; {sql}; ALTER TABLE {table} ENABLE TRIGGER USER")

    def dump(self) -> bytes:
        finished = subprocess.run([client_program("pg_dump"), "-d", self.url], capture_output=True, timeout=60, env=os.environ)
        assert finished.returncode == 0, finished.stderr.decode()
        return finished.stdout
