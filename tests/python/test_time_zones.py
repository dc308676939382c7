"""Time zones and bound values: the same statements are run by a server and by Postgres, in several zones."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import subprocess
import uuid
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import adbc_driver_manager
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from databases import Postgres, client_program
from harness import OK
from server import Plant

pytestmark = pytest.mark.local_only

A = "a1b2c3d4-e5f6-4890-abcd-ef1234567890"
B = "22222222-0000-4000-8000-00000000000b"
# The zones as plantlake and as Postgres call them: Postgres reads +05:30 as a POSIX zone, west of Greenwich.
ZONES = {
    None: "UTC",
    "Europe/Berlin": "Europe/Berlin",
    "America/New_York": "America/New_York",
    "+05:30": "Asia/Kolkata",
    "Asia/Kolkata": "Asia/Kolkata",
}
# Hours around both changes of the clocks of Berlin and New York, and at the end of a year.
PERIODS = [("2024-03-08T20:00", 60), ("2024-03-29T20:00", 60), ("2024-10-25T20:00", 72), ("2024-11-01T20:00", 72), ("2024-12-30T20:00", 60)]

STATEMENTS = [
    # A text, a local time and a date are compared with the column in the session's zone.
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= '2024-10-27T00:00:00'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= '2024-10-27 00:00'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= '2024-10-27'",
    "SELECT count(*) AS n FROM data_h WHERE '2024-10-27' <= timestamp",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= '2024-10-27T00:00:00Z'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= '2024-10-27 00:00+02'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= '2024-10-27 00:00 America/New_York'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= TIMESTAMP '2024-10-27 00:00:00'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= TIMESTAMPTZ '2024-10-27 00:00:00'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= TIMESTAMP WITH TIME ZONE '2024-10-27 00:00:00'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= '2024-10-27 00:00'::timestamptz",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= CAST('2024-10-27' AS TIMESTAMP)",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= DATE '2024-10-27'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp > DATE '2024-10-27' - 1 AND timestamp < DATE '2024-10-27' + 1",
    "SELECT count(*) AS n FROM data_h WHERE timestamp BETWEEN '2024-10-27' AND '2024-10-28'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp BETWEEN TIMESTAMP '2024-10-27' AND '2024-10-28'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp NOT BETWEEN '2024-10-27' AND DATE '2024-10-28'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp IN ('2024-10-27T00:00:00', '2024-10-27T05:00:00', '2024-10-27T06:30')",
    "SELECT count(*) AS n FROM data_h WHERE timestamp IN (TIMESTAMP '2024-10-27T00:00:00', TIMESTAMP '2024-10-27T05:00:00')",
    "SELECT count(*) AS n FROM data_h WHERE timestamp = ANY(ARRAY[TIMESTAMPTZ '2024-10-27 00:00', TIMESTAMPTZ '2024-10-27 05:00'])",
    "SELECT count(*) AS n FROM data_h h JOIN (VALUES (TIMESTAMP '2024-10-27 05:00:00')) v(t) ON h.timestamp = v.t",
    "SELECT count(*) AS n FROM data_h h JOIN (VALUES (TIMESTAMP '2024-10-27 05:00:00')) v(t) ON h.timestamp > v.t",
    "SELECT count(*) AS n FROM (SELECT timestamp FROM data_h UNION ALL SELECT TIMESTAMP '2024-10-27 05:00:00') x"
    " WHERE timestamp = TIMESTAMPTZ '2024-10-27 05:00:00'",
    "SELECT coalesce(NULL, timestamp) = TIMESTAMP '2024-10-27 05:00:00' AS x, count(*) AS n FROM data_h GROUP BY 1 ORDER BY 1",
    "SELECT count(*) AS n FROM data_h WHERE CASE WHEN value > 5 THEN timestamp ELSE TIMESTAMP '2024-10-27' END >= '2024-10-27'",
    # Times that a zone has twice, or not at all.
    "SELECT TIMESTAMPTZ '2024-10-27 02:30:00' AS a, TIMESTAMPTZ '2024-03-31 02:30:00' AS b, TIMESTAMPTZ '2024-03-31 03:00' AS c",
    "SELECT TIMESTAMPTZ '2024-11-03 01:30:00' AS a, TIMESTAMPTZ '2024-03-10 02:30:00' AS b",
    "SELECT (TIMESTAMP '2024-10-27 02:30:00')::timestamptz AS a, (TIMESTAMP '2024-03-31 02:30:00')::timestamptz AS b",
    "SELECT t::timestamptz AS t FROM (VALUES (TIMESTAMP '2024-10-27 02:30:00'), (TIMESTAMP '2024-03-31 02:30:00')) v(t) ORDER BY 1",
    "SELECT t::timestamptz AS t FROM (VALUES ('2024-10-27 02:30:00'), ('2024-03-31T02:30:00'), ('2024-03-31T02:30:00Z')) v(t) ORDER BY 1",
    # Instants outside the range of nanoseconds.
    "SELECT count(*) AS n FROM data_h WHERE timestamp < '9999-12-31'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp > '1066-10-14' AND timestamp < TIMESTAMP '3000-01-01'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp BETWEEN '0001-01-01' AND '9999-12-31 23:59'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp IN ('9999-12-31', '2024-10-27T00:00:00')",
    "SELECT TIMESTAMP '9999-12-31 23:59:59.999999' AS a, DATE '9999-12-31' AS b, TIMESTAMPTZ '9999-12-30' AS c",
    "SELECT TIMESTAMP(3) '2024-01-01 00:00:00.1239' AS a, '2024-01-01 00:00:00.5'::timestamp(0) AS b, TIMESTAMP(6) '2024-01-01 00:00:00.123456' AS c",
    "SELECT TIMESTAMP(3) WITH TIME ZONE '2024-01-01 00:00:00.25' AS a, '2024-01-01 10:00'::timestamptz(0) AS b",
    # Local times and days of instants.
    "SELECT DISTINCT timestamp::date AS d FROM data_h ORDER BY 1",
    "SELECT CAST(timestamp AS DATE) AS d, count(*) AS n, min(timestamp) AS t FROM data_h GROUP BY 1 ORDER BY 1",
    "SELECT count(*) AS n FROM data_h WHERE timestamp::date = '2024-10-27'",
    "SELECT count(*) AS n FROM data_h WHERE timestamp::date BETWEEN DATE '2024-10-27' AND '2024-10-27'",
    "SELECT DISTINCT timestamp::time AS t FROM data_h ORDER BY 1",
    "SELECT count(*) AS n FROM data_h WHERE timestamp::time >= TIME '22:00' AND timestamp::time < '23:30:00'",
    "SELECT timestamp::timestamp AS t FROM data_h ORDER BY timestamp",
    "SELECT count(*) AS n FROM data_h WHERE timestamp::timestamp >= TIMESTAMP '2024-10-27 00:00:00'",
    "SELECT date_trunc('day', timestamp) AS d, count(*) AS n, sum(value) AS v FROM data_h GROUP BY 1 ORDER BY 1",
    *[f"SELECT DISTINCT date_trunc('{unit}', timestamp) AS d FROM data_h ORDER BY 1" for unit in ("minute", "hour", "week", "month", "quarter", "year")],
    "SELECT DISTINCT date_trunc('day', timestamp)::date AS d FROM data_h ORDER BY 1",
    "SELECT count(*) AS n FROM data_h WHERE date_trunc('day', timestamp) = '2024-10-27'",
    "SELECT date_trunc('day', TIMESTAMP '2024-10-27 12:00:00') AS d",
    "SELECT extract(hour FROM timestamp) AS h, count(*) AS n FROM data_h GROUP BY 1 ORDER BY 1",
    *[
        f"SELECT DISTINCT date_part('{part}', timestamp) AS x FROM data_h ORDER BY 1"
        for part in ("year", "month", "day", "hour", "minute", "dow", "doy", "week", "quarter", "epoch")
    ],
    "SELECT count(*) AS n FROM data_h WHERE extract(year FROM timestamp) = 2025",
    "SELECT count(*) AS n FROM data_h WHERE date_part('day', timestamp) = 27 AND date_part('hour', timestamp) = 2",
    "SELECT extract(hour FROM TIMESTAMP '2024-10-27 12:00:00') AS h, extract(year FROM DATE '2024-10-27') AS y",
    ("SELECT to_char(timestamp, '%Y-%m-%d %H:%M') AS t FROM data_h ORDER BY 1", "SELECT to_char(timestamp, 'YYYY-MM-DD HH24:MI') AS t FROM data_h ORDER BY 1"),
    ("SELECT to_char(TIMESTAMP '2024-10-27 12:00:00', '%H') AS t", "SELECT to_char(TIMESTAMP '2024-10-27 12:00:00', 'HH24') AS t"),
    "SELECT date_bin(INTERVAL '6 hours', timestamp, TIMESTAMP '2001-01-01') AS d, count(*) AS n FROM data_h GROUP BY 1 ORDER BY 1",
    "SELECT date_bin(INTERVAL '1 day', timestamp, TIMESTAMPTZ '2001-01-01') AS d, count(*) AS n FROM data_h GROUP BY 1 ORDER BY 1",
    (
        "SELECT date_bin(INTERVAL '1 day', timestamp) AS d, count(*) AS n FROM data_h GROUP BY 1 ORDER BY 1",
        "SELECT date_bin(INTERVAL '1 day', timestamp, TIMESTAMPTZ '1970-01-01Z') AS d, count(*) AS n FROM data_h GROUP BY 1 ORDER BY 1",
    ),
    # AT TIME ZONE, both ways.
    "SELECT timestamp AT TIME ZONE 'America/Denver' AS x FROM data_h ORDER BY timestamp",
    "SELECT (timestamp AT TIME ZONE 'America/Denver')::date AS x, count(*) AS n FROM data_h GROUP BY 1 ORDER BY 1",
    "SELECT TIMESTAMP '2024-10-27 05:00:00' AT TIME ZONE 'America/Denver' AS x, TIMESTAMP '2024-11-03 01:30' AT TIME ZONE 'America/Denver' AS y",
    "SELECT timestamp AT TIME ZONE 'UTC' AS x FROM data_h ORDER BY timestamp LIMIT 3",
    "SELECT timestamp AT TIME ZONE 'UTC' AT TIME ZONE 'Asia/Tokyo' AS x FROM data_h ORDER BY timestamp LIMIT 3",
    "SELECT timestamp::timestamp AT TIME ZONE 'Asia/Tokyo' AS x FROM data_h ORDER BY timestamp",
    "SELECT DATE '2024-10-27' AT TIME ZONE 'America/Denver' AS x",
    "SELECT date_trunc('day', timestamp AT TIME ZONE 'America/Denver') AS x, count(*) AS n FROM data_h GROUP BY 1 ORDER BY 1",
    "SELECT extract(hour FROM timestamp AT TIME ZONE 'Asia/Tokyo') AS x, count(*) AS n FROM data_h GROUP BY 1 ORDER BY 1",
    "SELECT TIMESTAMP '2024-10-27 05:00:00' AT TIME ZONE z AS x FROM (VALUES ('UTC'), ('Asia/Tokyo'), ('Asia/Tokyo'), (NULL)) v(z) ORDER BY 1",
    "SELECT timezone('Asia/Tokyo', TIMESTAMP '2024-10-27 05:00:00') AS x",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= TIMESTAMP '2024-10-27' AT TIME ZONE 'Asia/Tokyo'",
    # Intervals: days and months are those of the session's zone.
    "SELECT timestamp + INTERVAL '1 day' AS x FROM data_h ORDER BY timestamp",
    "SELECT timestamp - INTERVAL '1 month 1 hour' AS x FROM data_h ORDER BY timestamp",
    "SELECT INTERVAL '36 hours' + timestamp AS x FROM data_h ORDER BY timestamp",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= TIMESTAMPTZ '2024-10-28' - INTERVAL '1 day'",
    "SELECT TIMESTAMPTZ '2024-03-30 02:30' + INTERVAL '1 day' AS a, TIMESTAMPTZ '2024-10-26 02:30' + INTERVAL '1 day' AS b",
    "SELECT extract(epoch FROM timestamp - TIMESTAMP '2024-10-27 00:00:00') AS d FROM data_h ORDER BY timestamp DESC LIMIT 1",
    "SELECT extract(epoch FROM timestamp - DATE '2024-10-27') AS d FROM data_h ORDER BY timestamp DESC LIMIT 1",
    "SELECT count(*) AS n FROM data_h WHERE TIMESTAMPTZ '2024-11-01' - timestamp > INTERVAL '2 days'",
    "SELECT count(*) AS n FROM data_h WHERE TIMESTAMPTZ '2024-11-01' - timestamp BETWEEN INTERVAL '1 day' AND INTERVAL '100 hours'",
    "SELECT INTERVAL '1 day' > INTERVAL '30 hours' AS a, INTERVAL '1 month' = INTERVAL '30 days' AS b, INTERVAL '24 hours' IN (INTERVAL '1 day') AS c",
    "SELECT x FROM (VALUES (1, INTERVAL '1 day'), (2, INTERVAL '30 hours'), (3, INTERVAL '1 hour'), (4, INTERVAL '1 month')) v(x, i) ORDER BY i",
    "SELECT TIMESTAMP '2024-01-01' + INTERVAL '1 day' * 2 AS a, TIMESTAMP '2024-01-01' + 3 * INTERVAL '1 month' AS b,"
    " TIMESTAMP '2024-01-01' + INTERVAL '1 day' / 2 AS c, TIMESTAMP '2024-01-01' + INTERVAL '1 month 1 day' * 1.5 AS d,"
    " TIMESTAMP '2024-01-01' - INTERVAL '7 hours' * (0.5 * 3) AS e, TIMESTAMP '2024-01-01' + INTERVAL '5 months 10 days' / 7 AS f",
    "SELECT timestamp + INTERVAL '1 hour' * count AS x FROM data_h ORDER BY timestamp LIMIT 3",
    "SELECT timestamp + (TIMESTAMP '2024-01-02' - TIMESTAMP '2024-01-01') * 2 AS x FROM data_h ORDER BY timestamp LIMIT 3",
    # to_timestamp of numbers, and the current day.
    "SELECT to_timestamp(1729987200) AS a, to_timestamp(1729987200.5) AS b, to_timestamp(253370764800) AS c",
    "SELECT count(*) AS n FROM data_h WHERE timestamp >= to_timestamp(1729987200)",
    "SELECT current_date = now()::date AS a, now() < '9999-12-31' AS b, current_timestamp - now() = INTERVAL '0' AS c",
    (
        "SELECT to_timestamp(x) AS t FROM (VALUES ('2024-10-27T05:00:00'), ('2024-10-27T06:00:00Z'), ('2024-10-27 02:30'), (NULL)) v(x) ORDER BY 1",
        "SELECT x::timestamptz AS t FROM (VALUES ('2024-10-27T05:00:00'), ('2024-10-27T06:00:00Z'), ('2024-10-27 02:30'), (NULL)) v(x) ORDER BY 1",
    ),
    (
        "SELECT to_timestamp(concat(CAST(date_trunc('day', timestamp) AS VARCHAR))) AS t FROM data_h ORDER BY 1",
        "SELECT date_trunc('day', timestamp) AS t FROM data_h ORDER BY 1",
    ),
    (
        "SELECT to_timestamp_millis(concat(x)) AS t FROM (VALUES ('2024-10-27T05:00:00')) v(x)",
        "SELECT x::timestamptz AS t FROM (VALUES ('2024-10-27T05:00:00')) v(x)",
    ),
    (
        "SELECT to_timestamp(concat(x), '%d.%m.%Y %H:%M') AS t FROM (VALUES ('27.10.2024 05:00')) v(x)",
        "SELECT to_timestamp(x, 'DD.MM.YYYY HH24:MI') AS t FROM (VALUES ('27.10.2024 05:00')) v(x)",
    ),
    # Times of day.
    "SELECT TIME '10:00' AS a, TIME '10:00:00.25' AS b, CAST('10:00:00' AS TIME) = TIME(6) '10:00:00' AS c, TIME(0) '10:00:00' < '10:00:01' AS d, TIME(3) '10:00:00.125' AS e",
]

# Statements with parameters, and the same with literals for Postgres.
NOON = dt.datetime(2024, 10, 27, 12)
COUNT = "SELECT count(*) AS n FROM data_h WHERE"
BOUND = [
    (f"{COUNT} timestamp >= ?", [NOON], f"{COUNT} timestamp >= TIMESTAMP '2024-10-27 12:00'"),
    (f"{COUNT} timestamp >= ?", ["2024-10-27T12:00:00"], f"{COUNT} timestamp >= '2024-10-27 12:00'"),
    (f"{COUNT} timestamp >= ?", ["2024-10-27T12:00"], f"{COUNT} timestamp >= '2024-10-27 12:00'"),
    (f"{COUNT} timestamp >= ?", ["2024-10-27"], f"{COUNT} timestamp >= '2024-10-27'"),
    (f"{COUNT} timestamp < ?", ["9999-12-31"], f"{COUNT} timestamp < '9999-12-31'"),
    (f"{COUNT} timestamp < ?", [dt.datetime(9999, 12, 31)], f"{COUNT} timestamp < '9999-12-31'"),
    (f"{COUNT} timestamp < ?", [dt.date(9999, 12, 31)], f"{COUNT} timestamp < '9999-12-31'"),
    (f"{COUNT} timestamp >= ?", [dt.date(2024, 10, 27)], f"{COUNT} timestamp >= DATE '2024-10-27'"),
    (f"{COUNT} timestamp >= ?", [NOON.replace(tzinfo=dt.UTC)], f"{COUNT} timestamp >= '2024-10-27 12:00Z'"),
    (f"{COUNT} timestamp >= ?", [NOON.replace(tzinfo=ZoneInfo("Europe/Berlin"))], f"{COUNT} timestamp >= '2024-10-27 11:00Z'"),
    (f"{COUNT} timestamp >= ?", [pd.Timestamp("2024-10-27 12:00", tz="Asia/Tokyo")], f"{COUNT} timestamp >= '2024-10-27 03:00Z'"),
    (f"{COUNT} timestamp >= ?", [pa.scalar(NOON, pa.timestamp("ns"))], f"{COUNT} timestamp >= TIMESTAMP '2024-10-27 12:00'"),
    (f"{COUNT} timestamp >= ?", [pa.scalar(NOON, pa.timestamp("s"))], f"{COUNT} timestamp >= TIMESTAMP '2024-10-27 12:00'"),
    (f"{COUNT} timestamp BETWEEN ? AND ?", ["2024-10-27", NOON], f"{COUNT} timestamp BETWEEN '2024-10-27' AND '2024-10-27 12:00'"),
    (f"{COUNT} timestamp IN (?, ?)", [NOON, "2024-10-27"], f"{COUNT} timestamp IN ('2024-10-27 12:00', '2024-10-27')"),
    (f"{COUNT} timestamp > ?", [None], f"{COUNT} timestamp > NULL"),
    (f"{COUNT} timestamp::date = ?", [dt.date(2024, 10, 27)], f"{COUNT} timestamp::date = '2024-10-27'"),
    (f"{COUNT} timestamp::date = ?", ["2024-10-27"], f"{COUNT} timestamp::date = '2024-10-27'"),
    (f"{COUNT} timestamp::time >= ?", [dt.time(22)], f"{COUNT} timestamp::time >= '22:00'"),
    (f"{COUNT} timestamp::time >= ?", ["22:00:00"], f"{COUNT} timestamp::time >= '22:00'"),
    (f"{COUNT} timestamp >= TIMESTAMP '2024-10-28' - ?", [dt.timedelta(hours=24)], f"{COUNT} timestamp >= TIMESTAMP '2024-10-28' - INTERVAL '24 hours'"),
    (f"{COUNT} timestamp + ? >= '2024-10-28'", [dt.timedelta(hours=24)], f"{COUNT} timestamp + INTERVAL '24 hours' >= '2024-10-28'"),
    (f"{COUNT} TIMESTAMPTZ '2024-11-01' - timestamp > ?", [dt.timedelta(days=2)], f"{COUNT} TIMESTAMPTZ '2024-11-01' - timestamp > INTERVAL '48 hours'"),
    (f"{COUNT} timestamp >= TIMESTAMP '2024-10-28' - CAST(? AS INTERVAL)", ["1 day"], f"{COUNT} timestamp >= TIMESTAMP '2024-10-28' - INTERVAL '1 day'"),
    (f"{COUNT} timestamp >= TIMESTAMP '2024-10-28' - CAST(? AS INTERVAL)", [dt.timedelta(days=1)], f"{COUNT} timestamp >= TIMESTAMP '2024-10-28' - INTERVAL '1 day'"),
    ("SELECT count(DISTINCT date_bin(?, timestamp)) AS n FROM data_h", [dt.timedelta(hours=6)], "SELECT count(DISTINCT date_bin(INTERVAL '6 hours', timestamp, TIMESTAMPTZ '1970-01-01Z')) AS n FROM data_h"),
    ("SELECT count(DISTINCT date_trunc(?, timestamp)) AS n FROM data_h", ["day"], "SELECT count(DISTINCT date_trunc('day', timestamp)) AS n FROM data_h"),
    ("SELECT TIMESTAMP '2024-10-27 05:00' AT TIME ZONE ? AS x", ["Asia/Tokyo"], "SELECT TIMESTAMP '2024-10-27 05:00' AT TIME ZONE 'Asia/Tokyo' AS x"),
    (f"{COUNT} timestamp >= to_timestamp(?)", [1729987200], f"{COUNT} timestamp >= to_timestamp(1729987200)"),
    (f"{COUNT} value > ?", [decimal.Decimal("25.5")], f"{COUNT} value > 25.5"),
    (f"{COUNT} value > ?", [np.float32(25.5)], f"{COUNT} value > 25.5"),
    (f"{COUNT} value > ?", [np.int64(25)], f"{COUNT} value > 25"),
    (f"{COUNT} value > ?", ["25.5"], f"{COUNT} value > 25.5"),
    (f"{COUNT} value < ?", [float("inf")], f"{COUNT} value < 'inf'"),
    (f"{COUNT} asset_id = ?", [A], f"{COUNT} asset_id = '{A}'"),
    (f"{COUNT} asset_id = ?", [None], f"{COUNT} asset_id = NULL"),
    *[
        (f"{COUNT} asset_id = ?", [spelling], f"{COUNT} asset_id = '{A}'")
        for spelling in (uuid.UUID(A), uuid.UUID(A).bytes, A.encode(), A.upper(), A.replace("-", ""), f"{{{A}}}", uuid.UUID(A).urn, A.upper().encode())
    ],
    (f"{COUNT} ? = asset_id", [uuid.UUID(A)], f"{COUNT} asset_id = '{A}'"),
    (f"{COUNT} asset_id <> ?", [uuid.UUID(A)], f"{COUNT} asset_id <> '{A}'"),
    (f"{COUNT} asset_id IN (?, ?)", [uuid.UUID(A), B.upper()], COUNT + " true"),
    (f"{COUNT} asset_id = ANY(?)", [[A.upper()]], f"{COUNT} asset_id = '{A}'"),
    (f"{COUNT} asset_id = ANY(?)", [[A.upper()]], f"{COUNT} asset_id = '{A}'"),
]

# Values that no conversion fits, and what the error says.
REFUSED = [
    (f"{COUNT} timestamp >= ?", [1729987200], r"parameter \$1.*number.*timestamp.*to_timestamp\(\$1\)"),
    (f"{COUNT} value > 0 AND timestamp >= ?", [1.5], r"parameter \$1.*to_timestamp"),
    (f"{COUNT} asset_id = ?", [b"\xff\xfe"], r"parameter \$1.*binary.*16 bytes of a UUID"),
    (f"{COUNT} asset_id = ?", [[A]], r"parameter \$1.*list.*= ANY\(\$1\)"),
    (f"{COUNT} value > ? AND asset_id = ?", [1.0, NOON], r"parameter \$2.*timestamp.*text"),
    (f"{COUNT} value > ?", [True], r"parameter \$1.*boolean.*number"),
    (f"{COUNT} timestamp >= ?", [True], r"parameter \$1.*boolean.*timestamp"),
    (f"{COUNT} timestamp >= ?", ["last week"], r"(?i)timestamp"),
]


class ZonePlant(Plant):
    """A server on hourly readings around changes of the clocks, of two assets."""

    def fill(self) -> "ZonePlant":
        catalog = self.lake.folder / "catalog"
        catalog.mkdir(parents=True, exist_ok=True)
        assets = [{"id": id, "name": f"TT-{at}", "type": "temperature sensor", "specifications": {}} for at, id in enumerate((A, B))]
        (catalog / "assets.json").write_text(json.dumps(assets))
        hours = [pd.Timestamp(start, tz="UTC") + pd.Timedelta(hours=at) for start, count in PERIODS for at in range(count)]
        rows = [(id, hour, float(at % 50)) for at, hour in enumerate(hours) for id in (A, B)]
        table = pa.table(
            {
                "id": [row[0] for row in rows],
                "timestamp": pa.array([row[1] for row in rows], pa.timestamp("us", "UTC")),
                "value": [row[2] for row in rows],
            }
        )
        sink = io.BytesIO()
        pq.write_table(table, sink)
        self.lake.put("readings.parquet", sink.getvalue())
        self.lake.resample().expect(OK)
        self.tenant("Everything", ["--all"])
        self.rows = rows
        return self

    def in_zone(self, zone: str | None, sql: str, parameters: list | None = None) -> pa.Table:
        """Runs a query in a session with this zone."""
        with self.with_key("Everything") as connection, connection.cursor() as cursor:
            cursor.execute(f"SET TIME ZONE '{zone or 'UTC'}'")
            cursor.execute(sql, parameters)
            return cursor.fetch_arrow_table()


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZonePlant]:
    plant = ZonePlant(tmp_path_factory.mktemp("zones")).fill()
    plant.serve()
    yield plant
    assert plant.stop() == OK


@pytest.fixture(scope="module")
def postgres(plant: ZonePlant) -> Iterator[str]:
    """The URL of a Postgres with the same table."""
    server = Postgres()
    values = ", ".join(f"('{id}', '{time.isoformat()}', {value}, 1)" for id, time, value in plant.rows)
    run_psql(
        server.url,
        [f"CREATE TABLE data_h AS SELECT * FROM (VALUES {values}) v(asset_id, t, value, count)", "ALTER TABLE data_h RENAME t TO timestamp"]
        + ["ALTER TABLE data_h ALTER timestamp TYPE timestamptz USING timestamp::timestamptz"],
    )
    yield server.url
    server.stop()


def run_psql(url: str, statements: list[str]) -> list[str]:
    """Runs statements in one session, and returns the lines of their results."""
    command = [client_program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", "-"]
    done = subprocess.run(command, input=";\n".join(statements) + ";\n", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def expected_rows(url: str, zone: str, statements: list[str]) -> list[list[dict]]:
    """Returns what Postgres answers to each statement."""
    wrapped = [f"SELECT coalesce(json_agg(q), '[]')::jsonb::text FROM ({sql}) q" for sql in statements]
    lines = run_psql(url, [f"SET TIME ZONE '{zone}'", *wrapped])
    assert len(lines) == len(statements)
    return [json.loads(line) for line in lines]


def comparable(value: object) -> object:
    """Returns a value in a form that is the same for equal values of both systems."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float, decimal.Decimal)):
        return round(float(value), 6)
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        value = value.isoformat()
    for kind in (dt.datetime, dt.time):
        try:
            parsed = kind.fromisoformat(str(value))
        except ValueError:
            continue
        # A date stays one.
        if kind is dt.datetime and len(str(value)) == 10:
            return str(value)
        aware = getattr(parsed, "tzinfo", None) is not None
        return (parsed.astimezone(dt.UTC) if aware else parsed).isoformat()
    return value


