#!/usr/bin/env python3
"""A benchmark of plantlake, DuckDB, polars and a bare scan on the same columns of the same files.

Every measurement is a separate process, with its own peak memory. The contestants alternate, so that changes of the
machine's speed affect all of them. `benches/README.md` has the commands.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import contestants

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_DATA = REPOSITORY / "target" / "bench-resample"
DAY_SECONDS = 86_400
MIB = 1024 * 1024

# ------------------------------------------------------------------ data


def asset_id(number: int) -> str:
    import random
    import uuid

    return str(uuid.UUID(int=random.Random(f"plantlake bench {number}").getrandbits(128), version=4))


@dataclass(frozen=True)
class Shape:
    """The shape of the raw data, with one file per asset."""

    assets: int
    readings: int  # in each file
    shuffled: bool = False  # rows within each file
    interval: int = 10  # seconds
    start: str = "2024-01-01"
    maker: str = "pyarrow"

    @property
    def label(self) -> str:
        order = "-shuffled" if self.shuffled else ""
        return f"{self.assets}x{self.readings}-{self.interval}s{order}-{self.maker}"

    def __str__(self) -> str:
        order = "shuffled within each file" if self.shuffled else "in time order"
        years = self.readings * self.interval / DAY_SECONDS / 365.25
        return f"{self.assets} files of {self.readings:,} readings, {self.interval} s apart ({years:.2f} years), {order}"


def write_file(path: Path, shape: Shape, number: int, first: int, readings: int) -> None:
    """Writes one asset's readings from `first` to `first + readings`, as pyarrow writes them by default."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng([number, first])
    step = np.arange(first, first + readings, dtype=np.int64)
    start = np.datetime64(shape.start, "us").astype(np.int64)
    times = start + step * shape.interval * 1_000_000
    values = 50 + 20 * np.sin(step * (2 * np.pi * shape.interval / DAY_SECONDS)) + random.normal(0, 1, readings)
    if shape.shuffled:
        order = random.permutation(readings)
        times, values = times[order], values[order]
    ids = pa.DictionaryArray.from_arrays(np.zeros(readings, np.int32), pa.array([asset_id(number)]))
    table = pa.table(
        {
            "id": ids.cast(pa.string()),
            "timestamp": pa.array(times).cast(pa.timestamp("us", "UTC")),
            "value": pa.array(values),
        }
    )
    partial = path.with_suffix(".partial")
    pq.write_table(table, partial)
    partial.rename(path)


def _write_one(job: tuple) -> None:
    write_file(*job)


def make_data(folder: Path, shape: Shape) -> Path:
    """Generates the raw folder `<folder>/raw` unless it exists."""
    raw = folder / "raw"
    done = folder / "made.json"
    if done.is_file() and json.loads(done.read_text()) == asdict(shape):
        return raw
    shutil.rmtree(folder, ignore_errors=True)
    raw.mkdir(parents=True)
    note(f"generating {shape}, with {shape.maker}, in {raw}")
    if shape.maker == "simulate":
        simulate(folder, shape)
    else:
        add_files(raw, shape, 0, shape.readings, "")
    done.write_text(json.dumps(asdict(shape)))
    return raw


def add_files(raw: Path, shape: Shape, first: int, readings: int, suffix: str) -> None:
    jobs = [(raw / f"{n:04}{suffix}.parquet", shape, n, first, readings) for n in range(shape.assets)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_write_one, jobs))


