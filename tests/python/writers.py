"""Raw files as pandas, polars, DuckDB, Spark and pyarrow write them.

A `FileSpec` describes a file briefly, so that a failing example is readable; a seed generates the readings. `make` returns the
file's bytes and, independently of them, the table that they represent. Hypothesis strategies for specs are at the end.
"""

from __future__ import annotations

import datetime as dt
import decimal
import io
import tempfile
import uuid
from dataclasses import dataclass, fields, replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from reference import day_number, MICROS_PER_DAY

# A few assets and dates, so that files overlap: at the ends of a month and a year, around a leap day, and before 1970.
ASSETS = [
    "00000000-0000-4000-8000-000000000001",
    "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "7c9e6679-7425-40de-944b-e07fc1f90ae8",
    "ffffffff-ffff-4fff-bfff-ffffffffffff",
]
DAYS = [
    dt.date(2023, 12, 30),
    dt.date(2023, 12, 31),
    dt.date(2024, 1, 1),
    dt.date(2024, 2, 28),
    dt.date(2024, 2, 29),
    dt.date(1969, 12, 30),
    dt.date(2024, 6, 15),
]
MALFORMED = ["", "pump 7", "7c9e6679", "7c9e6679-7425-40de-944b-e07fc1f90aeg", ASSETS[1] + " ", ASSETS[1][:-1]]

ID_TYPES = ["string", "large_string", "string_view", "dictionary", "dictionary_large", "fixed16", "binary", "uuid"]
BINARY_IDS = ["fixed16", "binary", "uuid"]
ID_STYLES = ["lower", "upper", "braces", "plain", "urn", "mixed"]
UNITS = ["us", "ns", "ms", "s"]
ZONES = [None, "UTC", "Europe/Berlin", "+05:30", "America/St_Johns"]
VALUE_TYPES = [
    "float64", "float32", "float16", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "decimal32", "decimal64", "decimal128", "decimal256",
]  # fmt: skip
FAULTS = ["null_time", "time_out_of_range", "null_id", "malformed_id", "null_value", "nan_value", "infinite_value"]
ORDERS = ["by_asset", "by_time", "shuffled", "reversed", "nearly"]
PACES = {"dense": (10_000_000, 3 * 3600), "midnight": (1_000_000, 1800), "sparse": (430_000_000, None)}
WRITERS = ["pyarrow", "spark", "pandas", "polars", "duckdb"]


@dataclass(frozen=True, repr=False)
class FileSpec:
    """The description of one raw file. The defaults describe the simplest file; the repr shows only what differs."""

    seed: int = 0
    rows: int = 40
    assets: tuple[int, ...] = (0,)
    day: int = 0  # index into DAYS
    days: int = 1  # number of consecutive days
    pace: str = "dense"
    order: str = "by_asset"
    repeats: bool = False  # duplicate readings within the file
    edge_times: bool = False  # readings at the edges of buckets and between microseconds
    faults: tuple[str, ...] = ()
    id_type: str = "string"
    id_style: str = "lower"
    unit: str = "us"
    zone: str | None = "UTC"
    value_type: str = "float64"
    extra: bool = False  # additional columns, which plantlake ignores
    writer: str = "pyarrow"
    row_group: int = 1_000_000
    compression: str = "snappy"
    statistics: bool = True
    page_index: bool = False
    plain: bool = False  # no dictionary pages, no Arrow schema in the file, small version 2 pages

    def __repr__(self) -> str:
        shown = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"FileSpec({', '.join(shown)})"


@dataclass(frozen=True)
class WrittenFile:
    """The bytes of a file, and the table that they represent."""

    table: pa.Table
    data: bytes


def make(spec: FileSpec) -> WrittenFile:
    """Returns the file that a spec describes."""
    spec = supported_spec(spec)
    table = _table(spec)
    return _WRITE[spec.writer](spec, table)


