"""The mirror in a real Postgres equals the lake inside its windows after any history, any kill and any failure of the
server."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import compare
from conftest import LONG
from databases import Postgres, psql
from harness import KILLED, LEFT_OUT, OK, REFUSED, USAGE, Lake, finish
from mirrored import NOW, Mirror, MirrorContents, assert_failed, read_mirror
from prepared import prepared
from reference import RESOLUTIONS
from stories import LakeModel, Put, Remove, Run, Step, histories
from writers import ASSETS, FileSpec

pytestmark = pytest.mark.local_only

LATER = dt.date(2024, 3, 10)  # some dates of minutes have left the window
FAILPOINTS = [
    "mirror-locked", "mirror-begun", "mirror-after-assets", "mirror-in-copy", "mirror-after-copy", "mirror-after-copy:2",
    "mirror-after-delete", "mirror-after-insert", "mirror-after-insert:3", "mirror-after-table", "mirror-after-table:2",
    "mirror-before-commit", "mirror-after-commit", "mirror-after-prune-step", "mirror-before-tidy", "mirror-after-tidy",
]  # fmt: skip
AFTER_COMMIT = ("mirror-after-commit", "mirror-after-prune-step", "mirror-before-tidy", "mirror-after-tidy")
FIRST_RUN_FAILPOINTS = [
    "mirror-begun", "mirror-after-assets", "mirror-in-copy", "mirror-after-copy", "mirror-after-table:3", "mirror-before-commit",
    "mirror-after-commit",
]  # fmt: skip


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A separate server, for tests that crash or stop it."""
    server = Postgres()
    yield server
    server.stop()


@pytest.fixture
def new_mirror(postgres: Postgres, new_lake: Callable[[], Lake]) -> Callable[[], Mirror]:
    return lambda: Mirror(new_lake(), postgres.new_database("chemical"))


@pytest.fixture
def mirror(new_mirror: Callable[[], Mirror]) -> Mirror:
    return new_mirror()


def publish_first_state(mirror: Mirror) -> LakeModel:
    """Returns a lake with a published state. `change` adds changes of every kind."""
    model = LakeModel(mirror.lake)
    for step in [
        Put(0, FileSpec(rows=200, days=3, assets=(0, 1))),
        Put(1, FileSpec(seed=1, rows=200, day=3, days=2, assets=(1, 2))),
        Put(2, FileSpec(seed=2, rows=80, day=0, assets=(3,))),
        Put(4, FileSpec(seed=5, rows=60, day=5, days=2, assets=(3,))),
        Run(),
    ]:
        model.apply(step)
    return model


def change(mirror: Mirror, model: LakeModel) -> None:
    for step in [
        Put(3, FileSpec(seed=3, rows=200, day=1, days=2, assets=(0, 3), repeats=True), 1),
        Put(1, FileSpec(seed=4, rows=200, day=4, assets=(1, 2)), 1),
        Remove(2),
        Run(),
    ]:
        model.apply(step)
    mirror.now = LATER


def simulate(mirror: Mirror, days: int) -> None:
    """Simulates twenty assets with a reading per minute, from 1 January 2024."""
    # The simulator writes its own catalog.
    (mirror.lake.folder / "catalog" / "assets.json").unlink()
    simulated(mirror.lake, days)


@dataclass
class Simulated:
    lake: Lake


@prepared
def simulated(lake: Lake, days: int) -> Simulated:
    make = ["simulate", "--assets", "20", "--days", str(days), "--start", "2024-01-01", "--interval", "60s", "--shape", "clean"]
    lake.run(*make, "--json").expect(OK)
    lake.resample().expect(OK)
    return Simulated(lake)


# ------------------------------------------------------------------ random histories

# The current date and the window lengths: wider, narrower, and with nothing inside.
clocks = st.tuples(
    st.sampled_from([dt.date(2023, 12, 31), dt.date(2024, 1, 2), NOW, dt.date(2024, 6, 16), dt.date(2026, 1, 1)]),
    st.sampled_from([1, 3, 67, 400]),
    st.sampled_from([2, 100, 400]),
    st.sampled_from([1, 70, 30_000]),
    st.booleans(),
)


