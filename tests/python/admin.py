"""Administration by the command line, with an organisation database in SQLite or in a Postgres server."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from databases import Database, Postgres, PostgresDatabase, SqliteDatabase
from harness import FAILURE, OK, Finished, binary, environment, finish

PASSWORD = "correct horse battery staple"
REACTOR = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
ASSETS = [
    {"id": REACTOR, "name": "TT-1", "type": "temperature sensor", "location": "Works / Unit 1 / R-1"},
    {
        "id": "b1b2c3d4-e5f6-7890-abcd-ef1234567890",
        "name": "PT-1",
        "type": "pressure sensor",
        "location": "Works / Unit 1 / R-1",
    },
    {"id": "c1b2c3d4-e5f6-7890-abcd-ef1234567890", "name": "TT-2", "type": "temperature sensor", "location": "Works / Unit 10"},
    {"id": "d1b2c3d4-e5f6-7890-abcd-ef1234567890", "name": "TT-3", "type": "temperature sensor", "location": "Elsewhere"},
]


class Installation:
    """A folder with an organisation database, in which plantlake runs as an operator. All output is recorded."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.database = database
        self.settings = {"PLANTLAKE_ORGANISATION_URL": database.url, "USER": "otto"}
        self.output = b""
        (folder / "catalog").mkdir(parents=True, exist_ok=True)
        (folder / "catalog" / "assets.json").write_text(json.dumps(ASSETS))

    def start(self, *args: str, stdin: str | None = None, **settings: str) -> subprocess.Popen:
        """Starts the binary without waiting for its end."""
        process = subprocess.Popen(
            [str(binary()), *args],
            env=environment(self.settings | settings),
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if stdin is not None:
            process.stdin.write(stdin.encode())
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, *args: str, stdin: str | None = None, **settings: str) -> Finished:
        """Runs the binary and waits for its end."""
        finished = finish(self.start(*args, stdin=stdin, **settings), time.monotonic(), settings)
        self.output += finished.out + finished.err.encode()
        return finished

    def json(self, *args: str, stdin: str | None = None) -> dict:
        """Runs a command that succeeds, and returns its JSON output."""
        return self.run(*args, "--json", stdin=stdin).expect(OK).json

    def ok(self, *args: str, stdin: str | None = None, **settings: str) -> str:
        """Runs a command that succeeds, and returns its output."""
        return self.run(*args, stdin=stdin, **settings).expect(OK).text

    def fails(self, *args: str, code: int = FAILURE, stdin: str | None = None, error: str = "") -> str:
        """Runs a command that fails with an exit code and a part of the error, and returns the whole error."""
        finished = self.run(*args, stdin=stdin).expect(code)
        assert error in finished.err, str(finished)
        return finished.err

    def keys_dir(self) -> Path:
        return self.folder / "lake" / ".state" / "keys"


@pytest.fixture(params=["sqlite", "postgres"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Installation:
    if request.param == "sqlite":
        return Installation(tmp_path, SqliteDatabase(f"sqlite:{tmp_path / 'organisation.db'}"))
    server: Postgres = request.getfixturevalue("postgres")
    return Installation(tmp_path, PostgresDatabase(server.new_database()))
