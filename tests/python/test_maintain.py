"""Maintenance compacts many small files into few sorted ones, without changes to rows or effects on readers."""

from __future__ import annotations

import datetime as dt
import io
import json
import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import compare
import harness
from conftest import LONG
from harness import KILLED, OK, REFUSED, Finished, Lake
from prepared import prepared
from reference import RESOLUTIONS
from server import Plant, any_of, text_field
from stories import LakeModel, Put, Remove, Run
from test_kill import LEASE_SECONDS, assert_consistent, read_state, resample_after_kill, start_paused_with_lease
from writers import ASSETS, FileSpec, parquet_bytes

RUNS = 200 if LONG else 12
# Little memory makes many small files: each date in parts of a few hundred rows.
SMALL = {"PLANTLAKE_FAILPOINT_MEMORY": str(1 << 14)}
FIRST = dt.date(2024, 1, 20)


def clock_after(days: int) -> dict[str, str]:
    """Returns the setting that moves the clock forward by `days`."""
    return {"PLANTLAKE_FAILPOINT_NOW": f"{dt.datetime.now(dt.UTC) + dt.timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"}


LATER = clock_after(2)
FAILPOINTS = [
    "lease-taken", "before-intent", "after-intent", "before-data-file", "after-data-file", "after-data-file:3",
    "before-commit-data_min", "after-commit-data_min", "before-commit-data_h", "after-commit-data_h", "before-commit-data_d",
    "after-commit-data_d", "before-ledger", "after-ledger", "before-publish", "after-publish", "after-swept-file",
    "after-swept-file:4", "after-checkpoint", "after-cleanup",
]  # fmt: skip


def daily(number: int) -> dict[str, pa.Table]:
    """Returns a day's readings, every third minute in one file per asset, and one late reading per asset from ten days
    before."""
    rng = np.random.default_rng(number)
    start = pd.Timestamp(FIRST, tz="UTC") + pd.Timedelta(days=number)
    files = {}
    for at, asset in enumerate(ASSETS):
        times = [start + pd.Timedelta(minutes=minute) for minute in range(at, 1440, 3)]
        times.append(start - pd.Timedelta(days=10, minutes=int(rng.integers(1, 60))))
        frame = pd.DataFrame({"id": asset, "timestamp": times, "value": rng.normal(size=len(times))})
        frame = frame.astype({"timestamp": "datetime64[us, UTC]"})
        files[f"day-{number:03}/{at}.parquet"] = pa.Table.from_pandas(frame, preserve_index=False)
    return files


def maintain(lake: Lake, *flags: str, settings: dict[str, str] | None = None) -> Finished:
    return lake.run("maintain", "--json", *flags, settings=settings)


