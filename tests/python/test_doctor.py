"""Tests of `plantlake doctor`, which finds faults and suggests fixes, and of `plantlake health`, the health check of
containers."""

from __future__ import annotations

import datetime as dt
import os
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import harness
from databases import Postgres, psql
from harness import FAILURE, OK, REPOSITORY, USAGE, LocalLake
from models import fetch_models
from prepared import copy_lake
from server import Plant
from test_input_errors import change_owner, unprivileged  # noqa: F401 (a fixture)
from test_server import self_signed

pytestmark = pytest.mark.local_only

SIMULATE = ["simulate", "--assets", "3", "--days", "1", "--interval", "60s", "--shape", "clean"]
# Port 0 avoids conflicts with other programs.
RANDOM_PORTS = {"PLANTLAKE_SERVE_LISTEN": "127.0.0.1:0", "PLANTLAKE_METRICS_LISTEN": "127.0.0.1:0"}


def run_doctor(lake: LocalLake, settings: dict[str, str] | None = None, **more) -> dict[str, dict]:
    """Runs the doctor and returns the most severe finding for each subject. Checks the exit code, and that no secret is
    shown."""
    finished = lake.run("doctor", "--json", settings=settings, **more)
    report = finished.json
    worst: dict[str, dict] = {}
    order = ["right", "note", "wrong"]
    for finding in report["findings"]:
        assert bool(finding["todo"]) == (finding["standing"] != "right"), f"{finding} has no remedy, or is right and has one"
        known = worst.setdefault(finding["what"], finding)
        if order.index(finding["standing"]) > order.index(known["standing"]):
            worst[finding["what"]] = finding
    wrong = sum(finding["standing"] == "wrong" for finding in report["findings"])
    finished.expect(FAILURE if wrong else OK)
    assert report["wrong"] == wrong
    for secret in ("hush", "swordfish"):
        assert secret not in finished.text + finished.err
    return worst


def assert_finding(findings: dict[str, dict], subject: str, standing: str, found: str, todo: str) -> None:
    """Checks that the findings have this one and that nothing else is wrong."""
    finding = findings[subject]
    assert (finding["standing"], found in finding["found"], todo in finding["todo"]) == (standing, True, True), finding
    others = [one for one in findings.values() if one["what"] != subject and one["standing"] == "wrong"]
    assert not others, others


HEALTHY = RANDOM_PORTS | {"PLANTLAKE_JOBS": str(REPOSITORY / "jobs")}


@pytest.fixture(scope="module")
def built_lake(tmp_path_factory: pytest.TempPathFactory) -> LocalLake:
    lake = LocalLake(tmp_path_factory.mktemp("healthy"), HEALTHY)
    lake.run(*SIMULATE).expect(OK)
    lake.resample().expect(OK)
    lake.run("org", "create", "Acme").expect(OK)
    lake.run("token", "keys", "rotate").expect(OK)
    return lake


@pytest.fixture
def healthy_lake(built_lake: LocalLake, tmp_path: Path) -> LocalLake:
    """A lake without faults, except that it has no models."""
    copy_lake(built_lake.folder, tmp_path, links_raw=False)
    return LocalLake(tmp_path, dict(HEALTHY))


def test_healthy_installation_passes_all_checks(healthy_lake: LocalLake) -> None:
    files = [path for path in healthy_lake.folder.rglob("*") if path.is_file() and "organisation.db" not in path.name]
    before = {path: path.stat().st_mtime_ns for path in files}
    findings = run_doctor(healthy_lake)
    assert {subject for subject, one in findings.items() if one["standing"] != "right"} == {"bi-encoder", "cross-encoder"}
    assert {"settings", "jobs", "server port", "TLS", "metrics port", "state", "signing keys", "disk", "lake", "raw files",
            "tables", "catalog", "organisations", "search index", "clock"} <= set(findings)  # fmt: skip
    assert before == {path: path.stat().st_mtime_ns for path in before}, "the doctor changed a file"
    assert not list(healthy_lake.folder.rglob(".probe*")) and not list(healthy_lake.folder.rglob("*.probe*"))
    printed = healthy_lake.run("doctor").expect(OK)
    assert "All checks passed; 2 notes." in printed.text and "→ `plantlake models fetch`" in printed.text
    healthy_lake.settings |= fetch_models(healthy_lake, healthy_lake.folder / "models", "bi-encoder", "cross-encoder")
    assert "All checks passed." in healthy_lake.run("doctor").expect(OK).text


