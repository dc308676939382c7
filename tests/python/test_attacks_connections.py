"""Attacks on the server's capacity without a valid credential or by one organisation: large bodies, handshakes, silent
connections and floods. During each attack, other clients are answered, and memory and descriptors stay bounded."""

from __future__ import annotations

import base64
import contextlib
import re
import resource
import signal
import socket
import ssl
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import wire
from conftest import LONG
from harness import OK
from server import Plant, any_of, eventually, text_field
from wire import (
    DEADLINE_EXCEEDED,
    FLIGHT,
    HEALTH,
    MIB,
    OUT_OF_RANGE,
    UNAUTHENTICATED,
    UNAVAILABLE,
    PeakMemory,
    Wire,
    descriptors,
    flood,
    frame,
    is_closed,
    message,
    open_silent,
    tls_context,
)

pytestmark = pytest.mark.local_only
# Short timeouts keep the tests fast.
TIMEOUTS = {
    "PLANTLAKE_SERVE_HANDSHAKE_TIMEOUT": "1s",
    "PLANTLAKE_SERVE_UNAUTHENTICATED_TIMEOUT": "2s",
    "PLANTLAKE_SERVE_MESSAGE_TIMEOUT": "1s",
    "PLANTLAKE_SERVE_MESSAGE_MEMORY": "64MiB",
    "PLANTLAKE_SERVE_SHUTDOWN_TIMEOUT": "2s",
    "PLANTLAKE_METRICS_LISTEN": "127.0.0.1:0",
}
SILENT_CONNECTIONS = 1_500
# The maximum time of a neighbour's point query, for a debug build on a shared machine.
NEIGHBOUR_SECONDS = 2.0
SELECT_1 = any_of("CommandStatementQuery", text_field(1, "SELECT 1 AS x"))


def whole_message(payload: bytes) -> bytes:
    """Returns a complete gRPC message."""
    return message(len(payload), payload)


# The FlightDescriptor of a point query.
POINT_QUERY = whole_message(bytes([8, 2]) + text_field(2, SELECT_1))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    return Plant(tmp_path_factory.mktemp("connections"), dict(TIMEOUTS)).build()


@pytest.fixture(scope="module")
def plant(built: Plant) -> Iterator[Plant]:
    """A server without TLS and without trusted proxies."""
    built.serve()
    yield built
    assert built.stop() == OK


@contextlib.contextmanager
def serving(built: Plant, *flags: str, settings: dict[str, str] | None = None, **more) -> Iterator[Plant]:
    """Starts another server on the same lake."""
    other = Plant.__new__(Plant)
    other.__dict__ |= built.__dict__ | {"process": None}
    other.serve(*flags, settings=settings, **more)
    try:
        yield other
    finally:
        if other.process is not None:
            assert other.stop() == OK


def key(plant: Plant, tenant: str = "North") -> str:
    return plant.tenants[tenant].key


def time_point_query(plant: Plant, tenant: str = "South", **options) -> float:
    """Runs a neighbour's query on a new connection and returns the elapsed seconds."""
    began = time.monotonic()
    with Wire(plant.uri, **options) as neighbour:
        answer = neighbour.call(FLIGHT + "GetFlightInfo", key(plant, tenant), POINT_QUERY)
    assert answer.status == "0", answer.headers
    return time.monotonic() - began


def get_path(plant: Plant, path: str, timeout: float = 10) -> tuple[int, float]:
    """Requests a path from the metrics port and returns the status and the elapsed seconds."""
    url = plant.startup["metrics"].replace("/metrics", path)
    began = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            response.read()
            return response.status, time.monotonic() - began
    except urllib.error.HTTPError as error:
        return error.code, time.monotonic() - began


# ---- bodies

CALLS = 40
BODY_BYTES = 60 * MIB


