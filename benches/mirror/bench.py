#!/usr/bin/env python3
"""A benchmark of `plantlake mirror` and psql's `\\copy` of the same rows from CSV, into tables with the same keys, on one
Postgres.

The contestants alternate, each with a new database. Peak memory is the maximum resident memory of plantlake alone (`wait4`).
`benches/README.md` has the commands.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing import Process
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "python"))

from databases import Postgres, psql  # noqa: E402

TABLES = ["data_min", "data_h", "data_d"]
COLUMNS = "asset_id, timestamp, value, count, min, max, first, last, stddev"
MIGRATIONS = REPOSITORY / "migrations" / "chemical"
DAYS = 7
MIB = 1024 * 1024


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def environment(**more: str) -> dict[str, str]:
    excluded = ("PLANTLAKE_", "DB_", "auth_")
    return {key: value for key, value in os.environ.items() if not key.startswith(excluded)} | more


@dataclass
class Measurement:
    """The measurements of a run of plantlake."""

    seconds: float
    mib: float
    report: dict


@dataclass
class Plant:
    """A lake with minutes that are all inside the mirror's window."""

    binary: str
    folder: Path
    assets: int

    def run(self, *args: str, **settings: str) -> Measurement:
        """Runs plantlake with its output in a file. This process must stay small, because a child's peak memory includes its
        parent's."""
        command = [self.binary, "--lake", str(self.folder / "lake"), "--catalog", str(self.folder / "catalog"), *args]
        printed = self.folder / "printed"
        with open(printed, "wb") as out:
            began = time.monotonic()
            process = subprocess.Popen(command, env=environment(**settings), cwd=self.folder, stdout=out)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - began
        if status != 0:
            raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
        report = json.loads(printed.read_text()) if "--json" in args else {}
        return Measurement(seconds, usage.ru_maxrss / 1024, report)

    def make(self) -> None:
        today = dt.datetime.now(dt.timezone.utc).date()
        made = self.folder / "made.json"
        shape = {"assets": self.assets, "today": str(today)}
        if made.is_file() and json.loads(made.read_text()) == shape:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        note(f"generating {self.assets} assets with {DAYS} days of minutes in {self.folder}")
        start = today - dt.timedelta(days=DAYS - 1)
        self.run("simulate", "--assets", str(self.assets), "--days", str(DAYS), "--start", str(start), "--interval", "60s",
                 "--shape", "clean", "--seed", "1", "--json")  # fmt: skip
        self.run("resample", "--json")
        for table in TABLES:
            # The rows are in the order of the key, which is the best case for its index.
            sql = f"SELECT {COLUMNS} FROM {table} ORDER BY asset_id, timestamp"
            self.run("query", sql, "--format", "csv")
            (self.folder / "printed").rename(self.folder / f"{table}.csv")
        made.write_text(json.dumps(shape))

    def mirror(self, url: str, *flags: str, **settings: str) -> Measurement:
        return self.run("mirror", "--json", *flags, PLANTLAKE_MIRROR_URL=url, **settings)


def copy_with_psql(server: Postgres, plant: Plant, assets: str) -> float:
    """Returns the seconds of `\\copy` into tables with keys."""
    url = server.new_database("chemical")
    for step in sorted(MIGRATIONS.iterdir()):
        subprocess.run(["psql", "-X", "-q", "-d", url, "-f", str(step)], check=True)
    subprocess.run(["psql", "-X", "-q", "-d", url, "-c", "\\copy assets FROM STDIN"], input=assets, text=True, check=True)
    commands = [f"\\copy {table} ({COLUMNS}) FROM '{plant.folder / table}.csv' (FORMAT csv, HEADER)" for table in TABLES]
    began = time.monotonic()
    # One transaction, as in the mirror.
    flags = [part for command in commands for part in ("-c", command)]
    subprocess.run(["psql", "-X", "-q", "-1", "-d", url, *flags], check=True)
    seconds = time.monotonic() - began
    check(url, plant)
    drop(server, url)
    return seconds


def check(url: str, plant: Plant) -> int:
    """Checks that the database has all rows, and returns their number."""
    rows = 0
    for table in TABLES:
        with open(plant.folder / f"{table}.csv", "rb") as file:
            expected = sum(1 for _ in file) - 1
        found = int(psql(url, f"SELECT count(*) FROM {table}"))
        assert found == expected, f"{table} has {found} rows, not {expected}"
        rows += found
    return rows


def drop(server: Postgres, url: str) -> None:
    psql(server.url, f"DROP DATABASE {url.rsplit('/', 1)[1]} WITH (FORCE)")
    psql(server.url, "CHECKPOINT")


def copy_with_plantlake(server: Postgres, plant: Plant) -> Measurement:
    url = server.new_database("chemical")
    measurement = plant.mirror(url)
    check(url, plant)
    drop(server, url)
    return measurement