def rows_of(table: pa.Table) -> list[list]:
    return [[comparable(value) for value in row.values()] for row in table.to_pylist()]


@pytest.mark.parametrize("zone", ZONES)
def test_statements_answer_as_postgres_in_a_zone(plant: ZonePlant, postgres: str, zone: str | None) -> None:
    pairs = [(sql, sql) if isinstance(sql, str) else sql for sql in STATEMENTS]
    wanted = expected_rows(postgres, ZONES[zone], [theirs for _, theirs in pairs])
    wrong = []
    with plant.with_key("Everything") as connection, connection.cursor() as cursor:
        cursor.execute(f"SET TIME ZONE '{zone or 'UTC'}'")
        for (ours, _), rows in zip(pairs, wanted, strict=True):
            try:
                cursor.execute(ours)
                table = cursor.fetch_arrow_table()
                # The order of the columns is lost in JSON.
                actual = [[row[name] for name in sorted(row)] for row in table.to_pylist()]
                actual = [[comparable(value) for value in row] for row in actual]
            except adbc_driver_manager.Error as error:
                actual = str(error)
            expected = [[comparable(row[name]) for name in sorted(row)] for row in rows]
            if actual != expected:
                wrong.append(f"{ours}\n  got      {str(actual)[:300]}\n  expected {str(expected)[:300]}")
    assert not wrong, f"{len(wrong)} of {len(pairs)} in {zone}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("zone", [None, "Europe/Berlin", "+05:30"])
