"""The results, counters and headers of a request reveal nothing about rows that the caller may not see.

There are two plants with the same catalog and organisations. In the first, files contain readings of North and South; in
the second, South has no readings. North sends the same requests to both, and must get the same replies.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import re
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest

from conftest import LONG
from harness import OK
from server import SIMULATE, Plant, any_of, eventually, text_field

pytestmark = pytest.mark.local_only

# The date of readings that only South has.
LATE_DATE = "2031-07-09"
SECRET = 987654.25
STATEMENT_COUNT = 1_000 if LONG else 130
SEED = int(os.environ.get("FUZZ_SEED", 2_407))
# The columns of account.usage that differ between any two requests.
REQUEST_COLUMNS = ["request_id", "started_at", "ended_at", "first_byte_microseconds", "duration_microseconds", "billing_month"]
# The columns of account.usage that differ between the two databases for the same caller.
DATABASE_COLUMNS = ["api_key_id", "session_id"]
# The maximum time until a request is in the ledger.
LEDGER_SECONDS = 30.0


class HeaderRecorder(flight.ClientMiddlewareFactory):
    """Records all received headers and trailers by call."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict]] = []

    def start_call(self, info: flight.CallInfo) -> flight.ClientMiddleware:
        seen = self.seen
        name = info.method.name

        class Middleware(flight.ClientMiddleware):
            def received_headers(_, headers: dict) -> None:
                seen.append((name, {key: [mask(str(value)) for value in values] for key, values in headers.items()}))

        return Middleware()


def mask(text: str) -> str:
    """Replaces request ids and times in the text by placeholders."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "<request>", text)
    return re.sub(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", "<now>", text)


class RecordingCaller:
    """A client of North's analyst, which records all properties of a reply."""

    def __init__(self, plant: Plant) -> None:
        self.headers = HeaderRecorder()
        self.flight = flight.FlightClient(plant.uri, middleware=[self.headers])
        key = plant.tenants["North"].key
        self.options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {key}".encode())], timeout=120)
        self.calls = 0

    def ask(self, sql: str) -> tuple:
        """Returns the observable properties of a statement: ticket and message sizes, rows, headers, or the error."""
        self.headers.seen.clear()
        messages: list = []
        chunks: list[pa.RecordBatch] = []
        try:
            command = any_of("CommandStatementQuery", text_field(1, sql))
            self.calls += 1
            info = self.flight.get_flight_info(flight.FlightDescriptor.for_command(command), self.options)
            self.calls += 1
            reader = self.flight.do_get(info.endpoints[0].ticket, self.options)
            observed = (info.total_records, info.total_bytes, len(info.endpoints[0].ticket.ticket))
            for chunk in reader:
                messages.append(chunk.data.num_rows)
                chunks.append(chunk.data)
            observed = (*observed, tuple(messages))
        except (flight.FlightError, pa.ArrowException) as error:
            # The number of messages before an error depends on timing, so it is ignored.
            observed = (type(error).__name__, mask(str(error)))
        headers = sorted(str(seen) for seen in self.headers.seen)
        return observed, headers, pa.Table.from_batches(chunks) if chunks else None


def own_assets(plant: Plant) -> tuple[list[str], list[str]]:
    """Returns the assets of North and of South that have readings."""
    measured = set()
    for path in plant.lake.raw.glob("**/*.parquet"):
        measured |= set(pq.read_table(path, columns=["id"])["id"].to_pylist())
    north, south = (sorted(measured & plant.tenants[name].assets) for name in ("North", "South"))
    return north, south