def supported_spec(spec: FileSpec) -> FileSpec:
    """Returns the spec, with options that its writer does not support replaced by the nearest supported ones."""
    if "malformed_id" in spec.faults and spec.id_type in ("fixed16", "uuid"):
        spec = replace(spec, id_type="binary")
    if spec.id_type in BINARY_IDS:
        spec = replace(spec, id_style="lower")
    if spec.value_type not in ("float64", "float32", "float16"):
        spec = replace(spec, faults=tuple(f for f in spec.faults if f not in ("nan_value", "infinite_value")))
    if spec.writer == "spark":
        # Timestamps as INT96 in nanoseconds, without a zone in the file.
        spec = replace(spec, zone=None, unit="ns")
    if spec.writer == "pandas":
        if spec.value_type.startswith("decimal") or spec.value_type == "float16":
            spec = replace(spec, value_type="float64")
        # Without values, pandas loses the types of ids other than strings.
        if spec.id_type not in [*BINARY_IDS, "dictionary"] or spec.rows == 0:
            spec = replace(spec, id_type="string")
    if spec.writer == "polars":
        zone = "Asia/Kolkata" if spec.zone == "+05:30" else spec.zone
        spec = replace(spec, unit="ms" if spec.unit == "s" else spec.unit, zone=zone)
        if spec.id_type == "uuid":
            spec = replace(spec, id_type="binary")
        if spec.value_type in ("decimal32", "decimal64", "decimal256"):
            spec = replace(spec, value_type="decimal128")
    if spec.writer == "duckdb":
        spec = replace(spec, unit="us" if spec.zone else spec.unit)
        if spec.id_type == "string_view":
            spec = replace(spec, id_type="string")
        if spec.value_type in ("float16", "decimal32", "decimal64", "decimal256"):
            spec = replace(spec, value_type={"float16": "float32"}.get(spec.value_type, "decimal128"))
    return spec


# ---------------------------------------------------------------- readings


