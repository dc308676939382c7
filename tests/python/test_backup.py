"""Tests of backup and restore. Backups are restored into empty folders, and the result is compared with the original row by
row, without plantlake."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import harness
import ledger
from copies import database_rows
from databases import SCHEMA, Postgres, PostgresDatabase, SqliteDatabase
from harness import FAILURE, KILLED, LEFT_OUT, OK, REFUSED, USAGE, Finished, LocalLake, small_disk
from admin import PASSWORD, Installation
from server import Plant
from test_metering import MINUTES, POINT, CountingClient, database_of
from test_metering import ledger as ledger_rows

pytestmark = pytest.mark.local_only

MONTHS = ["2023-12", "2024-01", "2024-02"]
PARTS = ["catalog", "jobs", "keys", "runs", "journal", "database"]
BACKUP = "backup.tar.zst"
BACKUP_POINTS = [
    "backup-begun", "backup-after-part", "backup-after-part:4", "backup-in-database", "backup-in-database:9",
    "backup-before-place", "backup-after-place",
]  # fmt: skip
RESTORE_POINTS = [
    "restore-staged-file", "restore-staged-file:3", "restore-in-database", "restore-in-database:10", "restore-before-commit",
    "restore-after-commit", "restore-after-file", "restore-after-file:3", "restore-done",
]  # fmt: skip


# ---- a filled database


def fill_database(installation: Installation) -> dict[str, str]:
    """Inserts rows into every table, and returns a valid key and a valid token."""
    credentials = {}
    ids, users = {}, []
    for number, name in enumerate(["Acme, Chemicals", "bolt 'n' ünit"]):
        ids[name] = installation.json("org", "create", name, "--user-limit", "5")["id"]
        installation.json("org", "grant", name, "--location", "Works / Unit 1", "--type", "temperature sensor")
        create = ["user", "create", f"Ada@{number}.example", "--org", name, "--role", "admin"]
        user = installation.json(*create, stdin=f"{PASSWORD}\n")
        users.append(user["id"])
    installation.json("org", "limit", "bolt 'n' ünit", "--requests-per-second", "0.1", "--monthly-bytes-sent", "10GB")
    key = installation.json("key", "create", "--user", "ada@0.example", "--name", "line 3", "--expires", "3650d")
    revoked = installation.json("key", "create", "--user", "ada@0.example", "--name", "old")
    installation.json("key", "revoke", revoked["id"])
    credentials["key"] = key["key"]
    credentials["token"] = installation.json("token", "create", "ada@1.example", stdin=PASSWORD)["token"]
    installation.json("user", "create", "gone@1.example", "--org", "bolt 'n' ünit", "--role", "service")
    installation.json("user", "remove", "gone@1.example")
    insert = installation.database.insert
    installation.database.value("UPDATE organizations SET created_at = '2023-11-30T00:00:00.000000Z'")
    rows = ledger.records(1, ids["Acme, Chemicals"], users[:1], MONTHS)
    rows += ledger.records(2, ids["bolt 'n' ünit"], users[1:], MONTHS)
    # A backup splits large tables into parts; these rows need several parts.
    rows += ledger.records(3, ids["Acme, Chemicals"], users[:1], ["2024-03"], count=40)
    for row in rows[-40:]:
        row["sql_text"] = "SELECT 'ä😀' " + "-" * 150_000
    ledger.fill(installation.database, rows)
    for month in MONTHS[:2]:
        installation.json("usage", "close", month)
    now = ledger.instant(dt.datetime(2024, 3, 1, 2, 3, 4, 5))
    server = str(uuid.UUID(int=9))
    insert("unknown_callers", [{"minute": now, "client_address": "10.0.0.9", "server_id": server, "calls": 3}])
    insert("usage_demand", [{"server_id": server, "organization_id": ids["bolt 'n' ünit"], "seen_at": now,
                             "requests_per_second": 0.1 + 0.2, "running": 2}])  # fmt: skip
    insert("job_schedules", [{"job": "resample", "schedule": "*/5 * * * * UTC", "since": now}])
    run = {
        "job": "resample", "by_hand": False, "attempt": 1, "failures": 0, "holder": server, "beats": 7, "host": "plant7",
        "pid": 42, "started_at": now, "renewed_at": now, "rows": 12, "summary": '{"run": 1}', "error": None,
    }  # fmt: skip
    insert("job_runs", [
        run | {"id": str(uuid.UUID(int=1)), "scheduled_for": now, "status": "ok", "ended_at": now},
        run | {"id": str(uuid.UUID(int=2)), "scheduled_for": now.replace("03:04", "03:05"), "status": "running",
               "ended_at": None},
    ])  # fmt: skip
    tables = database_rows(installation.database)
    assert len(tables) == 17 and all(tables.values()), {table: len(rows) for table, rows in tables.items()}
    views = installation.folder / "catalog" / "views"
    views.mkdir()
    (views / "hot.sql").write_text("SELECT * FROM data_h WHERE value > 100")
    (installation.folder / "jobs").mkdir()
    (installation.folder / "jobs" / "nightly.toml").write_text('kind = "resample"\nschedule = "0 2 * * *"\n')
    return credentials


def database(kind: str, folder: Path, server: Postgres) -> SqliteDatabase | PostgresDatabase:
    """Returns the address of a new database of this kind."""
    if kind == "sqlite":
        return SqliteDatabase(f"sqlite:{folder / 'organisation.db'}")
    return PostgresDatabase(server.new_database())


def empty_installation(folder: Path, kind: str = "sqlite", server: Postgres | None = None) -> Installation:
    """Returns an installation with settings only, in an empty folder."""
    installation = Installation(folder, database(kind, folder, server))
    shutil.rmtree(folder / "catalog")
    return installation


@pytest.fixture(scope="module")
def filled_installation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Installation, dict[str, str]]:
    """An installation on SQLite with rows in every table, and its credentials. No test changes it."""
    folder = tmp_path_factory.mktemp("filled")
    installation = Installation(folder, SqliteDatabase(f"sqlite:{folder / 'organisation.db'}"))
    return installation, fill_database(installation)


@pytest.fixture(scope="module")
def filled_installations(
    filled_installation: tuple[Installation, dict[str, str]], postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Installation, dict[str, str]]]:
    """The same, and another one on Postgres, by the kind of their databases."""
    folder = tmp_path_factory.mktemp("filled")
    other = Installation(folder, database("postgres", folder, postgres))
    return {"sqlite": filled_installation, "postgres": (other, fill_database(other))}


@pytest.fixture(scope="module")
def backup(filled_installation: tuple[Installation, dict[str, str]]) -> Path:
    installation, _ = filled_installation
    installation.json("backup", "--to", BACKUP)
    return installation.folder / BACKUP


def files(folder: Path) -> dict[str, bytes]:
    """Returns the files of a folder, except databases, whose rows are compared separately."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "organisation.db" not in path.name and BACKUP not in path.name
    }


