"""A lake, an archive, a mirror and an organisation database of an older version are continued by the current one.

`fixtures/make_older_version.py` made the fixture with the older version, and describes it.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import compare
from databases import Postgres, psql
from evolution import LATER, LATER_COLUMNS, all_columns, assert_filled, column_names
from fixtures.make_older_version import DATES, FIXTURE, HOURS_FROM, MINUTES_FROM, RAW_FROM, readings
from harness import OK, LocalLake
from mirrored import Mirror
from reference import MICROS_PER_DAY, RESOLUTIONS, Expected, RawFile, day_number, rollups
from server import Plant, Tenant
from writers import ASSETS, parquet_bytes

pytestmark = pytest.mark.local_only

WINDOWS = {"data_min": 9_999, "data_h": 9_999, "data_d": 9_999}


@dataclass
class Older:
    """The unpacked fixture."""

    lake: LocalLake
    manifest: dict
    mirror_dump: Path

    @property
    def made_on(self) -> dt.date:
        return dt.date.fromisoformat(self.manifest["made_at"][:10])

    def retention(self) -> dict[str, str]:
        """Returns the settings of the retention on the date of the fixture."""
        first = {"MINUTE": MINUTES_FROM, "HOUR": HOURS_FROM, "RAW": RAW_FROM}
        periods = {f"PLANTLAKE_RETENTION_{name}_KEEP": f"{(self.made_on - date).days}d" for name, date in first.items()}
        return periods | {"PLANTLAKE_FAILPOINT_NOW": self.manifest["made_at"]}

    def raw_files(self) -> dict[str, RawFile]:
        """Returns the raw files and those in the archive, by path. The name of an archived file has the time of the original."""
        found = {path.relative_to(self.lake.raw).as_posix(): path for path in self.lake.raw.rglob("*.parquet")}
        times = {name: path.stat().st_mtime_ns for name, path in found.items()}
        archive = self.lake.root / "archive" / "raw"
        for path in archive.rglob("*.parquet"):
            name, version = re.fullmatch(r"(.+\.parquet)\.(\d+)-\d+\.parquet", path.relative_to(archive).as_posix()).groups()
            if name not in found:
                found[name], times[name] = path, int(version)
        return {name: RawFile(name, times[name], pq.read_table(path)) for name, path in found.items()}

    def expected(self) -> Expected:
        return rollups(list(self.raw_files().values()))

    def everything(self) -> dict[str, pd.DataFrame]:
        """Returns the rows of tables and archive, of which those of the table are the newer ones."""
        found = {}
        for name in RESOLUTIONS:
            live, archived = all_columns(self.lake, name), all_columns(self.lake, name, "archive/")
            both = pd.concat([archived, live]).drop_duplicates(["asset_id", "timestamp"], keep="last")
            found[name] = both.sort_values(["asset_id", "timestamp"]).reset_index(drop=True)
        return found

    def check(self) -> None:
        """Checks all rows against pandas, and that SQL returns them."""
        everything = self.everything()
        compare.all_same_as_reference(everything, self.expected())
        for name, table in everything.items():
            both = f"SELECT asset_id, timestamp FROM {name} UNION SELECT asset_id, timestamp FROM archive.{name}"
            answer = self.lake.query(f'SELECT count(*) AS n FROM ({both}) AS b')
            assert answer["n"][0] == len(table)


@pytest.fixture
def older(tmp_path: Path) -> Older:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="tar")
    folder = tmp_path / "older_version"
    manifest = json.loads((folder / "manifest.json").read_text())
    lake = LocalLake(folder)
    lake.ignored_columns = set(LATER_COLUMNS)
    move_ledger(lake, manifest["folder"])
    return Older(lake, manifest, folder / "mirror.sql")


def move_ledger(lake: LocalLake, before: str) -> None:
    """Makes the ledger refer to the unpacked raw files. A copied file is another version, which would be read again."""
    run = lake.published()["run"]
    [path] = [path for path in lake.root.glob("runs/*/ledger.json.zst") if int(path.parent.name) == run]
    text = pa.input_stream(path, compression="zstd").read().decode()
    ledger = json.loads(text.replace(f"{before}/", f"{lake.folder}/"))
    for known in (ledger["files"], ledger.get("leaving", {})):
        for name, file in known.items():
            status = (lake.raw / name).stat()
            old = file["etag"].split("-")
            new = [f"{status.st_ino:x}", f"{status.st_mtime_ns // 1_000:x}", f"{status.st_size:x}"]
            assert old[1:] == new[1:], f"{name}: {old} became {new}"
            file["etag"] = "-".join(new)
    with pa.output_stream(path, compression="zstd") as target:
        target.write(json.dumps(ledger).encode())


def late_and_new(older: Older) -> None:
    """Adds late readings of an archived date and of another one, and a new date."""
    for number, (date, minutes) in enumerate([(DATES[0], range(3, 500, 17)), (DATES[6], range(3, 500, 17)), (dt.date(2024, 6, 1), range(0, 1440, 40))]):
        mtime = 1_730_000_000_000_000_000 + number * 10**9
        older.lake.put(f"new/{date}.parquet", parquet_bytes(readings(date, 7, minutes)), mtime)


def test_lake_of_older_version_is_read(older: Older) -> None:
    older.check()
    status = older.lake.run("status", "--json").expect(OK).json
    assert [table["rows"] for table in status["tables"]] == [len(all_columns(older.lake, name)) for name in RESOLUTIONS]
    archived = older.lake.run("archive", "list", "--json").expect(OK).json["archived"]
    assert {entry["what"] for entry in archived} == {"data_min", "data_h", "raw"}
    assert older.lake.resample().expect(OK).json["outcome"] == "nothing_to_do"
    assert older.lake.query("SELECT count(*) AS n FROM archive.data_min")["n"][0] > 0


@pytest.mark.parametrize("settings", [{}, LATER], ids=["same_columns", "later_columns"])
def test_lake_of_older_version_is_extended_maintained_and_restored(older: Older, settings: dict[str, str]) -> None:
    lake = older.lake
    lake.settings = settings
    before = older.everything()
    late_and_new(older)
    done = lake.resample().expect(OK).json
    assert done["dates"]["count"] == 3 and not done["full"], done
    older.check()
    compare_unchanged_dates(older, before)
    maintained = lake.run("maintain", "--json", settings=older.retention()).expect(OK).json
    assert {"data_min", "data_h"} <= {entry["what"] for entry in maintained["expired"]}, maintained
    older.check()
    compare_unchanged_dates(older, before)
    # The archived minutes of January, late readings included.
    span = ("--from", "2024-01-01", "--to", "2024-01-31", "--hold", "1000d")
    restored = lake.run("archive", "restore", "data_min", *span, "--json", settings=older.retention()).expect(OK).json
    assert restored["rows"] > 0
    older.check()
    lake.run("archive", "restore", "raw", *span, "--json", settings=older.retention()).expect(OK)
    assert lake.resample().expect(OK).json["outcome"] == "nothing_to_do"
    for name in RESOLUTIONS:
        assert [action for action in column_names(lake, name) if action in LATER_COLUMNS] == (LATER_COLUMNS if settings else [])
    if settings:
        new_dates = {day_number(date) for date in (DATES[0], DATES[6], dt.date(2024, 6, 1))}
        first = day_number(dt.date(2024, 1, 20))
        for table in older.everything().values():
            assert_filled(table, lambda day: (day + first).isin(new_dates))
    # The lake is like a new one of the same raw files. Averages of sealed dates are still those of the older version, whose
    # deviations differ in the last digits.
    everything = older.everything()
    fresh = LocalLake(lake.folder.parent / "fresh", settings)
    for file in older.raw_files().values():
        fresh.put(file.path, parquet_bytes(file.table), file.mtime_ns)
    fresh.resample().expect(OK)
    expected = fresh.tables() if not settings else {name: all_columns(fresh, name) for name in RESOLUTIONS}
    for name in RESOLUTIONS:
        compare.same_as_reference(name, everything[name], expected[name])


def compare_unchanged_dates(older: Older, before: dict[str, pd.DataFrame]) -> None:
    """Checks that rows of dates without new readings have the same bits."""
    changed = {day_number(DATES[0]), day_number(DATES[6]), day_number(dt.date(2024, 6, 1))}
    unchanged = lambda table: table[~(table["timestamp"] // MICROS_PER_DAY).isin(changed)].reset_index(drop=True)
    after = older.everything()
    compare.all_same_bits({name: unchanged(after[name]) for name in after}, {name: unchanged(before[name]) for name in before})


# ------------------------------------------------------------------ the mirror


@pytest.mark.parametrize("settings", [{}, LATER], ids=["same_columns", "later_columns"])
def test_mirror_of_older_version_is_continued(older: Older, postgres: Postgres, settings: dict[str, str]) -> None:
    url = postgres.new_database("chemical")
    command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", str(older.mirror_dump)]
    subprocess.run(command, check=True, capture_output=True)
    mirror = Mirror(older.lake, url, now=older.made_on, windows=dict(WINDOWS))
    rows = psql(url, "SELECT count(*) FROM data_min")
    report = mirror.mirror(settings=settings)
    # No row is written: the rows are the same, and without new columns not even compared.
    assert report["outcome"] == "nothing_to_do", report
    assert all((table["sent"] == 0) == (not settings) for table in report["tables"]), report
    assert psql(url, "SELECT count(*) FROM data_min") == rows
    late_and_new(older)
    older.lake.resample(settings=settings).expect(OK)
    report = mirror.mirror(settings=settings)
    assert report["outcome"] == "mirrored" and sum(table["inserted"] for table in report["tables"]) > 0
    mirror.assert_equals_lake()
    if settings:
        filled = psql(url, "SELECT count(*) FROM data_d WHERE test_max = max AND test_count = count")
        assert int(filled) == 3 * len(ASSETS)


# ------------------------------------------------------------------ organisations


def test_organisation_database_of_older_version_is_opened_and_written(older: Older) -> None:
    plant = Plant(older.lake.folder)
    kinds = {"North": ["--type", "temperature sensor"], "South": ["--all"]}
    for name, made in older.manifest["organisations"].items():
        plant.tenants[name] = Tenant(name, kinds[name], made["key"], made["key_id"])
    names = {entry["name"] for entry in plant.run("org", "list", "--json").expect(OK).json}
    assert names == {"North", "South"}
    plant.run("audit", "verify").expect(OK)
    plant.run("usage", "verify").expect(OK)
    plant.serve()
    try:
        # Keys and passwords of the older version are accepted, and grants are in effect.
        assert plant.ask("SELECT DISTINCT asset_id FROM data_d", "North")["asset_id"].nunique() == 2
        assert plant.ask("SELECT DISTINCT asset_id FROM archive.data_min", "South")["asset_id"].nunique() == len(ASSETS)
        with plant.connect("North", "admin") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM account.usage")
            assert cursor.fetchone()[0] > 0
    finally:
        plant.stop()
    added = plant.tenant("East", ["--type", "flow sensor"])
    plant.run("key", "revoke", older.manifest["organisations"]["South"]["key_id"]).expect(OK)
    plant.serve()
    try:
        assert len(added.assets) == 1 and len(plant.ask("SELECT * FROM data_d", "East"))
        with pytest.raises(Exception, match="(?i)unauthenticated"):
            plant.ask("SELECT 1", "South")
    finally:
        plant.stop()
    plant.run("audit", "verify").expect(OK)
    plant.run("usage", "verify").expect(OK)
