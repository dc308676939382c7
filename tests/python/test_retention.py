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
from ageing import FIRST, FIRST_MTIME, TABLE_OF, Ageing, Expected, archived, date_of, dates_in, grown_old, on, policy, readings, seen
from conftest import LONG
from databases import Postgres
from harness import FAILURE, KILLED, LEFT_OUT, OK, REFUSED, USAGE, Lake, finish
from mirrored import Mirror
from reference import day_number
from server import Plant, any_of, text_field
from writers import ASSETS, parquet_bytes

# The failpoints of a maintenance or restore run before its publication.
UNSEEN = [
    "lease-taken", "before-intent", "after-intent", "after-raw-copy", "after-raw-copy:3", "before-data-file", "after-data-file:4",
    "before-commit-archive", "after-commit-archive", "before-commit-archive:3", "after-commit-archive:3",
    "before-commit-data_min", "after-commit-data_min", "before-commit-data_h", "after-commit-data_h", "before-commit-data_d",
    "after-commit-data_d", "before-ledger", "after-ledger", "before-publish",
]  # fmt: skip
# The failpoints after the publication.
SEEN = ["after-publish", "after-swept-file", "after-checkpoint", "after-cleanup", "after-swept-raw", "after-swept-archive"]

POLICIES = {
    "all_archived": {},
    "raw_deleted": {"RAW": "delete"},
    "minutes_deleted": {"MINUTE": "delete"},
    "raw_and_hours_deleted": {"RAW": "delete", "HOUR": "delete"},
}


@pytest.mark.local_only
@pytest.mark.parametrize("seed", range(4 if LONG else 1))
@pytest.mark.parametrize("then", POLICIES if LONG else ["all_archived", "raw_and_hours_deleted"])
def test_a_year_and_more(new_lake: Callable[[], Lake], then: str, seed: int) -> None:
    """Files arrive in time or late, are corrected and removed; maintenance expires old data, and some is restored from the
    archive."""
    ageing = Ageing(new_lake(), policy(POLICIES[then]), seed=seed * 10 + list(POLICIES).index(then))
    dice, lake = ageing.dice, ageing.lake
    restored, late = 0, 0
    # By this date, all of the first year has expired.
    while ageing.today < dt.date(2041, 4, 5):
        ageing.pass_days(dice.randint(4, 22) if LONG else dice.randint(25, 45))
        for _ in range(dice.randint(1, 4)):
            late += something_unusual(ageing)
        code = LEFT_OUT if ageing.late else OK
        done = ageing.resample(*(["--full"] if dice.random() < 0.15 else [])).expect(code)
        named = {entry["path"] for entry in done.json["quarantined"]}
        assert ageing.late <= named, f"late files that nobody is told of: {ageing.late - named}\n{done}"
        planned = ageing.maintain("--dry-run").expect(OK).json
        before = lake.published()
        done = ageing.maintain().expect(OK)
        assert done.json["expired"] == planned["expired"], f"the dry run said something else\n{done}"
        if done.json["run"] is None:
            assert lake.published() == before
        ageing.expire()
        ageing.check(f"after {done}")
        if dice.random() < 0.4:
            assert ageing.resample().expect(code).json["outcome"] == "nothing_to_do"
            assert ageing.maintain().expect(OK).json["run"] is None
        if dice.random() < 0.5:
            restored += something_comes_back(ageing)
            assert ageing.resample().expect(code).json["outcome"] == "nothing_to_do"
    assert late > 5 and restored > 0, f"a quiet life: {late} late files, {restored} times something came back"
    assert lake.run("archive", "list", "--json").expect(OK).json["sealed"]["count"] == len(ageing.sealed)
    # SQL returns the same as the deltalake package.
    for name, table in archived(lake).items():
        if name in [TABLE_OF[what] for what in POLICIES[then] if what != "RAW"]:
            assert table.empty, f"{name} is deleted, and {len(table)} rows are in the archive"
            continue
        asked = lake.query(f'SELECT count(*) AS n, sum("count") AS readings, sum("value") AS total FROM archive.{name}')
        assert asked["n"][0] == len(table) > 0 and asked["readings"][0] == table["count"].sum()
        assert np.isclose(asked["total"][0], table["value"].sum())


