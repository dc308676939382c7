"""Comparisons of tables, which report the rows and columns that differ."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd

from reference import COLUMNS, EPOCH, Expected

EXACT = ["count", "min", "max", "first", "last"]
APPROXIMATE = ["value", "stddev"]
TOLERANCE = 1e-9
MAX_SHOWN_ROWS = 12


def same_as_reference(name: str, actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Checks that the buckets are the same, counts and extremes are equal, and means and deviations are within the
    tolerance."""
    problems, both = _same_keys(name, actual, expected)
    for column in EXACT + APPROXIMATE:
        actual_values = both[f"{column}_actual"].to_numpy(np.float64)
        expected_values = both[f"{column}_expected"].to_numpy(np.float64)
        if column in EXACT:
            differs = actual_values != expected_values
        else:
            with np.errstate(invalid="ignore"):
                near = np.abs(actual_values - expected_values) <= TOLERANCE * np.maximum(1, np.abs(expected_values))
            differs = ~(near | (np.isnan(actual_values) & np.isnan(expected_values)))
        problems += _show(name, column, both, differs)
    if problems:
        raise AssertionError("\n".join(problems))


def same_bits(name: str, actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Checks that the buckets and the bits of every column are the same."""
    problems, both = _same_keys(name, actual, expected)
    for column in EXACT + APPROXIMATE:
        actual_values = both[f"{column}_actual"].to_numpy(np.float64)
        expected_values = both[f"{column}_expected"].to_numpy(np.float64)
        # A null deviation is a NaN with arbitrary bits here.
        both_nan = np.isnan(actual_values) & np.isnan(expected_values)
        differs = (actual_values.view(np.int64) != expected_values.view(np.int64)) & ~both_nan
        problems += _show(name, column, both, differs)
    if problems:
        raise AssertionError("\n".join(problems))


def all_same_as_reference(actual: dict[str, pd.DataFrame], expected: Expected) -> None:
    for name, table in expected.tables.items():
        same_as_reference(name, actual[name], table)


def all_same_bits(actual: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> None:
    for name, table in expected.items():
        same_bits(name, actual[name], table)


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
