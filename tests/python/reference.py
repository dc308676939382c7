"""The expected contents of the three tables, computed by pandas directly from the raw readings.

This module shares no code with plantlake and is not incremental: it computes every resolution from all raw files at
once. `rollups` takes the files' contents, modification times and paths, because of several readings of the same asset
and time, the one in the latest file wins.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

MICROS_PER_DAY = 86_400_000_000
RESOLUTIONS = {"data_min": 60_000_000, "data_h": 3_600_000_000, "data_d": MICROS_PER_DAY}
PARTITION = {"data_min": "date", "data_h": "month", "data_d": "year"}
COLUMNS = ["asset_id", "timestamp", "value", "count", "min", "max", "first", "last", "stddev"]
REASONS = ["null_time", "time_out_of_range", "ambiguous_time", "null_id", "malformed_id", "null_value", "nan_value", "infinite_value"]

# The plausible range of times with which the tests run plantlake (harness.py sets it). It is fixed, so that no result depends
# on today's date, and begins before 1970, so that times before the epoch are tested, too.
EARLIEST = dt.date(1950, 1, 1)
LATEST = dt.date(2049, 12, 31)

HYPHENATED = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
SPELLING = re.compile(rf"(?:[0-9a-f]{{32}}|{HYPHENATED}|urn:uuid:{HYPHENATED}|\{{{HYPHENATED}\}})", re.IGNORECASE)
EPOCH = dt.datetime(1970, 1, 1)


@dataclass(frozen=True)
class RawFile:
    """A readable raw file. `path` is relative to the raw folder, with slashes."""

    path: str
    mtime_ns: int
    table: pa.Table


@dataclass
class Expected:
    """The expected result of a full run over some raw files."""

    tables: dict[str, pd.DataFrame]
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    read: int = 0
    used: int = 0
    superseded: int = 0

    @property
    def left_out_by_reason(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for reasons in self.left_out.values():
            for reason, count in reasons.items():
                total[reason] = total.get(reason, 0) + count
        return total

    def merged(self, newer: "Expected", first: dt.date | None, last: dt.date | None) -> "Expected":
        """Returns this state after a run over `first..=last` only, where `newer` is the result of a full run over the current
        raw files."""
        tables = {}
        for name, old in self.tables.items():
            new = newer.tables[name]
            tables[name] = (
                pd.concat([old[~inside(old, first, last)], new[inside(new, first, last)]])
                .sort_values(["asset_id", "timestamp"])
                .reset_index(drop=True)
            )
        return Expected(tables)


def inside(table: pd.DataFrame, first: dt.date | None, last: dt.date | None) -> pd.Series:
    """Returns a mask of the rows on the UTC dates `first..=last`. None is unbounded."""
    day = table["timestamp"] // MICROS_PER_DAY
    chosen = pd.Series(True, index=table.index)
    if first is not None:
        chosen &= day >= day_number(first)
    if last is not None:
        chosen &= day <= day_number(last)
    return chosen


def day_number(date: dt.date) -> int:
    return (date - EPOCH.date()).days


def date_of(day: int) -> dt.date:
    return EPOCH.date() + dt.timedelta(days=int(day))


def canonical(text: object) -> str | None:
    """Returns the asset id in lower case with hyphens, or None if it is not a UUID. Takes text or 16 bytes."""
    if isinstance(text, bytes):
        if len(text) != 16:
            return None
        digits = text.hex()
    else:
        if not SPELLING.fullmatch(str(text)):
            return None
        digits = re.sub(r"urn:uuid:|[{}-]", "", str(text), flags=re.IGNORECASE).lower()
    return "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])


def readings(table: pa.Table, zone: str = "UTC") -> pd.DataFrame:
    """Returns the rows of one file in order, as (asset, time in whole microseconds, value, reason to leave out)."""
    asset, time, value, reason = _columns(table, zone)
    texts = np.array(["", *REASONS], dtype=object)[reason]
    return pd.DataFrame({"asset_id": asset, "time": time, "value": value, "reason": texts})


def _columns(table: pa.Table, zone: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the columns of `readings`. The reason is a number: 0 for none, else one more than its index in REASONS."""
    id_null, asset = _assets(table["id"])
    time_null, time = _times(table["timestamp"], zone)
    ambiguous = np.zeros(len(time), dtype=bool)
    if table["timestamp"].type.tz is None and zone != "UTC":
        ambiguous = _infer(_local_micros(table["timestamp"]), time, time_null, _texts(table["id"], asset), zone)
    value_null, value = _values(table["value"])
    earliest = day_number(EARLIEST) * MICROS_PER_DAY
    latest = (day_number(LATEST) + 1) * MICROS_PER_DAY - 1
    conditions = [
        time_null,
        (time < earliest) | (time > latest),
        ambiguous,
        id_null,
        pd.isna(asset),
        value_null,
        np.isnan(value),
        np.isinf(value),
    ]
    return asset, time, value, np.select(conditions, range(1, len(REASONS) + 1), default=0)


