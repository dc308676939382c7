"""Compares the ledger of requests with the counts of independent clients, by request id, after kills of the server, outages of
the database, and full disks."""

from __future__ import annotations

import datetime as dt
import random
import socket
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from conftest import Effort
from databases import Database, Postgres, PostgresDatabase, SqliteDatabase
from harness import OK, small_disk
from server import PASSWORD, Plant, any_of, connect, eventually, text_field

pytestmark = pytest.mark.local_only
REQUEST_ID = "plantlake-request-id"
POINT = "SELECT timestamp, value FROM data_h WHERE asset_id = '{}' ORDER BY timestamp"
MINUTES = "SELECT * FROM data_min LIMIT {}"
# The maximum time in seconds until a record is in the ledger.
LEDGER_TIMEOUT = 20


# ---- counting clients


class RequestIds(flight.ClientMiddlewareFactory):
    """Records the request ids of a client's last calls by method, and the last warning."""

    def __init__(self) -> None:
        self.last: dict[str, str] = {}
        self.warning = ""

    def start_call(self, info: flight.CallInfo) -> flight.ClientMiddleware:
        name = info.method.name

        class Middleware(flight.ClientMiddleware):
            def received_headers(_, headers: dict) -> None:
                for value in headers.get(REQUEST_ID, []):
                    self.last[name] = value
                for value in headers.get("plantlake-warning", []):
                    self.warning = value

        return Middleware()


@dataclass
class ClientResult:
    """A result as its client saw it."""

    request_id: str
    rows: int
    messages: int
    ended: bool


class CountingClient:
    """A pyarrow client that counts its results."""

    def __init__(self, uri: str, key: str) -> None:
        self.ids = RequestIds()
        self.client = flight.FlightClient(uri, middleware=[self.ids])
        self.options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {key}".encode())], timeout=120)
        self.seen: list[ClientResult] = []

    def ask(self, sql: str) -> ClientResult:
        command = any_of("CommandStatementQuery", text_field(1, sql))
        info = self.client.get_flight_info(flight.FlightDescriptor.for_command(command), self.options)
        self.ids.last.pop("DO_GET", None)
        seen = None
        try:
            reader = self.client.do_get(info.endpoints[0].ticket, self.options)
            # The schema is the first message.
            seen = ClientResult(self.ids.last["DO_GET"], 0, 1, False)
            for chunk in reader:
                seen.rows += chunk.data.num_rows
                seen.messages += 1
            seen.ended = True
        finally:
            if seen is not None:
                self.seen.append(seen)
        return seen


LEDGER = "request_id, status, rows, cancelled, billable, endpoint, bytes_sent, bytes_scanned, api_key_id, organization_id"


def ledger(database: Database, where: str = "1 = 1") -> dict[str, dict]:
    """Returns the rows of the ledger by request id."""
    names = LEDGER.split(", ")
    lines = database.value(f"SELECT {LEDGER} FROM api_usage_logs WHERE {where}").splitlines()
    rows = [dict(zip(names, line.split("|"), strict=True)) for line in lines]
    assert len({row["request_id"] for row in rows}) == len(rows)
    return {row["request_id"]: row for row in rows}


def is_true(cell: str) -> bool:
    return cell in ("1", "t")


