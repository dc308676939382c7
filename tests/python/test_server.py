"""The Flight SQL server with ADBC, pyarrow, pandas and polars; pandas computes the expected results from the tables."""

from __future__ import annotations

import base64
import contextlib
import copy
import datetime as dt
import io
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import adbc_driver_flightsql.dbapi as dbapi
import adbc_driver_manager
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import FAILURE, OK, USAGE
from server import BEARER, PASSWORD, TLS_ROOTS, Plant, Raw, any_of, bool_field, connect, eventually, fields_of, text_field

pytestmark = pytest.mark.local_only
VIEW = "SELECT a.name, d.timestamp, d.value FROM data_d d JOIN assets a ON a.id = d.asset_id"
TABLES = ["asset_edges", "assets", "data_d", "data_h", "data_min", "named_days", "raw_readings"]
LONG = "SELECT count(*) FROM data_min a CROSS JOIN data_min b CROSS JOIN data_min c WHERE a.value + b.value + c.value < 0"


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("served")).build()
    views = plant.lake.folder / "catalog" / "views"
    views.mkdir()
    (views / "named_days.sql").write_text(VIEW)
    (views / "broken.sql").write_text("SELECT nothing FROM data_d")
    (views / "circle.sql").write_text("SELECT * FROM circle")
    plant.serve()
    yield plant
    assert plant.stop() == OK


def tenant_rows(plant: Plant, table: str, tenant: str = "North") -> pd.DataFrame:
    """Returns the tenant's rows of a table, read by the `deltalake` package."""
    rows = plant.lake.table(table)
    rows = rows[rows["asset_id"].isin(plant.tenants[tenant].assets)]
    rows = rows.assign(timestamp=pd.to_datetime(rows["timestamp"], unit="us", utc=True))
    return rows.sort_values(["asset_id", "timestamp"], ignore_index=True)


def assert_same_rows(actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert len(expected) > 0
    pd.testing.assert_frame_equal(actual, expected[list(actual.columns)], check_dtype=False)


# ---- results


@pytest.mark.parametrize("tenant", ["North", "South", "Everything"])
@pytest.mark.parametrize("table", ["data_h", "data_d"])
def test_organisation_sees_its_own_rows(plant: Plant, table: str, tenant: str) -> None:
    actual = plant.ask(f"SELECT asset_id, timestamp, value, count, min, max, stddev FROM {table} ORDER BY 1, 2", tenant)
    assert_same_rows(actual, tenant_rows(plant, table, tenant))


def test_large_result_arrives_complete(plant: Plant) -> None:
    expected = tenant_rows(plant, "data_min", "Everything")
    actual = plant.ask("SELECT * FROM data_min", "Everything").sort_values(["asset_id", "timestamp"], ignore_index=True)
    assert len(expected) > 100_000
    assert_same_rows(actual[["asset_id", "timestamp", "value", "count"]], expected)


def test_organisation_without_grants_sees_no_rows(plant: Plant) -> None:
    for table in TABLES:
        assert plant.ask(f"SELECT count(*) AS n FROM {table}", "Nobody")["n"].item() == 0, table


def test_assets_edges_and_readings_are_filtered_by_grants(plant: Plant) -> None:
    assets = pd.DataFrame(plant.assets())
    mine = plant.tenants["North"].assets
    assert set(plant.ask("SELECT id FROM assets")["id"]) == mine
    edges = json.loads((plant.lake.folder / "catalog" / "graph.json").read_text())["edges"]
    both = [edge for edge in edges if edge["source"] in plant.tenants["South"].assets and edge["target"] in plant.tenants["South"].assets]
    assert len(plant.ask("SELECT * FROM asset_edges", "South")) == len(both)
    assert len(plant.ask("SELECT * FROM asset_edges", "Everything")) == len(edges)
    raw = pa.concat_tables([pa.parquet.read_table(path) for path in plant.lake.raw.rglob("*.parquet")]).to_pandas()
    for tenant in ("North", "South"):
        expected = raw[raw["id"].isin(plant.tenants[tenant].assets)].groupby("id").size()
        actual = plant.ask("SELECT id, count(*) AS n FROM raw_readings GROUP BY id ORDER BY id", tenant)
        assert dict(zip(actual["id"], actual["n"])) == dict(expected)
    one = assets[assets["id"].isin(mine) & assets["id"].isin(raw["id"])]["id"].iloc[0]
    window = raw[(raw["id"] == one) & (pd.to_datetime(raw["timestamp"], utc=True) >= "2024-05-02")]
    sql = f"SELECT count(*) AS n FROM raw_readings WHERE id = '{one}' AND timestamp >= '2024-05-02'"
    assert 0 < plant.ask(sql)["n"].item() == len(window)


def test_view_is_filtered_by_grants(plant: Plant) -> None:
    names = {asset["name"] for asset in plant.assets() if asset["id"] in plant.tenants["South"].assets}
    actual = plant.ask("SELECT * FROM named_days", "South")
    assert set(actual["name"]) <= names and len(actual) == len(tenant_rows(plant, "data_d", "South"))


def test_invalid_view_is_ignored_and_logged(plant: Plant) -> None:
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="no table broken"):
        plant.ask("SELECT * FROM broken")
    log = "".join(plant.log)
    assert "ignored the view broken" in log and "ignored the view circle" in log


