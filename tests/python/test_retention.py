"""Retention: expired data is archived or deleted as configured, nothing else changes, and the archive can be restored."""

from __future__ import annotations

import datetime as dt
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import compare
from ageing import (
    FIRST_DATE, FIRST_MTIME, TABLE_OF, Expected, RetentionModel, all_rows, archived_tables, date_of, dates_in, filter_dates,
    model_with_old_files, policy, readings,
)  # fmt: skip
from conftest import LONG
from databases import Postgres
from harness import FAILURE, KILLED, LEFT_OUT, OK, REFUSED, USAGE, Lake, finish
from mirrored import Mirror
from reference import day_number
from server import Plant, any_of, text_field
from writers import ASSETS, parquet_bytes

# The failpoints of a maintenance or restore run before its publication.
BEFORE_PUBLICATION = [
    "lease-taken", "before-intent", "after-intent", "after-raw-copy", "after-raw-copy:3", "before-data-file", "after-data-file:4",
    "before-commit-archive", "after-commit-archive", "before-commit-archive:3", "after-commit-archive:3",
    "before-commit-data_min", "after-commit-data_min", "before-commit-data_h", "after-commit-data_h", "before-commit-data_d",
    "after-commit-data_d", "before-ledger", "after-ledger", "before-publish",
]  # fmt: skip
# The failpoints after the publication.
AFTER_PUBLICATION = [
    "after-publish", "after-swept-file", "after-checkpoint", "after-cleanup", "after-swept-raw", "after-swept-archive",
]  # fmt: skip

POLICIES = {
    "all_archived": {},
    "raw_deleted": {"RAW": "delete"},
    "minutes_deleted": {"MINUTE": "delete"},
    "raw_and_hours_deleted": {"RAW": "delete", "HOUR": "delete"},
}


@pytest.mark.local_only
@pytest.mark.parametrize("seed", range(4 if LONG else 1))
@pytest.mark.parametrize("policy_name", POLICIES if LONG else ["all_archived", "raw_and_hours_deleted"])
def test_retention_over_a_year_keeps_all_due_rows(new_lake: Callable[[], Lake], policy_name: str, seed: int) -> None:
    """Files arrive in time or late, are corrected and removed; maintenance expires old data, and some is restored from the
    archive."""
    model = RetentionModel(new_lake(), policy(POLICIES[policy_name]), seed=seed * 10 + list(POLICIES).index(policy_name))
    rng, lake = model.rng, model.lake
    restored, late = 0, 0
    # By this date, all of the first year has expired.
    while model.today < dt.date(2041, 4, 5):
        model.advance_days(rng.randint(4, 22) if LONG else rng.randint(25, 45))
        for _ in range(rng.randint(1, 4)):
            late += change_raw_files(model)
        code = LEFT_OUT if model.late_files else OK
        done = model.resample(*(["--full"] if rng.random() < 0.15 else [])).expect(code)
        named = {entry["path"] for entry in done.json["quarantined"]}
        assert model.late_files <= named, f"late files that are not reported: {model.late_files - named}\n{done}"
        planned = model.maintain("--dry-run").expect(OK).json
        before = lake.published()
        done = model.maintain().expect(OK)
        assert done.json["expired"] == planned["expired"], f"the dry run planned other work\n{done}"
        if done.json["run"] is None:
            assert lake.published() == before
        model.expire()
        model.check(f"after {done}")
        if rng.random() < 0.4:
            assert model.resample().expect(code).json["outcome"] == "nothing_to_do"
            assert model.maintain().expect(OK).json["run"] is None
        if rng.random() < 0.5:
            restored += restore_some_weeks(model)
            assert model.resample().expect(code).json["outcome"] == "nothing_to_do"
    assert late > 5 and restored > 0, f"too few events: {late} late files, {restored} restores"
    assert lake.run("archive", "list", "--json").expect(OK).json["sealed"]["count"] == len(model.sealed)
    # SQL returns the same as the deltalake package.
    for name, table in archived_tables(lake).items():
        if name in [TABLE_OF[what] for what in POLICIES[policy_name] if what != "RAW"]:
            assert table.empty, f"{name} is deleted, and {len(table)} rows are in the archive"
            continue
        answer = lake.query(f'SELECT count(*) AS n, sum("count") AS readings, sum("value") AS total FROM archive.{name}')
        assert answer["n"][0] == len(table) > 0 and answer["readings"][0] == table["count"].sum()
        assert np.isclose(answer["total"][0], table["value"].sum())


