"""Scheduled jobs: in processes that are killed, started by hand, inside a server, and with invalid job files."""

from __future__ import annotations

import datetime as dt
import io
import json
import random
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import FAILURE, KILLED, LEFT_OUT, OK, REFUSED, USAGE, LocalLake, start
from server import Plant, eventually

pytestmark = pytest.mark.local_only
EVERY_SECOND = "* * * * * *"
# The maximum time in seconds until a run without heartbeats is taken over by another process.
MAX_TAKEOVER_SECONDS = 60


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    return LocalLake(tmp_path, {"PLANTLAKE_METRICS_LISTEN": "off", "PLANTLAKE_LOG": "plantlake=info"})


def declare(lake: LocalLake, name: str, text: str) -> None:
    folder = lake.folder / "jobs"
    folder.mkdir(exist_ok=True)
    # The file is replaced atomically, because the daemon watches it.
    (folder / f".{name}").write_text(text)
    (folder / f".{name}").rename(folder / f"{name}.toml")


def readings(number: int) -> bytes:
    """Returns readings of one asset, one per second."""
    asset = "22222222-0000-4000-8000-000000000002"
    return parquet([(asset, 1_714_521_600_000_000 + i * 1_000_000, float(i)) for i in range(number)])


def parquet(rows: list[tuple[str, int, float]]) -> bytes:
    ids, times, values = zip(*rows)
    table = pa.table({"id": list(ids), "timestamp": pa.array(times, pa.timestamp("us", "UTC")), "value": list(values)})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


class Daemon:
    """A process of `plantlake schedule`."""

    def __init__(self, lake: LocalLake, settings: dict[str, str] | None = None) -> None:
        self.process = start(lake.args(["schedule", "--json"]), lake.settings | (settings or {}), lake.folder)
        self.startup = json.loads(self.process.stdout.readline())
        self.log: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.log.append(line.decode())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=90)


def runs(lake: LocalLake, job: str | None = None) -> list[dict]:
    path = lake.state / "organisation.db"
    if not path.exists():
        return []
    with sqlite3.connect(path, timeout=20) as connection:
        connection.row_factory = sqlite3.Row
        # The database may still be in creation.
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'job_runs'").fetchall():
            return []
        rows = connection.execute("SELECT * FROM job_runs WHERE ?1 IS NULL OR job = ?1 ORDER BY scheduled_for", [job]).fetchall()
    connection.close()
    return [dict(row) for row in rows]


# ---- daemons


def test_killed_daemons_run_each_due_time_once(lake: LocalLake) -> None:
    lake.put("a.parquet", readings(100))
    declare(lake, "tick", f'kind = "resample"\nschedule = "{EVERY_SECOND}"\n')
    rng = random.Random(7)
    daemons = [Daemon(lake), Daemon(lake)]
    assert daemons[0].startup["jobs"] == ["tick"]
    try:
        began = time.monotonic()
        eventually(lambda: runs(lake), MAX_TAKEOVER_SECONDS)
        for _ in range(5):
            time.sleep(rng.uniform(1, 4))
            # Kills the daemon that executes the runs, sometimes during a run, so that the other one continues.
            at = int(runs(lake)[-1]["pid"] == daemons[1].process.pid)
            daemons[at].kill()
            time.sleep(rng.uniform(0, 1))
            daemons[at] = Daemon(lake)
        # Another process resumes the killed run; until then the job waits.
        eventually(lambda: all(run["status"] == "ok" for run in runs(lake)[:-2]), MAX_TAKEOVER_SECONDS)
        before = len(runs(lake))
        eventually(lambda: len(runs(lake)) >= before + 3, MAX_TAKEOVER_SECONDS)
        seconds = time.monotonic() - began
    finally:
        codes = [daemon.stop() for daemon in daemons]
    assert codes == [OK, OK]
    found = runs(lake)
    due = [run["scheduled_for"] for run in found]
    assert len(due) == len(set(due)) and 5 < len(due) <= seconds + 2
    assert {run["status"] for run in found} == {"ok"}
    # Runs never overlap.
    ordered = sorted((run["started_at"], run["ended_at"]) for run in found)
    assert all(one[1] <= other[0] for one, other in zip(ordered, ordered[1:]))
    hosts = {run["pid"] for run in found}
    assert len(hosts) >= 2, "expected runs of at least two daemons"