# ---- connecting


def test_every_credential_connects(plant: Plant) -> None:
    tenant = plant.tenants["North"]
    credentials = [
        {"username": tenant.email("ana"), "password": PASSWORD},
        {"username": tenant.email("ana").upper(), "password": PASSWORD},
        {"username": "token", "password": tenant.key},
        {BEARER: f"Bearer {tenant.key}"},
    ]
    token = plant.run("token", "create", tenant.email("ana"), "--json", stdin=PASSWORD + "\n")
    credentials.append({BEARER: f"Bearer {json.loads(token)['token']}"})
    credentials.append({"username": "", "password": json.loads(token)["token"]})
    for credential in credentials:
        with connect(plant.uri, credential) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 AS one")
            assert cursor.fetchall() == [(1,)], credential


def test_pyarrow_signs_in_with_basic(plant: Plant) -> None:
    client = flight.FlightClient(plant.uri)
    header = client.authenticate_basic_token(plant.tenants["North"].email("ana"), PASSWORD)
    assert header[0] == b"authorization" and header[1].startswith(b"Bearer eyJ")
    options = flight.FlightCallOptions(headers=[header])
    command = any_of("CommandStatementQuery", text_field(1, "SELECT 2 AS two"))
    info = client.get_flight_info(flight.FlightDescriptor.for_command(command), options)
    assert client.do_get(info.endpoints[0].ticket, options).read_all()["two"].to_pylist() == [2]


def test_password_that_looks_like_key_signs_in(plant: Plant) -> None:
    password = "pl_is short for plantlake"
    plant.run("user", "create", "pl@north.example", "--org", "North", stdin=password + "\n")
    with connect(plant.uri, {"username": "pl@north.example", "password": password}) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1 AS one")
        assert cursor.fetchall() == [(1,)]
    plant.run("user", "remove", "pl@north.example").expect(OK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no credential was sent"),
        ({"username": "ana@north.example", "password": "wrong horse battery"}, "wrong e-mail address or password"),
        ({"username": "nobody@north.example", "password": "wrong horse battery"}, "wrong e-mail address or password"),
        ({BEARER: "Bearer nonsense"}, "neither an API key"),
        ({BEARER: "Bearer pl_0123456789abcdef_" + "0" * 64}, "not valid"),
        ({BEARER: "Digest x"}, "neither `Basic`"),
    ],
)
def test_refused_credential_reports_reason(plant: Plant, options: dict[str, str], message: str) -> None:
    with pytest.raises(adbc_driver_manager.ProgrammingError, match=message):
        with connect(plant.uri, options) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")


# ---- statements


@pytest.mark.parametrize(
    ("value", "sql"),
    [
        (7, "? + 1"),
        (2.5, "? * 2"),
        ("a?b", "? || '?'"),
        (True, "NOT ?"),
        (None, "coalesce(?, 'nothing')"),
        (dt.datetime(2024, 5, 1, 12), "CAST(? AS TIMESTAMP)"),
        (dt.date(2024, 5, 1), "CAST(? AS DATE)"),
    ],
)
def test_parameter_of_each_type_is_bound(plant: Plant, value: object, sql: str) -> None:
    expected = {"? + 1": 8, "? * 2": 5.0, "? || '?'": "a?b?", "NOT ?": False, "coalesce(?, 'nothing')": "nothing"}.get(sql, value)
    with plant.with_key() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql} AS x -- and a ? in a comment", (value,))
        assert cursor.fetchone()[0] == expected


