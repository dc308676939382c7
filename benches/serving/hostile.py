"""Attacks on a server while an honest client continues to send point queries."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable

import clients
from clients import BULK_SQL, ConcurrentClients, FlightClient, QueryGenerator, one_line, run_in_process
from contestants import Access, Data, Server
from measure import Sampler, memory_of, note, quantiles, show

MAX_ATTACK_SECONDS = 300
# Memory counts as returned when it is at most this much above the initial memory.
RETURNED_MIB = 32
EXPENSIVE_QUERIES = {
    "group by value": "SELECT asset_id, value, count(*) AS n, avg(first) AS f FROM data_min GROUP BY asset_id, value",
    "sort all": "SELECT * FROM data_min ORDER BY value",
    "join all": "SELECT a.*, b.value AS other FROM data_min a "
    "JOIN data_min b ON a.asset_id = b.asset_id AND a.timestamp = b.timestamp",
    "distinct": "SELECT count(DISTINCT value) AS v, count(DISTINCT min) AS l, count(DISTINCT stddev) AS s FROM data_min",
}

# ------------------------------------------------------------------ attacks, each in a separate process


def run_threads(threads: int, job: Callable[[int], None]) -> list[str]:
    """Runs `job` with 0, 1, … in one thread each, and returns the errors."""
    errors: list[str] = []

    def run(number: int) -> None:
        try:
            job(number)
        except Exception as error:
            errors.append(one_line(error))

    started = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return errors


def abandon_handshakes(access: Access, key: str, count: int) -> dict:
    """Signs in, with the key as the password, and never calls again."""
    import pyarrow.flight as flight

    done: list[int] = []
    deadline = time.monotonic() + MAX_ATTACK_SECONDS

    def some(_: int) -> None:
        for _ in range(count // 4):
            if time.monotonic() > deadline:
                return
            client = flight.FlightClient(access.uri)
            client.authenticate_basic_token("bench", key, flight.FlightCallOptions(timeout=60))
            client.close()
            done.append(1)

    errors = run_threads(4, some)
    return {"outcome": f"{len(done):,} handshakes", "errors": errors}


def abandon_statements(access: Access, key: str, count: int) -> dict:
    """Prepares distinct statements and never closes them."""
    import pyarrow.flight as flight

    done: list[int] = []
    deadline = time.monotonic() + MAX_ATTACK_SECONDS
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {key}".encode())], timeout=60)

    def some(number: int) -> None:
        with flight.FlightClient(access.uri) as client:
            for at in range(count // 4):
                if time.monotonic() > deadline:
                    return
                sql = f"SELECT timestamp, value FROM data_h WHERE value > {number * count + at}"
                list(client.do_action(flight.Action("CreatePreparedStatement", prepare(sql)), options))
                done.append(1)

    errors = run_threads(4, some)
    return {"outcome": f"{len(done):,} statements", "errors": errors}


def prepare(sql: str) -> bytes:
    """Returns an ActionCreatePreparedStatementRequest of FlightSql.proto, packed into a google.protobuf.Any."""

    def text(number: int, value: bytes) -> bytes:
        length, out = len(value), bytes([number << 3 | 2])
        while length > 127:
            out, length = out + bytes([length & 127 | 128]), length >> 7
        return out + bytes([length]) + value

    name = b"type.googleapis.com/arrow.flight.protocol.sql.ActionCreatePreparedStatementRequest"
    return text(1, name) + text(2, text(1, sql.encode()))


def read_slowly(access: Access, readers: int, seconds: float) -> dict:
    """Queries everything and reads one batch per second."""
    rows_read: list[int] = []

    def one(_: int) -> None:
        client = FlightClient(access)
        batches = client.batches(BULK_SQL)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            rows_read.append(next(batches).num_rows)
            time.sleep(1)
        batches.close()
        client.close()

    errors = run_threads(readers, one)
    return {"outcome": f"{readers} readers read {len(rows_read)} batches in {seconds:.0f} s", "errors": errors}


def cancel_half_way(access: Access, pid: int, rows: int, repetitions: int) -> dict:
    """Queries everything, reads half of it, and cancels or closes. Returns the time until the memory is returned."""
    returned: list[float | None] = []
    errors: list[str] = []
    before = memory_of(pid)["rss_mib"]
    for turn in range(repetitions):
        client = FlightClient(access)
        cursor = client.connection.cursor()
        try:
            cursor.execute(BULK_SQL)
            reader, rows_read = cursor.fetch_record_batch(), 0
            while rows_read < rows // 2:
                rows_read += reader.read_next_batch().num_rows
            if turn % 2 == 0:
                cursor.adbc_cancel()
            reader.close()
        except Exception as error:
            errors.append(one_line(error))
        cursor.close()
        client.close()
        ended = time.monotonic()
        while memory_of(pid)["rss_mib"] > before + RETURNED_MIB and time.monotonic() < ended + 20:
            time.sleep(0.05)
        returned.append(time.monotonic() - ended if time.monotonic() < ended + 20 else None)
    times = ", ".join("not within 20 s" if each is None else f"{each:.1f} s" for each in returned)
    outcome = f"memory returned (to {RETURNED_MIB} MiB above {before:.0f}) after {times}"
    return {"outcome": outcome, "errors": errors, "returned_s": returned}


def exceed_memory(access: Access) -> dict:
    """Runs queries that need many times the permitted memory, concurrently. A refusal is a valid outcome."""
    outcomes: dict[str, str] = {}

    def one(number: int) -> None:
        name, sql = list(EXPENSIVE_QUERIES.items())[number]
        client = FlightClient(access, MAX_ATTACK_SECONDS)
        began = time.monotonic()
        try:
            rows = sum(batch.num_rows for batch in client.batches(sql))
            outcomes[name] = f"{rows:,} rows in {time.monotonic() - began:.1f} s"
        except Exception as error:
            outcomes[name] = f"refused after {time.monotonic() - began:.1f} s: {one_line(error)}"
        client.close()

    errors = run_threads(len(EXPENSIVE_QUERIES), one)
    lines = "\n".join(f"{name}: {outcome}" for name, outcome in sorted(outcomes.items()))
    return {"outcome": lines, "errors": errors, "outcomes": outcomes}


# ------------------------------------------------------------------ effect on the honest client


def run(options: argparse.Namespace, data: Data) -> dict:
    """Point queries of an honest client while others attack the server."""
    found = {}
    for name in options.attacked_servers:
        found[name] = run_attacks(name, options, data)
        if not options.json:
            print_results(name, found[name], options)
    return found


def run_attacks(name: str, options: argparse.Namespace, data: Data) -> dict[str, dict]:
    """Runs all attacks on one server. The server is replaced only if it ends."""
    settings = {"PLANTLAKE_SERVE_QUERY_MEMORY": options.query_memory} if options.query_memory else {}
    server = Server(name, data, settings)
    honest = ConcurrentClients(server.access, data, 1, {"point": 1}, 3 if options.quick else 10, "quiet").start()
    found: dict[str, dict] = {"quiet": honest_figures(honest.results()) | {"before_mib": server.idle_mib, "alive": True}}
    count = 400 if options.quick else 10_000
    attacks = {
        "handshakes": (abandon_handshakes, data.key, count),
        "statements": (abandon_statements, data.key, count),
        "slow readers": (read_slowly, 5, 5 if options.quick else 20),
        "cancelled": (cancel_half_way, data.rows["data_min"], 5),
        "too much memory": (exceed_memory,),
    }
    for attack, (job, *arguments) in attacks.items():
        if attack in options.without:
            continue
        note(f"  {name}: {attack}")
        if not server.alive():
            server = Server(name, data, settings)
        if job is cancel_half_way:
            arguments = [server.process.pid, *arguments]
        before = server.memory()["rss_mib"]
        honest = ConcurrentClients(server.access, data, 1, {"point": 1}, 2 * MAX_ATTACK_SECONDS, attack).start()
        time.sleep(0.5)
        began = time.monotonic()
        with Sampler(server.process.pid, 0.1) as sampler:
            outcome = run_in_process(job, server.access, *arguments, seconds=2 * MAX_ATTACK_SECONDS)
        seconds = time.monotonic() - began
        each = honest_figures(honest.stop().results()) | outcome
        time.sleep(options.rest)
        after = server.memory()["rss_mib"]
        each |= {"before_mib": before, "peak_mib": sampler.peak, "after_mib": after, "seconds": seconds}
        each["alive"] = server.alive() and is_answering(server, data)
        each["times_quiet"] = each["p99"] / found["quiet"]["p99"]
        found[attack] = each
    server.stop()
    return found


def honest_figures(results: dict) -> dict:
    """Returns the percentiles and errors of the honest client."""
    return quantiles(results["ms"]["point"]) | {"honest_errors": results["errors"]}


def is_answering(server: Server, data: Data) -> bool:
    """Whether the server answers a query of a new client."""
    try:
        run_in_process(clients.time_points, server.access, [QueryGenerator(data, "alive").point()], 0, False, seconds=60)
    except SystemExit as error:
        note(f"  {error}")
        return False
    return True


def print_results(name: str, found: dict[str, dict], options: argparse.Namespace) -> None:
    heads = ["", "answers", "p50 ms", "p99", "max", "p99 / quiet p99", "errors", "alive", "RSS MiB", "peak",
             f"{options.rest} s later"]  # fmt: skip
    figures = ("count", "p50", "p99", "max", "times_quiet")
    memory = ("alive", "before_mib", "peak_mib", "after_mib")
    rows = [
        [attack, *map(each.get, figures), len(each["honest_errors"]), *map(each.get, memory)]
        for attack, each in found.items()
    ]
    limit = f", serve.query_memory {options.query_memory}" if options.query_memory and name == "plantlake" else ""
    show(f"{name}: point queries of one client during attacks{limit}", heads, rows)
    for attack, each in found.items():
        for line in each.get("outcome", "").splitlines():
            print(f"{attack:14}{line[:105]}")
        for error in [*each.get("errors", []), *each["honest_errors"]][:3]:
            print(f"{attack:14}error: {error[:98]}")