def something_unusual(ageing: Ageing) -> int:
    """Adds late readings, corrects a file, or removes one. Returns the number of late files."""
    dice = ageing.dice
    known = [path for path in ageing.files if path not in ageing.late]
    kind = dice.random()
    if kind < 0.5 or not known:
        date = max(FIRST, ageing.today - dt.timedelta(days=dice.randint(1, 200)))
        ageing.put(f"late/{ageing.number}.parquet", [date])
        return 1
    path = dice.choice(known)
    if kind < 0.8:
        # The same path and dates; the old file is raw or archived.
        ageing.put(path, [date_of(day) for day in sorted(dates_in(ageing.files[path][0]))])
    elif path not in ageing.shelved and ageing.taken.get(path) == ageing.files[path][1]:
        ageing.remove(path)
    return 0


def something_comes_back(ageing: Ageing) -> bool:
    """Restores some weeks of one kind from the archive. The next maintenance run archives them again."""
    dice = ageing.dice
    there = ageing.lake.run("archive", "list", "--json").expect(OK).json["archived"]
    if not there:
        return False
    entry = dice.choice(there)
    what, (first, last) = entry["what"], (dt.date.fromisoformat(entry["dates"][end]) for end in ("first", "last"))
    start = first + dt.timedelta(days=dice.randint(0, (last - first).days))
    end = start + dt.timedelta(days=dice.randint(0, 40))
    done = ageing.restore(what, "--from", str(start), "--to", str(end), "--hold", "0s").expect(OK)
    if what == "raw":
        wanted = set(range(day_number(start), day_number(end) + 1))
        back = [path for path in ageing.shelved if dates_in(ageing.files[path][0]) & wanted]
        assert done.json["files"] == len(back), f"{back}\n{done}"
        for path in back:
            del ageing.shelved[path]
    ageing.check(f"after {done}", came_back=True)
    return done.json["outcome"] == "restored"


def steps(lake: Lake, points: list[str]) -> list[str]:
    """Returns all failpoints, or every sixth in a bucket, where each kill takes a minute."""
    return points[::6] if lake.url.startswith("s3:") else points


@pytest.mark.parametrize("raw_then", ["archive", "delete"])
def test_killed_at_every_step(lake: Lake, raw_then: str) -> None:
    """After a kill at any step, no row is lost or duplicated, and the next run of either command continues."""
    ageing = grown_old(lake, {"RAW": raw_then})
    # The first run creates the archive, and is killed there, too.
    points = ["archive-founded", *UNSEEN]
    if raw_then == "delete":
        points = [point for point in points if "raw-copy" not in point]
    for at, point in enumerate(steps(lake, points)):
        before = seen(lake)
        ageing.maintain(settings={"PLANTLAKE_FAILPOINT": point}).expect(KILLED)
        compare.all_same_bits(seen(lake), before)
        if at % 4 == 1:
            # The resample job runs next, with changes on dates that expire and on others.
            ageing.put(f"late-{at}.parquet", [FIRST + dt.timedelta(days=at), ageing.today - dt.timedelta(days=2)], ASSETS[:2])
            ageing.resample().expect(OK)
            compare.all_same_as_reference(seen(lake), Expected(ageing.due()))
    ageing.maintain().expect(OK)
    ageing.expire()
    ageing.check("after kills before anything was published")
    for point in steps(lake, SEEN if raw_then == "archive" else SEEN[:-1]):
        ageing.pass_days(9, chance=1)
        ageing.put(f"{point}.parquet", [FIRST + dt.timedelta(days=1), ageing.today])
        ageing.resample().expect(OK, LEFT_OUT)
        if point == "after-swept-archive":
            ageing.restore("raw", "--to", str(FIRST), "--hold", "0s").expect(OK)
            del ageing.shelved["000.parquet"]
        ageing.maintain(settings={"PLANTLAKE_FAILPOINT": point}).expect(KILLED)
        ageing.expire()
        compare.all_same_as_reference(seen(lake), Expected(ageing.due()))
    ageing.resample("--full").expect(OK, LEFT_OUT)
    ageing.maintain().expect(OK)
    ageing.expire()
    ageing.check("after all kills")
    assert ageing.maintain().expect(OK).json["run"] is None