def test_parameters_in_any_position_are_bound(plant: Plant) -> None:
    rows = tenant_rows(plant, "data_h")
    one = rows["asset_id"].iloc[0]
    begin = dt.datetime(2024, 5, 2, tzinfo=dt.timezone.utc)
    mine = rows[(rows["asset_id"] == one) & (rows["timestamp"] >= begin)]
    for sql in (
        "SELECT count(*) AS n FROM data_h WHERE asset_id = ? AND timestamp >= ?",
        "SELECT count(*) AS n FROM data_h WHERE asset_id = $1 AND timestamp >= $2",
        "WITH x AS (SELECT * FROM data_h WHERE asset_id IN (?)) SELECT count(*) AS n FROM x WHERE timestamp BETWEEN ? AND now()",
    ):
        assert plant.ask(sql, parameters=(one, begin))["n"].item() == len(mine) > 0, sql
    assert len(plant.ask("SELECT * FROM data_h ORDER BY 1, 2 LIMIT ? OFFSET ?", parameters=(3, 1))) == 3
    assert plant.ask("SELECT * FROM generate_series(?, ?)", parameters=(2, 4))["value"].tolist() == [2, 3, 4]


def test_prepared_statement_runs_repeatedly(plant: Plant) -> None:
    with plant.with_key() as connection, connection.cursor() as cursor:
        for number in range(5):
            cursor.execute("SELECT ? * 10 AS x", (number,))
            assert cursor.fetchone() == (number * 10,)


def test_prepared_statement_describes_parameter_types(plant: Plant) -> None:
    with plant.with_key() as connection, connection.cursor() as cursor:
        schema = cursor.adbc_prepare("SELECT * FROM data_h WHERE timestamp > ? AND value < ? AND asset_id = ? LIMIT ?")
    # The JDBC driver sends milliseconds for any declared unit; see test_jdbc.
    assert schema.types == [pa.timestamp("ms", "UTC"), pa.float64(), pa.string(), pa.int64()], str(schema)


def test_wrong_number_of_parameters_is_refused(plant: Plant) -> None:
    for values in ((1,), (1, 2, 3)):
        with pytest.raises(adbc_driver_manager.ProgrammingError, match="has 2 parameters"):
            plant.ask("SELECT ? + ?", parameters=values)
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="has 1 parameters, and 0"):
        plant.ask("SELECT ?")
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="both forms"):
        plant.ask("SELECT ? + $1", parameters=(1,))


REFUSED = [
    "INSERT INTO data_h SELECT * FROM data_h",
    "DELETE FROM data_h",
    "UPDATE data_h SET value = 0",
    "DROP TABLE data_h",
    "CREATE TABLE mine AS SELECT 1",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/etc'",
    "COPY data_h TO 'x.parquet'",
    "SELECT 1; SELECT 2",
    "SELECT * INTO mine FROM data_h",
    "PREPARE x AS SELECT 1",
    "BEGIN",
    "EXPLAIN ANALYZE SELECT 1",
    "EXPLAIN VERBOSE SELECT 1",
    "EXPLAIN INSERT INTO data_h SELECT * FROM data_h",
    "SET datafusion.execution.batch_size = 1",
    "SET datafusion.catalog.information_schema = false",
    "",
    "-- nothing",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_statement_other_than_query_is_refused_without_effect(plant: Plant, sql: str) -> None:
    before = plant.lake.snapshot()
    if sql:  # ADBC does not send empty statements
        with pytest.raises(adbc_driver_manager.ProgrammingError, match="allowed here"):
            plant.ask(sql)
    with pytest.raises(pa.ArrowInvalid, match="allowed here"):
        plant.client().info(any_of("CommandStatementQuery", text_field(1, sql)))
    assert plant.lake.snapshot() == before


def test_explain_hides_files(plant: Plant) -> None:
    text = plant.ask("EXPLAIN SELECT count(*) FROM data_h WHERE value > 3")["plan"].str.cat()
    assert "TableScan: data_h" in text
    for secret in ("parquet", str(plant.lake.folder), "file", "visible", "partition"):
        assert secret not in text, text


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM data_hh", r"no table data_hh; did you mean data_h\?\nline 1: SELECT \* FROM data_hh\n {22}\^"),
        ("SELECT\n  valeu\nFROM data_h", r"(?s)No field named valeu.*line 2:   valeu\n {10}\^"),
        ("SELECT value FROM", r"line 1: SELECT value FROM\n {25}\^"),
        ("SELECT * FROM data_h WHERE value = 'abc'", "abc"),
        ("SELECT nofunction(1)", "nofunction"),
        ("SELECT TIMESTAMP 'yesterday' > now()", r"(?s)^((?!rule|caused).)*yesterday((?!rule|caused).)*$"),
        ("SELECT 1 +", "line 1"),
    ],
)
def test_errors_name_cause_and_position(plant: Plant, sql: str, message: str) -> None:
    with pytest.raises(adbc_driver_manager.ProgrammingError, match=message):
        plant.ask(sql)


