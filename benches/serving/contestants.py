"""The data of the benchmarks, which is generated once, and the servers, each a separate process on a loopback port."""

from __future__ import annotations

import atexit
import datetime as dt
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from measure import MIB, memory_of, note

REPOSITORY = Path(__file__).resolve().parents[2]
START = dt.date(2025, 1, 1)
TABLES = {"data_min": "date", "data_h": "month", "data_d": "year"}
PASSWORD = "correct horse battery staple"
DESCRIPTIONS = {
    "plantlake": "plantlake serve, with an organisation that is granted all assets and an API key in each call",
    "roapi": "ROAPI with its default, tables in memory. Its Delta reader cannot load partitioned tables into memory, so "
    "it reads copies of the live files that include the partition column (format=parquet)",
    "roapi-files": "ROAPI on the Delta tables themselves (format=delta, use_memory_table=false)",
    "bare": "benches/serving/bare_flight.rs, which returns the record batches of data_min from memory for every request, without SQL",
    "duckdb": "DuckDB in the client process, which reads the live files with read_parquet, without a server",
}
SQL_SERVERS = ["plantlake", "roapi", "roapi-files"]  # servers that support SQL

# ------------------------------------------------------------------ data


@dataclass(frozen=True)
class Data:
    """A lake and its properties."""

    folder: Path
    assets: list[str]
    days: int
    rows: dict[str, int]
    arrow_mib: dict[str, float]
    files: dict[str, list[str]]
    key: str

    def __str__(self) -> str:
        return f"{len(self.assets)} assets, {self.days} days, {self.rows['data_min']:,} minutes"

    @property
    def all_mib(self) -> float:
        """The size of the tables in Arrow memory, in MiB."""
        return sum(self.arrow_mib.values())

    def lake(self) -> list[str]:
        folder = self.folder
        return ["--lake", str(folder / "lake"), "--state", str(folder / "state"), "--catalog", str(folder / "catalog")]


