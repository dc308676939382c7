"""Attacks on a server while an honest client continues to send point queries."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable

import clients
from clients import BULK, Clients, Flight, Questions, in_process, one_line
from contestants import Access, Data, Server
from measure import Sampler, memory_of, note, quantiles, show

LONGEST = 300  # seconds of an attack
BACK_MIB = 32  # MiB above the initial memory, below which memory counts as returned
HOGS = {
    "group by value": "SELECT asset_id, value, count(*) AS n, avg(first) AS f FROM data_min GROUP BY asset_id, value",
    "sort all": "SELECT * FROM data_min ORDER BY value",
    "join all": "SELECT a.*, b.value AS other FROM data_min a "
    "JOIN data_min b ON a.asset_id = b.asset_id AND a.timestamp = b.timestamp",
    "distinct": "SELECT count(DISTINCT value) AS v, count(DISTINCT min) AS l, count(DISTINCT stddev) AS s FROM data_min",
}

# ------------------------------------------------------------------ attacks, each in a separate process


def at_once(threads: int, job: Callable[[int], None]) -> list[str]:
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
    deadline = time.monotonic() + LONGEST

    def some(_: int) -> None:
        for _ in range(count // 4):
            if time.monotonic() > deadline:
                return
            client = flight.FlightClient(access.uri)
            client.authenticate_basic_token("bench", key, flight.FlightCallOptions(timeout=60))
            client.close()
            done.append(1)

    errors = at_once(4, some)
    return {"said": f"{len(done):,} handshakes", "errors": errors}


def abandon_statements(access: Access, key: str, count: int) -> dict:
    """Prepares distinct statements and never closes them."""
    import pyarrow.flight as flight

    done: list[int] = []
    deadline = time.monotonic() + LONGEST
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {key}".encode())], timeout=60)

    def some(number: int) -> None:
        with flight.FlightClient(access.uri) as client:
            for at in range(count // 4):
                if time.monotonic() > deadline:
                    return
                sql = f"SELECT timestamp, value FROM data_h WHERE value > {number * count + at}"
                list(client.do_action(flight.Action("CreatePreparedStatement", prepare(sql)), options))
                done.append(1)

    errors = at_once(4, some)
    return {"said": f"{len(done):,} statements", "errors": errors}


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
    taken: list[int] = []

    def one(_: int) -> None:
        client = Flight(access)
        batches = client.batches(BULK)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            taken.append(next(batches).num_rows)
            time.sleep(1)
        batches.close()
        client.close()

    errors = at_once(readers, one)
    return {"said": f"{readers} readers took {len(taken)} batches in {seconds:.0f} s", "errors": errors}


def cancel_half_way(access: Access, pid: int, rows: int, times: int) -> dict:
    """Queries everything, reads half of it, and cancels or closes. Returns the time until the memory is returned."""
    back: list[float | None] = []
    errors: list[str] = []
    before = memory_of(pid)["rss_mib"]
    for turn in range(times):
        client = Flight(access)
        cursor = client.connection.cursor()
        try:
            cursor.execute(BULK)
            reader, taken = cursor.fetch_record_batch(), 0
            while taken < rows // 2:
                taken += reader.read_next_batch().num_rows
            if turn % 2 == 0:
                cursor.adbc_cancel()
            reader.close()
        except Exception as error:
            errors.append(one_line(error))
        cursor.close()
        client.close()
        ended = time.monotonic()
        while memory_of(pid)["rss_mib"] > before + BACK_MIB and time.monotonic() < ended + 20:
            time.sleep(0.05)
        back.append(time.monotonic() - ended if time.monotonic() < ended + 20 else None)
    said = ", ".join("not within 20 s" if each is None else f"{each:.1f} s" for each in back)
    return {"said": f"memory back (to {BACK_MIB} MiB above {before:.0f}) after {said}", "errors": errors, "back_s": back}


def ask_for_too_much(access: Access) -> dict:
    """Runs queries that need many times the permitted memory, concurrently. A refusal is a valid outcome."""
    outcomes: dict[str, str] = {}

    def one(number: int) -> None:
        name, sql = list(HOGS.items())[number]
        client = Flight(access, LONGEST)
        began = time.monotonic()
        try:
            rows = sum(batch.num_rows for batch in client.batches(sql))
            outcomes[name] = f"{rows:,} rows in {time.monotonic() - began:.1f} s"
        except Exception as error:
            outcomes[name] = f"refused after {time.monotonic() - began:.1f} s: {one_line(error)}"
        client.close()

    errors = at_once(len(HOGS), one)
    said = "\n".join(f"{name}: {outcome}" for name, outcome in sorted(outcomes.items()))
    return {"said": said, "errors": errors, "outcomes": outcomes}


# ------------------------------------------------------------------ effect on the honest client


def run(options: argparse.Namespace, data: Data) -> dict:
    """Point queries of an honest client while others attack the server."""
    found = {}
    for name in options.attacked:
        found[name] = attacked(name, options, data)
        if not options.json:
            tell(name, found[name], options)
    return found


def attacked(name: str, options: argparse.Namespace, data: Data) -> dict[str, dict]:
    """Runs all attacks on one server. The server is replaced only if it ends."""
    settings = {"PLANTLAKE_SERVE_QUERY_MEMORY": options.query_memory} if options.query_memory else {}
    server = Server(name, data, settings)
    honest = Clients(server.access, data, 1, {"point": 1}, 3 if options.quick else 10, "quiet").go()
    found: dict[str, dict] = {"quiet": verdict(honest.results()) | {"before_mib": server.idle_mib, "alive": True}}
    count = 400 if options.quick else 10_000
    attacks = {
        "handshakes": (abandon_handshakes, data.key, count),
        "statements": (abandon_statements, data.key, count),
        "slow readers": (read_slowly, 5, 5 if options.quick else 20),
        "cancelled": (cancel_half_way, data.rows["data_min"], 5),
        "too much": (ask_for_too_much,),
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
        honest = Clients(server.access, data, 1, {"point": 1}, 2 * LONGEST, attack).go()
        time.sleep(0.5)
        began = time.monotonic()
        with Sampler(server.process.pid, 0.1) as sampler:
            outcome = in_process(job, server.access, *arguments, seconds=2 * LONGEST)
        seconds = time.monotonic() - began
        each = verdict(honest.stop().results()) | outcome
        time.sleep(options.rest)
        after = server.memory()["rss_mib"]
        each |= {"before_mib": before, "peak_mib": sampler.peak, "after_mib": after, "seconds": seconds}
        each["alive"] = server.alive() and answers(server, data)
        each["times_quiet"] = each["p99"] / found["quiet"]["p99"]
        found[attack] = each
    server.stop()
    return found


def verdict(results: dict) -> dict:
    return quantiles(results["ms"]["point"]) | {"honest_errors": results["errors"]}


def answers(server: Server, data: Data) -> bool:
    """Whether a new client gets an answer."""
    try:
        in_process(clients.ask_points, server.access, [Questions(data, "alive").point()], 0, False, seconds=60)
    except SystemExit as error:
        note(f"  {error}")
        return False
    return True


def tell(name: str, found: dict[str, dict], options: argparse.Namespace) -> None:
    heads = ["", "answers", "p50 ms", "p99", "max", "times quiet p99", "errors", "alive", "RSS MiB", "peak",
             f"{options.rest} s later"]  # fmt: skip
    figures = ("count", "p50", "p99", "max", "times_quiet")
    memory = ("alive", "before_mib", "peak_mib", "after_mib")
    rows = [
        [attack, *map(each.get, figures), len(each["honest_errors"]), *map(each.get, memory)]
        for attack, each in found.items()
    ]
    limit = f", serve.query_memory {options.query_memory}" if options.query_memory and name == "plantlake" else ""
    show(f"{name}: point questions of one client during attacks{limit}", heads, rows)
    for attack, each in found.items():
        for line in each.get("said", "").splitlines():
            print(f"{attack:14}{line[:105]}")
        for error in [*each.get("errors", []), *each["honest_errors"]][:3]:
            print(f"{attack:14}error: {error[:98]}")
