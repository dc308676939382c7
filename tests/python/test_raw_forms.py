"""Tests of raw folders and files as other programs leave them: names, endings, partitions, Delta tables, local times, columns
without values, spellings of ids, and untrustworthy statistics. pandas, pyarrow, deltalake and DuckDB compute what is expected."""

from __future__ import annotations

import base64
import io
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import deltalake
import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from harness import LEFT_OUT, OK, Finished, LocalLake
from server import Plant, eventually

pytestmark = pytest.mark.local_only
A, B, C = (f"a1b2c3d4-000{n}-4000-8000-abcdef000001" for n in (1, 2, 3))


def readings(ids: list[str], start: str = "2024-01-01", every: str = "10s", value: float = 1.0) -> pa.Table:
    times = pd.date_range(start, periods=len(ids), freq=every, tz="UTC").astype("datetime64[us, UTC]")
    return pa.table({"id": ids, "timestamp": pa.array(times), "value": pa.array([value] * len(ids), pa.float64())})


def parquet(table: pa.Table, **options) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def counts(lake: LocalLake) -> dict[str, int]:
    """Returns the number of readings by asset."""
    rows = lake.query("SELECT asset_id, sum(count) AS n FROM data_min GROUP BY 1")
    return dict(zip(rows["asset_id"], rows["n"], strict=True))


def quarantined(finished: Finished) -> dict[str, str]:
    return {entry["path"]: entry["reason"] for entry in finished.json["quarantined"]}


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    return LocalLake(tmp_path)


# ---- local times


def localised(times: pd.Series, zone: str) -> pd.Series:
    """Returns the instants that pandas infers from the order of one asset's local times; NaT if it cannot."""
    index = pd.DatetimeIndex(times)
    ambiguous = index.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").isna()
    try:
        inferred = index.tz_localize(zone, ambiguous="infer")
    except ValueError:
        inferred = index.tz_localize(zone, ambiguous="NaT")
    assert inferred.isna().sum() in (0, ambiguous.sum())
    return pd.Series(inferred.tz_convert("UTC"), index=times.index)


def night(zone: str, start: str, hours: float, every: str) -> pd.DatetimeIndex:
    """Returns the local times of a logger that writes in order."""
    utc = pd.date_range(start, periods=int(pd.Timedelta(hours=hours) / pd.Timedelta(every)), freq=every, tz="UTC")
    return utc.tz_convert(zone).tz_localize(None)


NIGHTS = {
    "berlin": ("Europe/Berlin", "2024-10-26 20:00"),
    "half_hour": ("Australia/Lord_Howe", "2024-04-06 12:00"),
    "midnight": ("America/Sao_Paulo", "2018-02-17 23:00"),
    "azores": ("Atlantic/Azores", "2024-10-26 22:00"),
    "new_york": ("America/New_York", "2024-11-03 03:00"),
}


@pytest.mark.parametrize("name", NIGHTS)
@pytest.mark.parametrize("statistics", [True, False])
def test_repeated_local_times_are_inferred_as_pandas_does(lake: LocalLake, name: str, statistics: bool) -> None:
    """Three assets take turns: one in order, one without a repetition, one that is twice out of order."""
    zone, start = NIGHTS[name]
    lake.settings["PLANTLAKE_RESAMPLE_TIMEZONE"] = zone
    ordered = night(zone, start, 9, "7min")
    ambiguous = ordered.tz_localize(zone, ambiguous="NaT").isna()
    assert ambiguous.any()
    once = ordered[~ordered.duplicated() & ~(ambiguous & (np.cumsum(ambiguous) > ambiguous.sum() / 2))]
    contested = ordered.append(ordered[ambiguous]).sort_values()
    parts = [pd.DataFrame({"id": i, "timestamp": t}) for i, t in ((A, ordered), (B, once), (C, contested))]
    frame = pd.concat([part.assign(turn=range(len(part))) for part in parts]).sort_values("turn", kind="stable")
    frame = frame.drop(columns="turn").reset_index(drop=True)
    frame["value"] = np.arange(len(frame), dtype=float)
    # Small row groups, so that the periods span some of them.
    table = pa.Table.from_pandas(frame, preserve_index=False)
    lake.put("night.parquet", parquet(table, row_group_size=37, write_statistics=statistics, use_dictionary=False))
    finished = lake.resample().expect(OK)

    frame["utc"] = frame.groupby("id", group_keys=False)["timestamp"].apply(lambda times: localised(times, zone))
    assert frame[frame["id"] == A]["utc"].notna().all() and frame[frame["id"] == C]["utc"].isna().any()
    report = finished.json["readings"]
    assert report["left_out"] == {"ambiguous_time": int(frame["utc"].isna().sum())}
    assert report["read"] == len(frame)
    assert "occurs twice" in finished.err

    usable = frame.dropna().drop_duplicates(["id", "utc"], keep="last")
    expected = usable.assign(hour=usable["utc"].dt.floor("h")).groupby(["id", "hour"])["value"]
    expected = expected.agg(["count", "min", "max"]).reset_index()
    found = lake.query('SELECT asset_id AS id, timestamp AS hour, count, min, max FROM data_h ORDER BY 1, 2')
    found["hour"] = found["hour"].astype(expected["hour"].dtype)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    # A run for some dates only gives the same, and counts nothing twice.
    again = lake.resample("--full").expect(OK)
    assert again.json["readings"] == report