def mixed_files(plant: Plant, north: list[str], south: list[str]) -> None:
    """Writes files whose row groups contain readings of both, with South's before, between and after North's."""
    generator = np.random.default_rng(24)
    for number, (start, days) in enumerate([("2024-05-02", 2), ("2024-06-10", 1), ("2025-01-30", 3)]):
        frames = []
        for asset in [*north[:6], *south[:14]]:
            count = int(generator.integers(200, 900))
            seconds = generator.integers(0, days * 86_400, count)
            times = pd.Timestamp(start, tz="UTC") + pd.to_timedelta(np.sort(seconds), unit="s")
            frames.append(pd.DataFrame({"id": asset, "timestamp": times, "value": generator.normal(50, 20, count)}))
        secret = pd.Timestamp(start, tz="UTC") + pd.Timedelta(hours=12)
        frames.append(pd.DataFrame({"id": [south[3]], "timestamp": [secret], "value": [SECRET]}))
        frame = pd.concat(frames).sort_values("timestamp" if number == 1 else ["id", "timestamp"])
        frame.to_parquet(plant.lake.raw / f"mixed-{number}.parquet", coerce_timestamps="us", index=False, row_group_size=3_000)
    rows = [
        (south[0], f"{LATE_DATE}T00:00:00Z", SECRET),
        (south[0], f"{LATE_DATE}T00:01:01Z", SECRET),
        (north[0], "2024-05-01T00:00:00.5Z", 1.0),
    ]
    shared = pd.DataFrame(rows, columns=["id", "timestamp", "value"])
    shared["timestamp"] = pd.to_datetime(shared["timestamp"], format="ISO8601").astype("datetime64[us, UTC]")
    shared.to_parquet(plant.lake.raw / "shared.parquet", coerce_timestamps="us", index=False)


def copy_without(source: Path, target: Path, ids: set[str]) -> None:
    """Copies the raw files without the rows of some assets. Files without other rows are omitted."""
    for path in sorted(source.glob("**/*.parquet")):
        table = pq.read_table(path)
        remaining = table.filter(pa.array([id not in ids for id in table["id"].to_pylist()]))
        if remaining.num_rows:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(remaining, copy, row_group_size=3_000 if path.name.startswith("mixed") else None)


SETTINGS = {
    "PLANTLAKE_RESAMPLE_LATEST": "2040-01-01",
    "PLANTLAKE_METERING_SQL": "true",
    # The archive has the minutes before August 2024, and the days of 2024.
    "PLANTLAKE_RETENTION_MINUTE_KEEP": f"{(dt.date.today() - dt.date(2024, 8, 1)).days}d",
    "PLANTLAKE_RETENTION_DAY_KEEP": f"{(dt.date.today() - dt.date(2025, 2, 1)).days}d",
}


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    crowded = Plant(tmp_path_factory.mktemp("crowded"), dict(SETTINGS))
    alone = Plant(tmp_path_factory.mktemp("alone"), dict(SETTINGS))
    crowded.lake.run(*SIMULATE).expect(OK)
    grants = {
        "North": ["--type", "temperature sensor", "--type", "site"],
        "South": ["--type", "pressure sensor", "--type", "flow sensor", "--type", "level sensor"],
    }
    shutil.copytree(crowded.lake.folder / "catalog", alone.lake.folder / "catalog", dirs_exist_ok=True)
    for plant in (crowded, alone):
        for name, granted in grants.items():
            plant.tenant(name, granted)
    north, south = own_assets(crowded)
    mixed_files(crowded, north, south)
    copy_without(crowded.lake.raw, alone.lake.raw, crowded.tenants["South"].assets)
    for plant in (crowded, alone):
        plant.lake.resample().expect(OK)
        plant.lake.run("maintain").expect(OK)
        plant.serve()
    yield SimpleNamespace(crowded=crowded, alone=alone, north=north, south=south)
    for plant in (crowded, alone):
        assert plant.stop() == OK


def test_plants_differ_in_readings_of_south(scenario: SimpleNamespace) -> None:
    """The plants differ in the data that the attacks try to read."""
    sql = "SELECT count(*) AS n, max(value) AS v FROM raw_readings WHERE NOT isnan(value)"
    crowded, alone = (plant.ask(sql, "South") for plant in (scenario.crowded, scenario.alone))
    assert crowded["n"].item() > 10_000 and crowded["v"].item() == SECRET and alone["n"].item() == 0
    assert scenario.crowded.ask("SELECT count(*) AS n FROM archive.data_min", "South")["n"].item() > 0
    files = [(plant.lake.root / "data_h").glob("**/*.parquet") for plant in (scenario.crowded, scenario.alone)]
    sizes = [sum(path.stat().st_size for path in paths) for paths in files]
    assert sizes[0] > sizes[1]


# ---- random statements


TABLES = ["data_min", "data_h", "data_d", "archive.data_min", "archive.data_d", "raw_readings"]
DATES = {"data_min": "date", "data_h": "month", "data_d": "year"}