@pytest.mark.parametrize("what", ["raw", "data_h", "data_min"])
def test_killed_while_it_brings_something_back(lake: Lake, what: str) -> None:
    ageing = grown_old(lake)
    ageing.maintain().expect(OK)
    ageing.expire()
    ageing.today += dt.timedelta(days=3)
    ageing.maintain().expect(OK)
    ageing.check("before")
    before = seen(lake)
    restore = [what, "--from", str(FIRST), "--to", str(FIRST + dt.timedelta(days=20))]
    unreached = ("after-raw-copy:3", "after-data-file:4") if what == "raw" else ("after-raw-copy", "after-raw-copy:3", "after-data-file:4")
    points = [point for point in UNSEEN if point not in unreached and not (what == "raw" and "data-file" in point)]
    for point in steps(lake, points):
        ageing.restore(*restore, settings={"PLANTLAKE_FAILPOINT": point}).expect(KILLED)
        compare.all_same_bits(seen(lake), before)
    if what == "raw":
        # Files copied by a killed restore count as restored for the next run of any command.
        ageing.restore(*restore, settings={"PLANTLAKE_FAILPOINT": "after-raw-copy:3"}).expect(KILLED)
        done = ageing.resample().expect(OK).json
        assert done["dates"]["count"] == 0 and done["files"]["new"] == 4
        compare.all_same_bits(seen(lake), before)
    restore = [what, "--from", str(FIRST + dt.timedelta(days=21)), "--to", str(FIRST + dt.timedelta(days=36))]
    ageing.restore(*restore, settings={"PLANTLAKE_FAILPOINT": "after-publish"}).expect(KILLED)
    compare.all_same_bits(seen(lake), before)
    assert ageing.restore(*restore).expect(OK).json["outcome"] == "nothing_archived"
    assert ageing.resample().expect(OK).json["outcome"] == "nothing_to_do"
    # Restored data stays for a while, although it has expired, and expires again afterwards.
    ageing.maintain().expect(OK)
    if what == "raw":
        back = {"024.parquet", "030.parquet", "036.parquet"}
        assert back <= set(lake.mtimes())
        ageing.shelved = {path: since for path, since in ageing.shelved.items() if path not in back}
    else:
        assert on(lake.published_tables(), lambda _, day: day == day_number(FIRST) + 24)[what].size > 0
    ageing.today += dt.timedelta(days=31)
    ageing.maintain().expect(OK)
    ageing.expire()
    ageing.check("after it went again")
    ageing.resample("--full").expect(OK)
    ageing.maintain().expect(OK)
    ageing.check("after a full run")


def test_what_came_back_is_left_for_a_while(lake: Lake) -> None:
    ageing = grown_old(lake)
    done = ageing.maintain().expect(OK).json
    assert {entry["what"] for entry in done["expired"]} == {"data_min", "data_h", "raw"}
    assert all(entry["rows"] > 0 and entry["files"] > 0 and entry["bytes"] > 0 for entry in done["expired"])
    planned = ageing.restore("data_min", "--from", "2040-01-01", "--to", "2040-01-31", "--dry-run").expect(OK).json
    back = ageing.restore("data_min", "--from", "2040-01-01", "--to", "2040-01-31", "--hold", "10d").expect(OK).json
    assert back["outcome"] == "restored" and back["dates"]["count"] == 6 and back["rows"] > 0
    assert [planned[key] for key in ("dates", "files", "rows", "bytes")] == [back[key] for key in ("dates", "files", "rows", "bytes")]
    assert ageing.restore("raw", "--to", "2040-01-31", "--hold", "10d").expect(OK).json["files"] == 6
    assert len(lake.published_tables()["data_min"]) > 0
    assert ageing.maintain().expect(OK).json["run"] is None
    assert lake.resample().expect(OK).json["outcome"] == "nothing_to_do"
    held = lake.run("archive", "list", "--json", settings=ageing.clock()).expect(OK).json["held"]
    assert {entry["what"] for entry in held} == {"data_min", "raw"}
    later = ageing.maintain(settings=ageing.clock(more=11)).expect(OK).json
    assert {entry["what"] for entry in later["expired"]} >= {"data_min", "raw"}
    assert lake.run("archive", "list", "--json", settings=ageing.clock(more=11)).expect(OK).json["held"] == []


