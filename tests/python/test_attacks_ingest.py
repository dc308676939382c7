"""Attacks by ingest: readings that should reveal or slow down other organisations, or make the next run take hours."""

from __future__ import annotations

import datetime as dt
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_manager
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import OK
from server import BEARER, Plant, connect, eventually
from test_ingest import assert_refused, gateway, granted_assets, raw_files, readings, send, start_ingest

pytestmark = pytest.mark.local_only
MIXED = "mixed.parquet"
# The time after which the server has surveyed a new file. It surveys new files every 5 s.
SURVEY_SECONDS = 12.0


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("ingest")).build()
    for tenant in ("North", "South"):
        email = f"gateway@{tenant.lower()}.example"
        plant.run("user", "create", email, "--org", tenant, "--role", "service", "--ingest").expect(OK)
        created = plant.run("key", "create", "--user", email, "--name", "line", "--ingest", "--json").expect(OK).json
        plant.tenants[tenant].gateway = created["key"]
    # Grants overlap: this organisation sees a part of South's assets.
    plant.tenant("Shift", ["--type", "pressure sensor"])
    plant.lake.put(MIXED, parquet_of(mixed(plant)))
    plant.serve()
    plant.began = time.monotonic()
    yield plant
    assert plant.stop() == OK


def day(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def mixed(plant: Plant) -> pa.Table:
    """Returns North's readings of one day, and South's of another."""
    north = readings(granted_assets(plant)[:2], 5, day("2024-09-01"))
    south = readings(granted_assets(plant, "South")[:2], 5, day("2024-09-03"))
    return pa.concat_tables([north, south])


def parquet_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def damage(path: Path) -> None:
    """Overwrites a file with zeros, but keeps its size and times, so that it counts as the same version."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"\0" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def count_of(date: str) -> str:
    return f"SELECT count(*) AS n FROM raw_readings WHERE timestamp >= '{date}T00:00:00Z' AND timestamp < '{date}T23:00:00Z'"


def send_new(plant: Plant, tenant: str, sent: pa.Table) -> Path:
    """Sends readings and returns the file in which they are stored."""
    before = raw_files(plant)
    with gateway(plant, tenant) as connection:
        assert send(connection, sent) == sent.num_rows
    [created] = raw_files(plant).keys() - before.keys()
    return created


# ---- files of others


def test_query_does_not_open_foreign_files(plant: Plant) -> None:
    sent = readings(granted_assets(plant, "South")[:3], 4, day("2024-10-01"))
    created = send_new(plant, "South", sent)
    sql = count_of("2024-10-01")
    eventually(lambda: plant.ask(sql, "South")["n"][0] == sent.num_rows)
    damage(created)

    def is_reported() -> bool:
        return any(created.name in line and "cannot read" in line for line in plant.log)

    # From now on, opening the file fails.
    for _ in range(3):
        assert plant.ask(sql)["n"][0] == 0
        assert plant.ask("SELECT count(*) AS n FROM raw_readings")["n"][0] > 0
    assert not is_reported()
    with pytest.raises(adbc_driver_manager.Error):
        plant.ask(sql, "South")
    eventually(is_reported)
    created.unlink()


def test_ingested_readings_are_visible_by_grant(plant: Plant) -> None:
    kinds = {asset["id"]: asset["type"] for asset in plant.assets()}
    pressure = [id for id in granted_assets(plant, "South") if kinds[id] == "pressure sensor"][:2]
    flow = [id for id in granted_assets(plant, "South") if kinds[id] == "flow sensor"][:1]
    send_new(plant, "South", readings(pressure + flow, 4, day("2024-10-05")))
    sql = count_of("2024-10-05")
    for tenant, visible in {"South": 12, "Everything": 12, "Shift": 8, "North": 0, "Nobody": 0}.items():
        eventually(lambda: plant.ask(sql, tenant)["n"][0] == visible)
    # Another server does not know the file from the ingest, but from its survey.
    other = Plant(plant.lake.folder)
    other.tenants = plant.tenants
    other.serve()
    try:
        for tenant, visible in {"North": 0, "Shift": 8, "South": 12, "Everything": 12}.items():
            assert other.ask(sql, tenant)["n"][0] == visible
    finally:
        assert other.stop() == OK


def test_later_grant_shows_earlier_readings(plant: Plant) -> None:
    kinds = {asset["id"]: asset["type"] for asset in plant.assets()}
    level = [id for id in granted_assets(plant, "South") if kinds[id] == "level sensor"][:1]
    send_new(plant, "South", readings(level, 4, day("2024-10-07")))
    sql = count_of("2024-10-07")
    eventually(lambda: plant.ask(sql, "South")["n"][0] == 4)
    assert plant.ask(sql, "Shift")["n"][0] == 0
    plant.run("org", "grant", "Shift", "--type", "level sensor").expect(OK)
    eventually(lambda: plant.ask(sql, "Shift")["n"][0] == 4)


def test_shared_file_is_opened_for_own_dates_only(plant: Plant) -> None:
    """A file has North's readings of one day and South's of another. A query does not open it for a day of the other."""
    time.sleep(max(0.0, plant.began + SURVEY_SECONDS - time.monotonic()))
    assert plant.ask(count_of("2024-09-01"))["n"][0] == 10
    assert plant.ask(count_of("2024-09-03"), "South")["n"][0] == 10
    damage(plant.lake.raw / MIXED)
    assert plant.ask(count_of("2024-09-03"))["n"][0] == 0
    assert plant.ask(count_of("2024-09-01"), "South")["n"][0] == 0
    with pytest.raises(adbc_driver_manager.Error):
        plant.ask(count_of("2024-09-01"))
    (plant.lake.raw / MIXED).unlink()


# ---- times


def each_day(asset: str, first: dt.datetime, days: int) -> pa.Table:
    times = [first + dt.timedelta(days=number) for number in range(days)]
    return pa.table({"id": [asset] * days, "timestamp": pa.array(times, pa.timestamp("us", "UTC")), "value": [1.0] * days})


def test_readings_older_than_oldest_ingest_are_refused(plant: Plant) -> None:
    sent = each_day(granted_assets(plant)[0], day("1970-01-01"), 20_780)
    assert_refused(plant, sent, "row 1: the time is 1970-01-01T00:00:00Z, and readings from before")
    now = dt.datetime.now(dt.UTC)
    old = each_day(granted_assets(plant)[0], now - dt.timedelta(days=3_651), 1)
    assert "serve.oldest_ingest" in assert_refused(plant, old, "row 1: the time is")
    # Ten years at once are accepted.
    send_new(plant, "North", each_day(granted_assets(plant)[0], now - dt.timedelta(days=3_649), 3_650)).unlink()


def test_readings_of_too_many_days_are_refused(plant: Plant) -> None:
    other = Plant(plant.lake.folder)
    other.tenants = plant.tenants
    other.serve(settings={"PLANTLAKE_SERVE_OLDEST_INGEST": "forever"})
    try:
        sent = each_day(granted_assets(plant)[0], day("1980-01-01"), 4_001)
        # Several batches, with repeated days: only distinct days count.
        reader = pa.concat_tables([sent.slice(0, 4_000), sent.slice(0, 4_000), sent.slice(4_000)]).to_reader(
            max_chunksize=1_000
        )
        assert_refused(other, reader, "row 8001: with 1990-12-14 the readings have more than 4000 distinct days")
        send_new(other, "North", sent.slice(0, 4_000)).unlink()
    finally:
        assert other.stop() == OK


@pytest.mark.parametrize("zone", ["+99:99", "Mars/Phobos"])
def test_invalid_time_zones_are_refused(plant: Plant, zone: str) -> None:
    sent = readings(granted_assets(plant)[:1], 3)
    column = sent["timestamp"].combine_chunks().view(pa.int64()).view(pa.timestamp("us", zone))
    assert_refused(plant, sent.set_column(1, "timestamp", column), f'invalid time zone "{zone}"')


# ---- concurrent calls


def test_ingests_above_organisation_limit_are_refused(plant: Plant) -> None:
    key = plant.tenants["North"].gateway
    held = [start_ingest(plant.uri, key, granted_assets(plant)[0]) for _ in range(8)]
    errors: list[str] = []

    def is_full() -> bool:
        try:
            with connect(plant.uri, {BEARER: f"Bearer {key}"}) as connection:
                send(connection, readings(granted_assets(plant)[:1], 1))
        except adbc_driver_manager.OperationalError as error:
            errors.append(str(error))
            return True
        return False

    eventually(is_full, 20)
    assert "your organisation has 8 concurrent ingests" in errors[0]
    send_new(plant, "South", readings(granted_assets(plant, "South")[:1], 1)).unlink()
    for _, writer, _ in held:
        writer.close()
    with gateway(plant) as connection:
        send(connection, readings(granted_assets(plant)[:1], 1))
