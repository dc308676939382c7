"""Averages equal exact fractions, for readings whose sums and squares overflow, underflow or cancel; and values of every type become
the nearest double."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from harness import OK, LocalLake
from reference import RESOLUTIONS
from writers import parquet_bytes

pytestmark = pytest.mark.local_only

TOLERANCE = Fraction(1, 10**12)
TINY, HUGE = 5e-324, sys.float_info.max
START = 1_704_067_200_000_000  # 2024-01-01, in microseconds
SECOND, MINUTE = 1_000_000, 60_000_000
UNIT = 1074  # every double is a whole multiple of 2**-1074


def asset(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000026"


def signals() -> dict[str, list[float]]:
    """Returns signals of 1,100 readings. At 7 s apart, minutes have 8 or 9 of them, and there are three hours."""
    count = range(1_100)
    random_ = random.Random(26)
    pick = lambda *values: [random_.choice(values) for _ in count]  # noqa: E731
    return {
        "totaliser": [1e9 + k / 1000 for k in count],
        "totaliser_of_a_meter": [123_456_789.125 + k * 0.01 for k in count],
        "seconds_since_the_epoch": [1.7e9 + k * 7 for k in count],
        "microseconds_since_the_epoch": [1.7e15 + k * 7e6 + random_.randrange(3) for k in count],
        "last_digit": [1e9 + random_.randrange(2) * math.ulp(1e9) for _ in count],
        "stuck_at_a_fraction": [0.1 for _ in count],
        "stuck_at_a_large_value": [-1.7e15 / 3 for _ in count],
        "stuck_at_the_largest_value": [HUGE for _ in count],
        "stuck_at_the_smallest_value": [-TINY for _ in count],
        "stuck_then_moving": [47.11] * 600 + [47.11 + k / 7 for k in range(500)],
        "alternating": [(-1) ** k * (1e9 + k / 1000) for k in count],
        "alternating_to_zero": [(-1) ** k * 0.1 for k in count],
        "alternating_huge": [(-1) ** k * 1.7e308 for k in count],
        "cancelling": pick(1e16, -1e16, 1.0, 0.1),
        "noise_around_zero": [random_.gauss(0, 1) for _ in count],
        "whole_numbers_around_zero": [float(random_.randrange(-3, 4)) for _ in count],
        "huge": pick(1e308, 1.7e308, -1e308, 5.0),
        "large": pick(1e200, 3e200, -1e200),
        "small": pick(1e-200, 3e-200),
        "subnormal": pick(TINY, 0.0, 3 * TINY, -1e-310),
        "small_then_ordinary_then_large": [1e-200 * k for k in range(400)] + [0.5 * k for k in range(400)] + [1e200] * 300,
        "around_the_limit_of_squares": pick(2.0**480, -(2.0**480), 2.0**481, 2.0**479, 2.0**-480),
        "outlier": [1e6 if k % 200 == 0 else 20 + k / 1024 for k in count],
    }


SIGNALS = signals()

DECIMALS = [
    (38, 20, "47.5"), (38, 20, "1.2345678901234567890"), (38, 37, "1.0"), (38, 18, "1013.25"), (38, 37, "1e-37"),
    (38, 10, "123456789012.3456789"), (20, 2, "123456789012345678.90"), (38, 0, "9007199254740993"), (38, 38, "-0.1"),
    (18, 9, "-98765432.123456789"), (9, 4, "21.3750"), (5, 0, "-12345"), (76, 40, "123456789012345678901234567890.1"),
    (76, 76, "1e-76"), (50, 10, "-9007199254740993.0000000001"),
]  # fmt: skip


def value_columns() -> dict[str, tuple[pa.Array, list[float]]]:
    """Returns columns of all types of numbers, and their values as Python rounds them, which is to the nearest double."""
    random_ = random.Random(3)
    columns = {}
    for number, (precision, scale, text) in enumerate(DECIMALS):
        kind = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
        columns[f"decimal_{number}"] = pa.array([Decimal(text)], kind), [float(Decimal(text))]
    for scale in (0, 3, 9, 18, 20, 30, 38):
        values = [Decimal(random_.randrange(-(10**38) + 1, 10**38) >> random_.randrange(126)).scaleb(-scale) for _ in range(60)]
        columns[f"decimal128_{scale}"] = pa.array(values, pa.decimal128(38, scale)), [float(value) for value in values]
        columns[f"dictionary_{scale}"] = (
            pa.array(values, pa.decimal128(38, scale)).dictionary_encode(), [float(value) for value in values],
        )  # fmt: skip
    integers = [2**53 + 1, 2**53 + 3, -(2**53) - 1, 2**63 - 1, -(2**63), 2**62 + 2**8 + 1, 1_700_000_000_123_456_789]
    columns["int64"] = pa.array(integers, pa.int64()), [float(value) for value in integers]
    integers = [2**53 + 1, 2**64 - 1, 2**63 + 2**10, 2**63 + 2**10 + 1, 2**64 - 2**10]
    columns["uint64"] = pa.array(integers, pa.uint64()), [float(value) for value in integers]
    halves = np.array([0.1, 65504, 6e-8, -1 / 3], np.float16)
    columns["float16"] = pa.array(halves), [float(value) for value in halves]
    singles = np.array([0.1, 3.4e38, 1e-45, -1 / 3], np.float32)
    columns["float32"] = pa.array(singles), [float(value) for value in singles]
    return columns


COLUMNS = value_columns()


def readings(number: int, interval: int, values: pa.Array) -> bytes:
    times = pa.array([START + k * interval for k in range(len(values))], pa.timestamp("us", "UTC"))
    return parquet_bytes(pa.table({"id": [asset(number)] * len(values), "timestamp": times, "value": values}))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """The tables of one run over all signals, each at three intervals, and of a reading a minute of all other columns."""
    lake = LocalLake(tmp_path_factory.mktemp("numbers"))
    for number, interval, values in all_signals():
        lake.put(f"{number}.parquet", readings(number, interval, pa.array(values)))
    for number, (column, _) in enumerate(COLUMNS.values(), 1_000):
        lake.put(f"{number}.parquet", readings(number, MINUTE, column))
    lake.resample().expect(OK)
    return {name: lake.query(f"SELECT * FROM {name} ORDER BY asset_id, timestamp") for name in RESOLUTIONS}


def all_signals() -> Iterator[tuple[int, int, list[float]]]:
    number = 0
    for values in SIGNALS.values():
        for interval, length in ((7 * SECOND, 1_100), (SECOND, 200), (23 * MINUTE, 150)):
            yield number, interval, values[:length]
            number += 1


def exact(values: list[float]) -> tuple[Fraction, Fraction | None]:
    """Returns the mean and the sample variance."""
    whole = [int(Fraction(value) * 2**UNIT) for value in values]
    count, total = len(whole), sum(whole)
    mean = Fraction(total, count << UNIT)
    if count == 1:
        return mean, None
    squares = count * sum(value * value for value in whole) - total * total
    return mean, Fraction(squares, count * (count - 1) << 2 * UNIT)


def root(square: Fraction) -> Fraction:
    """Returns a square root to 200 digits after the leading zeros of a subnormal."""
    shift = 3_000
    return Fraction(math.isqrt((square.numerator << 2 * shift) // square.denominator), 1 << shift)


def is_close(got: float, want: Fraction) -> bool:
    """Whether a double is within the tolerance, or is the last digit of a subnormal off; a value beyond doubles is the largest."""
    limit = Fraction(HUGE)
    want = max(-limit, min(limit, want))
    error = abs(Fraction(got) - want)
    # The sum of whole readings is exact, so a mean of 0 is 0.
    return error <= TOLERANCE * abs(want) or (want != 0 and error <= Fraction(TINY))


def shown(exact: Fraction) -> Decimal:
    return Decimal(exact.numerator) / Decimal(exact.denominator)


@pytest.mark.parametrize("name", RESOLUTIONS)
def test_averages_equal_exact_fractions(tables: dict[str, pd.DataFrame], name: str) -> None:
    micros = RESOLUTIONS[name]
    buckets = tables[name].groupby("asset_id")
    names = [f"{signal}/{interval}" for signal in SIGNALS for interval in ("7 s", "1 s", "23 min")]
    problems, checked = [], 0
    for label, (number, interval, values) in zip(names, all_signals(), strict=True):
        rows = buckets.get_group(asset(number))
        wanted: dict[int, list[float]] = {}
        for k, value in enumerate(values):
            wanted.setdefault((START + k * interval) // micros * micros, []).append(value)
        times = rows["timestamp"].astype("datetime64[us, UTC]").astype("int64").tolist()
        assert times == list(wanted), label
        for row, bucket in zip(rows.itertuples(), wanted.values(), strict=True):
            checked += 1
            mean, variance = exact(bucket)
            numbers = [row.value, row.min, row.max, row.first, row.last] + ([] if variance is None else [row.stddev])
            fits = (
                all(math.isfinite(number) for number in numbers)
                and (row.count, row.min, row.max) == (len(bucket), min(bucket), max(bucket))
                and (row.first, row.last) == (bucket[0], bucket[-1])
                and row.min <= row.value <= row.max
                and is_close(row.value, mean)
                and (math.isnan(row.stddev) if variance is None else is_close(row.stddev, root(variance)))
            )
            if not fits:
                stddev = None if variance is None else shown(root(variance))
                problems.append(f"{label} {row.timestamp}: {row.value!r} ± {row.stddev!r}, exactly {shown(mean)} ± {stddev}")
    assert not problems, f"{len(problems)} of {checked}\n" + "\n".join(problems[:8])
    assert checked > {"data_min": 6_000, "data_h": 1_400, "data_d": 100}[name]


def test_constant_signals_have_no_deviation(tables: dict[str, pd.DataFrame]) -> None:
    for table in tables.values():
        constant = table[(table["min"] == table["max"]) & (table["count"] > 1)]
        assert len(constant) and (constant["stddev"] == 0).all() and (constant["value"] == constant["min"]).all()
        moving = table[(table["min"] != table["max"]) & (table["max"].abs() > 1e-300)]
        assert len(moving) and (moving["stddev"] > 0).all()


def test_values_of_every_type_become_the_nearest_double(tables: dict[str, pd.DataFrame]) -> None:
    rows = tables["data_min"].groupby("asset_id")
    wrong = []
    for number, (name, (column, wanted)) in enumerate(COLUMNS.items(), 1_000):
        got = rows.get_group(asset(number))["first"].tolist()
        assert len(got) == len(wanted), name
        wrong += [f"{name}: {value} is {a!r} instead of {b!r}" for value, a, b in zip(column, got, wanted, strict=True) if a != b]
    assert not wrong, f"{len(wrong)} values\n" + "\n".join(wrong[:8])
