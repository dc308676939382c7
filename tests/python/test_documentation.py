"""Tests of the documentation. They run the commands and code of README and docs/ in order, in a folder with a plant."""

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
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

import harness
from databases import Postgres
from documents import Block, anchors, blocks, commands, documents, inline_code, links, tables
from harness import LEFT_OUT, OK, REPOSITORY
from models import fetch_models
from server import PASSWORD, Plant
from test_server import self_signed

pytestmark = pytest.mark.local_only

BLOCKS = [block for document in documents() for block in blocks(document)]
# The beginnings of commands that the tests do not run, with reasons.
NOT_RUN = {
    "./tests/run": "it runs this test",
    "pip install": "the packages are installed, with pinned versions",
    "docker compose": "there is no Docker engine; test_compose.py runs the programs without containers",
    "deploy/make-secrets": "test_compose.py runs it",
    "cp .env.example": "test_compose.py reads it",
}
# The languages of blocks that are not executed: `text` has explanations, commands of tools that are not installed, and JDBC,
# which test_jdbc.py covers.
NOT_EXECUTED = ("text", "toml", "yaml", "ini")
# Commands that run until they are stopped, and the output that shows that they are ready.
ENDLESS = {
    "plantlake serve": "listening on",
    "plantlake schedule": "",
    "plantlake catalog watch": "",
    "cargo run --release -- demo": "Ctrl-C stops it",
}
# These commands may exit with the code for readings that were left out, because the simulator creates faulty readings.
LEAVES_READINGS_OUT = re.compile(r"plantlake (resample|run resample)\b")


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
        # The plant of the demo, but with one reading per minute, because a debug build is slow.
        lake.run("simulate", "--assets", "20", "--days", "7", "--interval", "60s", "--seed", "1").expect(OK)
        lake.settings |= fetch_models(lake, folder / "models", "bi-encoder", "cross-encoder")
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

    def fill_placeholders(self, command: str) -> str:
        """Replaces addresses of the examples by those of the tests."""
        return (
            command.replace("0.0.0.0:50051", "127.0.0.1:0")
            .replace("postgres://plantlake@db.example/chemical", self.mirror)
            .replace("/media/stick", str(self.folder / "stick"))
        )

    def tls_server(self) -> Plant:
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
            shutil.copy(second.startup["certificate"], self.folder / "ca.pem")
        return self.second

    # ---- execution

    def run(self, command: str) -> None:
        """Runs a shell command. An `export` applies to all later commands."""
        if exported := re.fullmatch(r"export (\w+)=(\S+)(?:\s+#.*)?", command):
            self.environment[exported[1]] = self.fill_placeholders(exported[2])
            return
        if command.startswith(tuple(ENDLESS)):
            return self.run_endless(command)
        stdin = PASSWORD + "\n" if "asks for a password" in command or "--as " in command else ""
        done = subprocess.run(
            ["bash", "-c", self.fill_placeholders(command)],
            cwd=self.folder, env=self.environment, input=stdin, capture_output=True, text=True, timeout=200,
        )
        report = f"$ {command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}\nexit code {done.returncode}"
        assert "panicked at" not in done.stderr, report
        assert done.returncode in ((OK, LEFT_OUT) if LEAVES_READINGS_OUT.search(command) else (OK,)), report
        assert done.stdout.strip() or ">" in command, f"the command prints nothing\n{report}"

    def run_endless(self, command: str) -> None:
        """Starts an endless command, waits for its ready message, and interrupts it."""
        words = self.fill_placeholders(command).split("#")[0].split()
        folder, environment = self.folder, self.environment
        if words[-1] == "demo":
            # The demo runs in an empty folder.
            folder = self.folder / "newcomer"
            folder.mkdir()
            settings = {"PLANTLAKE_SERVE_LISTEN": "127.0.0.1:0", "PLANTLAKE_METRICS_LISTEN": "127.0.0.1:0"}
            environment = harness.environment(settings)
            environment["PATH"] = self.environment["PATH"]
        # The tests' server uses the search index of the state folder, so the output may contain a warning about it.
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        ready = next(message for beginning, message in ENDLESS.items() if command.startswith(beginning))
        try:
            first = process.stdout.readline()
            while ready not in first and process.poll() is None:
                first += process.stdout.readline()
            assert process.poll() is None, f"$ {command}\nended with {process.wait()}: {first}{process.stdout.read()}"
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode in (OK, 130), f"$ {command}\n{first}{rest}\nexit code {process.returncode}"
        assert first.strip(), f"$ {command} prints nothing"

    def key(self) -> str:
        """Returns an API key for the gateway user of the README, with the permission to send readings."""
        user = ["--user", "gateway@northfield.example", "--name", f"{time.time()}"]
        return self.plant.run("key", "create", *user, "--ingest", "--json").expect(OK).json["key"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Reader]:
    reader = Reader(tmp_path_factory.mktemp("reader"), postgres).begin()
    yield reader
    reader.end()