def test_asked_for_what_cannot_be(lake: Lake) -> None:
    for command in ("list", "restore data_d --to 2040-02-01"):
        done = lake.run("archive", *command.split(), "--json").expect(OK).json
        assert done["archived"] == [] if command == "list" else done["outcome"] == "nothing_archived"
    ageing = grown_old(lake)
    ageing.maintain().expect(OK)
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
    none = ageing.restore("data_h", "--to", "2020-01-01").expect(OK)
    assert none.json["outcome"] == "nothing_archived"
    told = lake.run("archive", "restore", "data_h", "--to", "2020-01-01").expect(OK)
    assert "archive list" in told.text
    assert lake.snapshot() == before
    for name, value in (("KEEP", "0d"), ("KEEP", "sometime"), ("THEN", "burn")):
        setting = f"PLANTLAKE_RETENTION_HOUR_{name}"
        refused = lake.run("maintain", settings={setting: value}).expect(USAGE)
        assert setting in refused.err, str(refused)


def test_one_at_a_time(lake: Lake) -> None:
    ageing = grown_old(lake)
    stop = {"PLANTLAKE_FAILPOINT_STOP": "after-commit-archive"}
    first = lake.start("maintain", "--json", settings=ageing.settings | ageing.clock() | stop)
    try:
        # The run has stopped itself.
        while Path(f"/proc/{first.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            assert first.poll() is None
        before = lake.published()
        for command in (["resample"], ["maintain"], ["archive", "restore", "raw", "--to", "2041-01-01"]):
            refused = lake.run(*command, settings=ageing.settings | ageing.clock()).expect(REFUSED)
            assert "maintain" in refused.err, str(refused)
        ageing.maintain("--dry-run").expect(OK)
        assert lake.published() == before
    finally:
        first.send_signal(signal.SIGCONT)
    finish(first, 0).expect(OK)
    ageing.expire()
    ageing.check("after it went on")


def test_raw_is_not_touched_before_it_is_in_the_averages(lake: Lake) -> None:
    ageing = grown_old(lake, {"RAW": "delete"})
    ageing.put("twin.parquet", [FIRST])
    ageing.resample().expect(OK)
    changed = readings(np.random.default_rng(1), [FIRST], [ASSETS[0]])
    lake.put("000.parquet", parquet_bytes(changed), FIRST_MTIME + 10**12)
    lake.put("new.parquet", parquet_bytes(changed), FIRST_MTIME + 10**12)
    damaged = parquet_bytes(changed)[:200]
    lake.put("damaged.parquet", damaged, FIRST_MTIME + 10**12)
    lake.resample("--from", "2040-02-01").expect(LEFT_OUT)
    done = ageing.maintain().expect(OK).json
    assert "raw" in {entry["what"] for entry in done["expired"]}
    ageing.maintain(settings=ageing.clock(more=2)).expect(OK)
    assert {"000.parquet", "twin.parquet", "new.parquet", "damaged.parquet"} <= set(lake.mtimes())
    assert "006.parquet" not in lake.mtimes()
    # Changed settings make the job read all files again. Until it has, no file expires.
    settings = {"PLANTLAKE_RESAMPLE_TIMEZONE": "Europe/Berlin"}
    done = ageing.maintain(settings=settings | ageing.clock(more=60)).expect(OK).json
    assert "raw" not in {entry["what"] for entry in done["expired"]} and done["notes"]


def test_no_date_is_sealed_that_something_waits_for(lake: Lake) -> None:
    """Late files that arrive before the maintenance run are still used."""
    ageing = grown_old(lake, {"RAW": "delete"})
    dates = [FIRST, FIRST + dt.timedelta(days=12), FIRST + dt.timedelta(days=13)]
    ageing.put("late.parquet", dates)
    ageing.put("006.parquet", [FIRST + dt.timedelta(days=6), FIRST + dt.timedelta(days=18)])
    ageing.remove("024.parquet")
    ageing.maintain().expect(OK)
    ageing.expire()
    ageing.maintain(settings=ageing.clock(more=2)).expect(OK)
    assert {"000.parquet", "006.parquet", "012.parquet", "018.parquet", "late.parquet"} <= set(lake.mtimes())
    sealed = lake.run("archive", "list", "--json").expect(OK).json["sealed"]
    assert sealed["first"] == "2040-01-31" and sealed["count"] == len(ageing.sealed)
    assert ageing.resample().expect(OK).json["quarantined"] == []
    ageing.maintain().expect(OK)
    ageing.expire()
    ageing.check("after all was taken up")


def test_late_readings_of_a_sealed_date(lake: Lake) -> None:
    ageing = grown_old(lake, {"RAW": "delete"})
    ageing.maintain().expect(OK)
    before = seen(lake)
    dice = np.random.default_rng(3)
    lake.put("late.parquet", parquet_bytes(readings(dice, [FIRST], [ASSETS[0]])), FIRST_MTIME + 10**12)
    partly = [FIRST + dt.timedelta(days=6), FIRST + dt.timedelta(days=7)]
    lake.put("partly.parquet", parquet_bytes(readings(dice, partly, [ASSETS[0]])), FIRST_MTIME + 10**12)
    done = lake.resample().expect(LEFT_OUT)
    reasons = {entry["path"]: entry["reason"] for entry in done.json["quarantined"]}
    assert "sealed" in reasons["late.parquet"] and "2040-01-01" in reasons["late.parquet"]
    assert "2040-01-07" in reasons["partly.parquet"] and "2040-01-08" not in reasons["partly.parquet"]
    after = seen(lake)
    eighth = day_number(partly[1])
    compare.all_same_bits(on(after, lambda _, day: day != eighth), before)
    assert len(on(after, lambda _, day: day == eighth)["data_min"]) > 0
    lake.resample("--full").expect(LEFT_OUT)
    ageing.maintain().expect(OK)
    compare.all_same_bits(on(seen(lake), lambda _, day: day != eighth), before)
    assert "sealed" in lake.run("status", "--json").expect(OK).text


@pytest.mark.local_only
def test_an_archived_file_that_is_damaged_costs_no_averages(lake: Lake) -> None:
    ageing = grown_old(lake)
    ageing.maintain().expect(OK)
    before = seen(lake)
    raw = lake.root / "archive" / "raw"
    [victim] = raw.glob("000.*.parquet")
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-100] + bytes(100))
    # The damaged file is not restored.
    ageing.maintain(settings=ageing.clock(more=2)).expect(OK)
    left = ageing.restore("raw", "--to", "2040-01-01").expect(LEFT_OUT).json
    assert left["left_in_archive"] == [{"path": "000.parquet", "reason": "damaged"}] and "000.parquet" not in lake.mtimes()
    # The damaged file is not used for averages.
    late = readings(np.random.default_rng(3), [FIRST], [ASSETS[0]])
    lake.put("late.parquet", parquet_bytes(late), FIRST_MTIME + 10**12)
    # If all archived files are missing, the job fails.
    raw.rename(raw.with_name("elsewhere"))
    assert "mounted" in lake.resample().expect(FAILURE).err
    raw.with_name("elsewhere").rename(raw)
    compare.all_same_bits(seen(lake), before)
    # If one file is damaged, the job leaves it out.
    done = lake.resample().expect(LEFT_OUT)
    assert {entry["path"] for entry in done.json["quarantined"]} == {"late.parquet", f"archive/raw/{victim.name}"}
    compare.all_same_bits(seen(lake), before)
    assert lake.resample().expect(LEFT_OUT).json["outcome"] == "nothing_to_do"
    # Maintenance reports the damaged file once and then forgets it. Its dates stay sealed.
    assert victim.name in ageing.maintain().expect(OK).json["notes"][0]
    left = lake.resample("--full").expect(LEFT_OUT).json["quarantined"]
    assert [entry["path"] for entry in left] == ["late.parquet"]
    ageing.maintain().expect(OK)
    compare.all_same_bits(seen(lake), before)