def listing(folder: Path) -> list[str]:
    """Returns the relative paths of everything in a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# ---- complete restores


@pytest.mark.parametrize("source", ["sqlite", "postgres"])
@pytest.mark.parametrize("target", ["sqlite", "postgres"])
def test_restore_into_empty_folder_restores_rows_files_and_credentials(
    tmp_path: Path,
    postgres: Postgres,
    filled_installations: dict[str, tuple[Installation, dict[str, str]]],
    source: str,
    target: str,
) -> None:
    old, credentials = filled_installations[source]
    before = database_rows(old.database)
    made = old.json("backup", "--to", str(tmp_path / BACKUP))
    assert made["parts"] == PARTS and made["database"] == {"kind": source, "schema": SCHEMA}
    assert made["rows"] == {table: len(rows) for table, rows in before.items()}
    assert database_rows(old.database) == before
    new = empty_installation(tmp_path / "new", target, postgres)
    (tmp_path / "new").chmod(0o755)
    restored = new.json("restore", "--from", str(tmp_path / BACKUP))["restored"]
    assert restored == dict.fromkeys(PARTS, "restored") | {"runs": "nothing", "journal": "nothing"}
    assert database_rows(new.database) == before
    assert files(new.folder) == files(old.folder)
    for path in new.keys_dir().iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # All credentials remain valid, with the same permissions.
    for secret in credentials.values():
        principal = old.json("token", "check", stdin=secret)
        assert new.json("token", "check", stdin=secret) | {"last_used_at": 0} == principal | {"last_used_at": 0}
    # Months are unchanged and verify.
    for command in (
        ["usage", "verify", "--month", "2024-01"],
        ["usage", "report", "--month", "2024-01"],
        ["usage", "invoice", "2024-01", "--org", "Acme, Chemicals"],
    ):
        assert new.json(*command) == old.json(*command)
    # New ids continue after the restored ones.
    last = max(row["id"] for row in before["audit_trail"])
    new.json("org", "create", "Later")
    assert int(new.database.value("SELECT max(id) FROM audit_trail")) > last
    assert new.json("usage", "close", "2024-02")


def test_backup_file_is_private_and_readable_by_standard_tools(
    filled_installation: tuple[Installation, dict[str, str]], backup: Path
) -> None:
    installation, credentials = filled_installation
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert listing(backup.parent).count(BACKUP) == 1 and not list(backup.parent.glob("*.partial-*"))
    with pa.input_stream(str(backup), compression="zstd") as stream:
        archive = tarfile.open(fileobj=io.BytesIO(stream.read()))
    members = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
    digests = json.loads(members.pop("digests.json"))
    assert digests == {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in members.items()
    }
    assert json.loads(members["plantlake-backup.json"])["format"] == 1
    assert members["catalog/views/hot.sql"] == (installation.folder / "catalog/views/hot.sql").read_bytes()
    parts = [name for name in members if name.startswith("database/api_usage_logs/")]
    assert len(parts) > 1, parts
    # The backup contains no secrets in plain text.
    contents = b"".join(members.values())
    for secret in credentials.values():
        assert secret.encode() not in contents and PASSWORD.encode() not in contents
    checked = installation.json("backup", "--check", BACKUP)
    assert checked["rows"] == {table: len(rows) for table, rows in database_rows(installation.database).items()}
    assert "complete and undamaged" in installation.ok("backup", "--check", BACKUP)


def test_backup_and_restore_with_only_use_named_parts(
    tmp_path: Path, filled_installation: tuple[Installation, dict[str, str]], backup: Path
) -> None:
    installation, _ = filled_installation
    new = empty_installation(tmp_path)
    restored = new.json("restore", "--from", str(backup), "--only", "catalog,keys")["restored"]
    assert restored == {"catalog": "restored", "keys": "restored"}
    assert not SqliteDatabase(new.database.url).path.exists() and not (tmp_path / "jobs").exists()
    # Existing equal parts are kept, and the missing parts are restored.
    rest = new.json("restore", "--from", str(backup))["restored"]
    assert (rest["catalog"], rest["keys"], rest["jobs"], rest["database"]) == ("was_there", "was_there", "restored", "restored")
    installation.json("backup", "--to", str(tmp_path / "keys.tar.zst"), "--only", "keys")
    says = "the backup has no part catalog; it has keys"
    new.fails("restore", "--from", "keys.tar.zst", "--only", "catalog", code=USAGE, error=says)
    new.fails("backup", "--check", "keys.tar.zst", "--only", "keys", code=USAGE)
    new.fails("backup", "--to", "x", "--only", "everything", code=USAGE, error="journal")


def test_backup_without_database_fails(tmp_path: Path) -> None:
    empty = empty_installation(tmp_path)
    empty.fails("backup", "--to", BACKUP, code=USAGE, error="cannot back up the organisation database")
    assert listing(tmp_path) == []
    empty.run("backup", "--to", BACKUP, "--only", "catalog,keys").expect(OK)


# ---- backups of a running server


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path / "plant").build()
    yield plant
    if plant.process is not None:
        plant.process.kill()


def restored_plant(plant: Plant, folder: Path, backup: Path) -> Plant:
    """Returns a new plant that has only the raw files and the restored backup."""
    new = Plant(folder)
    shutil.copytree(plant.lake.raw, new.lake.raw, dirs_exist_ok=True, copy_function=shutil.copy2)
    new.run("restore", "--from", str(backup)).expect(OK)
    new.tenants = plant.tenants
    return new


def test_backup_of_running_server_has_every_answered_request(plant: Plant, tmp_path: Path) -> None:
    assets, key = sorted(plant.tenants["Everything"].assets), plant.tenants["Everything"].key
    plant.serve()
    stop, clients = threading.Event(), []

    def send_queries(number: int) -> None:
        client = CountingClient(plant.uri, key)
        clients.append(client)
        try:
            while not stop.is_set():
                client.ask(POINT.format(assets[number]) if number % 4 else MINUTES.format(50_000))
        except flight.FlightError:
            assert stop.is_set()

    threads = [threading.Thread(target=send_queries, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    for number in range(4):
        time.sleep(1.5)
        # The server records a request before its client sees the end, so the backup must contain all of these.
        before = {each.request_id for client in clients for each in list(client.seen) if each.ended}
        backup = tmp_path / f"{number}.tar.zst"
        made = plant.run("backup", "--to", str(backup), "--json").expect(OK).json
        assert len(before) > 20
    stop.set()
    plant.process.kill()
    plant.process.wait()
    plant.process = None
    for thread in threads:
        thread.join(60)
    answers = plant.run("query", "SELECT * FROM data_d ORDER BY asset_id, timestamp", "--format", "csv").expect(OK).text
    runs = plant.run("status", "--json").expect(OK).json["runs"]
    journal = [contents for contents in made["contents"] if contents["part"] == "journal"]
    assert journal[0]["files"] > 1, "the backup has at most one journal file"

    new = restored_plant(plant, tmp_path / "new", backup)
    # The log of runs is restored; the published tables are not.
    assert [run["run"] for run in new.run("status", "--json").expect(OK).json["runs"]] == [run["run"] for run in runs]
    assert new.run("query", "SELECT count(*) AS n FROM data_d", "--format", "csv").expect(OK).text.split() == ["n", "0"]
    resampled = new.lake.resample().expect(OK, LEFT_OUT).json
    assert resampled["run"] == runs[0]["run"] + 1
    assert new.run("query", "SELECT * FROM data_d ORDER BY asset_id, timestamp", "--format", "csv").expect(OK).text == answers
    # When the journal is transferred to the ledger, no record is lost or duplicated.
    new.serve()
    assert len(new.ask(POINT.format(assets[1]), "Everything")) > 0
    organisation = database_of(new)
    until = time.monotonic() + 30
    while missing := before - ledger_rows(organisation).keys():
        assert time.monotonic() < until, f"{len(missing)} of {len(before)} requests were lost"
        time.sleep(0.2)
    # The journal of the killed server also has requests of other clients. If a server stops before it has transferred them,
    # the next server transfers them.
    logs = lambda: glob(str(new.lake.state / "journal" / "*" / "*.log"))  # noqa: E731
    while len({Path(log).parent for log in logs()}) > 1:
        assert time.monotonic() < until, "the journal of the killed server was not transferred"
        time.sleep(0.2)
    assert new.stop() == OK
    assert not logs()
    rows = ledger_rows(organisation)
    for client in clients:
        for each in client.seen:
            if each.request_id in before:
                assert (rows[each.request_id]["status"], int(rows[each.request_id]["rows"])) == ("OK", each.rows)
    sums = "SUM(rows), SUM(bytes_sent), SUM(bytes_scanned)"
    assert organisation.value(f"SELECT SUM(requests), {sums} FROM usage_totals") == organisation.value(
        f"SELECT COUNT(*), {sums} FROM api_usage_logs WHERE billable"
    )


def test_backup_after_server_kill_includes_its_journal(plant: Plant, tmp_path: Path) -> None:
    asset = min(plant.tenants["Everything"].assets)
    plant.serve()
    client = CountingClient(plant.uri, plant.tenants["Everything"].key)
    for _ in range(40):
        client.ask(POINT.format(asset))
    plant.process.kill()
    plant.process.wait()
    plant.process = None
    unrecorded = {each.request_id for each in client.seen} - ledger_rows(database_of(plant)).keys()
    assert unrecorded, "the ledger already had all requests"
    plant.run("backup", "--to", str(tmp_path / BACKUP)).expect(OK)
    # If the disk is full, the restore leaves no part of the journal or the run log.
    small = Plant(tmp_path / "small")
    before = listing(tmp_path / "small")
    full = small.lake.run("restore", "--from", str(tmp_path / BACKUP), **small_disk(100_000)).expect(FAILURE)
    assert listing(tmp_path / "small") == before, full
    new = restored_plant(plant, tmp_path / "new", tmp_path / BACKUP)
    for each in (plant, new):
        each.lake.resample().expect(OK, LEFT_OUT)
        each.serve()
        time.sleep(2)
        assert each.stop() == OK
    # The journal results in the same rows in both databases.
    where = "endpoint = 'DoGet/StatementQuery'"
    assert ledger_rows(database_of(new), where) == ledger_rows(database_of(plant), where)
    assert unrecorded <= ledger_rows(database_of(new)).keys()


def test_restore_beside_running_server_is_refused(plant: Plant, tmp_path: Path) -> None:
    plant.run("token", "keys", "rotate").expect(OK)  # creates the first key
    plant.run("backup", "--to", str(tmp_path / BACKUP)).expect(OK)
    plant.serve()
    refused = plant.run("restore", "--from", str(tmp_path / BACKUP)).expect(REFUSED)
    assert "a server is running on the state folder" in refused.err
    assert plant.stop() == OK
    # Existing parts equal the backup, except those that the server has changed since.
    again = plant.run("restore", "--from", str(tmp_path / BACKUP), "--only", "catalog,keys,runs", "--json").expect(OK).json
    assert again["restored"] == {"catalog": "was_there", "keys": "was_there", "runs": "left_alone"}


# ---- no overwriting


def test_restore_over_existing_data_is_refused_and_names_it(
    tmp_path: Path, filled_installation: tuple[Installation, dict[str, str]], backup: Path
) -> None:
    new = empty_installation(tmp_path)
    new.json("org", "create", "Somebody else")
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "assets.json").write_text("[]")
    (tmp_path / "catalog" / "graph.json").write_text("{}")
    rows_before, files_before = database_rows(new.database), files(tmp_path)
    error = new.fails("restore", "--from", str(backup), error="existing data would be overwritten; nothing was restored")
    for name in ("assets.json", "graph.json", "organisation.db", "--only jobs,keys,runs,journal"):
        assert name in error
    assert (database_rows(new.database), files(tmp_path)) == (rows_before, files_before)
    new.json("restore", "--from", str(backup), "--only", "jobs,keys")
    shutil.rmtree(tmp_path / "catalog")
    new.json("restore", "--from", str(backup), "--only", "catalog")
    new.fails("restore", "--from", str(backup), error="rows in the organisation database")
    assert database_rows(new.database) == rows_before


# ---- kills


@pytest.mark.parametrize("point", BACKUP_POINTS)
def test_killed_backup_leaves_old_or_new_file(
    tmp_path: Path, filled_installation: tuple[Installation, dict[str, str]], point: str
) -> None:
    installation, _ = filled_installation
    target = tmp_path / BACKUP
    installation.json("backup", "--to", str(target), "--only", "catalog")
    old = target.read_bytes()
    installation.run("backup", "--to", str(target), PLANTLAKE_FAILPOINT=point).expect(KILLED)
    found = installation.json("backup", "--check", str(target))
    if point == "backup-after-place":
        assert found["parts"] == PARTS and listing(tmp_path) == [BACKUP]
    else:
        assert target.read_bytes() == old and len(listing(tmp_path)) == 2
    # The next backup succeeds and removes the leftover files.
    installation.json("backup", "--to", str(target))
    assert installation.json("backup", "--check", str(target))["parts"] == PARTS
    assert listing(tmp_path) == [BACKUP]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("point", RESTORE_POINTS)
def test_killed_restore_is_completed_by_next_restore(
    tmp_path: Path, postgres: Postgres, filled_installation: tuple[Installation, dict[str, str]], backup: Path,
    point: str, kind: str,
) -> None:
    installation, _ = filled_installation
    new = empty_installation(tmp_path, kind, postgres)
    new.run("restore", "--from", str(backup), PLANTLAKE_FAILPOINT=point).expect(KILLED)
    is_committed = RESTORE_POINTS.index(point) >= RESTORE_POINTS.index("restore-after-commit")
    if is_committed:
        assert len(new.json("org", "list")) == 2
    else:
        # SQLite's file may not exist yet, and `org list` does not create it.
        listed = new.run("org", "list", "--json")
        assert listed.code == FAILURE and "does not exist" in listed.err or listed.expect(OK).json == [], str(listed)
    restored = new.json("restore", "--from", str(backup))["restored"]
    assert restored["database"] == ("was_there" if is_committed else "restored")
    assert database_rows(new.database) == database_rows(installation.database)
    assert files(tmp_path) == files(installation.folder)
    assert not [path for path in listing(tmp_path) if ".restore-" in path]


# ---- damaged backups and unusable paths


def modified_backup(backup: Path, target: Path, change) -> Path:  # noqa: ANN001
    """Returns a copy of a backup with changed members and matching digests."""
    with pa.input_stream(str(backup), compression="zstd") as stream:
        archive = tarfile.open(fileobj=io.BytesIO(stream.read()))
    members = [(member.name, archive.extractfile(member).read()) for member in archive.getmembers()][:-1]
    members = change(members)
    digests = {name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in members}
    members.append(("digests.json", json.dumps(digests).encode()))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with pa.output_stream(str(target), compression="zstd") as stream:
        stream.write(packed.getvalue())
    return target


def assert_check_and_restore_fail(new: Installation, backup: Path, says: str) -> None:
    """Checks that checking and restoring the backup fail with this error and write nothing."""
    before = listing(new.folder)
    for command in (["backup", "--check", str(backup)], ["restore", "--from", str(backup)]):
        new.fails(*command, error=says)
        assert listing(new.folder) == before


def test_restore_of_damaged_backup_writes_nothing(tmp_path: Path, backup: Path) -> None:
    new, original = empty_installation(tmp_path / "new"), backup.read_bytes()
    bad = tmp_path / "bad"
    for at in (0, 3, 4, 100, len(original) // 2, len(original) - 1):
        bad.write_bytes(original[:at])
        assert_check_and_restore_fail(new, bad, "is not a backup" if at < 4 else "damaged or truncated")
    for at in (len(original) // 3, len(original) // 2, len(original) - 2):
        bad.write_bytes(original[:at] + bytes([original[at] ^ 1]) + original[at + 1 :])
        assert_check_and_restore_fail(new, bad, "damaged or truncated")
    bad.write_text("not a backup")
    assert_check_and_restore_fail(new, bad, "is not a backup made by `plantlake backup`")
    assert_check_and_restore_fail(new, tmp_path / "nothing", f"cannot read {tmp_path / 'nothing'}")
    assert_check_and_restore_fail(new, tmp_path, f"cannot read {tmp_path}")


def test_restore_of_foreign_backup_writes_nothing(tmp_path: Path, backup: Path) -> None:
    new, bad = empty_installation(tmp_path / "new"), tmp_path / "bad"

    def newer_format(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        head = json.loads(members[0][1]) | {"format": 2, "program": "7.0.0"}
        return [(members[0][0], json.dumps(head).encode()), *members[1:]]

    assert_check_and_restore_fail(new, modified_backup(backup, bad, newer_format), "was made by plantlake 7.0.0, in format 2")
    for name in ("catalog/../../../escaped", "/tmp/escaped", "keys/.hidden/x"):
        made = modified_backup(backup, bad, lambda members, name=name: [*members, (name, b"x")])
        assert_check_and_restore_fail(new, made, "invalid name")
    made = modified_backup(backup, bad, lambda members: [*members, ("elsewhere/x", b"x")])
    assert_check_and_restore_fail(new, made, "belongs to no known part")
    assert not list(tmp_path.rglob("escaped"))


def assert_restore_fails(new: Installation, backup: Path, says: str) -> None:
    """Checks that restoring the backup fails with this error and writes nothing."""
    before = listing(new.folder)
    new.fails("restore", "--from", str(backup), error=says)
    assert listing(new.folder) == before


def test_restore_with_invalid_row_writes_nothing(tmp_path: Path, backup: Path) -> None:
    new, bad = empty_installation(tmp_path / "new"), tmp_path / "bad"

    def replace(table: str, old: bytes, with_: bytes):  # noqa: ANN202
        member = f"database/{table}/000001.jsonl"
        return lambda members: [(name, data.replace(old, with_, 1) if name == member else data) for name, data in members]

    def newer_schema(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        head = json.loads(members[0][1]) | {"database": {"kind": "sqlite", "schema": 99}}
        return [(members[0][0], json.dumps(head).encode()), *members[1:]]

    for change, says in [
        (replace("users", b'"email_key"', b'"e_mail_key"'), 'there is no column "e_mail_key"'),
        (replace("users", b'"admin"', b'"emperor"'), "the organisation database failed"),
        (replace("users", b'"admin",', b'"admin","admin",'), "a row has"),
        (replace("organizations", b'"Acme, Chemicals"', b"7"), "a value does not have the type of column name"),
        (replace("usage_totals", b"\n", b"\n\n"), "differ from the backup"),
        (lambda members: [pair for pair in members if "/users/" not in pair[0]], "the organisation database failed"),
        (lambda members: [*members, ("database/nonsense/000001.jsonl", b"[]\n")], "there is no such table"),
        (newer_schema, "was made by a later version of plantlake"),
    ]:
        assert_restore_fails(new, modified_backup(backup, bad, change), says)


def run_limited(installation: Installation, *args: str, **more) -> Finished:
    """Runs plantlake with the installation's settings and these process options."""
    return harness.run(list(args), installation.settings, installation.folder, **more)


