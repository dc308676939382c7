"""`plantlake doctor` finds every fault and suggests fixes; `plantlake health` is the health check of containers."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import harness
from databases import Postgres, psql
from harness import FAILURE, OK, REPOSITORY, USAGE, Finished, LocalLake
from models import fetched
from server import Plant
from test_input_errors import give_away, unprivileged  # noqa: F401 (a fixture)
from test_server import self_signed

pytestmark = pytest.mark.local_only

SIMULATE = ["simulate", "--assets", "3", "--days", "1", "--interval", "60s", "--shape", "clean"]
# Port 0 avoids conflicts with other programs.
PORTS = {"PLANTLAKE_SERVE_LISTEN": "127.0.0.1:0", "PLANTLAKE_METRICS_LISTEN": "127.0.0.1:0"}


def examine(lake: LocalLake, settings: dict[str, str] | None = None, **more) -> dict[str, dict]:
    """Runs the doctor and returns the most severe finding for each subject. Checks the exit code, and that no secret is
    shown."""
    finished = lake.run("doctor", "--json", settings=settings, **more)
    told = finished.json
    worst: dict[str, dict] = {}
    order = ["right", "note", "wrong"]
    for finding in told["findings"]:
        assert bool(finding["todo"]) == (finding["standing"] != "right"), f"{finding} does not say what to do"
        known = worst.setdefault(finding["what"], finding)
        if order.index(finding["standing"]) > order.index(known["standing"]):
            worst[finding["what"]] = finding
    wrong = sum(finding["standing"] == "wrong" for finding in told["findings"])
    finished.expect(FAILURE if wrong else OK)
    assert told["wrong"] == wrong
    for secret in ("hush", "swordfish"):
        assert secret not in finished.text + finished.err
    return worst


def is_found(findings: dict[str, dict], what: str, standing: str, found: str, todo: str) -> None:
    """Checks that this finding is present and nothing else is wrong."""
    finding = findings[what]
    assert (finding["standing"], found in finding["found"], todo in finding["todo"]) == (standing, True, True), finding
    others = [one for one in findings.values() if one["what"] != what and one["standing"] == "wrong"]
    assert not others, others


@pytest.fixture
def healthy(tmp_path: Path) -> LocalLake:
    """A healthy lake, except that there are no models."""
    lake = LocalLake(tmp_path, dict(PORTS))
    lake.settings["PLANTLAKE_JOBS"] = str(REPOSITORY / "jobs")
    lake.run(*SIMULATE).expect(OK)
    lake.resample().expect(OK)
    lake.run("org", "create", "Acme").expect(OK)
    lake.run("token", "keys", "rotate").expect(OK)
    return lake


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    postgres = Postgres()
    yield postgres
    postgres.stop()


def test_all_is_right(healthy: LocalLake) -> None:
    before = {path: path.stat().st_mtime_ns for path in healthy.folder.rglob("*") if path.is_file() and "organisation.db" not in path.name}
    findings = examine(healthy)
    assert {what for what, one in findings.items() if one["standing"] != "right"} == {"bi-encoder", "cross-encoder"}
    assert {"settings", "jobs", "server port", "TLS", "metrics port", "state", "signing keys", "disk", "lake", "raw files", "tables", "catalog",
            "organisations", "search index", "clock"} <= set(findings)  # fmt: skip
    assert before == {path: path.stat().st_mtime_ns for path in before}, "it changed something"
    assert not list(healthy.folder.rglob(".probe*")) and not list(healthy.folder.rglob("*.probe*"))
    people = healthy.run("doctor").expect(OK)
    assert "All checks passed; 2 notes." in people.text and "→ `plantlake models fetch`" in people.text
    healthy.settings |= fetched(healthy, healthy.folder / "models", "bi-encoder", "cross-encoder")
    assert "All checks passed." in healthy.run("doctor").expect(OK).text


def test_a_certificate_that_is_good_for_long_enough(healthy: LocalLake) -> None:
    certificate(healthy, 0o600, days=15)
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=15)
    found = examine(healthy)["TLS"]
    assert found["standing"] == "right"
    assert found["found"].endswith(f"server.pem matches its key, valid until {ends:%Y-%m-%d %H}" + found["found"][-7:])


def test_a_machine_where_nothing_is_yet(tmp_path: Path) -> None:
    finished = harness.run(["doctor", "--json"], PORTS, tmp_path).expect(FAILURE)
    wrong = {one["what"]: one["todo"] for one in finished.json["findings"] if one["standing"] == "wrong"}
    assert set(wrong) == {"lake", "catalog"} and "plantlake demo" in wrong["lake"]
    assert list(tmp_path.iterdir()) == [], "it made something"


def database(lake: LocalLake, sql: str) -> None:
    with closing(sqlite3.connect(lake.state / "organisation.db")) as connection:
        connection.execute(sql)
        connection.commit()


def no_database(lake: LocalLake) -> None:
    for companion in lake.state.glob("organisation.db-*"):
        companion.unlink()
    (lake.state / "organisation.db").write_bytes(b"no database at all, and long enough to be looked at" * 40)


def newer(lake: LocalLake) -> None:
    database(lake, "INSERT INTO _sqlx_migrations SELECT 99, description, installed_on, success, checksum, execution_time FROM _sqlx_migrations LIMIT 1")


def older(lake: LocalLake) -> None:
    database(lake, "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)")


def ahead(lake: LocalLake) -> None:
    [path, *_] = lake.raw.iterdir()
    tomorrow = (dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)).timestamp()
    os.utime(path, (tomorrow, tomorrow))


def unreadable(lake: LocalLake) -> None:
    lake.put("bad.parquet", b"no parquet")
    lake.resample()


def older_tables(lake: LocalLake) -> None:
    for log in lake.root.glob("data_h/_delta_log/*.json"):
        log.write_text(log.read_text().replace(r'{\"name\":\"stddev\",\"type\":\"double\",\"nullable\":true,\"metadata\":{}},', ""))


def job(name: str, text: str) -> Callable[[LocalLake], None]:
    def declare(lake: LocalLake) -> None:
        folder = lake.folder / "jobs"
        folder.mkdir()
        (folder / f"{name}.toml").write_text(text)
        lake.settings["PLANTLAKE_JOBS"] = str(folder)

    return declare


def with_secret(lake: LocalLake) -> None:
    lake.folder.joinpath("plantlake.toml").write_text('qdrant_api_key = "hush"\n')
    lake.folder.joinpath("plantlake.toml").chmod(0o644)


def certificate(lake: LocalLake, mode: int = 0o644, **dates: float) -> None:
    self_signed(lake.folder, "server", **dates)
    lake.folder.joinpath("server.key").chmod(mode)
    lake.settings |= {"PLANTLAKE_SERVE_TLS_CERT": str(lake.folder / "server.pem"), "PLANTLAKE_SERVE_TLS_KEY": str(lake.folder / "server.key")}


def other_key(lake: LocalLake) -> None:
    certificate(lake)
    self_signed(lake.folder, "other")
    lake.settings["PLANTLAKE_SERVE_TLS_KEY"] = str(lake.folder / "other.key")


def damaged_model(lake: LocalLake) -> None:
    lake.settings |= fetched(lake, lake.folder / "models", "cross-encoder")
    [weights] = (lake.folder / "models").glob("cross-encoder/*/model.safetensors")
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")


def setting(**settings: str) -> Callable[[LocalLake], None]:
    return lambda lake: lake.settings.update({f"PLANTLAKE_{name}": value for name, value in settings.items()})


BROKEN = {
    "lake elsewhere": (lambda lake: setattr(lake, "url", str(lake.folder / "nowhere")), "lake", "wrong", "nowhere does not exist", "set `lake`"),
    "tables of another version": (older_tables, "tables", "wrong", "data_h has no column stddev", "raw files"),
    "nothing published": (lambda lake: subprocess.run(["rm", "-r", lake.root / "published"], check=True), "tables", "note", "nothing is published", "plantlake resample"),
    "raw elsewhere": (lambda lake: lake.settings.update(PLANTLAKE_RAW=str(lake.folder / "nowhere")), "raw files", "wrong", "nowhere", "set `raw`"),
    "raw files that cannot be read": (unreadable, "raw files", "note", "1 cannot be read", "plantlake status"),
    "catalog": (lambda lake: (lake.folder / "catalog/assets.json").write_text("[{}]"), "catalog", "wrong", "assets.json", "plantlake catalog check"),
    "state": (lambda lake: (lake.folder / "file").write_text("") and None or setattr(lake, "state", lake.folder / "file"), "state", "wrong", "/file; check its owner", "set `state`"),
    "keys that others may read": (lambda lake: (lake.state / "keys").chmod(0o755), "signing keys", "wrong", "is accessible to users other than its owner (mode 755)", "follow the message"),
    "damaged key": (lambda lake: next((lake.state / "keys").glob("*.key")).write_text("swordfish"), "signing keys", "wrong", "is damaged", "follow the message"),
    "database that others may read": (lambda lake: (lake.state / "organisation.db").chmod(0o644), "organisations", "wrong", "mode 644", "chmod go-rwx"),
    "no database": (no_database, "organisations", "wrong", "cannot reach", "read and write access to that file"),
    "newer database": (newer, "organisations", "wrong", "schema 99 of a later plantlake", "that version"),
    "older database": (older, "organisations", "note", "the current schema is", "plantlake migrate"),
    "organisation server": (setting(ORGANISATION_URL="postgres://me:hush@127.0.0.1:1/organisation"), "organisations", "wrong", "me:******@127.0.0.1:1", "organisation_url"),
    "mirror server": (setting(MIRROR_URL="postgres://me:hush@127.0.0.1:1/chemical"), "mirror", "wrong", "Connection refused", "mirror_url"),
    "vectors": (setting(QDRANT_URL="http://127.0.0.1:1", QDRANT_TIMEOUT="1s"), "search index", "wrong", "127.0.0.1:1", "qdrant_url"),
    "clock": (ahead, "clock", "wrong", "the newest raw file is 86", "NTP"),
    "job": (job("resample", 'kind = "resample"\nschedule = "61 * * * *"\n'), "jobs", "wrong", "resample.toml", "correct that line"),
    "no schedule": (job("index", 'kind = "index"\n'), "jobs", "note", "no job in", "plantlake run"),
    "mirror that is not": (job("mirror", 'kind = "mirror"\nschedule = "*/5 * * * *"\n'), "jobs", "wrong", "no mirror is configured", "mirror_url"),
    "secrets for all": (with_secret, "settings", "note", "plantlake.toml contains secrets", "chmod o-rwx"),
    "no TLS": (setting(SERVE_LISTEN="0.0.0.0:0"), "TLS", "wrong", "`serve` will refuse", "serve.tls_cert"),
    "TLS elsewhere": (setting(SERVE_LISTEN="0.0.0.0:0", SERVE_ALLOW_PLAINTEXT="true"), "TLS", "note", "allow_plaintext", "proxy"),
    "half of TLS": (setting(SERVE_TLS_CERT="server.pem"), "TLS", "wrong", "only one of", "set the other"),
    "key for all": (certificate, "TLS", "note", "server.key can be read by every user", "chmod o-rwx"),
    "certificate that ends soon": (lambda lake: certificate(lake, 0o600, days=13), "TLS", "note", "valid until 20", "renew it"),
    "certificate that has ended": (lambda lake: certificate(lake, 0o600, since=9, days=-1), "TLS", "wrong", "server.pem expired on 20", "renew it"),
    "certificate of later": (lambda lake: certificate(lake, 0o600, since=-2), "TLS", "wrong", "server.pem is not valid before 20", "clock"),
    "another's key": (other_key, "TLS", "wrong", "cannot be used together", "its own private key"),
    "another's address": (setting(SERVE_LISTEN="192.0.2.1:50051", SERVE_ALLOW_PLAINTEXT="true"), "server port", "wrong", "cannot listen on 192.0.2.1:50051", "serve.listen"),
    "damaged model": (damaged_model, "cross-encoder", "wrong", "model.safetensors", "plantlake models fetch"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found(healthy: LocalLake, name: str) -> None:
    break_it, what, standing, found, todo = BROKEN[name]
    break_it(healthy)
    findings = examine(healthy)
    if name == "half of TLS" or name == "state":
        # The default organisation database is in the state folder, so this fault affects it, too.
        findings = {key: one for key, one in findings.items() if key in (what, "lake")}
    is_found(findings, what, standing, found, todo)
    people = healthy.run("doctor", settings={"COLUMNS": "80"})
    assert ("WRONG" if standing == "wrong" else "note") in people.text and found.split("/")[-1] in people.text


def test_a_port_that_another_program_has(healthy: LocalLake) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        healthy.settings["PLANTLAKE_SERVE_LISTEN"] = listen
        is_found(examine(healthy), "server port", "note", f"{listen} is in use", "serve.listen")


@pytest.mark.parametrize("folder", ["lake", "state"])
def test_what_this_user_may_not_write(unprivileged: tuple[LocalLake, dict], folder: str) -> None:  # noqa: F811
    lake, user = unprivileged
    lake.settings = dict(PORTS)
    lake.run(*SIMULATE).expect(OK)
    lake.run("org", "create", "Acme").expect(OK)
    give_away(lake, user)
    forbidden = lake.folder / folder
    forbidden.chmod(0o555)
    findings = examine(lake, **user)
    if folder == "state":
        # SQLite cannot create its files there either, unless a killed process has left them.
        del findings["organisations"]
    is_found(findings, folder, "wrong", {"lake": "cannot write to", "state": "cannot write to the folder"}[folder], "give the user that runs plantlake write access")
    forbidden.chmod(0o755)
    assert examine(lake, **user)[folder]["standing"] == "right"


def test_a_disk_that_is_nearly_full(healthy: LocalLake) -> None:
    place = healthy.folder / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be made here: {mounted.stderr.decode().strip()}")
    try:
        healthy.state = place
        is_found(examine(healthy), "disk", "wrong", f"MiB are free for {place}", "free disk space")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def test_postgres_servers(healthy: LocalLake, postgres: Postgres) -> None:
    organisation, mirror = postgres.new_database("organisation"), postgres.new_database("chemical")
    healthy.settings |= {"PLANTLAKE_ORGANISATION_URL": organisation, "PLANTLAKE_MIRROR_URL": mirror}
    findings = examine(healthy)
    version = psql(organisation, "SHOW server_version").split()[0]
    assert f"Postgres {version}" in findings["organisations"]["found"] and "its tables will be created on first use" in findings["organisations"]["found"]
    is_found(findings, "mirror", "note", "nothing mirrored yet", "plantlake mirror")
    healthy.run("migrate").expect(OK)
    healthy.run("mirror").expect(OK)
    findings = examine(healthy)
    assert "schema " in findings["organisations"]["found"] and "run 1, mirrored at" in findings["mirror"]["found"]
    assert "as the other clocks" in findings["clock"]["found"]
    # A role that may not create tables, on a database without tables.
    empty = postgres.new_database("chemical")
    user = f"reader_{os.getpid()}"
    psql(empty, f"CREATE ROLE {user} LOGIN PASSWORD 'hush'; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    host = empty.split("@")[1]
    is_found(examine(healthy, {"PLANTLAKE_MIRROR_URL": f"postgres://{user}:hush@{host}"}), "mirror", "wrong", "no permission to create tables", "GRANT CREATE")
    is_found(examine(healthy, {"PLANTLAKE_ORGANISATION_URL": f"postgres://{user}:hush@{host}"}), "organisations", "wrong", "no permission to create tables", "GRANT CREATE")
    is_found(examine(healthy, {"PLANTLAKE_MIRROR_URL": f"postgres://{user}:hush@{host}_not_there"}), "mirror", "wrong", "create the database first", "mirror_url")
    psql(mirror, "UPDATE mirror_migrations SET version = 99 WHERE version = 2")
    is_found(examine(healthy), "mirror", "wrong", "migrated by a later version of plantlake", "mirror_url")


def test_settings_that_are_wrong_by_themselves_are_told_first(healthy: LocalLake) -> None:
    finished = healthy.run("doctor", settings={"PLANTLAKE_RESAMPLE_THREADS": "0"}).expect(USAGE)
    assert "PLANTLAKE_RESAMPLE_THREADS" in finished.err and "expected" in finished.err


# ---- health


class Strange(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # noqa: N802
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_health_is_what_the_server_says_of_itself(tmp_path: Path) -> None:
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
    assert lake.run("health", "--json", settings={"PLANTLAKE_METRICS_LISTEN": f"0.0.0.0:{port}"}).expect(OK).json == {"healthy": True, "said": "ready"}
    # A port used by plantlake itself does not count as taken.
    findings = examine(lake, {"PLANTLAKE_SERVE_LISTEN": plant.uri.removeprefix("grpc://")})
    assert findings["server port"]["standing"] == "right" and "plantlake is running here" in findings["server port"]["found"]
    assert plant.stop() == OK
    told = lake.run("health", "--json").expect(FAILURE).json
    assert told["healthy"] is False and "no response from" in told["said"]
    assert "off" in lake.run("health", settings={"PLANTLAKE_METRICS_LISTEN": "off"}).expect(USAGE).err


def test_something_else_is_not_healthy(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Strange)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        settings = {"PLANTLAKE_METRICS_LISTEN": f"127.0.0.1:{server.server_port}"}
        assert "is not plantlake" in harness.run(["health"], settings, tmp_path).expect(FAILURE).err
    finally:
        server.shutdown()