@pytest.fixture(scope="module")
def namespaces() -> dict[str, dict]:
    """The Python variables of each document. Later blocks use those of earlier blocks."""
    return {document: {} for document in documents()}


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_document_block_runs(
    reader: Reader, namespaces: dict[str, dict], block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    match block.language:
        case "sh":
            for command in commands(block):
                if not command.startswith(tuple(NOT_RUN)):
                    reader.run(command)
        case "sql":
            answer = query_as_admin(reader, block.text)
            # The month in the example may have no rows.
            assert answer.num_rows > 0 or "2026-11" in block.text, "the example returns no rows"
        case "python":
            monkeypatch.chdir(reader.folder)
            exec(compile(with_credentials(reader, block.text), str(block), "exec"), namespaces[block.document])  # noqa: S102
        case "toml":
            check_settings_or_job(reader, block)
        case "yaml":
            assert [part["kind"] for part in yaml.safe_load_all(block.text)], block
        case "ini":
            unit = configparser.ConfigParser(strict=False, interpolation=None)
            unit.read_string(block.text)
            assert {"Unit", "Service", "Install"} <= set(unit.sections())
            started = unit["Service"]["ExecStart"].split()
            assert harness.run([*started[1:], "--help"]).code == OK, started
        case language:
            assert language in NOT_EXECUTED, f"{block}: unknown language {language!r}"


def query_as_admin(reader: Reader, sql: str) -> pa.Table:
    with reader.plant.connect("Reader", "admin") as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


def with_credentials(reader: Reader, text: str) -> str:
    """Fills in a valid address and credential."""
    if "grpc+tls://" in text:
        text = text.replace("grpc+tls://history.example:50051", reader.tls_server().uri)
    if "pl_…" in text:
        text = text.replace("pl_…", reader.key())
    return text.replace("grpc://127.0.0.1:50051", reader.plant.uri).replace('"…"', repr(PASSWORD))


def check_settings_or_job(reader: Reader, block: Block) -> None:
    """Checks that plantlake accepts a TOML block, as a job file or a settings file."""
    folder = reader.folder / "toml" / str(block).replace("/", "-")
    (folder / "jobs").mkdir(parents=True)
    if "kind" in tomllib.loads(block.text):
        shutil.copytree(REPOSITORY / "jobs", folder / "jobs", dirs_exist_ok=True)
        job = tomllib.loads(block.text)
        name = job["kind"] if "resample" not in job.get("after", []) else "nightly"
        (folder / "jobs" / f"{name}.toml").write_text(block.text)
        settings = reader.plant.lake.settings | {"PLANTLAKE_JOBS": str(folder / "jobs")}
        declared = harness.run(["jobs", "--json"], settings, folder)
        assert name in declared.expect(OK).text
    else:
        (folder / "plantlake.toml").write_text(block.text)
        harness.run(["config"], cwd=folder).expect(OK)


def test_each_excluded_command_occurs() -> None:
    documented = [command for block in BLOCKS if block.language == "sh" for command in commands(block)]
    unused = [prefix for prefix in NOT_RUN if not any(command.startswith(prefix) for command in documented)]
    assert not unused


# ---- statements in the prose


@pytest.mark.parametrize("document", documents())
def test_link_targets_exist(document: str) -> None:
    for link in links(document):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / document).parent / path if path else REPOSITORY / document
        assert target.exists(), f"{document}: {link}"
        assert not anchor or anchor in anchors(target), f"{document}: {link}; the anchors are {sorted(anchors(target))}"