def test_certificate_valid_for_15_days_passes(healthy_lake: LocalLake) -> None:
    certificate(healthy_lake, 0o600, days=15)
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=15)
    found = run_doctor(healthy_lake)["TLS"]
    assert found["standing"] == "right"
    assert found["found"].endswith(f"server.pem matches its key, valid until {ends:%Y-%m-%d %H}" + found["found"][-7:])


def test_empty_machine_reports_missing_lake_and_catalog(tmp_path: Path) -> None:
    finished = harness.run(["doctor", "--json"], RANDOM_PORTS, tmp_path).expect(FAILURE)
    wrong = {one["what"]: one["todo"] for one in finished.json["findings"] if one["standing"] == "wrong"}
    assert set(wrong) == {"lake", "catalog"} and "plantlake demo" in wrong["lake"]
    assert list(tmp_path.iterdir()) == [], "the doctor created a file"


def execute(lake: LocalLake, sql: str) -> None:
    """Executes SQL in the organisation database."""
    with closing(sqlite3.connect(lake.state / "organisation.db")) as connection:
        connection.execute(sql)
        connection.commit()


def invalid_database(lake: LocalLake) -> None:
    for companion in lake.state.glob("organisation.db-*"):
        companion.unlink()
    (lake.state / "organisation.db").write_bytes(b"not a database, but long enough to be read as one" * 40)


def newer_database(lake: LocalLake) -> None:
    columns = "description, installed_on, success, checksum, execution_time"
    execute(lake, f"INSERT INTO _sqlx_migrations SELECT 99, {columns} FROM _sqlx_migrations LIMIT 1")


def older_database(lake: LocalLake) -> None:
    execute(lake, "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)")


def raw_file_of_tomorrow(lake: LocalLake) -> None:
    [path, *_] = lake.raw.iterdir()
    tomorrow = (dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)).timestamp()
    os.utime(path, (tomorrow, tomorrow))


def unreadable_raw_file(lake: LocalLake) -> None:
    lake.put("bad.parquet", b"no parquet")
    lake.resample()


def older_tables(lake: LocalLake) -> None:
    column = r'{\"name\":\"stddev\",\"type\":\"double\",\"nullable\":true,\"metadata\":{}},'
    for log in lake.root.glob("data_h/_delta_log/*.json"):
        log.write_text(log.read_text().replace(column, ""))


def job(name: str, text: str) -> Callable[[LocalLake], None]:
    """Returns a function that declares only this job."""

    def declare(lake: LocalLake) -> None:
        folder = lake.folder / "jobs"
        folder.mkdir()
        (folder / f"{name}.toml").write_text(text)
        lake.settings["PLANTLAKE_JOBS"] = str(folder)

    return declare


def readable_secrets(lake: LocalLake) -> None:
    lake.folder.joinpath("plantlake.toml").write_text('qdrant_api_key = "hush"\n')
    lake.folder.joinpath("plantlake.toml").chmod(0o644)


def certificate(lake: LocalLake, mode: int = 0o644, **dates: float) -> None:
    self_signed(lake.folder, "server", **dates)
    lake.folder.joinpath("server.key").chmod(mode)
    lake.settings["PLANTLAKE_SERVE_TLS_CERT"] = str(lake.folder / "server.pem")
    lake.settings["PLANTLAKE_SERVE_TLS_KEY"] = str(lake.folder / "server.key")


def other_key(lake: LocalLake) -> None:
    certificate(lake)
    self_signed(lake.folder, "other")
    lake.settings["PLANTLAKE_SERVE_TLS_KEY"] = str(lake.folder / "other.key")