def change_raw_files(model: RetentionModel) -> int:
    """Adds late readings, corrects a file, or removes one. Returns the number of late files."""
    rng = model.rng
    known = [path for path in model.files if path not in model.late_files]
    kind = rng.random()
    if kind < 0.5 or not known:
        date = max(FIRST_DATE, model.today - dt.timedelta(days=rng.randint(1, 200)))
        model.put(f"late/{model.number}.parquet", [date])
        return 1
    path = rng.choice(known)
    if kind < 0.8:
        # The same path and dates; the old file is raw or archived.
        model.put(path, [date_of(day) for day in sorted(dates_in(model.files[path][0]))])
    elif path not in model.archived_on and model.processed.get(path) == model.files[path][1]:
        model.remove(path)
    return 0


def restore_some_weeks(model: RetentionModel) -> bool:
    """Restores some weeks of one kind from the archive. The next maintenance run archives them again."""
    rng = model.rng
    there = model.lake.run("archive", "list", "--json").expect(OK).json["archived"]
    if not there:
        return False
    entry = rng.choice(there)
    what, (first, last) = entry["what"], (dt.date.fromisoformat(entry["dates"][end]) for end in ("first", "last"))
    start = first + dt.timedelta(days=rng.randint(0, (last - first).days))
    end = start + dt.timedelta(days=rng.randint(0, 40))
    done = model.restore(what, "--from", str(start), "--to", str(end), "--hold", "0s").expect(OK)
    if what == "raw":
        wanted = set(range(day_number(start), day_number(end) + 1))
        back = [path for path in model.archived_on if dates_in(model.files[path][0]) & wanted]
        assert done.json["files"] == len(back), f"{back}\n{done}"
        for path in back:
            del model.archived_on[path]
    model.check(f"after {done}", restored=True)
    return done.json["outcome"] == "restored"


def steps(lake: Lake, points: list[str]) -> list[str]:
    """Returns all failpoints, or every sixth in a bucket, where each kill takes a minute."""
    return points[::6] if lake.url.startswith("s3:") else points


@pytest.mark.parametrize("raw_then", ["archive", "delete"])
def test_maintain_killed_at_failpoints_loses_no_rows(lake: Lake, raw_then: str) -> None:
    """After a kill at any step, no row is lost or duplicated, and the next run of either command continues."""
    model = model_with_old_files(lake, {"RAW": raw_then})
    # The first run creates the archive, and is killed there, too.
    points = ["archive-founded", *BEFORE_PUBLICATION]
    if raw_then == "delete":
        points = [point for point in points if "raw-copy" not in point]
    for at, point in enumerate(steps(lake, points)):
        before = all_rows(lake)
        model.maintain(settings={"PLANTLAKE_FAILPOINT": point}).expect(KILLED)
        compare.all_same_bits(all_rows(lake), before)
        if at % 4 == 1:
            # The resample job runs next, with changes on dates that expire and on others.
            model.put(f"late-{at}.parquet", [FIRST_DATE + dt.timedelta(days=at), model.today - dt.timedelta(days=2)], ASSETS[:2])
            model.resample().expect(OK)
            compare.all_same_as_reference(all_rows(lake), Expected(model.expected_rows()))
    model.maintain().expect(OK)
    model.expire()
    model.check("after kills before anything was published")
    for point in steps(lake, AFTER_PUBLICATION if raw_then == "archive" else AFTER_PUBLICATION[:-1]):
        model.advance_days(9, chance=1)
        model.put(f"{point}.parquet", [FIRST_DATE + dt.timedelta(days=1), model.today])
        model.resample().expect(OK, LEFT_OUT)
        if point == "after-swept-archive":
            model.restore("raw", "--to", str(FIRST_DATE), "--hold", "0s").expect(OK)
            del model.archived_on["000.parquet"]
        model.maintain(settings={"PLANTLAKE_FAILPOINT": point}).expect(KILLED)
        model.expire()
        compare.all_same_as_reference(all_rows(lake), Expected(model.expected_rows()))
    model.resample("--full").expect(OK, LEFT_OUT)
    model.maintain().expect(OK)
    model.expire()
    model.check("after all kills")
    assert model.maintain().expect(OK).json["run"] is None