def _table(spec: FileSpec) -> pa.Table:
    random = np.random.default_rng(spec.seed)
    assets, nanos, values = _readings(spec, random)
    rows = len(assets)
    faulty = {fault: random.random(rows) < 0.07 for fault in FAULTS}
    ids: list[object] = [_format_id(spec, ASSETS[asset], random) for asset in assets]
    if "malformed_id" in spec.faults:
        for row in np.flatnonzero(faulty["malformed_id"]):
            bad = MALFORMED[int(random.integers(len(MALFORMED)))]
            ids[row] = bad[:7].encode() if spec.id_type in BINARY_IDS else bad
    if "null_id" in spec.faults:
        for row in np.flatnonzero(faulty["null_id"]):
            ids[row] = None
    if "time_out_of_range" in spec.faults:
        early, late = (day_number(dt.date(year, 3, 1)) * MICROS_PER_DAY * 1000 for year in (1900, 2200))
        nanos = np.where(faulty["time_out_of_range"], np.where(random.random(rows) < 0.5, early, late), nanos)
    if "nan_value" in spec.faults:
        values = np.where(faulty["nan_value"], np.nan, values)
    if "infinite_value" in spec.faults:
        values = np.where(faulty["infinite_value"], np.where(random.random(rows) < 0.5, np.inf, -np.inf), values)
    null_time = faulty["null_time"] if "null_time" in spec.faults else np.zeros(rows, bool)
    null_value = faulty["null_value"] if "null_value" in spec.faults else np.zeros(rows, bool)
    columns = {
        "id": _id_column(spec, ids),
        "timestamp": _time_column(spec, nanos, null_time),
        "value": _value_column(spec, values, null_value),
    }
    if spec.extra:
        names = np.array(["good", "uncertain", "bad"])[random.integers(0, 3, rows)]
        columns = {
            "quality": pa.array(names),
            **{name: columns[name] for name in ("value", "timestamp", "id")},
            "time_received": pa.array(nanos // 1000 + 5, pa.timestamp("us", "UTC")),
            "batch": pa.array(random.integers(0, 9, rows), pa.int32()),
        }
        if spec.writer in ("pyarrow", "spark"):
            columns["tags"] = pa.array([["a", "b"][: row % 3] for row in range(rows)], pa.list_(pa.string()))
            columns["place"] = pa.array([{"value": row, "id": "x"} for row in range(rows)])
    return pa.table(columns)


def _readings(spec: FileSpec, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (asset index, time in nanoseconds, value) in the order of the rows."""
    rows = spec.rows
    step, span = PACES[spec.pace]
    start = day_number(DAYS[spec.day]) * MICROS_PER_DAY
    day = random.integers(0, spec.days, rows) * MICROS_PER_DAY
    if spec.pace == "midnight":  # 15 minutes before and after midnight
        offset = (random.integers(0, span * 1_000_000 // step, rows) - span * 500_000 // step) * step
    else:
        offset = random.integers(0, (span or 86_400) * 1_000_000 // step, rows) * step
    nanos = (start + day + offset) * 1_000
    if spec.edge_times:
        edge = random.integers(0, 8, rows)
        minute = nanos // 60_000_000_000 * 60_000_000_000
        nanos = np.select(
            [edge == 0, edge == 1, edge == 2, edge == 3],
            [minute, minute - 1, minute + 59_999_999_999, nanos + random.integers(0, 2_000, rows)],
            default=nanos,
        )
    assets = np.array(spec.assets)[random.integers(0, len(spec.assets), rows)]
    values = _draw_values(spec, random, rows)
    if not spec.repeats and rows:
        # Times are unique at the coarsest unit, so that rounding to the file's unit creates no duplicates.
        kept = pd.DataFrame({"asset": assets, "time": nanos // 1_000_000_000}).drop_duplicates().index
        assets, nanos, values = assets[kept], nanos[kept], values[kept]
    by_asset = np.lexsort((nanos, assets))
    order = {
        "by_asset": by_asset,
        "by_time": np.argsort(nanos, kind="stable"),
        "shuffled": np.arange(len(assets)),
        "reversed": by_asset[::-1],
        "nearly": by_asset.copy(),
    }[spec.order]
    if spec.order == "nearly":
        for _ in range(max(1, len(order) // 50)):
            if len(order) > 1:
                one, two = random.integers(0, len(order), 2)
                order[one], order[two] = order[two], order[one]
    return assets[order], nanos[order], values[order]


def _draw_values(spec: FileSpec, random: np.random.Generator, rows: int) -> np.ndarray:
    kind = spec.value_type
    if kind == "float64":
        scale = random.choice([1e-3, 1.0, 1e4])
        return random.normal(0.5, 1, rows) * scale
    if kind.startswith("float"):
        return np.where(random.random(rows) < 0.05, -0.0, random.normal(20, 30, rows))
    if kind.startswith("decimal"):
        return random.integers(-999_999, 999_999, rows) / 1000
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    return random.integers(max(low, -100_000), min(high, 100_000), rows, endpoint=True).astype(np.float64)


def _format_id(spec: FileSpec, asset: str, random: np.random.Generator) -> object:
    if spec.id_type in BINARY_IDS:
        return uuid.UUID(asset).bytes
    style = spec.id_style
    if style == "mixed":
        style = ID_STYLES[int(random.integers(0, 5))]
    return {
        "lower": asset,
        "upper": asset.upper(),
        "braces": "{" + asset + "}",
        "plain": asset.replace("-", ""),
        "urn": "urn:uuid:" + asset,
    }[style]


def _id_column(spec: FileSpec, ids: list[object]) -> pa.Array:
    kind = spec.id_type
    if kind == "uuid":
        return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(ids, pa.binary(16)))
    if kind.startswith("dictionary"):
        values = pa.large_string() if kind == "dictionary_large" else pa.string()
        return pa.array(ids, values).dictionary_encode()
    types = {
        "string": pa.string(),
        "large_string": pa.large_string(),
        "string_view": pa.string_view(),
        "fixed16": pa.binary(16),
        "binary": pa.binary(),
    }
    return pa.array(ids, types[kind])


def _time_column(spec: FileSpec, nanos: np.ndarray, null: np.ndarray) -> pa.Array:
    size = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}[spec.unit]
    times = pa.array((nanos // size).astype(np.int64), mask=null)
    return times.cast(pa.timestamp(spec.unit, spec.zone))


def _value_column(spec: FileSpec, values: np.ndarray, null: np.ndarray) -> pa.Array:
    kind = spec.value_type
    if kind.startswith("decimal"):
        kinds = {
            "decimal32": pa.decimal32(9, 3),
            "decimal64": pa.decimal64(14, 3),
            "decimal128": pa.decimal128(15, 3),
            "decimal256": pa.decimal256(50, 3),
        }
        exact = [None if is_null else decimal.Decimal(f"{value:.3f}") for value, is_null in zip(values, null)]
        return pa.array(exact, kinds[kind])
    with np.errstate(over="ignore"):
        return pa.array(values.astype(kind), mask=null)


# ---------------------------------------------------------------- writers


def _write_pyarrow(spec: FileSpec, table: pa.Table, **more: object) -> WrittenFile:
    options: dict[str, object] = {
        "row_group_size": spec.row_group,
        "compression": spec.compression if spec.compression != "uncompressed" else "none",
        "write_statistics": spec.statistics,
        "write_page_index": spec.page_index,
        "store_decimal_as_integer": spec.value_type in ("decimal32", "decimal64", "decimal128"),
        **more,
    }
    if spec.plain:
        options |= {
            "use_dictionary": False,
            "store_schema": False,
            "data_page_version": "2.0",
            "data_page_size": 512,
            "write_batch_size": 16,
        }
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return WrittenFile(table, sink.getvalue())


def _write_spark(spec: FileSpec, table: pa.Table) -> WrittenFile:
    return _write_pyarrow(spec, table, use_deprecated_int96_timestamps=True, flavor="spark", store_schema=False)


def _write_pandas(spec: FileSpec, table: pa.Table) -> WrittenFile:
    data = table.to_pandas(timestamp_as_object=False)
    sink = io.BytesIO()
    data.to_parquet(sink, engine="pyarrow", compression=spec.compression if spec.compression != "uncompressed" else None,
                    row_group_size=spec.row_group)  # fmt: skip
    # pandas turns nulls among integers into floats, and NaN into null. The converted table is the expected one.
    return WrittenFile(pa.Table.from_pandas(data), sink.getvalue())


def _write_polars(spec: FileSpec, table: pa.Table) -> WrittenFile:
    sink = io.BytesIO()
    compression = "lz4" if spec.compression == "lz4_raw" else spec.compression
    options = {"statistics": spec.statistics, "row_group_size": spec.row_group, "compression": compression}
    if spec.plain:
        options["data_page_size"] = 512
    pl.from_arrow(table).write_parquet(sink, **options)
    return WrittenFile(table, sink.getvalue())


def _write_duckdb(spec: FileSpec, table: pa.Table) -> WrittenFile:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        path = Path(folder) / "out.parquet"
        connection.register("readings", table)
        # A DuckDB UUID column is written as 16 bytes with the UUID annotation.
        id_column = "id"
        if spec.id_type == "uuid":
            text = pa.table({"id": pa.array([None if b is None else str(uuid.UUID(bytes=bytes(b))) for b in _storage(table)])})
            connection.register("readings", table.set_column(table.column_names.index("id"), "id", text["id"]))
            id_column = "CAST(id AS UUID) AS id"
        rest = ", ".join(f'"{name}"' if name != "id" else id_column for name in table.column_names)
        compression = "uncompressed" if spec.compression == "uncompressed" else spec.compression
        version = "V2" if spec.plain else "V1"
        connection.execute(
            f"COPY (SELECT {rest} FROM readings) TO '{path}' (FORMAT parquet, COMPRESSION {compression}, "
            f"ROW_GROUP_SIZE {max(spec.row_group, 2048)}, PARQUET_VERSION {version})"
        )
        return WrittenFile(table, path.read_bytes())


def _storage(table: pa.Table) -> list[object]:
    array = table["id"].combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], pa.binary(16))
    return (array.storage if isinstance(array, pa.ExtensionArray) else array).to_pylist()


_WRITE = {
    "pyarrow": _write_pyarrow,
    "spark": _write_spark,
    "pandas": _write_pandas,
    "polars": _write_polars,
    "duckdb": _write_duckdb,
}


# ---------------------------------------------------------------- damage

# Damage that is detected from the file's size or footer.
FOOTER_DAMAGE = ["zero_bytes", "garbage", "truncated", "no_footer", "missing_column", "wrong_type"]
# Damage that is detected only when pages are read.
PAGE_DAMAGE = ["broken_page"]


def damage(made: WrittenFile, kind: str) -> bytes:
    """Returns the file with damage of this kind."""
    data = made.data
    if kind == "zero_bytes":
        return b""
    if kind == "garbage":
        return b"id;timestamp;value\n1;2024-01-01;3.5\n" * 20
    if kind == "truncated":
        return data[: len(data) * 4 // 5]
    if kind == "no_footer":
        return data[:-8]
    if kind == "missing_column":
        return parquet_bytes(made.table.drop_columns(["value"]))
    if kind == "wrong_type":
        return wrong_type(made.table, "value", pa.array(["high"] * len(made.table)))
    if kind == "broken_page":
        return break_page(data, "value")
    raise ValueError(kind)


def wrong_type(table: pa.Table, column: str, values: pa.Array) -> bytes:
    """Returns a valid file, except for the type of one column."""
    return parquet_bytes(table.set_column(table.column_names.index(column), column, values))


def break_page(data: bytes, column: str, row_group: int = 0) -> bytes:
    """Returns the file with the pages of one column chunk overwritten, headers included, and an intact footer."""
    group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(row_group)
    chunk = next(group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == column)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return data[:start] + b"\xff" * chunk.total_compressed_size + data[start + chunk.total_compressed_size :]


def parquet_bytes(table: pa.Table) -> bytes:
    """Returns the table as pyarrow writes it by default."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


# ---------------------------------------------------------------- strategies


def file_specs(zones: list[str | None] = ZONES, writers: list[str] = WRITERS) -> st.SearchStrategy[FileSpec]:
    """Returns a strategy for any raw file."""
    return st.builds(
        FileSpec,
        seed=st.integers(0, 1_000),
        rows=st.one_of(st.integers(0, 60), st.integers(0, 1_500)),
        assets=st.lists(st.integers(0, len(ASSETS) - 1), min_size=1, max_size=3, unique=True).map(tuple),
        day=st.integers(0, len(DAYS) - 1),
        days=st.integers(1, 3),
        pace=st.sampled_from(list(PACES)),
        order=st.sampled_from(ORDERS),
        repeats=st.booleans(),
        edge_times=st.booleans(),
        faults=st.one_of(st.just(()), st.lists(st.sampled_from(FAULTS), max_size=4, unique=True).map(tuple)),
        id_type=st.sampled_from(ID_TYPES),
        id_style=st.sampled_from(ID_STYLES),
        unit=st.sampled_from(UNITS),
        zone=st.sampled_from(zones),
        value_type=st.sampled_from(VALUE_TYPES),
        extra=st.booleans(),
        writer=st.sampled_from(writers),
        row_group=st.sampled_from([1_000_000, 64, 7]),
        compression=st.sampled_from(["snappy", "zstd", "gzip", "lz4_raw", "brotli", "uncompressed"]),
        statistics=st.booleans(),
        page_index=st.booleans(),
        plain=st.booleans(),
    ).map(_bounded)


def _bounded(spec: FileSpec) -> FileSpec:
    # Thousands of row groups would test the Parquet library only.
    return replace(spec, row_group=64) if spec.row_group == 7 and spec.rows > 120 else spec
