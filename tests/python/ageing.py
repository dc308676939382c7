"""A model of a lake with retention over simulated time: events that change the lake, and the place where each row must be,
computed from the raw files."""

from __future__ import annotations

import datetime as dt
import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable

import compare
from harness import LEFT_OUT, OK, REFUSED, Finished, Lake
from prepared import prepared
from reference import COLUMNS, EPOCH, MICROS_PER_DAY, RESOLUTIONS, RawFile, day_number, rollups
from test_kill import LEASE_SECONDS
from writers import ASSETS, parquet_bytes

# This date is later than the real modification time of any file, so every file is old enough for the sweep, which then keeps
# only files in use.
FIRST_DATE = dt.date(2040, 1, 1)
FIRST_MTIME = 1_700_000_000_000_000_000
DEFAULT_KEEP_DAYS = {"RAW": 45, "MINUTE": 30, "HOUR": 75, "DAY": 90}
TABLE_OF = {"MINUTE": "data_min", "HOUR": "data_h", "DAY": "data_d"}
SETTING_OF = {table: name for name, table in TABLE_OF.items()}

Tables = dict[str, pd.DataFrame]


def policy(then: dict[str, str] | None = None, keep: dict[str, int] | None = None) -> dict[str, str]:
    """Returns the settings of a retention. Actions not given in `then` are `archive`; data kept for 0 days never expires."""
    settings = {}
    for name, days in ({**DEFAULT_KEEP_DAYS, **(keep or {})}).items():
        if days:
            settings[f"PLANTLAKE_RETENTION_{name}_KEEP"] = f"{days}d"
        settings[f"PLANTLAKE_RETENTION_{name}_THEN"] = (then or {}).get(name, "archive")
    return settings


def readings(rng: np.random.Generator, dates: list[dt.date], assets: list[str]) -> pa.Table:
    """Returns 12 readings per asset and date."""
    rows = []
    for date in dates:
        start = day_number(date) * MICROS_PER_DAY
        for asset in assets:
            for minute in sorted(rng.choice(1440, size=12, replace=False)):
                rows.append((asset, start + (int(minute) * 60 + int(rng.integers(60))) * 1_000_000, rng.normal()))
    ids, times, values = zip(*rows)
    times = pa.array(times, pa.timestamp("us", "UTC"))
    return pa.table({"id": pa.array(ids, pa.large_string()), "timestamp": times, "value": list(values)})


