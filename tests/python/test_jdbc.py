"""The JDBC driver against a running server, as used by DBeaver, Tableau and other Java tools."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd
import pytest

import jdbc
from harness import OK
from jdbc import VERSIONS, Jdbc, JdbcError
from server import PASSWORD, Plant
from test_server import LONG, own

pytestmark = pytest.mark.local_only


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("jdbc")).build().serve()
    yield plant
    assert plant.stop() == OK


@pytest.fixture(scope="module", params=[version for version in VERSIONS if jdbc.driver(version).exists()])
def driver(request: pytest.FixtureRequest) -> Iterator[Jdbc]:
    driver = Jdbc(request.param)
    yield driver
    driver.stop()


@pytest.fixture
def north(plant: Plant, driver: Jdbc) -> Iterator[Jdbc]:
    """A connection with the API key of North's analyst."""
    connect(plant, driver, f"token={plant.tenants['North'].key}")
    yield driver
    assert driver("close").value == ["true"]


def connect(plant: Plant, driver: Jdbc, *properties: str) -> list[str | None]:
    return driver("connect", f"jdbc:arrow-flight-sql://{plant.uri.split('//')[1]}/?useEncryption=false", *properties).value


def test_the_drivers_are_here() -> None:
    missing = [version for version in VERSIONS if not jdbc.driver(version).exists()]
    assert missing != VERSIONS, "there is no driver; tests/run gets it"
    if missing:
        pytest.skip(f"Maven has no version {', '.join(missing)} of the driver here")


# ---- connecting


def test_every_way_to_connect(plant: Plant, driver: Jdbc) -> None:
    tenant = plant.tenants["North"]
    token = json.loads(plant.run("token", "create", tenant.email("ana"), "--json", stdin=PASSWORD + "\n"))["token"]
    version = plant.run("--version").expect(OK).text.split()[1]
    for properties in (
        (f"user={tenant.email('ana')}", f"password={PASSWORD}"),
        ("user=whatever", f"password={tenant.key}"),
        ("user=whatever", f"password={token}"),
        (f"token={tenant.key}",),
        (f"token={token}",),
    ):
        assert connect(plant, driver, *properties)[:2] == ["plantlake", version]
        assert driver("query", "SELECT count(*) AS n FROM data_d").rows == [[str(len(own(plant, "data_d")))]]
        assert driver("valid").value == ["true"]
        assert driver("close").value == ["true"]


@pytest.mark.parametrize("properties", [("user=ana@north.example", "password=wrong"), ("token=pl_0000000000000000_00",), ("user=", "password="), ()])
def test_who_is_not_let_in_is_told(plant: Plant, driver: Jdbc, properties: tuple[str, ...]) -> None:
    with pytest.raises(JdbcError, match="(?i)unauthenticated|no credential was sent"):
        connect(plant, driver, *properties)


def test_a_catalog_may_be_asked_for(plant: Plant, driver: Jdbc) -> None:
    key = f"token={plant.tenants['North'].key}"
    connect(plant, driver, key, "catalog=plantlake")
    assert driver("query", "SELECT 1 AS x").rows == [["1"]]
    # Up to version 18.3, the driver closes a session with a catalog twice, the second time without a channel.
    try:
        driver("close")
    except JdbcError as error:
        assert "Channel shutdown invoked" in str(error)
    assert any('call="DoAction"' in line and "code=Ok" in line for line in plant.log[-3:])
    with pytest.raises(JdbcError, match="catalog"):
        connect(plant, driver, key, "catalog=other")


# ---- queries


def test_rows_are_the_tenants_own(plant: Plant, north: Jdbc) -> None:
    expected = own(plant, "data_h")
    answer = north("query", "SELECT asset_id, timestamp, value, count FROM data_h ORDER BY 1, 2")
    assert answer.types == ["VARCHAR", "TIMESTAMP_WITH_TIMEZONE", "DOUBLE", "BIGINT"]
    actual = pd.DataFrame(answer.rows, columns=answer.columns).astype({"value": float, "count": int})
    actual["timestamp"] = pd.to_datetime(actual["timestamp"], utc=True).astype(expected["timestamp"].dtype)
    pd.testing.assert_frame_equal(actual, expected[actual.columns], check_dtype=False)


def test_many_rows_come_over(plant: Plant, north: Jdbc) -> None:
    answer = north("query", "SELECT asset_id, timestamp, value FROM data_min")
    assert len(answer.rows) == len(own(plant, "data_min"))
    assert north("query", "SELECT * FROM data_d WHERE value > 1e300").rows == []


