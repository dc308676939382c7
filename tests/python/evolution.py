"""Lakes, archives and mirrors of an older and of a later version of plantlake.

A later version is the binary with `PLANTLAKE_FAILPOINT_COLUMNS`: its tables also have `test_max`, which equals `max`, and
`test_count`, which equals `count`. The older version is the binary without it.
"""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

import compare
from harness import OK, Lake, reference
from reference import COLUMNS, EPOCH, MICROS_PER_DAY, RESOLUTIONS, rollups
from writers import ASSETS, parquet_bytes

LATER = {"PLANTLAKE_FAILPOINT_COLUMNS": "1"}
LATER_COLUMNS = ["test_max", "test_count"]
FIRST = dt.date(2024, 1, 20)
SMALL_FILES = {"PLANTLAKE_FAILPOINT_MEMORY": str(1 << 13)}
KEEP_DAYS = {"PLANTLAKE_RETENTION_MINUTE_KEEP": "10d", "PLANTLAKE_RETENTION_HOUR_KEEP": "40d", "PLANTLAKE_RETENTION_DAY_KEEP": "400d"}


def readings(number: int) -> pa.Table:
    """Returns readings of a date for each asset, two every third minute."""
    start = day_number(number) * MICROS_PER_DAY
    times = [(minute * 60 + second) * 1_000_000 for minute in range(0, 1440, 3) for second in (1, 30)]
    rows = len(ASSETS) * len(times)
    return pa.table(
        {
            "id": np.repeat(ASSETS, len(times)).tolist(),
            "timestamp": pa.array(np.tile(times, len(ASSETS)) + start, pa.timestamp("us", "UTC")),
            "value": np.random.default_rng(number).normal(size=rows),
        }
    )


class History:
    """A lake to which files are added, one a date."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.raw: dict[str, pa.Table] = {}

    def add(self, *numbers: int, settings: dict[str, str] | None = None, flags: tuple[str, ...] = ()) -> None:
        """Adds the files of these dates, and runs the job."""
        for number in numbers:
            path = f"{number:03}.parquet"
            self.raw[path] = readings(number)
            self.lake.put(path, parquet_bytes(self.raw[path]), 1_700_000_000_000_000_000 + number)
        self.lake.resample(*flags, settings=settings).expect(OK)

    def check(self) -> None:
        """Checks the original columns of the tables against pandas, as the deltalake package and as SQL read them."""
        expected = rollups(self.lake.raw_files(self.raw))
        for name, table in expected.tables.items():
            compare.same_as_reference(name, all_columns(self.lake, name), table)
            compare.same_bits(name, queried(self.lake, name), all_columns(self.lake, name))


def day_number(number: int) -> int:
    return (FIRST - EPOCH.date()).days + number


def days(table: pd.DataFrame) -> pd.Series:
    """Returns the date of each row, as the number of its file."""
    return table["timestamp"] // MICROS_PER_DAY - day_number(0)


def all_columns(lake: Lake, name: str, folder: str = "") -> pd.DataFrame:
    """Returns the latest version of a table with all of its columns, as the deltalake package reads it."""
    table = DeltaTable(f"{lake.url}/{folder}{name}", storage_options=lake.storage_options).to_pyarrow_table()
    frame = compare.to_frame(table)
    for column in table.column_names:
        if column not in COLUMNS and column != reference.PARTITION[name]:
            frame[column] = pd.Series(table[column].to_pylist(), dtype=object)
    return compare.sort_rows(frame)


def queried(lake: Lake, name: str, settings: dict[str, str] | None = None) -> pd.DataFrame:
    """Returns a published table as SQL returns it."""
    finished = lake.run("query", f"SELECT * FROM {name}", "--format", "parquet", settings=settings).expect(OK)
    table = pq.read_table(io.BytesIO(finished.out))
    known = [*COLUMNS, *(LATER_COLUMNS if settings else []), reference.PARTITION[name]]
    assert table.column_names == known
    frame = compare.to_frame(table)
    for column in LATER_COLUMNS if settings else []:
        frame[column] = pd.Series(table[column].to_pylist(), dtype=object)
    return compare.sort_rows(frame)


def assert_filled(table: pd.DataFrame, filled: Callable[[pd.Series], pd.Series]) -> None:
    """Checks that the later columns have values exactly in the rows that `filled` selects by their dates."""
    has_values = filled(days(table))
    for column, source in zip(LATER_COLUMNS, ("max", "count")):
        present = table[column].notna()
        wrong = table[present != has_values]
        assert wrong.empty, f"{column} is null or not in {len(wrong)} of {len(table)} rows:\n{wrong.head()}"
        assert (table.loc[present, column] == table.loc[present, source]).all(), f"{column} has other values"


def assert_filled_everywhere(lake: Lake, filled: Callable[[pd.Series], pd.Series]) -> None:
    """Checks the later columns of all tables, as the deltalake package and as SQL of the later version read them."""
    for name in RESOLUTIONS:
        assert_filled(all_columns(lake, name), filled)
        assert_filled(queried(lake, name, LATER), filled)


def log_actions(lake: Lake, name: str, kind: str, folder: str = "") -> list[dict]:
    """Returns the actions of a kind in the log of a table, the oldest first."""
    names = sorted(file for file in lake.listing(f"{folder}{name}/_delta_log") if file.endswith(".json") and file[:20].isdigit())
    lines = [json.loads(line) for file in names for line in lake.read(f"{folder}{name}/_delta_log/{file}").splitlines()]
    return [action[kind] for action in lines if kind in action]


def column_names(lake: Lake, name: str, folder: str = "") -> list[str]:
    table = DeltaTable(f"{lake.url}/{folder}{name}", storage_options=lake.storage_options)
    return [field.name for field in table.schema().fields]


def maintain(lake: Lake, today: dt.date | None = None, settings: dict[str, str] | None = None) -> dict:
    """Runs the maintenance, on `today` with retention."""
    chosen = dict(settings or {})
    if today is not None:
        chosen |= KEEP_DAYS | {"PLANTLAKE_FAILPOINT_NOW": f"{today}T12:00:00Z"}
    return lake.run("maintain", "--json", settings=chosen).expect(OK).json
