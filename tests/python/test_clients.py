"""Type names, rows of parameters, and timestamps without a zone, as clients of Flight SQL see them."""

from __future__ import annotations

from collections.abc import Iterator

import adbc_driver_manager
import pandas as pd
import pyarrow as pa
import pytest

from harness import OK
from server import HEADER, Plant, any_of, bool_field, eventually, text_field
from test_server import tenant_rows

pytestmark = pytest.mark.local_only
TYPE_NAME = b"ARROW:FLIGHT:SQL:TYPE_NAME"
ZONELESS = f"{HEADER}zoneless_timestamps"
TYPES = {
    "true": "BOOLEAN",
    "CAST(1 AS TINYINT)": "TINYINT",
    "CAST(1 AS SMALLINT)": "SMALLINT",
    "CAST(1 AS INT)": "INTEGER",
    "2": "BIGINT",
    "CAST(1 AS REAL)": "FLOAT",
    "3.5": "DOUBLE",
    "CAST(1.25 AS DECIMAL(10, 2))": "DECIMAL",
    "DATE '2024-05-01'": "DATE",
    "TIME '12:00:00'": "TIME",
    "TIMESTAMP '2024-05-01 10:00:00'": "TIMESTAMP",
    "now()": "TIMESTAMP WITH TIME ZONE",
    "'x'": "VARCHAR",
    "X'00'": "VARBINARY",
    "[1]": "ARRAY",
    "named_struct('a', 1)": "STRUCT",
    "INTERVAL '1 day'": "INTERVAL",
}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("clients")).build().serve()
    yield plant
    assert plant.stop() == OK


# ---- names of types


def test_columns_of_results_have_names_of_sql_types(plant: Plant) -> None:
    sql = "SELECT " + ", ".join(f"{sql} AS c{i}" for i, sql in enumerate(TYPES))
    table = plant.client().query(sql)
    assert [field.metadata[TYPE_NAME].decode() for field in table.schema] == list(TYPES.values())
    decimal = table.schema.field(list(TYPES).index("CAST(1.25 AS DECIMAL(10, 2))")).metadata
    assert (decimal[b"ARROW:FLIGHT:SQL:PRECISION"], decimal[b"ARROW:FLIGHT:SQL:SCALE"]) == (b"10", b"2")
    # Every description of a result announces the schema of its rows.
    info = plant.client().info(any_of("CommandStatementQuery", text_field(1, sql)))
    assert info.schema.equals(table.schema, check_metadata=True)


def test_adbc_reports_names_of_types_of_tables(plant: Plant) -> None:
    with plant.with_key() as connection:
        objects = connection.adbc_get_objects(depth="all", table_name_filter="data_h").read_all().to_pylist()
    [table] = [t for c in objects for s in c["catalog_db_schemas"] if s["db_schema_name"] == "public" for t in s["db_schema_tables"]]
    types = {column["column_name"]: column["xdbc_type_name"] for column in table["table_columns"]}
    assert types["asset_id"] == "VARCHAR" and types["timestamp"] == "TIMESTAMP WITH TIME ZONE"
    assert types["count"] == "BIGINT" and types["value"] == "DOUBLE" and None not in types.values()


def test_described_types_are_in_type_info(plant: Plant) -> None:
    client = plant.client()
    command = any_of("CommandGetXdbcTypeInfo")
    known = set(client.get(client.info(command).endpoints[0].ticket).column("type_name").to_pylist())
    command = any_of("CommandGetTables", bool_field(5, True))
    tables = client.get(client.info(command).endpoints[0].ticket).to_pylist()
    fields = {field for row in tables for field in pa.ipc.read_schema(pa.py_buffer(row["table_schema"]))}
    assert {field.metadata[TYPE_NAME].decode() for field in fields} <= known
    assert all(field.metadata[b"ARROW:FLIGHT:SQL:IS_READ_ONLY"] == b"1" for field in fields)


# ---- rows of parameters


def run_for_rows(plant: Plant, sql: str, rows: pa.RecordBatch, tenant: str = "North") -> pa.Table:
    with plant.with_key(tenant) as connection, connection.cursor() as cursor:
        cursor.execute(sql, rows)
        return cursor.fetch_arrow_table()


def test_query_answers_each_row_of_parameters_in_order(plant: Plant) -> None:
    expected = tenant_rows(plant, "data_h")
    assets = [*sorted(expected["asset_id"].unique(), reverse=True)[:5], "nobody", None]
    sql = "SELECT asset_id, timestamp, value FROM data_h WHERE asset_id = ? ORDER BY timestamp"
    found = run_for_rows(plant, sql, pa.record_batch([pa.array(assets, pa.string())], names=["0"])).to_pandas()
    parts = [expected[expected["asset_id"] == asset] for asset in assets]
    wanted = pd.concat(parts, ignore_index=True)[["asset_id", "timestamp", "value"]]
    assert len(wanted) > 100
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)


