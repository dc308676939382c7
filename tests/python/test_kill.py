"""If the job is killed at any point, readers see either the old or the new state, and the next run produces the right
tables."""

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
from reference import RESOLUTIONS, Expected
from stories import Life, Put, Remove, Run
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
SEEN_ONLY_AFTER = ("after-publish", "after-cleanup")
# A lease in a bucket outlives its holder by a minute unless it is renewed; a file lock does not.
LEASE_SECONDS = 90

# The disagreements between the tables and their contents, in one statement, because one statement sees one publication.
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
    f""" UNION ALL SELECT '{name} holds' AS what, count(*) AS n_rows, sum("count") + sum("value") AS total FROM {name}"""
    for name in RESOLUTIONS
)


@dataclass(frozen=True)
class Sight:
    """The contents of the three tables at one point in time."""

    disagreements: dict[str, int]
    rows: tuple[int, ...]
    readings: tuple[float, ...]

    def is_of(self, expected: Expected) -> bool:
        rows = tuple(len(expected.tables[name]) for name in RESOLUTIONS)
        if self.rows != rows:
            return False
        for name, seen in zip(RESOLUTIONS, self.readings):
            table = expected.tables[name]
            due = float(table["count"].sum() + table["value"].sum())
            if abs(seen - due) > 1e-6 * max(1.0, abs(due)):
                return False
        return True


def look(lake: Lake) -> Sight:
    seen = lake.query(DISAGREEMENTS).set_index("what")
    tables = [f"{name} holds" for name in RESOLUTIONS]
    return Sight(
        {name: int(seen.loc[name, "n_rows"]) for name in ("data_h", "data_d")},
        tuple(int(seen.loc[name, "n_rows"]) for name in tables),
        tuple(0.0 if pd.isna(seen.loc[name, "total"]) else float(seen.loc[name, "total"]) for name in tables),
    )


def assert_consistent(sight: Sight, states: list[Expected], when: str) -> int:
    """Checks that the tables agree and match one of these states, and returns the index of the state."""
    assert sight.disagreements == {"data_h": 0, "data_d": 0}, f"{when}, the published tables disagree: {sight}"
    for number, state in enumerate(states):
        if sight.is_of(state):
            return number
    rows = [tuple(len(state.tables[name]) for name in RESOLUTIONS) for state in states]
    raise AssertionError(f"{when}, a reader saw {sight}; the states have {rows} rows")


@dataclass
class Readers:
    """Reads the published tables repeatedly in a thread until stopped."""

    lake: Lake
    states: list[Expected]
    seen: int = 0
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
                state = assert_consistent(look(self.lake), self.states, "while the job was running and being killed")
                assert state >= newest, f"a reader saw state {state} after {newest}: publications went back"
                newest = state
                self.seen += 1
        except BaseException as problem:  # noqa: BLE001  shown by the test
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


def recover(life: Life, when: str) -> None:
    """Checks that the next run produces exactly the expected tables, and that nothing is left to do afterwards."""
    finished = resample_after_kill(life.lake)
    life.settled = life.reference()
    try:
        harness.is_expected(life.lake, life.settled)
    except AssertionError as error:
        raise AssertionError(f"after a kill {when} and another run: {error}\n{finished}") from None
    assert_consistent(look(life.lake), [life.settled], f"after a kill {when} and another run")
    life.check_nothing_to_do()


def begin(lake: Lake) -> Life:
    """Returns a lake with a published state and pending changes of every kind: a new, a replaced and a removed file."""
    life = Life(lake)
    for step in [
        Put(0, FileSpec(rows=200, days=3, assets=(0, 1))),
        Put(1, FileSpec(seed=1, rows=200, day=3, days=2, assets=(1, 2))),
        Put(2, FileSpec(seed=2, rows=80, day=0, assets=(3,))),
        Run(),
    ]:
        life.live(step)
    for step in [
        Put(3, FileSpec(seed=3, rows=200, day=1, days=2, assets=(0, 3), repeats=True), 1),
        Put(1, FileSpec(seed=4, rows=200, day=4, assets=(1, 2)), 1),
        Remove(2),
    ]:
        life.live(step)
    return life


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_killed_at_a_step(lake: Lake, failpoint: str) -> None:
    life = begin(lake)
    old, new = life.settled, life.reference()
    assert_consistent(look(lake), [old], "before")

    killed = lake.resample(settings={"PLANTLAKE_FAILPOINT": failpoint})
    if killed.code in (OK, LEFT_OUT):
        pytest.fail(f"the run never came to {failpoint}; failpoints exist in debug builds only\n{killed}")
    killed.expect(KILLED)

    due = new if failpoint in SEEN_ONLY_AFTER else old
    assert_consistent(look(lake), [due], f"after a kill at {failpoint}")
    recover(life, f"at {failpoint}")

    twin, flags = lake.twin()
    twin.resample("--full", *flags).expect(OK)
    compare.all_same_bits(lake.tables(), twin.tables())


