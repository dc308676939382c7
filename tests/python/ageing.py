"""A lake under retention over simulated time: events that change it, and a model, computed from its raw files, of where each
row must be."""

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
from harness import LEFT_OUT, OK, REFUSED, Finished, Lake, frame_of
from reference import COLUMNS, EPOCH, MICROS_PER_DAY, RESOLUTIONS, RawFile, day_number, rollups
from test_kill import LEASE_SECONDS
from writers import ASSETS, parquet_bytes

# This date is later than the real modification time of any file, so every file is old enough for the sweep, which then keeps
# only files in use.
FIRST = dt.date(2040, 1, 1)
FIRST_MTIME = 1_700_000_000_000_000_000
KEPT = {"RAW": 45, "MINUTE": 30, "HOUR": 75, "DAY": 90}
TABLE_OF = {"MINUTE": "data_min", "HOUR": "data_h", "DAY": "data_d"}
SETTING_OF = {table: name for name, table in TABLE_OF.items()}

Tables = dict[str, pd.DataFrame]


def policy(then: dict[str, str] | None = None, keep: dict[str, int] | None = None) -> dict[str, str]:
    """Returns the settings of a retention. Actions not given in `then` are `archive`; data kept for 0 days never expires."""
    settings = {}
    for name, days in ({**KEPT, **(keep or {})}).items():
        if days:
            settings[f"PLANTLAKE_RETENTION_{name}_KEEP"] = f"{days}d"
        settings[f"PLANTLAKE_RETENTION_{name}_THEN"] = (then or {}).get(name, "archive")
    return settings


def readings(dice: np.random.Generator, dates: list[dt.date], assets: list[str]) -> pa.Table:
    """Returns 12 readings per asset and date."""
    rows = []
    for date in dates:
        start = pd.Timestamp(date, tz="UTC")
        for asset in assets:
            for minute in sorted(dice.choice(1440, size=12, replace=False)):
                rows.append((asset, start + pd.Timedelta(minutes=int(minute), seconds=int(dice.integers(60))), dice.normal()))
    frame = pd.DataFrame(rows, columns=["id", "timestamp", "value"]).astype({"timestamp": "datetime64[us, UTC]"})
    return pa.Table.from_pandas(frame, preserve_index=False)