@cache
def has_command(*words: str) -> bool:
    """Whether plantlake has this command. Many documents name the same ones, so each is looked up once."""
    return harness.run([*words, "--help"]).code == OK


@pytest.mark.parametrize("document", [document for document in documents() if document != "docs/settings.md"])
def test_named_commands_settings_and_alerts_exist(document: str) -> None:
    settings = set(re.findall(r"^## `([^`]+)`", (REPOSITORY / "docs/settings.md").read_text(), re.MULTILINE))
    groups = {name.split(".")[0] for name in settings if "." in name} - {"storage"}
    alerts = (REPOSITORY / "docs/monitoring/alerts.yaml").read_text()
    for text in inline_code(document):
        words = re.sub(r"[…|].*| -.*", "", text).split()
        if words[:1] == ["plantlake"] and words[1:2] != ["help"]:
            known = [word for word in words[1:] if re.fullmatch(r"[a-z]+", word)][:2]
            if known:
                assert has_command(*known), f"{document}: `{text}`"
        name = re.fullmatch(r"([a-z]+)\.([a-z_0-9]+)( = .*)?", text)
        if name and name[1] in groups and name[2] not in ("rs", "sql", "md", "toml"):
            assert f"{name[1]}.{name[2]}" in settings, f"{document}: `{text}` is not a setting"
        if re.fullmatch(r"Plantlake[A-Z]\w+", text):
            assert f"alert: {text}\n" in alerts, f"{document}: {text}"


def test_documented_columns_equal_table_columns(reader: Reader) -> None:
    with reader.plant.connect("Reader", "admin") as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_schema, table_name, column_name FROM information_schema.columns "
            "WHERE table_schema IN ('public', 'account')"
        )
        actual: dict[str, set[str]] = {}
        for schema, table, column in cursor.fetchall():
            actual.setdefault(table if schema == "public" else f"{schema}.{table}", set()).add(column)
    described: dict[str, set[str]] = {}
    for heading, rows in tables("docs/sql.md").items():
        named = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
        for table in re.findall(r"`([\w.]+)`", heading):
            described[table] = named
    # The documentation describes the columns of these three tables together.
    partitions = {"data_min": "date", "data_h": "month", "data_d": "year"}
    for table, partition in partitions.items():
        assert actual[table] == described[table] - (set(partitions.values()) - {partition}), table
    users_and_keys = described.pop("account.users") | described.pop("account.keys")
    assert actual["account.users"] | actual["account.keys"] == users_and_keys
    for table in set(actual) - set(partitions) - {"account.users", "account.keys"}:
        assert actual[table] == described[table], table


def test_documented_functions_exist(reader: Reader) -> None:
    calls = [call for row in tables("docs/sql.md")["Functions"] for call in re.findall(r"`(\w+)\(", row[0])]
    sql = "SELECT DISTINCT routine_name, function_type FROM information_schema.routines"
    routines = reader.plant.ask(sql, "Reader")
    # The table functions of plantlake; these two are DataFusion's.
    table_functions = set(routines[routines["function_type"] == "TABLE"]["routine_name"]) - {"generate_series", "range"}
    assert {"search", "neighbours", "usage_report"} <= table_functions
    specifications = {"spec_value", "spec_unit", "spec_in"}
    assert specifications <= set(routines["routine_name"])
    assert set(calls) == table_functions | specifications


def test_settings_page_equals_config_docs() -> None:
    assert harness.run(["config", "--docs"]).expect(OK).text == (REPOSITORY / "docs/settings.md").read_text()
