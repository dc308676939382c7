"""Runs the commands and code of README and docs/ in order, in a folder with a plant."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

import harness
from databases import Postgres
from documents import Block, anchors, blocks, commands, documents, links, spoken, tables
from harness import LEFT_OUT, OK, REPOSITORY
from models import fetched
from server import PASSWORD, Plant
from test_server import self_signed

pytestmark = pytest.mark.local_only

BLOCKS = [block for document in documents() for block in blocks(document)]
# The beginnings of commands and blocks that cannot be run here, with reasons.
NOT_RUN = {
    "./tests/run": "runs this",
    "pip install": "the packages are here, pinned",
    "docker compose": "there is no Docker engine; test_compose.py runs what it would be given",
    "deploy/make-secrets": "test_compose.py runs it",
    "cp .env.example": "test_compose.py reads it",
}
# Languages of blocks that are not executed: `text` is for people, for tools that are not installed, and for JDBC, which
# test_jdbc.py covers.
READ = ("text", "toml", "yaml", "ini")
# Commands that run until they are stopped, and the output that shows that they are ready.
ENDLESS = {
    "plantlake serve": "listening on",
    "plantlake schedule": "",
    "plantlake catalog watch": "",
    "cargo run --release -- demo": "Ctrl-C stops it",
}
# These commands may exit with a code for readings that were left out, because the simulator creates faults.
LEAVES_OUT = re.compile(r"plantlake (resample|run resample)\b")


class Reader:
    """Executes documents in a separate folder and fills in placeholders."""

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        self.folder = folder
        self.plant = Plant(folder)
        lake = self.plant.lake
        lake.settings = {
            # Port 0 avoids conflicts with other programs.
            "PLANTLAKE_SERVE_LISTEN": "127.0.0.1:0",
            "PLANTLAKE_METRICS_LISTEN": "127.0.0.1:0",
            "PLANTLAKE_LAKE": str(folder / "lake"),
            # The server has the same state, so commands take effect on it.
            "PLANTLAKE_STATE": str(lake.state),
            "USER": "reader",
        }
        # The demo's plant, but with one reading per minute, because a debug build is slow.
        lake.run("simulate", "--assets", "20", "--days", "7", "--interval", "60s", "--seed", "1").expect(OK)
        lake.settings |= fetched(lake, folder / "models", "bi-encoder", "cross-encoder")
        shutil.copytree(REPOSITORY / "jobs", folder / "jobs")
        (folder / "stick").symlink_to(next((folder / "models").glob("*/*MiniLM-L6-v2")).parent.parent)
        self_signed(folder, "server")
        programs = folder / "bin"
        programs.mkdir()
        (programs / "plantlake").symlink_to(harness.binary())
        # Replaces `cargo run … -- ARGUMENTS` by a call of the existing binary.
        (programs / "cargo").write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec plantlake "$@"\n')
        (programs / "cargo").chmod(0o755)
        self.environment = harness.environment(lake.settings) | {"PATH": f"{programs}:{os.environ['PATH']}"}
        self.mirror = postgres.new_database("mirror")
        self.second: Plant | None = None

    def begin(self) -> "Reader":
        """Resamples the plant, creates an organisation that may see everything, and starts a server."""
        self.plant.lake.resample().expect(OK, LEFT_OUT)
        self.plant.tenant("Reader", ["--all"])
        self.plant.serve()
        return self

    def end(self) -> None:
        for plant in (self.second, self.plant):
            assert plant is None or plant.stop() == OK

    # ---- placeholders

    def filled_in(self, command: str) -> str:
        return (
            command.replace("0.0.0.0:50051", "127.0.0.1:0")
            .replace("postgres://plantlake@db.example/chemical", self.mirror)
            .replace("/media/stick", str(self.folder / "stick"))
        )

    def with_tls(self) -> Plant:
        """Returns a second server on the same lake, with TLS, and starts it if necessary."""
        if self.second is None:
            self.second = second = Plant(self.folder / "second")
            second.lake.url = self.plant.lake.url
            second.lake.settings = self.plant.lake.settings | {
                "PLANTLAKE_CATALOG": str(self.folder / "catalog"),
                "PLANTLAKE_ORGANISATION_URL": f"sqlite:{self.plant.lake.state}/organisation.db",
                "PLANTLAKE_KEYS_DIR": str(self.plant.lake.state / "keys"),
            }
            second.tenants = self.plant.tenants
            second.lake.args = lambda command: ["--state", str(second.lake.state), *command]
            second.serve("--dev-tls")
            shutil.copy(second.said["certificate"], self.folder / "ca.pem")
        return self.second

    # ---- execution

    def run(self, command: str) -> None:
        """Runs a shell command. An `export` applies to all later commands."""
        if exported := re.fullmatch(r"export (\w+)=(\S+)(?:\s+#.*)?", command):
            self.environment[exported[1]] = self.filled_in(exported[2])
            return
        if command.startswith(tuple(ENDLESS)):
            return self.run_for_a_while(command)
        stdin = PASSWORD + "\n" if "asks for a password" in command or "--as " in command else ""
        done = subprocess.run(
            ["bash", "-c", self.filled_in(command)],
            cwd=self.folder, env=self.environment, input=stdin, capture_output=True, text=True, timeout=200,
        )
        told = f"$ {command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}\nexit code {done.returncode}"
        assert "panicked at" not in done.stderr, told
        assert done.returncode in ((OK, LEFT_OUT) if LEAVES_OUT.search(command) else (OK,)), told
        assert done.stdout.strip() or ">" in command, f"it says nothing\n{told}"

    def run_for_a_while(self, command: str) -> None:
        """Starts an endless command, waits for its ready message, and terminates it."""
        words = self.filled_in(command).split("#")[0].split()
        folder, environment = self.folder, self.environment
        if words[-1] == "demo":
            # The demo runs in an empty folder.
            folder = self.folder / "newcomer"
            folder.mkdir()
            environment = harness.environment({"PLANTLAKE_SERVE_LISTEN": "127.0.0.1:0", "PLANTLAKE_METRICS_LISTEN": "127.0.0.1:0"})
            environment["PATH"] = self.environment["PATH"]
        # The tests' server uses the search index of the state folder, so the output may contain a warning about it.
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        due = next(says for begins, says in ENDLESS.items() if command.startswith(begins))
        try:
            first = process.stdout.readline()
            while due not in first and process.poll() is None:
                first += process.stdout.readline()
            assert process.poll() is None, f"$ {command}\nended with {process.wait()}: {first}{process.stdout.read()}"
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode in (OK, 130), f"$ {command}\n{first}{rest}\nexit code {process.returncode}"
        assert first.strip(), f"$ {command} says nothing"

    def key(self) -> str:
        """Returns an API key for the gateway user of the README, with the permission to send readings."""
        made = self.plant.run("key", "create", "--user", "gateway@northfield.example", "--name", f"{time.time()}", "--ingest", "--json")
        return made.expect(OK).json["key"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    postgres = Postgres()
    reader = Reader(tmp_path_factory.mktemp("reader"), postgres).begin()
    yield reader
    reader.end()
    postgres.stop()


@pytest.fixture(scope="module")
def names() -> dict[str, dict]:
    """The Python variables of each document; later blocks continue with those of earlier ones."""
    return {document: {} for document in documents()}


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_what_is_written_can_be_done(reader: Reader, names: dict[str, dict], block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    match block.language:
        case "sh":
            for command in commands(block):
                if not command.startswith(tuple(NOT_RUN)):
                    reader.run(command)
        case "sql":
            answer = as_admin(reader, block.text)
            # The month in the example may have no rows.
            assert answer.num_rows > 0 or "2026-11" in block.text, "no row is no example"
        case "python":
            monkeypatch.chdir(reader.folder)
            exec(compile(in_python(reader, block.text), str(block), "exec"), names[block.document])  # noqa: S102
        case "toml":
            settings_or_job(reader, block)
        case "yaml":
            assert [part["kind"] for part in yaml.safe_load_all(block.text)], block
        case "ini":
            unit = configparser.ConfigParser(strict=False, interpolation=None)
            unit.read_string(block.text)
            assert {"Unit", "Service", "Install"} <= set(unit.sections())
            started = unit["Service"]["ExecStart"].split()
            assert harness.run([*started[1:], "--help"]).code == OK, started
        case language:
            assert language in READ, f"{block}: nobody knows what to do with {language!r}"


def as_admin(reader: Reader, sql: str) -> pa.Table:
    with reader.plant.connect("Reader", "admin") as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


def in_python(reader: Reader, text: str) -> str:
    """Fills in a valid address and credential."""
    if "grpc+tls://" in text:
        text = text.replace("grpc+tls://history.example:50051", reader.with_tls().uri)
    if "pl_…" in text:
        text = text.replace("pl_…", reader.key())
    return text.replace("grpc://127.0.0.1:50051", reader.plant.uri).replace('"…"', repr(PASSWORD))


def settings_or_job(reader: Reader, block: Block) -> None:
    """Checks that plantlake accepts a TOML block, as a job file or a settings file."""
    folder = reader.folder / "toml" / str(block).replace("/", "-")
    (folder / "jobs").mkdir(parents=True)
    if "kind" in tomllib.loads(block.text):
        shutil.copytree(REPOSITORY / "jobs", folder / "jobs", dirs_exist_ok=True)
        name = tomllib.loads(block.text)["kind"] if "resample" not in tomllib.loads(block.text).get("after", []) else "nightly"
        (folder / "jobs" / f"{name}.toml").write_text(block.text)
        declared = harness.run(["jobs", "--json"], reader.plant.lake.settings | {"PLANTLAKE_JOBS": str(folder / "jobs")}, folder)
        assert name in declared.expect(OK).text
    else:
        (folder / "plantlake.toml").write_text(block.text)
        harness.run(["config"], cwd=folder).expect(OK)


def test_each_exception_is_needed() -> None:
    written = [command for block in BLOCKS if block.language == "sh" for command in commands(block)]
    idle = [prefix for prefix in NOT_RUN if not any(command.startswith(prefix) for command in written)]
    assert not idle


# ---- statements in the prose


@pytest.mark.parametrize("document", documents())
def test_links_lead_somewhere(document: str) -> None:
    for link in links(document):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / document).parent / path if path else REPOSITORY / document
        assert target.exists(), f"{document}: {link}"
        assert not anchor or anchor in anchors(target), f"{document}: {link}; there are {sorted(anchors(target))}"


@pytest.mark.parametrize("document", [document for document in documents() if document != "docs/settings.md"])
def test_commands_settings_and_alerts_that_are_named_exist(document: str) -> None:
    settings = set(re.findall(r"^## `([^`]+)`", (REPOSITORY / "docs/settings.md").read_text(), re.MULTILINE))
    groups = {name.split(".")[0] for name in settings if "." in name} - {"storage"}
    alerts = (REPOSITORY / "docs/monitoring/alerts.yaml").read_text()
    for text in spoken(document):
        words = re.sub(r"[…|].*| -.*", "", text).split()
        if words[:1] == ["plantlake"] and words[1:2] != ["help"]:
            known = [word for word in words[1:] if re.fullmatch(r"[a-z]+", word)][:2]
            if known:
                assert harness.run([*known, "--help"]).code == OK, f"{document}: `{text}`"
        if (name := re.fullmatch(r"([a-z]+)\.([a-z_0-9]+)( = .*)?", text)) and name[1] in groups and name[2] not in ("rs", "sql", "md", "toml"):
            assert f"{name[1]}.{name[2]}" in settings, f"{document}: `{text}` is no setting"
        if re.fullmatch(r"Plantlake[A-Z]\w+", text):
            assert f"alert: {text}\n" in alerts, f"{document}: {text}"


def test_the_tables_have_the_columns_that_are_described(reader: Reader) -> None:
    with reader.plant.connect("Reader", "admin") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_schema, table_name, column_name FROM information_schema.columns WHERE table_schema IN ('public', 'account')")
        there: dict[str, set[str]] = {}
        for schema, table, column in cursor.fetchall():
            there.setdefault(table if schema == "public" else f"{schema}.{table}", set()).add(column)
    described: dict[str, set[str]] = {}
    for heading, rows in tables("docs/sql.md").items():
        named = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
        for table in re.findall(r"`([\w.]+)`", heading):
            described[table] = named
    # The documentation describes the columns of these three tables together.
    partitions = {"data_min": "date", "data_h": "month", "data_d": "year"}
    for table, partition in partitions.items():
        assert there[table] == described[table] - (set(partitions.values()) - {partition}), table
    users_and_keys = described.pop("account.users") | described.pop("account.keys")
    assert there["account.users"] | there["account.keys"] == users_and_keys
    for table in set(there) - set(partitions) - {"account.users", "account.keys"}:
        assert there[table] == described[table], table


def test_the_functions_that_are_described_are_there(reader: Reader) -> None:
    calls = [call for row in tables("docs/sql.md")["Functions"] for call in re.findall(r"`(\w+)\(", row[0])]
    assert set(calls) == {"search", "neighbours", "upstream", "downstream", "path_between", "usage_report", "spec_value", "spec_unit", "spec_in"}
    known = set(reader.plant.ask("SELECT DISTINCT routine_name FROM information_schema.routines", "Reader")["routine_name"])
    assert {"spec_value", "spec_unit", "spec_in"} <= known


def test_the_readme_of_settings_is_the_programs() -> None:
    assert harness.run(["config", "--docs"]).expect(OK).text == (REPOSITORY / "docs/settings.md").read_text()
