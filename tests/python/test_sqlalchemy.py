"""The SQLAlchemy dialect of clients/sqlalchemy-plantlake against a server, and Superset with its engine spec under --long."""

from __future__ import annotations

import datetime as dt
import importlib.util
import os
import subprocess
import sys
import tomllib
import uuid
import venv
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import registry

import conftest
from harness import OK, REPOSITORY
from server import PASSWORD, Plant

pytestmark = pytest.mark.local_only
PACKAGE = REPOSITORY / "clients" / "sqlalchemy-plantlake"
SUPERSET = "apache-superset==6.1.0"

if importlib.util.find_spec("sqlalchemy_plantlake") is None:
    sys.path.insert(0, str(PACKAGE / "src"))
registry.register("plantlake", "sqlalchemy_plantlake.dialect", "PlantlakeDialect")


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("sqlalchemy"))
    simulated = ("--assets", "14", "--days", "2", "--start", "2024-05-01", "--interval", "600s", "--seed", "5")
    plant.lake.run("simulate", *simulated).expect(OK)
    plant.lake.resample().expect(OK)
    plant.tenant("Everything", ["--all"])
    views = plant.lake.folder / "catalog" / "views"
    views.mkdir()
    (views / "named_days.sql").write_text('SELECT a.name AS "Name of asset", d.timestamp, d.value FROM data_d d JOIN assets a ON a.id = d.asset_id')
    plant.serve()
    yield plant
    assert plant.stop() == OK


def url(plant: Plant, user: str | None = None, **query: str) -> sa.URL:
    host, port = plant.uri.split("//")[1].split(":")
    login = {"username": "key", "password": plant.tenants["Everything"].key} if user is None else {"username": user, "password": PASSWORD}
    login = {} if "api_key" in query else login
    return sa.URL.create("plantlake", host=host, port=int(port), query={"tls": "false", **query}, **login)


@pytest.fixture(scope="module")
def engine(plant: Plant) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url(plant))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def hours(engine: sa.Engine) -> sa.Table:
    return sa.Table("data_h", sa.MetaData(), autoload_with=engine)


@pytest.fixture(scope="module")
def expected(plant: Plant) -> pd.DataFrame:
    """The rows of data_h, read by the `deltalake` package."""
    rows = plant.lake.table("data_h")
    return rows.assign(timestamp=pd.to_datetime(rows["timestamp"], unit="us", utc=True))


# ---- connecting


def test_every_credential_connects(plant: Plant) -> None:
    tenant = plant.tenants["Everything"]
    for address in (url(plant), url(plant, tenant.email("ana")), url(plant, api_key=tenant.key)):
        engine = sa.create_engine(address)
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1
            assert connection.dialect.server_version_info >= (0, 1)
        engine.dispose()


def test_wrong_password_is_refused(plant: Plant) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="(?i)unauthenticated"):
        sa.create_engine(url(plant).set(password="wrong")).connect()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plantlake://host/?colour=red", "unknown option"),
        ("plantlake://host/?tls=maybe", "invalid value"),
        ("plantlake://host/?timeout=soon", "invalid timeout"),
        ("plantlake://host/other", "unknown database"),
        ("plantlake://ada:x@host/?api_key=pl_1", "use one of them"),
        ("plantlake://host/?tls_ca=missing.pem", "cannot read tls_ca"),
    ],
)
def test_invalid_url_names_the_option(text: str, message: str) -> None:
    with pytest.raises(sa.exc.ArgumentError, match=message):
        sa.create_engine(text).connect()


def test_url_becomes_options_of_driver(tmp_path: Path) -> None:
    from adbc_driver_flightsql import DatabaseOptions
    from sqlalchemy_plantlake.address import driver_arguments

    (tmp_path / "ca.pem").write_text("certificate")
    found = driver_arguments(sa.make_url(f"plantlake://ada%40x:p%2Fw@history/?tls_ca={tmp_path / 'ca.pem'}&timeout=30"))
    assert found[0] == "grpc+tls://history:50051"
    assert found[1]["username"] == "ada@x" and found[1]["password"] == "p/w"
    assert found[1][DatabaseOptions.TLS_ROOT_CERTS.value] == "certificate"
    assert found[1][DatabaseOptions.TIMEOUT_QUERY.value] == "30.0"
    assert driver_arguments(sa.make_url("plantlake://[::1]:7/?tls=off"))[0] == "grpc://[::1]:7"


# ---- reflection