def test_mirror_after_random_history_equals_lake(postgres: Postgres, new_lake: Callable[[], Lake], effort) -> None:
    steps = 16 if LONG else 8
    checked = 0
    url = postgres.new_database("chemical")

    # Failures are not shrunk, because that takes longer than reading the original example.
    @settings(max_examples=effort.stories, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(story=histories(steps), clock_settings=st.lists(clocks, min_size=3, max_size=3))
    def history(story: list[Step], clock_settings: list[tuple]) -> None:
        nonlocal checked
        psql(url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        mirror = Mirror(new_lake(), url)
        model = LakeModel(mirror.lake)
        runs = 0
        for step in [*story, Run()]:
            model.apply(step)
            if not isinstance(step, Run) or step.dry:
                continue
            now, minutes, hours, days, full = clock_settings[runs % len(clock_settings)]
            runs += 1
            mirror.now = now
            mirror.windows = {"data_min": minutes, "data_h": hours, "data_d": days}
            report = mirror.mirror(*(["--full"] if full and runs % 2 else []))
            assert report["run"] == mirror.lake.published()["run"], report
            mirror.assert_equals_lake(f"at {now}, after run {runs} of {story}")
        mirror.check_nothing_to_do()
        checked += 1

    history()
    print(f"{checked} histories")


def test_mirror_writes_only_changed_rows(mirror: Mirror) -> None:
    """Unchanged rows are not rewritten, even if the files of their date were replaced."""
    model = publish_first_state(mirror)
    report = mirror.mirror()
    assert report["made_tables"]
    mirror.assert_equals_lake()
    before = pd.Series(mirror.psql("SELECT asset_id || ' ' || timestamp || ' ' || xmin FROM data_min").split("\n"))
    # One more file on an existing date.
    model.apply(Put(3, FileSpec(seed=3, rows=5, day=1, assets=(0,)), 1))
    model.apply(Run())
    report = mirror.mirror()
    minutes = next(table for table in report["tables"] if table["table"] == "data_min")
    assert minutes["dates"] == 1 and minutes["sent"] > minutes["inserted"] > 0, report
    assert minutes["inserted"] <= 5 and minutes["deleted"] <= 5
    after = pd.Series(mirror.psql("SELECT asset_id || ' ' || timestamp || ' ' || xmin FROM data_min").split("\n"))
    assert (~before.isin(after)).sum() == minutes["deleted"], "unchanged rows were rewritten"
    mirror.assert_equals_lake()
    mirror.check_nothing_to_do()
    # A full run: new files with the same rows.
    mirror.lake.resample("--full").expect(OK)
    report = mirror.mirror()
    assert report["outcome"] == "nothing_to_do", report
    assert sum(table["sent"] for table in report["tables"]) > 0
    mirror.assert_equals_lake()


def test_full_run_repairs_foreign_changes(mirror: Mirror) -> None:
    publish_first_state(mirror)
    mirror.mirror()
    mirror.psql("DELETE FROM data_h; UPDATE data_min SET value = value + 1 WHERE count > 1; UPDATE assets SET name = 'x'")
    mirror.psql("INSERT INTO data_d SELECT asset_id, '2300-01-01', 1, 1, 1, 1, 1, 1, NULL FROM data_d LIMIT 1")
    mirror.psql("INSERT INTO data_d SELECT asset_id, '1900-01-01', 1, 1, 1, 1, 1, 1, NULL FROM data_d LIMIT 1")
    report = mirror.mirror("--full")
    assert report["outcome"] == "mirrored" and report["tables"][2]["pruned"] == 1, report
    mirror.assert_equals_lake("after a full run")


def test_mirror_of_another_lake_replaces_rows(new_mirror: Callable[[], Mirror]) -> None:
    first, second = new_mirror(), new_mirror()
    publish_first_state(first)
    first.mirror()
    model = LakeModel(second.lake)
    model.apply(Put(0, FileSpec(seed=7, rows=300, days=4, assets=(1, 3))))
    model.apply(Run())
    second.url = first.url
    report = second.mirror()
    assert first.lake.url in report["notes"][0], report
    second.assert_equals_lake("after the run of another lake")
    assert first.mirror()["notes"]
    first.assert_equals_lake("after a run of the first lake again")


def test_mirror_of_unpublished_lake_changes_nothing(new_mirror: Callable[[], Mirror]) -> None:
    first, second = new_mirror(), new_mirror()
    second_report = second.mirror()
    assert second_report["outcome"] == "nothing_published" and not second_report["made_tables"]
    assert psql(second.url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"
    publish_first_state(first)
    first.mirror()
    second.url = first.url
    assert second.mirror()["outcome"] == "nothing_published"
    first.assert_equals_lake("after a run of an empty lake")


def test_mirror_shares_database_with_organisations(mirror: Mirror) -> None:
    settings = {"PLANTLAKE_ORGANISATION_URL": mirror.url}
    mirror.lake.run("migrate", settings=settings).expect(OK)
    publish_first_state(mirror)
    mirror.mirror(settings=settings)
    mirror.assert_equals_lake()
    mirror.lake.run("org", "create", "Acme", "--json", settings=settings).expect(OK)
    assert mirror.lake.run("migrate", "--json", settings=settings).expect(OK).json["made"] == []
    mirror.check_nothing_to_do()


# ------------------------------------------------------------------ windows

def test_rows_before_window_are_pruned_in_batches(mirror: Mirror) -> None:
    """201,600 minutes are deleted in three steps, each in a separate transaction."""
    mirror.now = dt.date(2024, 1, 9)
    mirror.windows["data_min"] = 9
    simulate(mirror, days=8)
    assert mirror.mirror()["tables"][0]["inserted"] == 20 * 8 * 1440
    mirror.now = dt.date(2024, 1, 17)
    killed = mirror.run(settings={"PLANTLAKE_FAILPOINT": "mirror-after-prune-step:2"})
    killed.expect(KILLED)
    assert mirror.psql("SELECT count(*) FROM data_min") == str(20 * 8 * 1440 - 200_000), "expected two batches of deletions"
    report = again_after_kill(mirror)
    # The window begins on 8 January.
    assert report["tables"][0]["pruned"] == 20 * 7 * 1440 - 200_000, report
    mirror.assert_equals_lake("after most rows left the window")
    # After the window grows, the pruned rows return.
    mirror.windows["data_min"] = 12
    mirror.mirror()
    mirror.assert_equals_lake("after the window grew")
    assert mirror.psql("SELECT count(*) FROM data_min") == str(20 * 4 * 1440)
    # They are pruned again, although an earlier run had pruned to a later date.
    mirror.windows["data_min"] = 11
    assert mirror.mirror()["tables"][0]["pruned"] == 20 * 1440
    mirror.assert_equals_lake("after the window shrank")
    # All rows leave the window.
    mirror.now = dt.date(2025, 1, 1)
    mirror.mirror()
    mirror.assert_equals_lake("a year later")
    assert mirror.psql("SELECT count(*) FROM data_min") == "0"


# ------------------------------------------------------------------ assets

def test_mirror_assets_follow_catalog(mirror: Mirror) -> None:
    one, two, three, four = (
        {"id": asset, "name": f"TT-{n}", "type": "temperature sensor", "location": f"Works / {n}"} for n, asset in enumerate(ASSETS)
    )
    specifications = {"unit": "°C", "range_low": -10.5, "other": {"nested": [1, None, "it's \"so\" \\ \\u0000"]}}
    idle = {"id": "12345678-1234-4234-8234-123456789012", "name": "idle", "type": "valve", "location": "", "specifications": {}}
    mirror.catalog([one | {"specifications": specifications}, two, idle])
    publish_first_state(mirror)
    report = mirror.mirror()
    assert report["assets"] == {
        "added": 3, "changed": 0, "removed": 0, "unknown": sorted([ASSETS[2], ASSETS[3]]), "catalog_problem": None,
    }  # fmt: skip
    mirror.assert_equals_lake()
    shown = mirror.lake.run("mirror", settings=mirror.settings).expect(OK)
    assert "2 assets with readings, but without an entry in the catalog" in shown.err and ASSETS[3] in shown.err, str(shown)
    # Two unknown assets are added, one is renamed, and two are removed: one with rows and one without.
    mirror.catalog([two | {"name": "TT-1 new"}, three, four])
    report = mirror.mirror()
    changed = {key: report["assets"][key] for key in ("added", "changed", "removed", "unknown")}
    # The two formerly unknown assets already had placeholders.
    assert changed == {"added": 0, "changed": 5, "removed": 1, "unknown": [ASSETS[0]]}, report
    mirror.assert_equals_lake()
    mirror.check_nothing_to_do()


def test_nul_characters_in_assets_are_replaced(mirror: Mirror) -> None:
    mirror.catalog([{"id": ASSETS[0], "name": "a\0b", "type": "t\0", "location": "\0", "specifications": {"x\0": ["y\0"]}}])
    publish_first_state(mirror)
    mirror.mirror()
    name = mirror.psql(f"SELECT name, type, location, specifications FROM assets WHERE id = '{ASSETS[0]}'")
    assert name == 'a�b|t�|�|{"x�": ["y�"]}'
    mirror.check_nothing_to_do()


def test_invalid_catalog_changes_no_asset(mirror: Mirror) -> None:
    mirror.catalog([{"id": ASSETS[0], "name": "TT", "type": "sensor", "location": ""}])
    model = publish_first_state(mirror)
    mirror.mirror()
    assets = read_mirror(mirror.url).assets
    file = mirror.lake.folder / "catalog" / "assets.json"
    good = file.read_text()
    file.write_text("[{}]")
    model.apply(Put(3, FileSpec(seed=3, rows=20, day=1, assets=(0,)), 1))
    model.apply(Run())
    report = mirror.run().expect(LEFT_OUT).json
    assert "field id: it is missing" in report["assets"]["catalog_problem"], report
    assert read_mirror(mirror.url).assets == assets
    mirror.assert_rows(mirror.expected_tables(), "with an invalid catalog")
    file.unlink()
    assert "assets.json" in mirror.run().expect(LEFT_OUT).json["assets"]["catalog_problem"]
    assert read_mirror(mirror.url).assets == assets
    file.write_text(good)
    mirror.mirror()
    mirror.assert_equals_lake()


def test_referenced_assets_stay_in_mirror(mirror: Mirror) -> None:
    other = "12345678-1234-4234-8234-123456789012"
    mirror.catalog([{"id": other, "name": "other", "type": "sensor", "location": ""}])
    publish_first_state(mirror)
    mirror.mirror()
    mirror.psql(f"CREATE TABLE orders (asset UUID REFERENCES assets); INSERT INTO orders VALUES ('{other}')")
    mirror.catalog([])
    assert other in mirror.mirror()["assets"]["unknown"]
    assert mirror.psql(f"SELECT type FROM assets WHERE id = '{other}'") == "unknown"


# ------------------------------------------------------------------ kills

def again_after_kill(mirror: Mirror) -> dict:
    """Runs the mirror again. Postgres needs some seconds to notice that a client has disconnected and to release its lock."""
    until = time.monotonic() + 30
    while (finished := mirror.run()).code == REFUSED:
        assert time.monotonic() < until, str(finished)
    return finished.expect(OK).json


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_mirror_killed_at_failpoint_has_old_or_new_state(mirror: Mirror, failpoint: str) -> None:
    model = publish_first_state(mirror)
    mirror.mirror()
    mirror.assert_equals_lake("before")
    old = mirror.expected_tables()
    change(mirror, model)
    killed = mirror.run(settings={"PLANTLAKE_FAILPOINT": failpoint})
    if killed.code == OK:
        pytest.fail(f"the run never came to {failpoint}; failpoints exist in debug builds only\n{killed}")
    killed.expect(KILLED)
    if failpoint in AFTER_COMMIT:
        mirror.assert_rows(mirror.expected_tables(), f"after a kill at {failpoint}", allow_old_rows=True)
    else:
        mirror.now = NOW
        mirror.assert_rows(old, f"after a kill at {failpoint}")
        mirror.now = LATER
    again_after_kill(mirror)
    mirror.assert_equals_lake(f"after a kill at {failpoint} and another run")
    mirror.check_nothing_to_do()


@pytest.mark.parametrize("failpoint", FIRST_RUN_FAILPOINTS)
def test_first_run_killed_leaves_no_partial_tables(mirror: Mirror, failpoint: str) -> None:
    publish_first_state(mirror)
    mirror.run(settings={"PLANTLAKE_FAILPOINT": failpoint}).expect(KILLED)
    tables = mirror.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    # The backend of the killed run may still hold the lock.
    assert tables == ("7" if failpoint == "mirror-after-commit" else "0"), "tables exist without all of their rows"
    again_after_kill(mirror)
    mirror.assert_equals_lake(f"after a kill at {failpoint} of the first run")
    mirror.check_nothing_to_do()


def test_mirror_killed_repeatedly_recovers(mirror: Mirror) -> None:
    model = publish_first_state(mirror)
    mirror.mirror()
    change(mirror, model)
    for failpoint in ["mirror-locked", "mirror-after-delete", "mirror-after-table:2", "mirror-before-commit", "mirror-after-commit",
                      "mirror-after-prune-step", "mirror-before-tidy"]:  # fmt: skip
        until = time.monotonic() + 30
        while (killed := mirror.run(settings={"PLANTLAKE_FAILPOINT": failpoint})).code == REFUSED:
            assert time.monotonic() < until, str(killed)
        killed.expect(KILLED)
    again_after_kill(mirror)
    mirror.assert_equals_lake("after many kills")


def test_mirror_killed_at_random_moments_recovers(mirror: Mirror, effort) -> None:
    rng = random.Random(int(os.environ.get("PLANTLAKE_TEST_SEED", "1")))
    model = LakeModel(mirror.lake)
    wide = FileSpec(rows=6_000, days=20, pace="sparse", assets=(0, 1, 2, 3), order="shuffled")
    for place in range(3):
        model.apply(Put(place, replace(wide, seed=place)))
    model.run(Run())
    mirror.now = dt.date(2024, 7, 1)
    mirror.windows["data_min"] = 300
    began = time.monotonic()
    mirror.mirror()
    usual = time.monotonic() - began
    mirror.assert_equals_lake("before any kill")
    kills, moments = 0, []
    for number in range(effort.kills):
        old = mirror.expected_tables()
        model.apply(Put(number % 4, replace(wide, seed=100 + number, day=number % 5, rows=2_000)))
        if number % 3 == 2:
            model.apply(Remove((number + 1) % 4))
        model.run(Run())
        new = mirror.expected_tables()
        process = mirror.start()
        moment = rng.uniform(0, usual * 1.2)
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        moments.append(round(moment, 3))
        seen = read_mirror(mirror.url)
        assert is_one_of(seen, [old, new]) is not None, f"after a kill {moment:.3f} s into a run: {seen.counts()}"
        again_after_kill(mirror)
        mirror.assert_equals_lake(f"after a kill {moment:.3f} s into a run of {usual:.3f} s, and another run")
    print(f"{kills} of {effort.kills} runs were killed, at {moments} s of about {usual:.2f} s")
    assert kills >= effort.kills // 3


def is_one_of(seen: MirrorContents, states: list[dict[str, pd.DataFrame]]) -> int | None:
    for number, state in enumerate(states):
        with contextlib.suppress(AssertionError):
            compare.all_same_bits(seen.tables, state)
            return number
    return None


# ------------------------------------------------------------------ readers, and concurrent runs

@pytest.mark.parametrize("point", ["mirror-after-assets", "mirror-in-copy", "mirror-after-delete:2", "mirror-before-commit"])
def test_readers_see_old_state_until_commit(mirror: Mirror, point: str) -> None:
    model = publish_first_state(mirror)
    mirror.mirror()
    old = read_mirror(mirror.url)
    change(mirror, model)
    run = mirror.stopped(point)
    try:
        during = read_mirror(mirror.url)
        compare.all_same_bits(during.tables, old.tables)
        assert during.assets == old.assets
        # The run does not block readers, or writers of other tables.
        assert mirror.psql("SET lock_timeout = '1s'; SELECT count(*) > 0 FROM data_min; CREATE TABLE another (id INT)") == "t"
    finally:
        run.finish().expect(OK)
    mirror.assert_equals_lake("after the run resumed")


def test_polling_readers_see_no_intermediate_state(mirror: Mirror) -> None:
    model = publish_first_state(mirror)
    mirror.mirror()
    states = [mirror.expected_tables()]
    problems: list[BaseException] = []
    seen = 0
    stop = threading.Event()

    def poll() -> None:
        nonlocal seen
        newest = 0
        try:
            while not stop.is_set():
                contents = read_mirror(mirror.url)
                state = is_one_of(contents, states)
                assert state is not None, f"a reader saw {contents.counts()} rows"
                assert state >= newest, f"a reader saw state {state} after {newest}"
                newest, seen = state, seen + 1
        except BaseException as problem:  # noqa: BLE001  shown by the test
            problems.append(problem)

    reader = threading.Thread(target=poll, daemon=True)
    for number in range(6):
        model.apply(Put(number % 3, FileSpec(seed=20 + number, rows=200, day=number % 4, days=2, assets=(0, 1, 2))))
        model.run(Run())
        states.append(mirror.expected_tables())
        if number == 0:
            reader.start()
        mirror.mirror()
    stop.set()
    reader.join()
    assert not problems, problems[0]
    assert seen > 6
    mirror.assert_equals_lake()


def test_second_mirror_run_is_refused(mirror: Mirror) -> None:
    model = publish_first_state(mirror)
    mirror.mirror()
    change(mirror, model)
    first = mirror.stopped("mirror-in-copy")
    try:
        second = mirror.run()
        message = assert_failed(second, "another run mirrors to", f"process {first.process.pid} on", "since 20", code=REFUSED)
        assert "(Postgres process " in message
        # Read-only commands are not refused.
        assert mirror.mirror("--dry-run")["outcome"] == "dry_run"
        mirror.lake.run("status", settings=mirror.settings).expect(OK)
    finally:
        first.finish().expect(OK)
    mirror.assert_equals_lake()


def test_three_concurrent_runs_mirror_once(mirror: Mirror) -> None:
    publish_first_state(mirror)
    began = time.monotonic()
    done = [finish(process, began) for process in [mirror.start() for _ in range(3)]]
    assert {one.code for one in done} <= {OK, REFUSED}, "\n".join(map(str, done))
    outcomes = [one.json["outcome"] for one in done if one.code == OK]
    assert outcomes.count("mirrored") == 1, "\n".join(map(str, done))
    mirror.assert_equals_lake()


# ------------------------------------------------------------------ server failures

def many_rows(mirror: Mirror) -> None:
    """Simulates enough rows that a run takes a while and exceeds the buffers of the connection."""
    mirror.now = dt.date(2024, 1, 8)
    mirror.windows["data_min"] = 10
    simulate(mirror, days=7)


def test_postgres_crash_during_copy_is_retried(own_postgres: Postgres, new_lake: Callable[[], Lake]) -> None:
    mirror = Mirror(new_lake(), own_postgres.new_database("chemical"))
    many_rows(mirror)
    run = mirror.stopped("mirror-in-copy:3", {"PLANTLAKE_MIRROR_RETRY_FOR": "60s"})
    crashed = own_postgres.crash()
    try:
        run.resume()
        time.sleep(2)
        crashed.start()
        finished = finish(run.process, run.began).expect(OK)
        assert finished.json["attempts"] > 1, str(finished)
        assert "retrying in" in finished.err, str(finished)
        mirror.assert_equals_lake("after a crash of the server")
        # Without `mirror.retry_for`, the run fails at once.
        crashed.stop()
        assert_failed(mirror.run(), "failed while connecting: check `mirror_url`, and that the server runs", "refused")
    finally:
        crashed.stop()


def test_unresponsive_postgres_is_retried_or_times_out(own_postgres: Postgres, new_lake: Callable[[], Lake]) -> None:
    mirror = Mirror(new_lake(), own_postgres.new_database("chemical"))
    many_rows(mirror)
    run = mirror.stopped("mirror-in-copy:3", {"PLANTLAKE_MIRROR_RETRY_FOR": "60s", "PLANTLAKE_MIRROR_TIMEOUT": "1s"})
    frozen = own_postgres.suspend()
    resume = threading.Timer(9, own_postgres.resume, [frozen])
    try:
        run.resume()
        resume.start()
        finished = finish(run.process, run.began).expect(OK)
        assert "did not answer within" in finished.err, str(finished)
        assert finished.json["attempts"] > 1
    finally:
        resume.join()
    mirror.assert_equals_lake("after Postgres was unresponsive")
    # Without retries, the run fails, and the old state stays.
    mirror.now = dt.date(2024, 1, 9)
    run = mirror.stopped("mirror-begun", {"PLANTLAKE_MIRROR_TIMEOUT": "1s"})
    frozen = own_postgres.suspend()
    try:
        assert_failed(run.finish(), "did not answer within 6 s", "mirror.timeout")
    finally:
        own_postgres.resume(frozen)
    again_after_kill(mirror)
    mirror.assert_equals_lake("after the last run")


def test_terminated_connection_is_retried(mirror: Mirror) -> None:
    many_rows(mirror)
    run = mirror.stopped("mirror-in-copy:3", {"PLANTLAKE_MIRROR_RETRY_FOR": "60s"})
    mirror.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'plantlake mirror%'")
    assert run.finish().expect(OK).json["attempts"] == 2
    mirror.assert_equals_lake()


def test_locked_table_times_out_or_is_retried(mirror: Mirror) -> None:
    """Postgres reports that the lock took too long. A run with retries succeeds once the lock is released."""
    model = publish_first_state(mirror)
    mirror.mirror()
    old = read_mirror(mirror.url)
    change(mirror, model)
    sql = "BEGIN; LOCK TABLE data_h IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(8); COMMIT"
    locker = subprocess.Popen(["psql", "-X", "-q", "-d", mirror.url, "-c", sql], stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        failed = mirror.run(settings={"PLANTLAKE_MIRROR_TIMEOUT": "1s"})
        assert_failed(failed, "took longer than `mirror.timeout`", "deleting rows")
        report = mirror.mirror(settings={"PLANTLAKE_MIRROR_TIMEOUT": "1s", "PLANTLAKE_MIRROR_RETRY_FOR": "60s"})
        assert report["attempts"] > 1
    finally:
        locker.wait()
    assert old.counts() != read_mirror(mirror.url).counts()
    mirror.assert_equals_lake()


@pytest.fixture
def small_disk(own_postgres: Postgres, tmp_path: Path) -> Iterator[str]:
    """A database on a disk of 24 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=777", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        for folder in place.parents:
            if folder.owner() == "root" and Path(tempfile.gettempdir()) in folder.parents:
                folder.chmod(0o755)
        subprocess.run(["chown", "postgres", str(place)], check=False)
        psql(own_postgres.url, f"CREATE TABLESPACE small LOCATION '{place}'")
        yield own_postgres.new_database("chemical", "TABLESPACE small")
    finally:
        own_postgres.stop()
        subprocess.run(["umount", "-l", str(place)], check=False)


def test_full_postgres_disk_fails_without_retry(small_disk: str, new_lake: Callable[[], Lake]) -> None:
    mirror = Mirror(new_lake(), small_disk)
    many_rows(mirror)
    began = time.monotonic()
    failed = mirror.run(settings={"PLANTLAKE_MIRROR_RETRY_FOR": "60s"})
    assert_failed(failed, "its disk is full. Free space there, or mirror less", "No space left on device")
    assert time.monotonic() - began < 20, "the run retried, which cannot help"
    assert mirror.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"
    # A smaller window fits.
    mirror.windows["data_min"] = 1
    again_after_kill(mirror)
    mirror.assert_equals_lake("after a run with a smaller window")
    old = mirror.expected_tables()
    mirror.windows["data_min"] = 10
    assert_failed(mirror.run(), "its disk is full")
    mirror.windows["data_min"] = 1
    mirror.assert_rows(old, "after the disk was full")
    mirror.assert_equals_lake("after the disk was full")


def test_unusable_server_or_user_is_reported(mirror: Mirror, postgres: Postgres) -> None:
    publish_first_state(mirror)
    user = f"mirror_reader_{os.getpid()}"
    mirror.psql(f"CREATE ROLE {user} LOGIN PASSWORD 'hush'; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    host = mirror.url.split("@")[1]
    for url, message in [
        (f"postgres://postgres:hush@{host}", "check user and password in `mirror_url`"),
        (f"postgres://{user}:hush@{host}", "the user lacks a permission"),
        (f"postgres://{user}:hush@{host}_not_there", "create the database first, with CREATE DATABASE"),
        ("postgres://postgres:hush@127.0.0.1:1/chemical", "check `mirror_url`, and that the server runs"),
        ("postgres://postgres:hush@no-such-host.invalid/chemical", "check `mirror_url`, and that the server runs"),
    ]:
        began = time.monotonic()
        failed = mirror.run(settings={"PLANTLAKE_MIRROR_URL": url})
        assert "hush" not in assert_failed(failed, message), str(failed)
        assert time.monotonic() - began < 20
    # A standby, or a database that was made read-only.
    name = mirror.url.rsplit("/", 1)[1]
    mirror.mirror()
    psql(postgres.url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert_failed(mirror.run(), "it is read-only, like a standby. Set `mirror_url` to the primary")
    unset = {key: "" for key in mirror.settings if key == "PLANTLAKE_MIRROR_URL"}
    assert_failed(mirror.run(settings=unset), "no mirror is configured; set `mirror_url`", code=USAGE)


def test_retries_end_after_retry_for(mirror: Mirror) -> None:
    publish_first_state(mirror)
    unreachable = {"PLANTLAKE_MIRROR_URL": "postgres://postgres:hush@127.0.0.1:1/chemical", "PLANTLAKE_MIRROR_RETRY_FOR": "4s"}
    began = time.monotonic()
    failed = mirror.run(settings=unreachable)
    texts = ["cannot update the mirror: ", " attempts failed within ", "the mirror is unchanged", "refused"]
    text = assert_failed(failed, *texts)
    assert 3.5 < time.monotonic() - began < 12 and text.count("retrying in") >= 3, text


# ------------------------------------------------------------------ existing tables of others

def test_original_schema_is_left_unchanged(mirror: Mirror) -> None:
    publish_first_state(mirror)
    original = """
        CREATE TABLE assets (id UUID PRIMARY KEY, name VARCHAR(255), type VARCHAR(100), location VARCHAR(255), specifications JSONB);
        INSERT INTO assets VALUES ('12345678-1234-4234-8234-123456789012', 'old');
    """ + "".join(
        f"""CREATE TABLE {name} (pk_id UUID PRIMARY KEY DEFAULT gen_random_uuid(), asset_id UUID REFERENCES assets(id),
                timestamp TIMESTAMP, value FLOAT);
            INSERT INTO {name} (asset_id, timestamp, value) SELECT id, now(), 1 FROM assets;"""
        for name in RESOLUTIONS
    )
    mirror.psql(original)
    before = subprocess.run(["pg_dump", "-d", mirror.url, "--restrict-key=x"], capture_output=True)
    failed = mirror.run(settings={"PLANTLAKE_MIRROR_RETRY_FOR": "60s"})
    assert_failed(failed, "the table data_min exists already and belongs to the original system (it has the column pk_id)",
          "ALTER TABLE data_min RENAME TO data_min_before", "nothing was changed")  # fmt: skip
    assert subprocess.run(["pg_dump", "-d", mirror.url, "--restrict-key=x"], capture_output=True).stdout == before.stdout
    # Follows the suggested fix.
    for name in [*RESOLUTIONS, "assets"]:
        assert_failed(mirror.run(), f"the table {name} exists already")
        mirror.psql(f"ALTER TABLE {name} RENAME TO {name}_before")
    mirror.mirror()
    mirror.assert_equals_lake()
    assert mirror.psql("SELECT name FROM assets_before") == "old"


def test_later_schema_is_refused(mirror: Mirror) -> None:
    publish_first_state(mirror)
    mirror.mirror()
    mirror.psql("INSERT INTO mirror_migrations SELECT 99, 'later', now(), true, '', 0")
    assert_failed(mirror.run(), "was migrated by a later version of plantlake (it has migration 99)")


def test_user_without_create_permission_can_mirror(mirror: Mirror) -> None:
    model = publish_first_state(mirror)
    mirror.mirror()
    change(mirror, model)
    user = f"mirror_writer_{os.getpid()}"
    mirror.psql(f"CREATE ROLE {user} LOGIN PASSWORD 'hush'; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    mirror.psql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}")
    mirror.mirror(settings={"PLANTLAKE_MIRROR_URL": f"postgres://{user}:hush@{mirror.url.split('@')[1]}"})
    mirror.assert_equals_lake()


# ------------------------------------------------------------------ output

def test_status_and_dry_run_report_pending_work(mirror: Mirror) -> None:
    def status(**more: str) -> dict:
        return mirror.lake.run("status", "--json", settings=mirror.settings | more).expect(OK).json["mirror"]

    model = publish_first_state(mirror)
    assert mirror.lake.run("status", "--json").expect(OK).json["mirror"] is None
    assert status()["run"] is None and not status()["is_up_to_date"]
    dry = mirror.mirror("--dry-run")
    assert dry["outcome"] == "dry_run" and not dry["made_tables"]
    assert mirror.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0", "a dry run created tables"
    done = mirror.mirror()
    assert [table["dates"] for table in dry["tables"]] == [table["dates"] for table in done["tables"]]
    assert [table["sent"] for table in dry["tables"]] >= [table["sent"] for table in done["tables"]]
    assert done["run"] == 1 and done["mirror"].endswith(mirror.url.split("@")[1]) and "******" in done["mirror"]
    assert status()["run"] == 1 and status()["is_up_to_date"]
    change(mirror, model)
    shown = mirror.lake.run("status", settings=mirror.settings).expect(OK).text
    assert "run 1, mirrored at" in shown and "the lake has published run 2 since" in shown, shown
    before = read_mirror(mirror.url)
    dry = mirror.mirror("--dry-run")
    assert sum(table["dates"] for table in dry["tables"]) > 0
    compare.all_same_bits(read_mirror(mirror.url).tables, before.tables)
    shown = mirror.lake.run("mirror", settings=mirror.settings).expect(OK).text
    assert "Run 2 mirrored to" in shown and "data_min" in shown, shown
    shown = mirror.lake.run("mirror", settings=mirror.settings).expect(OK).text
    assert "Up to date" in shown and "has run 2" in shown, shown
    failed = status(PLANTLAKE_MIRROR_URL="postgres://postgres:hush@127.0.0.1:1/chemical")
    assert "refused" in failed["problem"] and not failed["is_up_to_date"]


def test_mirror_of_many_rows_stays_below_512_mib(mirror: Mirror) -> None:
    many_rows(mirror)
    process = mirror.start()
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, int(status.split("VmHWM:")[1].split()[0]))
        time.sleep(0.02)
    finish(process, time.monotonic()).expect(OK)
    print(f"{peak / 1024:.0f} MiB")
    assert 0 < peak < 512 << 10
    mirror.check_nothing_to_do()
