"""A soak test that runs `plantlake serve --with-jobs` for an hour while raw files arrive every ten seconds. It checks that
queries never fail, tables are at most one schedule behind, and memory does not grow.

    benches/soak/with_jobs.py --minutes 60 [--binary target/release/plantlake] [--keep FOLDER]

Prints a line per minute and a verdict as JSON. The exit code is 1 if a check fails. Requires the packages of
benches/serving/requirements.txt.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import adbc_driver_flightsql.dbapi as dbapi
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
SECOND = 1_000_000
# The job runs every minute, and a raw file arrives every ten seconds.
SCHEDULE_SECONDS = 60
FILE_SECONDS = 10


class Soak:
    """A server, the files and queries that it gets, and what is measured of it."""

    def __init__(self, binary: Path, folder: Path, assets: int) -> None:
        self.binary, self.folder, self.assets = binary, folder, assets
        self.raw = folder / "lake" / "raw"
        self.failures: list[str] = []
        self.latencies: list[float] = []
        self.lag: list[float] = []
        self.memory: list[tuple[float, float]] = []
        self.stop = threading.Event()

    def run(self, *command: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [self.binary, *command], cwd=self.folder, input=stdin, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def build(self) -> None:
        shape = ["--days", "7", "--start", "2026-01-01", "--interval", "60s", "--seed", "5"]
        self.run("simulate", "--assets", str(self.assets), *shape)
        (self.folder / "jobs").mkdir(exist_ok=True)
        (self.folder / "jobs" / "resample.toml").write_text('schedule = "* * * * *"\nretries = 0\n')
        self.run("resample")
        self.run("org", "create", "Soak", "--user-limit", "5")
        self.run("org", "grant", "Soak", "--all")
        user = ["ana@soak.example", "--org", "Soak", "--role", "analyst"]
        self.run("user", "create", *user, stdin="correct horse battery staple\n")
        self.key = json.loads(self.run("key", "create", "--user", "ana@soak.example", "--name", "soak", "--json"))["key"]
        # Only assets with readings; equipment has none.
        rows = self.run("query", "SELECT DISTINCT asset_id FROM data_d ORDER BY asset_id", "--format", "json").splitlines()
        self.ids = [json.loads(row)["asset_id"] for row in rows if row]
        assert len(self.ids) == self.assets, rows[:3]

    def serve(self) -> subprocess.Popen:
        process = subprocess.Popen(
            [self.binary, "serve", "--with-jobs", "--listen", "127.0.0.1:0", "--json", "--log", "warn"],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=(self.folder / "log").open("w"), text=True,
            env={"PATH": "/usr/bin:/bin", "PLANTLAKE_METRICS_LISTEN": "127.0.0.1:0"},
        )
        startup = json.loads(process.stdout.readline())
        self.uri, self.metrics = startup["listening"], startup["metrics"]
        return process

    def metric(self, text: str, name: str, labels: str = "") -> float:
        """Returns the largest value of a metric with these labels, or 0."""
        values = re.findall(rf"^{name}{{?.*{labels}.*}}? (\S+)$", text, re.M)
        return max(map(float, values), default=0.0)

    def write_files(self) -> None:
        """Writes files with the last ten seconds of all assets, and renames each when it is complete."""
        number = 0
        while not self.stop.wait(FILE_SECONDS):
            number += 1
            now = int(time.time()) - FILE_SECONDS
            ids = [one for one in self.ids for _ in range(FILE_SECONDS)]
            times = [(now + second) * SECOND for _ in self.ids for second in range(FILE_SECONDS)]
            stamps = pa.array(times, pa.timestamp("us", "UTC"))
            table = pa.table({"id": ids, "timestamp": stamps, "value": [float(number)] * len(ids)})
            out = io.BytesIO()
            pq.write_table(table, out)
            partial = self.raw / f".{number}"
            partial.write_bytes(out.getvalue())
            partial.rename(self.raw / f"live-{number:06}.parquet")

    def query(self) -> None:
        """Repeats a point query, a scan and a join, with a new connection for every 20 rounds."""
        statements = [
            f"SELECT timestamp, value FROM data_h WHERE asset_id = '{self.ids[0]}' ORDER BY timestamp DESC LIMIT 24",
            "SELECT asset_id, avg(value) FROM data_min GROUP BY asset_id",
            "SELECT a.name, d.timestamp, d.value FROM data_d d JOIN assets a ON a.id = d.asset_id "
            "ORDER BY d.timestamp DESC LIMIT 50",
        ]
        options = {"adbc.flight.sql.authorization_header": f"Bearer {self.key}"}
        while not self.stop.is_set():
            try:
                with dbapi.connect(self.uri, db_kwargs=options, autocommit=True) as connection:
                    for _ in range(20):
                        for sql in statements:
                            began = time.monotonic()
                            with connection.cursor() as cursor:
                                cursor.execute(sql)
                                rows = cursor.fetch_arrow_table().num_rows
                            assert rows > 0
                            self.latencies.append(time.monotonic() - began)
                            if self.stop.wait(0.2):
                                return
            except Exception as error:  # noqa: BLE001
                self.failures.append(f"{time.strftime('%H:%M:%S')} {error}")
                if len(self.failures) <= 5:
                    print(self.failures[-1][:500], flush=True)
                self.stop.wait(0.2)

    def watch(self, minutes: float) -> None:
        """Records lag and memory every two seconds, and prints a line per minute."""
        began = time.monotonic()
        printed_minutes = 0
        while (at := time.monotonic() - began) < minutes * 60:
            with urllib.request.urlopen(self.metrics, timeout=10) as answer:
                text = answer.read().decode()
            self.lag.append(self.metric(text, "plantlake_table_lag_seconds"))
            self.memory.append((at, self.metric(text, "process_resident_memory_bytes")))
            if at // 60 >= printed_minutes:
                printed_minutes += 1
                runs = self.metric(text, "plantlake_job_runs_total", 'result="ok"')
                failed = self.metric(text, "plantlake_job_runs_total", 'result="failed"')
                print(
                    f"{at / 60:5.1f} min  {self.memory[-1][1] / 2**20:7.1f} MiB  "
                    f"lag {self.lag[-1]:5.1f} s (max {max(self.lag):5.1f})  "
                    f"{len(self.latencies)} answers, {len(self.failures)} failures  jobs {runs:.0f} ok, {failed:.0f} failed",
                    flush=True,
                )
            time.sleep(2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--assets", type=int, default=40)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "plantlake")
    parser.add_argument("--keep", type=Path, help="the working folder, which is then kept")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="plantlake-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    soak = Soak(options.binary.resolve(), folder, options.assets)
    soak.build()
    process = soak.serve()
    threads = [threading.Thread(target=soak.write_files)]
    threads += [threading.Thread(target=soak.query) for _ in range(options.clients)]
    for thread in threads:
        thread.start()
    try:
        soak.watch(options.minutes)
    finally:
        soak.stop.set()
        for thread in threads:
            thread.join()
        process.terminate()
        code = process.wait(timeout=120)
    # The first tenth is the warm-up. The check compares the two halves of the rest.
    after_warm_up = [size for at, size in soak.memory if at > options.minutes * 6]
    halves = after_warm_up[: len(after_warm_up) // 2], after_warm_up[len(after_warm_up) // 2 :]
    growth = statistics.median(halves[1]) / statistics.median(halves[0]) - 1
    latencies = sorted(soak.latencies)
    # A file that arrives just after a run has begun waits for the next run: a minute, the duration of that run, and the delay
    # until it is noticed.
    verdict = {
        "minutes": options.minutes,
        "answers": len(latencies),
        "failures": soak.failures[:10],
        "p50_ms": round(1e3 * latencies[len(latencies) // 2], 1),
        "p99_ms": round(1e3 * latencies[len(latencies) * 99 // 100], 1),
        "max_lag_seconds": max(soak.lag),
        "memory_mib": [round(statistics.median(half) / 2**20, 1) for half in halves],
        "memory_growth": round(growth, 3),
        "exit_code": code,
    }
    is_current = max(soak.lag) <= SCHEDULE_SECONDS + 20
    verdict["passed"] = not soak.failures and code == 0 and is_current and growth < 0.1
    print(json.dumps(verdict, indent=2))
    if options.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if verdict["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