def _flat(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array


def distinct_values(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, list[object]]:
    """Returns for each row of a column the index of its value, or -1 for a null, and the distinct values."""
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())  # views cannot be dictionary-encoded
    encoded = column.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
        encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) and encoded.num_chunks else encoded
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return codes, encoded.dictionary.to_pylist()


def _assets(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    array = _flat(column)
    codes, texts = distinct_values(array)
    # The last element stands for the code -1 of a null.
    return _nulls(array), np.array([*map(canonical, texts), None], dtype=object)[codes]


def _times(column: pa.ChunkedArray, zone: str) -> tuple[np.ndarray, np.ndarray]:
    array = _flat(column)
    raw = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    unit = array.type.unit
    if unit == "ns":
        time = raw // 1_000  # rounds down, also before 1970
    else:
        factor = {"s": 1_000_000, "ms": 1_000, "us": 1}[unit]
        limit = (2**63 - 1) // factor
        time = np.clip(raw, -limit, limit) * factor  # clipped values are out of range anyway
    if array.type.tz is None and zone != "UTC":
        time = np.array([from_local(int(each), zone) for each in time], dtype=np.int64)
    return _nulls(array), time


def _local_micros(column: pa.ChunkedArray) -> np.ndarray:
    return _times(column, "UTC")[1]


def _texts(column: pa.ChunkedArray, asset: np.ndarray) -> list[object]:
    """Returns the canonical ids, and other ids as they are."""
    texts = _flat(column).to_pylist()
    return [canon if canon is not None else text for text, canon in zip(texts, asset, strict=True)]


def _infer(local: np.ndarray, time: np.ndarray, null: np.ndarray, ids: list[object], zone: str) -> np.ndarray:
    """Moves times that occur twice to the later instant if the order of an asset's readings shows it, as pandas' `infer` does:
    of adjacent readings in the period, exactly one does not advance. Returns a mask of those that the order does not decide."""
    ambiguous = np.zeros(len(time), dtype=bool)
    groups: dict[tuple, list[list[int]]] = {}
    last: dict[object, object] = {}
    for row, (micros, asset) in enumerate(zip(local, ids, strict=True)):
        if null[row] or asset is None:
            continue
        change = _change(int(micros), zone)
        if change is not None:
            known = groups.setdefault((asset, change[0]), [])
            if last.get(asset) != change[0] or not known:
                known.append([])
            known[-1].append(row)
        last[asset] = change and change[0]
    for (_, _), parts in groups.items():
        rows = [row for part in parts for row in part]
        steps = [at for at in range(1, len(rows)) if local[rows[at]] <= local[rows[at - 1]]]
        if len(parts) == 1 and len(steps) == 1:
            for row in rows[steps[0] :]:
                time[row] += _change(int(local[row]), zone)[1]
        else:
            ambiguous[rows] = True
    return ambiguous


def _change(micros: int, zone: str) -> tuple[int, int] | None:
    """Returns the instant at which clocks are set back and by how many microseconds, if the local time occurs twice."""
    try:
        local = EPOCH + dt.timedelta(microseconds=micros)
    except OverflowError:
        return None
    if not dt.datetime(1900, 1, 1) < local < dt.datetime(2100, 1, 1):
        return None
    first, second = (local.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for fold in (0, 1))
    if first <= second:
        return None
    # All local times of the period are less than a day apart, and periods are months apart.
    return (micros - first // dt.timedelta(microseconds=1)) // (30 * MICROS_PER_DAY), (first - second) // dt.timedelta(microseconds=1)


def from_local(micros: int, zone: str) -> int:
    """Converts a local time to UTC. Of an ambiguous time, the earlier instant; a skipped time moves forward by the gap.

    Both follow `fold=0` in PEP 495, and ZonedDateTime.of in java.time.
    """
    try:
        local = EPOCH + dt.timedelta(microseconds=micros)
    except OverflowError:
        return micros  # out of range in every zone
    if not dt.datetime(1900, 1, 1) < local < dt.datetime(2100, 1, 1):
        return micros
    offset = local.replace(tzinfo=ZoneInfo(zone), fold=0).utcoffset()
    return micros - offset // dt.timedelta(microseconds=1)


def _values(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    array = _flat(column)
    if pa.types.is_decimal(array.type):
        values = [0.0 if value is None else float(value) for value in array.to_pylist()]
        value = np.array(values, dtype=np.float64)
    else:
        zero = pa.scalar(0, array.type) if not pa.types.is_float16(array.type) else pa.scalar(np.float16(0), array.type)
        value = pc.fill_null(array, zero).to_numpy(zero_copy_only=False).astype(np.float64)
    return _nulls(array), value


def _nulls(array: pa.Array) -> np.ndarray:
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False), dtype=bool)


def rollups(files: list[RawFile], zone: str = "UTC") -> Expected:
    """Returns the three tables that result from these raw files, and the readings that are left out."""
    left_out, read = {}, 0
    # The empty arrays are for a folder without files.
    parts = [(np.array([], object), np.array([], np.int64), np.array([], np.float64))]
    # Paths are ordered by their bytes, as object stores list them.
    for file in sorted(files, key=lambda file: (file.mtime_ns, file.path.encode())):
        *columns, reason = _columns(file.table, zone)
        read += len(reason)
        counts = np.bincount(reason, minlength=len(REASONS) + 1)[1:]
        if counts.any():
            left_out[file.path] = {text: int(count) for text, count in zip(REASONS, counts) if count}
        parts.append(tuple(column[reason == 0] for column in columns))
    asset, time, value = (np.concatenate(column) for column in zip(*parts))
    # Assets are compared as numbers with the same order, which is much faster than as texts.
    number, assets = pd.factorize(asset, sort=True)
    # The order is stable: of the readings of an asset and time, the one in the latest file is the last one.
    order = np.lexsort((time, number))
    number, time = number[order], time[order]
    is_last = np.ones(len(order), dtype=bool)
    is_last[:-1] = (number[1:] != number[:-1]) | (time[1:] != time[:-1])
    chosen = Chosen(assets, number[is_last], time[is_last], value[order][is_last])
    return Expected(
        tables={name: _rollup(chosen, micros) for name, micros in RESOLUTIONS.items()},
        left_out=left_out,
        read=read,
        used=len(chosen.time),
        superseded=len(time) - len(chosen.time),
    )


@dataclass(frozen=True)
class Chosen:
    """The readings that the tables are computed from, sorted by asset and time. `number` is an index into `assets`."""

    assets: np.ndarray
    number: np.ndarray
    time: np.ndarray
    value: np.ndarray


def _rollup(chosen: Chosen, micros: int) -> pd.DataFrame:
    timestamp = chosen.time // micros * micros
    is_first = np.ones(len(timestamp), dtype=bool)
    is_first[1:] = (chosen.number[1:] != chosen.number[:-1]) | (timestamp[1:] != timestamp[:-1])
    start = np.flatnonzero(is_first)
    end = np.append(start, len(timestamp))[1:]
    buckets = pd.Series(chosen.value).groupby(np.cumsum(is_first), sort=False)
    return pd.DataFrame(
        {
            "asset_id": pd.Series(chosen.assets[chosen.number[start]], dtype=object),
            "timestamp": timestamp[start],
            "value": buckets.mean().to_numpy(),
            "count": end - start,
            "min": buckets.min().to_numpy(),
            "max": buckets.max().to_numpy(),
            "first": chosen.value[start],
            "last": chosen.value[end - 1],
            "stddev": buckets.std().to_numpy(),
        }
    )


def partition_values(name: str, timestamp: np.ndarray) -> np.ndarray:
    """Returns the values of the partition column, as text, for these bucket starts in microseconds."""
    form = {"data_min": "%Y-%m-%d", "data_h": "%Y-%m", "data_d": "%Y"}[name]
    days, codes = np.unique(timestamp // MICROS_PER_DAY, return_inverse=True)
    return np.array([date_of(day).strftime(form) for day in days], dtype=object)[codes]