def test_errors_carry_request_id(plant: Plant) -> None:
    with pytest.raises(adbc_driver_manager.ProgrammingError) as caught:
        plant.ask("SELECT * FROM nowhere")
    details = dict(caught.value.details)
    [request] = [value for key, value in caught.value.details if key == b"plantlake-request-id"]
    assert re.fullmatch(rb"[0-9a-f-]{36}", request), details
    assert any(request.decode() in line for line in plant.log)


def test_sql_is_not_logged(plant: Plant) -> None:
    plant.ask("SELECT 'unmistakable words'")
    assert not any("unmistakable" in line for line in plant.log)


# ---- metadata


def test_metadata_describes_tables(plant: Plant) -> None:
    with plant.with_key() as connection:
        objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
        [catalog] = objects
        assert catalog["catalog_name"] == "plantlake"
        schemas = {schema["db_schema_name"]: schema["db_schema_tables"] for schema in catalog["catalog_db_schemas"]}
        assert {"account", "archive", "information_schema", "public"} == set(schemas)
        assert sorted(table["table_name"] for table in schemas["public"]) == TABLES
        columns = {table["table_name"]: [column["column_name"] for column in table["table_columns"]] for table in schemas["public"]}
        assert columns["assets"] == ["id", "name", "type", "location", "specifications"]
        assert [table["table_name"] for table in schemas["account"]] == ["limits", "usage"], "an analyst sees no users or keys"
        schema = connection.adbc_get_table_schema("data_h", db_schema_filter="public")
        assert schema.names == list(plant.ask("SELECT * FROM data_h LIMIT 0").columns)
        assert connection.adbc_get_table_types() == ["TABLE", "VIEW"]
        info = connection.adbc_get_info()
        assert info["vendor_name"] == "plantlake"
        with connection.cursor() as cursor:
            announced = cursor.adbc_execute_schema("SELECT * FROM data_h")
            cursor.execute("SELECT * FROM data_h")
            assert announced == cursor.fetch_arrow_table().schema


def test_get_tables_filters_by_type_and_pattern(plant: Plant) -> None:
    client = plant.client()

    def tables(**filters: str | list[str]) -> list[str]:
        body = b""
        for number, name in ((1, "catalog"), (2, "schema"), (3, "table")):
            body += text_field(number, filters[name]) if name in filters else b""
        for kind in filters.get("types", []):
            body += text_field(4, kind)
        command = any_of("CommandGetTables", body + bool_field(5, True))
        return client.get(command)["table_name"].to_pylist()

    everything = {*TABLES, "limits", "usage"}
    assert set(tables()) == everything
    assert tables(types=["VIEW"]) == ["named_days"]
    assert set(tables(types=["BASE TABLE"])) == everything - {"named_days"} == set(tables(types=["TABLE"]))
    assert tables(table=r"data\__") == ["data_d", "data_h"]
    assert sorted(tables(schema="acc%")) == ["limits", "usage"]
    assert tables(catalog="other") == tables(table="SELECT * FROM data_h") == []
    assert tables(table="%a" * 10_000) == []


@pytest.mark.parametrize("table, columns", [("data_min", ["asset_id", "timestamp"]), ("assets", ["id"]), ("raw_readings", [])])
def test_primary_keys_are_listed(plant: Plant, table: str, columns: list[str]) -> None:
    command = any_of("CommandGetPrimaryKeys", text_field(2, "public") + text_field(3, table))
    keys = plant.client().get(command)
    assert keys["column_name"].to_pylist() == columns
    for other in ("CommandGetImportedKeys", "CommandGetExportedKeys"):
        assert plant.client().get(any_of(other, text_field(3, table))).num_rows == 0


def test_metadata_commands_return_announced_schema(plant: Plant) -> None:
    client = plant.client()
    for name in ("CommandGetCatalogs", "CommandGetDbSchemas", "CommandGetTables", "CommandGetTableTypes", "CommandGetSqlInfo",
                 "CommandGetXdbcTypeInfo", "CommandGetPrimaryKeys", "CommandGetImportedKeys", "CommandGetExportedKeys",
                 "CommandGetCrossReference"):
        info = client.info(any_of(name))
        [endpoint] = info.endpoints
        assert not endpoint.locations
        assert client.get(endpoint.ticket).schema == info.schema, name
        schema = client.flight.get_schema(flight.FlightDescriptor.for_command(any_of(name)), client.options).schema
        assert schema == info.schema, name
    numbers = client.get(any_of("CommandGetSqlInfo"))["info_name"].to_pylist()
    assert len(numbers) >= 69 and len(set(numbers)) == len(numbers)