class Statements:
    """Generates random statements of all kinds over all tables."""

    def __init__(self, generator: random.Random, north: list[str], south: list[str]) -> None:
        self.generator = generator
        self.north = north
        self.south = south

    def id(self) -> str:
        return self.generator.choice(self.generator.choice([self.north, self.south]))

    def time(self) -> str:
        day = self.generator.choice(
            ["2024-05-01", "2024-05-02", "2024-05-03", "2024-06-10", "2025-01-31", LATE_DATE, "2030-01-01"]
        )
        return f"{day}T{self.generator.randrange(24):02}:{self.generator.choice([0, 0, 30]):02}:00Z"

    def number(self) -> str:
        return str(
            self.generator.choice(
                [SECRET, 900000, 0, 1e9, -1e9, round(self.generator.uniform(-50, 150), 3), self.generator.randrange(-100, 1000)]
            )
        )

    def date(self, table: str) -> str:
        column = DATES[table.removeprefix("archive.")]
        op = self.generator.choice(["=", "<", ">=", "<>"])
        value = {"date": f"'{self.time()[:10]}'", "month": f"'{self.time()[:7]}'", "year": self.time()[:4]}[column]
        return f"{column} {op} {value}"

    def predicate(self, table: str, depth: int = 0) -> str:
        raw = table == "raw_readings"
        asset = "id" if raw else "asset_id"
        numbers = ["value"] if raw else ["value", "count", "min", "max", "first", "last", "stddev"]
        number = self.generator.choice(numbers)
        op = self.generator.choice(["<", "<=", ">", ">=", "=", "<>"])
        kinds = [
            lambda: f"{number} {op} {self.number()}",
            lambda: f"{number} {op} {self.number()}",
            lambda: f"{number} BETWEEN {self.number()} AND {self.number()}",
            lambda: f"{number} IN ({self.number()}, {SECRET}, {self.number()})",
            lambda: f"abs({number} - {self.number()}) < {abs(float(self.number())) / 10}",
            lambda: f"round({number}) {op} {self.number()}",
            lambda: f"CASE WHEN {number} > {self.number()} THEN {number} ELSE 0 END {op} {self.number()}",
            lambda: f"{number} IS {self.generator.choice(['', 'NOT '])}NULL",
            lambda: f"timestamp {op} '{self.time()}'",
            lambda: f"timestamp BETWEEN '{self.time()}' AND '{self.time()}'",
            lambda: f"date_trunc('day', timestamp) {op} '{self.time()[:10]}'",
            lambda: f"extract(hour FROM timestamp) {op} {self.generator.randrange(24)}",
            lambda: f"CAST(timestamp AS DATE) {op} '{self.time()[:10]}'",
            lambda: f"{asset} = '{self.id()}'",
            lambda: f"{asset} {op} '{self.id()}'",
            lambda: f"{asset} IN ('{self.id()}', '{self.id()}', '{self.id()}')",
            lambda: f"{asset} NOT IN ('{self.id()}', '{self.id()}')",
            lambda: f"{asset} LIKE '{self.id()[: self.generator.randrange(4)]}%'",
            lambda: f"{asset} LIKE '%{self.id()[-2:]}'",
            lambda: f"upper({asset}) = '{self.id().upper()}'",
            lambda: f"{asset} IN (SELECT id FROM assets WHERE name LIKE '%{self.generator.randrange(10)}%')",
            lambda: f"{number} > (SELECT avg(value) FROM data_d WHERE {self.predicate('data_d', 2)})",
        ]
        if not raw:
            kinds += [lambda: self.date(table)] * 3
        if depth < 2:
            kinds += [
                lambda: f"({self.predicate(table, depth + 1)} OR {self.predicate(table, depth + 1)})",
                lambda: f"({self.predicate(table, depth + 1)} AND {self.predicate(table, depth + 1)})",
                lambda: f"NOT ({self.predicate(table, depth + 1)})",
            ] * 3
        return self.generator.choice(kinds)()

    def statement(self) -> str:
        table = self.generator.choice(TABLES)
        raw = table == "raw_readings"
        asset = "id" if raw else "asset_id"
        where = self.predicate(table)
        limit = self.generator.choice([0, 1, 3, 100, 9_000])
        other = self.generator.choice(
            [one for one in TABLES if one != table and not one.endswith("min") and one != "raw_readings"]
        )
        forms = [
            f"SELECT * FROM {table} WHERE {where}",
            f"SELECT count(*) AS n FROM {table} WHERE {where}",
            f"SELECT count(*) AS n, min(value) AS low, max(timestamp) AS t FROM {table} WHERE {where}",
            f"SELECT {asset}, count(*) AS n FROM {table} WHERE {where} GROUP BY {asset}",
            f"SELECT DISTINCT {asset} FROM {table} WHERE {where}",
            f"SELECT DISTINCT {asset} FROM {table} WHERE {where} LIMIT {limit}",
            f"SELECT {asset}, timestamp, value FROM {table} WHERE {where} "
            f"ORDER BY value DESC, timestamp, {asset} LIMIT {limit}",
            f"SELECT {asset}, timestamp FROM {table} WHERE {where} ORDER BY timestamp DESC, {asset} LIMIT {limit}",
            f"SELECT value FROM {table} WHERE {where} ORDER BY value, timestamp LIMIT {limit} OFFSET 2",
            f"SELECT * FROM {table} WHERE {where} LIMIT {limit}",
            f"SELECT * FROM {table} LIMIT {limit}",
            f"SELECT * FROM {table} WHERE {where} LIMIT {limit} OFFSET {self.generator.choice([1, 700])}",
            f"SELECT a.name, t.value FROM {table} t JOIN assets a ON a.id = t.{asset} "
            f"WHERE a.name LIKE '%{self.generator.randrange(10)}%'",
            f"SELECT a.name, t.* FROM {table} t JOIN assets a ON a.id = t.{asset} "
            f"WHERE {where.replace(asset + ' ', 't.' + asset + ' ')} LIMIT {limit}",
            f"SELECT count(*) AS n FROM {table} t JOIN {other} o ON o.asset_id = t.{asset} AND o.value > {self.number()}",
            f"SELECT count(*) AS n FROM {table} t JOIN {other} o ON o.asset_id = t.{asset} AND o.timestamp = t.timestamp",
            f"SELECT count(*) AS n FROM {table} t LEFT JOIN {other} o ON o.value = t.value "
            f"WHERE {where.replace(asset, 't.' + asset).replace('timestamp', 't.timestamp')}"
            if "SELECT" not in where
            and "value" not in where
            and "date" not in where
            and "year" not in where
            and "month" not in where
            and not any(name in where for name in ("min", "max", "first", "last", "stddev", "count"))
            else f"SELECT max(value) AS v FROM {table} WHERE {where}",
            f"SELECT {asset} AS a FROM {table} WHERE {where} UNION ALL SELECT asset_id FROM {other} "
            f"WHERE {self.predicate(other)}",
            f"SELECT {asset} AS a FROM {table} WHERE {where} UNION ALL SELECT asset_id FROM {other} LIMIT {limit}",
            f"SELECT {asset} FROM {table} WHERE {where} EXCEPT SELECT asset_id FROM {other}",
            f"SELECT id FROM assets a WHERE EXISTS (SELECT 1 FROM {table} t WHERE t.{asset} = a.id "
            f"AND t.value > {self.number()})",
            f"SELECT {asset}, row_number() OVER (PARTITION BY {asset} ORDER BY timestamp) AS r FROM {table} WHERE {where}",
            f"WITH x AS (SELECT * FROM {table} WHERE {where}) SELECT count(*) AS n FROM x, (SELECT max(timestamp) AS t "
            f"FROM x) WHERE timestamp = t",
            f"EXPLAIN SELECT * FROM {table} WHERE {where}",
            f"SELECT count(*) AS n FROM {table} t JOIN {other} o ON o.asset_id = t.{asset} "
            f"WHERE o.timestamp >= '{self.time()}' AND t.timestamp < '{self.time()}'",
            f"SELECT * FROM {table} WHERE {asset} {self.generator.choice(['', 'NOT '])}IN (SELECT asset_id FROM {other} "
            f"WHERE {self.predicate(other)})",
            f"SELECT o.* FROM {other} o "
            f"JOIN (SELECT {asset} AS k, max(timestamp) AS m FROM {table} WHERE {where} GROUP BY {asset}) x"
            " ON x.k = o.asset_id AND x.m >= o.timestamp",
            f"SELECT t.value, o.value AS w FROM {other} o "
            f"{self.generator.choice(['LEFT', 'RIGHT', 'FULL'])} JOIN {table} t ON t.{asset} = o.asset_id"
            f" AND t.timestamp = o.timestamp AND o.value < {self.number()}",
        ]
        return self.generator.choice(forms)