@pytest.mark.parametrize("failpoint", ["after-intent", "after-data-file", "after-commit-data_h", "before-publish"])
def test_raw_changes_again_after_the_kill(lake: Lake, failpoint: str) -> None:
    """The intent that the next run completes refers to files that were removed or changed since."""
    life = begin(lake)
    lake.resample(settings={"PLANTLAKE_FAILPOINT": failpoint}).expect(KILLED)
    for step in [
        Put(3, FileSpec(seed=9, rows=90, day=6, assets=(0,)), 2),
        Put(0, FileSpec(seed=10, rows=90, day=0, assets=(0,)), 2),
        Remove(1),
        Put(4, FileSpec(seed=11, rows=90, day=4, assets=(2,)), 2),
    ]:
        life.live(step)
    finished = resample_after_kill(lake)
    life.settled = life.reference()
    # The first run may only complete the intent; the second run processes all other changes.
    again = lake.resample().expect(OK, LEFT_OUT)
    try:
        harness.is_expected(lake, life.settled)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{finished}\n{again}") from None
    assert_consistent(look(lake), [life.settled], "at last")
    life.check_nothing_to_do()


@pytest.mark.parametrize("kills", [["before-data-file", "before-commit-data_min", "after-commit-data_d", "after-ledger"]])
def test_killed_again_and_again(lake: Lake, kills: list[str]) -> None:
    """Each run is killed a little later than the one before."""
    life = begin(lake)
    old = life.settled
    for failpoint in kills:
        until = time.monotonic() + LEASE_SECONDS
        while (killed := lake.resample(settings={"PLANTLAKE_FAILPOINT": failpoint})).code == REFUSED:
            assert time.monotonic() < until, str(killed)
            time.sleep(2)
        killed.expect(KILLED)
        assert_consistent(look(lake), [old], f"after a kill at {failpoint}")
    recover(life, f"at {', '.join(kills)}")


def test_killed_in_the_first_run_of_a_lake(lake: Lake) -> None:
    life = Life(lake)
    life.live(Put(0, FileSpec(rows=100, days=2)))
    lake.resample(settings={"PLANTLAKE_FAILPOINT": "after-commit-data_min"}).expect(KILLED)
    recover(life, "at after-commit-data_min of the first run")


@pytest.mark.parametrize("failpoint", ["after-intent", "before-commit-data_h", "before-publish"])
def test_killed_in_a_window(lake: Lake, failpoint: str) -> None:
    """Dates outside the window of the killed run stay due."""
    life = begin(lake)
    lake.resample(
        "--from", "2023-12-31", "--to", "2024-01-01", settings={"PLANTLAKE_FAILPOINT": failpoint}
    ).expect(KILLED)
    recover(life, f"at {failpoint} of a run with a window")


def test_killed_at_random_moments(lake: Lake, effort) -> None:
    dice = random.Random(int(os.environ.get("PLANTLAKE_TEST_SEED", "1")))
    life = Life(lake)
    for place in range(3):
        life.live(Put(place, FileSpec(seed=place, rows=4_000, days=20, pace="sparse", assets=(0, 1, 2, 3), order="shuffled")))
    life.run(Run())
    # The duration of a run with as much work as the runs that are killed.
    life.live(Put(3, FileSpec(seed=90, rows=4_000, days=20, pace="sparse", assets=(0, 1, 2, 3))))
    usual = life.run(Run()).seconds

    kills, seen = 0, 0
    moments = []
    for number in range(effort.kills):
        old = life.settled
        place = number % 4
        life.live(Put(place, FileSpec(seed=100 + number, rows=4_000, day=number % 5, days=20, pace="sparse",
                                      assets=(0, 1, 2, 3), order=dice.choice(["by_asset", "shuffled"]))))  # fmt: skip
        if number % 3 == 2:
            life.live(Remove((place + 1) % 4))
        new = life.reference()
        with Readers(lake, [old, new]) as readers:
            process = lake.start("resample", "--json")
            moment = dice.uniform(0, usual * 1.1)
            try:
                process.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.communicate()
            moments.append(round(moment, 3))
            assert_consistent(look(lake), [old, new], f"after a kill {moment:.3f} s into a run")
            # Readers continue while the next run recovers.
            recover(life, f"{moment:.3f} s into a run of {usual:.3f} s")
        seen += readers.seen
    print(f"{kills} of {effort.kills} runs were killed, at {moments} s of about {usual:.2f} s; readers looked {seen} times")
    assert kills >= effort.kills // 3, f"only {kills} of {effort.kills} runs lived long enough to be killed"
    assert seen >= effort.kills


def holds_lease(lake: Lake, process: subprocess.Popen) -> bool:
    if lake.url.startswith("s3:"):
        return any("lease" in entry["Key"] for entry in lake.bucket.keys(lake.prefix))
    with open("/proc/locks", encoding="ascii") as locks:
        return any(line.split()[4] == str(process.pid) for line in locks)


