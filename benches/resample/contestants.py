"""The resampling by DuckDB and polars, run as `bench.py --worker NAME …`."""

from __future__ import annotations

from pathlib import Path

UNITS = {"data_min": ("minute", "1m"), "data_h": ("hour", "1h"), "data_d": ("day", "1d")}


def chosen_units(kind: str) -> dict[str, tuple[str, str]]:
    return {"data_min": UNITS["data_min"]} if kind == "minute" else UNITS


def duckdb_sql(files: str, unit: str, minimal: bool) -> str:
    if minimal:
        columns = "count(*) AS count, sum(value) AS sum, min(value) AS min, max(value) AS max"
    else:
        columns = (
            "avg(value) AS value, count(*) AS count, min(value) AS min, max(value) AS max, "
            "arg_min(value, timestamp) AS first, arg_max(value, timestamp) AS last, stddev_samp(value) AS stddev"
        )
    return (
        f"SELECT id AS asset_id, time_bucket(INTERVAL '1 {unit}', timestamp) AS bucket, {columns} "
        f"FROM read_parquet('{files}') GROUP BY ALL"
    )


def run_duckdb(raw: Path, out: Path, kind: str, threads: int | None) -> None:
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET temp_directory = '{out}/spill'")
    connection.execute("SET preserve_insertion_order = false")
    if threads:
        connection.execute(f"SET threads = {threads}")
    files = f"{raw}/*.parquet"
    if kind == "minimal":
        print(connection.execute(f"SELECT count(*), sum(count) FROM ({duckdb_sql(files, 'minute', True)})").fetchone())
        return
    for name, (unit, _) in chosen_units(kind).items():
        connection.execute(
            f"COPY ({duckdb_sql(files, unit, False)}) TO '{out}/{name}.parquet' (FORMAT parquet, COMPRESSION zstd)"
        )


def run_polars(raw: Path, out: Path, kind: str, threads: int | None) -> None:
    import polars as pl

    source = pl.scan_parquet(f"{raw}/*.parquet").select("id", "timestamp", "value")
    value = pl.col("value")

    def rollup(every: str) -> pl.LazyFrame:
        keys = [pl.col("id").alias("asset_id"), pl.col("timestamp").dt.truncate(every).alias("bucket")]
        if kind == "minimal":
            parts = [pl.len().alias("count"), value.sum().alias("sum"), value.min().alias("min"), value.max().alias("max")]
        else:
            time_ = pl.col("timestamp")
            parts = [
                value.mean().alias("mean"), pl.len().alias("count"), value.min().alias("min"), value.max().alias("max"),
                value.min_by(time_).alias("first"), value.max_by(time_).alias("last"),
                value.std().alias("stddev"),
            ]  # fmt: skip
        return source.group_by(keys).agg(parts)

    if kind == "minimal":
        print(rollup("1m").select(pl.len(), pl.col("count").sum()).collect(engine="streaming").row(0))
        return
    for name, (_, every) in chosen_units(kind).items():
        rollup(every).sink_parquet(out / f"{name}.parquet", compression="zstd")


WORKERS = {"duckdb": run_duckdb, "polars": run_polars}
