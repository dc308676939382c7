"""Checks of tables and data files, which report the rows and columns that differ."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa

from reference import COLUMNS, EPOCH, PARTITION, Expected, distinct_values, partition_values

EXACT = ["count", "min", "max", "first", "last"]
APPROXIMATE = ["value", "stddev"]
TOLERANCE = 1e-9
MAX_SHOWN_ROWS = 12


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Returns the rows of a table in the reference's form."""
    columns = {"asset_id": pd.Series(texts(table["asset_id"]), dtype=object), "timestamp": micros(table)}
    for column in COLUMNS[2:]:
        values = table[column].cast(pa.int64() if column == "count" else pa.float64())
        assert column != "count" or not values.null_count, f"{values.null_count} rows have no count"
        columns[column] = values.to_numpy()
    return pd.DataFrame(columns)


def texts(column: pa.ChunkedArray) -> np.ndarray:
    """Returns the values of a column as text, and None for nulls. Rows with the same value share one object."""
    codes, values = distinct_values(column.cast(pa.string()))
    # The last element stands for the code -1 of a null.
    return np.array([*values, None], dtype=object)[codes]


def micros(table: pa.Table) -> np.ndarray:
    """Returns the times of the rows in microseconds."""
    times = table["timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    assert not times.null_count, f"{times.null_count} rows have no time"
    return times.to_numpy()


def sort_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows sorted by asset and time."""
    numbers, _ = pd.factorize(frame["asset_id"].to_numpy(), sort=True)
    return frame.take(np.lexsort((frame["timestamp"].to_numpy(), numbers))).reset_index(drop=True)


def first_unsorted(asset: np.ndarray, time: np.ndarray) -> int | None:
    """Returns the index of the first row whose asset and time are not after those of the row before."""
    changes = asset[1:] != asset[:-1]
    is_after = time[1:] > time[:-1]
    is_after[changes] = asset[1:][changes] > asset[:-1][changes]
    return None if is_after.all() else int(np.argmin(is_after)) + 1


# ---- tables


def check_partitions(name: str, table: pa.Table) -> None:
    """Checks that the value of the partition column is that of the row's time."""
    wrong = np.flatnonzero(texts(table[PARTITION[name]]) != partition_values(name, micros(table)))
    assert not len(wrong), f"{name}: {len(wrong)} rows in the wrong partition:\n{table.take(wrong[:10]).to_pandas()}"


def same_as_reference(name: str, actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Checks that the buckets are the same, counts and extremes are equal, and means and deviations are within the
    tolerance."""
    _same(name, actual, expected, _differ_from_reference)


def same_bits(name: str, actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Checks that the buckets and the bits of every column are the same."""
    _same(name, actual, expected, _differ_in_bits)


def all_same_as_reference(actual: dict[str, pd.DataFrame], expected: Expected) -> None:
    for name, table in expected.tables.items():
        same_as_reference(name, actual[name], table)


def all_same_bits(actual: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> None:
    for name, table in expected.items():
        same_bits(name, actual[name], table)


# Returns which values of a column differ. The arguments are the column, the actual and the expected values.
Differ = Callable[[str, np.ndarray, np.ndarray], np.ndarray]


def _differ_from_reference(column: str, actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    if column in EXACT:
        return actual != expected
    with np.errstate(invalid="ignore"):
        near = np.abs(actual - expected) <= TOLERANCE * np.maximum(1, np.abs(expected))
    return ~(near | (np.isnan(actual) & np.isnan(expected)))


def _differ_in_bits(column: str, actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    # A null deviation is a NaN with arbitrary bits here.
    both_nan = np.isnan(actual) & np.isnan(expected)
    return (actual.view(np.int64) != expected.view(np.int64)) & ~both_nan


def _same(name: str, actual: pd.DataFrame, expected: pd.DataFrame, differ: Differ) -> None:
    if _have_same_sorted_keys(actual, expected) and not any(
        differ(column, actual[column].to_numpy(np.float64), expected[column].to_numpy(np.float64)).any()
        for column in EXACT + APPROXIMATE
    ):
        return
    # The slow way also takes unsorted rows, and reports what differs.
    problems, both = _same_keys(name, actual, expected)
    for column in EXACT + APPROXIMATE:
        values = (both[f"{column}_{side}"].to_numpy(np.float64) for side in ("actual", "expected"))
        problems += _show(name, column, both, differ(column, *values))
    if problems:
        raise AssertionError("\n".join(problems))


def _have_same_sorted_keys(actual: pd.DataFrame, expected: pd.DataFrame) -> bool:
    """Whether the tables have the same buckets in the same order, sorted and without duplicates."""
    asset, time = actual["asset_id"].to_numpy(object), actual["timestamp"].to_numpy()
    return (
        len(actual) == len(expected)
        and np.array_equal(time, expected["timestamp"].to_numpy())
        and bool((asset == expected["asset_id"].to_numpy(object)).all())
        and first_unsorted(asset, time) is None
    )


def _same_keys(name: str, actual: pd.DataFrame, expected: pd.DataFrame) -> tuple[list[str], pd.DataFrame]:
    key = ["asset_id", "timestamp"]
    problems = []
    duplicates = actual[actual.duplicated(key, keep=False)]
    if len(duplicates):
        problems.append(f"{name}: {len(duplicates)} rows share a bucket:\n{_text(duplicates)}")
        actual = actual.drop_duplicates(key, keep="last")
    both = actual[COLUMNS].merge(
        expected[COLUMNS], on=key, how="outer", suffixes=("_actual", "_expected"), indicator=True
    )
    for side, word in (("right_only", "missing"), ("left_only", "unexpected")):
        rows = both[both["_merge"] == side]
        if len(rows):
            keep = "_expected" if word == "missing" else "_actual"
            shown = rows.rename(columns={f"{column}{keep}": column for column in EXACT + APPROXIMATE})
            problems.append(f"{name}: {len(rows)} rows {word}:\n{_text(shown[COLUMNS])}")
    return problems, both[both["_merge"] == "both"]


def _show(name: str, column: str, both: pd.DataFrame, differs: np.ndarray) -> list[str]:
    if not differs.any():
        return []
    rows = both.loc[differs, ["asset_id", "timestamp", "count_expected", f"{column}_actual", f"{column}_expected"]]
    return [f"{name}.{column}: {int(differs.sum())} of {len(both)} common rows differ:\n{_text(rows)}"]


def _text(rows: pd.DataFrame) -> str:
    shown = rows.head(MAX_SHOWN_ROWS).copy()
    shown["timestamp"] = [str(EPOCH + dt.timedelta(microseconds=int(each))) for each in shown["timestamp"]]
    more = f"\n… and {len(rows) - MAX_SHOWN_ROWS} more" if len(rows) > MAX_SHOWN_ROWS else ""
    options = {"display.width": 250, "display.max_columns": 20, "display.max_colwidth": 40, "display.precision": 17}
    with pd.option_context(*(part for option in options.items() for part in option)):
        return shown.to_string(index=False) + more


# ---- data files


def check_data_file(where: str, table: pa.Table, rows: int, statistics: dict) -> None:
    """Checks that a data file has rows, is sorted, and agrees with its row count and statistics in the log."""
    asset, time = texts(table["asset_id"]), micros(table)
    assert len(time) == rows, f"{where}: {len(time)} rows, but {rows} in the log"
    assert rows, f"{where} has no rows"
    row = first_unsorted(asset, time)
    assert row is None, (
        f"{where} is not sorted by asset and time: row {row} is {asset[row], time[row]}, after {asset[row - 1], time[row - 1]}"
    )
    for column in COLUMNS:
        if column == "asset_id":
            values = asset
        elif column == "timestamp":
            values = time
        else:
            values = table[column].to_numpy()
            # Nulls are NaN here, too, and the statistics count neither.
            values = values[~np.isnan(values)]
        for side in ("min", "max"):
            bound = statistics.get(f"{side}.{column}")
            if bound is None or not len(values):
                continue
            if column == "timestamp":
                bound = to_micros(bound)
            true = getattr(values, side)()
            fits = bound <= true if side == "min" else bound >= true
            assert fits, f"{where}: the {side} of {column} is {bound!r} in the log, but {true!r} in the file"


def to_micros(time: dt.datetime) -> int:
    """Returns a time in microseconds."""
    return (time - EPOCH.replace(tzinfo=time.tzinfo)) // dt.timedelta(microseconds=1)