def test_rows_of_parameters_show_nothing_of_others(plant: Plant) -> None:
    every = [asset["id"] for asset in plant.assets()]
    sql = "SELECT DISTINCT asset_id FROM data_d WHERE asset_id = ?"
    found = run_for_rows(plant, sql, pa.record_batch([pa.array(every)], names=["0"])).column(0).to_pylist()
    assert found == [asset for asset in every if asset in set(tenant_rows(plant, "data_d")["asset_id"])]


def test_rows_of_parameters_keep_types_and_counts(plant: Plant) -> None:
    rows = pa.record_batch([pa.array(range(1_000)), pa.array([None, "x"] * 500)], names=["0", "1"])
    found = run_for_rows(plant, "SELECT ? + 1 AS n, ? AS t", rows)
    assert found.column("n").to_pylist() == list(range(1, 1_001)) and found.column("t").to_pylist() == [None, "x"] * 500
    too_many = pa.record_batch([pa.array(range(1_001))], names=["0"])
    with pytest.raises(adbc_driver_manager.Error, match="1000"):
        run_for_rows(plant, "SELECT ? AS n", too_many)


def test_failing_row_of_parameters_fails_the_query(plant: Plant) -> None:
    with pytest.raises(adbc_driver_manager.Error, match="(?i)divi"):
        run_for_rows(plant, "SELECT 1 / ? AS n", pa.record_batch([pa.array([1, 0, 2])], names=["0"]))
    with pytest.raises(adbc_driver_manager.Error, match="EXPLAIN takes one row"):
        run_for_rows(plant, "EXPLAIN SELECT ? AS n", pa.record_batch([pa.array([1, 2])], names=["0"]))


def test_rows_of_parameters_are_one_request_in_the_ledger(plant: Plant) -> None:
    assets = sorted(tenant_rows(plant, "data_min")["asset_id"].unique())[:3]
    sql = "SELECT value FROM data_min WHERE asset_id = ? LIMIT 211"
    assert len(run_for_rows(plant, sql, pa.record_batch([pa.array(assets)], names=["0"]))) == 633
    usage = 'SELECT count(*) AS n, min(bytes_scanned) AS scanned FROM account.usage WHERE "rows" = 633 AND billable'
    eventually(lambda: plant.ask(usage)["n"].item() == 1, 10)
    assert plant.ask(usage)["scanned"].item() > 0
    assert plant.ask('SELECT count(*) AS n FROM account.usage WHERE "rows" = 211')["n"].item() == 0


# ---- timestamps without a zone


def test_zoneless_timestamps_are_the_same_instants(plant: Plant) -> None:
    sql = "SELECT timestamp, [timestamp] AS list FROM data_d ORDER BY 1 LIMIT 3"
    zoned = plant.client().query(sql)
    assert zoned.schema.field("timestamp").type == pa.timestamp("us", "UTC")
    with plant.with_key(**{ZONELESS: "true"}) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        found = cursor.fetch_arrow_table()
        described = connection.adbc_get_table_schema("data_d", db_schema_filter="public")
    assert found.schema.field("timestamp").type == pa.timestamp("us")
    assert found.schema.field("list").type.value_type == pa.timestamp("us")
    assert described.field("timestamp").type == pa.timestamp("us")
    assert found.column("timestamp").cast(pa.int64()) == zoned.column("timestamp").cast(pa.int64())
    # The property is one of the connection, and does not outlive it.
    assert plant.client().query(sql).schema.field("timestamp").type == pa.timestamp("us", "UTC")


def test_zoneless_timestamps_as_session_option(plant: Plant) -> None:
    with plant.connect("South") as connection, connection.cursor() as cursor:
        for statement, expected in (
            ("SET zoneless_timestamps = true", pa.timestamp("us")),
            ("SET zoneless_timestamps = 'off'", pa.timestamp("us", "UTC")),
        ):
            cursor.execute(statement)
            cursor.execute("SELECT timestamp FROM data_d LIMIT 1")
            assert cursor.fetch_arrow_table().schema.field(0).type == expected
        with pytest.raises(adbc_driver_manager.Error, match="ZONELESS_TIMESTAMPS"):
            cursor.execute("SET zoneless_timestamps = 'perhaps'")
    with plant.with_key(**{ZONELESS: "perhaps"}) as connection, connection.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.Error, match="use true or false"):
            cursor.execute("SELECT 1")


# ---- names that do not exist


def test_unknown_tables_and_schemas_are_not_found(plant: Plant) -> None:
    for sql in ("SELECT * FROM nowhere", "SELECT * FROM nowhere.data_h", "SET schema = 'nowhere'"):
        with plant.with_key() as connection, connection.cursor() as cursor, pytest.raises(adbc_driver_manager.Error) as error:
            cursor.execute(sql)
        assert error.value.status_code == adbc_driver_manager.AdbcStatusCode.NOT_FOUND, (sql, error.value)
