"""Tests that the tables are standard Delta tables, from which other engines read the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import compare
from harness import OK, Lake
from reference import COLUMNS, PARTITION, RESOLUTIONS, Expected
from stories import LakeModel, Put, Remove, Run
from writers import FileSpec

pytestmark = pytest.mark.local_only

TYPES = {
    "asset_id": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
    "value": pa.float64(),
    "count": pa.int64(),
    **{name: pa.float64() for name in ("min", "max", "first", "last", "stddev")},
}
PARTITION_TYPES = {"data_min": pa.date32(), "data_h": pa.string(), "data_d": pa.int32()}


def fill(lake: Lake) -> tuple[Lake, Expected]:
    """Fills a lake with files, some of which are replaced and removed, so that its tables have tombstones."""
    model = LakeModel(lake)
    for step in [
        Put(0, FileSpec(rows=900, days=3, assets=(0, 1, 2), edge_times=True)),
        Put(1, FileSpec(seed=1, rows=300, day=3, days=2)),
        Run(),
        Put(1, FileSpec(seed=2, rows=300, day=4, days=1, assets=(3,)), 1),
        Put(2, FileSpec(seed=3, rows=300, day=6, pace="midnight", assets=(1,))),
        Run(),
        Remove(2),
        Put(3, FileSpec(seed=4, rows=10, day=6, pace="sparse", assets=(0, 1, 2))),
        Run(),
    ]:
        model.apply(step)
    return lake, model.expected


@pytest.fixture(scope="module")
def shared_lake(new_shared_lake: Callable[[], Lake]) -> tuple[Lake, Expected]:
    return fill(new_shared_lake())


@pytest.fixture
def filled_lake(shared_lake: tuple[Lake, Expected]) -> Iterator[tuple[Lake, Expected]]:
    """A lake that the test only reads."""
    with shared_lake[0].assert_unchanged():
        yield shared_lake


def to_reference_form(arrow: pa.Table) -> pd.DataFrame:
    """Returns the rows with the columns and types of the reference."""
    arrow = arrow.set_column(
        arrow.column_names.index("timestamp"), "timestamp", arrow["timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    )
    frame = arrow.select(COLUMNS).to_pandas()
    return frame.astype({"asset_id": object, "timestamp": "int64", "count": "int64"})


@pytest.mark.parametrize("name", RESOLUTIONS)
class TestEngines:
    def test_deltalake_dataset_reads_same_rows(self, filled_lake: tuple[Lake, Expected], name: str) -> None:
        lake, expected = filled_lake
        table = lake.delta(name)
        dataset = table.to_pyarrow_dataset()
        compare.same_as_reference(name, to_reference_form(dataset.to_table()), expected.tables[name])
        # With a filter, the reader skips files and row groups by their statistics.
        asset = expected.tables[name]["asset_id"].iloc[0]
        found = to_reference_form(dataset.to_table(filter=(ds.field("asset_id") == asset)))
        expected_rows = expected.tables[name].query("asset_id == @asset").reset_index(drop=True)
        compare.same_as_reference(name, found, expected_rows)

    def test_deltalake_sql_reads_same_rows(self, filled_lake: tuple[Lake, Expected], name: str) -> None:
        from deltalake import QueryBuilder

        lake, expected = filled_lake
        rows = QueryBuilder().register("t", lake.delta(name)).execute("SELECT * FROM t")
        rows = pa.table(rows.read_all() if hasattr(rows, "read_all") else rows)
        compare.same_as_reference(name, to_reference_form(rows), expected.tables[name])

    def test_schema_equals_documented_schema(self, filled_lake: tuple[Lake, Expected], name: str) -> None:
        lake, _ = filled_lake
        schema = pa.schema(lake.delta(name).schema().to_arrow())
        found = {field.name: field.type for field in schema}
        text = (pa.string(), pa.large_string(), pa.string_view())
        found = {key: pa.string() if kind in text else kind for key, kind in found.items()}
        assert list(found.items()) == [*TYPES.items(), (PARTITION[name], PARTITION_TYPES[name])]
        assert lake.delta(name).metadata().partition_columns == [PARTITION[name]]

    def test_polars_delta_scan_reads_same_rows(self, filled_lake: tuple[Lake, Expected], name: str) -> None:
        lake, expected = filled_lake
        frame = pl.scan_delta(f"{lake.url}/{name}").collect()
        compare.same_as_reference(name, to_reference_form(frame.to_arrow()), expected.tables[name])
        cut = pd.Timestamp("2024-01-01", tz="UTC")
        recent = pl.scan_delta(f"{lake.url}/{name}").filter(pl.col("timestamp") >= cut).collect()
        expected_rows = expected.tables[name].query("timestamp >= 1704067200000000").reset_index(drop=True)
        compare.same_as_reference(name, to_reference_form(recent.to_arrow()), expected_rows)

    def test_polars_file_reader_reads_same_rows(self, filled_lake: tuple[Lake, Expected], name: str) -> None:
        lake, expected = filled_lake
        frame = pl.read_parquet(lake.delta(name).file_uris(), hive_partitioning=False)
        compare.same_as_reference(name, to_reference_form(frame.to_arrow()), expected.tables[name])

    def test_duckdb_file_reader_reads_same_rows(self, filled_lake: tuple[Lake, Expected], name: str) -> None:
        lake, expected = filled_lake
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            found = connection.execute(
                "SELECT * FROM read_parquet(?, hive_partitioning = true)", [lake.delta(name).file_uris()]
            ).to_arrow_table()
            assert PARTITION[name] in found.column_names
            compare.same_as_reference(name, to_reference_form(found), expected.tables[name])
            total = connection.execute(
                "SELECT sum(\"count\") FROM read_parquet(?) WHERE \"timestamp\" >= TIMESTAMPTZ '2024-01-01 00:00:00Z'",
                [lake.delta(name).file_uris()],
            ).fetchone()
        table = expected.tables[name]
        assert total[0] == table[table["timestamp"] >= 1704067200000000]["count"].sum()

    def test_plantlake_query_reads_same_rows(self, filled_lake: tuple[Lake, Expected], name: str) -> None:
        lake, expected = filled_lake
        found = pa.Table.from_pandas(lake.query(f"SELECT * FROM {name}"))
        compare.same_as_reference(name, to_reference_form(found), expected.tables[name])


def test_every_table_version_is_readable(filled_lake: tuple[Lake, Expected]) -> None:
    lake, _ = filled_lake
    for name in RESOLUTIONS:
        for version in range(lake.delta(name).version() + 1):
            lake.table(name, version)


def test_history_of_tables_contains_no_predicate(filled_lake: tuple[Lake, Expected]) -> None:
    """Other readers parse the predicate of an operation as SQL."""
    lake, _ = filled_lake
    for name in RESOLUTIONS:
        history = lake.delta(name).history()
        assert "WRITE" in {entry["operation"] for entry in history}, name
        for entry in history:
            assert entry.get("operationParameters", {}).get("predicate") is None, entry


def test_resample_continues_after_foreign_checkpoint(lake: Lake) -> None:
    """The job works after another writer has created a checkpoint."""
    _, expected = fill(lake)
    for name in RESOLUTIONS:
        lake.delta(name).create_checkpoint()
    lake.resample().expect(OK)
    compare.all_same_as_reference(lake.tables(), expected)


def test_every_tenth_version_has_checkpoint(lake: Lake) -> None:
    """With frequent runs and no maintenance, checkpoints keep the log short for other readers. Old versions stay readable."""
    model = LakeModel(lake)
    for number in range(22):
        model.apply(Put(0, FileSpec(seed=number, rows=20, days=1, assets=(0, 1)), number))
        model.run(Run())
    for name in RESOLUTIONS:
        newest = lake.delta(name).version()
        assert newest > 20, "not every run changed the table"
        found = sorted(file for file in lake.listing(f"{name}/_delta_log") if file.endswith(".checkpoint.parquet"))
        assert found == [f"{version:020}.checkpoint.parquet" for version in range(10, newest + 1, 10)], name
        assert "_last_checkpoint" in lake.listing(f"{name}/_delta_log")
        # A version before the first checkpoint, the checkpoint, and later versions.
        for version in (9, 10, 11, newest):
            assert len(lake.table(name, version)) > 0
    compare.all_same_as_reference(lake.tables(), model.reference())


def test_data_files_have_bounded_row_groups_and_indexes(lake: Lake) -> None:
    """Row groups are bounded, pages are indexed, and the sort order is declared."""
    model = LakeModel(lake)
    model.apply(Put(0, FileSpec(rows=20_000, days=1, pace="dense", assets=(0, 1, 2, 3), repeats=True)))
    model.run(Run())
    for name in RESOLUTIONS:
        for file in lake.data_files(name):
            metadata = pq.ParquetFile(f"{lake.url}/{name}/{file.path}").metadata
            names = [metadata.schema.column(i).name for i in range(metadata.num_columns)]
            for number in range(metadata.num_row_groups):
                group = metadata.row_group(number)
                assert group.num_rows <= 262_144
                order = [(names[each.column_index], each.descending) for each in group.sorting_columns]
                assert order == [("asset_id", False), ("timestamp", False)], f"{name}: {order}"
                for column in range(group.num_columns):
                    chunk = group.column(column)
                    # Doubles may be incompressible and stay uncompressed; all other columns are compressed.
                    allowed = ("ZSTD", "UNCOMPRESSED") if chunk.physical_type == "DOUBLE" else ("ZSTD",)
                    assert chunk.compression in allowed, f"{name}.{chunk.path_in_schema} is {chunk.compression}"
                    assert chunk.has_offset_index, f"{name}.{chunk.path_in_schema} has no offset index"
                    if chunk.path_in_schema in ("asset_id", "timestamp"):  # columns that readers filter by
                        assert chunk.is_stats_set, f"{name}.{chunk.path_in_schema} has no statistics"
                        assert chunk.has_column_index, f"{name}.{chunk.path_in_schema} has no column index"
    assert np.isfinite(lake.table("data_min")["value"]).all()
