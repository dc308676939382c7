"""Tests of the helpers: the reference against exact arithmetic, and the writers against an independent reader."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import isclose, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

import compare
import mirrored
import prepared
import reference
import writers
from conftest import LONGEST_FILES
from harness import Lake, LocalLake
from reference import RawFile, readings, rollups
from writers import FOOTER_DAMAGE, FileSpec, WrittenFile, damage, file_specs, make


@given(file_specs())
@settings(deadline=None)
def test_written_file_equals_its_table(spec: FileSpec) -> None:
    made = make(spec)
    expected = readings(made.table)
    actual = readings(pq.read_table(io.BytesIO(made.data)))
    assert expected.equals(actual), (
        f"{expected[~(expected == actual).all(axis=1)]}\n{actual[~(expected == actual).all(axis=1)]}"
    )


@given(file_specs())
@settings(deadline=None, max_examples=30)
def test_reference_equals_exact_arithmetic(spec: FileSpec) -> None:
    made = make(spec)
    latest: dict[tuple[str, int], float] = {}
    for asset, time, value, reason in readings(made.table).itertuples(index=False):
        if reason == "":
            latest[asset, time] = value
    for name, micros in reference.RESOLUTIONS.items():
        buckets: dict[tuple[str, int], list[float]] = {}
        for (asset, time), value in sorted(latest.items()):
            buckets.setdefault((asset, time // micros * micros), []).append(value)
        table = rollups([RawFile("a.parquet", 1, made.table)]).tables[name]
        assert [tuple(key) for key in table[["asset_id", "timestamp"]].values] == sorted(buckets)
        for row in table.itertuples():
            values = buckets[row.asset_id, row.timestamp]
            mean = sum(map(Fraction, values)) / len(values)
            assert isclose(row.value, mean, rel_tol=1e-10, abs_tol=1e-10)
            assert (row.count, row.min, row.max, row.first, row.last) == (
                len(values), min(values), max(values), values[0], values[-1],
            )  # fmt: skip
            if len(values) == 1:
                assert np.isnan(row.stddev)
            else:
                variance = sum((Fraction(value) - mean) ** 2 for value in values) / (len(values) - 1)
                assert isclose(row.stddev, sqrt(variance), rel_tol=1e-10, abs_tol=1e-10)


def file_with_reading(path: str, mtime: int, time: int, value: float | None) -> RawFile:
    """Returns a raw file with a single reading."""
    table = pa.table(
        {
            "id": pa.array([writers.ASSETS[0]]),
            "timestamp": pa.array([time], pa.timestamp("us", "UTC")),
            "value": pa.array([value], pa.float64()),
        }
    )
    return RawFile(path, mtime, table)


def test_reference_prefers_last_file_and_ignores_nulls() -> None:
    older, newer = file_with_reading("z.parquet", 1, 5, 1.0), file_with_reading("a.parquet", 2, 5, 2.0)
    tied, null = file_with_reading("b.parquet", 2, 5, 3.0), file_with_reading("c.parquet", 3, 5, None)
    result = rollups([null, tied, older, newer])
    row = result.tables["data_min"].iloc[0]
    assert (row["count"], row["value"]) == (1, 3.0)
    assert (result.read, result.used, result.superseded) == (4, 1, 2)
    assert result.left_out == {"c.parquet": {"null_value": 1}}


@pytest.mark.parametrize(
    ("zone", "local", "instant"),
    [
        ("Europe/Berlin", "2024-07-01T12:00", "2024-07-01T10:00"),
        ("Europe/Berlin", "2024-10-27T02:30", "2024-10-27T00:30"),  # ambiguous: the earlier instant
        ("Europe/Berlin", "2024-03-31T02:30", "2024-03-31T01:30"),  # skipped: 03:30 summer time
        ("Australia/Lord_Howe", "2024-10-06T02:10", "2024-10-05T15:40"),  # a gap of half an hour: 02:40 at +11
        ("Asia/Kolkata", "2024-01-01T00:00", "2023-12-31T18:30"),
    ],
)
def test_from_local_converts_ambiguous_and_skipped_times(zone: str, local: str, instant: str) -> None:
    micros = lambda text: int(np.datetime64(text, "us").astype(np.int64))  # noqa: E731
    assert reference.from_local(micros(local), zone) == micros(instant)


@pytest.mark.parametrize("kind", FOOTER_DAMAGE)
def test_damaged_file_is_unusable(kind: str) -> None:
    data = damage(make(FileSpec(rows=500)), kind)
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowInvalid, OSError):
        return
    assert "value" not in table.column_names or table.schema.field("value").type == pa.string()


def test_broken_page_fails_only_when_read() -> None:
    made = make(FileSpec(rows=500))
    data = damage(made, "broken_page")
    file = pq.ParquetFile(io.BytesIO(data))
    assert file.metadata.num_rows == len(made.table)
    with pytest.raises((pa.ArrowInvalid, OSError)):
        file.read()


def test_compare_shows_differing_rows() -> None:
    made: WrittenFile = make(FileSpec(rows=30))
    expected = rollups([RawFile("a.parquet", 1, made.table)]).tables["data_min"]
    wrong = expected.copy()
    wrong.loc[3, "max"] += 1e-12 + abs(wrong.loc[3, "max"]) * 1e-15
    wrong = wrong.drop(index=5)
    with pytest.raises(AssertionError) as caught:
        compare.same_as_reference("data_min", wrong, expected)
    assert "1 rows missing" in str(caught.value) and "max" in str(caught.value)
    compare.same_as_reference("data_min", expected, expected)
    almost = expected.assign(value=expected["value"] + 1e-12)
    compare.same_as_reference("data_min", almost, expected)
    with pytest.raises(AssertionError, match="value"):
        compare.same_bits("data_min", almost, expected)


# ---- checks of tables and files


def arrow_table(rows: int = 30) -> pa.Table:
    """Returns minutes of two assets as a Delta table has them, with a null deviation."""
    frame = rollups([RawFile("a.parquet", 1, make(FileSpec(rows=rows, assets=(0, 1), days=2)).table)]).tables["data_min"]
    dates = reference.partition_values("data_min", frame["timestamp"].to_numpy())
    table = pa.Table.from_pandas(frame, preserve_index=False).append_column("date", pa.array(dates).cast(pa.date32()))
    times = table["timestamp"].cast(pa.timestamp("us", "UTC"))
    return table.set_column(1, "timestamp", times)


def replaced(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    """Returns the table with another value in one row."""
    at = table.column_names.index(column)
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(at, column, pa.array(values, table.schema.field(at).type))


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
def test_to_frame_returns_rows_of_every_text_type(kind: str) -> None:
    table = arrow_table()
    plain = compare.to_frame(table)
    assert plain["asset_id"].tolist() == table["asset_id"].to_pylist()
    assert plain["timestamp"].tolist() == [compare.to_micros(time) for time in table["timestamp"].to_pylist()]
    for column in reference.COLUMNS[2:]:
        values = [np.nan if value is None else value for value in table[column].to_pylist()]
        np.testing.assert_array_equal(plain[column], values)
    types = {"large_string": pa.large_string(), "string_view": pa.string_view(), "dictionary": pa.dictionary(pa.int8(), pa.string())}
    typed = table.set_column(0, "asset_id", table["asset_id"].cast(types.get(kind, pa.string())))
    # The chunks of a dictionary have different dictionaries.
    chunks = pa.concat_tables([typed.slice(0, 7), replaced(typed, "asset_id", 8, writers.ASSETS[3]).slice(7)])
    expected = plain.copy()
    expected.loc[8, "asset_id"] = writers.ASSETS[3]
    pd.testing.assert_frame_equal(compare.to_frame(chunks), expected)


@pytest.mark.parametrize("column", ["timestamp", "count"])
def test_to_frame_refuses_null_time_and_count(column: str) -> None:
    with pytest.raises(AssertionError, match="1 rows have no"):
        compare.to_frame(replaced(arrow_table(), column, 3, None))


def test_sort_rows_orders_by_asset_and_time() -> None:
    frame = compare.to_frame(arrow_table())
    shuffled = frame.sample(frac=1, random_state=1)
    assert not shuffled["timestamp"].equals(frame["timestamp"])
    pd.testing.assert_frame_equal(compare.sort_rows(shuffled), frame)
    pd.testing.assert_frame_equal(compare.sort_rows(frame.iloc[:0]), frame.iloc[:0])


@pytest.mark.parametrize("column", compare.EXACT + compare.APPROXIMATE)
@pytest.mark.parametrize("check", [compare.same_as_reference, compare.same_bits])
def test_comparison_finds_one_wrong_value(check: Callable, column: str) -> None:
    frame = compare.to_frame(arrow_table(200))
    check("data_min", frame.copy(), frame)
    row = int(np.flatnonzero(frame[column].notna())[-1])
    wrong = frame.copy()
    wrong.loc[row, column] += 1
    with pytest.raises(AssertionError, match=rf"data_min.{column}: 1 of {len(frame)} common rows differ"):
        check("data_min", wrong, frame)
    if column != "count":
        wrong.loc[row, column] = np.nan
        with pytest.raises(AssertionError, match=rf"data_min.{column}: 1 of"):
            check("data_min", wrong, frame)


@pytest.mark.parametrize("check", [compare.same_as_reference, compare.same_bits])
def test_comparison_finds_wrong_buckets(check: Callable) -> None:
    frame = compare.to_frame(arrow_table())
    check("data_min", frame.sample(frac=1, random_state=1), frame)
    later, other = frame.copy(), frame.copy()
    later.loc[4, "timestamp"] += 60_000_000
    other.loc[4, "asset_id"] = writers.ASSETS[3]
    twice = pd.concat([frame, frame.iloc[[4]]], ignore_index=True)
    # The same number of rows, of which one is a duplicate and another one is missing.
    instead = frame.copy()
    instead.loc[4] = instead.loc[5]
    cases = {
        "1 rows missing": [later, other, frame.drop(index=4), instead],
        "1 rows unexpected": [later, other],
        "2 rows share a bucket": [twice, instead, compare.sort_rows(twice)],
    }
    for says, wrong in cases.items():
        for each in wrong:
            with pytest.raises(AssertionError, match=says):
                check("data_min", each, frame)


@pytest.mark.parametrize(("name", "column"), reference.PARTITION.items())
def test_partition_values_are_those_of_each_time(name: str, column: str) -> None:
    """Every distinct day is formatted once; here, each time is formatted on its own, also before 1970."""
    rng = np.random.default_rng(3)
    times = np.append(rng.integers(-600_000_000_000_000, 2_500_000_000_000_000, 300), [-1, 0, reference.MICROS_PER_DAY - 1])
    form = {"date": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}[column]
    expected = [(reference.EPOCH + dt.timedelta(microseconds=int(time))).strftime(form) for time in times]
    assert list(reference.partition_values(name, times)) == expected


def test_check_partitions_finds_wrong_value() -> None:
    table = arrow_table()
    compare.check_partitions("data_min", table)
    for value in (dt.date(2024, 1, 9), None):
        with pytest.raises(AssertionError, match="data_min: 1 rows in the wrong partition"):
            compare.check_partitions("data_min", replaced(table, "date", 3, value))


def test_check_data_file_finds_wrong_order_and_counts() -> None:
    table = arrow_table()
    rows = len(table)
    compare.check_data_file("file", table, rows, {})
    with pytest.raises(AssertionError, match=f"{rows} rows, but {rows + 1} in the log"):
        compare.check_data_file("file", table, rows + 1, {})
    with pytest.raises(AssertionError, match="file has no rows"):
        compare.check_data_file("file", table.slice(0, 0), 0, {})
    border = table["asset_id"].to_pylist().index(writers.ASSETS[1])
    assert 0 < border < rows - 1, "both assets have rows"
    for order in (
        [0, 2, 1, *range(3, rows)],  # the times of an asset
        [0, 1, 1, *range(3, rows)],  # a bucket twice
        [*range(border, rows), *range(border)],  # the assets
        [*range(rows - 2), rows - 1, rows - 2],  # at the end
    ):
        with pytest.raises(AssertionError, match="file is not sorted by asset and time: row"):
            compare.check_data_file("file", table.take(order), rows, {})


@pytest.mark.parametrize("column", reference.COLUMNS)
def test_check_data_file_finds_wrong_statistics(column: str) -> None:
    table = arrow_table(200)
    values = [value for value in table[column].to_pylist() if value is not None]
    right = {f"min.{column}": min(values), f"max.{column}": max(values)}
    compare.check_data_file("file", table, len(table), right)
    steps = {"asset_id": None, "timestamp": dt.timedelta(microseconds=1)}
    for side, sign in (("min", 1), ("max", -1)):
        if column == "asset_id":
            wrong = writers.ASSETS[1] if side == "min" else writers.ASSETS[0]
        else:
            wrong = right[f"{side}.{column}"] + sign * steps.get(column, 1e-3)
        with pytest.raises(AssertionError, match=f"file: the {side} of {column} is"):
            compare.check_data_file("file", table, len(table), right | {f"{side}.{column}": wrong})


# ---- rows of a mirror


def test_parse_rows_returns_exact_numbers() -> None:
    rng = np.random.default_rng(5)
    numbers = [*rng.integers(0, 2**64, 500, dtype=np.uint64).view(np.float64), 0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e23]
    numbers = [float(number) for number in numbers if np.isfinite(number)]
    text = "".join(f"{writers.ASSETS[0]},{-row},{n!r},{2**53 + row},{n!r},{n!r},{n!r},Infinity,null\n" for row, n in enumerate(numbers))
    frame = mirrored.parse_rows(text)
    assert frame["timestamp"].tolist() == [-row for row in range(len(numbers))]
    assert frame["count"].tolist() == [2**53 + row for row in range(len(numbers))]
    for column in ("value", "min", "max", "first"):
        assert frame[column].to_numpy().tobytes() == np.array(numbers).tobytes(), column
    assert (frame["last"] == np.inf).all() and frame["stddev"].isna().all()
    assert frame["asset_id"].tolist() == [writers.ASSETS[0]] * len(numbers)
    assert mirrored.parse_rows("").dtypes.equals(frame.iloc[:0].dtypes)


# ---- prepared lakes


@dataclass
class CountedModel:
    lake: Lake
    steps: list[str]


def test_prepared_lake_is_copied_with_times_and_path(tmp_path: Path) -> None:
    built = []

    @prepared.prepared
    def fill(lake: LocalLake, word: str) -> CountedModel:
        built.append(word)
        lake.put("a.parquet", word.encode(), 1_700_000_000_000_000_001)
        log = lake.root / "data_h" / "_delta_log"
        log.mkdir(parents=True)
        (log / "0.json").write_text(f'{{"location": "{lake.root}"}}')
        (lake.root / "runs").mkdir()
        with pa.output_stream(str(lake.root / "runs/ledger.json.zst"), compression="zstd") as ledger:
            ledger.write(f"raw={lake.raw}".encode())
        return CountedModel(lake, [word])

    lakes = [LocalLake(tmp_path / name) for name in ("one", "two", "three", "four")]
    one, two, other = fill(lakes[0], "x"), fill(lakes[1], "x"), fill(lakes[2], "y")
    assert built == ["x", "y"]
    # The models and lakes do not affect each other.
    one.steps.append("z")
    lakes[0].put("a.parquet", b"changed")
    again = fill(lakes[3], "x")
    for model, lake, word in ((two, lakes[1], "x"), (other, lakes[2], "y"), (again, lakes[3], "x")):
        assert model.lake is lake and model.steps == [word] and lake.read("raw/a.parquet") == word.encode()
        assert lake.mtimes() == {"a.parquet": 1_700_000_000_000_000_001}
        assert lake.read("data_h/_delta_log/0.json").decode() == f'{{"location": "{lake.root}"}}'
        with pa.input_stream(str(lake.root / "runs/ledger.json.zst"), compression="zstd") as ledger:
            assert ledger.read() == f"raw={lake.raw}".encode()
    # The inode is that of the first lake's file, which the run recorded.
    assert lakes[1].raw.joinpath("a.parquet").stat().st_ino == lakes[3].raw.joinpath("a.parquet").stat().st_ino
    times = {(lake.root / "data_h/_delta_log/0.json").stat().st_mtime_ns for lake in (lakes[0], *lakes[1::2])}
    assert len(times) == 1


def test_longest_files_exist_once() -> None:
    """A renamed file would run last, with one worker."""
    assert all((Path(__file__).parent / name).is_file() for name in LONGEST_FILES)
    assert len(set(LONGEST_FILES)) == len(LONGEST_FILES)
