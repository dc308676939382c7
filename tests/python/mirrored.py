"""A mirror in a real Postgres. Its contents are read with psql and compared with the lake as read by `deltalake`."""

from __future__ import annotations

import datetime as dt
import json
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field

import pandas as pd
import pyarrow as pa
import pyarrow.csv as csv

import compare
from databases import client_program, psql
from harness import EMPTY, FAILURE, OK, Finished, Lake, finish
from reference import COLUMNS, MICROS_PER_DAY, RESOLUTIONS, day_number

SETTING = {"data_min": "PLANTLAKE_MIRROR_WINDOW_MIN", "data_h": "PLANTLAKE_MIRROR_WINDOW_H", "data_d": "PLANTLAKE_MIRROR_WINDOW_D"}
# The windows contain most dates of `writers`. Some dates leave them as the clock advances.
NOW = dt.date(2024, 3, 5)
WINDOWS = {"data_min": 67, "data_h": 100, "data_d": 30_000}
READ_TABLES = "".join(
    f"""\\echo {name}
COPY (SELECT asset_id, (extract(epoch FROM timestamp) * 1000000)::bigint, {", ".join(COLUMNS[2:])}
      FROM {name} ORDER BY asset_id, timestamp) TO STDOUT (FORMAT csv, NULL 'null');
"""
    for name in RESOLUTIONS
)


@dataclass
class MirrorContents:
    """The contents of the mirror at one point in time."""

    tables: dict[str, pd.DataFrame]
    assets: list[dict]

    def counts(self) -> dict[str, int]:
        return {name: len(table) for name, table in self.tables.items()}


def read_mirror(url: str) -> MirrorContents:
    """Reads everything in one transaction, which sees a single state."""
    sql = (
        f"BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT 1;\n{READ_TABLES}\\echo assets\n"
        "SELECT coalesce(json_agg(a ORDER BY id), '[]') FROM assets AS a;\nCOMMIT;\n"
    )
    command = [client_program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", "-"]
    done = subprocess.run(command, input=sql, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"psql: {done.stderr}"
    parts = re.split(r"^(data_min|data_h|data_d|assets)$\n", done.stdout, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2]))
    return MirrorContents({name: parse_rows(found[name]) for name in RESOLUTIONS}, json.loads(found["assets"]))


def parse_rows(text: str) -> pd.DataFrame:
    """Returns the rows that psql printed as CSV, in the reference's form. Numbers are parsed exactly."""
    if not text.strip():
        return compare.to_frame(EMPTY)
    numbers = {column: pa.int64() if column == "count" else pa.float64() for column in COLUMNS[2:]}
    table = csv.read_csv(
        pa.py_buffer(text.encode()),
        csv.ReadOptions(column_names=COLUMNS),
        convert_options=csv.ConvertOptions(
            column_types={"asset_id": pa.string(), "timestamp": pa.int64()} | numbers, null_values=["null"]
        ),
    )
    return compare.to_frame(table)


def first_dates(now: dt.date, windows: dict[str, int]) -> dict[str, int]:
    return {name: day_number(now) - days for name, days in windows.items()}


def rows_inside(tables: dict[str, pd.DataFrame], firsts: dict[str, int]) -> dict[str, pd.DataFrame]:
    """Returns the rows inside the windows."""
    return {
        name: table[table["timestamp"] >= firsts[name] * MICROS_PER_DAY].reset_index(drop=True) for name, table in tables.items()
    }