@pytest.mark.parametrize("what", ["raw", "data_h", "data_min"])
def test_restore_killed_at_failpoints_changes_no_rows(lake: Lake, what: str) -> None:
    model = model_with_old_files(lake)
    model.maintain().expect(OK)
    model.expire()
    model.today += dt.timedelta(days=3)
    model.maintain().expect(OK)
    model.check("before")
    before = all_rows(lake)
    restore = [what, "--from", str(FIRST_DATE), "--to", str(FIRST_DATE + dt.timedelta(days=20))]
    unreached = ("after-raw-copy:3", "after-data-file:4") if what == "raw" else ("after-raw-copy", "after-raw-copy:3", "after-data-file:4")
    points = [point for point in BEFORE_PUBLICATION if point not in unreached and not (what == "raw" and "data-file" in point)]
    for point in steps(lake, points):
        model.restore(*restore, settings={"PLANTLAKE_FAILPOINT": point}).expect(KILLED)
        compare.all_same_bits(all_rows(lake), before)
    if what == "raw":
        # Files copied by a killed restore count as restored for the next run of any command.
        model.restore(*restore, settings={"PLANTLAKE_FAILPOINT": "after-raw-copy:3"}).expect(KILLED)
        done = model.resample().expect(OK).json
        assert done["dates"]["count"] == 0 and done["files"]["new"] == 4
        compare.all_same_bits(all_rows(lake), before)
    restore = [what, "--from", str(FIRST_DATE + dt.timedelta(days=21)), "--to", str(FIRST_DATE + dt.timedelta(days=36))]
    model.restore(*restore, settings={"PLANTLAKE_FAILPOINT": "after-publish"}).expect(KILLED)
    compare.all_same_bits(all_rows(lake), before)
    assert model.restore(*restore).expect(OK).json["outcome"] == "nothing_archived"
    assert model.resample().expect(OK).json["outcome"] == "nothing_to_do"
    # Restored data stays for a while, although it has expired, and expires again afterwards.
    model.maintain().expect(OK)
    if what == "raw":
        back = {"024.parquet", "030.parquet", "036.parquet"}
        assert back <= set(lake.mtimes())
        model.archived_on = {path: since for path, since in model.archived_on.items() if path not in back}
    else:
        assert filter_dates(lake.published_tables(), lambda _, day: day == day_number(FIRST_DATE) + 24)[what].size > 0
    model.today += dt.timedelta(days=31)
    model.maintain().expect(OK)
    model.expire()
    model.check("after it expired again")
    model.resample("--full").expect(OK)
    model.maintain().expect(OK)
    model.check("after a full run")


def test_restored_data_stays_until_hold_ends(lake: Lake) -> None:
    model = model_with_old_files(lake)
    done = model.maintain().expect(OK).json
    assert {entry["what"] for entry in done["expired"]} == {"data_min", "data_h", "raw"}
    assert all(entry["rows"] > 0 and entry["files"] > 0 and entry["bytes"] > 0 for entry in done["expired"])
    planned = model.restore("data_min", "--from", "2040-01-01", "--to", "2040-01-31", "--dry-run").expect(OK).json
    back = model.restore("data_min", "--from", "2040-01-01", "--to", "2040-01-31", "--hold", "10d").expect(OK).json
    assert back["outcome"] == "restored" and back["dates"]["count"] == 6 and back["rows"] > 0
    assert [planned[key] for key in ("dates", "files", "rows", "bytes")] == [back[key] for key in ("dates", "files", "rows", "bytes")]
    assert model.restore("raw", "--to", "2040-01-31", "--hold", "10d").expect(OK).json["files"] == 6
    assert len(lake.published_tables()["data_min"]) > 0
    assert model.maintain().expect(OK).json["run"] is None
    assert lake.resample().expect(OK).json["outcome"] == "nothing_to_do"
    held = lake.run("archive", "list", "--json", settings=model.clock()).expect(OK).json["held"]
    assert {entry["what"] for entry in held} == {"data_min", "raw"}
    later = model.maintain(settings=model.clock(more=11)).expect(OK).json
    assert {entry["what"] for entry in later["expired"]} >= {"data_min", "raw"}
    assert lake.run("archive", "list", "--json", settings=model.clock(more=11)).expect(OK).json["held"] == []