def dates_in(table: pa.Table) -> set[int]:
    return set((table["timestamp"].cast(pa.int64()).to_numpy() // MICROS_PER_DAY).tolist())


def date_of(day: int) -> dt.date:
    return (EPOCH + dt.timedelta(days=day)).date()


def last_of_partition(name: str, date: dt.date) -> dt.date:
    if name == "data_min":
        return date
    if name == "data_d":
        return dt.date(date.year, 12, 31)
    return (date.replace(day=1) + dt.timedelta(days=32)).replace(day=1) - dt.timedelta(days=1)


def on(tables: Tables, keep: Callable[[str, int], bool]) -> Tables:
    """Returns the rows of the dates for which `keep` is true."""
    found = {}
    for name, table in tables.items():
        days = table["timestamp"] // MICROS_PER_DAY
        kept = [day for day in days.unique() if keep(name, int(day))]
        found[name] = table[days.isin(kept)].reset_index(drop=True)
    return found


def together(one: Tables, other: Tables) -> Tables:
    """Returns the rows of both, and checks that no row is in both."""
    found = {}
    for name in RESOLUTIONS:
        table = pd.concat([one[name], other[name]], ignore_index=True).astype({"timestamp": "int64", "count": "int64"})
        twice = table[table.duplicated(["asset_id", "timestamp"])]
        assert not len(twice), f"{name}: {len(twice)} rows are in two places, as {twice.iloc[0].to_dict()}"
        found[name] = table.sort_values(["asset_id", "timestamp"]).reset_index(drop=True)[COLUMNS]
    return found


def archived(lake: Lake) -> Tables:
    """Returns the archive's tables at their published versions, read by the deltalake package."""
    versions = (lake.published() or {}).get("archive")
    if versions is None:
        return {name: table.iloc[:0] for name, table in lake.published_tables().items()}
    return {name: _archived(lake, name, versions[name]) for name in RESOLUTIONS}


def _archived(lake: Lake, name: str, version: int) -> pd.DataFrame:
    table = DeltaTable(f"{lake.url}/archive/{name}", version=version, storage_options=lake.storage_options)
    return frame_of(pa.table(table.to_pyarrow_table())).sort_values(["asset_id", "timestamp"]).reset_index(drop=True)


def seen(lake: Lake) -> Tables:
    """Returns all rows of the live and the archived tables."""
    return together(lake.published_tables(), archived(lake))


def patiently(command: Callable[[], Finished]) -> Finished:
    """Runs the command until it is not refused. In a bucket, the lease of a killed run must expire first."""
    until = time.monotonic() + LEASE_SECONDS
    while (done := command()).code == REFUSED and time.monotonic() < until:
        time.sleep(2)
    return done


@dataclass
class Expected:
    tables: Tables


class Ageing:
    """A lake and the model of its expected state. Ages are computed from `today`, the simulated date."""

    def __init__(self, lake: Lake, settings: dict[str, str], seed: int = 0) -> None:
        self.lake, self.settings = lake, settings
        self.today = FIRST
        self.dice, self.noise = random.Random(seed), np.random.default_rng(seed)
        # All files that the averages are computed from, raw or archived.
        self.files: dict[str, tuple[pa.Table, int]] = {}
        self.hashes: dict[str, str] = {}
        # The archived files, and the dates of their archiving.
        self.shelved: dict[str, dt.date] = {}
        # The dates whose raw files were deleted, and their rows at that time.
        self.sealed: set[int] = set()
        self.frozen: Tables | None = None
        # The files that contain only sealed dates.
        self.late: set[str] = set()
        # The files that the last finished run of the job read. No other files may expire.
        self.taken: dict[str, int] = {}
        # The dates that changed since that run. No file with one of these dates may expire.
        self.waiting: set[int] = set()
        # The dates that changed since the last check, and the rows at that time.
        self.touched: set[int] = set()
        self.before: Tables | None = None
        self.number = 0

    # ---- events

    def put(self, path: str, dates: list[dt.date], assets: list[str] | None = None) -> None:
        """Adds a file, or replaces one that may be old."""
        table = readings(self.noise, dates, assets or self.dice.sample(ASSETS, 2))
        self.number += 1
        mtime, data = FIRST_MTIME + self.number * 1_000_000_000, parquet_bytes(table)
        self.lake.put(path, data, mtime)
        if path in self.files:
            self.touch(self.files[path][0])
        self.touch(table)
        self.files[path], self.hashes[path] = (table, mtime), hashlib.sha256(data).hexdigest()
        self.shelved.pop(path, None)
        self.late.discard(path)
        if dates_in(table) <= self.sealed:
            self.late.add(path)

    def touch(self, table: pa.Table) -> None:
        self.touched |= dates_in(table)
        self.waiting |= dates_in(table)

    def remove(self, path: str) -> None:
        self.lake.remove(path)
        self.touch(self.files[path][0])
        del self.files[path]
        self.taken.pop(path, None)
        self.late.discard(path)

    def pass_days(self, count: int, chance: float = 0.5) -> None:
        """Advances the simulated date. A day has a file with probability `chance`; some files also have readings of the day
        before."""
        for _ in range(count):
            self.today += dt.timedelta(days=1)
            if self.dice.random() < chance:
                dates = [self.today - dt.timedelta(days=1), self.today] if self.dice.random() < 0.4 else [self.today]
                self.put(f"{self.today:%Y/%m}/{self.today}.parquet", dates)

    def resample(self, *flags: str) -> Finished:
        finished = patiently(lambda: self.lake.resample(*flags))
        if finished.code in (OK, LEFT_OUT):
            self.taken, self.waiting = {path: mtime for path, (_, mtime) in self.files.items()}, set()
        return finished

    def clock(self, more: int = 0) -> dict[str, str]:
        return {"PLANTLAKE_FAILPOINT_NOW": f"{self.today + dt.timedelta(days=more)}T12:00:00Z"}

    def maintain(self, *flags: str, settings: dict[str, str] | None = None) -> Finished:
        settings = self.settings | self.clock() | (settings or {})
        return patiently(lambda: self.lake.run("maintain", "--json", *flags, settings=settings))

    def restore(self, *args: str, settings: dict[str, str] | None = None) -> Finished:
        settings = self.settings | self.clock() | (settings or {})
        return patiently(lambda: self.lake.run("archive", "restore", *args, "--json", settings=settings))

    # ---- checks

    def first_kept(self, name: str) -> int | None:
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
        gone = []
        for path, (table, mtime) in self.files.items():
            days = dates_in(table)
            if path in self.late or path in self.shelved or self.taken.get(path) != mtime:
                continue
            if max(days) < first and not days & self.waiting:
                gone.append(path)
        if self.settings["PLANTLAKE_RETENTION_RAW_THEN"] != "delete":
            self.shelved |= dict.fromkeys(gone, self.today)
        elif gone:
            due = self.due()
            for path in gone:
                self.sealed |= dates_in(self.files.pop(path)[0])
            self.frozen = on(due, lambda _, day: day in self.sealed)

    def due(self) -> Tables:
        """Returns all expected rows: computed from the files, and for sealed dates as they were when sealed."""
        raw = [RawFile(path, mtime, table) for path, (table, mtime) in self.files.items()]
        tables = rollups(raw).tables
        if self.frozen is None:
            return {name: tables[name][COLUMNS] for name in RESOLUTIONS}
        return together(on(tables, lambda _, day: day not in self.sealed), self.frozen)

    def check(self, when: str, came_back: bool = False) -> None:
        """Checks, after a run of the job and one of maintenance, that each row is where it must be, or deleted if it must
        be."""
        live, shelf = self.lake.published_tables(), archived(self.lake)
        rows = together(live, shelf)
        due = on(self.due(), lambda table, day: not self.is_deleted(table, day))
        try:
            compare.all_same_as_reference(rows, Expected(due))
            if self.before is not None:
                # Rows of unchanged dates are identical to the bit.
                keep = lambda table, day: day not in self.touched and not self.is_deleted(table, day)
                compare.all_same_bits(on(rows, keep), on(self.before, keep))
        except AssertionError as error:
            raise AssertionError(f"{when}, on {self.today}: {error}") from None
        self.before, self.touched = rows, set()
        if not came_back:
            left = {name: table for name, table in on(live, self.has_expired).items() if len(table)}
            assert not left, f"{when}, what has expired is still there: {left}"
        self.lake.check_files()
        self.check_raw(when, came_back)

    def check_raw(self, when: str, came_back: bool = False) -> None:
        """Checks that no file is lost: each one is raw or archived, byte for byte."""
        raw = self.lake.mtimes().keys()
        listed = self.lake.run("archive", "list", "--json", settings=self.clock()).expect(OK).json["archived"]
        told = {path for entry in listed for path, _ in entry.get("raw_files", [])}
        assert told == set(self.shelved), f"{when}, the archive has {told ^ set(self.shelved)} or not"
        assert set(self.files) - set(self.shelved) <= raw, f"{when}, raw files are gone"
        long_ago = {path for path, since in self.shelved.items() if self.today - since > dt.timedelta(days=2)}
        assert not long_ago & raw, f"{when}, raw files are still there that expired long ago: {long_ago & raw}"
        if hasattr(self.lake, "root"):
            folder = self.lake.root / "archive" / "raw"
            there = Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.parquet"))
            due = Counter(self.hashes[path] for path in self.shelved)
            # The next maintenance run deletes restored files from the archive.
            assert due <= there if came_back else due == there, f"{when}, in {folder}: {there - due} too many, {due - there} missing"


def grown_old(lake: Lake, then: dict[str, str] | None = None) -> Ageing:
    """Returns a lake with files over four months, before anything has expired."""
    ageing = Ageing(lake, policy(then), seed=7)
    for day in range(0, 120, 6):
        ageing.put(f"{day:03}.parquet", [FIRST + dt.timedelta(days=day)], ASSETS)
    ageing.today = FIRST + dt.timedelta(days=120)
    ageing.resample().expect(OK)
    return ageing