def test_run_of_killed_process_is_resumed_by_another(lake: LocalLake) -> None:
    lake.put("a.parquet", readings(100))
    declare(lake, "tick", f'kind = "resample"\nschedule = "{EVERY_SECOND}"\n')
    killed = Daemon(lake, {"PLANTLAKE_FAILPOINT": "before-publish"})
    assert killed.process.wait(timeout=60) == KILLED
    [run] = runs(lake)
    assert run["status"] == "running" and lake.published() is None
    second = Daemon(lake)
    try:
        eventually(lambda: runs(lake)[0]["status"] == "ok", MAX_TAKEOVER_SECONDS)
        run = runs(lake)[0]
        assert (run["attempt"], run["failures"], run["pid"]) == (2, 0, second.process.pid)
        assert any("is taken over" in line for line in second.log)
        # The data of the killed run is complete.
        assert len(lake.query("SELECT * FROM data_min")) == 2
    finally:
        assert second.stop() == OK


def test_changed_jobs_apply_within_seconds_and_stop_finishes_runs(lake: LocalLake) -> None:
    lake.put("a.parquet", readings(100))
    daemon = Daemon(lake)
    try:
        assert daemon.startup["jobs"] == []
        declare(lake, "tick", f'kind = "resample"\nschedule = "{EVERY_SECOND}"\n')
        eventually(lambda: any(run["status"] == "ok" for run in runs(lake)), 15)
        declare(lake, "tick", 'kind = "resample"\nschedule = "every second"\n')
        eventually(lambda: any("cannot apply the changed jobs" in line and "line 2" in line for line in daemon.log), 15)
        before = len(runs(lake))
        eventually(lambda: len(runs(lake)) > before, 15)
        applied = lambda: sum("jobs=1" in line and "were applied" in line for line in daemon.log)  # noqa: E731
        former = applied()
        declare(lake, "tick", 'kind = "resample"\n')
        eventually(lambda: applied() > former, 15)
        # Runs that were due by then may still execute; no further run is due.
        until = (dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=1)).isoformat()
        time.sleep(6)
        assert all(run["scheduled_for"] < until for run in runs(lake))
    finally:
        assert daemon.stop() == OK
    assert {run["status"] for run in runs(lake)} == {"ok"}


def test_server_with_jobs_shows_results_to_clients(tmp_path: Path) -> None:
    plant = Plant(tmp_path, {"PLANTLAKE_METRICS_LISTEN": "off"})
    plant.lake.run("simulate", "--assets", "5", "--days", "1", "--start", "2024-05-01", "--interval", "60s", "--seed", "5").expect(OK)
    plant.tenant("Everything", ["--all"])
    declare(plant.lake, "resample", f'schedule = "{EVERY_SECOND}"\n')
    plant.serve("--with-jobs")
    try:
        assert (plant.startup["jobs"], plant.startup["metrics"]) == (["resample"], None)

        def rows() -> int:
            return int(plant.ask("SELECT count(*) AS n FROM data_min", "Everything")["n"][0])

        eventually(lambda: rows() > 0, 30)
        before = rows()
        asset = next(iter(plant.tenants["Everything"].assets))
        plant.lake.put("late.parquet", parquet([(asset, 1_715_000_000_000_000 + i * 60_000_000, 1.0) for i in range(10)]))
        eventually(lambda: rows() == before + 10, 15)
    finally:
        assert plant.stop() == OK
    assert {run["status"] for run in runs(plant.lake)} == {"ok"}


# ---- runs by hand


