"""Tests of runs after something was lost or lies ahead: a table that another program removed, a folder that cannot be listed, and
readings that become plausible later."""

from __future__ import annotations

import io
import os
import shutil
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import FAILURE, LEFT_OUT, OK, RESOLUTIONS, LocalLake

pytestmark = pytest.mark.local_only
PUMP = "a1b2c3d4-0001-4000-8000-abcdef000001"


def parquet(times: list[pd.Timestamp]) -> bytes:
    columns = {"id": [PUMP] * len(times), "timestamp": pa.array(times, pa.timestamp("us", "UTC")), "value": [1.0] * len(times)}
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def hours(date: str, count: int) -> bytes:
    return parquet(list(pd.date_range(date, periods=count, freq="h", tz="UTC")))


def used(lake: LocalLake) -> dict[str, int]:
    """Returns the number of readings in each published table."""
    return {name: int(table["count"].sum()) for name, table in lake.published_tables().items()}


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    return LocalLake(tmp_path)


@pytest.mark.parametrize("table", RESOLUTIONS)
@pytest.mark.parametrize("is_replaced", [False, True])
def test_lost_table_stops_runs_until_a_full_one(lake: LocalLake, table: str, is_replaced: bool) -> None:
    for day in (1, 2, 3):
        lake.put(f"{day}.parquet", hours(f"2024-05-0{day}", day))
        lake.resample().expect(OK)
    shutil.rmtree(lake.root / table)
    if is_replaced:
        other = LocalLake(lake.root.parent / "other")
        other.put("1.parquet", hours("2024-05-01", 1))
        other.resample().expect(OK)
        shutil.copytree(other.root / table, lake.root / table)
    # Neither the run without changes nor the one that would compute one date ends well.
    for commands in (("resample",), ("status",), ("maintain",), ("doctor",)):
        failed = lake.run(*commands)
        assert failed.code != OK and f"{table} has no version" in failed.text + failed.err, failed
    lake.put("2.parquet", hours("2024-05-02", 5))
    before = lake.published()
    assert "resample --full" in lake.resample().expect(FAILURE).err
    assert lake.published() == before
    lake.resample("--full").expect(OK)
    assert used(lake) == dict.fromkeys(RESOLUTIONS, 9)
    lake.put("4.parquet", hours("2024-05-04", 2))
    lake.resample().expect(OK)
    assert used(lake) == dict.fromkeys(RESOLUTIONS, 11)


@pytest.mark.parametrize("latest", ["+1d", "+1h", "+0h"])
def test_readings_just_ahead_are_averaged_when_their_time_comes(tmp_path: Path, latest: str) -> None:
    lake = LocalLake(tmp_path, settings={"PLANTLAKE_RESAMPLE_LATEST": latest})
    ahead = {"+1d": pd.Timedelta(days=1), "+1h": pd.Timedelta(hours=1), "+0h": pd.Timedelta(0)}[latest]
    now = pd.Timestamp.now("UTC").floor("us") + ahead
    lake.put("ahead.parquet", parquet([now - pd.Timedelta(seconds=2), now + pd.Timedelta(seconds=5)]))
    first = lake.resample().expect(OK, LEFT_OUT).json["readings"]
    assert (first["used"], first["left_out"]) == (1, {"time_out_of_range": 1})
    time.sleep(6)
    assert lake.resample().expect(OK, LEFT_OUT).json["readings"]["used"] == 2
    assert used(lake) == dict.fromkeys(RESOLUTIONS, 2)


def test_folder_that_cannot_be_listed_fails_every_report(lake: LocalLake) -> None:
    lake.put("a.parquet", hours("2024-05-01", 1))
    lake.put("sub/b.parquet", hours("2024-05-02", 1))
    lake.resample().expect(OK)
    (lake.raw / "sub").chmod(0)
    try:
        if os.access(lake.raw / "sub", os.R_OK):
            pytest.skip("this user may list every folder")
        for command in ("resample", "status", "doctor"):
            failed = lake.run(command)
            assert failed.code != OK and "cannot list the folder sub" in failed.text + failed.err, failed
    finally:
        (lake.raw / "sub").chmod(0o755)
