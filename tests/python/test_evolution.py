"""Tables and archives with fewer or further columns are read, extended, and lose no values. See evolution.py."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import Field
from deltalake.schema import PrimitiveType, StructType

from evolution import (
    LATER, LATER_COLUMNS, SMALL_FILES, History, all_columns, assert_filled, assert_filled_everywhere, column_names, days,
    log_actions, maintain, queried, readings,
)  # fmt: skip
from harness import FAILURE, OK, Lake, LocalLake, reference
from reference import COLUMNS, RESOLUTIONS
from server import Plant, eventually
from writers import ASSETS, parquet_bytes

# ------------------------------------------------------------------ an older lake


def test_resample_of_older_lake_adds_later_columns(new_lake: Callable[[], Lake]) -> None:
    history = History(new_lake())
    lake = history.lake
    history.add(0, 1)
    # Before its first run, the later version reads the older tables.
    for name in RESOLUTIONS:
        assert_filled(queried(lake, name, LATER), lambda day: day < 0)
    answer = lake.run(
        "query",
        "SELECT count(*) AS n, count(test_max) AS maxima FROM data_min WHERE test_count IS NULL AND (test_max > 0 OR count > 0)",
        "--format", "json", settings=LATER,
    ).expect(OK)  # fmt: skip
    assert json.loads(answer.text)["n"] == len(all_columns(lake, "data_min")) and '"maxima":0' in answer.text.replace(" ", "")

    history.add(2, settings=LATER)
    assert_filled_everywhere(lake, lambda day: day == 2)
    for name in RESOLUTIONS:
        created, changed = log_actions(lake, name, "metaData")
        assert {key for key in created if created[key] != changed[key]} == {"schemaString"}, (created, changed)
        assert len(log_actions(lake, name, "protocol")) == 1
        assert column_names(lake, name) == [*COLUMNS, *LATER_COLUMNS, reference.PARTITION[name]]
        by_polars = pl.read_delta(f"{lake.url}/{name}", storage_options=lake.storage_options)
        assert by_polars["test_max"].null_count() == (all_columns(lake, name)["test_max"].isna()).sum() < len(by_polars)
    history.check()
    # A date of the older version is computed again.
    history.raw["late.parquet"] = readings(1).slice(0, 100)
    lake.put("late.parquet", parquet_bytes(history.raw["late.parquet"]), 1_800_000_000_000_000_000)
    lake.resample(settings=LATER).expect(OK)
    assert_filled_everywhere(lake, lambda day: day >= 1)
    lake.resample("--full", settings=LATER).expect(OK)
    assert_filled_everywhere(lake, lambda day: day >= 0)
    history.check()
    for name in RESOLUTIONS:
        assert len(log_actions(lake, name, "metaData")) == 2, "the columns were added again"


@pytest.mark.local_only
def test_server_of_later_version_reads_older_tables(tmp_path: Path) -> None:
    """Callers who see some or all assets get nulls, also in conditions on the columns that the files lack."""
    plant = Plant(tmp_path).build()
    plant.serve(settings=LATER)
    try:
        for tenant in ("North", "Everything"):
            for name in RESOLUTIONS:
                rows = plant.ask(f'SELECT test_max, test_count, "count" FROM {name}', tenant)
                assert len(rows) and rows[LATER_COLUMNS].isna().all(axis=None) and rows["count"].notna().all()
                for condition, expected in [("test_count IS NULL", len(rows)), ("test_max > 0", 0), ("test_count = 5", 0)]:
                    found = plant.ask(f"SELECT count(*) AS n FROM {name} WHERE {condition}", tenant)
                    assert found["n"][0] == expected, condition
        plant.lake.resample("--full", settings=LATER).expect(OK)
        assert_filled_everywhere(plant.lake, lambda day: day > -10_000)

        def has_values() -> bool:
            return plant.ask("SELECT count(test_max) AS n FROM data_d WHERE test_max = max")["n"][0] > 0

        eventually(has_values, 30)
    finally:
        plant.stop()


@pytest.mark.local_only
def test_resample_killed_after_commit_of_new_columns_is_repeated(new_lake: Callable[[], Lake]) -> None:
    """The columns that an unpublished run added remain, and its rows are undone."""
    history = History(new_lake())
    lake = history.lake
    history.add(0, 1)
    history.raw["002.parquet"] = readings(2)
    lake.put("002.parquet", parquet_bytes(history.raw["002.parquet"]))
    killed = lake.resample(settings=LATER | {"PLANTLAKE_FAILPOINT": "after-commit-data_h"})
    assert killed.code < 0
    assert_filled(queried(lake, "data_h", LATER), lambda day: day < 0)
    # The older version continues, although two of the tables have its columns by now.
    lake.resample().expect(OK)
    history.check()
    assert column_names(lake, "data_h")[-3:] == [*LATER_COLUMNS, "month"]
    assert column_names(lake, "data_d") == [*COLUMNS, "year"]
    history.add(3, settings=LATER)
    assert_filled_everywhere(lake, lambda day: day == 3)
    history.check()


@pytest.mark.local_only
def test_original_columns_cannot_be_missing_or_have_another_type(new_lake: Callable[[], Lake]) -> None:
    history = History(new_lake())
    lake = history.lake
    history.add(0)
    change_schema(lake, "data_h", lambda fields: [field for field in fields if field["name"] != "count"])
    refused = lake.resample("--full").expect(FAILURE)
    assert "data_h has no column count" in refused.err
    other = [{"name": "test_max", "type": "string", "nullable": True, "metadata": {}}]
    history = History(new_lake())
    history.add(0)
    change_schema(history.lake, "data_h", lambda fields: fields + other)
    # The column is not known to the older version, and has another type for the later one.
    history.lake.resample("--full").expect(OK)
    refused = history.lake.resample("--full", settings=LATER).expect(FAILURE)
    assert "data_h has a column test_max of type string instead of double" in refused.err


# ------------------------------------------------------------------ a newer lake


def test_older_version_preserves_values_of_later_columns(new_lake: Callable[[], Lake]) -> None:
    """Runs, compaction, the archive and a restore by a version that does not know the columns lose none of their values."""
    history = History(new_lake())
    lake = history.lake
    # 20 to 31 January, by the later version.
    history.add(*range(12), settings=LATER | SMALL_FILES)
    # 25 January again, and 1 and 2 February, by the older one. It writes the month of January again.
    history.raw["late.parquet"] = readings(5).slice(0, 100)
    lake.put("late.parquet", parquet_bytes(history.raw["late.parquet"]), 1_800_000_000_000_000_000)
    history.add(12, 13, settings=SMALL_FILES)
    history.check()

    def is_filled(day: pd.Series) -> pd.Series:
        return (day < 12) & (day != 5)

    assert_filled_everywhere(lake, is_filled)
    assert all("test_max" in column_names(lake, name) for name in RESOLUTIONS)

    before = {name: all_columns(lake, name) for name in RESOLUTIONS}
    compacted = maintain(lake)
    assert {entry["table"] for entry in compacted["compacted"]} >= {"data_min"}, compacted
    for name, table in before.items():
        pd.testing.assert_frame_equal(all_columns(lake, name), table)
    history.check()

    # By 13 March, all minutes, and the hours of January have expired.
    expired = maintain(lake, dt.date(2024, 3, 13))
    assert {entry["what"] for entry in expired["expired"]} == {"data_min", "data_h"}, expired
    for name, table in before.items():
        moved = all_columns(lake, name, "archive/")
        both = pd.concat([moved, all_columns(lake, name)]).sort_values(["asset_id", "timestamp"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(both[table.columns], table)
        assert_filled(both, is_filled)
        if name != "data_d":
            assert len(moved) and column_names(lake, name, "archive/")[-2:] == LATER_COLUMNS
            assert len(log_actions(lake, name, "protocol", "archive/")) == 1
    archived = lake.run("query", "SELECT count(*) AS n, count(test_max) AS m FROM archive.data_h", "--format", "json", settings=LATER)
    archived = json.loads(archived.expect(OK).text)
    january = before["data_h"][days(before["data_h"]) < 12]
    assert archived == {"n": len(january), "m": int(january["test_max"].notna().sum())}

    now = {"PLANTLAKE_FAILPOINT_NOW": "2024-03-13T12:00:00Z"}
    for name in ("data_min", "data_h"):
        span = ("--from", "2024-01-01", "--to", "2024-02-28")
        lake.run("archive", "restore", name, *span, "--json", settings=now).expect(OK)
        pd.testing.assert_frame_equal(all_columns(lake, name)[before[name].columns], before[name])
    assert_filled_everywhere(lake, is_filled)


def test_later_version_archives_rows_of_older_lake(new_lake: Callable[[], Lake]) -> None:
    """The archive of an older version gains the columns, too, and is readable before and after."""
    history = History(new_lake())
    lake = history.lake
    history.add(*range(14))
    before = {name: all_columns(lake, name) for name in RESOLUTIONS}
    # By 3 March, the minutes until 21 February have expired.
    maintain(lake, dt.date(2024, 3, 3))
    archived = "SELECT count(*) AS n, count(test_max) AS m FROM archive.data_min"
    answer = lake.run("query", archived, "--format", "json", settings=LATER).expect(OK)
    assert json.loads(answer.text) == {"n": len(before["data_min"]), "m": 0}
    # A date that is archived already is computed again, and archived by the later version.
    history.add(3, settings=LATER, flags=("--full",))
    maintain(lake, dt.date(2024, 3, 4), LATER)
    assert column_names(lake, "data_min", "archive/") == [*COLUMNS, *LATER_COLUMNS, "date"]
    assert_filled(all_columns(lake, "data_min", "archive/"), lambda day: day >= 0)
    answer = lake.run("query", archived, "--format", "json", settings=LATER).expect(OK)
    assert json.loads(answer.text) == {"n": len(before["data_min"]), "m": len(before["data_min"])}


# ------------------------------------------------------------------ columns of other programs


def change_schema(lake: LocalLake, name: str, change: Callable[[list[dict]], list[dict]]) -> None:
    """Commits other columns to a Delta table, as another program may do, and publishes nothing."""
    log = lake.root / name / "_delta_log"
    metadata = log_actions(lake, name, "metaData")[-1]
    schema = json.loads(metadata["schemaString"])
    schema["fields"] = change(schema["fields"])
    metadata["schemaString"] = json.dumps(schema)
    version = max(int(path.stem) for path in log.glob("*.json")) + 1
    info = {"commitInfo": {"timestamp": 1_700_000_000_000, "operation": "CHANGE COLUMNS"}}
    (log / f"{version:020}.json").write_text("\n".join(json.dumps(line) for line in (info, {"metaData": metadata})))


def test_columns_of_other_programs_are_ignored_and_preserved(new_lake: Callable[[], Lake]) -> None:
    """A user adds a text and a nested column, and fills them with the deltalake package."""
    history = History(new_lake())
    lake = history.lake
    history.add(0, 1, 2)
    nested = StructType([Field("state", PrimitiveType("string")), Field("level", PrimitiveType("integer"))])
    for name in RESOLUTIONS:
        table = lake.delta(name)
        table.alter.add_columns([Field("note", PrimitiveType("string")), Field("origin", nested)])
        table.update(predicate=f"asset_id = '{ASSETS[1]}'", updates={"note": "'checked ' || count"})
    marked = {name: all_columns(lake, name) for name in RESOLUTIONS}
    assert marked["data_min"]["note"].notna().sum() == len(marked["data_min"]) / len(ASSETS)

    history.add(3)
    history.check()
    assert maintain(lake)["outcome"] == "maintained"
    history.check()

    def assert_preserved(folder: str = "") -> None:
        for name, before in marked.items():
            after = all_columns(lake, name, folder)
            old = after[days(after) < 3].reset_index(drop=True)
            pd.testing.assert_frame_equal(old[before.columns], before)
            assert after.loc[days(after) == 3, "note"].isna().all()
            assert column_names(lake, name, folder)[-2:] == ["note", "origin"]

    assert_preserved()
    described = lake.query("SELECT * FROM data_h LIMIT 1")
    assert list(described.columns) == [*COLUMNS, "month"]
    # A later version adds its columns beside them.
    history.add(4, settings=LATER)
    history.check()
    assert_filled_everywhere(lake, lambda day: day == 4)
    for name in RESOLUTIONS:
        names = column_names(lake, name)
        assert names == [*COLUMNS, *LATER_COLUMNS, reference.PARTITION[name], "note", "origin"]
    # By 2027, everything has expired.
    maintain(lake, dt.date(2027, 1, 1))
    for name in RESOLUTIONS:
        assert all_columns(lake, name).empty
        archived = all_columns(lake, name, "archive/")
        old = archived[days(archived) < 3].reset_index(drop=True)
        pd.testing.assert_frame_equal(old[marked[name].columns], marked[name])


@pytest.mark.local_only
def test_column_of_another_program_that_must_not_be_null_is_an_error(tmp_path: Path) -> None:
    history = History(LocalLake(tmp_path))
    history.add(0)
    required = {"name": "note", "type": "string", "nullable": False, "metadata": {}}
    change_schema(history.lake, "data_h", lambda fields: [*fields, required])
    for command in (("resample", "--full"), ("maintain",)):
        refused = history.lake.run(*command).expect(FAILURE)
        assert "cannot add rows to data_h: its column note must not be null" in refused.err
    # The published tables can be read.
    assert len(history.lake.query("SELECT * FROM data_h"))


@pytest.mark.local_only
def test_maintain_preserves_columns_that_only_data_files_have(tmp_path: Path) -> None:
    """The schema of the table lacks the column, so that other readers ignore it."""
    history = History(LocalLake(tmp_path))
    lake = history.lake
    history.add(0, settings=SMALL_FILES)
    log = lake.root / "data_min" / "_delta_log"
    lines = []
    for number, file in enumerate(sorted(lake.data_files("data_min"), key=lambda file: file.path)):
        if number % 2:
            continue
        path = lake.root / "data_min" / file.path
        table = pq.read_table(path, partitioning=None)
        source = pa.array([f"{number}-{row}" for row in range(len(table))])
        added = path.with_name(f"other-{number}.parquet")
        pq.write_table(table.append_column("source", source), added)
        partition = {"date": file.partition}
        removed = {"path": file.path, "deletionTimestamp": 1, "dataChange": True, "partitionValues": partition}
        add = next(action for action in log_actions(lake, "data_min", "add") if action["path"] == file.path)
        replaced = {"path": added.relative_to(lake.root / "data_min").as_posix(), "size": added.stat().st_size}
        lines += [{"remove": removed}, {"add": add | replaced}]
    assert len(lines) >= 4, "too few files"
    version = max(int(path.stem) for path in log.glob("*.json")) + 1
    (log / f"{version:020}.json").write_text("\n".join(map(json.dumps, lines)))
    sources = file_column(lake, "source")
    assert maintain(lake)["outcome"] == "maintained"
    assert len(lake.data_files("data_min")) == 1
    assert file_column(lake, "source") == sources
    history.check()


def file_column(lake: LocalLake, column: str) -> list[str]:
    """Returns the values of a column in the data files of minutes."""
    values = []
    for file in lake.data_files("data_min"):
        table = pq.read_table(lake.root / "data_min" / file.path, partitioning=None)
        if column in table.column_names:
            values += [value for value in table[column].to_pylist() if value is not None]
    return sorted(values)