def test_bound_values_mean_what_they_mean_in_postgres(plant: ZonePlant, postgres: str, zone: str | None) -> None:
    wanted = expected_rows(postgres, ZONES[zone], [theirs for _, _, theirs in BOUND])
    wrong = []
    for (sql, parameters, _), rows in zip(BOUND, wanted, strict=True):
        try:
            actual = rows_of(plant.in_zone(zone, sql, parameters))
        except (adbc_driver_manager.Error, pa.ArrowException, TypeError, ValueError) as error:
            actual = f"{type(error).__name__}: {error}"
        expected = [[comparable(value) for value in row.values()] for row in rows]
        if actual != expected:
            wrong.append(f"{sql} {parameters}\n  got      {str(actual)[:300]}\n  expected {expected}")
    assert not wrong, f"{len(wrong)} of {len(BOUND)} in {zone}:\n" + "\n".join(wrong)


@pytest.mark.parametrize(("sql", "parameters", "says"), REFUSED)
def test_values_of_a_wrong_type_are_refused_by_name(plant: ZonePlant, sql: str, parameters: list, says: str) -> None:
    with pytest.raises(adbc_driver_manager.Error, match=f"(?s){says}"):
        plant.in_zone(None, sql, parameters)


SPELLINGS = [A, A.upper(), A.replace("-", ""), f"{{{A}}}", f"urn:uuid:{A}", A.replace("-", "").upper()]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_ids_in_any_spelling_find_their_asset(plant: ZonePlant, spelling: str) -> None:
    expected = len(plant.rows) // 2
    for sql in (
        f"SELECT count(*) FROM data_h WHERE asset_id = '{spelling}'",
        f"SELECT count(*) FROM data_h WHERE '{spelling}' = asset_id",
        f"SELECT count(*) FROM data_h WHERE asset_id IN ('{spelling}', 'x')",
        f"SELECT count(*) FROM data_h d JOIN assets a ON a.id = d.asset_id WHERE a.id = '{spelling}'",
        f"SELECT count(*) FROM data_h d JOIN assets a ON a.id = d.asset_id AND d.asset_id = '{spelling}'",
        f"SELECT count(*) FROM (SELECT asset_id AS sensor, timestamp FROM data_h ORDER BY 2) x WHERE sensor = '{spelling}'",
        f"WITH t AS (SELECT asset_id, timestamp FROM data_h UNION ALL SELECT asset_id, timestamp FROM archive.data_h) SELECT count(*) FROM t WHERE asset_id = '{spelling}'",
        f"SELECT sum(n) FROM (SELECT asset_id, count(*) AS n FROM data_h GROUP BY 1) x WHERE asset_id = '{spelling}'",
        f"SELECT count(*) FROM data_h WHERE asset_id = ANY(ARRAY['{spelling}'])",
        f"SELECT sum(CASE WHEN asset_id = '{spelling}' THEN 1 ELSE 0 END) FROM data_h",
    ):
        assert plant.ask(sql, "Everything").iloc[0, 0] == expected, sql