def test_every_type(north: Jdbc) -> None:
    wanted = {
        "true": ("BOOLEAN", "true"),
        "CAST(1 AS SMALLINT)": ("SMALLINT", "1"),
        "CAST(1 AS INT)": ("INTEGER", "1"),
        "2": ("BIGINT", "2"),
        "3.5": ("DOUBLE", "3.5"),
        "CAST(1.25 AS DECIMAL(10, 2))": ("DECIMAL", "1.25"),
        "DATE '2024-05-01'": ("DATE", "2024-05-01"),
        "TIMESTAMP '2024-05-01 10:00:00'": ("TIMESTAMP", "2024-05-01T10:00:00Z"),
        "'Grüße'": ("VARCHAR", "Grüße"),
        "CAST(NULL AS DOUBLE)": ("DOUBLE", None),
        "[1, 2]": ("ARRAY", "[1,2]"),
    }
    answer = north("query", "SELECT " + ", ".join(f"{sql} AS c{i}" for i, sql in enumerate(wanted)))
    assert list(zip(answer.types, answer.rows[0], strict=True)) == list(wanted.values())


def test_a_prepared_statement_is_run_again_and_again(plant: Plant, north: Jdbc) -> None:
    rows = own(plant, "data_h")
    one = rows["asset_id"].iloc[0]
    mine = rows[rows["asset_id"] == one]
    sql = "SELECT count(*) AS n, min(value) AS low FROM data_h WHERE asset_id = ? AND timestamp >= ? AND value > ?"
    prepared = north("prepare", sql)
    assert len(prepared.parameters) == 3 and prepared.columns == ["n", "low"] and prepared.types == ["BIGINT", "DOUBLE"]
    for begin, least in (("2024-05-02T00:00:00Z", -1e9), ("2024-05-03T06:00:00Z", -1e9), ("2024-05-02T00:00:00Z", float(mine["value"].median()))):
        expected = mine[(mine["timestamp"] >= begin) & (mine["value"] > least)]
        answer = north("execute", f"string:{one}", f"timestamp:{begin}", f"double:{least!r}")
        assert answer.rows == [[str(len(expected)), str(expected["value"].min())]]
    assert north("execute", f"string:{one}", "null:", "double:0").rows == [["0", None]]
    assert north("execute", "string:' OR 1=1 --", "timestamp:2024-05-02T00:00:00Z", "double:0").rows == [["0", None]]


def test_parameters_wherever_a_value_may_be(plant: Plant, north: Jdbc) -> None:
    assert north("prepare", "SELECT asset_id FROM data_d ORDER BY 1 LIMIT ? OFFSET ?").columns == ["asset_id"]
    assert len(north("execute", "long:3", "long:1").rows) == 3
    north("prepare", "SELECT ? AS text")
    assert north("execute", "string:abc").rows == [["abc"]]
    north("prepare", "SELECT ? AS text")
    with pytest.raises(JdbcError):
        north("execute")


def test_a_set_is_for_this_session(plant: Plant, north: Jdbc) -> None:
    assert north("run", "SET TIME ZONE 'Europe/Berlin'").value == ["false", "0"]
    # The time is selected as a number, because the driver up to 18.3 adds the offset of a zone twice.
    sql = "SELECT to_unixtime(CAST('2024-05-01T10:00:00' AS TIMESTAMPTZ)) AS t"
    noon = int(pd.Timestamp("2024-05-01T10:00:00Z").timestamp())
    assert north("query", sql).rows == [[str(noon - 2 * 3600)]]
    north("run", "SET TIME ZONE 'UTC'")
    assert north("query", sql).rows == [[str(noon)]]


# ---- refused statements


@pytest.mark.parametrize("way", ["query", "update", "batch", "prepare"])
def test_what_changes_something_is_refused(north: Jdbc, way: str) -> None:
    before = north("query", "SELECT count(*) FROM data_d").rows
    for sql in ("DELETE FROM data_d", "INSERT INTO data_d SELECT * FROM data_d", "DROP TABLE data_d"):
        with pytest.raises(JdbcError) as caught:
            north(way, sql)
        # Batches fail in Avatica before they reach the server.
        assert way == "batch" or "written by its jobs only" in str(caught.value) or "allowed here" in str(caught.value)
    assert north("query", "SELECT count(*) FROM data_d").rows == before


def test_errors_say_what_and_where(north: Jdbc) -> None:
    with pytest.raises(JdbcError, match=r"(?s)no table dat_h.*data_h"):
        north("query", "SELECT * FROM dat_h")
    with pytest.raises(JdbcError, match=r"(?s)valeu.*value.*line 1"):
        north("query", "SELECT valeu FROM data_h")
    # The connection still works.
    assert north("query", "SELECT 1 AS x").rows == [["1"]]


