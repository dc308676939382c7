"""Statements that would take very long to plan or run. Each ends at `serve.query_timeout`, or is refused earlier. A neighbour's
point query is not slowed down, and the process is idle soon after the client gets its answer or disconnects."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import OK
from server import Plant, any_of, text_field

pytestmark = pytest.mark.local_only
# The value of `serve.query_timeout` in seconds.
QUERY_TIMEOUT = 2.0
# The time after the timeout in which a query must end. The requirement is 1 s; a busy test machine needs more.
SLACK_SECONDS = 1.5
# A neighbour's point query may take this multiple of its 99th percentile before the attack, or `MIN_LIMIT_SECONDS`
# if that is longer. The requirement is 0.1 s: set PLANTLAKE_TEST_NEIGHBOUR to 0.1 for a release build; a debug build is slower.
MAX_SLOWDOWN, MIN_LIMIT_SECONDS = 5.0, float(os.environ.get("PLANTLAKE_TEST_NEIGHBOUR", "0.25"))
# The number of times that a neighbour is measured at most.
MAX_MEASUREMENTS = 3
# The maximum time of one call on one value, in seconds, for a debug build under load.
MAX_CALL_SECONDS = 10.0
# The maximum CPU use of an idle debug build, in cores.
MAX_IDLE_CORES = 0.35

READINGS = "raw_readings"
PAIRS = f"FROM {READINGS} a, {READINGS} b"

PLANNING = {
    "regexp_count": "SELECT regexp_count(repeat('A', 3000000), '.*[^A-Z]|[A-Z]')",
    "array_has_all": "SELECT array_has_all(range(0, 3000000), range(0, 3000000))",
    "levenshtein": "SELECT levenshtein(repeat('a', 30000), repeat('b', 30000))",
    "many calls": "SELECT " + " + ".join(f"levenshtein(repeat('a', 9000), repeat('b', 9{at:03}))" for at in range(60)),
    "table function": "SELECT * FROM neighbors(repeat('a', levenshtein(repeat('a', 30000), repeat('b', 30000))), 1)",
    "regular expression": "SELECT repeat('A', 3000000) ~ '(.*)(.*)(.*)(.*)[^A]$'",
    "cross joins": f"SELECT count(*) FROM {', '.join(f'data_h a{at}' for at in range(400))} WHERE a0.value < -1e300",
    "concatenations": f"SELECT {' || '.join(['asset_id'] * 1900)} FROM data_h LIMIT 1",
    "cube": f"SELECT count(*) FROM {READINGS} GROUP BY CUBE (" + ", ".join(f"value + {at}" for at in range(18)) + ")",
}

RUNNING = {
    "join": f"SELECT count(*) FROM {READINGS} a JOIN {READINGS} b ON a.value < b.value",
    "empty join": f"SELECT count(*) {PAIRS} WHERE a.value + b.value < -1e12",
    "left join": f"SELECT count(*) FROM {READINGS} a LEFT JOIN {READINGS} b ON a.value + b.value < -1e12",
    "cross join": f"SELECT sum(a.value + b.value) {PAIRS}",
    "exists": f"SELECT count(*) FROM {READINGS} a WHERE EXISTS (SELECT 1 FROM {READINGS} b WHERE a.value + b.value < -1e12)",
    "not exists": f"SELECT count(*) FROM {READINGS} a WHERE NOT EXISTS (SELECT 1 FROM {READINGS} b "
    f"WHERE a.value + b.value < -1e12)",
    "duplicates": f"SELECT count(*) {PAIRS} WHERE a.value * 0 = b.value * 0 AND a.value + b.value < -1e12",
    "counted duplicates": f"SELECT count(*) {PAIRS} WHERE a.value * 0 = b.value * 0",
    "in duplicates": f"SELECT count(*) FROM {READINGS} WHERE value * 0 IN (SELECT value * 0 FROM {READINGS})",
    "not in duplicates": f"SELECT count(*) FROM {READINGS} WHERE value * 0 NOT IN (SELECT value * 0 FROM {READINGS})",
    "nth_value": f"SELECT max(v) FROM (SELECT nth_value(nullif(value, value), 9) IGNORE NULLS OVER (ORDER BY timestamp "
    f"ROWS BETWEEN 90000 PRECEDING AND CURRENT ROW) AS v FROM {READINGS})",
    "distinct in a frame": f"SELECT max(v) FROM (SELECT count(DISTINCT value) OVER (ORDER BY timestamp "
    f"ROWS BETWEEN 90000 PRECEDING AND CURRENT ROW) AS v FROM {READINGS})",
    "median of a frame": f"SELECT max(v) FROM (SELECT median(value) OVER (ORDER BY timestamp, id "
    f"ROWS BETWEEN 90000 PRECEDING AND CURRENT ROW) AS v FROM {READINGS})",
    "filtered frame": f"SELECT max(v) FROM (SELECT median(value) FILTER (WHERE value > 0) OVER (ORDER BY timestamp, id "
    f"ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS v FROM {READINGS})",
    "frame to the end": f"SELECT max(v) FROM (SELECT median(value) OVER (ORDER BY timestamp, id "
    f"ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS v FROM {READINGS})",
    "recursive": "WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x) SELECT count(*) FROM x",
    "recursive distinct": "WITH RECURSIVE x AS (SELECT 1 AS n UNION SELECT (n + 1) % 1000000000 FROM x) SELECT count(*) FROM x",
    "recursive join": f"WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT x.n + 1 FROM x, {READINGS} b WHERE b.value < -1e12 "
    "OR x.n > 0) SELECT max(n) FROM x",
    "unnest": f"SELECT sum(u) FROM (SELECT unnest(range(0, 5000)) + value AS u FROM {READINGS})",
    "series": "SELECT sum(value % 7) FROM generate_series(1, 100000000000)",
    "top of a series": "SELECT value % 1000 AS v FROM generate_series(1, 100000000000) ORDER BY v LIMIT 5",
    "sorted": f"SELECT max(v) FROM (SELECT a.value + b.value AS v {PAIRS} ORDER BY v)",
    "grouped": f"SELECT count(*) FROM (SELECT a.value + b.value AS v, count(*) {PAIRS} GROUP BY v)",
    "distinct": f"SELECT count(DISTINCT a.value + b.value) {PAIRS}",
    "offset": f"SELECT a.value {PAIRS} OFFSET 1000000000000",
    "united": " UNION ALL ".join([f"SELECT count(*) {PAIRS} WHERE a.value + b.value < -1e12"] * 4),
    "subquery": f"SELECT count(*) FROM data_d WHERE value < (SELECT count(*) {PAIRS} WHERE a.value + b.value < -1e12)",
    "levenshtein of rows": f"SELECT max(levenshtein(a.id || repeat('x', 60), b.id || repeat('y', 60))) {PAIRS}",
    "regular expression of rows": f"SELECT count(*) {PAIRS} WHERE a.id || b.id ~ '(a|b)*c(d|e){{20}}'",
    # Queries whose estimated cost is too low, such as a join of few rows with many equal keys.
    "short join": "SELECT count(*) FROM data_min a JOIN data_min b ON a.date = b.date WHERE a.value + b.value < -1e12",
    "short window": "SELECT max(v) FROM (SELECT sum(value) OVER (PARTITION BY date ORDER BY timestamp "
    "ROWS BETWEEN 90000 PRECEDING AND CURRENT ROW) AS v FROM data_min)",
}
# A call on one long value cannot be interrupted, so it is refused or short. With a column as an argument, there is a call per
# row.
LONG_LIST, LONG_TEXT = "range(0, 8000000)", "repeat('ab', 16000000)"
LONG_VALUES = {
    "array_distinct": f"SELECT array_length(array_distinct({LONG_LIST})) AS x",
    "array_sort": f"SELECT array_sort({LONG_LIST}, 'DESC') IS NULL AS x",
    "arrays_zip": f"SELECT arrays_zip({LONG_LIST}, {LONG_LIST}) IS NULL AS x",
    "array_union": f"SELECT array_length(array_union({LONG_LIST}, [1])) AS x",
    "array_remove_all": f"SELECT array_length(array_remove_all({LONG_LIST}, 7)) AS x",
    "translate": f"SELECT length(translate({LONG_TEXT}, 'a', 'c')) AS x",
    "reverse": f"SELECT length(reverse({LONG_TEXT})) AS x",
    "initcap": f"SELECT length(initcap({LONG_TEXT})) AS x",
    "string_to_array": f"SELECT array_length(string_to_array({LONG_TEXT}, 'b')) AS x",
    "array_transform": f"SELECT array_length(array_transform({LONG_LIST}, x -> sqrt(x) + x)) AS x",
    "array_has of rows": f"SELECT count(*) FROM data_min WHERE array_has({LONG_LIST}, -count)",
    "array_position of rows": f"SELECT count(*) FROM data_min WHERE array_position({LONG_LIST}, -count) > 0",
    "array_append of rows": f"SELECT max(array_length(array_append({LONG_LIST}, count))) FROM data_min",
    "contains of rows": f"SELECT count(*) FROM data_min WHERE contains({LONG_TEXT}, asset_id)",
    "split_part of rows": f"SELECT max(split_part({LONG_TEXT}, asset_id, 2)) FROM data_min",
    "nullif of rows": f"SELECT max(length(nullif({LONG_TEXT}, asset_id))) FROM data_min",
    "to_char of rows": f"SELECT max(length(to_char(timestamp, repeat('%Y', 10000)))) FROM data_min",
}
# The attacks of the profile `ci`. All attacks together take minutes.
QUICK_ATTACKS = ["join", "exists", "in duplicates", "nth_value", "recursive", "unnest", "sorted", "short join"]


def select_attacks(attacks: dict[str, str], quick_attacks: list[str]) -> list[str]:
    """Returns the names of all attacks in the profile `long`, and else of the quick ones."""
    return list(attacks) if os.environ.get("PLANTLAKE_TEST_PROFILE") == "long" else quick_attacks


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A server with short limits. Everything runs long queries, North sends statements that take long to plan, and South is
    their neighbour."""
    limits = {"PLANTLAKE_SERVE_QUERY_TIMEOUT": f"{QUERY_TIMEOUT:.0f}s", "PLANTLAKE_SERVE_QUEUE_TIMEOUT": "2s"}
    plant = Plant(tmp_path_factory.mktemp("deadlines"), limits).build().serve()
    sensor = sorted(plant.tenants["South"].assets & set(plant.lake.table("data_h")["asset_id"]))[0]
    sql = f"SELECT timestamp, value FROM data_h WHERE asset_id = '{sensor}' AND timestamp < '2024-05-01T05:00:00Z'"
    neighbour = NeighbourQueries(plant, sql)
    with neighbour:
        time.sleep(1.0)
    neighbour.took.clear()
    with neighbour:
        time.sleep(2.0)
    yield SimpleNamespace(plant=plant, neighbour=neighbour, quiet_seconds=neighbour.percentile())
    assert plant.stop() == OK


