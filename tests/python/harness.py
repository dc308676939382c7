"""Runs the binary, and inspects lakes on the local disk or in a bucket. All tests use this module for both."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

import compare
import reference
from reference import COLUMNS, PARTITION, RESOLUTIONS, Expected, RawFile

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT = float(os.environ.get("PLANTLAKE_TEST_TIMEOUT", "300"))
OK, FAILURE, USAGE, LEFT_OUT, REFUSED = 0, 1, 2, 3, 4
KILLED = -9
EMPTY = pa.table({column: [] for column in COLUMNS})


def binary() -> Path:
    """Returns the path of the plantlake binary under test."""
    path = Path(os.environ.get("PLANTLAKE_BIN") or REPOSITORY / "target" / "debug" / "plantlake").resolve()
    if not path.is_file():
        raise RuntimeError(
            f"no plantlake binary at {path}; build it with `cargo build`, or set PLANTLAKE_BIN to its path"
        )
    return path


def environment(settings: dict[str, str] | None = None) -> dict[str, str]:
    """Returns the environment of a run: without the caller's settings, and with a fixed plausible range of times."""
    removed_prefixes = ("PLANTLAKE_", "AWS_", "DB_", "auth_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(removed_prefixes)}
    return kept | {
        "PLANTLAKE_RESAMPLE_EARLIEST": reference.EARLIEST.isoformat(),
        "PLANTLAKE_RESAMPLE_LATEST": reference.LATEST.isoformat(),
        "RUST_BACKTRACE": "0",
        **(settings or {}),
    }


@dataclass
class Finished:
    """A finished run of the binary."""

    command: list[str]
    settings: dict[str, str]
    code: int
    out: bytes
    err: str
    seconds: float

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self) -> dict:
        """The single JSON object on standard output."""
        try:
            return json.loads(self.text)
        except json.JSONDecodeError as error:
            raise AssertionError(f"standard output is not one JSON object ({error})\n{self}") from error

    def __str__(self) -> str:
        settings = " ".join(f"{key}={value}" for key, value in self.settings.items() if "SECRET" not in key)
        out = self.out[:4_000].decode(errors="replace")
        return (
            f"$ {settings} {' '.join(self.command)}\nexit code {self.code} after {self.seconds:.2f} s\n"
            f"--- standard output\n{out}\n--- standard error\n{self.err[-4_000:]}"
        )

    def expect(self, *codes: int) -> "Finished":
        assert self.code in codes, f"expected exit code {' or '.join(map(str, codes))}\n{self}"
        assert "panicked at" not in self.err, f"the binary panicked\n{self}"
        return self