def test_reflection_finds_tables_and_types(plant: Plant, engine: sa.Engine) -> None:
    inspector = sa.inspect(engine)
    assert {"public", "account", "archive"} <= set(inspector.get_schema_names())
    assert inspector.default_schema_name == "public"
    names = set(inspector.get_table_names()) | set(inspector.get_view_names())
    assert {"data_min", "data_h", "data_d", "raw_readings", "assets", "asset_edges", "named_days"} <= names
    assert inspector.has_table("data_h") and not inspector.has_table("dataXh") and inspector.has_table("limits", schema="account")
    columns = {column["name"]: column for column in inspector.get_columns("data_h")}
    assert list(columns) == list(plant.ask("SELECT * FROM data_h LIMIT 0", "Everything").columns)
    assert isinstance(columns["asset_id"]["type"], sa.String)
    assert isinstance(columns["timestamp"]["type"], sa.TIMESTAMP) and columns["timestamp"]["type"].timezone
    assert isinstance(columns["value"]["type"], sa.Float) and columns["value"]["type"].precision == 53
    assert isinstance(columns["count"]["type"], sa.BigInteger)
    assert columns["stddev"]["nullable"]
    assert isinstance(next(c for c in inspector.get_columns("data_min") if c["name"] == "date")["type"], sa.Date)
    assert isinstance(next(c for c in inspector.get_columns("data_d") if c["name"] == "year")["type"], sa.Integer)
    assert inspector.get_columns("usage", schema="account")
    assert inspector.get_pk_constraint("data_h")["constrained_columns"] == [] == inspector.get_indexes("data_h")
    assert inspector.get_foreign_keys("data_h") == []
    with pytest.raises(sa.exc.NoSuchTableError):
        inspector.get_columns("data_x")


def test_whole_schema_is_reflected(engine: sa.Engine) -> None:
    metadata = sa.MetaData()
    metadata.reflect(engine, views=True)
    assert {"data_h", "assets", "named_days"} <= set(metadata.tables)
    name = metadata.tables["named_days"].c["Name of asset"]
    with engine.connect() as connection:
        assert connection.scalar(sa.select(name).order_by(name).limit(1))


def test_type_name_is_preferred_to_arrow_type() -> None:
    from sqlalchemy_plantlake.types import column_type

    assert isinstance(column_type("varchar(40)", pa.string()), sa.VARCHAR)
    assert isinstance(column_type("BIGINT", pa.int64()), sa.BigInteger)
    assert isinstance(column_type("SMALLINT", pa.int32()), sa.SmallInteger)
    assert column_type("TIMESTAMP", pa.timestamp("us", "UTC")).timezone
    assert not column_type("TIMESTAMP", pa.timestamp("us")).timezone
    assert column_type("DECIMAL(12, 3)", pa.decimal128(12, 3)).scale == 3
    assert isinstance(column_type("a new one", pa.float64()), sa.Float)
    assert isinstance(column_type(None, pa.dictionary(pa.int32(), pa.string_view())), sa.Text)
    assert column_type(None, pa.uint64()).precision == 20
    assert isinstance(column_type(None, pa.list_(pa.int64())), sa.types.NullType)


# ---- statements


def test_select_returns_rows_of_table(engine: sa.Engine, hours: sa.Table, expected: pd.DataFrame) -> None:
    asset = expected["asset_id"].iloc[0]
    query = (
        sa.select(hours.c.timestamp, hours.c.value, hours.c.count)
        .where(hours.c.asset_id == asset, hours.c.timestamp >= dt.datetime(2024, 5, 2, tzinfo=dt.UTC))
        .order_by(hours.c.timestamp)
    )
    with engine.connect() as connection:
        found = connection.execute(query).fetchall()
    rows = expected[(expected["asset_id"] == asset) & (expected["timestamp"] >= "2024-05-02")].sort_values("timestamp")
    assert len(rows) > 20
    assert [tuple(row) for row in found] == list(zip(rows["timestamp"], rows["value"], rows["count"]))
    with engine.connect() as connection:
        by_uuid = sa.text("SELECT count(*) FROM data_h WHERE asset_id = :id AND value > :low")
        assert connection.scalar(by_uuid, {"id": uuid.UUID(asset), "low": -1e9}) == len(expected[expected["asset_id"] == asset])


def test_limit_and_offset_select_the_page(engine: sa.Engine, hours: sa.Table, expected: pd.DataFrame) -> None:
    keys = sa.select(hours.c.asset_id, hours.c.timestamp).order_by(hours.c.asset_id, hours.c.timestamp)
    rows = list(expected.sort_values(["asset_id", "timestamp"])[["asset_id", "timestamp"]].itertuples(index=False, name=None))
    with engine.connect() as connection:
        for query, page in (
            (keys.limit(5), rows[:5]),
            (keys.limit(5).offset(7), rows[7:12]),
            (keys.offset(len(rows) - 3), rows[-3:]),
            (keys.limit(0), []),
        ):
            assert [tuple(row) for row in connection.execute(query)] == page