class NeighbourQueries:
    """A neighbour that repeats a point query, and the seconds that each took."""

    def __init__(self, plant: Plant, sql: str) -> None:
        self.plant, self.sql, self.took = plant, sql, []

    def __enter__(self) -> "NeighbourQueries":
        self.took.clear()
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        self.thread = threading.Thread(target=self.repeat_query)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def repeat_query(self) -> None:
        try:
            with self.plant.with_key("South") as connection:
                while not self.stop.is_set():
                    began = time.monotonic()
                    with connection.cursor() as cursor:
                        cursor.execute(self.sql)
                        assert cursor.fetch_arrow_table().num_rows > 0
                    self.took.append(time.monotonic() - began)
                    time.sleep(0.005)
        except BaseException as error:
            self.errors.append(error)

    def percentile(self) -> float:
        """Returns the 99th percentile of the seconds."""
        assert not self.errors, self.errors
        took = sorted(self.took)
        return took[int(len(took) * 0.99)]


def run_timed(call: Callable[[], object]) -> tuple[float, str]:
    """Runs a statement and returns the elapsed seconds and its error, or "answered"."""
    began, result = time.monotonic(), "answered"
    try:
        call()
    except (adbc_driver_manager.Error, flight.FlightError, pa.ArrowException, OSError) as error:
        result = str(error)
    return time.monotonic() - began, result