def damaged_model(lake: LocalLake) -> None:
    lake.settings |= fetch_models(lake, lake.folder / "models", "cross-encoder")
    [weights] = (lake.folder / "models").glob("cross-encoder/*/model.safetensors")
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")


def setting(**settings: str) -> Callable[[LocalLake], None]:
    """Returns a function that sets these settings."""
    return lambda lake: lake.settings.update({f"PLANTLAKE_{name}": value for name, value in settings.items()})


# For each fault: a function that causes it, and the subject, standing, text and remedy of the finding.
FAULTS = {
    "missing lake": (
        lambda lake: setattr(lake, "url", str(lake.folder / "nowhere")),
        "lake", "wrong", "nowhere does not exist", "set `lake`",
    ),
    "tables of older version": (older_tables, "tables", "wrong", "data_h has no column stddev", "raw files"),
    "no publication": (
        lambda lake: subprocess.run(["rm", "-r", lake.root / "published"], check=True),
        "tables", "note", "nothing is published", "plantlake resample",
    ),
    "missing raw folder": (
        lambda lake: lake.settings.update(PLANTLAKE_RAW=str(lake.folder / "nowhere")),
        "raw files", "wrong", "nowhere", "set `raw`",
    ),
    "unreadable raw file": (unreadable_raw_file, "raw files", "note", "1 cannot be read", "plantlake status"),
    "invalid catalog": (
        lambda lake: (lake.folder / "catalog/assets.json").write_text("[{}]"),
        "catalog", "wrong", "assets.json", "plantlake catalog check",
    ),
    "state is a file": (
        lambda lake: (lake.folder / "file").write_text("") and None or setattr(lake, "state", lake.folder / "file"),
        "state", "wrong", "/file; check its owner", "set `state`",
    ),
    "readable keys folder": (
        lambda lake: (lake.state / "keys").chmod(0o755),
        "signing keys", "wrong", "is accessible to users other than its owner (mode 755)", "follow the message",
    ),
    "damaged key": (
        lambda lake: next((lake.state / "keys").glob("*.key")).write_text("swordfish"),
        "signing keys", "wrong", "is damaged", "follow the message",
    ),
    "readable database": (
        lambda lake: (lake.state / "organisation.db").chmod(0o644),
        "organisations", "wrong", "mode 644", "chmod go-rwx",
    ),
    "invalid database": (invalid_database, "organisations", "wrong", "cannot reach", "read and write access to that file"),
    "newer database": (newer_database, "organisations", "wrong", "schema 99 of a later plantlake", "that version"),
    "older database": (older_database, "organisations", "note", "the current schema is", "plantlake migrate"),
    "unreachable organisation server": (
        setting(ORGANISATION_URL="postgres://me:hush@127.0.0.1:1/organisation"),
        "organisations", "wrong", "me:******@127.0.0.1:1", "organisation_url",
    ),
    "unreachable mirror server": (
        setting(MIRROR_URL="postgres://me:hush@127.0.0.1:1/chemical"),
        "mirror", "wrong", "Connection refused", "mirror_url",
    ),
    "unreachable search index": (
        setting(QDRANT_URL="http://127.0.0.1:1", QDRANT_TIMEOUT="1s"),
        "search index", "wrong", "127.0.0.1:1", "qdrant_url",
    ),
    "raw file of tomorrow": (raw_file_of_tomorrow, "clock", "wrong", "the newest raw file is 86", "NTP"),
    "invalid job": (
        job("resample", 'kind = "resample"\nschedule = "61 * * * *"\n'),
        "jobs", "wrong", "resample.toml", "correct that line",
    ),
    "no schedule": (job("index", 'kind = "index"\n'), "jobs", "note", "no job in", "plantlake run"),
    "job of missing mirror": (
        job("mirror", 'kind = "mirror"\nschedule = "*/5 * * * *"\n'),
        "jobs", "wrong", "no mirror is configured", "mirror_url",
    ),
    "readable secrets": (readable_secrets, "settings", "note", "plantlake.toml contains secrets", "chmod o-rwx"),
    "no TLS": (setting(SERVE_LISTEN="0.0.0.0:0"), "TLS", "wrong", "`serve` will refuse", "serve.tls_cert"),
    "TLS in proxy": (
        setting(SERVE_LISTEN="0.0.0.0:0", SERVE_ALLOW_PLAINTEXT="true"),
        "TLS", "note", "allow_plaintext", "proxy",
    ),
    "certificate without key": (setting(SERVE_TLS_CERT="server.pem"), "TLS", "wrong", "only one of", "set the other"),
    "readable TLS key": (certificate, "TLS", "note", "server.key can be read by every user", "chmod o-rwx"),
    "certificate near expiry": (lambda lake: certificate(lake, 0o600, days=13), "TLS", "note", "valid until 20", "renew it"),
    "expired certificate": (
        lambda lake: certificate(lake, 0o600, since=9, days=-1),
        "TLS", "wrong", "server.pem expired on 20", "renew it",
    ),
    "certificate not yet valid": (
        lambda lake: certificate(lake, 0o600, since=-2),
        "TLS", "wrong", "server.pem is not valid before 20", "clock",
    ),
    "key of other certificate": (other_key, "TLS", "wrong", "cannot be used together", "its own private key"),
    "address of other machine": (
        setting(SERVE_LISTEN="192.0.2.1:50051", SERVE_ALLOW_PLAINTEXT="true"),
        "server port", "wrong", "cannot listen on 192.0.2.1:50051", "serve.listen",
    ),
    "damaged model": (damaged_model, "cross-encoder", "wrong", "model.safetensors", "plantlake models fetch"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_with_remedy(healthy_lake: LocalLake, name: str) -> None:
    inject_fault, subject, standing, found, todo = FAULTS[name]
    inject_fault(healthy_lake)
    findings = run_doctor(healthy_lake)
    if name == "certificate without key" or name == "state is a file":
        # The default organisation database is in the state folder, so this fault affects it, too.
        findings = {key: one for key, one in findings.items() if key in (subject, "lake")}
    assert_finding(findings, subject, standing, found, todo)
    printed = healthy_lake.run("doctor", settings={"COLUMNS": "80"})
    assert ("WRONG" if standing == "wrong" else "note") in printed.text and found.split("/")[-1] in printed.text


def test_used_port_is_noted(healthy_lake: LocalLake) -> None:
    with socket.socket() as used_socket:
        used_socket.bind(("127.0.0.1", 0))
        used_socket.listen()
        listen = f"127.0.0.1:{used_socket.getsockname()[1]}"
        healthy_lake.settings["PLANTLAKE_SERVE_LISTEN"] = listen
        assert_finding(run_doctor(healthy_lake), "server port", "note", f"{listen} is in use", "serve.listen")


@pytest.mark.parametrize("folder", ["lake", "state"])
def test_unwritable_folder_is_found(unprivileged: tuple[LocalLake, dict], folder: str) -> None:  # noqa: F811
    lake, user = unprivileged
    lake.settings = dict(RANDOM_PORTS)
    lake.run(*SIMULATE).expect(OK)
    lake.run("org", "create", "Acme").expect(OK)
    change_owner(lake, user)
    forbidden = lake.folder / folder
    forbidden.chmod(0o555)
    findings = run_doctor(lake, **user)
    if folder == "state":
        # SQLite cannot create its files there either, unless a killed process has left them.
        del findings["organisations"]
    found = {"lake": "cannot write to", "state": "cannot write to the folder"}[folder]
    assert_finding(findings, folder, "wrong", found, "give the user that runs plantlake write access")
    forbidden.chmod(0o755)
    assert run_doctor(lake, **user)[folder]["standing"] == "right"


def test_nearly_full_disk_is_found(healthy_lake: LocalLake) -> None:
    place = healthy_lake.folder / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        healthy_lake.state = place
        assert_finding(run_doctor(healthy_lake), "disk", "wrong", f"MiB are free for {place}", "free disk space")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def test_postgres_databases_are_checked(healthy_lake: LocalLake, postgres: Postgres) -> None:
    organisation, mirror = postgres.new_database("organisation"), postgres.new_database("chemical")
    healthy_lake.settings |= {"PLANTLAKE_ORGANISATION_URL": organisation, "PLANTLAKE_MIRROR_URL": mirror}
    findings = run_doctor(healthy_lake)
    version = psql(organisation, "SHOW server_version").split()[0]
    found = findings["organisations"]["found"]
    assert f"Postgres {version}" in found and "its tables will be created on first use" in found
    assert_finding(findings, "mirror", "note", "nothing mirrored yet", "plantlake mirror")
    healthy_lake.run("migrate").expect(OK)
    healthy_lake.run("mirror").expect(OK)
    findings = run_doctor(healthy_lake)
    assert "schema " in findings["organisations"]["found"] and "run 1, mirrored at" in findings["mirror"]["found"]
    assert "as the other clocks" in findings["clock"]["found"]
    # A role that may not create tables, on a database without tables.
    empty = postgres.new_database("chemical")
    user = f"doctor_reader_{os.getpid()}"
    psql(empty, f"CREATE ROLE {user} LOGIN PASSWORD 'hush'; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    host = empty.split("@")[1]
    url = f"postgres://{user}:hush@{host}"
    findings = run_doctor(healthy_lake, {"PLANTLAKE_MIRROR_URL": url})
    assert_finding(findings, "mirror", "wrong", "no permission to create tables", "GRANT CREATE")
    findings = run_doctor(healthy_lake, {"PLANTLAKE_ORGANISATION_URL": url})
    assert_finding(findings, "organisations", "wrong", "no permission to create tables", "GRANT CREATE")
    findings = run_doctor(healthy_lake, {"PLANTLAKE_MIRROR_URL": f"{url}_not_there"})
    assert_finding(findings, "mirror", "wrong", "create the database first", "mirror_url")
    psql(mirror, "UPDATE mirror_migrations SET version = 99 WHERE version = 2")
    assert_finding(run_doctor(healthy_lake), "mirror", "wrong", "migrated by a later version of plantlake", "mirror_url")


def test_invalid_setting_exits_with_usage_error(healthy_lake: LocalLake) -> None:
    finished = healthy_lake.run("doctor", settings={"PLANTLAKE_RESAMPLE_THREADS": "0"}).expect(USAGE)
    assert "PLANTLAKE_RESAMPLE_THREADS" in finished.err and "expected" in finished.err


# ---- health


class OtherHttpServer(BaseHTTPRequestHandler):
    """A handler that answers every request with 404."""

    def do_GET(self) -> None:  # noqa: N802
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_health_reports_state_of_server(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    plant = Plant(tmp_path, {"PLANTLAKE_METRICS_LISTEN": listen})
    lake = plant.lake
    lake.run(*SIMULATE).expect(OK)
    assert f"no response from {listen}" in lake.run("health").expect(FAILURE).err
    plant.serve()
    assert lake.run("health").expect(OK).text == "ready\n" and lake.run("health", "--live").expect(OK).text == "ok\n"
    # The server listens on all addresses, as in a container.
    port = listen.split(":")[1]
    answer = lake.run("health", "--json", settings={"PLANTLAKE_METRICS_LISTEN": f"0.0.0.0:{port}"}).expect(OK).json
    assert answer == {"healthy": True, "said": "ready"}
    # A port that plantlake itself uses is not reported as used.
    findings = run_doctor(lake, {"PLANTLAKE_SERVE_LISTEN": plant.uri.removeprefix("grpc://")})
    finding = findings["server port"]
    assert finding["standing"] == "right" and "plantlake is running here" in finding["found"]
    assert plant.stop() == OK
    answer = lake.run("health", "--json").expect(FAILURE).json
    assert answer["healthy"] is False and "no response from" in answer["said"]
    assert "off" in lake.run("health", settings={"PLANTLAKE_METRICS_LISTEN": "off"}).expect(USAGE).err


def test_health_of_other_program_fails(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), OtherHttpServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        settings = {"PLANTLAKE_METRICS_LISTEN": f"127.0.0.1:{server.server_port}"}
        assert "is not plantlake" in harness.run(["health"], settings, tmp_path).expect(FAILURE).err
    finally:
        server.shutdown()