def dates_in(table: pa.Table) -> set[int]:
    """Returns the day numbers of the readings."""
    return set((table["timestamp"].cast(pa.int64()).to_numpy() // MICROS_PER_DAY).tolist())


def date_of(day: int) -> dt.date:
    """Returns the date of a day number."""
    return (EPOCH + dt.timedelta(days=day)).date()


def last_of_partition(name: str, date: dt.date) -> dt.date:
    """Returns the last date of the partition that contains a date."""
    if name == "data_min":
        return date
    if name == "data_d":
        return dt.date(date.year, 12, 31)
    return (date.replace(day=1) + dt.timedelta(days=32)).replace(day=1) - dt.timedelta(days=1)


def filter_dates(tables: Tables, keep: Callable[[str, int], bool]) -> Tables:
    """Returns the rows of the dates for which `keep` is true."""
    found = {}
    for name, table in tables.items():
        days = table["timestamp"] // MICROS_PER_DAY
        kept = [day for day in days.unique() if keep(name, int(day))]
        found[name] = table[days.isin(kept)].reset_index(drop=True)
    return found


def concat_disjoint(one: Tables, other: Tables) -> Tables:
    """Returns the rows of both, and checks that no row is in both."""
    found = {}
    for name in RESOLUTIONS:
        table = pd.concat([one[name], other[name]], ignore_index=True).astype({"timestamp": "int64", "count": "int64"})
        duplicates = table[table.duplicated(["asset_id", "timestamp"])]
        assert not len(duplicates), f"{name}: {len(duplicates)} rows are in both, such as {duplicates.iloc[0].to_dict()}"
        found[name] = table.sort_values(["asset_id", "timestamp"]).reset_index(drop=True)[COLUMNS]
    return found


def archived_tables(lake: Lake) -> Tables:
    """Returns the archive's tables at their published versions, read by the deltalake package."""
    versions = (lake.published() or {}).get("archive")
    if versions is None:
        return {name: table.iloc[:0] for name, table in lake.published_tables().items()}
    return {name: _archived_table(lake, name, versions[name]) for name in RESOLUTIONS}


def _archived_table(lake: Lake, name: str, version: int) -> pd.DataFrame:
    table = DeltaTable(f"{lake.url}/archive/{name}", version=version, storage_options=lake.storage_options)
    return compare.sort_rows(compare.to_frame(pa.table(table.to_pyarrow_table())))


def all_rows(lake: Lake) -> Tables:
    """Returns all rows of the live and the archived tables."""
    return concat_disjoint(lake.published_tables(), archived_tables(lake))


def retry_while_refused(command: Callable[[], Finished]) -> Finished:
    """Runs the command until it is not refused. In a bucket, the lease of a killed run must expire first."""
    until = time.monotonic() + LEASE_SECONDS
    while (done := command()).code == REFUSED and time.monotonic() < until:
        time.sleep(2)
    return done


@dataclass
class Expected:
    """The expected tables, in the form that `compare` takes."""

    tables: Tables


class RetentionModel:
    """A lake and the model of its expected state. Ages are computed from `today`, the simulated date."""

    def __init__(self, lake: Lake, settings: dict[str, str], seed: int = 0) -> None:
        self.lake, self.settings = lake, settings
        self.today = FIRST_DATE
        self.rng, self.numpy_rng = random.Random(seed), np.random.default_rng(seed)
        # All files that the averages are computed from, raw or archived.
        self.files: dict[str, tuple[pa.Table, int]] = {}
        self.hashes: dict[str, str] = {}
        # The archived files, and the dates of their archiving.
        self.archived_on: dict[str, dt.date] = {}
        # The dates whose raw files were deleted, and the rows of these dates at that time.
        self.sealed: set[int] = set()
        self.sealed_rows: Tables | None = None
        # The files that contain only sealed dates.
        self.late_files: set[str] = set()
        # The files that the last finished run of the job read. No other files may expire.
        self.processed: dict[str, int] = {}
        # The dates that changed since that run. No file with one of these dates may expire.
        self.pending_dates: set[int] = set()
        # The dates that changed since the last check, and the rows at that time.
        self.changed_dates: set[int] = set()
        self.rows_at_last_check: Tables | None = None
        self.number = 0

    # ---- events

    def put(self, path: str, dates: list[dt.date], assets: list[str] | None = None) -> None:
        """Adds a file, or replaces one, which may be archived."""
        table = readings(self.numpy_rng, dates, assets or self.rng.sample(ASSETS, 2))
        self.number += 1
        mtime, data = FIRST_MTIME + self.number * 1_000_000_000, parquet_bytes(table)
        self.lake.put(path, data, mtime)
        if path in self.files:
            self.mark_changed(self.files[path][0])
        self.mark_changed(table)
        self.files[path], self.hashes[path] = (table, mtime), hashlib.sha256(data).hexdigest()
        self.archived_on.pop(path, None)
        self.late_files.discard(path)
        if dates_in(table) <= self.sealed:
            self.late_files.add(path)

    def mark_changed(self, table: pa.Table) -> None:
        self.changed_dates |= dates_in(table)
        self.pending_dates |= dates_in(table)

    def remove(self, path: str) -> None:
        self.lake.remove(path)
        self.mark_changed(self.files[path][0])
        del self.files[path]
        self.processed.pop(path, None)
        self.late_files.discard(path)

    def advance_days(self, count: int, chance: float = 0.5) -> None:
        """Advances the simulated date. Each day gets a file with probability `chance`; some files also have readings of the day
        before."""
        for _ in range(count):
            self.today += dt.timedelta(days=1)
            if self.rng.random() < chance:
                dates = [self.today - dt.timedelta(days=1), self.today] if self.rng.random() < 0.4 else [self.today]
                self.put(f"{self.today:%Y/%m}/{self.today}.parquet", dates)

    def resample(self, *flags: str) -> Finished:
        finished = retry_while_refused(lambda: self.lake.resample(*flags))
        if finished.code in (OK, LEFT_OUT):
            self.processed, self.pending_dates = {path: mtime for path, (_, mtime) in self.files.items()}, set()
        return finished

    def clock(self, more: int = 0) -> dict[str, str]:
        """Returns the setting of the simulated time, `more` days after today."""
        return {"PLANTLAKE_FAILPOINT_NOW": f"{self.today + dt.timedelta(days=more)}T12:00:00Z"}

    def maintain(self, *flags: str, settings: dict[str, str] | None = None) -> Finished:
        settings = self.settings | self.clock() | (settings or {})
        return retry_while_refused(lambda: self.lake.run("maintain", "--json", *flags, settings=settings))

    def restore(self, *args: str, settings: dict[str, str] | None = None) -> Finished:
        settings = self.settings | self.clock() | (settings or {})
        return retry_while_refused(lambda: self.lake.run("archive", "restore", *args, "--json", settings=settings))

    # ---- checks

    def first_kept(self, name: str) -> int | None:
        """Returns the first day number that has not expired, or None if nothing expires."""
        text = self.settings.get(f"PLANTLAKE_RETENTION_{name}_KEEP")
        return None if text is None else day_number(self.today) - int(text[:-1])

    def has_expired(self, table: str, day: int) -> bool:
        """Whether all dates of the partition that contains `day` have expired."""
        first = self.first_kept(SETTING_OF[table])
        return first is not None and day_number(last_of_partition(table, date_of(day))) < first

    def is_deleted(self, table: str, day: int) -> bool:
        return self.settings[f"PLANTLAKE_RETENTION_{SETTING_OF[table]}_THEN"] == "delete" and self.has_expired(table, day)

    def expire(self) -> None:
        """Applies the effect of today's maintenance on raw files to the model."""
        first = self.first_kept("RAW")
        if first is None:
            return
        expired = []
        for path, (table, mtime) in self.files.items():
            days = dates_in(table)
            if path in self.late_files or path in self.archived_on or self.processed.get(path) != mtime:
                continue
            if max(days) < first and not days & self.pending_dates:
                expired.append(path)
        if self.settings["PLANTLAKE_RETENTION_RAW_THEN"] != "delete":
            self.archived_on |= dict.fromkeys(expired, self.today)
        elif expired:
            rows = self.expected_rows()
            for path in expired:
                self.sealed |= dates_in(self.files.pop(path)[0])
            self.sealed_rows = filter_dates(rows, lambda _, day: day in self.sealed)

    def expected_rows(self) -> Tables:
        """Returns all expected rows: computed from the files, and for sealed dates as they were when sealed."""
        raw = [RawFile(path, mtime, table) for path, (table, mtime) in self.files.items()]
        tables = rollups(raw).tables
        if self.sealed_rows is None:
            return {name: tables[name][COLUMNS] for name in RESOLUTIONS}
        return concat_disjoint(filter_dates(tables, lambda _, day: day not in self.sealed), self.sealed_rows)

    def check(self, when: str, restored: bool = False) -> None:
        """Checks, after a run of the job and one of maintenance, that each row is where it must be, and that rows that must
        be deleted are absent."""
        live = self.lake.published_tables()
        rows = concat_disjoint(live, archived_tables(self.lake))
        expected = filter_dates(self.expected_rows(), lambda table, day: not self.is_deleted(table, day))
        try:
            compare.all_same_as_reference(rows, Expected(expected))
            if self.rows_at_last_check is not None:
                # Rows of unchanged dates are identical to the bit.
                keep = lambda table, day: day not in self.changed_dates and not self.is_deleted(table, day)
                compare.all_same_bits(filter_dates(rows, keep), filter_dates(self.rows_at_last_check, keep))
        except AssertionError as error:
            raise AssertionError(f"{when}, on {self.today}: {error}") from None
        self.rows_at_last_check, self.changed_dates = rows, set()
        if not restored:
            left = {name: table for name, table in filter_dates(live, self.has_expired).items() if len(table)}
            assert not left, f"{when}, the tables still have expired rows: {left}"
        self.lake.check_files()
        self.check_raw(when, restored)

    def check_raw(self, when: str, restored: bool = False) -> None:
        """Checks that no file is lost: each one is raw or archived, byte for byte."""
        raw = self.lake.mtimes().keys()
        listed = self.lake.run("archive", "list", "--json", settings=self.clock()).expect(OK).json["archived"]
        actual = {path for entry in listed for path, _ in entry.get("raw_files", [])}
        assert actual == set(self.archived_on), f"{when}, the archive and the model differ in {actual ^ set(self.archived_on)}"
        assert set(self.files) - set(self.archived_on) <= raw, f"{when}, raw files are missing"
        overdue = {path for path, since in self.archived_on.items() if self.today - since > dt.timedelta(days=2)}
        assert not overdue & raw, f"{when}, raw files were not deleted after they were archived: {overdue & raw}"
        if hasattr(self.lake, "root"):
            folder = self.lake.root / "archive" / "raw"
            actual = Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.parquet"))
            expected = Counter(self.hashes[path] for path in self.archived_on)
            # The next maintenance run deletes restored files from the archive.
            message = f"{when}, in {folder}: {actual - expected} unexpected, {expected - actual} missing"
            assert expected <= actual if restored else expected == actual, message


@prepared
def model_with_old_files(lake: Lake, then: dict[str, str] | None = None) -> RetentionModel:
    """Returns the model of a lake with files over four months, before the first maintenance run."""
    model = RetentionModel(lake, policy(then), seed=7)
    for day in range(0, 120, 6):
        model.put(f"{day:03}.parquet", [FIRST_DATE + dt.timedelta(days=day)], ASSETS)
    model.today = FIRST_DATE + dt.timedelta(days=120)
    model.resample().expect(OK)
    return model
