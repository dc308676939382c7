"""Tests of a running server with the JDBC driver, which DBeaver, Tableau and other Java tools use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pandas as pd
import pytest

import jdbc
from harness import OK
from jdbc import VERSIONS, Jdbc, JdbcError
from server import PASSWORD, Plant
from test_server import LONG, tenant_rows

pytestmark = pytest.mark.local_only


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("jdbc")).build().serve()
    yield plant
    assert plant.stop() == OK


@pytest.fixture(scope="module", params=[version for version in VERSIONS if jdbc.driver(version).exists()])
def driver(request: pytest.FixtureRequest) -> Iterator[Jdbc]:
    """Each version of the driver that is installed."""
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
    """Connects the driver, and returns the name and version of the product and the version of the driver."""
    return driver("connect", f"jdbc:arrow-flight-sql://{plant.uri.split('//')[1]}/?useEncryption=false", *properties).value


def test_jdbc_drivers_are_installed() -> None:
    missing = [version for version in VERSIONS if not jdbc.driver(version).exists()]
    assert missing != VERSIONS, "no driver is installed; tests/run downloads it"
    if missing:
        pytest.skip(f"Maven could not download version {', '.join(missing)} of the driver")


# ---- connecting


def test_connect_with_each_credential_succeeds(plant: Plant, driver: Jdbc) -> None:
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
        assert driver("query", "SELECT count(*) AS n FROM data_d").rows == [[str(len(tenant_rows(plant, "data_d")))]]
        assert driver("valid").value == ["true"]
        assert driver("close").value == ["true"]


@pytest.mark.parametrize(
    "properties",
    [("user=ana@north.example", "password=wrong"), ("token=pl_0000000000000000_00",), ("user=", "password="), ()],
)
def test_connect_with_invalid_credential_is_refused(plant: Plant, driver: Jdbc, properties: tuple[str, ...]) -> None:
    with pytest.raises(JdbcError, match="(?i)unauthenticated|no credential was sent"):
        connect(plant, driver, *properties)


def test_connect_with_catalog_accepts_plantlake_only(plant: Plant, driver: Jdbc) -> None:
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


def test_query_returns_rows_of_tenant_only(plant: Plant, north: Jdbc) -> None:
    expected = tenant_rows(plant, "data_h")
    answer = north("query", "SELECT asset_id, timestamp, value, count FROM data_h ORDER BY 1, 2")
    assert answer.types == ["VARCHAR", "TIMESTAMP_WITH_TIMEZONE", "DOUBLE", "BIGINT"]
    actual = pd.DataFrame(answer.rows, columns=answer.columns).astype({"value": float, "count": int})
    actual["timestamp"] = pd.to_datetime(actual["timestamp"], utc=True).astype(expected["timestamp"].dtype)
    pd.testing.assert_frame_equal(actual, expected[actual.columns], check_dtype=False)


def test_query_of_many_rows_is_complete(plant: Plant, north: Jdbc) -> None:
    answer = north("query", "SELECT asset_id, timestamp, value FROM data_min")
    assert len(answer.rows) == len(tenant_rows(plant, "data_min"))
    assert north("query", "SELECT * FROM data_d WHERE value > 1e300").rows == []


def test_every_sql_type_is_read(north: Jdbc) -> None:
    expected = {
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
    answer = north("query", "SELECT " + ", ".join(f"{sql} AS c{i}" for i, sql in enumerate(expected)))
    assert list(zip(answer.types, answer.rows[0], strict=True)) == list(expected.values())


def test_prepared_statement_is_reusable(plant: Plant, north: Jdbc) -> None:
    rows = tenant_rows(plant, "data_h")
    asset = rows["asset_id"].iloc[0]
    asset_rows = rows[rows["asset_id"] == asset]
    sql = "SELECT count(*) AS n, min(value) AS low FROM data_h WHERE asset_id = ? AND timestamp >= ? AND value > ?"
    prepared = north("prepare", sql)
    assert len(prepared.parameters) == 3 and prepared.columns == ["n", "low"] and prepared.types == ["BIGINT", "DOUBLE"]
    median = float(asset_rows["value"].median())
    for begin, min_value in (("2024-05-02T00:00:00Z", -1e9), ("2024-05-03T06:00:00Z", -1e9), ("2024-05-02T00:00:00Z", median)):
        expected = asset_rows[(asset_rows["timestamp"] >= begin) & (asset_rows["value"] > min_value)]
        answer = north("execute", f"string:{asset}", f"timestamp:{begin}", f"double:{min_value!r}")
        assert answer.rows == [[str(len(expected)), str(expected["value"].min())]]
    assert north("execute", f"string:{asset}", "null:", "double:0").rows == [["0", None]]
    assert north("execute", "string:' OR 1=1 --", "timestamp:2024-05-02T00:00:00Z", "double:0").rows == [["0", None]]


def test_parameters_in_limit_and_select_are_bound(plant: Plant, north: Jdbc) -> None:
    assert north("prepare", "SELECT asset_id FROM data_d ORDER BY 1 LIMIT ? OFFSET ?").columns == ["asset_id"]
    assert len(north("execute", "long:3", "long:1").rows) == 3
    north("prepare", "SELECT ? AS text")
    assert north("execute", "string:abc").rows == [["abc"]]
    north("prepare", "SELECT ? AS text")
    with pytest.raises(JdbcError):
        north("execute")


def test_set_time_zone_affects_session(plant: Plant, north: Jdbc) -> None:
    assert north("run", "SET TIME ZONE 'Europe/Berlin'").value == ["false", "0"]
    # The statement selects the time as a number, because the driver up to 18.3 adds the offset of a zone twice.
    sql = "SELECT to_unixtime(CAST('2024-05-01T10:00:00' AS TIMESTAMPTZ)) AS t"
    noon = int(pd.Timestamp("2024-05-01T10:00:00Z").timestamp())
    assert north("query", sql).rows == [[str(noon - 2 * 3600)]]
    north("run", "SET TIME ZONE 'UTC'")
    assert north("query", sql).rows == [[str(noon)]]


def test_zoneless_timestamps_are_read_by_get_object(plant: Plant, driver: Jdbc) -> None:
    """Most Java tools read values with getObject, which the driver does not implement for timestamps with a time zone."""
    expected = tenant_rows(plant, "data_h").head(3)
    sql = "SELECT timestamp, count, value FROM data_h ORDER BY asset_id, timestamp LIMIT 3"
    connect(plant, driver, f"token={plant.tenants['North'].key}", "zoneless_timestamps=true")
    answer = driver("objects", sql)
    assert answer.types == ["TIMESTAMP", "BIGINT", "DOUBLE"]
    times = [f"Timestamp {time:%Y-%m-%d %H:%M:%S.0}" for time in expected["timestamp"]]
    assert answer.column("timestamp") == times
    assert driver("meta", "getColumns", None, "public", "data_h", "timestamp").column("TYPE_NAME") == ["TIMESTAMP"]
    # Metadata and prepared statements of the connection agree.
    prepared = driver("prepare", sql.replace("LIMIT 3", "LIMIT ?"))
    assert prepared.types == answer.types
    driver("close")
    connect(plant, driver, f"token={plant.tenants['North'].key}", "zoneless_timestamps=perhaps")
    with pytest.raises(JdbcError, match="use true or false"):
        driver("query", "SELECT 1 AS x")
    driver("close")


def test_jaydebeapi_reads_zoneless_timestamps(plant: Plant) -> None:
    pytest.importorskip("jaydebeapi", reason="JayDeBeApi is not installed; tests/run installs it")
    [version] = [version for version in VERSIONS if jdbc.driver(version).exists()][:1]
    script = f"""