def stopped_with_the_lease(lake: Lake) -> subprocess.Popen:
    """Starts a run, waits until it holds the lease, and stops it with SIGSTOP, so that it keeps the lease."""
    process = lake.start("resample", "--json")
    until = time.monotonic() + 30
    while not holds_lease(lake, process):
        assert process.poll() is None, f"the run ended before it was seen to hold a lease: {process.communicate()}"
        assert time.monotonic() < until, "the run did not take a lease in 30 s"
        time.sleep(0.001)
    time.sleep(0.02)  # time to write its name into the lease
    process.send_signal(signal.SIGSTOP)
    return process


def test_a_second_run_is_refused(lake: Lake) -> None:
    life = begin(lake)
    # Enough work that the run is still active when the test sees that it has the lease.
    life.live(Put(5, FileSpec(seed=5, rows=120_000, days=3, pace="sparse", order="shuffled")))
    began = time.monotonic()
    first = stopped_with_the_lease(lake)
    try:
        before = lake.snapshot()
        second = lake.resample().expect(REFUSED)
        message = second.err + second.text
        assert re.search(rf"\b{first.pid}\b", message), f"the holder, {first.pid}, is not named\n{second}"
        assert re.search(r"since|ago", message), f"it does not say since when\n{second}"
        assert re.search(r"\d{4}-\d{2}-\d{2}|\d{1,2}:\d{2}|\d+ ?s", message), f"it names no time\n{second}"
        assert lake.snapshot() == before, "the refused run wrote something"
        # Reading needs no lease.
        assert_consistent(look(lake), [life.settled], "beside a run")
        lake.run("status", "--json").expect(OK)
    finally:
        first.send_signal(signal.SIGCONT)
    finish(first, began).expect(OK)
    life.settled = life.reference()
    harness.is_expected(lake, life.settled)
    life.check_nothing_to_do()


def test_two_runs_at_the_same_instant(new_lake: Callable[[], Lake]) -> None:
    """Several runs start together: one publishes, the others are refused or find nothing to do."""
    for _ in range(3):
        lake = new_lake()
        life = begin(lake)
        began = time.monotonic()
        both = [lake.start("resample", "--json") for _ in range(3)]
        done = [finish(process, began) for process in both]
        assert {one.code for one in done} <= {OK, REFUSED}, "\n".join(map(str, done))
        outcomes = [one.json["outcome"] for one in done if one.code == OK]
        assert outcomes.count("published") == 1, "\n".join(map(str, done))
        life.settled = life.reference()
        harness.is_expected(lake, life.settled)
        life.check_nothing_to_do()


def test_a_lease_is_free_at_once_when_its_holder_dies(lake: Lake) -> None:
    life = begin(lake)
    lake.resample(settings={"PLANTLAKE_FAILPOINT": "lease-taken"}).expect(KILLED)
    if lake.url.startswith("s3:"):  # the lease must expire first
        lake.resample().expect(REFUSED)
        recover(life, "at lease-taken")
    else:
        life.run(Run())


def test_ctrl_c_ends_in_order(lake: Lake) -> None:
    life = begin(lake)
    life.live(Put(5, FileSpec(seed=5, rows=120_000, days=3, pace="sparse", order="shuffled")))
    process = stopped_with_the_lease(lake)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGINT)
    ended = finish(process, time.monotonic())
    assert ended.code in (OK, 130), str(ended)
    assert_consistent(look(lake), [life.settled, life.reference()], "after Ctrl-C")
    recover(life, "by Ctrl-C")


def test_a_file_taken_away_under_the_run(lake: Lake) -> None:
    """Raw changes between listing and reading: the run may fail or continue, and the next run produces the right tables."""
    life = begin(lake)
    life.live(Put(5, FileSpec(seed=5, rows=120_000, days=3, pace="sparse", order="shuffled")))
    old = life.settled
    process = stopped_with_the_lease(lake)
    life.live(Remove(0))
    life.live(Put(3, FileSpec(seed=33, rows=50, day=2), 3))
    process.send_signal(signal.SIGCONT)
    first = finish(process, time.monotonic())
    assert first.code in (OK, harness.FAILURE, LEFT_OUT), str(first)
    assert look(lake).disagreements == {"data_h": 0, "data_d": 0}, f"{look(lake)}, before {old.tables}"
    second = lake.resample().expect(OK)
    third = lake.resample().expect(OK)
    life.settled = life.reference()
    try:
        harness.is_expected(lake, life.settled)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{first}\n{second}\n{third}") from None


def test_published_files_stay_readable(lake: Lake) -> None:
    """A reader that opened a publication can finish, even if two runs replaced every file meanwhile."""
    life = begin(lake)
    table = lake.delta("data_min")
    assert table is not None
    paths = [file.path for file in lake.data_files("data_min")]
    life.run(Run())
    life.live(Put(0, FileSpec(seed=70, rows=200, days=3, assets=(0, 1)), 3))
    life.run(Run())
    rows = sum(len(pq.read_table(io.BytesIO(lake.read(f"data_min/{path}")), partitioning=None)) for path in paths)
    assert rows == sum(table.get_add_actions(flatten=True)["num_records"].to_pylist()), "files of an old version changed"
