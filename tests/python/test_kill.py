"""Tests of killed runs. Whenever the job is killed, readers see either the old or the new state, and the next run produces the
right tables."""

from __future__ import annotations

import io
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd
import pyarrow.parquet as pq
import pytest

import compare
import harness
from harness import KILLED, LEFT_OUT, OK, REFUSED, Finished, Lake, finish
from prepared import prepared
from reference import RESOLUTIONS, Expected
from stories import LakeModel, Put, Remove, Run
from writers import FileSpec

FAILPOINTS = [
    "lease-taken",
    "before-intent",
    "after-intent",
    "before-data-file",
    "before-data-file:2",
    "after-data-file",
    "after-data-file:3",
    "before-commit-data_min",
    "after-commit-data_min",
    "before-commit-data_h",
    "after-commit-data_h",
    "before-commit-data_d",
    "after-commit-data_d",
    "before-ledger",
    "after-ledger",
    "before-publish",
    "after-publish",
    "after-cleanup",
]
FAILPOINTS_AFTER_PUBLICATION = ("after-publish", "after-cleanup")
# A lease in a bucket expires a minute after its last renewal; a file lock ends with its process.
LEASE_SECONDS = 90

# Counts the disagreements between the tables and sums their contents, in one statement, because one statement reads one
# publication.
DISAGREEMENTS = " UNION ALL ".join(
    f"""
    SELECT '{coarse}' AS what, count(*) AS n_rows, CAST(NULL AS DOUBLE) AS total FROM (
        SELECT asset_id, date_trunc('{unit}', "timestamp") AS bucket, sum("count") AS n,
               min("min") AS low, max("max") AS high
        FROM {fine} GROUP BY 1, 2) AS f
    FULL OUTER JOIN {coarse} AS c ON c.asset_id = f.asset_id AND c."timestamp" = f.bucket
    WHERE (c."count" IS DISTINCT FROM f.n) OR (c."min" IS DISTINCT FROM f.low) OR (c."max" IS DISTINCT FROM f.high)
    """
    for fine, coarse, unit in [("data_min", "data_h", "hour"), ("data_h", "data_d", "day")]
) + "".join(
    f""" UNION ALL SELECT '{name} total' AS what, count(*) AS n_rows, sum("count") + sum("value") AS total FROM {name}"""
    for name in RESOLUTIONS
)


@dataclass(frozen=True)
class TableState:
    """The contents of the three tables at one point in time."""

    disagreements: dict[str, int]
    rows: tuple[int, ...]
    readings: tuple[float, ...]

    def matches(self, expected: Expected) -> bool:
        """Whether the row counts and sums are those of the expected tables."""
        rows = tuple(len(expected.tables[name]) for name in RESOLUTIONS)
        if self.rows != rows:
            return False
        for name, seen in zip(RESOLUTIONS, self.readings):
            table = expected.tables[name]
            total = float(table["count"].sum() + table["value"].sum())
            if abs(seen - total) > 1e-6 * max(1.0, abs(total)):
                return False
        return True


def read_state(lake: Lake) -> TableState:
    """Returns the contents of the published tables."""
    seen = lake.query(DISAGREEMENTS).set_index("what")
    tables = [f"{name} total" for name in RESOLUTIONS]
    return TableState(
        {name: int(seen.loc[name, "n_rows"]) for name in ("data_h", "data_d")},
        tuple(int(seen.loc[name, "n_rows"]) for name in tables),
        tuple(0.0 if pd.isna(seen.loc[name, "total"]) else float(seen.loc[name, "total"]) for name in tables),
    )


def assert_consistent(actual: TableState, states: list[Expected], when: str) -> int:
    """Checks that the tables agree and match one of these states, and returns the index of the state."""
    assert actual.disagreements == {"data_h": 0, "data_d": 0}, f"{when}, the published tables disagree: {actual}"
    for number, state in enumerate(states):
        if actual.matches(state):
            return number
    rows = [tuple(len(state.tables[name]) for name in RESOLUTIONS) for state in states]
    raise AssertionError(f"{when}, a reader read {actual}; the states have {rows} rows")


@dataclass
class Readers:
    """Reads the published tables repeatedly in a thread until stopped."""

    lake: Lake
    states: list[Expected]
    reads: int = 0
    problem: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Readers":
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()
        return self

    def _poll(self) -> None:
        newest = 0
        try:
            while not self._stop.is_set():
                state = assert_consistent(read_state(self.lake), self.states, "while the job ran and was killed")
                assert state >= newest, f"a reader read state {state} after the later state {newest}"
                newest = state
                self.reads += 1
        except BaseException as problem:  # noqa: BLE001  raised by __exit__
            self.problem = problem

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        if self.problem is not None:
            raise self.problem


