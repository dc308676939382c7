"""The server under load: limits of memory, time and concurrent queries, and the effect on other clients."""

from __future__ import annotations

import contextlib
import queue
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import adbc_driver_manager
import pyarrow.flight as flight
import pytest

from harness import OK, small_disk
from server import Plant, any_of, eventually, fields_of, text_field
from wire import FLIGHT, PING, WINDOW_BYTES, WINDOW_UPDATE, Wire, frame, message, tls_context

pytestmark = pytest.mark.local_only
LONG = "SELECT count(*) FROM data_min a CROSS JOIN data_min b CROSS JOIN data_min c WHERE a.value + b.value + c.value < 0"
# Expensive enough to be queued, but finished within a second.
MEDIUM = "SELECT count(*) AS n FROM raw_readings"
# A result of several gigabytes.
LARGE = "SELECT a.*, b.value AS other FROM data_min a CROSS JOIN (SELECT value FROM data_min LIMIT 200) b"
# More than 100,000 groups of about 1,000 bytes: twice the memory of the queries below.
GROUPS = (
    "SELECT count(*) AS groups, sum(n) AS n FROM (SELECT repeat(asset_id, 28) AS k, timestamp, count(*) AS n, max(value), min(first) "
    "FROM data_min GROUP BY 1, 2)"
)
POINT = "SELECT timestamp, value FROM data_h WHERE asset_id = '{}' ORDER BY timestamp"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    return Plant(tmp_path_factory.mktemp("load")).build()


@contextlib.contextmanager
def serving(plant: Plant, process: dict | None = None, flags: tuple[str, ...] = (), **settings: str) -> Iterator[Plant]:
    """Starts a server with these flags and `serve.…` settings."""
    named = {f"PLANTLAKE_SERVE_{name.upper()}": value for name, value in settings.items()}
    plant.serve(*flags, settings=named, **(process or {}))
    try:
        yield plant
    finally:
        if plant.process is not None:
            assert plant.stop() == OK, "".join(plant.log)


class BackgroundQuery:
    """A query that runs in a thread and can be cancelled."""

    def __init__(self, plant: Plant, sql: str, tenant: str = "Everything") -> None:
        self.connection = plant.with_key(tenant)
        self.cursor = self.connection.cursor()
        self.outcome: queue.Queue = queue.Queue()
        self.thread = threading.Thread(target=self._run, args=(sql,), daemon=True)
        self.thread.start()

    def _run(self, sql: str) -> None:
        try:
            self.cursor.execute(sql)
            answer = self.cursor.fetch_arrow_table()
            self.cursor.close()
            self.connection.close()
            self.outcome.put(answer)
        except Exception as error:  # noqa: BLE001 - the test inspects any error
            self.outcome.put(error)

    def result(self, seconds: float):
        try:
            return self.outcome.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"not answered within {seconds} s") from None

    def is_waiting(self) -> bool:
        return self.outcome.empty()

    def cancel(self) -> None:
        self.cursor.adbc_cancel()
        self.thread.join(10)
        self.cursor.close()
        self.connection.close()