def test_tables_of_users_and_keys_are_for_admins(plant: Plant) -> None:
    with plant.connect("North", "admin") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT email, role FROM account.users ORDER BY email")
        assert cursor.fetchall() == [("admin@north.example", "admin"), ("ana@north.example", "analyst")]
        cursor.execute('SELECT id, "user" FROM account.keys')
        assert cursor.fetchall() == [(plant.tenants["North"].key_id, "ana@north.example")]
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="no table account.users"):
        plant.ask("SELECT * FROM account.users")


# ---- other clients


def test_pandas_and_polars_read_results(plant: Plant) -> None:
    sql = "SELECT asset_id, timestamp, value FROM data_h ORDER BY 1, 2"
    expected = tenant_rows(plant, "data_h")[["asset_id", "timestamp", "value"]]
    with plant.connect() as connection:
        assert_same_rows(pd.read_sql(sql, connection), expected)
        actual = pl.read_database(sql, connection)
        assert actual["value"].to_list() == expected["value"].to_list()
    with pytest.raises(adbc_driver_manager.Error, match="only users and keys with the ingest permission"), plant.connect() as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("raw_readings", pa.table({"id": ["a"], "timestamp": [1], "value": [1.0]}), mode="append")


def test_client_with_4_mib_message_limit_reads_wide_rows(plant: Plant) -> None:
    """As Grafana does: gRPC's default limit, base tables, then one endpoint."""
    client = Raw(plant.uri, plant.tenants["Everything"].key, generic_options=[("grpc.max_receive_message_length", 4 << 20)])
    tables = client.get(any_of("CommandGetTables", text_field(4, "BASE TABLE") + bool_field(5, False)))
    assert set(tables["table_name"].to_pylist()) == {*TABLES, "limits", "usage"} - {"named_days"} and tables.num_columns == 4
    info = client.info(any_of("CommandStatementQuery", text_field(1, "SELECT m.*, repeat('x', 200) AS wide FROM data_min m")))
    [endpoint] = info.endpoints
    assert not endpoint.locations
    assert client.get(endpoint.ticket).num_rows == len(tenant_rows(plant, "data_min", "Everything"))


def test_writes_are_refused_with_reason(plant: Plant) -> None:
    readings = pa.table({"id": ["a"], "timestamp": [1], "value": [1.0]})
    with plant.connect() as connection, connection.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.Error, match="(?i)not|only"):
            cursor.executemany("INSERT INTO data_d (asset_id) VALUES (?)", [("a",), ("b",)])
        for target in ("raw_readings", "data_d", "mine"):
            for mode in ("append", "create", "replace", "create_append"):
                what = "cannot write to the table" if target != "raw_readings" else 'use mode="append"'
                if (target, mode) == ("raw_readings", "append"):
                    what = "only users and keys with the ingest permission may send readings"
                with pytest.raises(adbc_driver_manager.Error, match=what):
                    cursor.adbc_ingest(target, readings, mode=mode)
        cursor.execute("SELECT 1 AS x")
        assert cursor.fetchone() == (1,)
    # The server does not pretend to support transactions.
    with pytest.warns(Warning, match="autocommit"):
        dbapi.connect(plant.uri, db_kwargs={BEARER: f"Bearer {plant.tenants['North'].key}"}).close()


def test_executemany_of_query_is_refused(plant: Plant) -> None:
    with plant.connect() as connection, connection.cursor() as cursor, pytest.raises(adbc_driver_manager.Error, match="a query is not an update"):
        cursor.executemany("SELECT count(*) FROM data_d WHERE asset_id = ?", [("a",), ("b",)])


# ---- sessions


def test_session_options_do_not_affect_other_sessions(plant: Plant) -> None:
    zone = "SELECT value FROM information_schema.df_settings WHERE name = 'datafusion.execution.time_zone'"
    with plant.connect() as one, one.cursor() as cursor:
        cursor.execute("SET TIME ZONE = 'Europe/Berlin'")
        cursor.execute(zone)
        assert cursor.fetchone() == ("Europe/Berlin",)
        assert one.adbc_current_db_schema == "public" and one.adbc_current_catalog == "plantlake"
        one.adbc_current_db_schema = "information_schema"
        cursor.execute("SELECT count(*) FROM schemata")
        assert cursor.fetchone()[0] > 0
        with pytest.raises(adbc_driver_manager.Error):
            one.adbc_current_db_schema = "nowhere"
        with plant.connect() as other, other.cursor() as second:
            second.execute(zone)
            assert second.fetchone() != ("Europe/Berlin",)
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="invalid time zone"):
        plant.ask("SET TIME ZONE = 'Middle/Earth'")


