"""Tests of readings sent with ADBC's adbc_ingest, pandas and polars. pyarrow reads the resulting raw files, and pandas computes
the expected averages."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_flightsql
import adbc_driver_manager
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest

from conftest import Effort
from harness import OK, small_disk
from server import BEARER, Plant, any_of, connect, eventually, text_field, varint

pytestmark = pytest.mark.local_only
MAX_MESSAGE_SIZE = adbc_driver_flightsql.DatabaseOptions.WITH_MAX_MSG_SIZE.value
START = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("ingest")).build()
    for tenant in ("North", "South"):
        email = f"gateway@{tenant.lower()}.example"
        plant.run("user", "create", email, "--org", tenant, "--role", "service", "--ingest").expect(OK)
        made = plant.run("key", "create", "--user", email, "--name", "line", "--ingest", "--json").expect(OK).json
        plant.tenants[tenant].gateway = made["key"]
        made = plant.run("key", "create", "--user", email, "--name", "reads", "--json").expect(OK).json
        plant.tenants[tenant].reader = made["key"]
    plant.serve(settings={"PLANTLAKE_SERVE_LARGEST_INGEST": "64MiB", "PLANTLAKE_SERVE_UNREAD_TIMEOUT": "3s"})
    yield plant
    assert plant.stop() == OK


def gateway(plant: Plant, tenant: str = "North", key: str = "gateway"):
    """Returns a connection with this key of the tenant's gateway user."""
    return connect(plant.uri, {BEARER: f"Bearer {getattr(plant.tenants[tenant], key)}"})


def readings(assets: list[str], each: int, start: dt.datetime = START) -> pa.Table:
    """Returns `each` readings per asset, one every ten seconds."""
    rng = np.random.default_rng(len(assets) * each)
    times = [start + dt.timedelta(seconds=10 * i) for i in range(each)]
    return pa.table({
        "id": pa.array(np.repeat(assets, each)),
        "timestamp": pa.array(times * len(assets), pa.timestamp("us", "UTC")),
        "value": rng.normal(50, 5, len(assets) * each),
    })


def granted_assets(plant: Plant, tenant: str = "North") -> list[str]:
    """Returns the assets of a tenant, sorted."""
    return sorted(plant.tenants[tenant].assets)


def raw_files(plant: Plant) -> dict[Path, int]:
    """Returns the paths and sizes of all files under raw, including unfinished ones."""
    folder = plant.lake.folder / "lake" / "raw"
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def send(connection, data, mode: str = "append", table: str = "raw_readings", **options) -> int:
    with connection.cursor() as cursor:
        return cursor.adbc_ingest(table, data, mode=mode, **options)


def assert_refused(
    plant: Plant, data, message: str, tenant: str = "North", kind=adbc_driver_manager.ProgrammingError, **options
) -> str:
    """Checks that the readings are refused with this message and that no file is kept, and returns the error."""
    before = raw_files(plant)
    with gateway(plant, tenant) as connection:
        with pytest.raises(kind) as error:
            send(connection, data, **options)
    assert message in str(error.value), str(error.value)
    assert raw_files(plant) == before
    return str(error.value)


# ---- accepted readings


def test_ingest_writes_one_file_that_next_run_processes(plant: Plant) -> None:
    assets = granted_assets(plant)[:3]
    sent = readings(assets, 600)
    before = raw_files(plant)
    with gateway(plant) as connection:
        assert send(connection, sent) == sent.num_rows
    [made] = raw_files(plant).keys() - before.keys()
    kept = pq.read_table(made)
    assert kept.column_names == ["id", "timestamp", "value"]
    assert kept.cast(sent.schema).equals(sent)
    # The readings are visible at once, and as averages after a run.
    sql = "SELECT count(*) AS n FROM raw_readings WHERE timestamp >= '2024-06-01T00:00:00Z'"
    assert eventually(lambda: plant.ask(sql)["n"][0] == sent.num_rows) < 5
    assert plant.ask(sql, "South")["n"][0] == 0
    plant.lake.resample().expect(OK)
    frame = sent.to_pandas()
    expected = frame.groupby(["id", frame["timestamp"].dt.floor("min")])["value"].agg(["mean", "count"]).reset_index()
    sql = "SELECT asset_id, timestamp, value, count FROM data_min WHERE timestamp >= '2024-06-01T00:00:00Z' ORDER BY 1, 2"
    eventually(lambda: len(plant.ask(sql)) == len(expected))
    actual = plant.ask(sql)
    assert list(actual["asset_id"]) == list(expected["id"])
    assert list(actual["count"]) == list(expected["count"])
    np.testing.assert_allclose(actual["value"], expected["mean"], rtol=1e-12)


