"""Compares the answers of two engines: rows in any order or in order, doubles with a tolerance where they are sums."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa

from harness import Lake
from reference import RESOLUTIONS

TOLERANCE = 1e-9  # relative, and absolute for sums near zero
PARTITION_TYPES = {"data_min": "{'date': DATE}", "data_h": "{'month': VARCHAR}", "data_d": "{'year': INTEGER}"}
Row = tuple


class SecondOpinion:
    """DuckDB with the same rows: the live files of the Delta tables, the raw files, and the catalog.

    Its settings and macros give DuckDB the meaning that plantlake documents, so that both read the same text.
    """

    def __init__(self, lake: Lake, raw: Path, assets: pa.Table, edges: pa.Table) -> None:
        self.connection = duckdb.connect()
        run = self.connection.execute
        run("SET TimeZone = 'UTC'")
        run("SET integer_division = true")
        run("SET default_null_order = 'NULLS_LAST_ON_ASC_FIRST_ON_DESC'")
        run("CREATE MACRO date_bin(width, instant) AS time_bucket(width, instant, TIMESTAMPTZ '1970-01-01 00:00:00+00')")
        for name in RESOLUTIONS:
            files = lake.delta(name).file_uris()
            source = f"read_parquet(?, hive_partitioning = true, hive_types = {PARTITION_TYPES[name]})"
            run(f"CREATE TABLE {name} AS SELECT * FROM {source}", [files])
        files = [str(path) for path in sorted(raw.rglob("*.parquet"))]
        columns = "CAST(id AS VARCHAR) AS id, CAST(timestamp AS TIMESTAMPTZ) AS timestamp, CAST(value AS DOUBLE) AS value"
        run(f"CREATE TABLE raw_readings AS SELECT {columns} FROM read_parquet(?, union_by_name = true)", [files])
        for name, table in (("assets", assets), ("asset_edges", edges)):
            self.connection.register("given", table)
            run(f"CREATE TABLE {name} AS SELECT * FROM given")
            self.connection.unregister("given")

    def rows(self, sql: str) -> list[Row]:
        """Returns the rows. Raises `duckdb.Error`."""
        return rows_of(self.connection.sql(sql).to_arrow_table())


def rows_of(table: pa.Table) -> list[Row]:
    """Returns the rows of an answer in comparable form, whatever the names of its columns."""
    columns = [[plain(value) for value in column_values(column)] for column in table.columns]
    return list(zip(*columns)) if columns else []


def column_values(column: pa.ChunkedArray) -> list:
    if pa.types.is_timestamp(column.type):
        # Microseconds for every unit: Python has no nanoseconds.
        return column.cast(pa.timestamp("us", column.type.tz), safe=False).to_pylist()
    return column.to_pylist()


def plain(value: object) -> object:
    """Returns a value in a form that is equal in both engines: numbers, texts, days and instants."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat() if value.tzinfo else f"{value.isoformat()} without a zone"
    if isinstance(value, dt.date):
        return f"day {value.isoformat()}"
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return value


def is_close(one: object, two: object) -> bool:
    if isinstance(one, (int, float)) and isinstance(two, (int, float)):
        return one == two or math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return one == two


def is_same_row(one: Row, two: Row) -> bool:
    return len(one) == len(two) and all(map(is_close, one, two))


def sort_key(row: Row) -> tuple:
    # Doubles come last, and rounded, so that a difference in the last digits seldom changes the order.
    exact = tuple((value is None, type(value).__name__, value) for value in row if not isinstance(value, (int, float)) or value is None)
    numbers = tuple(float(f"{value:.7g}") for value in row if isinstance(value, (int, float)))
    return tuple(str(each) for each in exact), numbers


def difference(one: list[Row], two: list[Row], is_ordered: bool) -> str | None:
    """Returns the first difference of two answers as a text, or nothing if they are the same."""
    if len(one) != len(two):
        return f"{len(one)} rows and {len(two)} rows; only one has {unmatched(one, two)}"
    if is_ordered:
        pairs = zip(one, two)
        return next((f"row {at}: {a} and {b}" for at, (a, b) in enumerate(pairs) if not is_same_row(a, b)), None)
    # Rows that differ in the last digits of a double may be sorted differently: each is searched among all others.
    left, right = sorted(one, key=sort_key), sorted(two, key=sort_key)
    wrong = [at for at, (a, b) in enumerate(zip(left, right)) if not is_same_row(a, b)]
    remaining = [right[at] for at in wrong]
    for at in wrong:
        match = next((number for number, row in enumerate(remaining) if is_same_row(left[at], row)), None)
        if match is None:
            return f"{len(wrong)} of {len(one)} rows differ: {left[at]} and {right[at]}"
        remaining.pop(match)
    return None


def unmatched(one: list[Row], two: list[Row]) -> str:
    longer, shorter = (one, two) if len(one) > len(two) else (two, one)
    remaining = sorted(shorter, key=sort_key)
    for row in sorted(longer, key=sort_key):
        match = next((number for number, other in enumerate(remaining) if is_same_row(row, other)), None)
        if match is None:
            return str(row)
        remaining.pop(match)
    return "no row"