def journals(plant: Plant) -> list[Path]:
    return [path for path in (plant.lake.state / "journal").glob("*/*.log")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    return Plant(tmp_path_factory.mktemp("metering")).build()


@pytest.fixture
def plant(built: Plant) -> Iterator[Plant]:
    yield built
    if built.process is not None:
        assert built.stop() == OK, "".join(built.log)


def database_of(plant: Plant) -> SqliteDatabase:
    [path] = plant.lake.state.glob("*.db")
    return SqliteDatabase(f"sqlite:{path}")


# ---- the contents of records


@pytest.mark.parametrize("sync", ["false", "true"])
def test_query_is_recorded_once_with_client_counts(plant: Plant, sync: str) -> None:
    plant.serve(settings={"PLANTLAKE_METERING_SQL": "true", "PLANTLAKE_METERING_JOURNAL_SYNC": sync})
    database = database_of(plant)
    client = CountingClient(plant.uri, plant.tenants["North"].key)
    asset = sorted(plant.tenants["North"].assets)[0]
    point, many = client.ask(POINT.format(asset)), client.ask(MINUTES.format(30_000))
    eventually(lambda: {point.request_id, many.request_id} <= ledger(database).keys(), LEDGER_TIMEOUT)
    rows = ledger(database)
    for seen in (point, many):
        row = rows[seen.request_id]
        assert seen.ended and seen.rows > 0
        assert (row["status"], int(row["rows"]), row["endpoint"]) == ("OK", seen.rows, "DoGet/StatementQuery")
        assert is_true(row["billable"]) and not is_true(row["cancelled"])
        assert row["api_key_id"] == plant.tenants["North"].key_id
        assert int(row["bytes_sent"]) > 8 * seen.rows and int(row["bytes_scanned"]) > 0
        assert uuid.UUID(seen.request_id).version == 7
    where = f"request_id = '{point.request_id}'"
    assert database.value(f"SELECT sql_text FROM api_usage_logs WHERE {where}") == POINT.format(asset)
    times = database.value(f"SELECT first_byte_microseconds, duration_microseconds FROM api_usage_logs WHERE {where}")
    first, took = times.split("|")
    assert 0 < int(first) <= int(took) < 60_000_000
    # Statements that differ only in literals have the same fingerprint, and redeeming a ticket has the statement's fingerprint.
    again = client.ask(POINT.format(sorted(plant.tenants["North"].assets)[1]))
    eventually(lambda: again.request_id in ledger(database), LEDGER_TIMEOUT)
    both = f"request_id IN ('{point.request_id}', '{again.request_id}')"
    fingerprints = database.value(f"SELECT DISTINCT sql_fingerprint FROM api_usage_logs WHERE {both}")
    assert len(fingerprints.splitlines()) == 1 and len(fingerprints) == 64
    # A point query reads much less than a query of all minutes.
    assert int(ledger(database)[again.request_id]["bytes_scanned"]) < int(rows[many.request_id]["bytes_scanned"]) / 2


def test_calls_around_queries_are_recorded_unbilled(plant: Plant) -> None:
    plant.serve()
    database = database_of(plant)
    before = ledger(database).keys()
    with plant.connect("South") as connection, connection.cursor() as cursor:
        connection.adbc_get_table_types()
        connection.adbc_get_objects(depth="tables").read_all()
        cursor.execute("SELECT count(*) FROM data_h WHERE value > ?", (0.0,))
        cursor.fetchall()
        with pytest.raises(adbc_driver_manager.ProgrammingError):
            cursor.execute("SELECT wrong")
    new = lambda: [row for key, row in ledger(database).items() if key not in before]  # noqa: E731
    eventually(lambda: any(row["endpoint"] == "DoAction/CloseSession" for row in new()), LEDGER_TIMEOUT)
    counted = Counter((row["endpoint"], row["status"], is_true(row["billable"])) for row in new())
    assert counted["Handshake", "OK", False] >= 1
    assert counted["DoGet/GetTableTypes", "OK", False] == 1
    assert counted["DoGet/GetTables", "OK", False] + counted["DoGet/GetDbSchemas", "OK", False] >= 1
    assert counted["DoPut/PreparedStatementQuery", "OK", False] == 1
    assert counted["DoAction/CreatePreparedStatement", "INVALID_ARGUMENT", False] == 1
    assert [key for key in counted if key[2]] == [("DoGet/StatementQuery", "OK", True)]
    # The caller has signed in with a password, so records have a session and no API key.
    assert all(row["api_key_id"] == "" for row in new())


def test_cancelled_query_is_recorded_as_cancelled(plant: Plant) -> None:
    plant.serve()
    database = database_of(plant)
    large = "SELECT a.*, b.value AS other FROM data_min a CROSS JOIN (SELECT value FROM data_min LIMIT 200) b"
    client = CountingClient(plant.uri, plant.tenants["Everything"].key)
    command = any_of("CommandStatementQuery", text_field(1, large))
    info = client.client.get_flight_info(flight.FlightDescriptor.for_command(command), client.options)
    reader = client.client.do_get(info.endpoints[0].ticket, client.options)
    got = reader.read_chunk().data.num_rows
    reader.cancel()
    request = client.ids.last["DO_GET"]
    eventually(lambda: request in ledger(database), LEDGER_TIMEOUT)
    row = ledger(database)[request]
    assert row["status"] == "CANCELLED" and is_true(row["cancelled"]) and is_true(row["billable"])
    assert int(row["rows"]) >= got > 0


def test_unauthenticated_calls_are_counted_by_address(plant: Plant) -> None:
    plant.serve()
    database = database_of(plant)
    before = ledger(database).keys()
    for key in (None, "pl_nobody_x"):
        for _ in range(7):
            with pytest.raises(flight.FlightUnauthenticatedError):
                plant.client().__class__(plant.uri, key).query("SELECT 1")
    with pytest.raises(adbc_driver_manager.ProgrammingError):
        connect(plant.uri, {"username": "nobody@nowhere.example", "password": PASSWORD})
    assert plant.stop() == OK
    assert ledger(database).keys() == before
    assert database.value("SELECT client_address, SUM(calls) FROM unknown_callers GROUP BY 1") == "127.0.0.1|15"


# ---- killed servers


def test_ledger_of_killed_server_has_each_request_once(plant: Plant, effort: Effort) -> None:
    assets = sorted(plant.tenants["Everything"].assets)
    key = plant.tenants["Everything"].key
    seen: list[ClientResult] = []
    lock, stop = threading.Lock(), threading.Event()
    rng = random.Random(7)
    database = database_of(plant)
    plant.serve()

    def query_repeatedly(number: int) -> None:
        client_rng = random.Random(number)
        while not stop.is_set():
            client = CountingClient(plant.uri, key)
            try:
                while not stop.is_set():
                    is_point = client_rng.random() < 0.7
                    large = lambda: MINUTES.format(client_rng.randrange(20_000, 120_000))  # noqa: E731
                    client.ask(POINT.format(client_rng.choice(assets)) if is_point else large())
            except (flight.FlightError, OSError, KeyError):
                time.sleep(0.1)
            finally:
                with lock:
                    seen.extend(client.seen)

    threads = [threading.Thread(target=query_repeatedly, args=(number,), daemon=True) for number in range(32)]
    for thread in threads:
        thread.start()
    for _ in range(effort.metering_kills):
        time.sleep(rng.uniform(0.2, 2.5))
        plant.process.kill()
        plant.process.wait()
        plant.serve()
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert plant.stop() == OK
    assert journals(plant) == []
    rows = ledger(database, "endpoint = 'DoGet/StatementQuery'")
    ended = [each for each in seen if each.ended]
    cut = [each for each in seen if not each.ended]
    assert len(ended) > 20 * effort.metering_kills and cut, (len(ended), len(cut))
    assert len({each.request_id for each in seen}) == len(seen)
    for each in ended:
        row = rows[each.request_id]
        assert (row["status"], int(row["rows"])) == ("OK", each.rows), each
    statuses = Counter()
    for each in cut:
        row = rows[each.request_id]
        statuses[row["status"]] += 1
        # The request may have ended before the kill, even if the client was not informed.
        assert row["status"] == "ABORTED" or row["status"] == "OK" and int(row["rows"]) >= each.rows, (each, row)
        # Data that was recorded as sent is billed.
        assert is_true(row["billable"]) == (row["status"] == "OK" or int(row["rows"]) > 0)
    assert statuses["ABORTED"] > 0, statuses
    # The totals match the ledger.
    sums = "SUM(rows), SUM(bytes_sent), SUM(bytes_scanned)"
    assert database.value(f"SELECT SUM(requests), {sums} FROM usage_totals") == database.value(
        f"SELECT COUNT(*), {sums} FROM api_usage_logs WHERE billable"
    )


# ---- an unavailable database


class Proxy:
    """A proxy in front of a Postgres server. While closed, the server appears to be down."""

    def __init__(self, url: str) -> None:
        self.url = url
        before, _, place = url.rpartition("@")
        address, _, name = place.partition("/")
        host, _, port = address.partition(":")
        self.server_address = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.proxy_url = f"{before}@127.0.0.1:{self.port}/{name}"
        self.is_open, self.connections = True, []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            if not self.is_open:
                client.close()
                continue
            server = socket.create_connection(self.server_address)
            self.connections.append((client, server))
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=(source, target), daemon=True).start()

    @staticmethod
    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                target.sendall(data)
        except OSError:
            pass
        for each in (source, target):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self.is_open = False
        for connection in self.connections:
            for each in connection:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.connections = []

    def open(self) -> None:
        self.is_open = True