def test_restored_file_at_path_of_deleted_file_leaves_no_averages_of_it(lake: Lake) -> None:
    model = model_with_old_files(lake)
    model.maintain().expect(OK)
    model.today += dt.timedelta(days=3)
    model.maintain().expect(OK)
    # The path of an archived file is used again, for readings of today.
    path, today = "000.parquet", day_number(model.today)
    lake.put(path, parquet_bytes(readings(np.random.default_rng(5), [model.today], ASSETS[:1])), 2 * FIRST_MTIME)
    model.resample().expect(OK)
    rows_of_today = lambda: filter_dates(lake.published_tables(), lambda _, day: day == today)
    assert rows_of_today()["data_min"].size > 0
    # It is deleted, and the archived file returns before a run has noticed that.
    lake.remove(path)
    assert model.restore("raw", "--to", str(FIRST_DATE)).expect(OK).json["files"] == 1
    assert model.resample().expect(OK).json["dates"]["count"] == 1
    left = {name: len(table) for name, table in rows_of_today().items() if len(table)}
    # An hour or day partition contains other dates, but no row of this one.
    assert not {name for name in left if name in ("data_min", "data_d")}, left
    before = lake.published_tables()["data_d"]
    model.resample("--full").expect(OK)
    compare.all_same_bits({"data_d": lake.published_tables()["data_d"]}, {"data_d": before})


def test_archive_commands_refuse_invalid_arguments(lake: Lake) -> None:
    for command in ("list", "restore data_d --to 2040-02-01"):
        done = lake.run("archive", *command.split(), "--json").expect(OK).json
        assert done["archived"] == [] if command == "list" else done["outcome"] == "nothing_archived"
    model = model_with_old_files(lake)
    model.maintain().expect(OK)
    before = lake.snapshot()
    wrong = {
        "data_min --from 2040-01-02 --to 2040-01-01": "2040-01-02",
        "data_min": "--from",
        "data_week --from 2040-01-01": "data_min",
        "raw --from yesterday": "yesterday",
        "raw --from 2040-01-01 --hold soon": "12h",
    }
    for args, hint in wrong.items():
        refused = lake.run("archive", "restore", *args.split()).expect(USAGE)
        assert hint in refused.err, str(refused)
    lake.run("archive", "list", "--from", "2040-01-02", "--to", "2040-01-01").expect(USAGE)
    none = model.restore("data_h", "--to", "2020-01-01").expect(OK)
    assert none.json["outcome"] == "nothing_archived"
    shown = lake.run("archive", "restore", "data_h", "--to", "2020-01-01").expect(OK)
    assert "archive list" in shown.text
    assert lake.snapshot() == before
    for name, value in (("KEEP", "0d"), ("KEEP", "sometime"), ("THEN", "burn")):
        setting = f"PLANTLAKE_RETENTION_HOUR_{name}"
        refused = lake.run("maintain", settings={setting: value}).expect(USAGE)
        assert setting in refused.err, str(refused)