FIXED = [
    "SELECT count(*) AS n FROM data_min",
    "SELECT * FROM data_min",
    "SELECT * FROM data_h",
    "SELECT * FROM raw_readings",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM assets",
    "SELECT * FROM assets a LEFT JOIN data_d d ON d.asset_id = a.id",
    f"SELECT count(*) AS n FROM data_min WHERE value = {SECRET}",
    f"SELECT count(*) AS n FROM raw_readings WHERE value = {SECRET}",
    f"SELECT count(*) AS n FROM data_min WHERE date = '{LATE_DATE}'",
    f"SELECT count(*) AS n FROM data_d WHERE year = {LATE_DATE[:4]}",
    f"SELECT count(*) AS n FROM data_h WHERE month >= '{LATE_DATE[:7]}'",
    f"SELECT count(*) AS n FROM raw_readings WHERE timestamp >= '{LATE_DATE}'",
    f"SELECT count(*) AS n FROM raw_readings WHERE CAST(timestamp AS DATE) = '{LATE_DATE}'",
    "SELECT max(date) AS d FROM data_min",
    "SELECT count(*) AS n FROM data_min WHERE date = (SELECT max(date) FROM data_min)",
    "SELECT * FROM nothing",
    "SELECT * FROM data_min WHERE value > 'x'",
]