def test_long_query_can_be_cancelled(plant: Plant) -> None:
    with plant.connect("Everything") as connection, connection.cursor() as cursor:
        threading.Timer(1, cursor.adbc_cancel).start()
        began = time.monotonic()
        with pytest.raises(adbc_driver_manager.Error, match="(?i)cancel"):
            cursor.execute(LONG)
            cursor.fetchall()
        assert time.monotonic() - began < 10
    assert plant.ask("SELECT 1 AS x")["x"].item() == 1


def test_cancel_flight_info_cancels_own_query_only(plant: Plant) -> None:
    client = plant.client("Everything")
    info = client.info(any_of("CommandStatementQuery", text_field(1, LONG)))
    cancel = lambda who: fields_of(who.action("CancelFlightInfo", text_field(1, info.serialize()))[0])[1][0]  # noqa: E731
    assert cancel(client) == 3, "a query that does not run yet was cancelled"
    outcome: list[Exception] = []

    def read() -> None:
        try:
            # Not read_all, which turns a cancelled call into a KeyboardInterrupt of the whole process.
            client.flight.do_get(info.endpoints[0].ticket, client.options).read_chunk()
        except (flight.FlightError, pa.ArrowCancelled) as error:
            outcome.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(1)
    assert cancel(plant.client("South")) == 3, "another organisation cancelled the query"
    assert thread.is_alive()
    assert cancel(plant.client("Everything")) == 1
    thread.join(timeout=10)
    assert "was cancelled on request" in str(outcome[0]), outcome


def ignore_cancellation(call: Callable[[], object]) -> None:
    with contextlib.suppress(flight.FlightError, pa.ArrowCancelled):
        call()


def test_ticket_of_one_server_is_accepted_by_another(plant: Plant) -> None:
    """Servers behind a load balancer share the state, so each accepts the tickets and handles of the others."""
    twin = copy.copy(plant).serve()
    try:
        first, second = plant.client("Everything"), twin.client("Everything")
        info = first.info(any_of("CommandStatementQuery", text_field(1, "SELECT count(*) AS n FROM data_min")))
        assert second.get(info.endpoints[0].ticket)["n"].to_pylist() == [len(tenant_rows(plant, "data_min", "Everything"))]
        handle = first.prepare("SELECT 7 AS x")
        assert second.get(second.info(any_of("CommandPreparedStatementQuery", text_field(1, handle))).endpoints[0].ticket)["x"].to_pylist() == [7]
        # A running query can be cancelled only on its own server.
        long = first.info(any_of("CommandStatementQuery", text_field(1, LONG)))
        read = lambda: first.flight.do_get(long.endpoints[0].ticket, first.options).read_chunk()  # noqa: E731
        reading = threading.Thread(target=lambda: ignore_cancellation(read))
        reading.start()
        time.sleep(1)
        cancel = lambda who: fields_of(who.action("CancelFlightInfo", text_field(1, long.serialize()))[0])[1][0]  # noqa: E731
        assert cancel(second) == 3 and reading.is_alive()
        assert cancel(first) == 1
        reading.join(timeout=10)
        assert not reading.is_alive()
    finally:
        assert twin.stop() == OK


# ---- changes take effect on the running server


def rows_of(plant: Plant, tenant: str) -> int:
    return plant.ask("SELECT count(*) AS n FROM data_d", tenant)["n"].item()


def test_grant_and_revocation_apply_within_seconds(plant: Plant) -> None:
    tenant = plant.tenant("Changing", [])
    assert rows_of(plant, "Changing") == 0
    plant.run("org", "grant", tenant.name, "--type", "temperature sensor").expect(OK)
    eventually(lambda: rows_of(plant, "Changing") == len(tenant_rows(plant, "data_d")))
    plant.run("org", "revoke", tenant.name, "--type", "temperature sensor").expect(OK)
    eventually(lambda: rows_of(plant, "Changing") == 0)