def test_repeated_hour_survives_small_memory_and_unsorted_files(lake: LocalLake) -> None:
    lake.settings["PLANTLAKE_RESAMPLE_TIMEZONE"] = "Europe/Berlin"
    years = [night("Europe/Berlin", f"{year}-10-{day} 21:00", 6, "1min") for year, day in ((2023, 28), (2024, 26))]
    local = years[1].append(years[0])  # the later year first
    table = pa.table({"id": [A] * len(local), "timestamp": pa.array(local.astype("datetime64[us]")), "value": np.arange(len(local), dtype=float)})
    lake.put("nights.parquet", parquet(table, row_group_size=100))
    report = lake.resample().expect(OK).json["readings"]
    assert (report["used"], report["superseded"], report["left_out"]) == (720, 0, {})
    found = lake.query("SELECT min(count) AS least, max(count) AS most, count(*) AS n FROM data_h").iloc[0]
    assert (found["least"], found["most"], found["n"]) == (60, 60, 12)


# ---- names and folders


def test_entries_with_faulty_names_are_quarantined_alone(lake: LocalLake) -> None:
    good, other = parquet(readings([A])), parquet(readings([B], "2024-01-02"))
    lake.put("good.parquet", good)
    raw = os.fsencode(lake.raw)
    faulty = [b"F\xfcllstand.parquet", b"a\tb.parquet", b"a\nb.parquet", b"\x01.parquet", b"a\x7f.pq"]
    for name in faulty:
        (Path(os.fsdecode(raw + b"/" + name))).write_bytes(other)
    os.mkdir(raw + b"/Anlage \xfc")
    Path(os.fsdecode(raw + b"/Anlage \xfc/a.parquet")).write_bytes(other)
    os.symlink(".", lake.raw / "loop")
    os.symlink("self.parquet", lake.raw / "self.parquet")
    (lake.raw / "sub").mkdir()
    os.symlink("../sub", lake.raw / "sub" / "again")
    os.mkfifo(lake.raw / "pipe.parquet")
    os.symlink("/nowhere/x.parquet", lake.raw / "dangling.parquet")
    accepted = ["a*b.parquet", "a#b.parquet", "a%2Fb.parquet", "a%20b.parquet", "😀.parquet", "e\u0301.parquet", " a.parquet", "C:\\data\\a.parquet"]
    for name in accepted:
        (lake.raw / name).write_bytes(other)
    finished = lake.resample().expect(LEFT_OUT)
    assert counts(lake) == {A: 1, B: 1}
    named = quarantined(finished)
    assert len(named) == len(faulty) + 4, str(finished)
    assert "not UTF-8" in named["F\\xfcllstand.parquet"] and "not UTF-8" in named["Anlage \\xfc"]
    assert "control character" in named["a\\tb.parquet"] and "control character" in named["a\\nb.parquet"]
    assert "contains it" in named["loop"] and "leads to itself" in named["self.parquet"]
    assert finished.json["files"]["passed_over"] == 2
    assert {entry["path"] for entry in finished.json["passed_over"]} == {"pipe.parquet", "dangling.parquet"}
    status = lake.run("status", "--json").expect(OK).json["raw"]
    assert len(status["quarantined"]) == len(named) and status["passed_over"] == 2
    assert lake.run("doctor").code in (0, 1)
    assert lake.resample().expect(LEFT_OUT).json["outcome"] == "nothing_to_do"
    # Once it is renamed, it is a raw file like any other.
    os.rename(raw + b"/a\tb.parquet", lake.raw / "ab.parquet")
    assert len(quarantined(lake.resample().expect(LEFT_OUT))) == len(named) - 1


def test_contents_decide_for_files_without_an_ending(lake: LocalLake) -> None:
    lake.put("a.parquet", parquet(readings([A])))
    names = ["plant-stream-1-2024-01-02-00-00-00-abc", "000000_0", "b.parq", "b.PQ", "b.parquet.snappy", "b.snappy"]
    for index, name in enumerate(names):
        lake.put(name, parquet(readings([B], f"2024-02-0{index + 1}")))
    others = {"README": b"hello", "n.csv": b"a,b", "b.parquet.tmp": b"PAR1", "short": b"x"}
    for name, data in others.items():
        lake.put(name, data)
    lake.put("_SUCCESS", b"")
    finished = lake.resample().expect(OK)
    assert counts(lake) == {A: 1, B: len(names)}
    files = finished.json["files"]
    assert (files["known"], files["new"], files["quarantined"], files["passed_over"]) == (7, 7, 0, 4)
    assert {entry["path"] for entry in finished.json["passed_over"]} == set(others)
    status = lake.run("status").expect(OK)
    assert all(name in status.text for name in others), str(status)
    assert "4 passed over" in lake.run("doctor").text
    assert lake.resample().expect(OK).json["outcome"] == "nothing_to_do"
    # A file that was incomplete is read when it is complete.
    lake.put("short", parquet(readings([C])))
    lake.resample().expect(OK)
    assert counts(lake)[C] == 1


def test_id_of_partition_in_path_is_used(lake: LocalLake) -> None:
    table = pa.concat_tables([readings([A] * 6), readings([B] * 6)])
    pq.write_to_dataset(table, str(lake.raw), partition_cols=["id"])
    lake.put(f"id={C.upper()}/part-0", parquet(readings([C] * 3).drop_columns("id")))
    lake.put("id=pump%207/a.parquet", parquet(readings([C] * 2).drop_columns("id")))
    lake.put("id=__HIVE_DEFAULT_PARTITION__/a.parquet", parquet(readings([C]).drop_columns("id")))
    # A column takes precedence over the path, and DuckDB reads the same from the path.
    lake.put(f"id={A}/with_column.parquet", parquet(readings([B], "2024-03-01")))
    finished = lake.resample().expect(OK)
    oracle = duckdb.sql(
        f"SELECT id::VARCHAR AS id, count(*) AS n FROM read_parquet('{lake.raw}/id={A[0]}*/*-0.parquet', hive_partitioning = true, hive_types_autocast = false) GROUP BY 1"
    ).fetchall()
    assert dict(oracle) == {A: 6, B: 6}
    assert counts(lake) == {A: 6, B: 7, C: 3}
    assert finished.json["readings"]["left_out"] == {"malformed_id": 2, "null_id": 1}


def test_delta_table_contributes_its_current_rows(lake: LocalLake) -> None:
    folder = str(lake.raw / "plant" / "readings")
    deltalake.write_deltalake(folder, readings([A] * 6, "2024-01-01"))
    deltalake.write_deltalake(folder, readings([B] * 6, "2024-01-02"), mode="append")
    lake.put("plant/other.parquet", parquet(readings([C])))
    lake.resample().expect(OK)
    assert counts(lake) == {A: 6, B: 6, C: 1}
    deltalake.DeltaTable(folder).delete("timestamp < '2024-01-01T00:00:30Z'")
    finished = lake.resample().expect(OK)
    current = deltalake.DeltaTable(folder).to_pyarrow_table().to_pandas()
    assert counts(lake) == current.groupby("id").size().to_dict() | {C: 1}
    assert finished.json["files"]["passed_over"] == 1
    assert "Delta table plant/readings" in finished.json["passed_over"][0]["reason"]
    deltalake.DeltaTable(folder).delete()
    lake.resample().expect(OK)
    assert counts(lake) == {C: 1}
    # A table whose log cannot be read is not averaged without it.
    deltalake.write_deltalake(folder, readings([A]), mode="append")
    log = sorted((lake.raw / "plant" / "readings" / "_delta_log").glob("*.json"))
    log[-1].write_text("no JSON")
    assert all("Delta table" in reason for reason in quarantined(lake.resample().expect(LEFT_OUT)).values())
    assert counts(lake) == {C: 1}


# ---- files


def test_columns_without_values_are_counted_as_nulls(lake: LocalLake) -> None:
    times = pd.date_range("2024-01-01", periods=3, freq="1min", tz="UTC")
    frames = {
        "null_value": pd.DataFrame({"id": [A] * 3, "timestamp": times, "value": [None] * 3}),
        "null_id": pd.DataFrame({"id": [None] * 3, "timestamp": times, "value": [1.0] * 3}),
        "null_time": pd.DataFrame({"id": [A] * 3, "timestamp": [None] * 3, "value": [1.0] * 3}),
        "categories": pd.DataFrame({"id": pd.Categorical([A] * 3), "timestamp": pd.Categorical(times), "value": pd.Categorical([1.0, 2.0, 3.0])}),
    }
    for name, frame in frames.items():
        frame.to_parquet(lake.raw / f"{name}.parquet", index=False)
    assert pq.read_schema(lake.raw / "null_value.parquet").field("value").type == pa.null()
    finished = lake.resample().expect(OK)
    assert finished.json["readings"]["left_out"] == {"null_time": 3, "null_id": 3, "null_value": 3}
    assert counts(lake) == {A: 3}


def test_encrypted_files_are_named_as_such(lake: LocalLake) -> None:
    encryption = pytest.importorskip("pyarrow.parquet.encryption")

    class Kms(encryption.KmsClient):
        def __init__(self, config) -> None:
            encryption.KmsClient.__init__(self)

        def wrap_key(self, key: bytes, master: str) -> bytes:
            return base64.b64encode(key)

        def unwrap_key(self, key: bytes, master: str) -> bytes:
            return base64.b64decode(key)

    factory, connection = encryption.CryptoFactory(Kms), encryption.KmsConnectionConfig()
    for name, plain in (("footer", False), ("columns", True)):
        config = encryption.EncryptionConfiguration(footer_key="f", column_keys={"c": ["value"]}, plaintext_footer=plain)
        properties = factory.file_encryption_properties(connection, config)
        table = readings([A])
        with pq.ParquetWriter(lake.raw / f"{name}.parquet", table.schema, encryption_properties=properties) as writer:
            writer.write_table(table)
    lake.put("good.parquet", parquet(readings([B])))
    named = quarantined(lake.resample().expect(LEFT_OUT))
    assert len(named) == 2 and all("it is encrypted" in reason for reason in named.values()), named
    assert counts(lake) == {B: 1}


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_damaged_page_with_a_checksum_is_quarantined(lake: LocalLake, compression: str, version: str) -> None:
    options = {"compression": compression, "use_dictionary": False, "data_page_version": version}
    table = readings([A] * 1_000, value=500.0)
    whole = parquet(table, write_page_checksum=True, **options)
    column = pq.ParquetFile(io.BytesIO(whole)).metadata.row_group(0).column(2)
    last = column.data_page_offset + column.total_compressed_size - 1
    damaged = whole[:last] + bytes([whole[last] ^ 0x10]) + whole[last + 1 :]
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(io.BytesIO(damaged), page_checksum_verification=True)
    lake.put("damaged.parquet", damaged)
    lake.put("whole.parquet", whole)
    finished = lake.resample().expect(LEFT_OUT)
    assert list(quarantined(finished)) == ["damaged.parquet"] and "checksum" in quarantined(finished)["damaged.parquet"]
    assert counts(lake) == {A: 1_000}


def test_times_outside_the_calendar_are_left_out_and_null_in_raw_readings(lake: LocalLake) -> None:
    for unit, far in (("ms", 2**63 - 1), ("ms", 2**62), ("ms", 8_300_000_000_000_000), ("us", -(2**63)), ("us", 2**63 - 1)):
        times = pa.array([far, 1_704_067_200 * {"s": 1, "ms": 10**3, "us": 10**6}[unit]], pa.timestamp(unit))
        table = pa.table({"id": [A, A], "timestamp": times, "value": [1.0, 2.0]})
        lake.put(f"{unit}{far}.parquet", parquet(table))
    finished = lake.resample().expect(OK, LEFT_OUT)
    assert finished.json["readings"]["left_out"] == {"time_out_of_range": 5}
    for format_ in ("json", "csv", "table"):
        sql = "SELECT timestamp, date_trunc('day', timestamp) AS day, timestamp::text AS text, value FROM raw_readings"
        shown = lake.run("query", sql, "--format", format_).expect(OK).text
        assert "rror" not in shown and shown.count("2024-01-01") == 15, shown
    rows = lake.query("SELECT timestamp IS NULL AS far, count(*) AS n, max(value) AS high FROM raw_readings GROUP BY 1 ORDER BY 1")
    assert rows.values.tolist() == [[False, 5, 2.0], [True, 5, 1.0]]
    assert lake.query("SELECT count(*) AS n FROM raw_readings WHERE timestamp IS NULL")["n"].item() == 5


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "+05:30"])
@pytest.mark.parametrize("unit", ["ms", "us"])
def test_old_times_with_a_zone_in_the_arrow_schema_are_instants(tmp_path: Path, unit: str, zone: str) -> None:
    lake = LocalLake(tmp_path, settings={"PLANTLAKE_RESAMPLE_TIMEZONE": "Europe/Berlin"})
    table = readings([A] * 2_400, "2026-01-01", "60s")
    zoned = table["timestamp"].cast(pa.timestamp(unit, zone))
    lake.put("int96.parquet", parquet(table.set_column(1, "timestamp", zoned), use_deprecated_int96_timestamps=True))
    finished = lake.resample().expect(OK)
    assert finished.json["readings"] | {"left_out": {}} == finished.json["readings"] and finished.json["readings"]["used"] == 2_400
    found = lake.query("SELECT min(timestamp) AS first, max(timestamp) AS last, count(*) AS n FROM data_min")
    assert found["first"].item() == pd.Timestamp("2026-01-01", tz="UTC") and found["n"].item() == 2_400
    for condition, expected in (("<", 0), (">=", 2_400)):
        assert lake.query(f"SELECT count(*) AS n FROM raw_readings WHERE timestamp {condition} '2026-01-01'")["n"].item() == expected


def with_wide_integers(schema: bytes) -> bytes:
    """Returns the schema with integers of 128 instead of 64 bits, which pyarrow does not have either."""
    at = schema.find((64).to_bytes(4, "little"))
    while at >= 0:
        patched = schema[:at] + (128).to_bytes(4, "little") + schema[at + 4 :]
        try:
            pa.ipc.read_schema(pa.py_buffer(patched))
        except pa.ArrowNotImplementedError as error:
            if "64 bits" in str(error):
                return patched
        except (pa.ArrowException, OSError):
            pass
        at = schema.find((64).to_bytes(4, "little"), at + 1)
    raise AssertionError("no integers of 64 bits")


def test_arrow_schema_with_an_unknown_type_is_passed_over(lake: LocalLake) -> None:
    """As polars writes its integers of 128 bits: bytes in Parquet, and a type of a later Arrow version in the schema."""
    plain = parquet(readings([A] * 3).append_column("counter", pa.array([7] * 3, pa.int64())))
    encoded = pq.ParquetFile(io.BytesIO(plain)).metadata.metadata[b"ARROW:schema"]
    lake.put("wide.parquet", plain.replace(encoded, base64.b64encode(with_wide_integers(base64.b64decode(encoded)))))
    finished = lake.resample().expect(OK)
    assert finished.json["readings"]["used"] == 3 and "panicked" not in finished.err, finished
    assert lake.query("SELECT count(*) AS n FROM raw_readings")["n"].item() == 3


def test_missing_file_of_a_delta_table_is_quarantined(lake: LocalLake) -> None:
    for start in ("2024-01-01", "2024-01-02"):
        deltalake.write_deltalake(str(lake.raw / "table"), readings([A], start), mode="append")
    lake.resample().expect(OK)
    files = sorted((lake.raw / "table").glob("*.parquet"))
    kept = files[0].read_bytes()
    files[0].unlink()
    named = quarantined(lake.resample().expect(LEFT_OUT))
    assert list(named) == [f"table/{files[0].name}"] and "missing" in named[f"table/{files[0].name}"]
    assert counts(lake) == {A: 1}
    files[0].write_bytes(kept)
    assert quarantined(lake.resample().expect(OK)) == {}
    assert counts(lake) == {A: 2}


def test_many_small_row_groups_are_read_together(lake: LocalLake) -> None:
    table = readings([A] * 4_000)
    lake.put("groups.parquet", parquet(table, row_group_size=1))
    began = time.monotonic()
    assert lake.resample().expect(OK).json["readings"]["used"] == 4_000
    # 20,000 take a second with optimisations; a request for each took 20.
    assert time.monotonic() - began < 20
    assert counts(lake) == {A: 4_000}


# ---- raw_readings

SPELLINGS = {
    "lower": A,
    "upper": A.upper(),
    "braces": "{%s}" % A.upper(),
    "plain": A.replace("-", ""),
    "urn": f"urn:uuid:{A}",
    "bytes": uuid.UUID(A).bytes,
}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("forms"))
    catalog = plant.lake.folder / "catalog"
    catalog.mkdir()
    assets = [{"id": i, "name": n, "type": t} for i, n, t in ((A, "pump", "pump"), (B, "tank", "tank"))]
    (catalog / "assets.json").write_text(json.dumps(assets))
    for day, (name, spelling) in enumerate(SPELLINGS.items(), 1):
        ids = pa.array([spelling] * 4, pa.binary(16)) if name == "bytes" else pa.array([spelling, B, spelling, B])
        table = readings([A] * 4, f"2024-05-{day:02}").set_column(0, "id", ids)
        plant.lake.put(f"{name}.parquet", parquet(table))
    plant.lake.put("old.parquet", old_writer(([A] * 6 + [B] * 6) * 10))
    plant.tenant("Everything", ["--all"])
    plant.tenant("Pumps", ["--type", "pump"])
    plant.serve()
    yield plant
    assert plant.stop() == OK


def old_writer(ids: list[str]) -> bytes:
    """Returns a file as parquet-mr 1.6 wrote them: the last id is the minimum and the maximum (PARQUET-251)."""
    data = bytearray(parquet(readings(ids, "2024-06-01"), store_schema=False, use_dictionary=False, compression="none"))
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    first, last = min(ids).encode(), ids[-1].encode()
    assert data.count(first, footer) >= 1 and len(first) == len(last)
    patched = bytes(data[footer:]).replace(first, last)
    writer = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.created_by.encode()
    former = b"parquet-mr version 1.6.0 (build 1)"[: len(writer)].ljust(len(writer))
    assert patched.count(writer) == 1
    return bytes(data[:footer]) + patched.replace(writer, former)


def day(date: str) -> str:
    return f"timestamp >= '{date}' AND timestamp < TIMESTAMP '{date}' + INTERVAL '1 day'"


@pytest.mark.parametrize(("tenant", "sees_tank"), [("Everything", True), ("Pumps", False)])
def test_raw_readings_show_one_spelling_of_an_id(plant: Plant, tenant: str, sees_tank: bool) -> None:
    def check() -> bool:
        for number, name in enumerate(SPELLINGS, 1):
            when = day(f"2024-05-{number:02}")
            pump = 4 if name == "bytes" else 2
            expected = {A: pump} | ({B: 2} if sees_tank and name != "bytes" else {})
            rows = plant.ask(f"SELECT id, count(*) AS n FROM raw_readings WHERE {when} GROUP BY 1", tenant)
            joined = plant.ask(f"SELECT a.id, count(*) AS n FROM raw_readings r JOIN assets a ON a.id = r.id WHERE {when.replace('timestamp >', 'r.timestamp >').replace('timestamp <', 'r.timestamp <')} GROUP BY 1", tenant)
            for found in (rows, joined):
                if dict(zip(found["id"], found["n"], strict=True)) != expected:
                    return False
            if plant.ask(f"SELECT count(*) AS n FROM raw_readings WHERE {when} AND id = '{A}'", tenant)["n"][0] != pump:
                return False
        return True

    eventually(check)


@pytest.mark.parametrize("tenant", ["Everything", "Pumps"])
def test_statistics_of_old_writers_hide_no_rows(plant: Plant, tenant: str) -> None:
    path = plant.lake.raw / "old.parquet"
    assert pq.ParquetFile(path).metadata.created_by.startswith("parquet-mr version 1.6.0")
    expected = pq.read_table(path).filter(pc.field("id") == A).num_rows
    assert expected == 60
    sql = f"SELECT count(*) AS n FROM raw_readings WHERE {day('2024-06-01')} AND id = '{A}'"
    eventually(lambda: plant.ask(sql, tenant)["n"][0] == expected)
    plant.lake.resample().expect(OK)
    rows = plant.lake.query("SELECT asset_id, sum(count) AS n FROM data_min WHERE date = '2024-06-01' GROUP BY 1")
    assert dict(zip(rows["asset_id"], rows["n"], strict=True)) == {A: 60, B: 60}