@pytest.mark.local_only
def test_the_archive_is_moved_or_unknown(lake: Lake) -> None:
    ageing = grown_old(lake)
    ageing.maintain().expect(OK)
    ageing.expire()
    # Replaces the archive by a copy, as from a backup: the contents are the same, the inodes are not.
    archive = lake.root / "archive"
    shutil.copytree(archive, archive.with_name("copy"))
    shutil.rmtree(archive)
    archive.with_name("copy").rename(archive)
    ageing.put("late.parquet", [FIRST])
    ageing.resample().expect(OK)
    ageing.maintain(settings=ageing.clock()).expect(OK)
    ageing.expire()
    ageing.check("after the archive was moved")
    # If the archive cannot be read, queries of other tables still work.
    (archive / "data_h").rename(archive / "away")
    assert len(lake.query("SELECT * FROM data_h")) > 0
    assert "data_h" in lake.run("query", "SELECT * FROM archive.data_h").expect(FAILURE).err
    (archive / "away").rename(archive / "data_h")
    # A raw file is not deleted if it is the last copy.
    ageing.put("more.parquet", [FIRST])
    ageing.resample().expect(OK)
    ageing.maintain().expect(OK)
    [copy] = (archive / "raw").glob("more.*.parquet")
    copy.unlink()
    refused = ageing.maintain(settings=ageing.clock(more=2)).expect(FAILURE)
    assert "more.parquet" in refused.err and copy.name in refused.err and "more.parquet" in lake.mtimes()
    # The touched file has unchanged contents.
    (lake.raw / "more.parquet").touch()
    assert ageing.resample().expect(OK).json["dates"]["count"] == 0
    ageing.maintain().expect(OK)
    ageing.maintain(settings=ageing.clock(more=2)).expect(OK)
    compare.all_same_as_reference(seen(lake), Expected(ageing.due()))

    # The run log is lost and the tables are computed again. The existing archive stays unchanged.
    rows = archived(lake)
    for name in ("runs", "published", "data_min", "data_h", "data_d"):
        shutil.rmtree(lake.root / name)
    shutil.copytree(archive, archive.with_name("before"))
    ageing.put("old.parquet", [FIRST])
    lake.resample().expect(OK)
    refused = ageing.maintain().expect(FAILURE)
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
def test_each_sees_its_own_of_the_archive(plant: Plant) -> None:
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
    anew = plant.lake.query(everything)
    assert len(anew) == len(before)
    assert client.query(everything + " -- anew").num_rows == before.num_rows
    for tenant in ("North", "South", "Everything", "Nobody"):
        asked = plant.ask("SELECT asset_id, count(*) AS n FROM archive.data_h GROUP BY 1 ORDER BY 1 -- now", tenant)
        own = plant.before[plant.before["asset_id"].isin(plant.tenants[tenant].assets)]
        assert dict(zip(asked["asset_id"], asked["n"])) == own.groupby("asset_id").size().to_dict(), tenant
    assert plant.ask("SELECT count(*) AS n FROM data_h -- now", "Everything")["n"].tolist() == [0]


@pytest.mark.local_only
def test_the_mirror_keeps_hours_of_dates_without_minutes(new_lake: Callable[[], Lake]) -> None:
    """A late file adds minutes of an old date. The dates in between have no minutes and keep their hours."""
    server = Postgres()
    try:
        ageing = grown_old(new_lake(), {"MINUTE": "delete"})
        mirror = Mirror(ageing.lake, server.new_database("chemical"), now=ageing.today)
        mirror.windows = {"data_min": 400, "data_h": 400, "data_d": 30_000}
        mirror.mirror()
        mirror.is_equal()
        ageing.settings = policy({"MINUTE": "delete"}, {"HOUR": 0, "DAY": 0, "RAW": 0})
        ageing.maintain().expect(OK)
        mirror.mirror()
        mirror.is_equal()
        ageing.put("late.parquet", [FIRST], [ASSETS[0]])
        ageing.resample().expect(OK)
        mirror.mirror()
        mirror.is_equal("after minutes of an old date came back")
        ageing.maintain().expect(OK)
        mirror.mirror()
        mirror.is_equal()
    finally:
        server.stop()