def start(args: list[str], settings: dict[str, str] | None = None, cwd: Path | None = None, **options) -> subprocess.Popen:
    """Starts the binary without waiting for its end. `options` are options of the process."""
    return subprocess.Popen(
        [str(options.pop("program", binary())), *args],
        env=environment(settings),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def small_disk(max_bytes: int) -> dict:
    """Returns process options that limit the size of each file to `max_bytes`, which simulates a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))

    # Python ignores SIGXFSZ, which would otherwise end the process; with `restore_signals=False`, child processes inherit that.
    return {"preexec_fn": limit, "restore_signals": False}


def finish(process: subprocess.Popen, began: float, settings: dict[str, str] | None = None) -> Finished:
    """Waits for a started run."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += f"\n(the test killed the process after {TIMEOUT:.0f} s)".encode()
    seconds = time.monotonic() - began
    return Finished(process.args, settings or {}, process.returncode, out, err.decode(errors="replace"), seconds)


def run(args: list[str], settings: dict[str, str] | None = None, cwd: Path | None = None, **options) -> Finished:
    """Runs the binary and waits for its end."""
    began = time.monotonic()
    return finish(start(args, settings, cwd, **options), began, settings)


@dataclass(frozen=True)
class DataFile:
    """A file of a Delta table, as recorded in its log."""

    path: str
    partition: str
    rows: int
    statistics: dict


def data_files(name: str, table: DeltaTable | None) -> list[DataFile]:
    """Returns the files of a loaded table, with their partition values as text."""
    if table is None:
        return []
    return [
        DataFile(
            unquote(action["path"]),
            str(action[f"partition.{PARTITION[name]}"]),
            action["num_records"],
            {key: value for key, value in action.items() if key.startswith(("min.", "max.", "null_count."))},
        )
        for action in pa.table(table.get_add_actions(flatten=True)).to_pylist()
    ]


class Lake(ABC):
    """A lake, with the actions and queries that tests need."""

    def __init__(self, url: str, folder: Path, settings: dict[str, str] | None = None) -> None:
        self.url = url
        self.folder = folder  # on this machine: contains the state, and is the working folder
        self.state = folder / "state"
        self.settings = settings or {}
        self.ignored_columns: set[str] = set()  # columns that tables may have besides the reference's
        folder.mkdir(parents=True, exist_ok=True)

    # ---- the binary

    def args(self, command: list[str]) -> list[str]:
        return ["--lake", self.url, "--state", str(self.state), "--catalog", str(self.folder / "catalog"), *command]

    def run(self, *command: str, settings: dict[str, str] | None = None, **options) -> Finished:
        return run(self.args(list(command)), self.settings | (settings or {}), self.folder, **options)

    def start(self, *command: str, settings: dict[str, str] | None = None) -> subprocess.Popen:
        return start(self.args(list(command)), self.settings | (settings or {}), self.folder)

    def resample(self, *flags: str, settings: dict[str, str] | None = None) -> Finished:
        """Runs `plantlake resample`. The caller checks the exit code."""
        return self.run("resample", "--json", *flags, settings=settings)

    def query(self, sql: str) -> pd.DataFrame:
        """Queries the published versions through plantlake."""
        finished = self.run("query", sql, "--format", "parquet").expect(OK)
        return pq.read_table(io.BytesIO(finished.out)).to_pandas()

    # ---- raw files

    @abstractmethod
    def put(self, path: str, data: bytes, mtime_ns: int | None = None) -> None:
        """Writes or replaces a raw file. A bucket ignores `mtime_ns` and sets its own time."""

    @abstractmethod
    def remove(self, path: str) -> None: ...

    @abstractmethod
    def mtimes(self) -> dict[str, int]:
        """Returns the modification times of the raw files, by path relative to raw."""

    @abstractmethod
    def copy_raw_files(self) -> tuple["Lake", list[str]]:
        """Returns a fresh lake with the same raw files in the same order, and the flags that its runs need."""

    # ---- all files of the lake

    @abstractmethod
    def snapshot(self) -> dict[str, object]:
        """Returns a state of the lake, without raw files and locks, that differs after any change."""

    @contextmanager
    def assert_unchanged(self) -> Iterator[None]:
        """Checks that the block writes nothing to the lake, so that others can use it, too."""
        before = self.snapshot()
        yield
        assert self.snapshot() == before, "a lake that several tests read was changed"

    @abstractmethod
    def read(self, path: str) -> bytes: ...

    @abstractmethod
    def listing(self, folder: str) -> list[str]: ...

    @property
    @abstractmethod
    def storage_options(self) -> dict[str, str]: ...

    # ---- tables

    def delta(self, name: str, version: int | None = None) -> DeltaTable | None:
        try:
            return DeltaTable(f"{self.url}/{name}", version=version, storage_options=self.storage_options)
        except TableNotFoundError:
            return None

    def published(self) -> dict | None:
        """Returns the latest publication."""
        names = [name for name in self.listing("published") if name.endswith(".json")]
        if not names:
            return None
        latest = max(names, key=lambda name: int(Path(name).stem))
        return json.loads(self.read(f"published/{latest}"))

    def data_files(self, name: str, version: int | None = None) -> list[DataFile]:
        """Returns the files of a table, with their partition values as text."""
        return data_files(name, self.delta(name, version))

    def table(self, name: str, version: int | None = None) -> pd.DataFrame:
        """Returns a table, read by the deltalake package, in the reference's form, and checks its columns and partitions."""
        return self.rows(name, self.delta(name, version))

    def rows(self, name: str, table: DeltaTable | None) -> pd.DataFrame:
        """Returns the rows of a loaded table as `table` does."""
        if table is None:
            return compare.to_frame(EMPTY)
        arrow = pa.table(table.to_pyarrow_table())
        columns = [column for column in arrow.column_names if column not in self.ignored_columns]
        assert columns == [*COLUMNS, PARTITION[name]], f"columns of {name}: {arrow.column_names}"
        compare.check_partitions(name, arrow)
        return compare.sort_rows(compare.to_frame(arrow))

    def tables(self) -> dict[str, pd.DataFrame]:
        """Returns the three tables at their latest versions."""
        return {name: self.table(name) for name in RESOLUTIONS}

    def published_tables(self) -> dict[str, pd.DataFrame]:
        versions = (self.published() or {"versions": {}})["versions"]
        return {
            name: self.table(name, versions[name]) if versions.get(name) is not None else compare.to_frame(EMPTY)
            for name in RESOLUTIONS
        }

    def check_files(self) -> None:
        """Checks that every file is sorted, and that its row count and statistics in the log are correct."""
        for name in RESOLUTIONS:
            self.check_data_files(name, self.data_files(name))

    def check_data_files(self, name: str, files: list[DataFile]) -> None:
        """Checks these files of a table as `check_files` does."""
        for file in files:
            table = pq.ParquetFile(pa.BufferReader(self.read(f"{name}/{file.path}"))).read()
            compare.check_data_file(f"{name}/{file.path}", table, file.rows, file.statistics)

    # ---- the reference

    def raw_files(self, tables: dict[str, pa.Table]) -> list[RawFile]:
        """Returns the readable raw files, whose contents the caller knows, with their modification times in the store."""
        mtimes = self.mtimes()
        return [RawFile(path, mtimes[path], table) for path, table in tables.items()]


def _is_lock(path: str) -> bool:
    return path.endswith(".lock") or path.startswith("lease/")


class LocalLake(Lake):
    """A lake in a folder."""

    def __init__(self, root: Path, settings: dict[str, str] | None = None) -> None:
        super().__init__(str(root / "lake"), root, settings)
        self.root = root / "lake"
        self.raw = self.root / "raw"
        self.raw.mkdir(parents=True, exist_ok=True)
        self._number = 0

    def put(self, path: str, data: bytes, mtime_ns: int | None = None) -> None:
        target = self.raw / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # The file is written outside raw and then moved in, so that a listing never sees a partial file and a replaced file has
        # a new inode.
        temporary = self.root.parent / "incoming"
        temporary.write_bytes(data)
        if mtime_ns is not None:
            os.utime(temporary, ns=(mtime_ns, mtime_ns))
        temporary.replace(target)

    def touch(self, path: str, mtime_ns: int) -> None:
        os.utime(self.raw / path, ns=(mtime_ns, mtime_ns))

    def remove(self, path: str) -> None:
        (self.raw / path).unlink()

    def mtimes(self) -> dict[str, int]:
        return {
            path.relative_to(self.raw).as_posix(): path.stat().st_mtime_ns
            for path in self.raw.rglob("*")
            if path.is_file()
        }

    def copy_raw_files(self) -> tuple[Lake, list[str]]:
        self._number += 1
        root = self.root.parent / f"copy{self._number}"
        copy = LocalLake(root, self.settings)
        shutil.copytree(self.raw, copy.raw, dirs_exist_ok=True, copy_function=shutil.copy2)
        return copy, []

    def snapshot(self) -> dict[str, object]:
        found = {}
        for path in self.root.rglob("*"):
            name = path.relative_to(self.root).as_posix()
            if path.is_file() and not name.startswith("raw/") and not _is_lock(name):
                status = path.stat()
                found[name] = (status.st_size, status.st_mtime_ns, status.st_ino)
        return found

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def listing(self, folder: str) -> list[str]:
        return os.listdir(self.root / folder) if (self.root / folder).is_dir() else []

    @property
    def storage_options(self) -> dict[str, str]:
        return {}


@dataclass
class Bucket:
    """A bucket on an S3 server."""

    endpoint: str
    name: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"
    _client: object = field(default=None, repr=False)

    @classmethod
    def from_environment(cls) -> "Bucket":
        value = os.environ.get
        return cls(
            value("PLANTLAKE_TEST_S3_ENDPOINT", ""),
            value("PLANTLAKE_TEST_S3_BUCKET", "plantlake"),
            value("PLANTLAKE_TEST_S3_ACCESS_KEY", ""),
            value("PLANTLAKE_TEST_S3_SECRET_KEY", ""),
        )

    @property
    def client(self):
        import boto3  # from tests/s3/requirements.txt

        if self._client is None:
            self._client = boto3.client(
                "s3",
                endpoint_url=self.endpoint,
                aws_access_key_id=self.access_key,
                aws_secret_access_key=self.secret_key,
                region_name=self.region,
            )
        return self._client

    @property
    def settings(self) -> dict[str, str]:
        """The settings of plantlake for this bucket."""
        return {
            "PLANTLAKE_STORAGE_AWS_ENDPOINT": self.endpoint,
            "PLANTLAKE_STORAGE_AWS_ACCESS_KEY_ID": self.access_key,
            "PLANTLAKE_STORAGE_AWS_SECRET_ACCESS_KEY": self.secret_key,
            "PLANTLAKE_STORAGE_AWS_REGION": self.region,
            "PLANTLAKE_STORAGE_AWS_ALLOW_HTTP": "true",
        }

    def keys(self, prefix: str) -> list[dict]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [entry for page in pages for entry in page.get("Contents", [])]


class S3Lake(Lake):
    """A lake in a bucket."""

    def __init__(self, bucket: Bucket, prefix: str, folder: Path) -> None:
        super().__init__(f"s3://{bucket.name}/{prefix}", folder, bucket.settings)
        self.bucket = bucket
        self.prefix = prefix
        self._number = 0

    def put(self, path: str, data: bytes, mtime_ns: int | None = None) -> None:
        self.bucket.client.put_object(Bucket=self.bucket.name, Key=f"{self.prefix}/raw/{path}", Body=data)

    def remove(self, path: str) -> None:
        self.bucket.client.delete_object(Bucket=self.bucket.name, Key=f"{self.prefix}/raw/{path}")

    def mtimes(self) -> dict[str, int]:
        prefix = f"{self.prefix}/raw/"
        return {
            entry["Key"].removeprefix(prefix): round(entry["LastModified"].timestamp() * 1_000_000) * 1_000
            for entry in self.bucket.keys(prefix)
        }

    def copy_raw_files(self) -> tuple[Lake, list[str]]:
        self._number += 1
        number = f"copy{self._number}"
        copy = S3Lake(self.bucket, f"{self.prefix}-{number}", self.folder / number)
        return copy, ["--raw", f"{self.url}/raw"]

    def snapshot(self) -> dict[str, object]:
        found = {entry["Key"].removeprefix(f"{self.prefix}/"): entry for entry in self.bucket.keys(f"{self.prefix}/")}
        return {
            name: (entry["Size"], entry["ETag"], entry["LastModified"])
            for name, entry in found.items()
            if not name.startswith("raw/") and not _is_lock(name)
        }

    def read(self, path: str) -> bytes:
        return self.bucket.client.get_object(Bucket=self.bucket.name, Key=f"{self.prefix}/{path}")["Body"].read()

    def listing(self, folder: str) -> list[str]:
        prefix = f"{self.prefix}/{folder}/"
        return [entry["Key"].removeprefix(prefix) for entry in self.bucket.keys(prefix)]

    @property
    def storage_options(self) -> dict[str, str]:
        return {
            "aws_endpoint": self.bucket.endpoint,
            "aws_access_key_id": self.bucket.access_key,
            "aws_secret_access_key": self.bucket.secret_key,
            "aws_region": self.bucket.region,
            "aws_allow_http": "true",
            "aws_conditional_put": "etag",
        }


def assert_expected(lake: Lake, expected: Expected) -> dict[str, list[DataFile]]:
    """Checks that the lake's tables equal the reference, and are published, sorted and free of duplicates. Returns their
    files."""
    # Each table is loaded once, for all of its checks.
    loaded = {name: lake.delta(name) for name in RESOLUTIONS}
    latest = {name: lake.rows(name, table) for name, table in loaded.items()}
    compare.all_same_as_reference(latest, expected)
    files = {name: data_files(name, table) for name, table in loaded.items()}
    for name in RESOLUTIONS:
        lake.check_data_files(name, files[name])
    publication = lake.published()
    if publication is None:
        assert not any(len(table) for table in latest.values()), "the tables have rows, but nothing is published"
        return files
    for name, table in loaded.items():
        if table is not None:
            recorded = publication["versions"].get(name)
            assert recorded == table.version(), f"{name} is at version {table.version()}, but version {recorded} is published"
    return files