def simulate(folder: Path, shape: Shape) -> None:
    if shape.shuffled:
        raise SystemExit("--maker simulate writes readings in time order; use --maker pyarrow with --shuffled")
    days = -(-shape.readings * shape.interval // DAY_SECONDS)
    subprocess.run(
        [plantlake_binary(), "--lake", folder, "--catalog", folder / "catalog", "simulate", "--assets", str(shape.assets),
         "--days", str(days), "--start", shape.start, "--interval", f"{shape.interval}s", "--shape", "clean", "--seed", "1",
         "--json"],
        check=True, env=clean_environment(), stdout=subprocess.DEVNULL,
    )  # fmt: skip


def folder_bytes(path: Path) -> int:
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


# ------------------------------------------------------------------ measurement


def clean_environment(more: dict[str, str] | None = None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PLANTLAKE_")}
    settings = {key: value for key, value in os.environ.items() if key.startswith("PLANTLAKE_RESAMPLE_")}
    return kept | settings | (more or {})


def plantlake_binary() -> Path:
    path = Path(os.environ.get("PLANTLAKE_BIN") or REPOSITORY / "target" / "release" / "plantlake").resolve()
    if not path.is_file():
        raise SystemExit(f"no plantlake at {path}; run cargo build --release, or set PLANTLAKE_BIN")
    return path


def scan_binary() -> Path | None:
    """Returns the path of `benches/resample/bare_scan.rs`, or of PLANTLAKE_SCAN_BIN, or None if it is not built."""
    path = Path(os.environ.get("PLANTLAKE_SCAN_BIN") or REPOSITORY / "target" / "release" / "examples" / "bare_scan")
    return path.resolve() if path.is_file() else None


def measure(command: list[object], environment: dict[str, str] | None = None) -> dict:
    """Runs a process and returns its wall-clock seconds, CPU seconds and peak resident memory (wait4)."""
    began = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command], env=clean_environment(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = read_both(process)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = (out + err).decode(errors="replace")[-2_000:]
        raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{tail}")
    unit = 1 if platform.system() == "Darwin" else 1024
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu": cpu, "peak_mib": usage.ru_maxrss * unit / MIB, "out": out.decode()}


def read_both(process: subprocess.Popen) -> tuple[bytes, bytes]:
    """Reads standard output and error to their ends, without reaping the process."""
    import threading

    found: dict[str, bytes] = {}
    reader = threading.Thread(target=lambda: found.update(err=process.stderr.read()))
    reader.start()
    out = process.stdout.read()
    reader.join()
    return out, found["err"]


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def warm_files(raw: Path) -> None:
    """Reads the files once, so that every contestant finds them in the page cache."""
    for path in raw.rglob("*.parquet"):
        with path.open("rb") as file:
            while file.read(16 * MIB):
                pass


def warm_memory(mib: int = 10_240) -> None:
    """Touches free memory, so that every contestant finds memory that the host has already provided. A virtual machine returns
    free pages to its host after some seconds, and the first access to such a page takes ten times longer; otherwise the
    first process after a pause would pay for that. The return starts two seconds after pages are freed and covers all free
    pages. So wait for it, then touch more memory than any contestant leaves behind, and run at once."""
    # A separate process, because the peak memory of a child includes that of its parent at the start.
    mib = min(mib, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // MIB * 3 // 4)
    script = f"""
import mmap
memory = mmap.mmap(-1, {mib} << 20)
memory.madvise(mmap.MADV_HUGEPAGE)
for offset in range(0, {mib} << 20, 1 << 20):
    memory[offset : offset + (1 << 20)] = bytes([1]) * (1 << 20)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


class Bench:
    def __init__(self, options: argparse.Namespace, raw: Path, work: Path) -> None:
        self.options, self.raw, self.work = options, raw, work
        self.binary = plantlake_binary() if "plantlake" in options.contestants else None

    def fresh(self, name: str) -> Path:
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def plantlake(self) -> dict:
        folder = self.fresh("plantlake")
        more = {"PLANTLAKE_RESAMPLE_THREADS": str(self.options.threads)} if self.options.threads else {}
        result = measure(
            [self.binary, "--lake", folder / "lake", "--state", folder / "state", "resample", "--raw", self.raw, "--json"],
            more,
        )
        report = json.loads(result["out"])
        assert report["outcome"] == "published", report
        result["rows"] = report["rows"]
        result["written_mib"] = folder_bytes(folder / "lake") / MIB
        return result

    def worker(self, name: str, kind: str) -> dict:
        folder = self.fresh(name)
        command = [sys.executable, Path(__file__).resolve(), "--worker", name, kind or "all", self.raw, folder]
        more = {}
        if self.options.threads:
            command += ["--threads", self.options.threads]
            more["POLARS_MAX_THREADS"] = str(self.options.threads)
        result = measure(command, more)
        result["written_mib"] = folder_bytes(folder) / MIB
        shutil.rmtree(folder)
        return result

    def scan(self) -> dict:
        """Measures a bare read of the three columns by DataFusion. The program prints the duration of the scan itself."""
        result = measure([scan_binary(), *self.options.scan_args, self.raw])
        words = result["out"].split()
        result["process_seconds"] = result["seconds"]
        result["seconds"] = next((float(word) for word in reversed(words) if is_number(word)), result["seconds"])
        return result

    def run(self, name: str) -> dict:
        if name == "plantlake":
            return self.plantlake()
        if name == "scan":
            return self.scan()
        engine, _, kind = name.partition("-")
        return self.worker(engine, kind)

    def compete(self) -> dict[str, dict]:
        results: dict[str, list[dict]] = {name: [] for name in self.options.contestants}
        for turn in range(self.options.repeat):
            for name in self.options.contestants:
                shutil.rmtree(self.work, ignore_errors=True)
                os.sync()  # completes writes and deletions of the previous process
                warm_files(self.raw)
                if not self.options.cold_memory:
                    time.sleep(6)  # until the machine has returned freed memory; see warm_memory
                    warm_memory()
                result = self.run(name)
                results[name].append(result)
                note(f"  turn {turn + 1}: {name:16} {result['seconds']:8.2f} s  {result['peak_mib']:8.0f} MiB")
        return {name: summary(runs) for name, runs in results.items()}


def is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def summary(results: list[dict]) -> dict:
    seconds = [result["seconds"] for result in results]
    found = {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "cpu_s": statistics.median(result["cpu"] for result in results),
        "peak_mib": max(result["peak_mib"] for result in results),
        "runs": len(results),
    }
    if "written_mib" in results[-1]:
        found["written_mib"] = results[-1]["written_mib"]
    return found


def show(title: str, found: dict[str, dict]) -> None:
    print(f"\n{title}")
    base = found.get("plantlake", {}).get("median_s")
    print(f"{'':18}{'median s':>10}{'min':>8}{'max':>8}{'CPU s':>8}{'peak MiB':>10}{'written MiB':>13}{'/ plantlake':>13}")
    for name, row in found.items():
        ratio = f"{row['median_s'] / base:.2f}" if base else ""
        written = f"{row['written_mib']:.0f}" if "written_mib" in row else ""
        print(
            f"{name:18}{row['median_s']:10.2f}{row['min_s']:8.2f}{row['max_s']:8.2f}{row['cpu_s']:8.1f}"
            f"{row['peak_mib']:10.0f}{written:>13}{ratio:>13}"
        )


# ------------------------------------------------------------------ benchmarks


def compare_contestants(options: argparse.Namespace, shape: Shape) -> dict:
    raw = make_data(options.data / shape.label, shape)
    bench = Bench(options, raw, options.data / "work")
    found = bench.compete()
    title = f"{shape}, {folder_bytes(raw) / MIB:.0f} MiB; {machine()}"
    if not options.json:
        show(title, found)
    return {"title": title, "shape": asdict(shape), "results": found}


def incremental(options: argparse.Namespace) -> dict:
    """Measures a run with one new file of one new day per asset, after many days, and a full run over all files."""
    readings_per_day = DAY_SECONDS // 10
    shape = Shape(options.assets, options.days * readings_per_day)
    folder = options.data / f"incremental-{shape.label}"
    raw = make_data(folder, shape)
    resample = [plantlake_binary(), "resample", "--raw", raw, "--json"]
    turns = []
    for turn in range(options.repeat):
        for path in raw.glob("*-new.parquet"):
            path.unlink()
        lakes = options.data / "work" / "incremental"
        shutil.rmtree(lakes, ignore_errors=True)
        one = [*resample, "--lake", lakes / "one", "--state", lakes / "one-state"]
        two = [*resample, "--lake", lakes / "two", "--state", lakes / "two-state"]
        warm_files(raw)
        before = measure(one)
        add_files(raw, shape, shape.readings, readings_per_day, "-new")
        new_day = measure(one)
        report = json.loads(new_day["out"])
        assert (report["files"]["new"], report["dates"]["count"]) == (options.assets, 1), report
        results = {"before": before, "new_day": new_day, "nothing_to_do": measure(one), "full": measure(two)}
        turns.append(results)
        note(f"  turn {turn + 1}: " + ", ".join(f"{name} {result['seconds']:.2f} s" for name, result in results.items()))
        shutil.rmtree(lakes)
    found = {name: summary([turn[name] for turn in turns]) for name in turns[0]}
    share = found["new_day"]["median_s"] / found["full"]["median_s"]
    title = f"{options.assets} assets: {options.days} days, then one new day; {machine()}"
    if not options.json:
        show(title, found)
        print(f"a new day takes {share:.1%} of a full run")
    return {"title": title, "results": found, "new_day_share": share}


def scale(options: argparse.Namespace) -> dict:
    """Measures peak memory with 100 million readings, with three times the assets, and with ten years of thirty assets."""
    divisor = 100 if options.quick else 1
    ten_years = 3_650 * DAY_SECONDS
    shapes = {
        "100 million": Shape(100, 1_000_000 // divisor),
        "300 assets": Shape(300, 1_000_000 // divisor),
        "ten years of 30": Shape(30, 10_000_000 // divisor, interval=ten_years // (10_000_000 // divisor), start="2014-01-01"),
    }
    if not options.contestants_given:
        options.contestants = ["plantlake"]
    found = {}
    for label, shape in shapes.items():
        found[label] = compare_contestants(options, shape)
        if not options.keep_data:
            shutil.rmtree(options.data / shape.label, ignore_errors=True)
    peaks = {label: each["results"]["plantlake"]["peak_mib"] for label, each in found.items()}
    if not options.json:
        base = peaks["100 million"]
        print("\npeak memory of plantlake")
        for label, peak in peaks.items():
            print(f"  {label:16}{peak:8.0f} MiB, {peak / base:.2f} of that with 100 million readings")
    return {"shapes": found, "peaks_mib": peaks}


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return f"{len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=int, default=100, help="number of files, one per asset [100]")
    parser.add_argument("--readings", type=int, default=1_000_000, help="readings per file, 10 s apart [1000000]")
    parser.add_argument("--shuffled", action="store_true", help="rows of each file in random order")
    parser.add_argument("--maker", choices=["pyarrow", "simulate"], default="pyarrow", help="the writer of the files [pyarrow]")
    parser.add_argument(
        "--minimal", action="store_true", help="DuckDB and polars: only count, sum, min, max per minute, without output files"
    )
    parser.add_argument(
        "--contestants",
        help="comma-separated, of plantlake,duckdb,polars,scan; duckdb and polars also with -minute (minutes only) and "
        "-minimal [plantlake,duckdb,polars, and scan if it is built]",
    )
    parser.add_argument("--repeat", type=int, default=3, help="number of turns, whose median is printed [3]")
    parser.add_argument("--threads", type=int, help="threads of each contestant [number of cores]")
    parser.add_argument("--incremental", action="store_true", help="compare a run with one new day to a full run")
    parser.add_argument("--days", type=int, default=115, help="days before the new day, with --incremental [115]")
    parser.add_argument("--scale", action="store_true", help="peak memory for 100 and 300 million readings, and for ten years")
    parser.add_argument(
        "--quick", action="store_true", help="with --scale: a hundredth of the data, to test the benchmark itself"
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder for data and results [target/bench-resample]")
    parser.add_argument("--keep-data", action="store_true", help="with --scale: keep the data for later runs")
    parser.add_argument("--cold-memory", action="store_true", help="do not touch free memory before each run")
    parser.add_argument("--scan-args", nargs="*", default=[], help="arguments of PLANTLAKE_SCAN_BIN before the folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--worker", nargs=4, metavar=("NAME", "KIND", "RAW", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.data = options.data.resolve()
    options.contestants_given = options.contestants is not None
    if options.contestants:
        options.contestants = options.contestants.split(",")
    else:
        engines = ["duckdb-minimal", "polars-minimal"] if options.minimal else ["duckdb", "polars"]
        options.contestants = ["plantlake", *engines] + (["scan"] if scan_binary() else [])
    return options


def main() -> None:
    options = arguments()
    if options.worker:
        name, kind, raw, out = options.worker
        contestants.WORKERS[name](Path(raw), Path(out), kind, options.threads)
        return
    if options.incremental:
        found = incremental(options)
    elif options.scale:
        found = scale(options)
    else:
        found = compare_contestants(options, Shape(options.assets, options.readings, options.shuffled, maker=options.maker))
    if options.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