def resample_after_kill(lake: Lake, *flags: str) -> Finished:
    """Runs the job again. In a bucket, the lease of the killed run must expire first."""
    until = time.monotonic() + (LEASE_SECONDS if lake.url.startswith("s3:") else 0)
    while True:
        finished = lake.resample(*flags)
        if finished.code != REFUSED or time.monotonic() > until:
            return finished.expect(OK, LEFT_OUT)
        time.sleep(2)


def recover(model: LakeModel, when: str) -> None:
    """Checks that the next run produces exactly the expected tables, and that nothing is left to do afterwards."""
    finished = resample_after_kill(model.lake)
    model.expected = model.reference()
    try:
        harness.assert_expected(model.lake, model.expected)
    except AssertionError as error:
        raise AssertionError(f"after a kill {when} and another run: {error}\n{finished}") from None
    assert_consistent(read_state(model.lake), [model.expected], f"after a kill {when} and another run")
    model.check_nothing_to_do()


@prepared
def model_with_pending_changes(lake: Lake) -> LakeModel:
    """Returns the model of a lake with a published state and pending changes of every kind: a new, a replaced and a removed
    file."""
    model = LakeModel(lake)
    for step in [
        Put(0, FileSpec(rows=200, days=3, assets=(0, 1))),
        Put(1, FileSpec(seed=1, rows=200, day=3, days=2, assets=(1, 2))),
        Put(2, FileSpec(seed=2, rows=80, day=0, assets=(3,))),
        Run(),
    ]:
        model.apply(step)
    for step in [
        Put(3, FileSpec(seed=3, rows=200, day=1, days=2, assets=(0, 3), repeats=True), 1),
        Put(1, FileSpec(seed=4, rows=200, day=4, assets=(1, 2)), 1),
        Remove(2),
    ]:
        model.apply(step)
    return model


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_run_killed_at_failpoint_is_recovered(lake: Lake, failpoint: str) -> None:
    model = model_with_pending_changes(lake)
    old, new = model.expected, model.reference()
    assert_consistent(read_state(lake), [old], "before")

    killed = lake.resample(settings={"PLANTLAKE_FAILPOINT": failpoint})
    if killed.code in (OK, LEFT_OUT):
        pytest.fail(f"the run did not reach {failpoint}; only debug builds have failpoints\n{killed}")
    killed.expect(KILLED)

    published = new if failpoint in FAILPOINTS_AFTER_PUBLICATION else old
    assert_consistent(read_state(lake), [published], f"after a kill at {failpoint}")
    recover(model, f"at {failpoint}")

    twin, flags = lake.copy_raw_files()
    twin.resample("--full", *flags).expect(OK)
    compare.all_same_bits(lake.tables(), twin.tables())


@pytest.mark.parametrize("failpoint", ["after-intent", "after-data-file", "after-commit-data_h", "before-publish"])
def test_raw_changes_after_kill_are_processed(lake: Lake, failpoint: str) -> None:
    """The next run completes an intent that refers to files that were removed or changed since."""
    model = model_with_pending_changes(lake)
    lake.resample(settings={"PLANTLAKE_FAILPOINT": failpoint}).expect(KILLED)
    for step in [
        Put(3, FileSpec(seed=9, rows=90, day=6, assets=(0,)), 2),
        Put(0, FileSpec(seed=10, rows=90, day=0, assets=(0,)), 2),
        Remove(1),
        Put(4, FileSpec(seed=11, rows=90, day=4, assets=(2,)), 2),
    ]:
        model.apply(step)
    finished = resample_after_kill(lake)
    model.expected = model.reference()
    # The first run may only complete the intent; the second run processes all other changes.
    again = lake.resample().expect(OK, LEFT_OUT)
    try:
        harness.assert_expected(lake, model.expected)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{finished}\n{again}") from None
    assert_consistent(read_state(lake), [model.expected], "after the second run")
    model.check_nothing_to_do()


@pytest.mark.parametrize("kills", [["before-data-file", "before-commit-data_min", "after-commit-data_d", "after-ledger"]])
def test_repeatedly_killed_run_is_recovered(lake: Lake, kills: list[str]) -> None:
    """Each run is killed at a later failpoint than the one before."""
    model = model_with_pending_changes(lake)
    old = model.expected
    for failpoint in kills:
        until = time.monotonic() + LEASE_SECONDS
        while (killed := lake.resample(settings={"PLANTLAKE_FAILPOINT": failpoint})).code == REFUSED:
            assert time.monotonic() < until, str(killed)
            time.sleep(2)
        killed.expect(KILLED)
        assert_consistent(read_state(lake), [old], f"after a kill at {failpoint}")
    recover(model, f"at {', '.join(kills)}")