def test_texts_that_are_no_ids_are_compared_as_they_are(plant: ZonePlant) -> None:
    upper = A.upper()
    sql = f"SELECT count(*) FROM (VALUES ('{upper}'), ('{A}')) v(id) WHERE id = '{upper}'"
    assert plant.ask(sql, "Everything").iloc[0, 0] == 1


def test_table_functions_take_uuids_and_whole_numbers(plant: ZonePlant) -> None:
    assert plant.in_zone(None, "SELECT count(*) AS n FROM neighbours(?, ?)", [uuid.UUID(A), 2.0]).column("n")[0].as_py() >= 0
    with pytest.raises(adbc_driver_manager.Error, match="argument 2 must be a whole number"):
        plant.in_zone(None, "SELECT * FROM neighbours(?, ?)", [A, 2.5])


def test_unknown_zone_is_refused_by_name(plant: ZonePlant) -> None:
    with pytest.raises(adbc_driver_manager.Error, match="invalid time zone.*Mars/Phobos.*Europe/Berlin"):
        plant.in_zone(None, "SELECT timestamp AT TIME ZONE 'Mars/Phobos' AS x FROM data_h")
    with pytest.raises(adbc_driver_manager.Error, match="AT TIME ZONE applies to a timestamp"):
        plant.in_zone(None, "SELECT value AT TIME ZONE 'UTC' AS x FROM data_h")


def test_query_shows_local_times_without_a_false_z(plant: ZonePlant) -> None:
    sql = "SELECT TIMESTAMPTZ '2024-10-27 05:00Z' AT TIME ZONE 'America/Denver' AS local, TIMESTAMPTZ '2024-10-27 05:00Z' AS utc"
    assert plant.run("query", sql).expect(OK).text.splitlines()[-1].split() == ["2024-10-26T23:00:00", "2024-10-27T05:00:00Z"]
    labelled = """SELECT arrow_cast(TIMESTAMPTZ '2024-10-27 05:00Z', 'Timestamp(Microsecond, Some("America/Denver"))') AS x"""
    assert plant.run("query", labelled).expect(OK).text.splitlines()[-1].split() == ["2024-10-26T23:00:00-06:00"]
