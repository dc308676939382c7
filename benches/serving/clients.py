"""The clients of the benchmarks. Each measurement runs in a separate process that connects like a user's program."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import random
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from contestants import START, Access, Data
from measure import memory_of

# The Go runtime of the driver does not survive a fork.
PROCESSES = multiprocessing.get_context("spawn")
RPC_SECONDS = 600
CONNECTIONS_PER_PROCESS = 16
# The weight of each kind of query in a mix.
MIX = {"point": 90, "day": 9, "week": 1}
BULK_SQL = "SELECT * FROM data_min"

# ------------------------------------------------------------------ queries


@dataclass(frozen=True)
class Query:
    """A query and the number of rows of its result. `bound_sql` and `bound` are the same query with parameters."""

    sql: str
    rows: int
    bound_sql: str = ""
    bound: tuple = ()


class QueryGenerator:
    """A generator of queries about random assets and times. The same seed gives the same queries."""

    def __init__(self, data: Data, seed: str) -> None:
        self.assets, self.days = data.assets, data.days
        self.random = random.Random(seed)
        end = START + dt.timedelta(days=self.days)
        months = [(START.year + at // 12, at % 12 + 1) for at in range((end.year - START.year + 1) * 12)]
        firsts = [dt.date(year, month, 1) for year, month in months]
        self.months = [(first, following) for first, following in zip(firsts, firsts[1:]) if following <= end]

    def generate(self, kind: str) -> Query:
        return getattr(self, kind)()

    def point(self) -> Query:
        """Returns a query of the hours of one asset in one month."""
        first, following = self.random.choice(self.months)
        asset = self.random.choice(self.assets)
        condition = "asset_id = {} AND timestamp >= {} AND timestamp < {}"
        select = f"SELECT timestamp, value FROM data_h WHERE {condition} ORDER BY timestamp"
        sql = select.format(f"'{asset}'", f"'{first}'", f"'{following}'")
        bound = (asset, instant(first), instant(following))
        return Query(sql, (following - first).days * 24, select.format("?", "?", "?"), bound)

    def day(self) -> Query:
        """Returns a query of the minutes of one asset on one day."""
        day = START + dt.timedelta(days=self.random.randrange(self.days))
        return Query(minutes([self.random.choice(self.assets)], day, 1), 1_440)

    def week(self) -> Query:
        """Returns a query of the minutes of ten assets in one week."""
        day = START + dt.timedelta(days=self.random.randrange(self.days - 6))
        assets = self.random.sample(self.assets, min(10, len(self.assets)))
        return Query(minutes(assets, day, 7), len(assets) * 7 * 1_440)


def instant(day: dt.date) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.timezone.utc)


def minutes(assets: list[str], day: dt.date, days: int) -> str:
    listed = ", ".join(f"'{asset}'" for asset in assets)
    operator = f"= {listed}" if len(assets) == 1 else f"IN ({listed})"
    until = day + dt.timedelta(days=days)
    return (
        f"SELECT * FROM data_min WHERE asset_id {operator} AND timestamp >= '{day}' AND timestamp < '{until}' "
        "ORDER BY asset_id, timestamp"
    )


# ------------------------------------------------------------------ connections


class FlightClient:
    """An ADBC connection, as used for every server."""

    def __init__(self, access: Access, timeout_seconds: int = RPC_SECONDS) -> None:
        import adbc_driver_flightsql.dbapi as dbapi

        limits = {f"adbc.flight.sql.rpc.timeout_seconds.{call}": str(timeout_seconds) for call in ("fetch", "query", "update")}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.connection = dbapi.connect(access.uri, db_kwargs=access.options | limits, autocommit=True)
        self.preparing = self.connection.cursor()

    def query(self, query: Query):
        """Runs a query and returns its result."""
        with self.connection.cursor() as cursor:
            cursor.execute(query.sql)
            return cursor.fetch_arrow_table()

    def timed(self, query: Query) -> tuple[float, Any]:
        """Runs a query and returns the milliseconds until the result is complete, without closing the statement, and the
        result."""
        with self.connection.cursor() as cursor:
            began = time.perf_counter()
            cursor.execute(query.sql)
            table = cursor.fetch_arrow_table()
            return (time.perf_counter() - began) * 1_000, table

    def timed_bound(self, query: Query) -> tuple[float, Any]:
        """Runs a query with parameters. The driver prepares the statement once and binds the values."""
        began = time.perf_counter()
        self.preparing.execute(query.bound_sql, query.bound)
        table = self.preparing.fetch_arrow_table()
        return (time.perf_counter() - began) * 1_000, table

    def batches(self, sql: str) -> Iterator:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            yield from cursor.fetch_record_batch()

    def close(self) -> None:
        self.preparing.close()
        self.connection.close()


class DuckDbClient:
    """DuckDB in this process."""

    def __init__(self, access: Access) -> None:
        import duckdb

        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")
        for table, files in access.files.items():
            listed = ", ".join(f"'{file}'" for file in files)
            self.connection.execute(
                f"CREATE VIEW {table} AS SELECT * FROM read_parquet([{listed}], hive_partitioning = true)"
            )

    def timed(self, query: Query) -> tuple[float, Any]:
        began = time.perf_counter()
        table = self.connection.sql(query.sql).to_arrow_table()
        return (time.perf_counter() - began) * 1_000, table

    def timed_bound(self, query: Query) -> tuple[float, Any]:
        began = time.perf_counter()
        table = self.connection.sql(query.bound_sql, params=list(query.bound)).to_arrow_table()
        return (time.perf_counter() - began) * 1_000, table

    def batches(self, sql: str) -> Iterator:
        yield from self.connection.sql(sql).to_arrow_reader(8_192)

    def close(self) -> None:
        self.connection.close()


def connect(access: Access) -> FlightClient | DuckDbClient:
    return DuckDbClient(access) if access.name == "duckdb" else FlightClient(access)


# ------------------------------------------------------------------ processes


def run_in_process(job: Callable, *arguments: object, seconds: float = 3_600) -> Any:
    """Runs `job` in a separate process and returns its result."""
    parent_end, child_end = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_run, args=(child_end, job, arguments), daemon=True)
    process.start()
    child_end.close()
    try:
        if not parent_end.poll(seconds):
            raise SystemExit(f"{job.__name__} did not end within {seconds:.0f} s")
        failed, found = parent_end.recv()
    except EOFError:
        raise SystemExit(f"the process of {job.__name__} died") from None
    except BaseException:
        process.kill()
        raise
    process.join(5)
    if failed:
        raise SystemExit(f"{job.__name__}: {found}")
    return found


def _run(pipe, job: Callable, arguments: tuple) -> None:
    try:
        pipe.send((False, job(*arguments)))
    except BaseException:
        pipe.send((True, traceback.format_exc()))


def time_points(access: Access, queries: list[Query], warm: int, bound: bool) -> dict:
    """Runs point queries in sequence on one connection. Returns the error as `refused` if the contestant supports no
    parameters."""
    client = connect(access)
    ask = client.timed_bound if bound else client.timed
    if bound:
        try:
            ask(queries[0])
        except Exception as error:
            return {"refused": one_line(error)}
    for query in queries[:warm]:
        ask(query)
    durations, answers = [], []
    for query in queries[warm:]:
        milliseconds, table = ask(query)
        durations.append(milliseconds)
        answers.append((table.num_rows, sum(table["value"].to_pylist())))
    found = {"ms": durations, "answers": answers} | memory_of()
    client.close()
    return found


def read_all(access: Access, sql: str) -> dict:
    """Reads a result batch by batch and discards it."""
    client = connect(access)
    rows = size = 0
    began = time.perf_counter()
    for batch in client.batches(sql):
        rows += batch.num_rows
        size += batch.nbytes
    found = {"seconds": time.perf_counter() - began, "rows": rows, "bytes": size} | memory_of()
    client.close()
    return found


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


# ------------------------------------------------------------------ concurrent clients


class ConcurrentClients:
    """Connections that send queries without pause. Each has a thread, and every sixteen share a process."""

    def __init__(
        self, access: Access, data: Data, connections: int, mix: dict[str, int], seconds: float, seed: str
    ) -> None:
        self.pipes, self.processes = [], []
        self.stopped = PROCESSES.Event()
        for first in range(0, connections, CONNECTIONS_PER_PROCESS):
            parent_end, child_end = PROCESSES.Pipe()
            count = min(CONNECTIONS_PER_PROCESS, connections - first)
            arguments = (child_end, self.stopped, access, data, range(first, first + count), mix, seconds, seed)
            process = PROCESSES.Process(target=_client_process, args=arguments, daemon=True)
            process.start()
            child_end.close()
            self.pipes.append(parent_end)
            self.processes.append(process)
        self.seconds = seconds
        self._receive(120)  # all clients are connected and have run one query

    def _receive(self, seconds: float) -> list:
        deadline, found = time.monotonic() + seconds, []
        for pipe in self.pipes:
            try:
                if not pipe.poll(max(0.0, deadline - time.monotonic())):
                    raise SystemExit("a client process does not respond")
                found.append(pipe.recv())
            except EOFError:
                raise SystemExit("a client process died") from None
        return found

    def start(self, each: int | None = None) -> "ConcurrentClients":
        """Starts the clients. They run until the time is over, or until each has sent `each` queries."""
        for pipe in self.pipes:
            pipe.send({"each": each})
        return self

    def stop(self) -> "ConcurrentClients":
        self.stopped.set()
        return self

    def results(self) -> dict:
        """Waits for the clients and ends them. Returns milliseconds by kind, errors, and the elapsed seconds."""
        results = self.results_so_far()
        self.end()
        return results

    def end(self) -> None:
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join(5)

    def results_so_far(self) -> dict:
        """Waits for the clients and returns their results. They can be started again."""
        found = self._receive(self.seconds + RPC_SECONDS)
        return {
            "ms": {kind: [ms for part in found for ms in part["ms"][kind]] for kind in found[0]["ms"]},
            "errors": [error for part in found for error in part["errors"]],
            "seconds": max(part["seconds"] for part in found),
        }


def _client_process(
    pipe, stopped, access: Access, data: Data, numbers: range, mix: dict[str, int], seconds: float, seed: str
) -> None:
    clients = [connect(access) for _ in numbers]
    for client in clients:
        client.query(QueryGenerator(data, seed).generate("point"))
    pipe.send("ready")
    sources = [QueryGenerator(data, f"{seed} {number}") for number in numbers]
    while order := pipe.recv():
        pipe.send(_send_queries(seconds, order["each"] or sys.maxsize, stopped, mix, list(zip(clients, sources))))


def _send_queries(
    seconds: float, each: int, stopped, mix: dict[str, int], pairs: list[tuple[FlightClient, QueryGenerator]]
) -> dict:
    """Sends queries in one thread for each client, and returns milliseconds by kind, errors, and the elapsed seconds."""
    found: dict = {"ms": {kind: [] for kind in mix}, "errors": []}
    began = time.monotonic()

    def ask(client: FlightClient, queries: QueryGenerator) -> None:
        kinds, weights = list(mix), list(mix.values())
        for _ in range(each):
            if time.monotonic() - began >= seconds or stopped.is_set():
                break
            kind = queries.random.choices(kinds, weights)[0]
            query = queries.generate(kind)
            sent = time.perf_counter()
            try:
                rows = client.query(query).num_rows
                if rows != query.rows:
                    raise ValueError(f"{rows} rows instead of {query.rows}: {query.sql}")
                found["ms"][kind].append((time.perf_counter() - sent) * 1_000)
            except Exception as error:
                found["errors"].append(one_line(error))
                time.sleep(0.1)

    threads = [threading.Thread(target=ask, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found["seconds"] = time.monotonic() - began
    return found