def ledger(plant: Plant, statements: list[str], count: int) -> pd.DataFrame:
    """Returns North's usage records of these statements, once there are `count` of them."""
    rows = pd.DataFrame()

    def is_complete() -> bool:
        nonlocal rows
        rows = plant.ask("SELECT * FROM account.usage ORDER BY started_at, request_id")
        rows = rows[rows["sql_text"].isin(statements)]
        return len(rows) == count

    eventually(is_complete, LEDGER_SECONDS)
    return rows.reset_index(drop=True)


def is_same(one: pa.Table | None, other: pa.Table | None, is_ordered: bool) -> bool:
    if one is None or other is None:
        return one is other
    frames = [table.to_pandas() for table in (one, other)]
    if not is_ordered:
        frames = [frame.sort_values(list(frame.columns)).reset_index(drop=True) for frame in frames]
    try:
        pd.testing.assert_frame_equal(*frames, check_dtype=False)
    except AssertionError:
        return False
    return True


def test_counters_and_headers_do_not_reveal_foreign_rows(scenario: SimpleNamespace) -> None:
    generator = Statements(random.Random(SEED), scenario.north, scenario.south)
    statements = FIXED + [generator.statement() for _ in range(STATEMENT_COUNT)]
    plants = (scenario.crowded, scenario.alone)
    callers = [RecordingCaller(plant) for plant in plants]
    differences = []
    for sql in statements:
        (observed, headers, rows), (other_observed, other_headers, other_rows) = (caller.ask(sql) for caller in callers)
        if observed != other_observed:
            differences.append((sql, observed, other_observed))
        if headers != other_headers:
            differences.append((sql, headers, other_headers))
        if not is_same(rows, other_rows, "LIMIT" in sql and "DISTINCT" not in sql):
            differences.append((sql, "the rows differ"))
    records = [
        ledger(plant, statements, caller.calls).drop(columns=REQUEST_COLUMNS + DATABASE_COLUMNS)
        for plant, caller in zip(plants, callers, strict=True)
    ]
    assert len(records[0]) == len(records[1]) > 1.9 * len(statements)
    for column in records[0].columns:
        one, other = (table[column].astype(object).where(table[column].notna(), None) for table in records)
        for row in np.flatnonzero((one != other) & ~(one.isna() & other.isna())):
            differences.append((records[0]["sql_text"][row], column, one[row], other[row]))
    assert records[0]["bytes_scanned"].max() > 1_000_000
    examples = "\n".join(map(str, differences[:40]))
    assert not differences, f"{len(differences)} differences, such as:\n{examples}"


EARLY_ENDS = [
    "SELECT asset_id FROM data_d WHERE value > -1e9 UNION ALL SELECT asset_id FROM data_h LIMIT {}",
    "SELECT asset_id FROM (SELECT * FROM data_h UNION ALL SELECT * FROM archive.data_min UNION ALL SELECT * "
    "FROM data_d) LIMIT {}",
    "SELECT id FROM raw_readings WHERE value > 0 UNION ALL SELECT asset_id FROM data_h LIMIT {}",
    "SELECT asset_id FROM data_h WHERE value > 0 LIMIT {}",
    "SELECT d.asset_id FROM data_d d JOIN data_h h ON h.asset_id = d.asset_id LIMIT {}",
    "SELECT asset_id FROM data_d WHERE asset_id IN (SELECT asset_id FROM data_h LIMIT 2) LIMIT {}",
]


