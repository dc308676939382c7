"""Random histories of a raw folder: files are added, changed, removed, damaged and repaired, and the job runs in between."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, fields

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

import compare
from harness import LEFT_OUT, OK, DataFile, Finished, Lake, assert_expected
from reference import MICROS_PER_DAY, RESOLUTIONS, Expected, date_of, partition_values, readings, rollups
from writers import DAYS, FOOTER_DAMAGE, FileSpec, WrittenFile, damage, file_specs, make

# Few paths, so that files are replaced. They include folders, and names that a wrong comparison would sort incorrectly.
PATHS = ["a.parquet", "a-b.parquet", "a/b.parquet", "B.parquet", "day=2024-01-01/part 0.snappy.parquet", "z/y/x.parquet"]
FIRST_MTIME_NS = 1_700_000_000_000_000_000

FilesByPartition = dict[str, dict[str, set[str]]]


class _ShortRepr:
    """A base class whose repr shows only values that differ from the defaults."""

    def __repr__(self) -> str:
        shown = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, repr=False)
class Put(_ShortRepr):
    """Adds or replaces a file."""

    place: int = 0  # index into PATHS
    spec: FileSpec = FileSpec()
    second: int = 0  # second of the modification time; few values, so that ties occur


@dataclass(frozen=True, repr=False)
class Remove(_ShortRepr):
    place: int = 0


@dataclass(frozen=True, repr=False)
class Touch(_ShortRepr):
    """Changes the modification time of a file, and with it its precedence among duplicate readings."""

    place: int = 0
    second: int = 0


@dataclass(frozen=True, repr=False)
class Damage(_ShortRepr):
    place: int = 0
    kind: str = "zero_bytes"


@dataclass(frozen=True, repr=False)
class Repair(_ShortRepr):
    """Restores a damaged file to its former content."""

    place: int = 0


@dataclass(frozen=True, repr=False)
class Run(_ShortRepr):
    """Runs the job. A window is a pair of indices into `writers.DAYS`."""

    window: tuple[int | None, int | None] = (None, None)
    full: bool = False
    dry: bool = False
    memory: int | None = None  # bytes; small values force small bands
    threads: int | None = None


Step = Put | Remove | Touch | Damage | Repair | Run

places = st.integers(0, len(PATHS) - 1)
seconds = st.integers(0, 4)
days = st.one_of(st.none(), st.integers(0, len(DAYS) - 1))
MEMORIES = [None, 1 << 14, 1 << 16, 1 << 18]


def _runs(**fixed: object) -> st.SearchStrategy[Run]:
    options = {
        "window": st.one_of(st.just((None, None)), st.tuples(days, days)),
        "full": st.sampled_from([False, False, False, True]),
        "dry": st.sampled_from([False, False, False, True]),
        "memory": st.sampled_from(MEMORIES),
        "threads": st.sampled_from([None, 1, 3]),
    }
    return st.builds(Run, **(options | {name: st.just(value) for name, value in fixed.items()}))


def histories(length: int) -> st.SearchStrategy[list[Step]]:
    """Returns a strategy of histories that begin with a file and a run. The test ends them with a full comparison."""
    puts = st.builds(Put, place=places, spec=file_specs(), second=seconds)
    step = st.one_of(
        puts,
        puts,
        st.builds(Remove, place=places),
        st.builds(Touch, place=places, second=seconds),
        st.builds(Damage, place=places, kind=st.sampled_from(FOOTER_DAMAGE)),
        st.builds(Repair, place=places),
        _runs(),
        _runs(window=(None, None), dry=False),
    )
    return st.builds(
        lambda first, rest: [*first, *rest],
        st.lists(puts, min_size=1, max_size=3),
        st.lists(step, min_size=2, max_size=length),
    )


@dataclass
class File:
    """A raw file as the test knows it. A damaged file has no readings."""

    made: WrittenFile
    damaged: str | None = None


@dataclass
class LakeModel:
    """A lake to which the steps of a history are applied, and its expected state."""

    lake: Lake
    files: dict[str, File] = field(default_factory=dict)
    # The expected contents of the tables: for each date, the result of the raw files at its last run.
    expected: Expected = field(default_factory=lambda: rollups([]))
    used_mtimes: dict[str, set[int]] = field(default_factory=dict)
    # The days whose partitions may have changed since the last full run.
    touched: set[int] = field(default_factory=set)
    runs: int = 0

    # ---- changes of raw

    def apply(self, step: Step) -> None:
        """Executes one step of the history."""
        if isinstance(step, Run):
            self.run(step)
            return
        path = PATHS[step.place]
        file = self.files.get(path)
        if isinstance(step, Put):
            self._write(path, File(make(step.spec)), step.second)
        elif file is None:
            return
        elif isinstance(step, Remove):
            self._touch_days(path)
            self.lake.remove(path)
            del self.files[path]
        elif isinstance(step, Touch):
            self._write(path, file, step.second)
        elif isinstance(step, Damage):
            self._write(path, File(file.made, step.kind), None)
        elif isinstance(step, Repair) and file.damaged:
            self._write(path, File(file.made), None)

    def _write(self, path: str, file: File, second: int | None) -> None:
        """Writes a file. If `second` is None, the second of the former version is used."""
        self._touch_days(path)
        used = self.used_mtimes.setdefault(path, set())
        if second is None:
            second = (max(used, default=FIRST_MTIME_NS) - FIRST_MTIME_NS) // 1_000_000_000
        mtime = FIRST_MTIME_NS + second * 1_000_000_000
        # Versions of a file never share a modification time, because then only their contents could tell them apart.
        while mtime in used:
            mtime += 1_000
        used.add(mtime)
        data = file.made.data if file.damaged is None else damage(file.made, file.damaged)
        self.lake.put(path, data, mtime)
        self.files[path] = file
        self._touch_days(path)

    def _touch_days(self, path: str) -> None:
        file = self.files.get(path)
        if file is not None and file.damaged is None:
            rows = readings(file.made.table)
            timed = rows[~rows["reason"].isin(["null_time", "time_out_of_range"])]
            self.touched |= {int(day) for day in (timed["time"] // MICROS_PER_DAY).unique()}

    # ---- checks

    def good_tables(self) -> dict[str, pa.Table]:
        """Returns the readings of the undamaged files."""
        return {path: file.made.table for path, file in self.files.items() if file.damaged is None}

    def reference(self) -> Expected:
        """Returns the tables that the current raw files must produce."""
        return rollups(self.lake.raw_files(self.good_tables()))

    def damaged(self) -> set[str]:
        return {path for path, file in self.files.items() if file.damaged}

    def run(self, step: Run) -> Finished:
        """Runs the job once and checks its effects."""
        first, last = (None if day is None else DAYS[day] for day in step.window)
        if first and last and first > last:
            first, last = last, first
        flags, settings = run_flags(first, last, step)
        before = self.lake.snapshot()
        files_before = by_partition({name: self.lake.data_files(name) for name in RESOLUTIONS})
        finished = self.lake.resample(*flags, settings=settings)
        if step.dry:
            finished.expect(OK, LEFT_OUT)
            assert finished.json["outcome"] in ("dry_run", "nothing_to_do"), str(finished)
            assert self.lake.snapshot() == before, f"a dry run changed the lake\n{finished}"
            return finished
        finished.expect(LEFT_OUT if self.damaged() else OK)
        self._check_report(finished)
        new = self.reference()
        is_unbounded = first is None and last is None
        self.expected = new if is_unbounded else self.expected.merged(new, first, last)
        self.runs += 1
        files = self._check(finished)
        if not step.full:
            self._check_untouched(files_before, by_partition(files), finished)
        if is_unbounded:
            self.touched = set()
        elif step.full:
            # After a full run, dates outside its window stay due, even if none of their files changes.
            for path in self.files:
                self._touch_days(path)
        return finished

    def _check(self, finished: Finished) -> dict[str, list[DataFile]]:
        try:
            return assert_expected(self.lake, self.expected)
        except AssertionError as error:
            raise AssertionError(f"{error}\nafter\n{finished}") from None

    def _check_report(self, finished: Finished) -> None:
        report = finished.json
        assert report["outcome"] in ("published", "nothing_to_do"), str(finished)
        known, bad = report["files"], self.damaged()
        assert known["quarantined"] == len(bad), f"the damaged files are {sorted(bad)}\n{finished}"
        if report["outcome"] == "published":
            named = {entry["path"]: entry["reason"] for entry in report["quarantined"]}
            assert all(named.values()), f"a quarantined file without a reason\n{finished}"

    def _check_untouched(self, before: FilesByPartition, after: FilesByPartition, finished: Finished) -> None:
        """Checks that partitions without a touched day keep their files."""
        for name, partitions in before.items():
            starts = np.array([day * MICROS_PER_DAY for day in self.touched], dtype=np.int64)
            touched = set(partition_values(name, starts))
            for partition, files in partitions.items():
                if partition not in touched:
                    now = after.get(name, {}).get(partition, set())
                    assert now == files, (
                        f"{name} {partition} was rewritten, though only {sorted(map(str, map(date_of, self.touched)))} "
                        f"were touched: {sorted(files)} became {sorted(now)}\n{finished}"
                    )

    def check_nothing_to_do(self) -> None:
        """Checks that a run with nothing to do reports it and writes nothing."""
        before = self.lake.snapshot()
        finished = self.lake.resample().expect(LEFT_OUT if self.damaged() else OK)
        assert finished.json["outcome"] == "nothing_to_do", str(finished)
        after = self.lake.snapshot()
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        assert not changed, f"a run with nothing to do wrote or removed {changed}\n{finished}"

    def check_twin(self) -> None:
        """Checks that a fresh lake, resampled in one run, has the same bits."""
        twin, flags = self.lake.copy_raw_files()
        finished = twin.resample("--full", *flags).expect(LEFT_OUT if self.damaged() else OK)
        try:
            compare.all_same_bits(self.lake.tables(), twin.tables())
        except AssertionError as error:
            raise AssertionError(f"incremental (actual) and full (expected) differ:\n{error}\n{finished}") from None
        new, report = self.reference(), finished.json
        if report["outcome"] != "published":
            return
        assert report["left_out"] == [] or report["readings"]["left_out"], str(finished)
        counted = report["readings"]
        totals = {"read": new.read, "used": new.used, "superseded": new.superseded}
        assert {key: counted[key] for key in totals} == totals, f"expected {totals}\n{finished}"
        assert nonzero(counted["left_out"]) == new.left_out_by_reason, f"{new.left_out_by_reason}\n{finished}"
        by_file = {entry["path"]: nonzero(entry["reasons"]) for entry in report["left_out"]}
        assert by_file == new.left_out, f"expected {new.left_out}\n{finished}"
        rows = {name: len(table) for name, table in new.tables.items()}
        assert {name: report["rows"][name] for name in rows} == rows, f"expected {rows}\n{finished}"


def by_partition(files: dict[str, list[DataFile]]) -> FilesByPartition:
    """Returns the paths of the files of each table by partition."""
    found: FilesByPartition = {}
    for name, each in files.items():
        for file in each:
            found.setdefault(name, {}).setdefault(file.partition, set()).add(file.path)
    return found


def nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}


def run_flags(first: dt.date | None, last: dt.date | None, step: Run) -> tuple[list[str], dict[str, str]]:
    flags = []
    if first:
        flags += ["--from", first.isoformat()]
    if last:
        flags += ["--to", last.isoformat()]
    if step.full:
        flags.append("--full")
    if step.dry:
        flags.append("--dry-run")
    settings = {}
    if step.memory:
        settings["PLANTLAKE_FAILPOINT_MEMORY"] = str(step.memory)
    if step.threads:
        settings["PLANTLAKE_RESAMPLE_THREADS"] = str(step.threads)
    return flags, settings