def make_data(root: Path, rows: int, assets: int, program: Path | None = None) -> Data:
    """Returns a plant without faults with at least `rows` minutes and one whole month. `program` generates it once."""
    days = max(31, -(-rows // (assets * 1_440)))
    folder = root / f"{assets}x{days}"
    done = folder / "made.json"
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        note(f"generating {assets} assets, {days} days of minutes in {folder}")
        build(folder, assets, days, (program or plantlake_binary()).resolve())
    made = json.loads(done.read_text())
    return Data(folder=folder, **made)


def build(folder: Path, assets: int, days: int, program: Path) -> None:
    from deltalake import DeltaTable

    def run(*command: str, stdin: str = "") -> str:
        args = [str(program), "--lake", "lake", "--state", "state", "--catalog", "catalog", "-q", *command]
        finished = subprocess.run(args, cwd=folder, env=environment(), input=stdin, capture_output=True, text=True)
        if finished.returncode != 0:
            raise SystemExit(f"{' '.join(args)} ended with {finished.returncode}:\n{finished.stderr[-2_000:]}")
        return finished.stdout

    run("simulate", "--assets", str(assets), "--days", str(days), "--start", str(START), "--interval", "60s",
        "--shape", "clean", "--seed", "1")  # fmt: skip
    report = json.loads(run("resample", "--json"))
    assert report["outcome"] == "published", report
    run("org", "create", "Bench", "--user-limit", "5")
    run("org", "grant", "Bench", "--all")
    run("user", "create", "ana@bench.example", "--org", "Bench", "--role", "analyst", stdin=PASSWORD + "\n")
    key = json.loads(run("key", "create", "--user", "ana@bench.example", "--name", "bench", "--json"))["key"]
    files = {table: sorted(DeltaTable(folder / "lake" / table).file_uris()) for table in TABLES}
    copied = {table: copy_flat(files[table], folder / "flat" / table, TABLES[table]) for table in TABLES}
    made = {
        "assets": copied["data_d"][2],
        "days": days,
        "rows": report["rows"],
        "arrow_mib": {table: size / MIB for table, (_, size, _) in copied.items()},
        "files": files,
        "key": key,
    }
    assert {table: rows for table, (rows, _, _) in copied.items()} == report["rows"], (copied, report)
    (folder / "made.json").write_text(json.dumps(made))


def copy_flat(files: list[str], folder: Path, partition: str) -> tuple[int, int, list[str]]:
    """Copies `files` with their partition column added. Returns the rows, their bytes in Arrow memory, and the assets."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    rows = size = 0
    assets: set[str] = set()
    for number, path in enumerate(files):
        table = pq.ParquetFile(path).read()
        text = re.search(rf"/{partition}=([^/]+)/", path)[1]
        value = {"date": lambda: pa.scalar(dt.date.fromisoformat(text)), "month": lambda: pa.scalar(text),
                 "year": lambda: pa.scalar(int(text), pa.int32())}[partition]()  # fmt: skip
        table = table.append_column(partition, pa.repeat(value, table.num_rows))
        pq.write_table(table, folder / f"{number:05}.parquet")
        rows += table.num_rows
        size += table.nbytes
        assets.update(table["asset_id"].unique().to_pylist())
    return rows, size, sorted(assets)


def warm_files(data: Data) -> None:
    """Reads the files once, so that every contestant finds them in the page cache."""
    for path in [*(data.folder / "lake").rglob("*.parquet"), *(data.folder / "flat").rglob("*.parquet")]:
        path.read_bytes()


# ------------------------------------------------------------------ programs


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """Returns the environment without the caller's settings, except those of `serve`."""
    kept_prefixes = ("PLANTLAKE_SERVE_",)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PLANTLAKE_") or k.startswith(kept_prefixes)}
    return kept | (more or {})


def plantlake_binary() -> Path:
    path = Path(os.environ.get("PLANTLAKE_BIN") or REPOSITORY / "target" / "release" / "plantlake").resolve()
    if not path.is_file():
        raise SystemExit(f"no plantlake at {path}; run cargo build --release, or set PLANTLAKE_BIN")
    return path


def bare_binary() -> Path | None:
    """Returns the path of `benches/serving/bare_flight.rs`, or of PLANTLAKE_BARE_BIN, or None if it is not built."""
    built = REPOSITORY / "target" / "release" / "examples" / "bare_flight"
    path = Path(os.environ.get("PLANTLAKE_BARE_BIN") or built)
    return path.resolve() if path.is_file() else None


def roapi_binary() -> str | None:
    beside = Path(sys.executable).parent / "roapi"
    return str(beside) if beside.is_file() else shutil.which("roapi")


def available_contestants() -> list[str]:
    """Returns the contestants that are built or installed."""
    found = ["plantlake"]
    found += ["roapi", "roapi-files"] if roapi_binary() else []
    found += ["bare"] if bare_binary() else []
    return [*found, "duckdb"]


# ------------------------------------------------------------------ servers


@dataclass(frozen=True)
class Access:
    """The address of a contestant and the options to connect to it."""

    name: str
    uri: str = ""
    options: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)  # for DuckDB


class Server:
    """A running contestant. DuckDB has no server process."""

    def __init__(self, name: str, data: Data, settings: dict[str, str] | None = None) -> None:
        self.name = name
        self.process: subprocess.Popen | None = None
        if name == "duckdb":
            self.access = Access(name, files=data.files)
            return
        log = data.folder / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        command, self.uri = self._command(name, data)
        note(f"  starting {name}")
        more = settings if name == "plantlake" else {"RUST_LOG": "warn"}  # ROAPI logs each query by default
        with log.open("wb") as errors:
            out = errors if self.uri else subprocess.PIPE
            self.process = subprocess.Popen(
                command, env=environment(more), stdin=subprocess.DEVNULL, stdout=out, stderr=errors
            )
        RUNNING.append(self.process)
        try:
            self._wait(log)
        except BaseException:
            self.stop()
            raise
        options = {"adbc.flight.sql.authorization_header": f"Bearer {data.key}"} if name == "plantlake" else {}
        self.access = Access(name, self.uri, options)
        self.idle_mib = self.memory()["rss_mib"]

    def _command(self, name: str, data: Data) -> tuple[list[str], str]:
        """Returns the command, and the URI if this program chooses the port."""
        if name == "plantlake":
            return [str(plantlake_binary()), *data.lake(), "serve", "--listen", "127.0.0.1:0", "--json"], ""
        if name == "bare":
            return [str(bare_binary()), str(data.folder / "flat" / "data_min")], ""
        ports = free_ports(3)
        addresses = zip(("--addr-flight-sql", "--addr-http", "--addr-postgres"), ports)
        command = [roapi_binary(), *(part for flag, port in addresses for part in (flag, f"127.0.0.1:{port}"))]
        for table in TABLES:
            if name == "roapi":
                source = f"{data.folder}/flat/{table},format=parquet"
            else:
                source = f"{data.folder}/lake/{table},format=delta,use_memory_table=false"
            command += ["-t", f"{table}={source}"]
        return command, f"grpc://127.0.0.1:{ports[0]}"

    def _wait(self, log: Path) -> None:
        """Waits until the server listens."""
        if not self.uri:
            line = self.process.stdout.readline().decode()  # ends when the process does
            found = re.search(r"grpc://127\.0\.0\.1:\d+", line)
            if found:
                self.uri = found[0]
        deadline = time.monotonic() + 300
        while self.uri and self.alive() and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", int(self.uri.rpartition(":")[2])), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{self.name} does not listen:\n{log.read_text(errors='replace')[-2_000:]}")

    def alive(self) -> bool:
        return self.process is None or self.process.poll() is None

    def memory(self) -> dict[str, float]:
        return memory_of(self.process.pid)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


RUNNING: list[subprocess.Popen] = []


@atexit.register
def end_all() -> None:
    for process in RUNNING:
        if process.poll() is None:
            process.kill()


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