def test_killed_first_run_is_recovered(lake: Lake) -> None:
    model = LakeModel(lake)
    model.apply(Put(0, FileSpec(rows=100, days=2)))
    lake.resample(settings={"PLANTLAKE_FAILPOINT": "after-commit-data_min"}).expect(KILLED)
    recover(model, "at after-commit-data_min of the first run")


@pytest.mark.parametrize("failpoint", ["after-intent", "before-commit-data_h", "before-publish"])
def test_killed_run_with_window_leaves_other_dates_due(lake: Lake, failpoint: str) -> None:
    """Dates outside the window of the killed run stay due."""
    model = model_with_pending_changes(lake)
    lake.resample(
        "--from", "2023-12-31", "--to", "2024-01-01", settings={"PLANTLAKE_FAILPOINT": failpoint}
    ).expect(KILLED)
    recover(model, f"at {failpoint} of a run with a window")


def test_run_killed_at_random_moment_is_recovered(lake: Lake, effort) -> None:
    rng = random.Random(int(os.environ.get("PLANTLAKE_TEST_SEED", "1")))
    model = LakeModel(lake)
    for place in range(3):
        model.apply(Put(place, FileSpec(seed=place, rows=4_000, days=20, pace="sparse", assets=(0, 1, 2, 3), order="shuffled")))
    model.run(Run())
    # The duration of a run that processes as much as the runs that are killed.
    model.apply(Put(3, FileSpec(seed=90, rows=4_000, days=20, pace="sparse", assets=(0, 1, 2, 3))))
    usual_seconds = model.run(Run()).seconds

    kills, reads = 0, 0
    moments = []
    for number in range(effort.kills):
        old = model.expected
        place = number % 4
        model.apply(Put(place, FileSpec(seed=100 + number, rows=4_000, day=number % 5, days=20, pace="sparse",
                                        assets=(0, 1, 2, 3), order=rng.choice(["by_asset", "shuffled"]))))  # fmt: skip
        if number % 3 == 2:
            model.apply(Remove((place + 1) % 4))
        new = model.reference()
        with Readers(lake, [old, new]) as readers:
            process = lake.start("resample", "--json")
            moment = rng.uniform(0, usual_seconds * 1.1)
            try:
                process.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.communicate()
            moments.append(round(moment, 3))
            assert_consistent(read_state(lake), [old, new], f"after a kill {moment:.3f} s into a run")
            # Readers continue while the next run recovers.
            recover(model, f"{moment:.3f} s into a run of {usual_seconds:.3f} s")
        reads += readers.reads
    print(
        f"{kills} of {effort.kills} runs were killed, at {moments} s of about {usual_seconds:.2f} s; "
        f"readers read the tables {reads} times"
    )
    assert kills >= effort.kills // 3, f"only {kills} of {effort.kills} runs were killed before they ended"
    assert reads >= effort.kills


def holds_lease(lake: Lake, process: subprocess.Popen) -> bool:
    """Whether the process holds the lease; in a bucket, whether there is a lease."""
    if lake.url.startswith("s3:"):
        return any("lease" in entry["Key"] for entry in lake.bucket.keys(lake.prefix))
    with open("/proc/locks", encoding="ascii") as locks:
        return any(line.split()[4] == str(process.pid) for line in locks)


def start_paused_with_lease(lake: Lake) -> subprocess.Popen:
    """Starts a run, waits until it holds the lease, and pauses it with SIGSTOP, so that it keeps the lease."""
    process = lake.start("resample", "--json")
    until = time.monotonic() + 30
    while not holds_lease(lake, process):
        assert process.poll() is None, f"the run ended before the test saw that it held the lease: {process.communicate()}"
        assert time.monotonic() < until, "the run did not take a lease in 30 s"
        time.sleep(0.001)
    time.sleep(0.02)  # until it has written its process id into the lease
    process.send_signal(signal.SIGSTOP)
    return process