def per_partition(lake: Lake, name: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for file in lake.data_files(name):
        counts[file.partition] = counts.get(file.partition, 0) + 1
    return counts


def by_polars(lake: Lake) -> dict[str, pl.DataFrame]:
    return {
        name: pl.read_delta(f"{lake.url}/{name}", storage_options=lake.storage_options).sort("asset_id", "timestamp")
        for name in RESOLUTIONS
    }


def stored(lake: Lake, name: str) -> set[str]:
    """Returns the existing data files, including those that no version refers to."""
    found = set()
    for partition in lake.listing(name):
        if "=" in partition:
            found |= {f"{partition}/{file}" for file in lake.listing(f"{name}/{partition}")}
    return found


def actions(lake: Lake, name: str) -> list[dict]:
    """Returns the actions of the published commit."""
    version = lake.published()["versions"][name]
    return [json.loads(line) for line in lake.read(f"{name}/_delta_log/{version:020}.json").splitlines()]


def many_small_files(lake: Lake) -> dict[str, pa.Table]:
    raw = {}
    for number in range(RUNS):
        for path, table in daily(number).items():
            raw[path] = table
            lake.put(path, parquet_bytes(table), 1_700_000_000_000_000_000 + number)
        lake.resample(settings=SMALL).expect(OK)
    return raw


def test_maintain_merges_small_files_per_partition(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    raw = many_small_files(lake)
    before, polars_before = lake.tables(), by_polars(lake)
    assert max(per_partition(lake, "data_min").values()) > 2, "the runs left no small files to compact"
    published = lake.published()
    pinned = {name: lake.delta(name) for name in RESOLUTIONS}

    planned = maintain(lake, "--dry-run").expect(OK).json
    assert planned["outcome"] == "dry_run" and planned["run"] is None and lake.published() == published
    done = maintain(lake).expect(OK).json
    assert done["outcome"] == "maintained" and done["run"] == published["run"] + 1
    sizes = [{key: value for key, value in entry.items() if key != "bytes_after"} for entry in done["compacted"]]
    assert sizes == planned["compacted"], "the dry run planned other work"

    for name in RESOLUTIONS:
        assert set(per_partition(lake, name).values()) == {1}, f"{name}: {per_partition(lake, name)}"
    compare.all_same_bits(lake.tables(), before)
    compare.all_same_bits(lake.published_tables(), before)
    harness.assert_expected(lake, harness.reference.rollups(lake.raw_files(raw)))
    for name, table in by_polars(lake).items():
        assert table.equals(polars_before[name]), f"polars reads other rows from {name}"
    # Readers of the change feed see no changes, and the transaction versions of the job continue.
    committed = actions(lake, "data_min")
    assert {action["add"]["dataChange"] for action in committed if "add" in action} == {False}
    assert {action["remove"]["dataChange"] for action in committed if "remove" in action} == {False}
    assert [action["txn"]["version"] for action in committed if "txn" in action] == [done["run"]]
    assert lake.resample().expect(OK).json["outcome"] == "nothing_to_do"
    assert maintain(lake).expect(OK).json["outcome"] == "nothing_to_do"

    # External readers that opened the tables before can continue.
    for name, table in pinned.items():
        rows = table.to_pyarrow_table().num_rows
        assert rows == len(before[name])

    # The files have the same layout as those of a lake made in one run.
    fresh = new_lake()
    for path, table in raw.items():
        fresh.put(path, parquet_bytes(table), lake.mtimes()[path])
    fresh.resample().expect(OK)
    compare.all_same_bits(fresh.tables(), lake.tables())
    assert layout(lake) == layout(fresh)

    # Later runs of the job work.
    path = "day-003/0.parquet"
    raw[path] = daily(1_000)[f"day-1000/1.parquet"]
    lake.put(path, parquet_bytes(raw[path]), 1_800_000_000_000_000_000)
    lake.resample().expect(OK)
    harness.assert_expected(lake, harness.reference.rollups(lake.raw_files(raw)))


def layout(lake: Lake) -> dict[tuple[str, str], list]:
    """Returns the Parquet layout of the file of each partition."""
    found = {}
    for name in RESOLUTIONS:
        for file in lake.data_files(name):
            metadata = pq.ParquetFile(io.BytesIO(lake.read(f"{name}/{file.path}"))).metadata
            groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
            found[name, file.partition] = [
                (
                    group.num_rows,
                    [(column.column_index, column.descending) for column in group.sorting_columns],
                    [
                        (column.path_in_schema, column.compression, column.encodings, column.has_column_index, column.has_offset_index)
                        for column in (group.column(at) for at in range(group.num_columns))
                    ],
                )
                for group in groups
            ]
    return found


@prepared
def two_runs(lake: Lake) -> LakeModel:
    """Executes two runs with so little memory that they leave several files per partition."""
    model = LakeModel(lake)
    for step in [
        Put(0, FileSpec(rows=3_000, days=3, assets=(0, 1, 2, 3))),
        Run(memory=1 << 14),
        Put(1, FileSpec(seed=1, rows=200, day=1, days=2, assets=(1, 2))),
        Run(memory=1 << 14),
    ]:
        model.apply(step)
    return model


def test_maintain_deletes_only_unreferenced_files(lake: Lake) -> None:
    model = two_runs(lake)
    # A killed run leaves files that no version refers to.
    model.apply(Put(2, FileSpec(seed=2, rows=100, day=2)))
    lake.resample(settings={"PLANTLAKE_FAILPOINT": "before-commit-data_min"}).expect(KILLED)
    resample_after_kill(lake)
    model.expected = model.reference()
    referenced = {
        name: {file.path for version in range(lake.delta(name).version() + 1) for file in lake.data_files(name, version)}
        for name in RESOLUTIONS
    }
    existing = {name: stored(lake, name) for name in RESOLUTIONS}
    assert existing["data_min"] - referenced["data_min"], "the killed run left no files"

    now = maintain(lake).expect(OK).json
    assert now["swept"]["data_files"] == 0, f"files within the grace period were deleted: {now}"
    assert all(existing[name] <= stored(lake, name) for name in RESOLUTIONS)

    planned = maintain(lake, "--dry-run", settings=LATER).expect(OK).json
    later = maintain(lake, settings=LATER).expect(OK).json
    assert later["swept"]["data_files"] == planned["swept"]["data_files"] > 0
    for name in RESOLUTIONS:
        assert stored(lake, name) == {file.path for file in lake.data_files(name)}, name
    harness.assert_expected(lake, model.expected)
    assert "_last_checkpoint" in lake.listing("data_min/_delta_log")
    model.check_nothing_to_do()
    assert maintain(lake, settings=LATER).expect(OK).json["outcome"] == "nothing_to_do"

    # After another month, old log files are deleted.
    assert maintain(lake, settings=clock_after(40)).expect(OK).json["swept"]["log_files"] > 0
    harness.assert_expected(lake, model.expected)
    model.apply(Put(0, FileSpec(seed=3, rows=100, day=1), 3))
    model.run(Run())


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_maintain_killed_at_failpoint_keeps_rows(lake: Lake, failpoint: str) -> None:
    """After a kill at any step, readers see the same rows, and the next run of maintenance or of the job is correct."""
    model = two_runs(lake)
    # At this failpoint, there must be files to sweep.
    settings = LATER if "swept" in failpoint else {}
    before = lake.published_tables()
    maintain(lake, settings=settings | {"PLANTLAKE_FAILPOINT": failpoint}).expect(KILLED)
    compare.all_same_bits(lake.published_tables(), before)
    assert_consistent(read_state(lake), [model.expected], f"after a kill at {failpoint}")

    model.apply(Put(2, FileSpec(seed=2, rows=100, day=2, assets=(0, 3))))
    model.apply(Remove(1))
    first = FAILPOINTS.index(failpoint) % 2 == 0
    if first:
        until = time.monotonic() + LEASE_SECONDS
        while (done := maintain(lake, settings=settings)).code == REFUSED and time.monotonic() < until:
            time.sleep(2)
        done.expect(OK)
        compare.all_same_bits(lake.published_tables(), before)
    resample_after_kill(lake)
    model.expected = model.reference()
    harness.assert_expected(lake, model.expected)
    # This run replaces files, which are deleted later, when they are old enough.
    maintain(lake, settings=LATER).expect(OK)
    maintain(lake, settings=clock_after(9)).expect(OK)
    harness.assert_expected(lake, model.expected)
    model.check_nothing_to_do()
    for name in RESOLUTIONS:
        assert stored(lake, name) == {file.path for file in lake.data_files(name)}, name


@pytest.mark.parametrize("failpoint", ["after-commit-data_min", "after-commit-data_h", "before-publish"])
def test_killed_resample_is_not_published_by_maintain(lake: Lake, failpoint: str) -> None:
    """The tables contain half of a killed run of the job. Maintenance publishes none of it and keeps its dates due."""
    model = LakeModel(lake)
    model.apply(Put(0, FileSpec(rows=3_000, days=3, assets=(0, 1, 2, 3))))
    model.apply(Run(memory=1 << 14))
    before = lake.published_tables()
    model.apply(Put(1, FileSpec(seed=1, rows=200, day=1, days=2, assets=(1, 2))))
    lake.resample(settings={"PLANTLAKE_FAILPOINT": failpoint}).expect(KILLED)
    done = maintain(lake, settings={"PLANTLAKE_MAINTAIN_TARGET_FILE_SIZE": "1MiB"})
    until = time.monotonic() + LEASE_SECONDS
    while done.code == REFUSED and time.monotonic() < until:
        time.sleep(2)
        done = maintain(lake)
    assert done.expect(OK).json["compacted"]
    compare.all_same_bits(lake.tables(), before)
    assert_consistent(read_state(lake), [model.expected], "after half a run and maintenance")
    lake.resample().expect(OK)
    model.expected = model.reference()
    harness.assert_expected(lake, model.expected)
    model.check_nothing_to_do()


def test_maintain_during_resample_is_refused(lake: Lake) -> None:
    model = LakeModel(lake)
    model.apply(Put(0, FileSpec(rows=200, days=3)))
    model.apply(Run())
    model.apply(Put(5, FileSpec(seed=5, rows=120_000, days=3, pace="sparse", order="shuffled")))
    first = start_paused_with_lease(lake)
    try:
        before = lake.snapshot()
        refused = maintain(lake).expect(REFUSED)
        assert "resample" in refused.err, str(refused)
        assert lake.snapshot() == before
        maintain(lake, "--dry-run").expect(OK)
    finally:
        first.kill()
        first.communicate()


def test_maintain_of_empty_lake_publishes_nothing(lake: Lake) -> None:
    assert maintain(lake).expect(OK).json["outcome"] == "nothing_published"


def test_dry_run_without_work_lists_no_steps(lake: Lake) -> None:
    LakeModel(lake).apply(Put(0, FileSpec(rows=50)))
    lake.resample().expect(OK)
    dry_run = lake.run("maintain", "--dry-run").expect(OK)
    assert "Nothing to do" in dry_run.text and "Would do" not in dry_run.text, str(dry_run)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("maintain"), SMALL).build()
    plant.serve()
    yield plant
    plant.stop()


@pytest.mark.local_only
def test_ticket_from_before_maintenance_returns_same_rows(plant: Plant) -> None:
    client = plant.client("Everything")
    statement = any_of("CommandStatementQuery", text_field(1, "SELECT * FROM data_min ORDER BY asset_id, timestamp"))
    before, info = client.get(client.info(statement).endpoints[0].ticket), client.info(statement)
    done = maintain(plant.lake).expect(OK).json
    assert done["compacted"], done
    time.sleep(2.5)
    # The old ticket reads the old version of the tables; the new statement reads the new one.
    assert client.get(info.endpoints[0].ticket).equals(before)
    assert client.query("SELECT * FROM data_min ORDER BY asset_id, timestamp -- anew").equals(before)