def test_commands_during_maintenance_are_refused(lake: Lake) -> None:
    model = model_with_old_files(lake)
    stop = {"PLANTLAKE_FAILPOINT_STOP": "after-commit-archive"}
    first = lake.start("maintain", "--json", settings=model.settings | model.clock() | stop)
    try:
        # The run has stopped itself.
        while Path(f"/proc/{first.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            assert first.poll() is None
        before = lake.published()
        for command in (["resample"], ["maintain"], ["archive", "restore", "raw", "--to", "2041-01-01"]):
            refused = lake.run(*command, settings=model.settings | model.clock()).expect(REFUSED)
            assert "maintain" in refused.err, str(refused)
        model.maintain("--dry-run").expect(OK)
        assert lake.published() == before
    finally:
        first.send_signal(signal.SIGCONT)
    finish(first, 0).expect(OK)
    model.expire()
    model.check("after the run resumed")


def test_raw_files_outside_averages_do_not_expire(lake: Lake) -> None:
    model = model_with_old_files(lake, {"RAW": "delete"})
    model.put("twin.parquet", [FIRST_DATE])
    model.resample().expect(OK)
    changed = readings(np.random.default_rng(1), [FIRST_DATE], [ASSETS[0]])
    lake.put("000.parquet", parquet_bytes(changed), FIRST_MTIME + 10**12)
    lake.put("new.parquet", parquet_bytes(changed), FIRST_MTIME + 10**12)
    damaged = parquet_bytes(changed)[:200]
    lake.put("damaged.parquet", damaged, FIRST_MTIME + 10**12)
    lake.resample("--from", "2040-02-01").expect(LEFT_OUT)
    done = model.maintain().expect(OK).json
    assert "raw" in {entry["what"] for entry in done["expired"]}
    model.maintain(settings=model.clock(more=2)).expect(OK)
    assert {"000.parquet", "twin.parquet", "new.parquet", "damaged.parquet"} <= set(lake.mtimes())
    assert "006.parquet" not in lake.mtimes()
    # Changed settings make the job read all files again. Until it has, no file expires.
    settings = {"PLANTLAKE_RESAMPLE_TIMEZONE": "Europe/Berlin"}
    done = model.maintain(settings=settings | model.clock(more=60)).expect(OK).json
    assert "raw" not in {entry["what"] for entry in done["expired"]} and done["notes"]


def test_dates_with_pending_files_are_not_sealed(lake: Lake) -> None:
    """Late files that arrive before the maintenance run are still used."""
    model = model_with_old_files(lake, {"RAW": "delete"})
    dates = [FIRST_DATE, FIRST_DATE + dt.timedelta(days=12), FIRST_DATE + dt.timedelta(days=13)]
    model.put("late.parquet", dates)
    model.put("006.parquet", [FIRST_DATE + dt.timedelta(days=6), FIRST_DATE + dt.timedelta(days=18)])
    model.remove("024.parquet")
    model.maintain().expect(OK)
    model.expire()
    model.maintain(settings=model.clock(more=2)).expect(OK)
    assert {"000.parquet", "006.parquet", "012.parquet", "018.parquet", "late.parquet"} <= set(lake.mtimes())
    sealed = lake.run("archive", "list", "--json").expect(OK).json["sealed"]
    assert sealed["first"] == "2040-01-31" and sealed["count"] == len(model.sealed)
    assert model.resample().expect(OK).json["quarantined"] == []
    model.maintain().expect(OK)
    model.expire()
    model.check("after all files were used")


def test_late_readings_of_sealed_date_are_left_out(lake: Lake) -> None:
    model = model_with_old_files(lake, {"RAW": "delete"})
    model.maintain().expect(OK)
    before = all_rows(lake)
    rng = np.random.default_rng(3)
    lake.put("late.parquet", parquet_bytes(readings(rng, [FIRST_DATE], [ASSETS[0]])), FIRST_MTIME + 10**12)
    partly = [FIRST_DATE + dt.timedelta(days=6), FIRST_DATE + dt.timedelta(days=7)]
    lake.put("partly.parquet", parquet_bytes(readings(rng, partly, [ASSETS[0]])), FIRST_MTIME + 10**12)
    done = lake.resample().expect(LEFT_OUT)
    reasons = {entry["path"]: entry["reason"] for entry in done.json["quarantined"]}
    assert "sealed" in reasons["late.parquet"] and "2040-01-01" in reasons["late.parquet"]
    assert "2040-01-07" in reasons["partly.parquet"] and "2040-01-08" not in reasons["partly.parquet"]
    after = all_rows(lake)
    eighth = day_number(partly[1])
    compare.all_same_bits(filter_dates(after, lambda _, day: day != eighth), before)
    assert len(filter_dates(after, lambda _, day: day == eighth)["data_min"]) > 0
    lake.resample("--full").expect(LEFT_OUT)
    model.maintain().expect(OK)
    compare.all_same_bits(filter_dates(all_rows(lake), lambda _, day: day != eighth), before)
    assert "sealed" in lake.run("status", "--json").expect(OK).text


@pytest.mark.local_only
def test_damaged_archived_file_changes_no_averages(lake: Lake) -> None:
    model = model_with_old_files(lake)
    model.maintain().expect(OK)
    before = all_rows(lake)
    raw = lake.root / "archive" / "raw"
    [archived_file] = raw.glob("000.*.parquet")
    whole = archived_file.read_bytes()
    archived_file.write_bytes(whole[:-100] + bytes(100))
    # The damaged file is not restored.
    model.maintain(settings=model.clock(more=2)).expect(OK)
    left = model.restore("raw", "--to", "2040-01-01").expect(LEFT_OUT).json
    assert left["left_in_archive"] == [{"path": "000.parquet", "reason": "damaged"}] and "000.parquet" not in lake.mtimes()
    # The damaged file is not used for averages.
    late = readings(np.random.default_rng(3), [FIRST_DATE], [ASSETS[0]])
    lake.put("late.parquet", parquet_bytes(late), FIRST_MTIME + 10**12)
    # If all archived files are missing, the job fails.
    raw.rename(raw.with_name("elsewhere"))
    assert "mounted" in lake.resample().expect(FAILURE).err
    raw.with_name("elsewhere").rename(raw)
    compare.all_same_bits(all_rows(lake), before)
    # If one file is damaged, the job leaves it out.
    done = lake.resample().expect(LEFT_OUT)
    assert {entry["path"] for entry in done.json["quarantined"]} == {"late.parquet", f"archive/raw/{archived_file.name}"}
    compare.all_same_bits(all_rows(lake), before)
    assert lake.resample().expect(LEFT_OUT).json["outcome"] == "nothing_to_do"
    # Maintenance reports the damaged file once and then forgets it. Its dates stay sealed.
    assert archived_file.name in model.maintain().expect(OK).json["notes"][0]
    left = lake.resample("--full").expect(LEFT_OUT).json["quarantined"]
    assert [entry["path"] for entry in left] == ["late.parquet"]
    model.maintain().expect(OK)
    compare.all_same_bits(all_rows(lake), before)


@pytest.mark.local_only
def test_moved_or_unknown_archive_loses_no_data(lake: Lake) -> None:
    model = model_with_old_files(lake)
    model.maintain().expect(OK)
    model.expire()
    # Replaces the archive by a copy, as from a backup: the contents are the same, the inodes are not.
    archive = lake.root / "archive"
    shutil.copytree(archive, archive.with_name("copy"))
    shutil.rmtree(archive)
    archive.with_name("copy").rename(archive)
    model.put("late.parquet", [FIRST_DATE])
    model.resample().expect(OK)
    model.maintain(settings=model.clock()).expect(OK)
    model.expire()
    model.check("after the archive was moved")
    # If the archive cannot be read, queries of other tables still work.
    (archive / "data_h").rename(archive / "away")
    assert len(lake.query("SELECT * FROM data_h")) > 0
    assert "data_h" in lake.run("query", "SELECT * FROM archive.data_h").expect(FAILURE).err
    (archive / "away").rename(archive / "data_h")
    # A raw file is not deleted if it is the last copy.
    model.put("more.parquet", [FIRST_DATE])
    model.resample().expect(OK)
    model.maintain().expect(OK)
    [copy] = (archive / "raw").glob("more.*.parquet")
    copy.unlink()
    refused = model.maintain(settings=model.clock(more=2)).expect(FAILURE)
    assert "more.parquet" in refused.err and copy.name in refused.err and "more.parquet" in lake.mtimes()
    # The touched file has unchanged contents.
    (lake.raw / "more.parquet").touch()
    assert model.resample().expect(OK).json["dates"]["count"] == 0
    model.maintain().expect(OK)
    model.maintain(settings=model.clock(more=2)).expect(OK)
    compare.all_same_as_reference(all_rows(lake), Expected(model.expected_rows()))

    # The run log is lost and the tables are computed again. The existing archive stays unchanged.
    rows = archived_tables(lake)
    for name in ("runs", "published", "data_min", "data_h", "data_d"):
        shutil.rmtree(lake.root / name)
    shutil.copytree(archive, archive.with_name("before"))
    model.put("old.parquet", [FIRST_DATE])
    lake.resample().expect(OK)
    refused = model.maintain().expect(FAILURE)
    assert str(archive) in refused.err
    for name, table in rows.items():
        assert {path.name for path in (archive / name).rglob("*.parquet")} == {
            path.name for path in (archive.with_name("before") / name).rglob("*.parquet")
        }, f"{len(table)} rows"


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("retention")).build()
    plant.before = plant.lake.tables()["data_h"]
    plant.serve()
    yield plant
    plant.stop()


