"""Tests of the helpers: the reference against exact arithmetic, and the writers against an independent reader."""

from __future__ import annotations

import io
from fractions import Fraction
from math import isclose, sqrt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

import compare
import reference
import writers
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
