"""Fixtures of tests that compare the answers of a served plant with those of Postgres. A test module imports the ones that it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from databases import Postgres
from harness import OK
from server import Plant


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("oracles")).build().serve()
    yield plant
    assert plant.stop() == OK


@pytest.fixture(scope="module")
def connection(plant: Plant) -> Iterator:
    with plant.with_key() as connection:
        yield connection


@pytest.fixture
def cursor(connection) -> Iterator:
    # The driver keeps the state of a failed statement in its cursor.
    with connection.cursor() as cursor:
        yield cursor


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    server = Postgres()
    yield server.url
    server.stop()