def send_bodies(plant: Plant, method: str, credential: str | None) -> SimpleNamespace:
    """Makes 40 calls on four connections. Each sends as much of a body of 60 MiB as the server accepts within 1.2 s, while a
    neighbour runs point queries."""
    connections = [Wire(plant.uri) for _ in range(4)]
    left: dict[tuple[int, int], int] = {}
    neighbours = []
    with PeakMemory(plant) as peak:
        for number, connection in enumerate(connections):
            for _ in range(CALLS // len(connections)):
                stream = connection.open(FLIGHT + method, credential)
                connection.data(stream, message(BODY_BYTES))
                left[number, stream] = BODY_BYTES - 1
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            for (number, stream), size in left.items():
                connection = connections[number]
                left[number, stream] = connection.send_body(stream, size)
            for connection in connections:
                connection.receive()
            if not neighbours or time.monotonic() > end - 0.5 and len(neighbours) < 2:
                neighbours.append(time_point_query(plant))
    answers = [answer for connection in connections for answer in connection.answers.values()]
    sent = sum(BODY_BYTES - 1 - size for size in left.values()) / MIB
    for connection in connections:
        connection.close()
    return SimpleNamespace(growth=peak.growth, answers=answers, sent=sent, neighbours=neighbours)


@pytest.mark.parametrize(
    ("method", "credential"),
    [("DoPut", None), ("DoGet", "pl_0123456789abcdef_wrong"), ("Handshake", None)],
)
def test_body_without_valid_credential_is_not_read(plant: Plant, method: str, credential: str | None) -> None:
    outcome = send_bodies(plant, method, credential)
    assert outcome.growth < 40, f"{outcome.growth:.0f} MiB more"
    refused = [answer for answer in outcome.answers if answer.status == UNAUTHENTICATED]
    assert len(refused) >= CALLS / 2, [answer.headers for answer in outcome.answers]
    assert all("plantlake-request-id" in answer.headers for answer in refused)
    assert max(outcome.neighbours) < NEIGHBOUR_SECONDS


def test_bodies_of_one_organisation_stay_within_message_memory(plant: Plant) -> None:
    outcome = send_bodies(plant, "DoPut", key(plant))
    assert outcome.sent > 50, "the server read less than one body"
    assert outcome.growth < 64 + 40, f"{outcome.growth:.0f} MiB more, {outcome.sent:.0f} MiB sent"
    assert max(outcome.neighbours) < NEIGHBOUR_SECONDS


@pytest.mark.parametrize("method", ["DoGet", "GetFlightInfo", "DoAction", "GetSchema", "ListActions"])
def test_large_message_outside_do_put_is_refused(plant: Plant, method: str) -> None:
    with Wire(plant.uri) as connection:
        stream = connection.open(FLIGHT + method, key(plant))
        connection.data(stream, message(5 * MIB))
        answer = connection.wait(stream, 2)
    assert answer.status == OUT_OF_RANGE, answer.headers
    assert "plantlake-request-id" in answer.headers


@pytest.mark.parametrize("method", ["DoPut", "GetFlightInfo"])
@pytest.mark.parametrize("sends_slowly", [False, True])
def test_incomplete_message_ends_call_at_timeout(plant: Plant, method: str, sends_slowly: bool) -> None:
    with Wire(plant.uri) as connection:
        began = time.monotonic()
        stream = connection.open(FLIGHT + method, key(plant))
        connection.data(stream, message(1_000) + b"x")
        while not connection.answers[stream].is_over and time.monotonic() - began < 4:
            if sends_slowly:
                connection.data(stream, b"x")
            connection.receive(0.2)
        answer = connection.answers[stream]
        assert answer.status == DEADLINE_EXCEEDED, answer.headers
        assert 0.9 < time.monotonic() - began < 3
        assert connection.call(FLIGHT + "GetFlightInfo", key(plant), POINT_QUERY).status == "0"


# ---- silent connections


@pytest.fixture(scope="module")
def proxied(built: Plant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """A server with TLS behind a proxy on this machine."""
    settings = {"PLANTLAKE_SERVE_TRUSTED_PROXIES": "127.0.0.2, 127.0.0.3", "PLANTLAKE_SERVE_PROXY_PROTOCOL": "true"}
    with serving(built, "--dev-tls", settings=settings) as plant:
        yield plant


def test_silent_tls_connections_do_not_delay_others(proxied: Plant) -> None:
    """The attacker opens 50 silent connections per second, for longer than the handshake timeout."""
    before_attack = [time_point_query(proxied, tls=tls_context(proxied)) for _ in range(5)]
    is_over = threading.Event()
    held: list[socket.socket] = []

    def attack() -> None:
        while not is_over.wait(0.02):
            held.append(open_silent(proxied))

    attacker = threading.Thread(target=attack)
    attacker.start()
    times = []
    end = time.monotonic() + (30 if LONG else 3)
    while time.monotonic() < end:
        times.append(time_point_query(proxied, tls=tls_context(proxied)))
        time.sleep(0.2)
    is_over.set()
    attacker.join()
    assert len(held) > 100
    assert max(times) < max(NEIGHBOUR_SECONDS, 5 * max(before_attack)), (before_attack, times)
    eventually(lambda: all(is_closed(connection) for connection in held))


@pytest.mark.parametrize("first", [b"", wire.PREFACE + frame(wire.SETTINGS, 0, 0)], ids=["nothing", "preface"])
def test_silent_connections_are_closed_and_release_descriptors(plant: Plant, first: bytes) -> None:
    before = descriptors(plant)
    with PeakMemory(plant) as peak:
        held = [open_silent(plant, first) for _ in range(SILENT_CONNECTIONS if not first or LONG else SILENT_CONNECTIONS // 5)]
        assert time_point_query(plant) < NEIGHBOUR_SECONDS
        eventually(lambda: descriptors(plant) < before + 300, 3)
        assert time_point_query(plant) < NEIGHBOUR_SECONDS
        eventually(lambda: descriptors(plant) < before + 20, 6)
    eventually(lambda: all(is_closed(connection) for connection in held))
    assert peak.growth < 100, f"{peak.growth:.0f} MiB more"


def test_authenticated_connection_stays_open(plant: Plant) -> None:
    with Wire(plant.uri) as connection, Wire(plant.uri) as stranger:
        assert connection.call(FLIGHT + "GetFlightInfo", key(plant), POINT_QUERY).status == "0"
        assert stranger.call(FLIGHT + "GetFlightInfo", None, POINT_QUERY).status == UNAUTHENTICATED
        assert 1 < stranger.wait_closed(4) < 3
        # When many connections arrive, the server closes those without a credential first.
        held = [open_silent(plant) for _ in range(400)]
        assert connection.call(FLIGHT + "GetFlightInfo", key(plant), POINT_QUERY).status == "0"
        del held


def test_health_without_credential_is_answered_and_keeps_connection_open(plant: Plant) -> None:
    with Wire(plant.uri) as connection:
        for _ in range(4):
            answer = connection.call(HEALTH, None, whole_message(b""))
            # 1 is the status SERVING.
            assert (answer.status, answer.body) == ("0", whole_message(bytes([8, 1])))
            time.sleep(0.8)
        assert 0.5 < connection.wait_closed(4)


@pytest.mark.parametrize("first", [b"", b"GET /healthz HTTP/1.1\r\nHost: "])
def test_silent_connections_do_not_delay_health(plant: Plant, first: bytes) -> None:
    host, port = plant.startup["metrics"].split("/")[2].rsplit(":", 1)
    held = []
    for number in range(40 if not LONG else 2_000):
        held.append(socket.create_connection((host, int(port))))
        held[-1].sendall(first)
        if number % 10 == 9:
            status, seconds = get_path(plant, "/healthz")
            assert status == 200 and seconds < 0.5, seconds
    for path in ["/readyz", "/metrics"]:
        status, seconds = get_path(plant, path)
        assert status == 200 and seconds < 2
    # The attacker exceeds the limit on connections.
    held += [socket.create_connection((host, int(port))) for _ in range(100)]
    status, seconds = get_path(plant, "/healthz")
    assert status == 200 and seconds < 0.5
    for connection in held:
        connection.close()


def limit_open_files(soft: int, hard: int) -> dict:
    """Returns process options that limit the number of open files."""
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))}


def test_connections_up_to_file_limit_leave_files_for_queries(built: Plant) -> None:
    with serving(built, **limit_open_files(64, 200)) as plant:
        limits = Path(f"/proc/{plant.process.pid}/limits").read_text()
        assert re.search(r"Max open files\s+200\s+200", limits), "the soft limit is not raised to the hard limit"
        held = [open_silent(plant) for _ in range(300)]
        used = []
        for number in range(130):
            tenant = ["North", "South", "Everything"][number % 3]
            connection = Wire(plant.uri)
            used.append(
                (connection, connection.call(FLIGHT + "GetFlightInfo", key(plant, tenant), POINT_QUERY, seconds=3).status)
            )
        statuses = [status for _, status in used]
        for connection, _ in used[60:]:
            connection.close()
        # Queries can still open files.
        eventually(lambda: plant.ask("SELECT count(*) AS n FROM data_min", "Everything")["n"].item() > 0)
        for connection in [connection for connection, _ in used] + held:
            connection.close()
        assert statuses[:90] == ["0"] * 90, statuses
        assert None in statuses, "no connection was refused"
        assert not any("Too many open files" in line for line in plant.log), plant.log[-5:]


def test_connections_of_one_organisation_leave_room_for_others(built: Plant) -> None:
    with serving(built, settings={"PLANTLAKE_SERVE_CONNECTIONS": "40"}) as plant:
        used, statuses = [], []
        for _ in range(30):
            used.append(Wire(plant.uri))
            statuses.append(used[-1].call(FLIGHT + "GetFlightInfo", key(plant), POINT_QUERY).status)
        assert statuses == ["0"] * 20 + [UNAVAILABLE] * 10, statuses
        assert time_point_query(plant) < NEIGHBOUR_SECONDS
        for connection in used:
            connection.close()

        def is_accepted() -> bool:
            with Wire(plant.uri) as connection:
                return connection.call(FLIGHT + "GetFlightInfo", key(plant), POINT_QUERY).status == "0"

        # The server notices the closed connections after a delay, and refuses new ones until then.
        eventually(is_accepted)


# ---- floods


def test_headers_sent_byte_by_byte_close_connection(plant: Plant) -> None:
    with Wire(plant.uri) as connection:
        block = frame(wire.HEADERS, wire.END_HEADERS, 1, connection.block(FLIGHT + "DoGet", key(plant)))
        began = time.monotonic()
        for byte in block:
            connection.send(bytes([byte]))
            connection.receive(0.2)
            if connection.is_closed:
                break
        assert connection.is_closed and time.monotonic() - began < 4


@pytest.mark.parametrize("kind", ["continuation", "ping", "settings", "priority", "empty data", "window"])
def test_frame_flood_without_credential_is_limited(plant: Plant, kind: str) -> None:
    pieces = {
        "continuation": frame(wire.CONTINUATION, 0, 1, b"\0\x01a\x01b" * 10) * 100,
        "ping": frame(wire.PING, 0, 0, b"12345678") * 500,
        "settings": frame(wire.SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)) * 500,
        "priority": frame(2, 0, 1, b"\0\0\0\0\x10") * 500,
        "empty data": frame(wire.DATA, 0, 1) * 500,
        "window": frame(wire.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 500,
    }
    with Wire(plant.uri) as connection, PeakMemory(plant) as peak:
        if kind == "continuation":
            connection.send(frame(wire.HEADERS, 0, 1, connection.block(FLIGHT + "DoGet")))
        elif kind == "empty data":
            connection.open(FLIGHT + "DoGet")
        sent = flood(connection, lambda: pieces[kind], 64 * MIB)
        seconds = time_point_query(plant)
    assert sent < 16 * MIB, f"the server read {sent} bytes"
    assert peak.growth < 30, f"{peak.growth:.0f} MiB more"
    assert seconds < NEIGHBOUR_SECONDS


@pytest.mark.parametrize("tenant", [None, "North"])
def test_rapid_reset_closes_connection(plant: Plant, tenant: str | None) -> None:
    credential = key(plant, tenant) if tenant else None
    with Wire(plant.uri) as connection, PeakMemory(plant) as peak:
        if credential:
            connection.call(FLIGHT + "GetFlightInfo", credential, POINT_QUERY)

        def piece() -> bytes:
            stream, connection.next_stream = connection.next_stream, connection.next_stream + 2
            headers = frame(wire.HEADERS, wire.END_HEADERS, stream, connection.block(FLIGHT + "DoPut", credential))
            return headers + frame(wire.RST_STREAM, 0, stream, struct.pack(">I", 8))

        def pieces() -> bytes:
            return b"".join(piece() for _ in range(100))

        flood(connection, pieces, 64 * MIB, 10)
        seconds = time_point_query(plant)
        assert connection.wait_closed(3) is not None
        assert connection.next_stream < 2 * 100_000, "the server accepted 100,000 cancelled calls"
    assert peak.growth < 50, f"{peak.growth:.0f} MiB more"
    assert seconds < NEIGHBOUR_SECONDS


def test_large_headers_are_refused(plant: Plant) -> None:
    with Wire(plant.uri) as connection, PeakMemory(plant) as peak:
        for number in range(20):
            stream = connection.open(FLIGHT + "GetFlightInfo", key(plant), ends=True, x_large="x" * 15_000 + str(number))
            assert connection.wait(stream, 2).status != "0"
            if connection.is_closed:
                break
        assert time_point_query(plant) < NEIGHBOUR_SECONDS
    assert peak.growth < 30


# ---- shutdown


def test_blocked_threads_do_not_delay_health_or_shutdown(built: Plant) -> None:
    """All worker threads are blocked permanently, as a library that computes without yielding would block them."""
    settings = {"PLANTLAKE_FAILPOINT_BLOCK": "700", "PLANTLAKE_SERVE_SHUTDOWN_TIMEOUT": "1s"}
    with serving(built, settings=settings) as plant:
        with Wire(plant.uri) as connection, Wire(plant.uri) as held:
            # The shutdown waits for this call in progress.
            held.data(held.open(FLIGHT + "DoPut", key(plant)), message(100))
            time.sleep(1.2)
            stream = connection.open(FLIGHT + "GetFlightInfo", key(plant))
            connection.data(stream, POINT_QUERY, ends=True)
            assert connection.wait(stream, 0.5).status is None, "the worker threads are not blocked"
            for path in ["/healthz", "/readyz", "/metrics"]:
                status, seconds = get_path(plant, path)
                assert status == 200 and seconds < 0.5, path
            began = time.monotonic()
            plant.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            assert get_path(plant, "/readyz")[0] == 503, "the server does not report its shutdown"
            assert plant.process.wait(timeout=10) == OK
            assert time.monotonic() - began < 1 + 3 + 1
        plant.process = None
    with serving(built) as plant:
        assert time_point_query(plant) < NEIGHBOUR_SECONDS, "the next server does not take over the journal"


# ---- addresses


def logged_addresses(plant: Plant, since: int) -> list[str]:
    """Returns the logged addresses of calls that were refused since line `since` of the log."""
    lines = [line for line in plant.log[since:] if "refused" in line or "Handshake" in line]
    return [
        match[1]
        for line in lines
        if (match := re.search(r"address=(?:Some\()?([0-9a-f.:]+)\)?", re.sub(r"\x1b\[[0-9;]*m", "", line)))
    ]


def logged_address(plant: Plant, **options) -> str:
    """Makes an unauthorised call and returns the address that the server logs."""
    since = len(plant.log)
    forwarded = {"x_forwarded_for": options.pop("forwarded")} if "forwarded" in options else {}
    with Wire(plant.uri, **options) as connection:
        answer = connection.call(FLIGHT + "GetFlightInfo", "pl_wrong", POINT_QUERY, seconds=3, **forwarded)
        assert answer.status == UNAUTHENTICATED, answer.headers
    eventually(lambda: bool(logged_addresses(plant, since)))
    return logged_addresses(plant, since)[-1]


def test_forwarded_address_by_default_is_ignored(plant: Plant) -> None:
    assert logged_address(plant) == "127.0.0.1"
    assert logged_address(plant, forwarded="203.0.113.9") == "127.0.0.1"
    with Wire(plant.uri, before=b"PROXY TCP4 203.0.113.9 127.0.0.1 5 6\r\n") as connection:
        assert connection.wait_closed(5) < 5


def test_forwarded_address_from_trusted_proxy_is_used(built: Plant) -> None:
    with serving(built, settings={"PLANTLAKE_SERVE_TRUSTED_PROXIES": "127.0.0.1,10.0.0.0/8"}) as plant:
        assert logged_address(plant) == "127.0.0.1"
        assert logged_address(plant, forwarded="203.0.113.9") == "203.0.113.9"
        assert logged_address(plant, forwarded="192.0.2.1, 203.0.113.9, 10.1.1.1") == "203.0.113.9"
        assert logged_address(plant, forwarded="2001:db8::7") == "2001:db8::7"
        assert logged_address(plant, forwarded="nobody") == "127.0.0.1"
        # Wrong passwords of one client do not delay another client behind the same proxy.
        email = plant.tenants["North"].email("ana")
        invalid = "Basic " + base64.b64encode(f"{email}x:wrong".encode()).decode()
        with Wire(plant.uri) as connection:
            answer = connection.call(FLIGHT + "Handshake", invalid, b"", x_forwarded_for="203.0.113.10")
            assert answer.status == UNAUTHENTICATED
        eventually(lambda: any("203.0.113.10" in line for line in plant.log))


def logged_address_behind_proxy(plant: Plant, header: bytes) -> str:
    """Makes an unauthorised call from a trusted proxy with this header, and returns the address that the server logs."""
    host, port = plant.uri.split("://")[1].rsplit(":", 1)
    since = len(plant.log)
    original = socket.create_connection
    try:
        socket.create_connection = lambda address, timeout=None: original(address, timeout, ("127.0.0.2", 0))
        connection = Wire(plant.uri, tls=tls_context(plant), before=header)
    finally:
        socket.create_connection = original
    with connection:
        answer = connection.call(FLIGHT + "GetFlightInfo", "pl_wrong", POINT_QUERY, seconds=3)
        assert answer.status == UNAUTHENTICATED, answer.headers
    eventually(lambda: bool(logged_addresses(plant, since)))
    return logged_addresses(plant, since)[-1]


def test_proxy_protocol_from_trusted_proxy_is_used(proxied: Plant) -> None:
    assert logged_address(proxied, tls=tls_context(proxied)) == "127.0.0.1"
    assert logged_address_behind_proxy(proxied, b"PROXY TCP4 203.0.113.9 127.0.0.1 5 6\r\n") == "203.0.113.9"
    assert logged_address_behind_proxy(proxied, b"PROXY UNKNOWN\r\n") == "127.0.0.2"
    v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H", 12) + bytes([203, 0, 113, 7, 127, 0, 0, 1, 0, 5, 0, 6])
    assert logged_address_behind_proxy(proxied, v2) == "203.0.113.7"
    for invalid in [b"PROXY TCP4 203.0.113.9\r\n", b"PROXY " + b"x" * 200, b""]:
        with pytest.raises((OSError, ssl.SSLError)):
            logged_address_behind_proxy(proxied, invalid)
    with pytest.raises((OSError, ssl.SSLError)):
        # A PROXY header from an untrusted address is not valid TLS.
        Wire(proxied.uri, tls=tls_context(proxied), before=b"PROXY TCP4 203.0.113.9 127.0.0.1 5 6\r\n")