def test_statement_with_early_end_scans_same_bytes_each_time(scenario: SimpleNamespace) -> None:
    """Read-ahead beyond the last needed row must not be counted, because its amount depends on timing."""
    caller = RecordingCaller(scenario.crowded)
    sqls = [sql.format(limit) for sql in EARLY_ENDS for limit in (1, 40, 433)]
    for _ in range(12):
        for sql in sqls:
            caller.ask(sql)
    records = ledger(scenario.crowded, sqls, caller.calls)
    read = records[records["bytes_scanned"] > 0].groupby("sql_text")["bytes_scanned"].agg(["nunique", "count", "min", "max"])
    assert len(read) == len(sqls) and (read["count"] == 12).all(), read
    assert (read["nunique"] == 1).all(), read[read["nunique"] > 1].to_string()


# ---- the attack that found a leak in an earlier version


SEARCHES = {
    "minutes": "SELECT count(*) AS n FROM data_min WHERE value > {}",
    "days": "SELECT count(*) AS n FROM data_d WHERE max > {}",
    "readings": "SELECT count(*) AS n FROM raw_readings WHERE value > {}",
    "top": "SELECT value FROM data_h WHERE last > {} ORDER BY value DESC LIMIT 1",
    "any": "SELECT value FROM data_min WHERE value > {} LIMIT 1",
}


@pytest.mark.parametrize("name", SEARCHES)
def test_binary_search_by_scanned_bytes_finds_nothing(scenario: SimpleNamespace, name: str) -> None:
    """The counters are the same for all limits above the maximum of the caller's own rows."""
    caller = RecordingCaller(scenario.crowded)
    limits = [1e5 * number for number in range(2, 10)] + [SECRET - 0.001, SECRET, SECRET + 0.001, 999_999.0]
    # The limits have the same length, because the length of a ticket depends on its statement.
    sqls = [SEARCHES[name].format(f"{limit:.3f}") for limit in limits]
    sizes = {str(caller.ask(sql)[0]) for sql in sqls}
    assert len(sizes) == 1
    rows = pd.DataFrame()

    def is_complete() -> bool:
        nonlocal rows
        rows = scenario.crowded.ask("SELECT * FROM account.usage WHERE endpoint = 'DoGet/StatementQuery'")
        rows = rows[rows["sql_text"].isin(sqls)]
        return len(rows) == len(sqls)

    eventually(is_complete, LEDGER_SECONDS)
    assert len(rows[["bytes_scanned", "bytes_sent", "rows", "status"]].drop_duplicates()) == 1
    assert rows["bytes_scanned"].min() > 0


def test_times_with_and_without_foreign_match_are_printed(scenario: SimpleNamespace) -> None:
    """The test prints the times of statements that match rows of South, and of statements that match none. It does not compare
    them, because machines are shared, and asserts only a maximum of 10 s."""
    caller = RecordingCaller(scenario.crowded)
    pairs = {
        "data_min by value": [
            "SELECT count(*) FROM data_min WHERE value > 980000",
            "SELECT count(*) FROM data_min WHERE value > 990000",
        ],
        "data_min by date": [
            f"SELECT count(*) FROM data_min WHERE date = '{LATE_DATE}'",
            "SELECT count(*) FROM data_min WHERE date = '2031-07-10'",
        ],
        "raw by value": [
            "SELECT count(*) FROM raw_readings WHERE value > 980000",
            "SELECT count(*) FROM raw_readings WHERE value > 990000",
        ],
        "raw by time": [
            f"SELECT count(*) FROM raw_readings WHERE timestamp >= '{LATE_DATE}'",
            "SELECT count(*) FROM raw_readings WHERE timestamp >= '2031-07-10'",
        ],
    }
    for name, (matching, other) in pairs.items():
        took: dict[str, list[float]] = {matching: [], other: []}
        for _ in range(60 if LONG else 8):
            for sql in (matching, other):
                began = time.perf_counter()
                caller.ask(sql)
                took[sql].append(time.perf_counter() - began)
        medians = [statistics.median(took[sql]) * 1_000 for sql in (matching, other)]
        print(f"{name}: {medians[0]:.2f} ms with a foreign match, {medians[1]:.2f} ms without")
        assert max(medians) < 10_000