def write_late(raw: Path, late: Path) -> None:
    """Writes one asset's readings of today again with other values."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(raw)
    today = pa.scalar(dt.datetime.now(dt.timezone.utc).date())
    table = table.filter(pc.equal(pc.cast(table["timestamp"], pa.date32()), today))
    new_values = pc.add(pc.cast(table["value"], pa.float64()), 1.0)
    pq.write_table(table.set_column(table.column_names.index("value"), "value", new_values), late)


def measure_later_runs(server: Postgres, plant: Plant) -> list[tuple[str, Measurement]]:
    """Measures later runs on an existing mirror."""
    url = server.new_database("chemical")
    plant.mirror(url)
    psql(url, "VACUUM")
    found = [("no changes", plant.mirror(url))]
    raw = sorted((plant.folder / "lake" / "raw").rglob("*.parquet"))[0]
    late = raw.with_name("late.parquet")
    # A separate process, so that its memory is freed.
    writer = Process(target=write_late, args=(raw, late))
    writer.start()
    writer.join()
    plant.run("resample", "--json")
    found.append(("readings of one asset and day changed", plant.mirror(url)))
    late.unlink()
    plant.run("resample", "--full", "--json")
    found.append(("all dates recomputed, rows of one asset and day changed", plant.mirror(url)))
    found.append(("`--full`", plant.mirror(url, "--full")))
    plant.mirror(url, PLANTLAKE_MIRROR_WINDOW_MIN="1h")
    psql(url, "VACUUM")
    found.append(("window of minutes grows from one date to all dates", plant.mirror(url)))
    check(url, plant)
    drop(server, url)
    return found


def catalog_rows(server: Postgres, plant: Plant) -> str:
    """Returns the assets as rows for psql."""
    url = server.new_database("chemical")
    plant.mirror(url)
    command = ["psql", "-X", "-q", "-d", url, "-c", "\\copy assets TO STDOUT"]
    rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    drop(server, url)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--assets", type=int, default=500, help="number of assets with 10,080 minutes each (default 500: 5 million rows)"
    )
    parser.add_argument("--repeat", type=int, default=3, help="number of turns (default 3)")
    data = REPOSITORY / "target" / "bench-mirror"
    parser.add_argument("--data", type=Path, default=data, help="folder of the lake, which is kept")
    args = parser.parse_args()
    binary = os.environ.get("PLANTLAKE_BIN") or str(REPOSITORY / "target" / "release" / "plantlake")
    plant = Plant(str(Path(binary).resolve()), args.data.resolve(), args.assets)
    plant.make()
    server = Postgres()
    try:
        version = psql(server.url, "SHOW server_version")
        assets = catalog_rows(server, plant)
        copies, mirrors = [], []
        for turn in range(args.repeat):
            copies.append(copy_with_psql(server, plant, assets))
            mirrors.append(copy_with_plantlake(server, plant))
            note(f"turn {turn + 1}: psql {copies[-1]:.1f} s, plantlake {mirrors[-1].seconds:.1f} s")
        later = measure_later_runs(server, plant)
    finally:
        server.stop()
    rows = sum(table["sent"] for table in mirrors[0].report["tables"])
    median = statistics.median([measurement.seconds for measurement in mirrors])
    copy = statistics.median(copies)
    print(f"{rows:,} rows, Postgres {version}, {os.cpu_count()} cores, {args.repeat} turns:\n")
    print("| | median | min to max | rows/s | peak memory | / plantlake |\n|---|---|---|---|---|---|")
    spread = [measurement.seconds for measurement in mirrors]
    peak = max(measurement.mib for measurement in mirrors)
    print(f"| `plantlake mirror` into a new database | {median:.1f} s | {min(spread):.1f} to {max(spread):.1f} "
          f"| {rows / median / 1e3:,.0f} k | {peak:.0f} MiB | 1 |")  # fmt: skip
    print(f"| psql `\\copy` from CSV, same keys | {copy:.1f} s | {min(copies):.1f} to {max(copies):.1f} "
          f"| {rows / copy / 1e3:,.0f} k | | {copy / median:.2f} |")  # fmt: skip
    print("\n| a later run | seconds | rows compared | deleted | inserted | peak memory |\n|---|---|---|---|---|---|")
    for title, measurement in later:
        sums = [sum(table[key] for table in measurement.report["tables"]) for key in ("sent", "deleted", "inserted")]
        print(f"| {title} | {measurement.seconds:.2f} | {sums[0]:,} | {sums[1]:,} | {sums[2]:,} | {measurement.mib:.0f} MiB |")
    if median > copy or peak > 512:
        sys.exit("target missed: plantlake must be faster than psql, with at most 512 MiB")


if __name__ == "__main__":
    main()