@pytest.mark.local_only
def test_archive_shows_callers_their_own_rows(plant: Plant) -> None:
    client = plant.client("Everything")
    everything = "SELECT * FROM data_h UNION ALL SELECT * FROM archive.data_h ORDER BY asset_id, timestamp"
    statement = any_of("CommandStatementQuery", text_field(1, everything))
    before, info = client.get(client.info(statement).endpoints[0].ticket), client.info(statement)
    assert before.num_rows == len(plant.before)
    done = plant.lake.run("maintain", "--json", settings={"PLANTLAKE_RETENTION_HOUR_KEEP": "1d"}).expect(OK).json
    assert [entry["what"] for entry in done["expired"]] == ["data_h"]
    # The server loads the new publication.
    until = time.monotonic() + 20
    while len(plant.ask(f"SELECT 1 FROM data_h -- {time.monotonic()}", "Everything")):
        assert time.monotonic() < until
        time.sleep(0.2)
    # The old ticket reads the old versions, the new statement the new ones. In both, each row is in one of the two tables.
    assert client.get(info.endpoints[0].ticket).equals(before)
    current = plant.lake.query(everything)
    assert len(current) == len(before)
    assert client.query(everything + " -- anew").num_rows == before.num_rows
    for tenant in ("North", "South", "Everything", "Nobody"):
        answer = plant.ask("SELECT asset_id, count(*) AS n FROM archive.data_h GROUP BY 1 ORDER BY 1 -- now", tenant)
        own = plant.before[plant.before["asset_id"].isin(plant.tenants[tenant].assets)]
        assert dict(zip(answer["asset_id"], answer["n"])) == own.groupby("asset_id").size().to_dict(), tenant
    assert plant.ask("SELECT count(*) AS n FROM data_h -- now", "Everything")["n"].tolist() == [0]