@pytest.mark.parametrize("kind", ["large", "dictionary", "bytes", "milliseconds", "local", "integers", "upper", "extra"])
def test_ingest_accepts_all_column_types_of_raw_files(plant: Plant, kind: str) -> None:
    kinds = ["large", "dictionary", "bytes", "milliseconds", "local", "integers", "upper", "extra"]
    start = START + dt.timedelta(days=1 + kinds.index(kind))
    plain = readings(granted_assets(plant)[:2], 5, start)
    id, timestamp, value = plain.columns
    columns = {
        "large": {"id": id.cast(pa.large_string())},
        "dictionary": {"id": id.combine_chunks().dictionary_encode()},
        "bytes": {"id": pa.array([bytes.fromhex(text.replace("-", "")) for text in id.to_pylist()], pa.binary(16))},
        "milliseconds": {"timestamp": timestamp.cast(pa.timestamp("ms", "UTC"))},
        "local": {"timestamp": timestamp.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us", "Asia/Kolkata"))},
        "integers": {"value": pa.array(range(10), pa.int16())},
        "upper": {"id": pa.array([text.upper() for text in id.to_pylist()])},
        "extra": {"quality": pa.array(["good"] * 10)},
    }[kind]
    sent = pa.table({"id": id, "timestamp": timestamp, "value": value} | columns)
    with gateway(plant) as connection:
        assert send(connection, sent) == 10
    day = start.strftime("%Y-%m-%d")
    sql = (
        "SELECT lower(id) AS id, timestamp, value FROM raw_readings "
        f"WHERE timestamp >= '{day}T00:00:00Z' AND timestamp < '{day}T12:00:00Z' ORDER BY 1, 2"
    )
    eventually(lambda: len(plant.ask(sql)) == 10)
    actual = plant.ask(sql)
    assert list(actual["id"]) == id.to_pylist()
    assert list(actual["timestamp"]) == list(timestamp.to_pandas())
    assert list(actual["value"]) == [float(v) for v in sent["value"].to_pylist()]


def test_ingested_bad_values_are_left_out_of_averages(plant: Plant) -> None:
    start = START + dt.timedelta(days=20)
    sent = readings(granted_assets(plant)[:1], 6, start)
    values = pa.array([1.0, None, float("nan"), float("inf"), 3.0, 5.0])
    with gateway(plant) as connection:
        send(connection, sent.set_column(2, "value", values))
    plant.lake.resample()
    sql = "SELECT value, count FROM data_min WHERE timestamp = '2024-06-21T00:00:00Z'"
    eventually(lambda: len(plant.ask(sql)) == 1)
    assert plant.ask(sql).iloc[0].tolist() == [3.0, 3]


def test_pandas_and_polars_ingest_readings(plant: Plant) -> None:
    start = START + dt.timedelta(days=30)
    frame = readings(granted_assets(plant)[:2], 50, start)
    with gateway(plant) as connection:
        frame.to_pandas().to_sql("raw_readings", connection, if_exists="append", index=False)
        later = readings(granted_assets(plant)[:2], 50, start + dt.timedelta(days=1))
        pl.from_arrow(later).write_database("raw_readings", connection, if_table_exists="append", engine="adbc")
    sql = "SELECT count(*) AS n FROM raw_readings WHERE timestamp >= '2024-07-01T00:00:00Z'"
    eventually(lambda: plant.ask(sql)["n"][0] == 200)


def test_ingest_of_million_readings_in_one_batch_succeeds(plant: Plant) -> None:
    sent = readings(granted_assets(plant)[:4], 250_000, START + dt.timedelta(days=40))
    reader = sent.combine_chunks().to_reader()
    # By default, the driver sends at most 16 MiB in one message.
    options = {BEARER: f"Bearer {plant.tenants['North'].gateway}", MAX_MESSAGE_SIZE: str(64 << 20)}
    with connect(plant.uri, options) as connection:
        assert send(connection, reader) == 1_000_000


def test_ingest_of_no_readings_writes_no_file(plant: Plant) -> None:
    before = raw_files(plant)
    with gateway(plant) as connection:
        assert send(connection, readings(granted_assets(plant)[:1], 0)) == 0
    assert raw_files(plant) == before


# ---- refused readings


def test_ingest_of_hidden_asset_gives_same_error_as_unknown_asset(plant: Plant) -> None:
    own_asset, other_asset = granted_assets(plant)[0], granted_assets(plant, "South")[0]
    sent = readings([own_asset, other_asset], 10)
    hidden = assert_refused(plant, sent, f"row 11: the asset {other_asset} does not exist or is not granted")
    # The error for an asset of another organisation is the same as for an unknown asset.
    missing = "00000000-0000-4000-8000-000000000000"
    sent = readings([own_asset, missing], 10)
    unknown = assert_refused(plant, sent, f"row 11: the asset {missing} does not exist or is not granted")
    hidden, unknown = hidden.replace(other_asset, "X"), unknown.replace(missing, "X")
    assert hidden.split("nothing was kept")[0] == unknown.split("nothing was kept")[0]


def test_ingest_with_invalid_last_row_keeps_nothing(plant: Plant) -> None:
    sent = readings(granted_assets(plant)[:3], 100_000, START + dt.timedelta(days=60))
    last = pa.table({"id": ["not a uuid"], "timestamp": pa.array([START], pa.timestamp("us", "UTC")), "value": [1.0]})
    reader = pa.concat_tables([sent, last]).to_reader(max_chunksize=10_000)
    assert_refused(plant, reader, "row 300001: the id is \"not a uuid\"")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("id", pa.array([None] * 3, pa.string()), "row 1: the id is null"),
        ("timestamp", pa.array([START, None, START], pa.timestamp("us", "UTC")), "row 2: the time is null"),
        (
            "timestamp",
            pa.array([START, START, dt.datetime(2950, 1, 1)], pa.timestamp("us", "UTC")),
            "row 3: the time is 2950-01-01",
        ),
        ("timestamp", pa.array(["2024-06-01"] * 3), "the column \"timestamp\" is Utf8, and must be a timestamp"),
        ("value", pa.array(["1"] * 3), "the column \"value\" is Utf8"),
        ("id", pa.array([1, 2, 3]), "the column \"id\" is Int64"),
    ],
)
def test_ingest_of_invalid_column_is_refused(plant: Plant, column: str, values: pa.Array, message: str) -> None:
    sent = readings(granted_assets(plant)[:1], 3)
    assert_refused(plant, sent.set_column(sent.column_names.index(column), column, values), message)