@pytest.mark.parametrize("target", ["user", "key", "org"])
def test_running_query_ends_when_access_is_revoked(plant: Plant, target: str) -> None:
    tenant = plant.tenant(f"Leaving{target}", ["--all"])
    ended: list[float] = []
    errors: list[str] = []

    def read() -> None:
        try:
            plant.client(tenant.name).query(LONG)
        except flight.FlightError as error:
            errors.append(str(error))
        ended.append(time.monotonic())

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(1)
    command = {"user": ["user", "deactivate", tenant.email("ana")], "key": ["key", "revoke", tenant.key_id], "org": ["org", "deactivate", tenant.name]}
    plant.run(*command[target]).expect(OK)
    began = time.monotonic()
    thread.join(timeout=30)
    assert ended and ended[0] - began < 5 and "access has ended" in errors[0], errors
    with pytest.raises(adbc_driver_manager.Error):
        plant.ask("SELECT 1", tenant.name)


def test_query_during_revocation_fails_as_retryable(plant: Plant) -> None:
    tenant = plant.tenant("Shrinking", ["--all"])
    errors: list[Exception] = []

    def read() -> None:
        try:
            plant.client(tenant.name).query(LONG)
        except flight.FlightError as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(1)
    plant.run("org", "revoke", tenant.name, "--all").expect(OK)
    thread.join(timeout=30)
    assert isinstance(errors[0], flight.FlightUnavailableError) and "repeat the request" in str(errors[0]), errors
    eventually(lambda: rows_of(plant, tenant.name) == 0)


def test_new_data_catalog_and_view_apply_without_restart(plant: Plant) -> None:
    before = rows_of(plant, "Everything")
    source = next(plant.lake.raw.rglob("*.parquet"))
    table = pa.parquet.read_table(source).slice(0, 100).to_pandas()
    table["timestamp"] = pd.to_datetime(table["timestamp"]) + pd.Timedelta(days=30)
    table["value"] = 1.0
    table.to_parquet(plant.lake.raw / "later.parquet", coerce_timestamps="us")
    plant.lake.resample().expect(OK)
    eventually(lambda: rows_of(plant, "Everything") > before)

    (plant.lake.folder / "catalog" / "views" / "newest.sql").write_text("SELECT max(timestamp) AS newest FROM data_d")
    eventually(lambda: "newest" in plant.ask("SELECT table_name FROM information_schema.tables")["table_name"].tolist())

    path = plant.lake.folder / "catalog" / "assets.json"
    assets = json.loads(path.read_text())
    moved = next(asset for asset in assets if asset["type"] == "temperature sensor")
    shutil.copy(path, path.with_suffix(".kept"))
    kept = moved["type"]
    moved["type"] = "flow sensor"
    (path.parent / "id2assets.json").unlink()
    path.write_text(json.dumps(assets))
    count = f"SELECT count(*) AS n FROM data_d WHERE asset_id = '{moved['id']}'"
    eventually(lambda: plant.ask(count)["n"].item() == 0 and plant.ask(count, "South")["n"].item() > 0)
    moved["type"] = kept
    path.write_text(json.dumps(assets))
    eventually(lambda: plant.ask(count)["n"].item() > 0 and plant.ask(count, "South")["n"].item() == 0)


# ---- plantlake's own client


def test_query_command_reads_from_server(plant: Plant) -> None:
    tenant = plant.tenants["North"]
    sql = "SELECT asset_id, timestamp, value FROM data_h ORDER BY 1, 2"
    answer = plant.run("query", sql, "--server", plant.uri, "--format", "csv", stdin=tenant.key + "\n")
    expected = tenant_rows(plant, "data_h")[["asset_id", "timestamp", "value"]]
    actual = pd.read_csv(io.StringIO(answer))
    actual["timestamp"] = pd.to_datetime(actual["timestamp"], utc=True).astype(expected["timestamp"].dtype)
    pd.testing.assert_frame_equal(actual, expected, check_dtype=False, rtol=1e-12)
    both = f"{PASSWORD}\nSELECT 'piped' AS sql"
    assert plant.run("query", "-", "--server", plant.uri, "--as", tenant.email("ana"), "--format", "json", stdin=both) == '{"sql":"piped"}\n'