def cores_used(plant: Plant, seconds: float) -> float:
    """Returns the number of cores that the process uses on average over `seconds`."""

    def cpu_seconds() -> float:
        with open(f"/proc/{plant.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, began = cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds() - before) / (time.monotonic() - began)


def assert_idle_within(plant: Plant, max_seconds: float) -> None:
    """Checks that the process becomes idle within `max_seconds`, with 0.5 s for the measurement."""
    began, cores = time.monotonic(), []
    while time.monotonic() - began < max_seconds + 0.5:
        cores.append(cores_used(plant, 0.5))
        if cores[-1] < MAX_IDLE_CORES:
            return
    raise AssertionError(f"cores in use after the client disconnected: {cores}")


def run_concurrently(calls: list[Callable[[], object]]) -> list[tuple[float, str]]:
    """Runs all statements in parallel, and returns the seconds and the result of each."""
    results: list[tuple[float, str]] = []
    threads = [threading.Thread(target=lambda call=call: results.append(run_timed(call))) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def assert_neighbour_is_not_slowed(
    scenario: SimpleNamespace, calls: list[Callable[[], object]], max_seconds: float
) -> list[str]:
    """Runs all statements in parallel to the neighbour's queries, and returns the result of each. Other tests run on the same
    machine, and delay single queries; a statement that slows its neighbours, or ends late, does so each time. So what was slow
    is measured again."""
    limit = max(MAX_SLOWDOWN * scenario.quiet_seconds, MIN_LIMIT_SECONDS)
    slow: list[str] = []
    while True:
        with scenario.neighbour as neighbour:
            results = run_concurrently(calls)
        assert not any("connection" in result.lower() for _, result in results), results
        took, percentile = max(took for took, _ in results), neighbour.percentile()
        if took < max_seconds and percentile < limit:
            return [result for _, result in results]
        slow.append(f"{took:.2f} s for the statements, {percentile:.3f} s for a point query")
        quiet = f"{scenario.quiet_seconds:.3f} s for a point query before the attack"
        assert len(slow) < MAX_MEASUREMENTS, f"{slow}; limits {max_seconds} s and {limit:.3f} s, {quiet}; {results}"


@pytest.mark.parametrize("attack", select_attacks(RUNNING, QUICK_ATTACKS))
def test_expensive_query_ends_at_timeout_and_does_not_slow_neighbour(scenario: SimpleNamespace, attack: str) -> None:
    calls = [lambda: scenario.plant.ask(RUNNING[attack], "Everything")]
    [result] = assert_neighbour_is_not_slowed(scenario, calls, QUERY_TIMEOUT + SLACK_SECONDS)
    assert any(text in result for text in ("answered", "query_timeout", "more memory", "ask for less")), result
    assert_idle_within(scenario.plant, 1.0)


QUICK_LONG_VALUES = ["array_distinct", "arrays_zip", "translate", "array_has of rows", "contains of rows", "nullif of rows"]


@pytest.mark.parametrize("attack", select_attacks(LONG_VALUES, QUICK_LONG_VALUES))
def test_calls_on_long_values_end_soon_after_timeout(scenario: SimpleNamespace, attack: str) -> None:
    """Four clients call at once, because each call blocks its thread."""
    calls = [lambda: scenario.plant.ask(LONG_VALUES[attack], "Everything")] * 4
    assert_neighbour_is_not_slowed(scenario, calls, 2 * QUERY_TIMEOUT + SLACK_SECONDS)
    assert_idle_within(scenario.plant, MAX_CALL_SECONDS)


def retry_while_busy(call: Callable):
    """Repeats a call while the server is busy. On a busy machine, work of the previous test may still have the permit."""
    end = time.monotonic() + 30
    while True:
        try:
            return call()
        except flight.FlightUnavailableError:
            if time.monotonic() > end:
                raise


@pytest.mark.parametrize("attack", select_attacks(RUNNING, ["join", "in duplicates", "nth_value", "unnest"]))
def test_query_of_disconnected_client_ends(scenario: SimpleNamespace, attack: str) -> None:
    client = scenario.plant.client("Everything")
    command = any_of("CommandStatementQuery", text_field(1, RUNNING[attack]))
    # A ticket is redeemed once, so that the statement is planned again, too.
    reader = retry_while_busy(lambda: client.flight.do_get(client.info(command).endpoints[0].ticket, client.options))
    time.sleep(0.5)
    reader.cancel()
    del reader
    assert_idle_within(scenario.plant, 1.0)


def test_timeout_with_all_permits_in_use_holds(scenario: SimpleNamespace) -> None:
    """The attacker's queries use and queue for all permits; the neighbour's long query gets its own permit."""
    endless_queries = [lambda at=at: scenario.plant.ask(RUNNING["empty join"] + f" + {at}", "Everything") for at in range(4)]
    long_query = f"SELECT max(value), min(value), count(*) FROM {READINGS}"
    began = time.monotonic()
    threads = [threading.Thread(target=run_timed, args=(endless_query,)) for endless_query in endless_queries]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    took, result = run_timed(lambda: scenario.plant.ask(long_query, "South"))
    for thread in threads:
        thread.join()
    assert result == "answered" or "the query exceeded serve.query_timeout" in result, result
    assert took < QUERY_TIMEOUT + SLACK_SECONDS, took
    assert time.monotonic() - began < len(endless_queries) * QUERY_TIMEOUT + SLACK_SECONDS
    assert_idle_within(scenario.plant, 1.0)


# These tests come last: planning that cannot be interrupted continues for a while with the lowest priority.


@pytest.mark.parametrize(
    "attack",
    select_attacks(PLANNING, ["regexp_count", "array_has_all", "many calls", "cross joins", "cube"]),
)
def test_expensive_planning_ends_at_timeout_and_does_not_slow_neighbour(scenario: SimpleNamespace, attack: str) -> None:
    assert_neighbour_is_not_slowed(scenario, [lambda: scenario.plant.ask(PLANNING[attack])] * 2, QUERY_TIMEOUT + SLACK_SECONDS)


def test_planning_of_four_clients_does_not_slow_neighbour(scenario: SimpleNamespace) -> None:
    # The texts differ, so that no plan is cached.
    calls = [lambda at=at: scenario.plant.ask(PLANNING["levenshtein"] + f" + {at}") for at in range(4)]
    assert_neighbour_is_not_slowed(scenario, calls, 2 * QUERY_TIMEOUT + SLACK_SECONDS)


def test_prepare_and_get_schema_with_expensive_planning_end_at_timeout(scenario: SimpleNamespace) -> None:
    client = scenario.plant.client()
    sql = PLANNING["many calls"]
    descriptor = flight.FlightDescriptor.for_command(any_of("CommandStatementQuery", text_field(1, sql + " + 1")))
    assert_neighbour_is_not_slowed(
        scenario,
        [lambda: client.prepare(sql), lambda: client.flight.get_schema(descriptor, client.options)],
        QUERY_TIMEOUT + SLACK_SECONDS,
    )