def test_expressions_compile_for_plantlake(engine: sa.Engine, hours: sa.Table, expected: pd.DataFrame) -> None:
    def value(expression: sa.ColumnElement):
        with engine.connect() as connection:
            return connection.scalar(sa.select(expression).select_from(hours))

    total = len(expected)
    assert value(sa.func.count()) == total
    assert value(sa.func.count().filter(hours.c.stddev.is_(None))) == expected["stddev"].isna().sum()
    assert value(sa.func.sum(hours.c.count) / sa.func.count()) == pytest.approx(expected["count"].sum() / total)
    # A single-precision cast would lose digits.
    assert value(sa.func.max(sa.cast(hours.c.value, sa.Float) + 1e9)) == pytest.approx(expected["value"].max() + 1e9, abs=1e-5)
    with engine.connect() as connection:
        none = sa.select(sa.func.count()).select_from(hours).where(hours.c.asset_id.in_([]))
        assert connection.scalar(none) == 0
        some = sa.select(sa.func.count()).select_from(hours).where(hours.c.asset_id.in_(list(expected["asset_id"].unique()[:2])))
        assert connection.scalar(some) == expected["asset_id"].isin(expected["asset_id"].unique()[:2]).sum()
        days = sa.func.date_trunc("day", hours.c.timestamp).label("day")
        grouped = sa.select(days, sa.func.sum(hours.c.count)).group_by(sa.text("1")).order_by(sa.text("1"))
        by_day = expected.groupby(expected["timestamp"].dt.floor("D"))["count"].sum()
        assert [tuple(row) for row in connection.execute(grouped)] == list(by_day.items())
        assets = sa.Table("assets", sa.MetaData(), autoload_with=connection)
        matching = sa.select(assets.c.name).where(assets.c.type.ilike("%SENSOR"), assets.c.name.regexp_match("^T"))
        assert all(name.startswith("T") for name in connection.scalars(matching))
        odd = sa.select(sa.literal("it's ? :x %s \"q\"").label("Odd name ?"))
        assert connection.execute(odd).one()._mapping["Odd name ?"] == "it's ? :x %s \"q\""


def test_statements_that_write_are_refused(engine: sa.Engine, hours: sa.Table) -> None:
    with engine.connect() as connection:
        with pytest.raises(sa.exc.DBAPIError):
            connection.execute(sa.text("DELETE FROM data_h"))
        with pytest.raises(sa.exc.CompileError, match="read-only"):
            connection.execute(sa.select(hours.c.value).with_for_update())
        assert connection.scalar(sa.text("SELECT 1")) == 1, "the connection remains usable"


def test_pandas_reads_tables_and_queries(engine: sa.Engine, expected: pd.DataFrame) -> None:
    columns = ["asset_id", "timestamp", "value", "count"]
    order = ["asset_id", "timestamp"]
    whole = pd.read_sql_table("data_h", engine)[columns].sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(whole, expected[columns].sort_values(order, ignore_index=True), check_dtype=False)
    assert str(whole["timestamp"].dtype).endswith("UTC]")
    query = sa.text("SELECT * FROM data_h WHERE timestamp >= :since AND value > :low")
    found = pd.read_sql(query, engine, params={"since": "2024-05-02", "low": 20})
    assert len(found) == ((expected["timestamp"] >= "2024-05-02") & (expected["value"] > 20)).sum() > 0


# ---- the package


def test_entry_points_name_existing_classes() -> None:
    content = tomllib.loads((PACKAGE / "pyproject.toml").read_text())
    dialects = content["project"]["entry-points"]["sqlalchemy.dialects"]
    for target in dialects.values():
        module, name = target.split(":")
        assert issubclass(getattr(importlib.import_module(module), name), sa.engine.default.DefaultDialect)
    [spec] = content["project"]["entry-points"]["superset.db_engine_specs"].values()
    source = (PACKAGE / "src" / spec.split(":")[0].replace(".", "/")).with_suffix(".py").read_text()
    assert f"class {spec.split(':')[1]}(" in source


def time_grains() -> dict[str, str]:
    """Returns the expressions of the engine spec, whose module only Superset can import."""
    import re

    source = (PACKAGE / "src" / "sqlalchemy_plantlake" / "superset_spec.py").read_text()
    return dict(re.findall(r'TimeGrain\.(\w+): "(.*)",', source))