def test_backup_and_restore_on_full_disk_leave_existing_files(
    tmp_path: Path, filled_installation: tuple[Installation, dict[str, str]], backup: Path
) -> None:
    installation, _ = filled_installation
    target = tmp_path / BACKUP
    full = run_limited(installation, "backup", "--to", str(target), **small_disk(FILE_LIMIT_BYTES)).expect(FAILURE)
    assert f"cannot write {target}" in full.err and "File too large" in full.err
    assert listing(tmp_path) == []
    installation.json("backup", "--to", str(target), "--only", "catalog")
    old = target.read_bytes()
    run_limited(installation, "backup", "--to", str(target), **small_disk(FILE_LIMIT_BYTES)).expect(FAILURE)
    assert target.read_bytes() == old and listing(tmp_path) == [BACKUP]
    new = empty_installation(tmp_path / "new")
    for max_bytes in (100, 100_000, 1_000_000):
        run_limited(new, "restore", "--from", str(backup), **small_disk(max_bytes)).expect(FAILURE)
        assert listing(new.folder) == []
    new.json("restore", "--from", str(backup))
    assert database_rows(new.database) == database_rows(installation.database)


def test_failed_restore_leaves_no_folder_of_lake_that_url_names(tmp_path: Path) -> None:
    old = LocalLake(tmp_path / "old")
    old.run("simulate", "--assets", "3", "--days", "1", "--interval", "60s").expect(OK)
    old.resample().expect(OK, LEFT_OUT)
    old.run("org", "create", "Acme").expect(OK)
    old.run("backup", "--to", str(tmp_path / BACKUP)).expect(OK)
    new = tmp_path / "new"
    new.mkdir()
    settings = {"PLANTLAKE_LAKE": f"{new.as_uri()}/my%20lake", "PLANTLAKE_STATE": str(new / "state")}
    restore = ["restore", "--from", str(tmp_path / BACKUP)]
    # The run log is written before the database, which does not fit.
    failed = harness.run(restore, settings, new, **small_disk(20_000)).expect(FAILURE)
    assert "organisation database" in failed.err
    assert listing(new) == []
    harness.run(restore, settings, new).expect(OK)
    assert (new / "my lake" / "history").is_dir()


