"""Command-line options, profiles, and the lake fixtures."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import harness
import prepared
from databases import Postgres
from harness import Bucket, Lake, LocalLake, S3Lake

LONG = os.environ.get("PLANTLAKE_TEST_PROFILE", "ci") == "long"
# The files that take longest, in this order. They run first, so that no worker is left with one of them at the end.
LONGEST_FILES = [
    "test_retention.py", "test_mirror.py", "test_attacks_deadlines.py", "test_metering.py", "test_search.py", "test_load.py",
    "test_attacks.py", "test_schedule.py", "test_kill.py", "test_metrics.py", "test_backup.py", "test_attacks_accounts.py",
    "test_attacks_side_channels.py", "test_attacks_functions.py", "test_attacks_grants.py", "test_resample_properties.py",
    "test_graph.py", "test_differential.py", "test_ingest.py", "test_catalog.py", "test_evolution.py", "test_notebooks.py",
    "test_attacks_ledger.py", "test_upgrade.py", "test_models.py",
]  # fmt: skip


@dataclass(frozen=True)
class Effort:
    """The size of the expensive tests."""

    stories: int
    kills: int
    operations: int
    readings: int  # readings in one ingest
    metering_kills: int  # kills of a server while clients count requests
    outage_seconds: int  # how long the organisation database is unavailable


EFFORT = {
    "ci": Effort(stories=12, kills=6, operations=8, readings=600_000, metering_kills=5, outage_seconds=8),
    "long": Effort(stories=400, kills=50, operations=16, readings=10_000_000, metering_kills=30, outage_seconds=300),
}
HYPOTHESIS_SETTINGS = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("ci", max_examples=100, **HYPOTHESIS_SETTINGS)
settings.register_profile("long", max_examples=2_000, **HYPOTHESIS_SETTINGS)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run many more examples and kills (or PLANTLAKE_TEST_PROFILE=long)")
    parser.addoption("--stories", type=int, help="the number of histories that the property tests run")
    parser.addoption("--kills", type=int, help="the number of random moments at which the kill tests kill")
    parser.addoption("--seed", type=int, help="the first seed of random statements, as a failure prints it")
    parser.addoption("--lake", choices=["local", "s3"], default="local", help="the storage of lakes; tests/s3/run sets s3")
    parser.addoption("--keep", action="store_true", help="keep the lakes of the run and print where they are")


def pytest_configure(config: pytest.Config) -> None:
    global LONG
    settings.load_profile(profile(config))
    # Test files, which are imported later, read either of these.
    LONG = profile(config) == "long"
    os.environ["PLANTLAKE_TEST_PROFILE"] = profile(config)


def profile(config: pytest.Config) -> str:
    return "long" if LONG or config.getoption("--long") else "ci"


def pytest_report_header(config: pytest.Config) -> list[str]:
    chosen = effort_of(config)
    lines = [f"lakes: {config.getoption('--lake')}; {profile(config)}: {chosen.stories} stories, {chosen.kills} kills"]
    path = os.environ.get("PLANTLAKE_BIN") or "target/debug/plantlake"
    return [*lines, f"plantlake: {path}"]


def effort_of(config: pytest.Config) -> Effort:
    base = EFFORT[profile(config)]
    kills = config.getoption("--kills") or int(os.environ.get("PLANTLAKE_TEST_KILLS", base.kills))
    stories = config.getoption("--stories") or int(os.environ.get("PLANTLAKE_TEST_STORIES", base.stories))
    return replace(base, stories=stories, kills=kills)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
    if config.getoption("--lake") == "s3":
        deselected = [item for item in items if item.get_closest_marker("local_only")]
        items[:] = [item for item in items if item not in deselected]
        config.hook.pytest_deselected(items=deselected)


@pytest.fixture(scope="session")
def effort(pytestconfig: pytest.Config) -> Effort:
    return effort_of(pytestconfig)


@pytest.fixture(scope="session")
def is_s3(pytestconfig: pytest.Config) -> bool:
    return pytestconfig.getoption("--lake") == "s3"


@contextmanager
def lakes(config: pytest.Config, name: str, failed: Callable[[], bool]) -> Iterator[Callable[[], Lake]]:
    """Creates fresh lakes, local or in the bucket, and removes them at the end unless tests failed."""
    folder = Path(tempfile.mkdtemp(prefix=f"plantlake-{name}-"))
    prefix = f"{folder.name}-{uuid.uuid4().hex[:8]}"
    made: list[Lake] = []

    try:
        harness.binary()
    except RuntimeError as error:
        pytest.exit(str(error), returncode=2)

    def make() -> Lake:
        name = str(len(made))
        if config.getoption("--lake") == "s3":
            lake: Lake = S3Lake(Bucket.from_environment(), f"{prefix}/{name}", folder / name)
        else:
            lake = LocalLake(folder / name)
        made.append(lake)
        return lake

    yield make
    if config.getoption("--keep") or failed():
        print(f"\nthe lakes of this test are in {folder}" + (f" and s3 {prefix}" if made and "s3:" in made[0].url else ""))
        return
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_lake(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Callable[[], Lake]]:
    """Creates fresh lakes for one test."""
    name = request.node.originalname or "test"
    with lakes(pytestconfig, name, lambda: getattr(request.node, "failed", False)) as make:
        yield make


@pytest.fixture(scope="module")
def new_shared_lake(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Callable[[], Lake]]:
    """Creates fresh lakes for all tests of a module, which only read or copy them."""
    failures = request.session.testsfailed
    with lakes(pytestconfig, request.node.path.stem, lambda: request.session.testsfailed > failures) as make:
        yield make


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for all tests that leave it running. Each test creates its own databases, with roles of its own names."""
    server = Postgres()
    yield server
    server.stop()


def pytest_sessionfinish() -> None:
    prepared.remove_templates()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if report.when == "call":
        item.failed = report.failed
    return report


@pytest.fixture
def lake(new_lake: Callable[[], Lake]) -> Lake:
    """Creates one fresh lake."""
    return new_lake()
