"""Mirrors with fewer or further columns are written, extended, and lose no values. See evolution.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from databases import Postgres
from evolution import LATER, LATER_COLUMNS, History, queried
from harness import OK, LocalLake
from mirrored import Mirror, assert_failed
from reference import COLUMNS, RESOLUTIONS
from writers import ASSETS


@pytest.fixture
def mirror(postgres: Postgres, tmp_path: Path) -> Mirror:
    lake = LocalLake(tmp_path)
    lake.ignored_columns = set(LATER_COLUMNS)
    return Mirror(lake, postgres.new_database("chemical"))


def mirrored_columns(mirror: Mirror, name: str) -> list[str]:
    sql = f"SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '{name}'::regclass AND attnum > 0"
    return mirror.psql(sql).split()


def count_later(mirror: Mirror, name: str) -> tuple[int, int]:
    """Returns the number of rows, and of rows whose later columns equal their sources."""
    filled = "count(*) FILTER (WHERE test_max = max AND test_count = count)"
    rows, same = mirror.psql(f"SELECT count(*), {filled} FROM {name}").split("|")
    return int(rows), int(same)


@pytest.mark.local_only
def test_mirror_of_older_version_gains_columns_and_values(mirror: Mirror) -> None:
    history = History(mirror.lake)
    history.add(*range(4))
    mirror.mirror()
    mirror.assert_equals_lake()
    assert mirror.run("--dry-run", settings=LATER).expect(OK).json["outcome"] == "dry_run"
    assert mirrored_columns(mirror, "data_h") == COLUMNS, "a dry run changed the mirror"

    # The mirror of the later version gains the columns before the lake has values.
    report = mirror.mirror(settings=LATER)
    assert report["outcome"] == "nothing_to_do" and not report["made_tables"], report
    for name in RESOLUTIONS:
        assert mirrored_columns(mirror, name) == [*COLUMNS, *LATER_COLUMNS]
        rows, filled = count_later(mirror, name)
        assert rows and not filled
    mirror.assert_equals_lake()
    history.add(4, settings=LATER)
    mirror.mirror(settings=LATER)
    assert_mirrored_values(mirror)
    history.lake.resample("--full", settings=LATER).expect(OK)
    mirror.mirror(settings=LATER)
    assert_mirrored_values(mirror)
    assert all(count_later(mirror, name)[0] == count_later(mirror, name)[1] for name in RESOLUTIONS)
    report = mirror.mirror(settings=LATER)
    assert report["outcome"] == "nothing_to_do" and [table["sent"] for table in report["tables"]] == [0, 0, 0]

    # The older version does not know the columns, and leaves them null in rows that it writes.
    history.add(5)
    mirror.psql("UPDATE data_h SET value = value + 1")
    mirror.mirror("--full")
    mirror.assert_equals_lake()
    assert count_later(mirror, "data_h")[1] == 0
    # The later version compares all dates again, although no file has changed.
    mirror.mirror(settings=LATER)
    assert_mirrored_values(mirror)
    assert count_later(mirror, "data_h")[1] > 0


def assert_mirrored_values(mirror: Mirror) -> None:
    """Checks the later columns of the mirror against the lake."""
    mirror.assert_equals_lake()
    for name in RESOLUTIONS:
        expected = queried(mirror.lake, name, LATER)
        sql = (
            f"SELECT asset_id || ' ' || (extract(epoch FROM timestamp) * 1000000)::bigint || ' ' || coalesce(test_max::text, '-') "
            f"|| ' ' || coalesce(test_count::text, '-') FROM {name} ORDER BY asset_id, timestamp"
        )
        seen = [line.split() for line in mirror.psql(sql).splitlines()]
        assert len(seen) == len(expected)
        asset, time, largest, count = np.array(seen, dtype=object).T
        assert (asset == expected["asset_id"].to_numpy(object)).all()
        assert (time.astype(np.int64) == expected["timestamp"].to_numpy()).all()
        for column, texts, kind in (("test_max", largest, np.float64), ("test_count", count, np.int64)):
            has_value = expected[column].notna().to_numpy()
            assert ((texts != "-") == has_value).all(), f"{name}.{column} is null in other rows"
            values = expected.loc[has_value, column].to_numpy().astype(kind)
            assert (texts[has_value].astype(kind) == values).all(), f"{name}.{column} has other values"


@pytest.mark.local_only
def test_new_mirror_has_later_columns(mirror: Mirror) -> None:
    History(mirror.lake).add(0, 1, settings=LATER)
    assert mirror.mirror(settings=LATER)["made_tables"]
    assert_mirrored_values(mirror)
    assert all(mirrored_columns(mirror, name) == [*COLUMNS, *LATER_COLUMNS] for name in RESOLUTIONS)


@pytest.mark.local_only
def test_mirror_killed_after_adding_columns_is_completed(mirror: Mirror) -> None:
    history = History(mirror.lake)
    history.add(0, 1)
    mirror.mirror()
    history.lake.resample("--full", settings=LATER).expect(OK)
    killed = mirror.run(settings=LATER | {"PLANTLAKE_FAILPOINT": "mirror-begun"})
    assert killed.code < 0
    assert mirrored_columns(mirror, "data_d") == [*COLUMNS, *LATER_COLUMNS]
    mirror.mirror(settings=LATER)
    assert_mirrored_values(mirror)
    assert all(count_later(mirror, name)[0] == count_later(mirror, name)[1] for name in RESOLUTIONS)


@pytest.mark.local_only
def test_mirror_keeps_columns_of_others(mirror: Mirror) -> None:
    """Rows that do not change keep their values, and new rows get the defaults."""
    history = History(mirror.lake)
    history.add(0, 1)
    mirror.mirror()
    mirror.psql(
        "ALTER TABLE data_h ADD COLUMN place TEXT, ADD COLUMN number BIGINT GENERATED ALWAYS AS IDENTITY, "
        "ADD COLUMN checked BOOLEAN NOT NULL DEFAULT false"
    )
    mirror.psql("UPDATE data_h SET place = 'x', checked = true")
    before = mirror.psql("SELECT count(*) FROM data_h")
    history.add(2)
    report = mirror.mirror()
    assert report["outcome"] == "mirrored", report
    mirror.assert_equals_lake()
    assert mirror.psql("SELECT count(*) FROM data_h WHERE place = 'x' AND checked") == before
    added = mirror.psql("SELECT count(*) FROM data_h WHERE place IS NULL AND NOT checked AND number IS NOT NULL")
    assert int(added) == 24 * len(ASSETS)
    mirror.mirror("--full")
    assert mirror.psql("SELECT count(*) FROM data_h WHERE place = 'x'") == before


@pytest.mark.local_only
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("ALTER TABLE data_h ADD COLUMN plant TEXT NOT NULL DEFAULT ''; ALTER TABLE data_h ALTER COLUMN plant DROP DEFAULT",
         "it has a column plant that must not be null and has no default"),
        ("ALTER TABLE data_h ALTER COLUMN count TYPE INTEGER", "it has a column count of type integer instead of bigint"),
        ("ALTER TABLE data_h DROP COLUMN stddev", "it has no column stddev"),
        ("DROP TABLE data_h", "it does not exist"),
        ("ALTER TABLE data_h ADD COLUMN test_max TEXT", "it has a column test_max of type text instead of double precision"),
    ],
)  # fmt: skip
def test_mirror_with_unusable_columns_is_an_error(mirror: Mirror, change: str, problem: str) -> None:
    History(mirror.lake).add(0)
    mirror.mirror()
    mirror.psql(change)
    for flags in ((), ("--dry-run",)):
        assert_failed(mirror.run(*flags, settings=LATER), "cannot write to the table data_h of the mirror", problem)