def test_ingest_without_id_column_is_refused(plant: Plant) -> None:
    sent = readings(granted_assets(plant)[:1], 3).rename_columns(["asset", "timestamp", "value"])
    message = "missing column \"id\": readings need the columns id, timestamp and value, but these have asset"
    assert_refused(plant, sent, message)


@pytest.mark.parametrize("mode", ["create", "replace", "create_append"])
def test_ingest_with_other_mode_is_refused(plant: Plant, mode: str) -> None:
    assert_refused(plant, readings(granted_assets(plant)[:1], 3), 'use mode="append"', mode=mode)


@pytest.mark.parametrize(
    "target",
    [
        {"table": "data_h"}, {"table": "assets"}, {"table": "new"}, {"db_schema_name": "account"}, {"catalog_name": "other"},
        {"temporary": True},
    ],
    ids=str,
)
def test_ingest_into_other_target_is_refused(plant: Plant, target: dict) -> None:
    assert_refused(plant, readings(granted_assets(plant)[:1], 3), "only raw_readings accepts readings", **target)


def test_ingest_without_permission_is_refused(plant: Plant) -> None:
    before = raw_files(plant)
    for connection in (gateway(plant, key="reader"), plant.connect("North", "admin"), plant.with_key("North")):
        with connection, pytest.raises(adbc_driver_manager.ProgrammingError, match="permission"):
            send(connection, readings(granted_assets(plant)[:1], 3))
    with connect(plant.uri, {BEARER: "Bearer pl_nobody_x"}) as connection, pytest.raises(adbc_driver_manager.ProgrammingError):
        send(connection, readings(granted_assets(plant)[:1], 3))
    assert raw_files(plant) == before