def test_second_run_is_refused_while_lease_is_held(lake: Lake) -> None:
    model = model_with_pending_changes(lake)
    # Enough readings that the run still runs when the test sees that it holds the lease.
    model.apply(Put(5, FileSpec(seed=5, rows=120_000, days=3, pace="sparse", order="shuffled")))
    began = time.monotonic()
    first = start_paused_with_lease(lake)
    try:
        before = lake.snapshot()
        second = lake.resample().expect(REFUSED)
        message = second.err + second.text
        assert re.search(rf"\b{first.pid}\b", message), f"the error does not name the holder, {first.pid}\n{second}"
        assert re.search(r"since|ago", message), f"the error has neither 'since' nor 'ago'\n{second}"
        assert re.search(r"\d{4}-\d{2}-\d{2}|\d{1,2}:\d{2}|\d+ ?s", message), f"the error names no time\n{second}"
        assert lake.snapshot() == before, "the refused run wrote something"
        # Reading needs no lease.
        assert_consistent(read_state(lake), [model.expected], "during a run")
        lake.run("status", "--json").expect(OK)
    finally:
        first.send_signal(signal.SIGCONT)
    finish(first, began).expect(OK)
    model.expected = model.reference()
    harness.assert_expected(lake, model.expected)
    model.check_nothing_to_do()


def test_simultaneous_runs_publish_once(new_lake: Callable[[], Lake]) -> None:
    """One of several runs that start together publishes; the others are refused or find nothing to do."""
    for _ in range(3):
        lake = new_lake()
        model = model_with_pending_changes(lake)
        began = time.monotonic()
        processes = [lake.start("resample", "--json") for _ in range(3)]
        done = [finish(process, began) for process in processes]
        assert {one.code for one in done} <= {OK, REFUSED}, "\n".join(map(str, done))
        outcomes = [one.json["outcome"] for one in done if one.code == OK]
        assert outcomes.count("published") == 1, "\n".join(map(str, done))
        model.expected = model.reference()
        harness.assert_expected(lake, model.expected)
        model.check_nothing_to_do()


def test_lease_of_dead_holder_is_free(lake: Lake) -> None:
    model = model_with_pending_changes(lake)
    lake.resample(settings={"PLANTLAKE_FAILPOINT": "lease-taken"}).expect(KILLED)
    if lake.url.startswith("s3:"):  # the lease must expire first
        lake.resample().expect(REFUSED)
        recover(model, "at lease-taken")
    else:
        model.run(Run())


def test_ctrl_c_ends_run_in_consistent_state(lake: Lake) -> None:
    model = model_with_pending_changes(lake)
    model.apply(Put(5, FileSpec(seed=5, rows=120_000, days=3, pace="sparse", order="shuffled")))
    process = start_paused_with_lease(lake)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGINT)
    ended = finish(process, time.monotonic())
    assert ended.code in (OK, 130), str(ended)
    assert_consistent(read_state(lake), [model.expected, model.reference()], "after Ctrl-C")
    recover(model, "by Ctrl-C")


def test_file_removed_during_run_is_handled(lake: Lake) -> None:
    """If raw changes between listing and reading, the run may fail or continue, and the next run produces the right tables."""
    model = model_with_pending_changes(lake)
    model.apply(Put(5, FileSpec(seed=5, rows=120_000, days=3, pace="sparse", order="shuffled")))
    old = model.expected
    process = start_paused_with_lease(lake)
    model.apply(Remove(0))
    model.apply(Put(3, FileSpec(seed=33, rows=50, day=2), 3))
    process.send_signal(signal.SIGCONT)
    first = finish(process, time.monotonic())
    assert first.code in (OK, harness.FAILURE, LEFT_OUT), str(first)
    assert read_state(lake).disagreements == {"data_h": 0, "data_d": 0}, f"{read_state(lake)}, before {old.tables}"
    second = lake.resample().expect(OK)
    third = lake.resample().expect(OK)
    model.expected = model.reference()
    try:
        harness.assert_expected(lake, model.expected)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{first}\n{second}\n{third}") from None


def test_published_files_stay_readable_after_later_runs(lake: Lake) -> None:
    """A reader that opened a publication can finish, even if two runs replaced every file meanwhile."""
    model = model_with_pending_changes(lake)
    table = lake.delta("data_min")
    assert table is not None
    paths = [file.path for file in lake.data_files("data_min")]
    model.run(Run())
    model.apply(Put(0, FileSpec(seed=70, rows=200, days=3, assets=(0, 1)), 3))
    model.run(Run())
    rows = sum(len(pq.read_table(io.BytesIO(lake.read(f"data_min/{path}")), partitioning=None)) for path in paths)
    assert rows == sum(table.get_add_actions(flatten=True)["num_records"].to_pylist()), "files of an old version changed"