@dataclass
class Mirror:
    """The mirror of a lake."""

    lake: Lake
    url: str
    now: dt.date = NOW
    windows: dict[str, int] = field(default_factory=lambda: dict(WINDOWS))

    def __post_init__(self) -> None:
        folder = self.lake.folder / "catalog"
        if not folder.exists():
            self.catalog([])

    @property
    def settings(self) -> dict[str, str]:
        windows = {SETTING[name]: f"{days}d" for name, days in self.windows.items()}
        return {
            "PLANTLAKE_MIRROR_URL": self.url,
            "PLANTLAKE_FAILPOINT_NOW": f"{self.now}T12:00:00Z",
            "PLANTLAKE_MIRROR_RETRY_FOR": "0s",
            **windows,
        }

    def catalog(self, assets: list[dict]) -> None:
        folder = self.lake.folder / "catalog"
        folder.mkdir(exist_ok=True)
        (folder / "assets.json").write_text(json.dumps(assets))

    def run(self, *flags: str, settings: dict[str, str] | None = None) -> Finished:
        return self.lake.run("mirror", "--json", *flags, settings=self.settings | (settings or {}))

    def mirror(self, *flags: str, settings: dict[str, str] | None = None) -> dict:
        """Runs the mirror, expects success, and returns its report."""
        return self.run(*flags, settings=settings).expect(OK).json

    def start(self, *flags: str, settings: dict[str, str] | None = None) -> subprocess.Popen:
        return self.lake.start("mirror", "--json", *flags, settings=self.settings | (settings or {}))

    def stopped(self, point: str, settings: dict[str, str] | None = None) -> "Stopped":
        """Starts a run that stops itself at a failpoint."""
        return Stopped(self.start(settings=(settings or {}) | {"PLANTLAKE_FAILPOINT_STOP": point}))

    def psql(self, sql: str) -> str:
        return psql(self.url, sql)

    # ---- checks

    def expected_tables(self) -> dict[str, pd.DataFrame]:
        """Returns the published rows of the lake inside the windows."""
        return rows_inside(self.lake.published_tables(), first_dates(self.now, self.windows))

    def assert_rows(self, expected: dict[str, pd.DataFrame], when: str, allow_old_rows: bool = False) -> MirrorContents:
        """Checks that the mirror holds these rows to the bit, and returns its contents. With `allow_old_rows`, rows before the
        windows are ignored."""
        seen = read_mirror(self.url)
        tables = rows_inside(seen.tables, first_dates(self.now, self.windows)) if allow_old_rows else seen.tables
        try:
            compare.all_same_bits(tables, expected)
        except AssertionError as error:
            raise AssertionError(f"{when}, the mirror (actual) differs from the lake (expected): {error}") from None
        known = {asset["id"] for asset in seen.assets}
        for name, table in seen.tables.items():
            assert set(table["asset_id"].unique()) <= known, f"{when}, {name} has assets that are not in the mirror"
        return seen

    def assert_equals_lake(self, when: str = "after a run") -> None:
        """Checks that the mirror equals the lake inside the windows, and that its assets are those of the catalog and of the
        rows."""
        seen = self.assert_rows(self.expected_tables(), when)
        catalog = json.loads((self.lake.folder / "catalog" / "assets.json").read_text())
        expected = {
            asset["id"]: {"location": "", "specifications": {}} | asset for asset in catalog
        }
        for table in seen.tables.values():
            for asset in set(table["asset_id"].unique()) - set(expected):
                expected[asset] = {"id": asset, "name": asset, "type": "unknown", "location": "", "specifications": {}}
        assert {asset["id"]: asset for asset in seen.assets} == expected, f"{when}, the assets differ"
        keys = self.psql(
            "SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid::regclass::text IN ('data_min', 'data_h', 'data_d') AND contype IN ('p', 'f') AND convalidated ORDER BY 1"
        )
        assert keys.splitlines() == [
            line
            for name in sorted(RESOLUTIONS)
            for line in (
                f"{name} FOREIGN KEY (asset_id) REFERENCES assets(id)",
                f'{name} PRIMARY KEY (asset_id, "timestamp")',
            )
        ], keys

    def check_nothing_to_do(self) -> None:
        before = read_mirror(self.url)
        report = self.mirror()
        assert report["outcome"] == "nothing_to_do", report
        assert [table["sent"] for table in report["tables"]] == [0, 0, 0], report
        compare.all_same_bits(read_mirror(self.url).tables, before.tables)


class Stopped:
    """A run that has stopped itself, and can be continued."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        self.began = time.monotonic()
        until = self.began + 60
        while _state(process.pid) != "T":
            if process.poll() is not None:
                raise AssertionError(f"the run ended before it stopped: {finish(process, self.began)}")
            assert time.monotonic() < until, "the run did not reach the failpoint within 60 s"
            time.sleep(0.01)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def finish(self) -> Finished:
        self.resume()
        return finish(self.process, self.began)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return ""


def assert_failed(finished: Finished, *texts: str, code: int = FAILURE) -> str:
    """Checks that the run failed with an error that contains these texts, and returns the error."""
    finished.expect(code)
    for words in texts:
        assert words in finished.err, f"no {words!r}\n{finished}"
    return finished.err
