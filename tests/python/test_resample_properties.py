"""After any history of the raw folder, the tables equal those that pandas computes from the current raw files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

import compare
import writers
from conftest import LONG
from harness import OK, Lake, assert_expected
from reference import rollups
from stories import Damage, LakeModel, Put, Remove, Repair, Run, Step, Touch, histories
from writers import FAULTS, ID_STYLES, ID_TYPES, ORDERS, UNITS, VALUE_TYPES, WRITERS, ZONES, FileSpec, file_specs, make

# Hypothesis needs this number at import. Command-line options are applied in the tests.
MAX_STEPS = 16 if LONG else 8


def run_history(lake: Lake, story: list[Step]) -> LakeModel:
    model = LakeModel(lake)
    for step in story:
        model.apply(step)
    model.run(Run())
    model.check_nothing_to_do()
    return model


# Histories that cover likely mistakes.
PLAIN = FileSpec(rows=30)
OTHER = FileSpec(seed=1, rows=30)
TWO_DAYS = FileSpec(seed=2, rows=60, days=3, pace="sparse", assets=(0, 1))


@pytest.mark.parametrize(
    "story",
    {
        "no_files": [],
        "empty_file": [Put(0, FileSpec(rows=0))],
        "removed": [Put(0, PLAIN), Put(1, OTHER), Run(), Remove(0)],
        "all_removed": [Put(0, PLAIN), Run(), Remove(0)],
        "replaced_by_other_dates": [Put(0, PLAIN), Run(), Put(0, FileSpec(day=3))],
        "repeats_across_files": [Put(0, PLAIN), Put(1, OTHER), Put(2, FileSpec(seed=0, rows=30, value_type="int32"))],
        "order_of_files_reversed": [Put(0, PLAIN, 0), Put(1, FileSpec(value_type="int8", rows=30), 1), Run(), Touch(0, 3)],
        "tied_files_go_by_path": [Put(i, FileSpec(rows=30, value_type=VALUE_TYPES[i]), 2) for i in range(6)],
        "older_file_arrives_late": [Put(0, PLAIN, 3), Run(), Put(1, FileSpec(rows=30, value_type="uint8"), 0)],
        "damaged_and_repaired": [Put(0, PLAIN), Put(1, OTHER), Run(), Damage(0, "truncated"), Run(), Repair(0)],
        "damaged_from_the_start": [Put(0, PLAIN), Damage(0, "garbage"), Put(1, OTHER), Run(), Repair(0)],
        "damaged_then_removed": [Put(0, PLAIN), Run(), Damage(0, "zero_bytes"), Run(), Remove(0)],
        "window_leaves_the_rest_due": [
            Put(0, TWO_DAYS), Run(window=(1, 1)), Put(1, FileSpec(seed=3, days=3, pace="sparse")), Run(window=(0, 0)),
        ],
        "full_run_within_a_window": [Put(0, TWO_DAYS), Run(), Run(window=(None, 0), full=True), Run()],
        "window_and_a_removal": [Put(0, TWO_DAYS), Run(), Remove(0), Run(window=(1, None)), Run(window=(None, 0))],
        "change_between_windows": [
            Put(0, TWO_DAYS), Run(window=(0, 0)), Put(0, FileSpec(seed=4, day=1, days=2)), Run(window=(2, 2)),
        ],
        "window_with_nothing_inside": [Put(0, PLAIN), Run(window=(6, 6))],
        "before_the_epoch": [Put(0, FileSpec(day=5, days=3, pace="midnight", edge_times=True, unit="ns", rows=300))],
        "tiny_memory": [
            Put(0, FileSpec(rows=3_000, days=3, assets=(0, 1, 2, 3), order="shuffled", repeats=True)),
            Run(memory=1 << 14),
            Put(1, FileSpec(seed=5, rows=3_000, days=3, assets=(0, 1, 2, 3), order="nearly")),
            Run(memory=1 << 15, threads=2),
        ],
        "full_run_over_existing_rows": [Put(0, TWO_DAYS), Run(), Put(1, PLAIN), Run(full=True), Run(full=True)],
        "every_fault": [Put(0, FileSpec(rows=2_000, faults=tuple(FAULTS), id_type="string")), Put(1, OTHER)],
        "faulty_repeats_displace_nothing": [
            Put(0, FileSpec(rows=300), 0), Put(1, FileSpec(rows=300, faults=("nan_value", "null_value", "infinite_value")), 1),
        ],
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_resample_after_history_equals_pandas(lake: Lake, story: tuple[str, list[Step]]) -> None:
    run_history(lake, story[1]).check_twin()


def test_resample_after_random_history_equals_pandas(new_lake: Callable[[], Lake], effort) -> None:
    @settings(max_examples=effort.stories)
    @given(histories(MAX_STEPS))
    @example([Put(), Run(), Put(place=1, spec=FileSpec(seed=7, days=3)), Run(window=(1, 2), memory=1 << 14)])
    def check(story: list[Step]) -> None:
        event(f"{sum(isinstance(step, Run) for step in story)} runs, {len(story)} steps")
        run_history(new_lake(), story).check_twin()

    check()


def covering() -> list[FileSpec]:
    """Returns specs that cover each value of each option at least once."""
    wide = {
        "writer": WRITERS, "id_type": ID_TYPES, "id_style": ID_STYLES, "unit": UNITS, "zone": ZONES,
        "value_type": VALUE_TYPES, "order": ORDERS,
        "compression": ["snappy", "zstd", "gzip", "lz4_raw", "brotli", "uncompressed"],
    }  # fmt: skip
    specs = []
    for number in range(60):
        chosen = {name: kinds[(number * (step + 1) + number // len(kinds)) % len(kinds)]
                  for step, (name, kinds) in enumerate(wide.items())}  # fmt: skip
        specs.append(
            FileSpec(
                seed=number, rows=150, assets=(number % 4,), day=number % 7, repeats=number % 3 == 0,
                edge_times=number % 2 == 0, extra=number % 5 == 0, plain=number % 4 == 0, page_index=number % 3 == 1,
                statistics=number % 7 != 0, row_group=[1_000_000, 64, 7][number % 3],
                pace=["dense", "midnight", "sparse"][number % 3], **chosen,
            )
        )  # fmt: skip
    return specs


def test_resample_of_every_file_kind_equals_pandas(lake: Lake) -> None:
    tables = {}
    for number, spec in enumerate(covering()):
        made = make(spec)
        path = f"{spec.writer}/{number:02}.parquet"
        lake.put(path, made.data, 1_700_000_000_000_000_000 + number % 5 * 1_000_000)
        tables[path] = made.table
    finished = lake.resample().expect(OK)
    assert finished.json["quarantined"] == [], str(finished)
    expected = rollups(lake.raw_files(tables))
    assert expected.used > 5_000
    assert_expected(lake, expected)


ZONE_NAMES = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "UTC"]


@st.composite
def local_files(draw: st.DrawFn) -> tuple[str, list[int], str]:
    """Draws a zone, local times around its clock changes, and a unit."""
    zone = draw(st.sampled_from(ZONE_NAMES))
    changes = ["2024-03-10T02", "2024-03-31T02", "2024-10-27T02", "2024-11-03T01", "2024-04-07T02", "2024-10-06T02",
               "2011-12-30T00", "2024-07-01T00"]  # fmt: skip
    start = int(np.datetime64(draw(st.sampled_from(changes)), "us").astype(np.int64))
    minutes = draw(st.lists(st.integers(-180, 240), min_size=1, max_size=60))
    return zone, [start + minute * 60_000_000 for minute in minutes], draw(st.sampled_from(["us", "ms", "ns", "s"]))


def test_naive_times_use_configured_zone(new_lake: Callable[[], Lake], effort) -> None:
    @settings(max_examples=max(8, effort.stories // 2))
    @given(local_files(), st.booleans())
    @example(("Europe/Berlin", [1711850400000000 + 60_000_000 * minute for minute in range(-90, 150, 7)], "us"), True)
    @example(("Europe/Berlin", [1729994400000000 + 60_000_000 * minute for minute in range(-90, 150, 7)], "ms"), True)
    def check(drawn: tuple[str, list[int], str], with_other: bool) -> None:
        zone, times, unit = drawn
        size = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}[unit]
        factor = 1_000 if unit == "ns" else 1
        column = pa.array([time // size * factor for time in times]).cast(pa.timestamp(unit))
        naive = pa.table(
            {
                "id": pa.array([writers.ASSETS[0]] * len(times)),
                "timestamp": column,
                "value": pa.array([float(row) for row in range(len(times))]),
            }
        )
        lake = new_lake()
        tables = {"naive.parquet": naive}
        lake.put("naive.parquet", writers.parquet_bytes(naive), 1_700_000_000_000_000_000)
        if with_other:  # the setting does not affect times with a zone
            made = make(FileSpec(zone="Asia/Kolkata", assets=(1,)))
            lake.put("zoned.parquet", made.data, 1_700_000_000_000_000_000)
            tables["zoned.parquet"] = made.table
        lake.resample(settings={"PLANTLAKE_RESAMPLE_TIMEZONE": zone}).expect(OK)
        assert_expected(lake, rollups(lake.raw_files(tables), zone))

    check()


def test_new_day_rewrites_only_its_partitions(lake: Lake) -> None:
    model = LakeModel(lake)
    for step in [Put(0, FileSpec(rows=400, days=3, assets=(0, 1, 2))), Put(1, FileSpec(seed=1, day=3, days=2)), Run()]:
        model.apply(step)
    before = {name: lake.data_files(name) for name in ("data_min", "data_h", "data_d")}
    model.apply(Put(2, FileSpec(seed=2, day=6)))
    model.run(Run())
    for name, files in before.items():
        kept = {file.path for file in lake.data_files(name)}
        lost = [file for file in files if file.path not in kept and (name != "data_d" or file.partition != "2024")]
        assert not lost, f"{name} rewrote {lost}"


def test_untouched_buckets_keep_their_bits(lake: Lake) -> None:
    model = LakeModel(lake)
    model.apply(Put(0, FileSpec(rows=800, days=3, assets=(0, 1, 2))))
    model.run(Run())
    before = lake.tables()
    model.apply(Put(1, FileSpec(seed=3, day=1, assets=(3,))))
    model.run(Run())
    after = lake.tables()
    for name, table in before.items():
        rest = after[name][after[name]["asset_id"].isin(set(table["asset_id"]))]
        compare.same_bits(name, rest.reset_index(drop=True), table)


@given(file_specs())
@settings(max_examples=1)
def test_file_spec_repr_round_trips(spec: FileSpec) -> None:
    assert eval(repr(spec), {"FileSpec": FileSpec}) == spec


def test_known_files_are_skipped_quickly(lake: Lake, is_s3: bool) -> None:
    count = 150 if is_s3 else 2_000
    kinds = [make(FileSpec(seed=day, rows=3, day=day)) for day in range(7)]
    for number in range(count):
        lake.put(f"{number % 10}/{number}.parquet", kinds[number % 7].data, 1_700_000_000_000_000_000 + number)
    first = lake.resample().expect(OK)
    assert first.json["files"]["new"] == count, str(first)
    LakeModel(lake).check_nothing_to_do()
    second = lake.resample().expect(OK)
    assert second.json["files"]["known"] == count and second.seconds < first.seconds, f"{first}\n{second}"