class WebhookHandler(BaseHTTPRequestHandler):
    """A webhook receiver that records all requests."""

    calls: list[dict]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).calls.append({"path": self.path, **json.loads(body)})
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict]]]:
    handler = type("Handler", (WebhookHandler,), {"calls": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook/0123456789", handler.calls
    server.shutdown()


def test_failed_job_is_reported_by_commands_and_webhook(lake: LocalLake, webhook: tuple[str, list[dict]]) -> None:
    url, calls = webhook
    settings = {"PLANTLAKE_SCHEDULE_WEBHOOK_URL": url, "PLANTLAKE_RAW": str(lake.folder / "nowhere")}
    declare(lake, "resample", 'schedule = "0 0 1 1 *"\nretries = 1\nbackoff = "1s"\n')
    lake.run("status").expect(OK)
    failed = lake.run("run", "resample", "--json", settings=settings).expect(FAILURE)
    assert failed.json["status"] == "failed" and "nowhere" in failed.json["error"]
    assert "nowhere" in failed.err and "0123456789" not in failed.err
    [call] = calls
    assert (call["path"], call["job"], call["status"], call["attempts"]) == ("/hook/0123456789", "resample", "failed", 2)
    assert "nowhere" in call["error"] and call["host"] and call["started_at"] <= call["ended_at"]
    assert "resample failed" in lake.run("status").expect(OK).text
    assert "nowhere" in lake.run("status", "--json").expect(OK).json["failed_jobs"][0]["error"]
    listed = lake.run("jobs").expect(OK).text
    assert "failed" in listed and "nowhere" in listed and "01-01 00:00" in listed
    shown = lake.run("config", settings=settings).expect(OK).text
    assert "schedule.webhook_url" in shown and "0123456789" not in shown
    # After a successful run, the failure remains in the history only.
    lake.put("a.parquet", readings(100))
    done = lake.run("run", "resample", "--json").expect(OK).json
    assert (done["status"], done["error"]) == ("ok", None) and done["rows"] > 0 and done["summary"]["outcome"] == "published"
    assert lake.run("status", "--json").expect(OK).json["failed_jobs"] == []
    history = lake.run("jobs", "history", "resample", "--json").expect(OK).json
    assert [(run["status"], run["by_hand"], run["attempt"]) for run in history] == [("ok", True, 1), ("failed", True, 2)]
    assert "by hand" in lake.run("jobs", "history").expect(OK).text
    assert len(calls) == 1


def test_run_exits_with_code_of_job(lake: LocalLake) -> None:
    declare(lake, "resample", "")
    lake.put("a.parquet", readings(100))
    lake.put("b.parquet", b"no parquet")
    assert "resample is done" in lake.run("run", "resample").expect(LEFT_OUT).text
    lake.remove("b.parquet")
    lake.run("run", "resample").expect(OK)
    assert "no job \"resampel\"" in lake.run("run", "resampel").expect(USAGE).err
    # A job without its required settings fails at once.
    declare(lake, "mirror", "retries = 3\nbackoff = \"30s\"\n")
    unset = lake.run("run", "mirror").expect(USAGE)
    assert "set `mirror_url`" in unset.err and unset.seconds < 15, "the run retried a usage error"
    # Another process holds the run and sends heartbeats.
    path = lake.state / "organisation.db"
    connection = sqlite3.connect(path, timeout=20, isolation_level=None)
    connection.execute(
        "INSERT INTO job_runs (id, job, scheduled_for, by_hand, status, attempt, failures, holder, beats, host, pid, started_at, renewed_at)"
        " VALUES ('0190a8a4-6a9c-7d6e-b7f4-3f1f8f3f2a10', 'resample', '2026-01-01T00:00:00.000000Z', 0, 'running', 1, 0,"
        " '0190a8a4-6a9c-7d6e-b7f4-3f1f8f3f2a11', 0, 'elsewhere', 4711, '2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:00.000000Z')"
    )
    stop = threading.Event()

    def beat() -> None:
        mine = sqlite3.connect(path, timeout=20, isolation_level=None)
        while not stop.wait(1):
            mine.execute("UPDATE job_runs SET beats = beats + 1 WHERE status = 'running'")
        mine.close()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        refused = lake.run("run", "resample").expect(REFUSED)
        assert "process 4711 on elsewhere" in refused.err and refused.seconds < 15
    finally:
        stop.set()
        thread.join()
    # The heartbeats have stopped.
    lake.run("run", "resample").expect(OK)
    connection.close()


def test_interrupted_run_is_recorded_as_aborted(lake: LocalLake) -> None:
    declare(lake, "resample", "retries = 5\nbackoff = \"1h\"\n")
    settings = lake.settings | {"PLANTLAKE_RAW": str(lake.folder / "nowhere")}
    process = start(lake.args(["run", "resample"]), settings, lake.folder)
    eventually(lambda: any(run["failures"] == 1 for run in runs(lake)), 30)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 130
    [run] = runs(lake)
    assert run["status"] == "aborted"


@pytest.mark.parametrize("command", [["jobs"], ["schedule"], ["run", "resample"], ["serve", "--with-jobs", "--listen", "127.0.0.1:0"]])
def test_invalid_job_file_is_reported_with_line(lake: LocalLake, command: list[str]) -> None:
    lake.run("simulate", "--assets", "2", "--days", "1", "--start", "2024-05-01", "--interval", "1h", "--seed", "5").expect(OK)
    declare(lake, "resample", '# often\nschedule = "*/61 * * * *"\n')
    error = lake.run(*command).expect(USAGE).err
    assert "resample.toml" in error and "line 2" in error and "*/61" in error


def test_metrics_listen_on_loopback_only(lake: LocalLake) -> None:
    for address, code, part in [("0.0.0.0:0", USAGE, "metrics.allow_remote"), ("127.0.0.1:x", USAGE, "metrics.listen")]:
        assert part in lake.run("schedule", settings={"PLANTLAKE_METRICS_LISTEN": address}).expect(code).err
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        address = f"127.0.0.1:{occupied.getsockname()[1]}"
        error = lake.run("schedule", settings={"PLANTLAKE_METRICS_LISTEN": address}).expect(FAILURE).err
        assert address in error and "metrics.listen" in error
