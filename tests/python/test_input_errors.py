"""Tests of bad input. Every kind is reported with a reason and left out; all other input is processed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import harness
from harness import FAILURE, LEFT_OUT, OK, USAGE, Lake, LocalLake
from reference import RawFile, rollups
from writers import (
    ASSETS, FOOTER_DAMAGE, PAGE_DAMAGE, FileSpec, WrittenFile, break_page, damage, make, parquet_bytes, wrong_type,
)  # fmt: skip

MTIME = 1_700_000_000_000_000_000
GOOD = make(FileSpec(rows=60))
BAD = make(FileSpec(seed=1, rows=60, assets=(1,)))

REASON_SAYS = {
    "zero_bytes": "empty|bytes|small|short|parquet",
    "garbage": "parquet|magic|footer",
    "truncated": "parquet|footer|truncat|magic|EOF|end",
    "no_footer": "parquet|footer|truncat|magic|EOF|end",
    "missing_column": "value",
    "wrong_type": "value",
    "broken_page": "parquet|page|decompress|header|read|thrift|decode|corrupt",
}


def expect_quarantined(lake: Lake, path: str, says: str) -> harness.Finished:
    """Checks that the run continues without this file and reports it in JSON and by its exit code, and returns the run."""

    finished = lake.resample().expect(LEFT_OUT)
    report = finished.json
    named = {entry["path"]: entry["reason"] for entry in report["quarantined"]}
    assert len(named) == 1 and next(iter(named)).endswith(path), f"expected {path} alone in quarantine\n{finished}"
    reason = next(iter(named.values()))
    assert re.search(says, reason, re.IGNORECASE), f"the reason does not match /{says}/\n{finished}"
    assert "panicked" not in reason and "unwrap" not in reason
    assert report["files"]["quarantined"] == 1, str(finished)
    return finished


@pytest.mark.parametrize("kind", FOOTER_DAMAGE + PAGE_DAMAGE)
def test_damaged_file_is_quarantined_until_replaced(lake: Lake, kind: str) -> None:
    lake.put("good.parquet", GOOD.data, MTIME)
    lake.put("sub/bad.parquet", damage(BAD, kind), MTIME)
    expect_quarantined(lake, "sub/bad.parquet", REASON_SAYS[kind])
    harness.assert_expected(lake, rollups(lake.raw_files({"good.parquet": GOOD.table})))

    status = lake.run("status", "--json").expect(OK)
    assert "sub/bad.parquet" in status.text, f"status does not name it\n{status}"
    printed = lake.run("resample", "--full").expect(LEFT_OUT)
    assert "sub/bad.parquet" in printed.err + printed.text, f"the terminal output does not name it\n{printed}"

    before = lake.snapshot()
    again = lake.resample().expect(LEFT_OUT, OK)
    assert again.json["outcome"] == "nothing_to_do", f"an unchanged bad file was read again\n{again}"
    assert lake.snapshot() == before

    lake.put("sub/bad.parquet", BAD.data, MTIME + 1_000_000)
    lake.resample().expect(OK)
    tables = {"good.parquet": GOOD.table, "sub/bad.parquet": BAD.table}
    harness.assert_expected(lake, rollups(lake.raw_files(tables)))


@pytest.mark.parametrize("kind", FOOTER_DAMAGE + PAGE_DAMAGE)
def test_processed_file_that_breaks_is_quarantined(lake: Lake, kind: str) -> None:
    lake.put("good.parquet", GOOD.data, MTIME)
    lake.put("bad.parquet", BAD.data, MTIME)
    lake.resample().expect(OK)
    lake.put("bad.parquet", damage(BAD, kind), MTIME + 1_000_000)
    expect_quarantined(lake, "bad.parquet", REASON_SAYS[kind])
    harness.assert_expected(lake, rollups(lake.raw_files({"good.parquet": GOOD.table})))


def test_file_with_late_broken_page_is_quarantined_as_a_whole(lake: Lake) -> None:
    """The job reads some row groups before the damaged one, and must not use their readings."""
    undamaged = make(FileSpec(seed=3, rows=1_200, days=3, row_group=100, pace="sparse"))
    lake.put("good.parquet", GOOD.data, MTIME)
    lake.put("bad.parquet", break_page(undamaged.data, "value", 5), MTIME)
    expect_quarantined(lake, "bad.parquet", "parquet|page|header|read|decode|thrift")
    harness.assert_expected(lake, rollups(lake.raw_files({"good.parquet": GOOD.table})))
    lake.put("bad.parquet", undamaged.data, MTIME + 1_000_000)
    lake.resample().expect(OK)
    harness.assert_expected(lake, rollups(lake.raw_files({"good.parquet": GOOD.table, "bad.parquet": undamaged.table})))


ROWS = len(BAD.table)
WRONG_TYPES = {
    "text_value": ("value", pa.array(["high"] * ROWS)),
    "boolean_value": ("value", pa.array([True] * ROWS)),
    "list_value": ("value", pa.array([[1.0]] * ROWS)),
    "time_as_value": ("value", pa.array([0] * ROWS).cast(pa.timestamp("us"))),
    "text_time": ("timestamp", pa.array(["2024-01-01T00:00:00Z"] * ROWS)),
    "number_time": ("timestamp", pa.array([1_704_067_200] * ROWS)),
    "date_time": ("timestamp", pa.array([19_723] * ROWS, pa.int32()).cast(pa.date32())),
    "number_id": ("id", pa.array([7] * ROWS)),
    "short_fixed_id": ("id", pa.array([b"12345678"] * ROWS, pa.binary(8))),
    "struct_id": ("id", pa.array([{"text": ASSETS[0]}] * ROWS)),
}


@pytest.mark.parametrize("case", WRONG_TYPES)
def test_quarantine_reason_names_column_of_wrong_type(lake: Lake, case: str) -> None:
    column, values = WRONG_TYPES[case]
    lake.put("good.parquet", GOOD.data, MTIME)
    lake.put("bad.parquet", wrong_type(BAD.table, column, values), MTIME)
    expect_quarantined(lake, "bad.parquet", column)
    harness.assert_expected(lake, rollups(lake.raw_files({"good.parquet": GOOD.table})))


@pytest.mark.parametrize("column", ["id", "timestamp", "value"])
def test_quarantine_reason_names_missing_column(lake: Lake, column: str) -> None:
    lake.put("good.parquet", GOOD.data, MTIME)
    lake.put("bad.parquet", parquet_bytes(BAD.table.drop_columns([column])), MTIME)
    expect_quarantined(lake, "bad.parquet", column)


def test_run_with_many_bad_files_processes_the_good_ones(lake: Lake) -> None:
    tables = {}
    for number in range(40):
        made = make(FileSpec(seed=number, rows=20, day=number % 7))
        path = f"{number:02}.parquet"
        if number % 4 == 0:
            lake.put(path, damage(made, FOOTER_DAMAGE[number // 4 % len(FOOTER_DAMAGE)]), MTIME)
        else:
            lake.put(path, made.data, MTIME)
            tables[path] = made.table
    finished = lake.resample().expect(LEFT_OUT)
    assert {Path(entry["path"]).name for entry in finished.json["quarantined"]} == {
        f"{number:02}.parquet" for number in range(0, 40, 4)
    }
    harness.assert_expected(lake, rollups(lake.raw_files(tables)))


def test_run_with_only_bad_file_publishes_empty_tables(lake: Lake) -> None:
    lake.put("bad.parquet", b"", MTIME)
    expect_quarantined(lake, "bad.parquet", REASON_SAYS["zero_bytes"])
    assert all(len(table) == 0 for table in lake.tables().values())


def test_files_with_other_names_are_ignored(lake: Lake) -> None:
    lake.put("good.parquet", GOOD.data, MTIME)
    for name in ["_SUCCESS", "notes.txt", "good.parquet.crc", "sub/.good.parquet.swp", "data.csv", "parquet",
                 "_temporary/0/part.parquet", ".hidden.parquet", "sub/_delta_log/0.checkpoint.parquet"]:  # fmt: skip
        lake.put(name, b"not readings", MTIME)
    finished = lake.resample().expect(OK)
    assert finished.json["files"]["known"] == 1, str(finished)
    harness.assert_expected(lake, rollups(lake.raw_files({"good.parquet": GOOD.table})))


@pytest.mark.parametrize(
    ("unit", "raw"),
    [
        ("s", 2**63 // 1000 - 1), ("s", -(2**63) // 1000 + 1), ("ms", 2**63 - 1), ("us", 2**63 - 1), ("us", -(2**63)),
        ("ns", 2**63 - 1), ("s", 10**13),
    ],
)
def test_extreme_times_are_out_of_range(lake: Lake, unit: str, raw: int) -> None:
    times = pa.array([raw, 1_704_067_200 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]])
    table = pa.table(
        {"id": [ASSETS[0]] * 2, "timestamp": times.cast(pa.timestamp(unit, "UTC")), "value": pa.array([1.0, 2.0])}
    )
    lake.put("extreme.parquet", parquet_bytes(table), MTIME)
    finished = lake.resample().expect(OK)
    left_out = {reason: count for reason, count in finished.json["readings"]["left_out"].items() if count}
    assert left_out == {"time_out_of_range": 1}, str(finished)
    assert lake.table("data_min")["count"].sum() == 1


def test_plausible_range_is_inclusive_and_configurable(lake: Lake) -> None:
    stamps = ["2024-01-01T23:59:59.999999", "2024-01-02T00:00:00", "2024-01-03T23:59:59.999999", "2024-01-04T00:00:00"]
    table = pa.table(
        {
            "id": [ASSETS[0]] * 4,
            "timestamp": pa.array(stamps).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
            "value": pa.array([1.0, 2.0, 3.0, 4.0]),
        }
    )
    lake.put("a.parquet", parquet_bytes(table), MTIME)
    settings = {"PLANTLAKE_RESAMPLE_EARLIEST": "2024-01-02", "PLANTLAKE_RESAMPLE_LATEST": "2024-01-03"}
    finished = lake.resample(settings=settings).expect(OK)
    assert finished.json["readings"]["left_out"]["time_out_of_range"] == 2, str(finished)
    assert sorted(lake.table("data_min")["value"]) == [2.0, 3.0]


def test_extreme_values_give_finite_averages(lake: Lake) -> None:
    values = [1.7e308, 1.7e308, 5e-324, -0.0, -1.7e308, 1.7e308]
    seconds = [0, 1, 120, 240, 360, 361]
    base = 1_704_067_200_000_000
    table = pa.table(
        {
            "id": [ASSETS[0]] * 6,
            "timestamp": pa.array([base + second * 1_000_000 for second in seconds]).cast(pa.timestamp("us", "UTC")),
            "value": pa.array(values),
        }
    )
    lake.put("a.parquet", parquet_bytes(table), MTIME)
    lake.resample().expect(OK)
    minutes = lake.table("data_min")
    assert list(minutes["min"]) == [1.7e308, 5e-324, -0.0, -1.7e308]
    assert list(minutes["max"]) == [1.7e308, 5e-324, -0.0, 1.7e308]
    assert minutes["value"].between(minutes["min"], minutes["max"]).all(), f"a mean outside its bucket:\n{minutes}"


def test_reversed_date_range_is_usage_error(lake: Lake) -> None:
    finished = lake.resample("--from", "2024-01-02", "--to", "2024-01-01").expect(USAGE)
    assert "2024-01-02" in finished.err, str(finished)


def test_invalid_date_is_usage_error(lake: Lake) -> None:
    lake.resample("--from", "yesterday").expect(USAGE)


@pytest.mark.local_only  # a bucket has no folders that could be missing
def test_missing_raw_folder_is_an_error_and_keeps_tables(lake: Lake) -> None:
    """A missing raw folder is an error and must not empty the tables."""
    lake.put("good.parquet", GOOD.data, MTIME)
    lake.resample().expect(OK)
    finished = lake.resample("--raw", f"{lake.url}/nowhere").expect(FAILURE, USAGE)
    assert "nowhere" in finished.err, str(finished)
    assert not Path(lake.url, "nowhere").exists(), "the job created the folder"
    harness.assert_expected(lake, rollups(lake.raw_files({"good.parquet": GOOD.table})))


def test_unknown_setting_error_suggests_nearest(lake: Lake) -> None:
    finished = lake.resample(settings={"PLANTLAKE_RESAMPLE_MEMROY": "1GiB"}).expect(USAGE)
    assert "RESAMPLE_MEMORY" in finished.err or "resample.memory" in finished.err, str(finished)


@pytest.fixture
def unprivileged() -> Iterator[tuple[LocalLake, dict[str, object]]]:
    """A lake of an unprivileged user, and process options to run as that user, because root may read anything."""
    if os.geteuid() != 0:
        folder = Path(tempfile.mkdtemp(prefix="plantlake-user-"))
        yield LocalLake(folder / "0"), {}
        shutil.rmtree(folder, ignore_errors=True)
        return
    nobody = 65_534
    folder = Path(tempfile.mkdtemp(prefix="plantlake-user-"))
    folder.chmod(0o755)
    program = folder / "plantlake"
    shutil.copy2(harness.binary(), program)
    program.chmod(0o755)
    yield LocalLake(folder / "0"), {"user": nobody, "group": nobody, "extra_groups": [], "program": program}
    shutil.rmtree(folder, ignore_errors=True)


def change_owner(lake: LocalLake, user: dict[str, object]) -> None:
    """Makes the unprivileged user the owner of the lake, if there is one."""
    if user:
        subprocess.run(["chown", "-R", f"{user['user']}:{user['group']}", lake.folder], check=True)


@pytest.mark.local_only
def test_unreadable_file_is_quarantined_until_readable(unprivileged: tuple[LocalLake, dict[str, object]]) -> None:
    lake, user = unprivileged
    lake.put("good.parquet", GOOD.data, MTIME)
    lake.put("secret.parquet", BAD.data, MTIME)
    change_owner(lake, user)
    (lake.raw / "secret.parquet").chmod(0)
    finished = lake.run("resample", "--json", **user).expect(LEFT_OUT)
    named = {Path(entry["path"]).name: entry["reason"] for entry in finished.json["quarantined"]}
    assert list(named) == ["secret.parquet"] and "ermission" in named["secret.parquet"], str(finished)
    harness.assert_expected(lake, rollups([RawFile("good.parquet", MTIME, GOOD.table)]))

    # The new permissions change neither size nor modification time, but the file must be read.
    (lake.raw / "secret.parquet").chmod(0o644)
    lake.run("resample", "--json", **user).expect(OK)
    files = [RawFile("good.parquet", MTIME, GOOD.table), RawFile("secret.parquet", MTIME, BAD.table)]
    harness.assert_expected(lake, rollups(files))


@pytest.mark.local_only
def test_unreadable_folder_is_quarantined_unless_its_files_are_known(unprivileged: tuple[LocalLake, dict[str, object]]) -> None:
    lake, user = unprivileged
    lake.put("good.parquet", GOOD.data, MTIME)
    lake.put("secret/bad.parquet", BAD.data, MTIME)
    change_owner(lake, user)
    (lake.raw / "secret").chmod(0)
    finished = lake.run("resample", "--json", **user).expect(LEFT_OUT)
    assert {entry["path"] for entry in finished.json["quarantined"]} == {"secret"}, str(finished)
    harness.assert_expected(lake, rollups([RawFile("good.parquet", MTIME, GOOD.table)]))
    (lake.raw / "secret").chmod(0o755)
    lake.run("resample", "--json", **user).expect(OK)
    # Its readings are averaged now, and would be lost if its files counted as removed.
    before = lake.tables()
    (lake.raw / "secret").chmod(0)
    finished = lake.run("resample", "--json", **user).expect(FAILURE)
    assert "secret" in finished.err and "permission denied" in finished.err, str(finished)
    assert all(before[name].equals(table) for name, table in lake.tables().items())
    (lake.raw / "secret").chmod(0o755)


@pytest.mark.local_only
def test_unwritable_lake_is_an_error(unprivileged: tuple[LocalLake, dict[str, object]]) -> None:
    lake, user = unprivileged
    lake.put("good.parquet", GOOD.data, MTIME)
    change_owner(lake, user)
    lake.root.chmod(0o555)
    finished = lake.run("resample", "--json", **user).expect(FAILURE)
    assert "ermission" in finished.err, str(finished)
    lake.root.chmod(0o755)
    lake.run("resample", "--json", **user).expect(OK)


def test_file_names_with_special_characters_are_read(lake: Lake) -> None:
    """Names of files and folders may have spaces, special characters and non-ASCII letters."""
    tables: dict[str, pa.Table] = {}
    names = [
        "a b.parquet", "100%.parquet", "Füllstand/größe.parquet", "x=1/y=2/part.parquet", "a+b&c.parquet", "[1].parquet",
    ]  # fmt: skip
    for number, name in enumerate(names):
        made: WrittenFile = make(FileSpec(seed=number, rows=20, assets=(number % 4,), day=number))
        lake.put(name, made.data, MTIME + number * 1_000_000)
        tables[name] = made.table
    finished = lake.resample().expect(OK)
    assert finished.json["files"]["known"] == len(names), str(finished)
    harness.assert_expected(lake, rollups(lake.raw_files(tables)))
    lake.put(names[1], b"", MTIME)
    named = expect_quarantined(lake, names[1], ".").json["quarantined"][0]["path"]
    assert named.endswith(names[1]), named