@pytest.mark.parametrize("grain", time_grains())
def test_time_grain_is_answered(engine: sa.Engine, expected: pd.DataFrame, grain: str) -> None:
    """pandas computes the same periods."""
    seconds = {"SECOND": 1, "FIVE_SECONDS": 5, "THIRTY_SECONDS": 30, "MINUTE": 60, "FIVE_MINUTES": 300, "TEN_MINUTES": 600}
    seconds |= {"FIFTEEN_MINUTES": 900, "THIRTY_MINUTES": 1800, "HOUR": 3600, "SIX_HOURS": 21_600, "DAY": 86_400}
    times = expected["timestamp"]
    naive = times.dt.tz_localize(None)
    if grain in seconds:
        wanted = times.dt.floor(f"{seconds[grain]}s")
    elif grain in ("MONTH", "QUARTER", "YEAR"):
        wanted = naive.dt.to_period(grain[0]).dt.start_time.dt.tz_localize("UTC")
    else:
        monday_first = "MONDAY" in grain or grain in ("WEEK", "WEEK_ENDING_SUNDAY")
        weeks = naive.dt.to_period("W-SUN" if monday_first else "W-SAT")
        wanted = (weeks.dt.end_time.dt.floor("D") if "ENDING" in grain else weeks.dt.start_time).dt.tz_localize("UTC")
    counts = expected.groupby(wanted)["count"].sum()
    sql = f'SELECT {time_grains()[grain].format(col="timestamp")} AS t, sum("count") AS n FROM data_h GROUP BY 1 ORDER BY 1'
    found = pd.read_sql(sa.text(sql.replace(":", "\\:")), engine)
    assert list(zip(found["t"], found["n"])) == list(counts.items())


# ---- Superset

CHART = '''
import os, sys
from superset.app import create_app

app = create_app()
with app.app_context():
    from superset import db
    from superset.connectors.sqla.models import SqlaTable, SqlMetric
    from superset.db_engine_specs import load_engine_specs
    from superset.models.core import Database

    assert "plantlake" in {spec.engine for spec in load_engine_specs()}
    db.create_all()
    database = Database(database_name="plant", sqlalchemy_uri=sys.argv[1])
    database.set_sqlalchemy_uri(sys.argv[1])
    db.session.add(database)
    db.session.flush()
    assert database.db_engine_spec.engine == "plantlake", database.db_engine_spec
    table = SqlaTable(table_name="data_h", schema="public", database=database)
    table.metrics.append(SqlMetric(metric_name="readings", expression='sum("count")'))
    db.session.add(table)
    db.session.flush()
    table.fetch_metadata()
    kinds = {column.column_name: (column.type, column.is_temporal) for column in table.columns}
    assert kinds["timestamp"][1], kinds
    import datetime as dt

    answer = table.query({
        "granularity": "timestamp", "from_dttm": dt.datetime(2024, 5, 1), "to_dttm": dt.datetime(2024, 5, 3),
        "groupby": [], "columns": [], "metrics": ["readings"], "is_timeseries": True, "filter": [],
        "extras": {"time_grain_sqla": "P1D"}, "row_limit": 100, "orderby": [], "series_limit": 0, "inner_from_dttm": None,
    })
    assert not answer.error_message, answer.error_message
    print("QUERY", answer.query.replace("\\n", " "))
    print("CHART", answer.df.to_json(orient="records", date_format="iso"))
'''


def test_superset_draws_a_chart(plant: Plant, pytestconfig: pytest.Config, expected: pd.DataFrame, tmp_path: Path) -> None:
    if conftest.profile(pytestconfig) != "long":
        pytest.skip("installs Superset; run with --long")
    python = os.environ.get("PLANTLAKE_TEST_SUPERSET_PYTHON") or install_superset(tmp_path / "venv")
    (tmp_path / "superset_config.py").write_text(
        f"SECRET_KEY = 'only for this test'\nSQLALCHEMY_DATABASE_URI = 'sqlite:///{tmp_path}/superset.db'\nTALISMAN_ENABLED = False\n"
    )
    (tmp_path / "chart.py").write_text(CHART)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "SUPERSET_CONFIG_PATH": str(tmp_path / "superset_config.py")}
    address = url(plant).render_as_string(hide_password=False)
    done = subprocess.run([python, tmp_path / "chart.py", address], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4_000:]
    [chart] = [line.removeprefix("CHART ") for line in done.stdout.splitlines() if line.startswith("CHART ")]
    found = pd.read_json(__import__("io").StringIO(chart))
    by_day = expected.groupby(expected["timestamp"].dt.floor("D"))["count"].sum()
    assert sorted(found["readings"]) == sorted(by_day)


def install_superset(folder: Path) -> str:
    """Returns the Python of a private environment with Superset and the dialect."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", SUPERSET, str(PACKAGE)], check=True, timeout=1_800)
    return python