@pytest.mark.local_only
def test_mirror_keeps_hours_of_dates_without_minutes(new_lake: Callable[[], Lake], postgres: Postgres) -> None:
    """A late file adds minutes of an old date. The dates in between have no minutes and keep their hours."""
    model = model_with_old_files(new_lake(), {"MINUTE": "delete"})
    mirror = Mirror(model.lake, postgres.new_database("chemical"), now=model.today)
    mirror.windows = {"data_min": 400, "data_h": 400, "data_d": 30_000}
    mirror.mirror()
    mirror.assert_equals_lake()
    model.settings = policy({"MINUTE": "delete"}, {"HOUR": 0, "DAY": 0, "RAW": 0})
    model.maintain().expect(OK)
    mirror.mirror()
    mirror.assert_equals_lake()
    model.put("late.parquet", [FIRST_DATE], [ASSETS[0]])
    model.resample().expect(OK)
    mirror.mirror()
    mirror.assert_equals_lake("after minutes of an old date came back")
    model.maintain().expect(OK)
    mirror.mirror()
    mirror.assert_equals_lake()
    shown = mirror.lake.run("status", "--json", settings=mirror.settings).expect(OK).json["mirror"]
    assert shown["is_up_to_date"] and shown["run"] > shown["published_run"], "a run of maintenance computes no averages"