def test_ingest_above_size_limit_is_refused(plant: Plant) -> None:
    sent = readings(granted_assets(plant)[:4], 400_000, START + dt.timedelta(days=80))
    assert_refused(plant, sent.to_reader(max_chunksize=100_000), "the readings exceed 67108864 bytes")


# ---- interrupted calls


def start_ingest(uri: str, key: str, asset: str):
    """Starts a DoPut, sends its first readings, and returns the client, the writer and the reader."""
    client = flight.FlightClient(uri)
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {key}".encode())])
    definition = text_field(1, varint(1 << 3) + varint(2) + varint(2 << 3) + varint(2))
    command = any_of("CommandStatementIngest", definition + text_field(2, "raw_readings"))
    sent = readings([asset], 50_000, START + dt.timedelta(days=100))
    writer, reader = client.do_put(flight.FlightDescriptor.for_command(command), sent.schema, options)
    writer.write_table(sent)
    return client, writer, reader


def test_ingest_of_killed_client_keeps_nothing(plant: Plant) -> None:
    before = raw_files(plant)
    code = (
        "import sys, test_ingest; client = test_ingest.start_ingest(*sys.argv[1:]); print('sent', flush=True); "
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, plant.uri, plant.tenants["North"].gateway, granted_assets(plant)[0]]
    client = subprocess.Popen(command, cwd=Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdout.readline() == b"sent\n"
    time.sleep(0.5)
    client.kill()
    client.wait()
    time.sleep(1)
    assert raw_files(plant) == before


def test_ingest_of_idle_client_times_out(plant: Plant) -> None:
    before = raw_files(plant)
    _, writer, _ = start_ingest(plant.uri, plant.tenants["North"].gateway, granted_assets(plant)[0])
    time.sleep(4)
    with pytest.raises((flight.FlightError, pa.ArrowException), match="no readings arrived for 3 s"):
        writer.close()
    assert raw_files(plant) == before


def test_ingest_ends_when_key_is_revoked(plant: Plant) -> None:
    before = raw_files(plant)
    user = ["--user", "gateway@north.example", "--name", "short"]
    made = plant.run("key", "create", *user, "--ingest", "--json").expect(OK).json
    _, writer, reader = start_ingest(plant.uri, made["key"], granted_assets(plant)[0])
    more = readings(granted_assets(plant)[:1], 10)
    done = threading.Event()
    failure: list[Exception] = []

    def send_until_done() -> None:
        try:
            while not done.is_set():
                writer.write_table(more)
                time.sleep(0.2)
            writer.close()
        except (flight.FlightError, pa.ArrowException, OSError) as error:
            failure.append(error)

    thread = threading.Thread(target=send_until_done)
    thread.start()
    plant.run("key", "revoke", made["id"]).expect(OK)
    thread.join(5)
    done.set()
    thread.join()
    with pytest.raises((flight.FlightError, pa.ArrowException, OSError)):
        reader.read()
        writer.close()
        raise failure[0]
    assert raw_files(plant) == before


def test_ingest_on_full_disk_keeps_nothing(plant: Plant) -> None:
    before = raw_files(plant)
    small = Plant(plant.lake.folder)
    small.serve(**small_disk(2 << 20))
    try:
        sent = readings(granted_assets(plant)[:4], 300_000, START + dt.timedelta(days=200))
        with connect(small.uri, {BEARER: f"Bearer {plant.tenants['North'].gateway}"}) as connection:
            with pytest.raises(adbc_driver_manager.OperationalError, match="none of them was"):
                send(connection, sent.to_reader(max_chunksize=100_000))
            assert raw_files(plant) == before
            # A smaller ingest that fits on the disk is kept.
            assert send(connection, readings(granted_assets(plant)[:1], 10, START + dt.timedelta(days=300))) == 10
        assert "File too large" in "".join(small.log)
    finally:
        assert small.stop() == OK


def reading_batches(assets: list[str], rows: int, batch: int = 100_000) -> Iterator[pa.RecordBatch]:
    """Yields deterministic batches of readings, one per second for each asset in turn."""
    start = int(dt.datetime(2024, 8, 1, tzinfo=dt.UTC).timestamp()) * 1_000_000
    ids = pa.array(assets)
    for first in range(0, rows, batch):
        at = np.arange(first, min(first + batch, rows))
        yield pa.record_batch({
            "id": pa.DictionaryArray.from_arrays((at % len(assets)).astype(np.int32), ids),
            "timestamp": pa.array(start + at // len(assets) * 1_000_000, pa.timestamp("us", "UTC")),
            "value": np.random.default_rng(first).normal(50, 5, len(at)),
        })


def send_many(uri: str, key: str, assets: list[str], rows: int) -> int:
    """Sends all batches in one ingest, and prints a line after each."""
    batches = reading_batches(assets, rows)
    first = next(batches)

    def all_batches() -> Iterator[pa.RecordBatch]:
        for batch in itertools.chain([first], batches):
            yield batch
            print("sent", flush=True)

    with connect(uri, {BEARER: f"Bearer {key}"}) as connection:
        return send(connection, pa.RecordBatchReader.from_batches(first.schema, all_batches()))


@contextlib.contextmanager
def sending(plant: Plant, assets: list[str], rows: int) -> Iterator[subprocess.Popen]:
    """Starts a process that sends the readings, and kills it at the end."""
    call = "test_ingest.send_many(sys.argv[1], sys.argv[2], sys.argv[3].split(), int(sys.argv[4]))"
    code = f"import sys, test_ingest; print({call})"
    key = plant.tenants["North"].gateway
    command = [sys.executable, "-c", code, plant.uri, key, " ".join(assets), str(rows)]
    client = subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield client
    finally:
        client.kill()
        client.communicate()


def test_large_ingest_after_killed_client_and_server_succeeds(tmp_path: Path, effort: Effort) -> None:
    rows = effort.readings
    plant = Plant(tmp_path).build()
    email = "gateway@north.example"
    plant.run("user", "create", email, "--org", "North", "--role", "service", "--ingest").expect(OK)
    made = plant.run("key", "create", "--user", email, "--name", "line", "--ingest", "--json").expect(OK).json
    plant.tenants["North"].gateway = made["key"]
    assets = granted_assets(plant)
    before = raw_files(plant)
    plant.serve()
    half = rows // 100_000 // 2

    with sending(plant, assets, rows) as client:
        for _ in range(half):
            assert client.stdout.readline() == b"sent\n"
    eventually(lambda: raw_files(plant) == before)

    with sending(plant, assets, rows) as client:
        for _ in range(half):
            assert client.stdout.readline() == b"sent\n"
        plant.process.kill()
        plant.process.wait()
        assert client.wait(60) != 0
    # An unfinished file may be left, under a name that does not count as a raw file.
    assert {path for path in raw_files(plant) if path.suffix == ".parquet"} == before.keys()
    report = plant.lake.resample().expect(OK).json
    assert report["outcome"] == "nothing_to_do", report

    plant.serve()
    with sending(plant, assets, rows) as client:
        out, err = client.communicate(timeout=600)
        assert client.returncode == 0, err.decode()[-2_000:]
        assert int(out.split()[-1]) == rows
    assert len({path for path in raw_files(plant) if path.suffix == ".parquet"}) == len(before) + 1
    plant.lake.resample().expect(OK)
    sent = pa.Table.from_batches(reading_batches(assets, rows))
    minutes = pl.from_arrow(sent).with_columns(pl.col("id").cast(pl.String), pl.col("timestamp").dt.truncate("1m"))
    minutes = minutes.group_by("id", "timestamp").agg(pl.col("value").mean(), pl.len().alias("count")).sort("id", "timestamp")
    sql = "SELECT asset_id, timestamp, value, count FROM data_min WHERE timestamp >= '2024-08-01T00:00:00Z' ORDER BY 1, 2"
    eventually(lambda: len(plant.ask(sql)) == len(minutes))
    actual = pl.from_pandas(plant.ask(sql))
    assert actual["asset_id"].to_list() == minutes["id"].to_list()
    assert actual["timestamp"].dt.epoch("us").to_list() == minutes["timestamp"].dt.epoch("us").to_list()
    assert actual["count"].to_list() == minutes["count"].to_list()
    np.testing.assert_allclose(actual["value"], minutes["value"], rtol=1e-12)
    assert plant.stop() == OK
