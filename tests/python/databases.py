"""Organisation databases for tests, and what is in them as seen by other clients than plantlake."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from harness import REPOSITORY


class Postgres:
    """A private server, which ends with this process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(REPOSITORY / "tests" / "postgres")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self._process.stdout.readline().strip()
        assert self.url.startswith("postgres://"), "tests/postgres did not start a server: see above"

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait(60)

    def new_database(self) -> str:
        name = f"organisation_{uuid.uuid4().hex[:12]}"
        psql(self.url, f"CREATE DATABASE {name}")
        return f"{self.url.rsplit('/', 1)[0]}/{name}"


def psql(url: str, sql: str) -> str:
    """What psql prints, values only."""
    command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"psql: {done.stderr}"
    return done.stdout.strip()


@dataclass
class Database(ABC):
    """One organisation database."""

    url: str

    @abstractmethod
    def value(self, sql: str) -> str:
        """The one value of an answer, as text."""

    @abstractmethod
    def insert(self, table: str, rows: list[dict]) -> None:
        """Adds rows of the same columns, behind plantlake's back."""

    @abstractmethod
    def change(self, table: str, sql: str) -> None:
        """Changes a table that must not be changed."""

    @abstractmethod
    def dump(self) -> bytes:
        """Everything that is stored."""


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
        places = ", ".join(f":{column}" for column in columns)
        with sqlite3.connect(self.path) as connection:
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)
        connection.close()

    def change(self, table: str, sql: str) -> None:
        with sqlite3.connect(self.path) as connection:
            triggers = f"SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = '{table}'"
            triggers = connection.execute(triggers).fetchall()
            for name, _ in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute(sql)
            for _, made in triggers:
                connection.execute(made)
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
        command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url, "-f", "-"]
        done = subprocess.run(command, input=sql, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"psql: {done.stderr}"

    def change(self, table: str, sql: str) -> None:
        psql(self.url, f"ALTER TABLE {table} DISABLE TRIGGER USER; {sql}; ALTER TABLE {table} ENABLE TRIGGER USER")

    def dump(self) -> bytes:
        done = subprocess.run(["pg_dump", "-d", self.url], capture_output=True, timeout=60, env=os.environ)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout
