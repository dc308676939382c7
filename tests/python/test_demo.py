"""Tests of `plantlake demo` on an empty machine: complete runs, repeated runs, and obstacles."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from harness import FAILURE, OK, REPOSITORY, USAGE, Finished
from server import connect
from test_input_errors import change_owner, unprivileged  # noqa: F401 (a fixture)

pytestmark = pytest.mark.local_only

# Port 0 avoids conflicts with other programs.
RANDOM_PORT = {"PLANTLAKE_METRICS_LISTEN": "127.0.0.1:0"}
UNIT = "Northfield Works / Unit 200 Distillation"


def demo(folder: Path, *flags: str, settings: dict[str, str] | None = None, **more) -> Finished:
    """Runs the demo in a folder, with the default subfolders."""
    return harness.run(["demo", *flags], RANDOM_PORT | (settings or {}), folder, **more)


def assets(folder: Path) -> list[dict]:
    return json.loads((folder / "catalog" / "assets.json").read_text())


def active_keys(folder: Path) -> list[dict]:
    """Returns the keys that are listed, which are those that are not revoked."""
    return harness.run(["key", "list", "--json"], cwd=folder).expect(OK).json


@pytest.fixture(scope="module")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """A folder after a demo with `--once`, and that run."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(REPOSITORY / "jobs", folder / "jobs")
    return folder, demo(folder, "--once").expect(OK)


@pytest.fixture
def demo_folder(finished_demo: tuple[Path, Finished], tmp_path: Path) -> Path:
    """A copy of the folder after a demo, which tests may change."""
    # The socket of the administration interface is not copied.
    shutil.copytree(finished_demo[0], tmp_path / "copy", ignore=shutil.ignore_patterns("socket"))
    return tmp_path / "copy"


def test_demo_in_empty_folder_serves_two_organisations(finished_demo: tuple[Path, Finished]) -> None:
    folder, finished = finished_demo
    steps = re.findall(r"^(\d)\. .*$", finished.text, re.MULTILINE)
    assert steps == list("1234567") and finished.text.count("\n   [") == 7, "not every step has a duration"
    assert "jobs         resample" in finished.text
    all_assets, unit_assets = assets(folder), [asset for asset in assets(folder) if asset["location"].startswith(UNIT)]
    works, contractor = (
        next(line.split() for line in finished.text.splitlines() if re.match(rf"{name} +\d", line))
        for name in ("Demo Works", "Demo Contractor")
    )
    assert works[2:4] == [str(len(all_assets)), "20"]
    assert contractor[2] == str(len(unit_assets)) and 0 < int(contractor[3]) < 20
    # Without models, the search uses words only, and the output explains how to fetch them.
    assert "bm25" in finished.text and "plantlake models fetch" in finished.text
    assert "All checks passed" in finished.text
    # The output contains no credentials, and the keys are revoked.
    assert "pl_" not in finished.text and active_keys(folder) == []


def test_second_demo_reuses_existing_data(demo_folder: Path) -> None:
    lake = {path: path.stat().st_mtime_ns for path in (demo_folder / "lake" / "raw").iterdir()}
    # A file with readings that a client sent meanwhile; the simulation does not own it.
    shutil.copy(next(iter(lake)), demo_folder / "lake" / "raw" / "of_others.parquet")
    finished = demo(demo_folder, "--once").expect(OK)
    assert "which is reused" in finished.text and "1 new" in finished.text and "0 updated" in finished.text
    assert lake.items() <= {path: path.stat().st_mtime_ns for path in (demo_folder / "lake" / "raw").iterdir()}.items()
    organisations = harness.run(["org", "list", "--json"], cwd=demo_folder).expect(OK).json
    assert sorted(one["name"] for one in organisations) == ["Demo Contractor", "Demo Works"]
    assert "Up to date" in demo(demo_folder, "--once").expect(OK).text


def test_demo_recreates_deleted_catalog(demo_folder: Path) -> None:
    before = assets(demo_folder)
    shutil.rmtree(demo_folder / "catalog")
    assert "which is reused" not in demo(demo_folder, "--once").expect(OK).text
    assert assets(demo_folder) == before


@contextlib.contextmanager
def running_demo(folder: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """Starts a demo that continues to serve, and yields its process and its output so far."""
    process = harness.start(["demo", "--port", "0"], RANDOM_PORT, folder)
    killer = threading.Timer(200, process.kill)
    killer.start()
    try:
        output = ""
        while "Ctrl-C stops it" not in output:
            line = process.stdout.readline().decode()
            assert line, f"the demo ended: {output}{process.stderr.read().decode()}"
            output += line
        yield process, output
    finally:
        killer.cancel()
        process.kill()
        process.wait()


def test_printed_python_code_runs(demo_folder: Path) -> None:
    with running_demo(demo_folder) as (process, output):
        pattern = r"^Paste into Python .*?:\n\n(.*?)\n\nThis is the key of Demo Works\."
        block = re.search(pattern, output, re.MULTILINE | re.DOTALL)[1]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, "pasted", "exec"), {})  # noqa: S102
        days, found = printed.getvalue().split(" rank ")
        names = {asset["name"] for asset in assets(demo_folder)}
        for table in (days, found):
            rows = table.strip().splitlines()[1:]
            assert len(rows) == 5 and all(any(name in row for name in names) for row in rows), printed.getvalue()
        assert f"export PLANT_URI={re.search('listening on (.*)', output)[1]} PLANT_KEY=pl_" in output
        # The contractor's key shows all assets of one unit and no others.
        key = re.search(r"The key of Demo Contractor, which sees fewer assets, is (pl_\S+)", output)[1]
        uri = re.search(r"listening on (\S+)", output)[1]
        with connect(uri, {"username": "key", "password": key}) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM assets")
            own = {asset["id"] for asset in assets(demo_folder) if asset["location"].startswith(UNIT)}
            assert {id_ for (id_,) in cursor.fetchall()} == own
            cursor.execute("SELECT DISTINCT asset_id FROM data_min")
            seen = {id_ for (id_,) in cursor.fetchall()}
            assert seen and seen == own & set(harness.LocalLake(demo_folder).table("data_min")["asset_id"])
        assert len(active_keys(demo_folder)) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == OK, process.stderr.read().decode()
    assert not active_keys(demo_folder), "keys are valid after the server has stopped"


def test_concurrent_demo_is_refused_and_first_continues(demo_folder: Path) -> None:
    with running_demo(demo_folder) as (process, output):
        finished = demo(demo_folder, "--once").expect(harness.REFUSED)
        assert f"is in use by another process (process {process.pid})" in finished.err and "stop it" in finished.err
        [uri, key] = re.search(r"export PLANT_URI=(\S+) PLANT_KEY=(\S+)", output).groups()
        with connect(uri, {"username": "key", "password": key}) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM assets")
            assert cursor.fetchone() == (len(assets(demo_folder)),)


def test_demo_revokes_keys_of_killed_demo(demo_folder: Path) -> None:
    with running_demo(demo_folder) as (process, _):
        process.kill()
        process.wait()
    assert len(active_keys(demo_folder)) == 2
    demo(demo_folder, "--once").expect(OK)
    assert not active_keys(demo_folder)


def test_demo_with_inactive_organisation_fails(demo_folder: Path) -> None:
    harness.run(["org", "deactivate", "Demo Contractor"], cwd=demo_folder).expect(OK)
    finished = demo(demo_folder, "--once").expect(FAILURE)
    assert "the request of Demo Contractor for" in finished.err and "All checks passed" not in finished.text
    assert not active_keys(demo_folder)
    harness.run(["org", "activate", "Demo Contractor"], cwd=demo_folder).expect(OK)
    # Additional grants by a user are kept.
    harness.run(["org", "grant", "Demo Contractor", "--type", "level sensor"], cwd=demo_folder).expect(OK)
    demo(demo_folder, "--once").expect(OK)


def test_demo_stops_on_sigint(tmp_path: Path) -> None:
    process = harness.start(["demo"], RANDOM_PORT, tmp_path)
    assert process.stdout.readline().startswith(b"1.")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


# ---- obstacles


def assert_refused(finished: Finished, *parts: str, code: int = FAILURE) -> None:
    """Checks that the demo failed within 60 s with an error that has these parts."""
    finished.expect(code)
    for part in parts:
        assert part in finished.err, f"no {part!r}\n{finished}"
    assert finished.seconds < 60


def test_demo_with_used_port_fails_before_writing(tmp_path: Path) -> None:
    with socket.socket() as used_socket:
        used_socket.bind(("127.0.0.1", 0))
        used_socket.listen()
        port = used_socket.getsockname()[1]
        assert_refused(demo(tmp_path, "--port", str(port)), f"cannot listen on 127.0.0.1:{port}", "another plantlake", "port 0")
        finished = demo(tmp_path, settings={"PLANTLAKE_SERVE_LISTEN": f"0.0.0.0:{port}"})
        assert_refused(finished, f"cannot listen on 127.0.0.1:{port}")
        finished = demo(tmp_path, settings={"PLANTLAKE_METRICS_LISTEN": f"127.0.0.1:{port}"})
        assert_refused(finished, "for metrics", "set another")
        # The port is checked before anything is written.
        assert not any((tmp_path / "lake").rglob("*.parquet"))
        # With --once, only the demo itself connects, so the configured ports are not used.
        used = {"PLANTLAKE_SERVE_LISTEN": f"127.0.0.1:{port}", "PLANTLAKE_METRICS_LISTEN": f"127.0.0.1:{port}"}
        demo(tmp_path, "--once", settings=used).expect(OK)


def test_demo_on_full_disk_fails_and_resumes(tmp_path: Path) -> None:
    assert_refused(demo(tmp_path, "--once", **harness.small_disk(100_000)), "cannot write raw/", "check the free disk space")
    # With enough space, the demo continues from there.
    demo(tmp_path, "--once").expect(OK)


def test_demo_on_nearly_full_disk_fails_before_writing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        finished = demo(disk, "--once")
        assert_refused(finished, f"the disk of {disk}/lake has ", " MiB free, and 128 MiB are needed", "free disk space")
        assert not any((disk / "lake").rglob("*.parquet"))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.mark.parametrize("folder", ["lake", "state", "catalog"])
def test_demo_in_unwritable_folder_names_it(unprivileged: tuple[harness.LocalLake, dict], folder: str) -> None:  # noqa: F811
    lake, user = unprivileged
    for name in ("state", "catalog"):
        (lake.folder / name).mkdir(exist_ok=True)
    change_owner(lake, user)
    forbidden = lake.folder / folder
    forbidden.chmod(0o555)
    says = {"lake": "cannot write to", "state": "cannot write to the folder", "catalog": "cannot write to the folder"}[folder]
    assert_refused(lake.run("demo", "--once", settings=RANDOM_PORT, **user), str(forbidden), says, "ermission denied")
    forbidden.chmod(0o755)
    lake.run("demo", "--once", settings=RANDOM_PORT, **user).expect(OK)


def test_demo_with_file_in_place_of_lake_fails(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("")
    assert_refused(demo(tmp_path, "--once"), "cannot use the folder lake", "name another")


def test_demo_beside_real_readings_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "lake" / "raw"
    raw.mkdir(parents=True)
    (raw / "mine.parquet").write_bytes(b"precious")
    finished = demo(tmp_path, "--once")
    assert_refused(finished, "raw/mine.parquet was not written by `plantlake simulate`", "use another folder (--lake DIR)")
    assert (raw / "mine.parquet").read_bytes() == b"precious"


def test_demo_on_lake_of_older_version_suggests_fix(demo_folder: Path) -> None:
    for log in (demo_folder / "lake").glob("data_*/_delta_log/*.json"):
        # Removes the column of the deviation from the table, as in older versions.
        text = log.read_text()
        log.write_text(text.replace(r'{\"name\":\"stddev\",\"type\":\"double\",\"nullable\":true,\"metadata\":{}},', ""))
    assert_refused(
        demo(demo_folder, "--once"), "data_min has no column stddev: it was created by another version of plantlake",
        "remove its folders data_min, data_h, data_d, published and runs, and run `plantlake resample`",
    )
    assert_refused(harness.run(["query", "SELECT 1 FROM data_d"], cwd=demo_folder), "has no column stddev")
    # After the suggested fix, the demo works.
    for name in ("data_min", "data_h", "data_d", "published", "runs"):
        shutil.rmtree(demo_folder / "lake" / name)
    harness.run(["resample"], cwd=demo_folder).expect(OK)
    demo(demo_folder, "--once").expect(OK)


def test_demo_with_manifest_of_other_version_is_refused(demo_folder: Path) -> None:
    manifest = demo_folder / "lake" / "simulation.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 0').replace('"format":1', '"format":0'))
    finished = demo(demo_folder, "--once")
    assert_refused(finished, str(manifest), "is not a manifest of this version of plantlake", "use another folder")


def test_demo_with_newer_database_is_refused(demo_folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(demo_folder / "lake" / ".state" / "organisation.db")) as database:
        database.execute(
            "INSERT INTO _sqlx_migrations SELECT 99, description, installed_on, success, checksum, execution_time "
            "FROM _sqlx_migrations LIMIT 1"
        )
        database.commit()
    assert_refused(demo(demo_folder, "--once"), "is of a later version of plantlake (it has step 99); use that version")


def test_demo_with_configured_database_is_refused(tmp_path: Path) -> None:
    url = "postgres://me:hush@127.0.0.1:1/organisation"
    finished = demo(tmp_path, "--once", settings={"PLANTLAKE_ORGANISATION_URL": url})
    assert_refused(finished, "in a database of its own only", "organisation_url", code=USAGE)
    assert "hush" not in finished.err + finished.text