def memory(plant: Plant) -> float:
    """Returns the resident memory in MiB."""
    status = Path(f"/proc/{plant.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def spilled(plant: Plant) -> list[Path]:
    return [path for path in (plant.lake.state / "spill").rglob("*") if path.is_file()]


# ---- memory


def test_query_over_memory_limit_spills_to_disk(built: Plant) -> None:
    with serving(built, query_memory="64MiB") as plant:
        query, seen = BackgroundQuery(plant, GROUPS), False
        while query.is_waiting():
            seen = seen or any(path.suffix != ".lock" for path in spilled(plant))
            time.sleep(0.01)
        result = query.result(1)
        assert not isinstance(result, Exception), result
        [row] = result.to_pylist()
        rows = plant.ask("SELECT count(*) AS n FROM data_min", "Everything")["n"][0]
        assert row == {"groups": rows, "n": rows} and rows > 100_000
        assert seen, "no spill file was written"
        # The running process keeps its lock file; all spill files are deleted.
        assert eventually(lambda: all(path.suffix == ".lock" for path in spilled(plant))) < 5


def test_full_disk_fails_only_the_spilling_query(built: Plant) -> None:
    with serving(built, small_disk(2 << 20), query_memory="64MiB") as plant:
        asset = sorted(plant.tenants["North"].assets)[0]
        expected = plant.ask(POINT.format(asset))
        query = BackgroundQuery(plant, GROUPS)
        while query.is_waiting():
            assert plant.ask(POINT.format(asset)).equals(expected)
        error = query.result(1)
        assert isinstance(error, adbc_driver_manager.OperationalError), error
        assert "failed on the server" in str(error) and str(plant.lake.folder) not in str(error)
        # The reason is in the operator's log only.
        assert eventually(lambda: "File too large" in "".join(plant.log)) < 5
        assert eventually(lambda: all(path.suffix == ".lock" for path in spilled(plant))) < 5


def test_unspillable_query_over_memory_limit_fails_alone(built: Plant) -> None:
    with serving(built, query_memory="64MiB") as plant:
        asset = sorted(plant.tenants["North"].assets)[0]
        columns = ", ".join(f"array_agg({name})" for name in ("value", "min", "max", "first", "last", "stddev"))
        sql = f"SELECT {columns} FROM ({' UNION ALL '.join(['SELECT * FROM data_min'] * 12)})"
        query, others = BackgroundQuery(plant, sql), 0
        while query.is_waiting() and others < 10_000:
            assert len(plant.ask(POINT.format(asset))) > 0
            others += 1
        error = query.result(1)
        assert isinstance(error, adbc_driver_manager.InternalError), error
        assert "needs more memory than allowed" in str(error)


def test_row_over_message_limit_is_refused(built: Plant) -> None:
    with serving(built) as plant, plant.with_key("Everything") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(asset_id, ',') AS ids FROM data_h")
        assert len(cursor.fetch_arrow_table()["ids"][0].as_py()) > 100_000
        with pytest.raises(adbc_driver_manager.ProgrammingError, match="cannot send a row of [0-9]+ bytes"):
            cursor.execute("SELECT string_agg(repeat(asset_id, 4), ',') AS ids FROM data_min")
            cursor.fetch_arrow_table()


def test_spill_files_of_killed_server_are_deleted_at_start(built: Plant) -> None:
    with serving(built) as plant:
        folder = plant.lake.state / "spill"
        [own] = [path for path in folder.iterdir() if path.is_dir()]
        (own / "left-behind").write_bytes(b"x" * 1000)
        plant.process.kill()
        plant.process.wait()
        plant.process = None
        assert own.is_dir()
        plant.serve()
        assert not own.exists()
        assert len([path for path in folder.iterdir() if path.is_dir()]) == 1


def test_session_settings_hide_spill_folder(built: Plant) -> None:
    with serving(built) as plant, plant.with_key("Everything") as connection, connection.cursor() as cursor:
        statements = [
            "SHOW ALL",
            "SELECT * FROM information_schema.df_settings",
            "SELECT value FROM df_settings",
            "SELECT 1 AS n WHERE EXISTS (SELECT 1 FROM df_settings WHERE value LIKE '%/spill/%')",
        ]
        for sql in statements:
            if "information_schema" not in sql and "df_settings" in sql:
                cursor.execute("SET schema = 'information_schema'")
            cursor.execute(sql)
            rows = str(cursor.fetch_arrow_table().to_pylist())
            assert str(plant.lake.folder) not in rows
        cursor.execute(statements[-1])
        assert cursor.fetchall() == []


# ---- time


def test_query_over_timeout_ends(built: Plant) -> None:
    with serving(built, query_timeout="2s") as plant:
        began = time.monotonic()
        error = BackgroundQuery(plant, LONG).result(20)
        assert isinstance(error, adbc_driver_manager.OperationalError), error
        assert "the query exceeded serve.query_timeout (2 s); ask for fewer rows" in str(error)
        assert 2 <= time.monotonic() - began < 15
        # The time that the client needs to read the result does not count.
        with plant.with_key("Everything") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT * FROM data_min")
            reader, rows = cursor.fetch_record_batch(), 0
            for number, batch in enumerate(reader):
                rows += batch.num_rows
                if number < 6:
                    time.sleep(0.7)
        assert rows == plant.ask("SELECT count(*) AS n FROM data_min", "Everything")["n"][0]


# ---- queueing


def test_busy_organisation_does_not_starve_another(built: Plant) -> None:
    with serving(built, queries="2") as plant:
        many = [BackgroundQuery(plant, LONG, "Everything") for _ in range(6)]
        time.sleep(2)
        began = time.monotonic()
        assert plant.ask(MEDIUM, "South")["n"][0] > 0
        assert time.monotonic() - began < 10
        # Short queries need no permit.
        assert len(plant.ask("SELECT * FROM data_d", "North")) > 0
        assert all(query.is_waiting() for query in many)
        for query in many:
            query.cancel()


def test_query_over_queue_timeout_is_refused(built: Plant) -> None:
    with serving(built, queries="1", queue_timeout="2s") as plant:
        first = BackgroundQuery(plant, LONG)
        time.sleep(1)
        error = BackgroundQuery(plant, MEDIUM).result(10)
        assert isinstance(error, adbc_driver_manager.OperationalError), error
        assert "no permit for the query within serve.queue_timeout (2 s); try again later" in str(error)
        first.cancel()


def test_cancelled_query_releases_its_permit(built: Plant) -> None:
    with serving(built, queries="1") as plant:
        first = BackgroundQuery(plant, LONG)
        time.sleep(1)
        second = BackgroundQuery(plant, MEDIUM)
        time.sleep(1)
        assert second.is_waiting()
        first.cancel()
        assert second.result(10)["n"][0].as_py() > 0


def test_slow_reader_keeps_result_without_permit(built: Plant) -> None:
    with serving(built, queries="1", unread_timeout="4s") as plant:
        with plant.with_key("Everything") as connection, connection.cursor() as cursor:
            cursor.execute(LARGE)
            reader = cursor.fetch_record_batch()
            reader.read_next_batch()
            before = memory(plant)
            assert plant.ask(MEDIUM, "Everything")["n"][0] > 0
            # Little of a result is computed ahead of the client.
            assert memory(plant) < before + 100
            for _ in range(20):
                reader.read_next_batch()
            # A client that stops reading loses the result.
            time.sleep(7)
            with pytest.raises(Exception, match=r"exceeded serve\.unread_timeout \(4 s\): the client stopped reading the result"):
                for _ in reader:
                    pass


# ---- shutdown


def test_shutdown_finishes_started_results(built: Plant) -> None:
    with serving(built) as plant:
        connection = plant.with_key("Everything")
        cursor = connection.cursor()
        cursor.execute("SELECT a.* FROM (SELECT * FROM data_min LIMIT 40000) a CROSS JOIN (SELECT value FROM data_min LIMIT 10) b")
        reader = cursor.fetch_record_batch()
        rows = reader.read_next_batch().num_rows
        plant.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(Exception):
            plant.client("Everything").query("SELECT 1")
        rows += sum(batch.num_rows for batch in reader)
        with contextlib.suppress(adbc_driver_manager.Error):
            # The server has exited, so closing fails.
            cursor.close()
        connection.close()
        assert rows == 10 * 40_000
        assert plant.process.wait(timeout=20) == OK
        plant.process = None


def has_sent_everything(server_port: int, client_port: int) -> bool:
    """Whether the server has shut down its side of a connection whose client has not received everything yet (FIN_WAIT1)."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if (int(local[9:], 16), int(remote[9:], 16)) == (server_port, client_port):
            return state == "04"
    return False


@pytest.mark.parametrize("flags", [(), ("--dev-tls",)], ids=["plain", "tls"])
def test_shutdown_waits_for_slow_reader(built: Plant, flags: tuple[str, ...]) -> None:
    """The server has written all of a result of 1 MiB into its socket before the client has read it. If it closed the
    socket, what the client sends while it reads would be answered with a reset, and the rest of the result would be lost."""
    with serving(built, flags=flags) as plant:
        key = plant.tenants["Everything"].key
        sql = "SELECT asset_id, timestamp, value FROM data_min LIMIT 20000"
        command = any_of("CommandStatementQuery", text_field(1, sql))
        with Wire(plant.uri, tls=tls_context(plant) if flags else None) as client:
            # The kernel of the client accepts little of the result ahead of the client.
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 10)
            body = bytes([8, 2]) + text_field(2, command)
            info = client.call(FLIGHT + "GetFlightInfo", key, message(len(body), body))
            assert info.status == "0", info.headers
            [ticket] = fields_of(fields_of(info.body[5:])[3][0])[1]
            client.returns_credit = False
            stream = client.open(FLIGHT + "DoGet", key)
            client.data(stream, message(len(ticket), ticket), ends=True)
            result = client.answers[stream]
            while len(result.body) < WINDOW_BYTES - len(info.body):
                client.receive(10)
                assert not client.is_closed
            plant.process.send_signal(signal.SIGTERM)
            # The server announces the last stream once the client has answered its ping.
            while client.last_stream != stream:
                client.receive(10)
                assert not client.is_closed and not result.is_over
            credit = struct.pack(">I", 64 << 20)
            client.send(frame(WINDOW_UPDATE, 0, 0, credit) + frame(WINDOW_UPDATE, 0, stream, credit))
            ports = int(plant.uri.rsplit(":", 1)[1]), client.socket.getsockname()[1]
            assert eventually(lambda: has_sent_everything(*ports)) < 5
            while not client.is_closed:
                client.send(frame(PING, 0, 0, b"reading."))
                client.receive(10)
            assert result.is_over and result.status == "0", result.headers
            assert len(result.body) > 1 << 20
        assert plant.process.wait(timeout=10) == OK
        plant.process = None


def test_shutdown_with_stalled_reader_ends_at_timeout(built: Plant) -> None:
    with serving(built, shutdown_timeout="2s") as plant:
        connection = plant.with_key("Everything")
        cursor = connection.cursor()
        cursor.execute(LARGE)
        cursor.fetch_record_batch().read_next_batch()
        plant.process.send_signal(signal.SIGTERM)
        assert plant.process.wait(timeout=10) == OK
        plant.process = None
        with contextlib.suppress(Exception):
            cursor.close()
            connection.close()


# ---- many clients


def test_concurrent_clients_get_their_own_rows(built: Plant) -> None:
    with serving(built) as plant:
        tenants = ["North", "South", "Everything"]
        expected = {tenant: len(plant.ask("SELECT * FROM data_h", tenant)) for tenant in tenants}

        def run_queries(number: int) -> None:
            tenant = tenants[number % 3]
            with plant.with_key(tenant) as connection:
                for step in range(6):
                    sql = "SELECT count(*) AS n FROM data_h" if step % 3 else MEDIUM
                    with connection.cursor() as cursor:
                        cursor.execute(sql)
                        [n] = cursor.fetch_arrow_table()["n"].to_pylist()
                    if step % 3:
                        assert n == expected[tenant]

        with ThreadPoolExecutor(32) as pool:
            list(pool.map(run_queries, range(32)))


def test_abandoned_statements_use_no_memory(built: Plant) -> None:
    with serving(built) as plant:
        client = plant.client("North")

        def abandon(count: int) -> None:
            for number in range(count):
                client.prepare(f"SELECT * FROM data_h WHERE value > {number}")
                client.info(any_of("CommandStatementQuery", text_field(1, f"SELECT {number}")))

        abandon(600)
        before = memory(plant)
        abandon(1200)
        assert memory(plant) < before + 30


# ---- the plan cache


def test_now_in_cached_plan_is_evaluated_per_query(built: Plant) -> None:
    with serving(built) as plant, plant.with_key("North") as connection, connection.cursor() as cursor:
        times = []
        for _ in range(3):
            cursor.execute("SELECT now() AS t, (SELECT now()) AS u")
            [row] = cursor.fetch_arrow_table().to_pylist()
            times.append(row["t"])
            assert row["t"] == row["u"]
            time.sleep(0.01)
        assert times[0] < times[1] < times[2]
        [handle] = [plant.client("North").prepare("SELECT now() AS t")]
        command = any_of("CommandPreparedStatementQuery", text_field(1, handle))
        client = plant.client("North")
        prepared_times = [client.get(client.info(command).endpoints[0].ticket)["t"][0].as_py() for _ in range(2)]
        assert prepared_times[0] < prepared_times[1]


def test_ticket_redeemed_twice_returns_same_rows(built: Plant) -> None:
    with serving(built) as plant:
        client = plant.client("North")
        info = client.info(any_of("CommandStatementQuery", text_field(1, "SELECT * FROM data_h ORDER BY 1, 2")))
        one, two = (client.get(info.endpoints[0].ticket) for _ in range(2))
        assert one.equals(two) and one.num_rows > 0
        other = plant.client("South")
        with pytest.raises((flight.FlightError, KeyError), match="no such ticket"):
            other.get(info.endpoints[0].ticket)


def test_same_statement_of_two_organisations_returns_own_rows(built: Plant) -> None:
    with serving(built) as plant:
        sql = "SELECT DISTINCT asset_id FROM data_h"
        for _ in range(3):
            seen = {tenant: set(plant.ask(sql, tenant)["asset_id"]) for tenant in ("North", "South", "Nobody")}
            assert seen["North"] and seen["South"] and not seen["North"] & seen["South"] and not seen["Nobody"]


def test_changed_view_is_planned_again(built: Plant) -> None:
    views = built.lake.folder / "catalog" / "views"
    views.mkdir(exist_ok=True)
    (views / "answer.sql").write_text("SELECT 41 AS n")
    with serving(built) as plant:
        assert plant.ask("SELECT n FROM answer")["n"][0] == 41
        (views / "answer.sql").write_text("SELECT 42 AS n")
        assert eventually(lambda: plant.ask("SELECT n FROM answer")["n"][0] == 42) < 5


def test_now_in_view_is_evaluated_per_query(built: Plant) -> None:
    views = built.lake.folder / "catalog" / "views"
    views.mkdir(exist_ok=True)
    (views / "clock.sql").write_text("SELECT now() AS t")
    with serving(built) as plant:
        times = [plant.ask("SELECT t FROM clock")["t"][0] for _ in range(3)]
        assert times[0] < times[1] < times[2]
