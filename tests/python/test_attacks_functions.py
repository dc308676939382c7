"""Statements whose arguments would cost much memory or time. Each ends with a clear error or an answer, and the server keeps
running.

The server runs with an address-space limit of 8 GiB, as a container would set it, and with little memory for queries. Its
peak memory is checked after each attack.
"""

from __future__ import annotations

import os
import random
import re
import resource
import threading
import time
from collections.abc import Iterator

import adbc_driver_manager
import pytest

from conftest import LONG
from harness import OK
from server import Plant

pytestmark = pytest.mark.local_only
ADDRESS_SPACE = 8 << 30
TOTAL_MEMORY = 512 << 20
# The memory of a server without queries in bytes, including small allocations of a debug build.
IDLE_MEMORY = 350 << 20
CLEAR_CODES = ("InvalidArgument", "ResourceExhausted", "NotImplemented", "Unimplemented")
VALID_QUERY = "SELECT count(*) AS n FROM data_h"


class Scenario:
    """A plant with a server, the answer of a valid query, and the peak memory before the attacks."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.expected_count = self.count()
        self.memory_before = self.memory("VmHWM")

    def count(self) -> int:
        return int(self.plant.ask(VALID_QUERY).n[0])

    def memory(self, what: str) -> int:
        with open(f"/proc/{self.plant.process.pid}/status") as status:
            return int(re.search(rf"{what}:\s+(\d+) kB", status.read())[1]) << 10

    def refusal(self, sql: str) -> str:
        """Returns the error of a statement, or an empty text if it succeeded."""
        try:
            self.plant.ask(sql)
        except adbc_driver_manager.Error as error:
            return str(error)
        return ""

    def assert_unharmed(self, what: str) -> None:
        assert self.plant.process.poll() is None, f"the server ended during: {what}\n{''.join(self.plant.log)[-3000:]}"
        assert self.count() == self.expected_count, what
        limit = max(self.memory_before, IDLE_MEMORY) + TOTAL_MEMORY * 5 // 4
        assert self.memory("VmHWM") < limit, f"{self.memory('VmHWM') >> 20} MiB: {what}"


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    memory = {"PLANTLAKE_SERVE_QUERY_MEMORY": "128MiB", "PLANTLAKE_SERVE_TOTAL_MEMORY": "512MiB"}
    plant = Plant(tmp_path_factory.mktemp("functions"), memory).build()
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))  # noqa: E731
    plant.serve(settings={"PLANTLAKE_SERVE_QUERY_TIMEOUT": "20s"}, preexec_fn=limit)
    scenario = Scenario(plant)
    yield scenario
    scenario.assert_unharmed("all")
    assert plant.stop() == OK


LARGE_TEXT = "repeat('x', 30000000)"
LONG_TEXT = "repeat('x', 1000000)"
# These statements are refused with a clear error.
REFUSED = {
    "approximate percentile": "SELECT approx_percentile_cont(0.5, 1000000000000000) WITHIN GROUP (ORDER BY value) "
    "FROM data_min",
    "approximate percentile of weights": "SELECT approx_percentile_cont_with_weight(count, 0.5, 1000000000000) WITHIN "
    "GROUP (ORDER BY value) FROM data_min",
    "approximate percentile, folded": "SELECT approx_percentile_cont(0.5, 1000000 * 1000000) WITHIN GROUP (ORDER BY value) "
    "FROM data_min",
    "approximate percentile, volatile": "SELECT approx_percentile_cont(0.5, CAST(random() AS BIGINT) + 1000000000) WITHIN "
    "GROUP (ORDER BY value) FROM data_min",
    "approximate percentile of a window": "SELECT approx_percentile_cont(value, 0.5, 1000000000000) OVER (ORDER BY timestamp) "
    "FROM data_min",
    "repeat of a large text beside rows": "SELECT repeat(arrow_cast('x', 'LargeUtf8'), 1000000), value FROM data_min",
    "repeat of a column": "SELECT repeat(asset_id, 1000000) FROM data_min",
    "constant beside rows": "SELECT arrow_cast(repeat('x', 3000000), 'LargeUtf8'), value FROM data_min",
    "replace": "SELECT length(replace(repeat('a', 100000), 'a', repeat('b', 1000000)))",
    "replace in rows": "SELECT max(length(replace(repeat(asset_id, 10), '-', repeat('b', 1000000)))) FROM data_min",
    "regexp_replace": "SELECT length(regexp_replace(repeat('a', 5000), 'a', repeat('b', 1000000), 'g'))",
    "array_to_string": "SELECT length(array_to_string(array_repeat('a', 1000000), repeat('b', 100000)))",
    "array_to_string of nulls": "SELECT length(array_to_string(array_repeat(NULL::text, 1000000), '', repeat('b', 100000)))",
    "concat": f"SELECT length(concat({', '.join([LARGE_TEXT] * 100)}))",
    "concat_ws": f"SELECT length(concat_ws({', '.join([LARGE_TEXT] * 100)}))",
    "concatenation": f"SELECT length({' || '.join([LARGE_TEXT] * 100)})",
    "doubling": f"SELECT length(a || a) FROM {'(SELECT a || a AS a FROM ' * 25}(SELECT repeat('x', 1000) AS a){') AS t' * 25}",
    "doubling of rows": f"SELECT max(length(a || a)) FROM {'(SELECT a || a AS a FROM ' * 20}(SELECT asset_id AS a "
    f"FROM data_min){') AS t' * 20}",
    "list of constants": f"SELECT make_array({', '.join([LARGE_TEXT] * 40)}, asset_id) FROM data_min",
    "struct of constants": f"SELECT struct({', '.join([LARGE_TEXT] * 40)}, asset_id) FROM data_min",
    "array_repeat": "SELECT array_repeat(value, 2000000000) FROM data_min",
    "array_resize": "SELECT array_resize([value], 2000000000) FROM data_min",
    "array_concat": f"SELECT array_length(array_concat({', '.join(['range(0, 4000000)'] * 60)}))",
    "lpad": "SELECT lpad('x', 2147483647)",
    "rpad of rows": "SELECT rpad(asset_id, 100000, 'x') FROM data_min",
    "to_char": "SELECT to_char(timestamp, repeat('x', 1000000)) FROM data_min",
    "string_to_array": "SELECT array_length(string_to_array(repeat('a,', 30000000), ','))",
    "cast to a fixed size": "SELECT arrow_cast(NULL, 'FixedSizeBinary(2147483647)')",
    "cast to nested fixed sizes": "SELECT arrow_cast(NULL, 'FixedSizeList(60000, FixedSizeList(60000, Int64))')",
    "cast to a type within a dictionary": "SELECT arrow_cast(NULL, 'Dictionary(Int32, FixedSizeBinary(2147483647))')",
    "range beside rows": "SELECT range(0, 8000000), value FROM data_min",
    "decimal of a long text": "SELECT CAST(repeat('1', 30000000) AS DECIMAL(38, 10))",
    "decimal by comparison": "SELECT count(*) FROM (SELECT repeat('1', 30000000) AS x) WHERE x = 1::DECIMAL(38, 0)",
    "decimal by arrow_cast": "SELECT arrow_cast(repeat('1', 30000000), 'Decimal256(76, 0)')",
    "number of a long text": "SELECT CAST(repeat('1', 30000000) AS BIGINT)",
    "time of a long text": "SELECT CAST(repeat('1', 30000000) AS TIMESTAMP)",
    "time of a long text, by comparison": "SELECT count(*) FROM data_min WHERE timestamp < repeat('1', 30000000)",
    "boolean of a long text": "SELECT CAST(repeat('t', 30000000) AS BOOLEAN)",
    "interval of a long text": "SELECT CAST(repeat('1 day ', 3000000) AS INTERVAL)",
    "to_timestamp of a long text": "SELECT to_timestamp(repeat('1', 30000000))",
    "number of long texts in rows": "SELECT max(CAST(repeat(asset_id, 1000) AS BIGINT)) FROM data_min",
    "cast to a list of lists": f"SELECT arrow_cast(1, '{'List(' * 60000}')",
    "cast to a closed list of lists": f"SELECT arrow_try_cast(NULL, '{'List(' * 60000}Int64{')' * 60000}')",
    "cast to a struct of structs": "SELECT arrow_cast(1, '" + 'Struct("a": ' * 60000 + "')",
    "cast to a map of maps": f"SELECT arrow_cast(1, '{'Map(' * 60000}')",
    "decimals in a list": "SELECT arrow_cast([repeat('1', 30000000)], 'List(Decimal128(9, 0))')",
    "generate_series": "SELECT generate_series(TIMESTAMP '2024-01-01', TIMESTAMP '2025-01-01', INTERVAL '1 microsecond')",
    "generate_series without progress": "SELECT generate_series(DATE '2024-01-31', DATE '2025-01-01', INTERVAL '1 month -29 "
    "days')",
    "array_agg": f"SELECT array_agg({LONG_TEXT}) FROM data_min",
    "string_agg": f"SELECT length(string_agg({LONG_TEXT}, asset_id)) FROM data_min",
    "many long values": f"SELECT count(DISTINCT {LONG_TEXT} || CAST(value AS TEXT)) FROM data_min",
    "minimum of long values": f"SELECT max({LONG_TEXT} || CAST(value AS TEXT)) FROM data_min GROUP BY timestamp",
    "regexp_count": "SELECT regexp_count(repeat('A', 3000000), '.*[^A-Z]|[A-Z]')",
    "regexp_instr": "SELECT regexp_instr(repeat('A', 3000000), '.*[^A-Z]|[A-Z]', 1, 1000000)",
    "regexp_match": "SELECT regexp_match(repeat('A', 3000000), '.*[^A-Z]|[A-Z]', 'g')",
    "regexp_like": "SELECT regexp_like(repeat('A', 3000000), repeat('(a|b)', 100000))",
    "regular expression": "SELECT repeat('A', 3000000) ~ repeat('(a|b)', 100000)",
    "regular expression of large size": r"SELECT asset_id ~ '(\w{900}){900}' FROM data_min",
    "LIKE": "SELECT repeat('A', 30000000) LIKE repeat('%_', 100000)",
    "ILIKE of rows": "SELECT count(*) FROM data_min WHERE repeat('A', 300000) ILIKE repeat(asset_id, 1000)",
    "SIMILAR TO": "SELECT repeat('A', 3000000) SIMILAR TO repeat('(a|b)', 100000)",
    "array_has_all": "SELECT array_has_all(range(0, 3000000), range(0, 3000000))",
    "array_has_any": "SELECT array_has_any(range(0, 3000000), range(3000000, 6000000))",
    "contains of lists": "SELECT range(0, 3000000) @> range(0, 3000000)",
    "levenshtein": "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
    "btrim": "SELECT btrim(repeat('a', 3000000), repeat('b', 3000000))",
    "strpos": "SELECT strpos(repeat('a', 3000000), repeat('a', 1500000) || asset_id) FROM data_min",
    "lag": "SELECT lag(value, 9223372036854775807) OVER (ORDER BY timestamp) FROM data_min",
    "ntile": "SELECT ntile(18446744073709551615) OVER (ORDER BY timestamp) FROM data_min",
    "window frame": "SELECT sum(value) OVER (ORDER BY timestamp ROWS BETWEEN 18446744073709551615 PRECEDING AND CURRENT ROW) "
    "FROM data_min",
    "window over all rows": "SELECT sum(value) OVER () FROM range(0, 1000000000)",
    "window over all rows, of bytes": "SELECT last_value(CAST(value % 100 AS TINYINT)) OVER () FROM range(0, 1000000000)",
    "window of a join": "SELECT sum(a.value) OVER () FROM data_h a, range(0, 10000000)",
    "nested intervals": f"SELECT {'INTERVAL ' * 15000}'1 day'",
    "nested patterns": f"SELECT * FROM a MATCH_RECOGNIZE (PATTERN ({'(' * 60000}a{')' * 60000}) DEFINE a AS true)",
    "input_file_name": "SELECT input_file_name() FROM data_min",
    "file_row_index": "SELECT file_row_index() FROM data_min",
    "arrow_metadata": "SELECT arrow_metadata(value) FROM data_min",
    # These constants would be repeated for each row while a statement is planned.
    "unnest": "SELECT unnest(range(0, 4000000)), value FROM data_min",
    "sorted by long values": f"SELECT value FROM data_min ORDER BY {LARGE_TEXT} || CAST(value AS TEXT) LIMIT 10",
    "constant in a condition": f"SELECT count(*) FROM data_min WHERE coalesce(nullif(asset_id, 'a'), {LARGE_TEXT}) || "
    f"{LARGE_TEXT} = 'x'",
    "replace of an empty text": "SELECT length(replace(repeat('a', 1000000), '', repeat('b', 1000000)))",
    "regexp_replace by the match": "SELECT length(regexp_replace(repeat('a', 30000000), '.*', repeat('$0', 1000)))",
    "case of rows": f"SELECT max(CASE WHEN value > 0 THEN arrow_cast({LARGE_TEXT}, 'LargeUtf8') "
    f"ELSE arrow_cast(asset_id, 'LargeUtf8') END) FROM data_min GROUP BY timestamp",
    "map of constants": f"SELECT map(['a', 'b'], [{LARGE_TEXT}, asset_id]) FROM data_min",
    "array_repeat of lists": "SELECT array_length(array_repeat(array_repeat(array_repeat(1, 1000), 1000), 1000))",
    "array_resize by a long text": f"SELECT array_length(array_resize(['a'], 1000, {LARGE_TEXT}))",
    "arrays_zip": "SELECT arrays_zip(range(0, 3000000), [value]) FROM data_min",
    "overlay": f"SELECT overlay({LARGE_TEXT} placing asset_id from 2) FROM data_min",
    "translate": f"SELECT translate({LARGE_TEXT}, 'x', asset_id) FROM data_min",
}
# These statements are answered. Clients send limits above the number of rows, which have no effect.
ANSWERED = {
    "LIMIT of BI tools": "SELECT asset_id, timestamp, value FROM data_h ORDER BY value DESC LIMIT 1000000",
    "LIMIT of 32 bits": "SELECT value FROM data_min ORDER BY value LIMIT 2147483647",
    "LIMIT of 64 bits": "SELECT value FROM data_h ORDER BY value LIMIT 9223372036854775807",
    "LIMIT and OFFSET": "SELECT value FROM data_h ORDER BY value LIMIT 9223372036854775807 OFFSET 9223372036854775807",
    "top groups": "SELECT asset_id, max(value) AS m FROM data_min GROUP BY asset_id ORDER BY m DESC LIMIT 1000000000000",
    "lowest groups": "SELECT asset_id, min(value) AS m FROM data_min GROUP BY asset_id ORDER BY m LIMIT 1000000000000000",
    "DISTINCT": "SELECT DISTINCT asset_id FROM data_min LIMIT 1000000000000",
    "DISTINCT, ordered": "SELECT DISTINCT asset_id FROM data_min ORDER BY asset_id LIMIT 1000000000000",
    "rows with numbers": "SELECT * FROM (SELECT row_number() OVER (PARTITION BY asset_id ORDER BY timestamp) AS n "
    "FROM data_h) WHERE n <= 1000000000000",
    "UNION": "(SELECT value FROM data_h UNION ALL SELECT value FROM data_d) ORDER BY value LIMIT 1000000000000",
    "approximate percentile": "SELECT approx_percentile_cont(0.5, 500) WITHIN GROUP (ORDER BY value) AS m FROM data_min",
    "texts": r"SELECT DISTINCT regexp_replace(concat(name, ' '), '\s+', '_', 'g') AS x FROM assets WHERE name || 'x' LIKE '%x'",
    "first of many": "SELECT value FROM range(0, 100000000000) LIMIT 10",
    "a window": "SELECT lag(value, 1000000) OVER (ORDER BY timestamp) AS x, ntile(4) OVER (ORDER BY value) AS n FROM data_h",
}


@pytest.mark.parametrize("attack", REFUSED)
def test_unbounded_statement_is_refused(scenario: Scenario, attack: str) -> None:
    error = scenario.refusal(REFUSED[attack])
    assert any(code in error for code in CLEAR_CODES), error or "the statement was answered"
    scenario.assert_unharmed(attack)


@pytest.mark.parametrize("statement", ANSWERED)
def test_statement_with_large_limit_is_answered(scenario: Scenario, statement: str) -> None:
    assert scenario.refusal(ANSWERED[statement]) == ""
    scenario.assert_unharmed(statement)


def test_top_rows_with_large_limit_equal_those_with_small_limit(scenario: Scenario) -> None:
    """A large limit uses another sort operator than a small one, with the same result."""
    sorted_values = "SELECT value, timestamp FROM data_min ORDER BY value DESC, timestamp, asset_id"
    few, many = (scenario.plant.ask(f"{sorted_values} LIMIT {limit} OFFSET 5") for limit in (1000, 100_000_000))
    assert many.head(1000).equals(few)


def test_concurrent_greedy_queries_do_not_stop_neighbour(scenario: Scenario) -> None:
    """Each query is within the limits, but all queries together exceed them. Some are refused, and a neighbour is answered all
    the time."""
    greedy = "SELECT count(*) FROM (SELECT DISTINCT a.value AS x, b.value AS y, c.value AS z FROM data_h a, data_h b, data_d c)"
    texts = "SELECT count(*) FROM (SELECT DISTINCT repeat(asset_id, 300) || CAST(value AS TEXT) FROM data_min)"
    threads = [threading.Thread(target=scenario.refusal, args=(sql,)) for sql in [texts, greedy] * 3]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert int(scenario.plant.ask("SELECT count(*) AS n FROM data_d", tenant="South").n[0]) > 0
        time.sleep(0.2)
    scenario.assert_unharmed("greedy queries")


# ---- random calls

HOSTILE = {
    "number": [
        "0",
        "-1",
        "1",
        "3",
        "2147483647",
        "-2147483648",
        "9223372036854775807",
        "1000000",
        "100000000",
        "0.5",
        "NULL",
        "1e308",
        "value",
        "count",
    ],
    "text": [
        "''",
        "'a'",
        "'%'",
        "'g'",
        "NULL",
        LARGE_TEXT,
        "repeat('ab', 100000)",
        "asset_id",
        "repeat(asset_id, 3000)",
        "'.*[^A-Z]|[A-Z]'",
        "'(a|b)*c{1000}'",
        "'%Y'",
        "'Int64'",
        "'FixedSizeBinary(1000000000)'",
    ],
    "list": [
        "[]",
        "[1, NULL]",
        "range(0, 3000000)",
        "array_repeat('ab', 100000)",
        "[value, count]",
        "[asset_id]",
        "array_repeat(range(0, 1000), 1000)",
        "NULL",
    ],
    "time": [
        "timestamp",
        "now()",
        "DATE '9999-12-31'",
        "TIMESTAMP '0001-01-01'",
        "INTERVAL '1 month -29 days'",
        "INTERVAL '0 days'",
        "INTERVAL '1 nanosecond'",
        "INTERVAL '178000000 years'",
    ],
}


def calls(functions: list[tuple[str, str]], seed: int) -> Iterator[str]:
    """Yields calls of each function with hostile arguments, in random order."""
    generator = random.Random(seed)
    while True:
        for name, kind in generator.sample(functions, len(functions)):
            kinds = generator.choice([list(HOSTILE), ["text", "number"], ["list", "number"], ["text"], ["number"]])
            values = [generator.choice(HOSTILE[generator.choice(kinds)]) for _ in range(generator.randint(0, 4))]
            call = f'{name}({", ".join(values)})'
            if kind == "WINDOW":
                call += (
                    f" OVER (ORDER BY timestamp ROWS BETWEEN {generator.choice([1, 10**6, 10**15])} PRECEDING AND CURRENT ROW)"
                )
            yield generator.choice(
                [
                    f"SELECT {call} AS x FROM data_min",
                    f"SELECT max(CAST({call} AS TEXT)) AS x FROM data_min GROUP BY timestamp "
                    f"ORDER BY x DESC LIMIT {generator.choice([10, 10**9, 10**18])}",
                    f"SELECT {call} AS x FROM data_h ORDER BY x LIMIT {generator.choice([10, 10**9, 10**18])}",
                    f"SELECT {call} AS x",
                    f"SELECT x || x AS y, x = x AS z, CASE WHEN value > 0 THEN x END AS c FROM (SELECT {call} AS x, value "
                    f"FROM data_h)",
                ]
            )


def test_random_calls_leave_server_unharmed(scenario: Scenario) -> None:
    """All functions are called with hostile arguments. The server refuses or answers, and neither crashes nor grows."""
    routines = scenario.plant.ask(
        "SELECT DISTINCT routine_name AS name, function_type AS kind FROM information_schema.routines ORDER BY 1, 2"
    )
    functions = [(name, kind) for name, kind in zip(routines.name, routines.kind) if re.fullmatch(r"\w+", name)]
    assert len(functions) > 200
    seed = int(os.environ.get("FUZZ_SEED", random.randrange(1 << 30)))
    print(f"FUZZ_SEED={seed}")
    seconds = float(os.environ.get("FUZZ_SECONDS", 300 if LONG else 4))
    deadline = time.monotonic() + seconds
    for count, sql in enumerate(calls(functions, seed)):
        if time.monotonic() > deadline:
            break
        error = scenario.refusal(sql)
        if count % 20 == 0 or "an expression failed" in error or "failed on the server" in error or "cannot" in error.lower():
            scenario.assert_unharmed(f"FUZZ_SEED={seed}, {count} statements, the last: {sql}")
        assert scenario.plant.process.poll() is None, f"FUZZ_SEED={seed}: {sql}"
    scenario.assert_unharmed(f"FUZZ_SEED={seed}")