@pytest.mark.parametrize("sql", [LONG, "SELECT a.value FROM data_min a, data_d b, data_d c, data_h d"])
def test_a_query_is_cancelled(plant: Plant, north: Jdbc, sql: str) -> None:
    how, milliseconds, says = north("cancel", sql).value
    assert how == "failed" and int(milliseconds) < 5_000 and "ancel" in says, (how, milliseconds, says)
    assert north("query", "SELECT 1 AS x").rows == [["1"]]


# ---- DatabaseMetaData, as called by DBeaver and Tableau


def test_the_tree_of_a_browser(plant: Plant, north: Jdbc) -> None:
    assert north("meta", "getCatalogs").column("TABLE_CAT") == ["plantlake"]
    schemas = north("meta", "getSchemas")
    assert schemas.column("TABLE_SCHEM") == ["account", "archive", "information_schema", "public"] and set(schemas.column("TABLE_CATALOG")) == {"plantlake"}
    assert north("meta", "getSchemas", "plantlake", "pub%").column("TABLE_SCHEM") == ["public"]
    assert north("meta", "getTableTypes").column("TABLE_TYPE") == ["TABLE", "VIEW"]
    ours = ["asset_edges", "assets", "data_d", "data_h", "data_min", "raw_readings"]
    assert north("meta", "getTables", "plantlake", "public", "%", "{TABLE}").column("TABLE_NAME") == ours
    for catalog, schema, kinds in ((None, None, "{BASE TABLE}"), ("plantlake", "%", "{TABLE,VIEW}")):
        assert north("meta", "getTables", catalog, schema, "%", kinds).column("TABLE_NAME") == ["limits", "usage", *ours]
    assert north("meta", "getTables", None, None, "data\\_%", None).column("TABLE_NAME") == ["data_d", "data_h", "data_min"]
    assert north("meta", "getTables", "elsewhere", None, "%", None).rows == []


@pytest.mark.parametrize("table", ["data_min", "data_h", "data_d", "raw_readings", "assets", "asset_edges"])
def test_columns_are_described(plant: Plant, north: Jdbc, table: str) -> None:
    described = north("meta", "getColumns", "plantlake", "public", table, "%")
    empty = north("prepare", f"SELECT * FROM {table}")
    assert described.column("COLUMN_NAME") == empty.columns
    assert described.column("TYPE_NAME") == empty.types
    assert described.column("ORDINAL_POSITION") == [str(i + 1) for i in range(len(empty.columns))]
    one = north("meta", "getColumns", None, None, table, empty.columns[1])
    assert one.column("COLUMN_NAME") == [empty.columns[1]]


def test_keys_are_described(north: Jdbc) -> None:
    assert north("meta", "getPrimaryKeys", "plantlake", "public", "data_h").column("COLUMN_NAME") == ["asset_id", "timestamp"]
    assert north("meta", "getImportedKeys", None, None, "data_h").rows == []
    assert north("meta", "getExportedKeys", None, None, "assets").rows == []
    assert north("meta", "getCrossReference", None, None, "assets", None, None, "data_h").rows == []
    for method in (("getProcedures", None, None, "%"), ("getFunctions", None, None, "%"), ("getIndexInfo", None, None, "data_h", "false", "false"), ("getVersionColumns", None, None, "data_h")):
        assert north("meta", *method).rows == []


def test_every_question_about_the_database_has_an_answer(north: Jdbc) -> None:
    """The driver requests all of SqlInfo at once, and fails if a value that it reads is missing."""
    answers = {line[0]: line[1:] for line in north.lines_of("survey")}
    assert len(answers) > 130
    assert not {name: said for name, said in answers.items() if said[0] != "ok"}
    said = {name: answer[1] for name, answer in answers.items()}
    assert said["isReadOnly"] == "true" and said["supportsTransactions"] == "false" and said["supportsBatchUpdates"] == "false"
    assert said["getIdentifierQuoteString"] == '"' and said["getSearchStringEscape"] == "\\"
    assert said["supportsFullOuterJoins"] == "true" and said["supportsUnionAll"] == "true"
    assert "date_bin" in said["getTimeDateFunctions"] and "SELECT" not in said["getSQLKeywords"]


def test_another_organisation_sees_its_own(plant: Plant, driver: Jdbc) -> None:
    for name in ("South", "Nobody"):
        connect(plant, driver, f"token={plant.tenants[name].key}")
        ids = {row[0] for row in driver("query", "SELECT DISTINCT asset_id FROM data_min").rows}
        assert ids <= plant.tenants[name].assets and bool(ids) == (name == "South")
        driver("close")


def test_the_servers_log_shows_no_secret(plant: Plant, driver: Jdbc) -> None:
    connect(plant, driver, f"token={plant.tenants['North'].key}")
    driver("close")
    assert plant.tenants["North"].key.split("_")[2] not in "".join(plant.log)
