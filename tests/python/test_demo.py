"""`plantlake demo` on an empty machine: complete runs, repeated runs, and obstacles."""

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
from test_input_errors import give_away, unprivileged  # noqa: F401 (a fixture)

pytestmark = pytest.mark.local_only

# Port 0 avoids conflicts with other programs.
QUIET = {"PLANTLAKE_METRICS_LISTEN": "127.0.0.1:0"}
UNIT = "Northfield Works / Unit 200 Distillation"


def demo(folder: Path, *flags: str, settings: dict[str, str] | None = None, **more) -> Finished:
    """Runs the demo in a folder, with the default subfolders."""
    return harness.run(["demo", *flags], QUIET | (settings or {}), folder, **more)


def assets(folder: Path) -> list[dict]:
    return json.loads((folder / "catalog" / "assets.json").read_text())


def good_keys(folder: Path) -> list[dict]:
    return harness.run(["key", "list", "--json"], cwd=folder).expect(OK).json


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """A folder after a demo, and the finished run."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(REPOSITORY / "jobs", folder / "jobs")
    return folder, demo(folder, "--once").expect(OK)


@pytest.fixture
def copy(made: tuple[Path, Finished], tmp_path: Path) -> Path:
    """A copy of that folder, which tests may change."""
    # The socket of the administration interface is not copied.
    shutil.copytree(made[0], tmp_path / "copy", ignore=shutil.ignore_patterns("socket"))
    return tmp_path / "copy"


def test_from_nothing_to_two_organisations_that_are_answered(made: tuple[Path, Finished]) -> None:
    folder, finished = made
    steps = re.findall(r"^(\d)\. .*$", finished.text, re.MULTILINE)
    assert steps == list("1234567") and finished.text.count("\n   [") == 7, "each step, and how long it took"
    assert "jobs         resample" in finished.text
    everything, of_unit = assets(folder), [asset for asset in assets(folder) if asset["location"].startswith(UNIT)]
    works, contractor = (next(line.split() for line in finished.text.splitlines() if re.match(rf"{name} +\d", line)) for name in ("Demo Works", "Demo Contractor"))
    assert works[2:4] == [str(len(everything)), "20"] and contractor[2] == str(len(of_unit)) and 0 < int(contractor[3]) < 20
    # Without models, the search uses words only, and the output explains how to fetch them.
    assert "bm25" in finished.text and "plantlake models fetch" in finished.text
    assert "All checks passed" in finished.text
    # The output contains no credentials, and the keys are revoked.
    assert "pl_" not in finished.text and good_keys(folder) == []


def test_a_second_start_uses_what_is_there(copy: Path) -> None:
    lake = {path: path.stat().st_mtime_ns for path in (copy / "lake" / "raw").iterdir()}
    # A file with readings that somebody sent meanwhile; the simulation does not own it.
    shutil.copy(next(iter(lake)), copy / "lake" / "raw" / "of_others.parquet")
    finished = demo(copy, "--once").expect(OK)
    assert "which is reused" in finished.text and "1 new" in finished.text and "0 updated" in finished.text
    assert lake.items() <= {path: path.stat().st_mtime_ns for path in (copy / "lake" / "raw").iterdir()}.items()
    organisations = harness.run(["org", "list", "--json"], cwd=copy).expect(OK).json
    assert sorted(one["name"] for one in organisations) == ["Demo Contractor", "Demo Works"]
    assert "Up to date" in demo(copy, "--once").expect(OK).text


def test_a_catalog_that_is_gone_is_made_again(copy: Path) -> None:
    before = assets(copy)
    shutil.rmtree(copy / "catalog")
    assert "which is reused" not in demo(copy, "--once").expect(OK).text
    assert assets(copy) == before


@contextlib.contextmanager
def staying(folder: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """Starts a demo that continues to serve, and yields its process and its output so far."""
    process = harness.start(["demo", "--port", "0"], QUIET, folder)
    killer = threading.Timer(200, process.kill)
    killer.start()
    try:
        said = ""
        while "Ctrl-C stops it" not in said:
            line = process.stdout.readline().decode()
            assert line, f"it ended: {said}{process.stderr.read().decode()}"
            said += line
        yield process, said
    finally:
        killer.cancel()
        process.kill()
        process.wait()


def test_what_it_prints_can_be_pasted_into_python(copy: Path) -> None:
    with staying(copy) as (process, said):
        block = re.search(r"^Paste into Python .*?:\n\n(.*?)\n\nThis is the key of Demo Works\.", said, re.MULTILINE | re.DOTALL)[1]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, "pasted", "exec"), {})  # noqa: S102
        days, found = printed.getvalue().split(" rank ")
        names = {asset["name"] for asset in assets(copy)}
        for table in (days, found):
            rows = table.strip().splitlines()[1:]
            assert len(rows) == 5 and all(any(name in row for name in names) for row in rows), printed.getvalue()
        assert f"export PLANT_URI={re.search('listening on (.*)', said)[1]} PLANT_KEY=pl_" in said
        # The contractor's key shows all assets of one unit and no others.
        key = re.search(r"The key of Demo Contractor, which sees fewer assets, is (pl_\S+)", said)[1]
        uri = re.search(r"listening on (\S+)", said)[1]
        with connect(uri, {"username": "key", "password": key}) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM assets")
            own = {asset["id"] for asset in assets(copy) if asset["location"].startswith(UNIT)}
            assert {id_ for (id_,) in cursor.fetchall()} == own
            cursor.execute("SELECT DISTINCT asset_id FROM data_min")
            seen = {id_ for (id_,) in cursor.fetchall()}
            assert seen and seen == own & set(harness.LocalLake(copy).table("data_min")["asset_id"])
        assert len(good_keys(copy)) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == OK, process.stderr.read().decode()
    assert not good_keys(copy), "keys outlive the server that they were for"


def test_two_at_once_are_refused_and_the_first_goes_on(copy: Path) -> None:
    with staying(copy) as (process, said):
        finished = demo(copy, "--once").expect(harness.REFUSED)
        assert f"is in use by another process (process {process.pid})" in finished.err and "stop it" in finished.err
        [uri, key] = re.search(r"export PLANT_URI=(\S+) PLANT_KEY=(\S+)", said).groups()
        with connect(uri, {"username": "key", "password": key}) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM assets")
            assert cursor.fetchone() == (len(assets(copy)),)


def test_keys_of_a_demo_that_was_killed_end_with_the_next(copy: Path) -> None:
    with staying(copy) as (process, _):
        process.kill()
        process.wait()
    assert len(good_keys(copy)) == 2
    demo(copy, "--once").expect(OK)
    assert not good_keys(copy)


def test_an_organisation_that_is_not_answered_is_a_failure(copy: Path) -> None:
    harness.run(["org", "deactivate", "Demo Contractor"], cwd=copy).expect(OK)
    finished = demo(copy, "--once").expect(FAILURE)
    assert "the request of Demo Contractor for" in finished.err and "All checks passed" not in finished.text
    assert not good_keys(copy)
    harness.run(["org", "activate", "Demo Contractor"], cwd=copy).expect(OK)
    # Additional grants by a user are kept.
    harness.run(["org", "grant", "Demo Contractor", "--type", "level sensor"], cwd=copy).expect(OK)
    demo(copy, "--once").expect(OK)


def test_it_stops_when_it_is_told_to(tmp_path: Path) -> None:
    process = harness.start(["demo"], QUIET, tmp_path)
    assert process.stdout.readline().startswith(b"1.")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


# ---- obstacles


def refused(finished: Finished, *parts: str, code: int = FAILURE) -> None:
    finished.expect(code)
    for part in parts:
        assert part in finished.err, f"no {part!r}\n{finished}"
    assert finished.seconds < 60


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(demo(tmp_path, "--port", str(port)), f"cannot listen on 127.0.0.1:{port}", "another plantlake", "port 0")
        refused(demo(tmp_path, settings={"PLANTLAKE_SERVE_LISTEN": f"0.0.0.0:{port}"}), f"cannot listen on 127.0.0.1:{port}")
        refused(demo(tmp_path, settings={"PLANTLAKE_METRICS_LISTEN": f"127.0.0.1:{port}"}), "for metrics", "set another")
        # The port is checked before anything is written.
        assert not any((tmp_path / "lake").rglob("*.parquet"))
        # With --once, only the demo itself connects, so the configured ports are not used.
        demo(tmp_path, "--once", settings={"PLANTLAKE_SERVE_LISTEN": f"127.0.0.1:{port}", "PLANTLAKE_METRICS_LISTEN": f"127.0.0.1:{port}"}).expect(OK)


def test_a_disk_that_becomes_full(tmp_path: Path) -> None:
    refused(demo(tmp_path, "--once", **harness.small_disk(100_000)), "cannot write raw/", "check the free disk space")
    # With enough space, the demo continues from there.
    demo(tmp_path, "--once").expect(OK)


def test_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be made here: {mounted.stderr.decode().strip()}")
    try:
        refused(demo(disk, "--once"), f"the disk of {disk}/lake has ", " MiB free, and 128 MiB are needed", "free disk space")
        assert not any((disk / "lake").rglob("*.parquet"))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.mark.parametrize("folder", ["lake", "state", "catalog"])
def test_a_folder_that_may_not_be_written(unprivileged: tuple[harness.LocalLake, dict], folder: str) -> None:  # noqa: F811
    lake, user = unprivileged
    for name in ("state", "catalog"):
        (lake.folder / name).mkdir(exist_ok=True)
    give_away(lake, user)
    forbidden = lake.folder / folder
    forbidden.chmod(0o555)
    says = {"lake": "cannot write to", "state": "cannot write to the folder", "catalog": "cannot write to the folder"}[folder]
    refused(lake.run("demo", "--once", settings=QUIET, **user), str(forbidden), says, "ermission denied")
    forbidden.chmod(0o755)
    lake.run("demo", "--once", settings=QUIET, **user).expect(OK)


def test_a_lake_that_may_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("")
    refused(demo(tmp_path, "--once"), "cannot use the folder lake", "name another")


def test_a_lake_with_readings_that_are_no_simulations(tmp_path: Path) -> None:
    raw = tmp_path / "lake" / "raw"
    raw.mkdir(parents=True)
    (raw / "mine.parquet").write_bytes(b"precious")
    refused(demo(tmp_path, "--once"), "raw/mine.parquet was not written by `plantlake simulate`", "use another folder (--lake DIR)")
    assert (raw / "mine.parquet").read_bytes() == b"precious"


def test_a_lake_of_an_older_version(copy: Path) -> None:
    for log in (copy / "lake").glob("data_*/_delta_log/*.json"):
        # Simulates a table without the column for the deviation.
        text = log.read_text()
        log.write_text(text.replace(r'{\"name\":\"stddev\",\"type\":\"double\",\"nullable\":true,\"metadata\":{}},', ""))
    refused(
        demo(copy, "--once"), "data_min has no column stddev: it was created by another version of plantlake",
        "remove its folders data_min, data_h, data_d, published and runs, and run `plantlake resample`",
    )
    refused(harness.run(["query", "SELECT 1 FROM data_d"], cwd=copy), "has no column stddev")
    # After the suggested fix, the demo works.
    for name in ("data_min", "data_h", "data_d", "published", "runs"):
        shutil.rmtree(copy / "lake" / name)
    harness.run(["resample"], cwd=copy).expect(OK)
    demo(copy, "--once").expect(OK)


def test_a_simulation_of_another_version(copy: Path) -> None:
    manifest = copy / "lake" / "simulation.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 0').replace('"format":1', '"format":0'))
    refused(demo(copy, "--once"), str(manifest), "is not a manifest of this version of plantlake", "use another folder")


def test_a_database_of_a_newer_version(copy: Path) -> None:
    with contextlib.closing(sqlite3.connect(copy / "lake" / ".state" / "organisation.db")) as database:
        database.execute("INSERT INTO _sqlx_migrations SELECT 99, description, installed_on, success, checksum, execution_time FROM _sqlx_migrations LIMIT 1")
        database.commit()
    refused(demo(copy, "--once"), "is of a later version of plantlake (it has step 99); use that version")


def test_a_database_that_others_use_is_left_alone(tmp_path: Path) -> None:
    url = "postgres://me:hush@127.0.0.1:1/organisation"
    finished = demo(tmp_path, "--once", settings={"PLANTLAKE_ORGANISATION_URL": url})
    refused(finished, "in a database of its own only", "organisation_url", code=USAGE)
    assert "hush" not in finished.err + finished.text