import jaydebeapi, json, os, sys
jar, url, key = sys.argv[1:]
connection = jaydebeapi.connect("org.apache.arrow.driver.jdbc.ArrowFlightJdbcDriver", url,
    {{"token": key, "useEncryption": "false", "zoneless_timestamps": "true"}}, jar)
cursor = connection.cursor()
cursor.execute("SELECT timestamp, value FROM data_h WHERE value > ? ORDER BY asset_id, timestamp LIMIT 3", (-1e9,))
print(json.dumps(cursor.fetchall()), flush=True)
# The driver leaves threads that keep the JVM, and with it Python, from ending, and its `close` reports a leak of its own.
os._exit(0)
"""
    # The driver needs an option of the JVM, which is one per process.
    url = f"jdbc:arrow-flight-sql://{plant.uri.split('//')[1]}/"
    environment = os.environ | {"JAVA_TOOL_OPTIONS": "--add-opens=java.base/java.nio=ALL-UNNAMED -Duser.timezone=UTC"}
    command = [sys.executable, "-c", script, str(jdbc.driver(version)), url, plant.tenants["North"].key]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = tenant_rows(plant, "data_h").head(3)
    found = json.loads(done.stdout.splitlines()[-1])
    assert [row[0] for row in found] == [f"{time:%Y-%m-%d %H:%M:%S}" for time in expected["timestamp"]]
    assert [row[1] for row in found] == expected["value"].to_list()


# ---- refused statements


@pytest.mark.parametrize("command", ["query", "update", "batch", "prepare"])
def test_statement_that_writes_is_refused(north: Jdbc, command: str) -> None:
    before = north("query", "SELECT count(*) FROM data_d").rows
    for sql in ("DELETE FROM data_d", "INSERT INTO data_d SELECT * FROM data_d", "DROP TABLE data_d"):
        with pytest.raises(JdbcError) as caught:
            north(command, sql)
        # Batches fail in Avatica before they reach the server.
        assert command == "batch" or "written by its jobs only" in str(caught.value) or "allowed here" in str(caught.value)
    assert north("query", "SELECT count(*) FROM data_d").rows == before


def test_sql_error_names_cause_and_line(north: Jdbc) -> None:
    with pytest.raises(JdbcError, match=r"(?s)no table dat_h.*data_h"):
        north("query", "SELECT * FROM dat_h")
    with pytest.raises(JdbcError, match=r"(?s)valeu.*value.*line 1"):
        north("query", "SELECT valeu FROM data_h")
    # The connection still works.
    assert north("query", "SELECT 1 AS x").rows == [["1"]]


@pytest.mark.parametrize("sql", [LONG, "SELECT a.value FROM data_min a, data_d b, data_d c, data_h d"])
def test_cancel_ends_query_within_seconds(plant: Plant, north: Jdbc, sql: str) -> None:
    outcome, milliseconds, message = north("cancel", sql).value
    assert outcome == "failed" and int(milliseconds) < 5_000 and "ancel" in message, (outcome, milliseconds, message)
    assert north("query", "SELECT 1 AS x").rows == [["1"]]


# ---- DatabaseMetaData, as called by DBeaver and Tableau


def test_metadata_lists_catalogs_schemas_and_tables(plant: Plant, north: Jdbc) -> None:
    assert north("meta", "getCatalogs").column("TABLE_CAT") == ["plantlake"]
    schemas = north("meta", "getSchemas")
    assert schemas.column("TABLE_SCHEM") == ["account", "archive", "information_schema", "public"]
    assert set(schemas.column("TABLE_CATALOG")) == {"plantlake"}
    assert north("meta", "getSchemas", "plantlake", "pub%").column("TABLE_SCHEM") == ["public"]
    assert north("meta", "getTableTypes").column("TABLE_TYPE") == ["TABLE", "VIEW"]
    public = ["asset_edges", "assets", "data_d", "data_h", "data_min", "raw_readings"]
    assert north("meta", "getTables", "plantlake", "public", "%", "{TABLE}").column("TABLE_NAME") == public
    for catalog, schema, kinds in ((None, None, "{BASE TABLE}"), ("plantlake", "%", "{TABLE,VIEW}")):
        assert north("meta", "getTables", catalog, schema, "%", kinds).column("TABLE_NAME") == ["limits", "usage", *public]
    assert north("meta", "getTables", None, None, "data\\_%", None).column("TABLE_NAME") == ["data_d", "data_h", "data_min"]
    assert north("meta", "getTables", "elsewhere", None, "%", None).rows == []


@pytest.mark.parametrize("table", ["data_min", "data_h", "data_d", "raw_readings", "assets", "asset_edges"])
def test_metadata_describes_columns(plant: Plant, north: Jdbc, table: str) -> None:
    described = north("meta", "getColumns", "plantlake", "public", table, "%")
    empty = north("prepare", f"SELECT * FROM {table}")
    assert described.column("COLUMN_NAME") == empty.columns
    # The driver names the types of results itself, and this one not as SQL does.
    names = [name.replace("TIMESTAMP_WITH_TIMEZONE", "TIMESTAMP WITH TIME ZONE") for name in empty.types]
    assert described.column("TYPE_NAME") == names
    assert described.column("ORDINAL_POSITION") == [str(i + 1) for i in range(len(empty.columns))]
    one = north("meta", "getColumns", None, None, table, empty.columns[1])
    assert one.column("COLUMN_NAME") == [empty.columns[1]]


def test_metadata_describes_keys(north: Jdbc) -> None:
    assert north("meta", "getPrimaryKeys", "plantlake", "public", "data_h").column("COLUMN_NAME") == ["asset_id", "timestamp"]
    assert north("meta", "getImportedKeys", None, None, "data_h").rows == []
    assert north("meta", "getExportedKeys", None, None, "assets").rows == []
    assert north("meta", "getCrossReference", None, None, "assets", None, None, "data_h").rows == []
    for method in (
        ("getProcedures", None, None, "%"),
        ("getFunctions", None, None, "%"),
        ("getIndexInfo", None, None, "data_h", "false", "false"),
        ("getVersionColumns", None, None, "data_h"),
    ):
        assert north("meta", *method).rows == []


def test_every_metadata_method_returns_value(north: Jdbc) -> None:
    """The driver requests all of SqlInfo at once, and fails if a value that it reads is missing."""
    answers = {line[0]: line[1:] for line in north.send("survey")}
    assert len(answers) > 130
    assert not {name: answer for name, answer in answers.items() if answer[0] != "ok"}
    values = {name: answer[1] for name, answer in answers.items()}
    assert values["isReadOnly"] == "true"
    assert values["supportsTransactions"] == "false" and values["supportsBatchUpdates"] == "false"
    assert values["getIdentifierQuoteString"] == '"' and values["getSearchStringEscape"] == "\\"
    assert values["supportsFullOuterJoins"] == "true" and values["supportsUnionAll"] == "true"
    assert "date_bin" in values["getTimeDateFunctions"] and "SELECT" not in values["getSQLKeywords"]


def test_other_tenants_see_only_their_rows(plant: Plant, driver: Jdbc) -> None:
    for name in ("South", "Nobody"):
        connect(plant, driver, f"token={plant.tenants[name].key}")
        ids = {row[0] for row in driver("query", "SELECT DISTINCT asset_id FROM data_min").rows}
        assert ids <= plant.tenants[name].assets and bool(ids) == (name == "South")
        driver("close")


def test_server_log_has_no_secret(plant: Plant, driver: Jdbc) -> None:
    connect(plant, driver, f"token={plant.tenants['North'].key}")
    driver("close")
    assert plant.tenants["North"].key.split("_")[2] not in "".join(plant.log)