def test_queries_during_database_outage_are_answered_and_recorded(
    tmp_path: Path, postgres: Postgres, effort: Effort
) -> None:
    proxy = Proxy(postgres.new_database())
    database = PostgresDatabase(proxy.url)
    plant = Plant(tmp_path, {"PLANTLAKE_ORGANISATION_URL": proxy.proxy_url}).build()
    plant.serve()
    key, assets = plant.tenants["Everything"].key, sorted(plant.tenants["Everything"].assets)
    stop, clients, errors = threading.Event(), [], []

    def query_repeatedly(number: int) -> None:
        client_rng, client = random.Random(number), CountingClient(plant.uri, key)
        clients.append(client)
        while not stop.is_set():
            try:
                client.ask(POINT.format(client_rng.choice(assets)))
            except Exception as error:  # noqa: BLE001 - no error is expected
                errors.append(error)

    threads = [threading.Thread(target=query_repeatedly, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    proxy.close()
    known = len(ledger(database))
    time.sleep(effort.outage_seconds)
    assert len(ledger(database)) == known and journals(plant)
    proxy.open()
    time.sleep(2)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert errors == []
    seen = [each for client in clients for each in client.seen]
    assert len(seen) > known
    # About 10,000 records are transferred per second, and each check reads the whole ledger.
    eventually(lambda: {each.request_id for each in seen} <= ledger(database).keys(), 60 + effort.outage_seconds / 2)
    rows = ledger(database)
    assert all(each.ended and int(rows[each.request_id]["rows"]) == each.rows for each in seen)
    assert plant.stop() == OK
    assert journals(plant) == []


def test_full_journal_refuses_or_drops_as_configured(built: Plant) -> None:
    unrecorded = "a request was answered but not recorded"
    # Each statement is in two records of the journal, so that some dozens fill it.
    long = f"SELECT 1 -- {'x' * 8_000}"
    for setting, refuses in (("refuse", True), ("go-on", False)):
        journal = {"PLANTLAKE_METERING_JOURNAL_SIZE": "1MiB", "PLANTLAKE_METERING_JOURNAL_FULL": setting}
        plant = built.serve(settings={"PLANTLAKE_METERING_SQL": "true", **journal})
        database = database_of(plant)
        client = CountingClient(plant.uri, plant.tenants["North"].key)
        client.ask("SELECT 1")
        blocker = sqlite3.connect(database.path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        try:
            failure, dropped = None, 0
            for _ in range(4_000):
                try:
                    client.ask(long)
                except flight.FlightUnavailableError as error:
                    failure = str(error)
                    break
                # The first record that is dropped may be that of a plan. More statements follow, whose records are dropped.
                dropped += any(unrecorded in line for line in plant.log)
                if dropped == 20:
                    break
            size = sum(path.stat().st_size for path in journals(plant))
            assert 1 << 19 < size <= 1 << 20
            assert (failure is not None) == refuses
            if failure:
                assert "metering is unavailable: cannot record requests" in failure
                assert eventually(lambda: "metering.journal_size" in "".join(plant.log)) < 5
            else:
                assert eventually(lambda: unrecorded in "".join(plant.log)) < 5
        finally:
            blocker.rollback()
            blocker.close()

        def is_query_answered() -> bool:
            try:
                return client.ask("SELECT 1").ended
            except flight.FlightUnavailableError:
                return False

        eventually(is_query_answered, 60)
        ended = {each.request_id for each in client.seen if each.ended}
        assert plant.stop() == OK
        missing = ended - ledger(database).keys()
        assert bool(missing) != refuses


def test_full_disk_refuses_queries_and_loses_no_record(built: Plant) -> None:
    plant = built.serve(**small_disk(300_000))
    database = database_of(plant)
    client = CountingClient(plant.uri, plant.tenants["North"].key)
    failure = None
    try:
        for _ in range(3_000):
            try:
                client.ask("SELECT 1")
            except (flight.FlightUnavailableError, flight.FlightInternalError) as error:
                failure = str(error)
                break
        assert failure is not None and "metering is unavailable: cannot record requests" in failure
    finally:
        plant.process.kill()
        plant.process.wait()
        plant.process = None
    plant.serve()
    try:
        ended = [each for each in client.seen if each.ended]
        eventually(lambda: {each.request_id for each in ended} <= ledger(database).keys(), 40)
    finally:
        assert plant.stop() == OK


def test_journal_has_start_records_of_long_queries_only(built: Plant) -> None:
    plant = built.serve()
    database = database_of(plant)
    client = CountingClient(plant.uri, plant.tenants["Everything"].key)
    client.ask("SELECT 1")
    before = ledger(database, "status = 'ABORTED'").keys()
    # The database is locked, so the journal keeps all records.
    blocker = sqlite3.connect(database.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    short, large = client.ask("SELECT 1"), client.ask(MINUTES.format(20_000))

    def journal_lines() -> list[bytes]:
        return b"".join(path.read_bytes() for path in journals(plant)).splitlines()

    def start_flags(seen: ClientResult) -> list[bool]:
        return [b'"begun"' in line for line in journal_lines() if seen.request_id.encode() in line]

    assert (start_flags(short), start_flags(large)) == ([False], [True, False])
    # This query runs for minutes and returns no row.
    slow = "SELECT count(*) FROM data_min a CROSS JOIN data_min b CROSS JOIN data_min c WHERE a.value + b.value + c.value < 0"

    def run_slow_query() -> None:
        with pytest.raises(flight.FlightError):
            client.ask(slow)

    thread = threading.Thread(target=run_slow_query)
    thread.start()
    assert eventually(lambda: sum(b'"begun"' in line for line in journal_lines()) == 2) < 5
    plant.process.kill()
    plant.process.wait()
    plant.process = None
    thread.join()
    blocker.rollback()
    blocker.close()
    plant.serve()
    try:
        eventually(lambda: large.request_id in ledger(database), LEDGER_TIMEOUT)
        rows = ledger(database)
        aborted = [rows[request] for request in ledger(database, "status = 'ABORTED'").keys() - before]
        assert [row["endpoint"] for row in aborted] == ["DoGet/StatementQuery"]
        assert {rows[each.request_id]["status"] for each in (short, large)} == {"OK"}
    finally:
        assert plant.stop() == OK


def test_damaged_journal_loses_damaged_records_only(built: Plant) -> None:
    plant = built.serve()
    database = database_of(plant)
    blocker = sqlite3.connect(database.path, isolation_level=None)
    client = CountingClient(plant.uri, plant.tenants["North"].key)
    client.ask("SELECT 1")
    blocker.execute("BEGIN IMMEDIATE")
    # One of these results is long.
    results = [client.ask(MINUTES.format(20_000) if number == 4 else "SELECT 1") for number in range(10)]
    plant.process.kill()
    plant.process.wait()
    plant.process = None
    blocker.rollback()
    blocker.close()
    [path] = journals(plant)
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged in (results[4], results[7]):
        [broken] = [number for number, line in enumerate(lines) if b'"ended"' in line and damaged.request_id.encode() in line]
        lines[broken] = lines[broken].replace(b'"OK"', b'"KO"')
    path.write_bytes(b"".join(lines) + b"0123456789abcdef {\"ended\":{\"request")
    plant.serve()
    try:
        eventually(lambda: results[9].request_id in ledger(database), LEDGER_TIMEOUT)
        rows = ledger(database)
        assert {each.request_id for each in results} - rows.keys() == {results[7].request_id}
        # The long request has a start record and a damaged end record. The damaged end record of a short request is its only
        # one.
        assert rows.pop(results[4].request_id)["status"] == "ABORTED"
        assert {rows[each.request_id]["status"] for each in results if each not in (results[4], results[7])} == {"OK"}
        assert any("are damaged" in line and "lines=2" in line for line in plant.log)
        assert journals(plant) and path not in journals(plant)
    finally:
        assert plant.stop() == OK


# ---- limits


def limit(plant: Plant, tenant: str, *flags: str) -> None:
    plant.run("org", "limit", tenant, *flags).expect(OK)


def test_used_up_quota_refuses_after_warning(plant: Plant) -> None:
    plant.serve()
    plant.tenant("Quota", ["--all"])
    client = CountingClient(plant.uri, plant.tenants["Quota"].key)
    limit(plant, "Quota", "--monthly-requests", "10")
    time.sleep(2.5)
    for number in range(10):
        client.ask("SELECT 1")
        month = f"{dt.datetime.now(dt.UTC):%Y-%m}"
        assert client.ids.warning == (f"monthly_requests of {month}: {number} of 10 used" if number >= 8 else "")
    with pytest.raises(pa.ArrowInvalid, match=r"quota of monthly_requests for \d{4}-\d\d: 10 of 10; it resets at \d{4}-\d\d-01T00:00Z"):
        client.ask("SELECT 1")
    assert any("a quota is nearly used up" in line for line in plant.log)
    # The quota can be changed while the server runs, and other organisations are not affected.
    CountingClient(plant.uri, plant.tenants["North"].key).ask("SELECT 1")
    limit(plant, "Quota", "--monthly-requests", "11")
    eventually(lambda: is_answered(client), LEDGER_TIMEOUT)
    limit(plant, "Quota", "--monthly-requests", "none", "--monthly-bytes-scanned", "1000")
    eventually(lambda: is_answered(client), LEDGER_TIMEOUT)
    client.ask("SELECT count(value) FROM data_min")
    with pytest.raises(pa.ArrowInvalid, match="quota of monthly_bytes_scanned"):
        client.ask("SELECT 1")
    limit(plant, "Quota", "--monthly-bytes-scanned", "none", "--monthly-bytes-sent", "100")
    eventually(lambda: not is_answered(client) and "monthly_bytes_sent" in last_error(client), LEDGER_TIMEOUT)


def is_answered(client: CountingClient) -> bool:
    return last_error(client) == ""


def last_error(client: CountingClient) -> str:
    try:
        client.ask("SELECT 1")
    except (flight.FlightError, pa.ArrowInvalid) as error:
        return str(error)
    return ""


def test_rate_limit_holds_over_seconds(plant: Plant) -> None:
    plant.serve()
    plant.tenant("Rate", ["--all"])
    limit(plant, "Rate", "--requests-per-second", "20")
    time.sleep(2.5)
    client = CountingClient(plant.uri, plant.tenants["Rate"].key)
    answered, refused, began = 0, "", time.monotonic()
    while time.monotonic() - began < 4:
        try:
            client.ask("SELECT 1")
            answered += 1
        except flight.FlightUnavailableError as error:
            refused = str(error)
            time.sleep(0.002)
    # The first second's requests are available at once.
    assert 20 * 4 * 0.7 < answered <= 20 * 4 + 20, answered
    assert "rate limit exceeded: 20 requests per second" in refused
    statuses = Counter(row["status"] for row in ledger(database_of(plant)).values())
    assert statuses["UNAVAILABLE"] > 0


def test_concurrent_queries_over_limit_are_refused(plant: Plant) -> None:
    plant.serve()
    plant.tenant("Few", ["--all"])
    limit(plant, "Few", "--concurrent-queries", "2")
    time.sleep(2.5)
    large = "SELECT a.*, b.value AS other FROM data_min a CROSS JOIN (SELECT value FROM data_min LIMIT 200) b"
    readers = []
    for _ in range(2):
        client = CountingClient(plant.uri, plant.tenants["Few"].key)
        info = client.client.get_flight_info(flight.FlightDescriptor.for_command(any_of("CommandStatementQuery", text_field(1, large))), client.options)
        reader = client.client.do_get(info.endpoints[0].ticket, client.options)
        reader.read_chunk()
        readers.append((client, reader))
    third = CountingClient(plant.uri, plant.tenants["Few"].key)
    assert "limit exceeded: 2 concurrent queries" in last_error(third)
    readers[0][1].cancel()
    eventually(lambda: is_answered(third), LEDGER_TIMEOUT)
    readers[1][1].cancel()


def test_two_servers_share_limits(plant: Plant) -> None:
    plant.serve()
    other = Plant(plant.lake.folder)
    other.tenants = plant.tenants
    other.serve()
    try:
        plant.tenant("Shared", ["--all"])
        limit(plant, "Shared", "--requests-per-second", "12")
        time.sleep(2.5)
        answered, seconds = [], 6
        deadline = time.monotonic() + seconds

        def run_queries(uri: str) -> None:
            client = CountingClient(uri, plant.tenants["Shared"].key)
            while time.monotonic() < deadline:
                answered.append(is_answered(client))
                time.sleep(0.002)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(run_queries, [plant.uri, other.uri] * 2))
        # The servers learn of each other within 2 s. Until then, each allows the full rate; afterwards they share it.
        assert 12 * seconds * 0.7 < sum(answered) <= 12 * seconds + 2 * 12 + 3 * 12, sum(answered)
        limit(plant, "Shared", "--requests-per-second", "none")
        used = 0
        clients = [CountingClient(uri, plant.tenants["Shared"].key) for uri in (plant.uri, other.uri)]
        limit(plant, "Shared", "--monthly-requests", str(sum(answered) + 60))
        time.sleep(3)
        began = time.monotonic()
        while time.monotonic() - began < 30:
            done = [is_answered(client) for client in clients]
            used += sum(done)
            if not any(done):
                break
            time.sleep(0.05)
        # Each server learns the other's count within 2 s.
        assert 60 <= used <= 60 + 2 * 20 * 2, used
    finally:
        assert other.stop() == OK