# A limit smaller than a backup, but large enough for SQLite to read.
FILE_LIMIT_BYTES = 40_000


def unprivileged_user() -> dict:
    """Returns process options for an unprivileged user, if this process is root."""
    return {"user": 65_534, "group": 65_534, "extra_groups": []} if os.getuid() == 0 else {}


def test_backup_and_restore_without_permission_name_the_path(
    tmp_path: Path, filled_installation: tuple[Installation, dict[str, str]], backup: Path
) -> None:
    installation, _ = filled_installation
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    new = empty_installation(locked)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    readable = tmp_path / BACKUP
    shutil.copy(backup, readable)
    readable.chmod(0o644)
    program = tmp_path / "plantlake"
    shutil.copy(harness.binary(), program)
    refused = run_limited(new, "restore", "--from", str(readable), program=program, **unprivileged_user()).expect(FAILURE)
    assert "ermission denied" in refused.err and "cannot " in refused.err
    refused = run_limited(
        new, "backup", "--to", str(locked / "x"), "--only", "catalog", program=program, **unprivileged_user()
    ).expect(FAILURE)
    assert f"cannot write {locked / 'x'}" in refused.err and "ermission denied" in refused.err
    locked.chmod(0o755)
    assert listing(locked) == []
    # Targets in a missing folder, a folder, and a file that is not a backup.
    installation.fails("backup", "--to", str(tmp_path / "no/where"), error="cannot write ")
    installation.fails("backup", "--to", str(tmp_path), error="cannot read ")
    (tmp_path / "accounts.xls").write_text("precious")
    installation.fails("backup", "--to", str(tmp_path / "accounts.xls"), error="is not a readable backup")
    assert (tmp_path / "accounts.xls").read_text() == "precious"


def test_tar_lists_backup(backup: Path) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("no zstd program")
    done = subprocess.run(["tar", "--zstd", "-tf", str(backup)], capture_output=True, text=True, timeout=60)
    names = done.stdout.split()
    assert (done.returncode, names[0], names[-1]) == (0, "plantlake-backup.json", "digests.json"), done.stderr