@pytest.mark.parametrize(
    ("sql", "secret", "message"),
    [
        ("SELECT * FROM data_hh", None, r"no table data_hh; did you mean data_h\?\n +line 1"),
        ("SELECT 1", "nonsense", "neither an API key"),
        ("SET TIME ZONE 'UTC'", None, "returns no rows"),
    ],
)
def test_query_command_shows_server_errors(plant: Plant, sql: str, secret: str | None, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        plant.run("query", sql, "--server", plant.uri, stdin=(secret or plant.tenants["North"].key) + "\n")


# ---- remote administration


def test_remote_admin_manages_own_users_and_keys(plant: Plant) -> None:
    plant.tenant("Remote", ["--all"])
    login = ["--server", plant.uri, "--as", "admin@remote.example"]

    def administer(*command: str, secrets: str = PASSWORD) -> dict:
        return json.loads(plant.run(*command, *login, "--json", stdin=secrets + "\n"))

    made = administer("user", "create", "eve@remote.example", secrets=f"{PASSWORD}\n{PASSWORD}")
    assert (made["organisation"], made["role"]) == ("Remote", "analyst")
    key = administer("key", "create", "--user", "eve@remote.example", "--name", "remote")
    with connect(plant.uri, {BEARER: f"Bearer {key['key']}"}) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    emails = [user["email"] for user in administer("user", "list")]
    assert emails == ["admin@remote.example", "ana@remote.example", "eve@remote.example"]
    assert administer("key", "revoke", key["id"])["changed"]
    assert not administer("user", "deactivate", "eve@remote.example")["active"]
    assert administer("user", "remove", "eve@remote.example")["removed"]
    audit = plant.run("audit", "--json").expect(OK).text
    assert "user admin@remote.example" in audit and "key.revoke" in audit


@pytest.mark.parametrize(
    "command",
    [
        ["user", "deactivate", "ana@north.example"],
        ["user", "list", "--org", "North"],
        ["user", "remove", "admin@south.example"],
        ["key", "create", "--user", "ana@south.example", "--name", "mine"],
        ["key", "list", "--user", "ana@north.example"],
        ["key", "revoke", "KEY"],
    ],
)
def test_remote_admin_cannot_manage_other_organisations(plant: Plant, command: list[str]) -> None:
    command = [plant.tenants["North"].key_id if part == "KEY" else part for part in command]
    process = subprocess.run(
        [str(plant.binary()), *plant.lake.args([*command, "--server", plant.uri, "--as", "admin@everything.example"])],
        input=PASSWORD.encode() + b"\n", env=plant.environment(), capture_output=True, timeout=60,
    )
    assert process.returncode == FAILURE and b"there is no" in process.stderr, process
    with pytest.raises(flight.FlightUnauthorizedError, match="only an admin"):
        plant.client("North").action("plantlake.Administer", b'{"order": "users", "organisation": null}')


# ---- listening


def test_plaintext_listens_on_loopback_only(plant: Plant) -> None:
    finished = plant.run("serve", "--listen", "0.0.0.0:0").expect(USAGE)
    assert "--allow-plaintext" in finished.err and "--dev-tls" in finished.err
    port = plant.uri.rsplit(":", 1)[1]
    taken = plant.run("serve", "--listen", f"127.0.0.1:{port}").expect(FAILURE)
    assert "cannot listen on" in taken.err


def test_renewed_tls_certificate_is_loaded(plant: Plant, tmp_path: Path) -> None:
    second = Plant(tmp_path / "other")
    second.lake, second.tenants = plant.lake, plant.tenants
    second.serve("--dev-tls")
    made = Path(second.startup["certificate"]).read_text()
    try:
        assert second.uri.startswith("grpc+tls://")
        with second.with_key("North", **{TLS_ROOTS: made}) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 AS x")
            assert cursor.fetchone() == (1,)
        with pytest.raises(adbc_driver_manager.Error, match="certificate|tls|x509"):
            second.ask("SELECT 1")
        listed = second.run("user", "list", "--json", "--server", second.uri, "--server-ca", second.startup["certificate"],
                            "--as", "admin@north.example", stdin=PASSWORD + "\n")
        assert "ana@north.example" in listed
    finally:
        second.stop()

    certificate, key = self_signed(tmp_path, "first")
    live = [tmp_path / "cert.pem", tmp_path / "key.pem"]
    shutil.copy(certificate, live[0])
    shutil.copy(key, live[1])
    second.serve("--tls-cert", str(live[0]), "--tls-key", str(live[1]))

    def trusts(roots: Path) -> bool:
        try:
            with second.with_key("North", **{TLS_ROOTS: roots.read_text()}) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                return True
        except adbc_driver_manager.Error:
            return False

    try:
        assert trusts(certificate)
        renewed, renewed_key = self_signed(tmp_path, "second")
        shutil.copy(renewed, live[0])
        shutil.copy(renewed_key, live[1])
        eventually(lambda: trusts(renewed), 10)
        assert not trusts(certificate)
        live[0].write_text("damaged")
        time.sleep(2.5)
        assert trusts(renewed), "an unusable certificate replaced the valid one"
    finally:
        second.stop()


def self_signed(folder: Path, name: str, days: float = 60, since: float = 1) -> tuple[Path, Path]:
    """Creates a self-signed certificate with the `cryptography` package, valid from `since` days ago for `days` more days."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(days=since))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files
