"""The dialect: connections by ADBC, and reflection of schemas, tables and columns."""

from __future__ import annotations

import re
import uuid

import sqlalchemy
from sqlalchemy.engine import default, reflection
from sqlalchemy.exc import NoSuchTableError

from sqlalchemy_plantlake.address import driver_arguments
from sqlalchemy_plantlake.compiler import PlantlakeCompiler, PlantlakeIdentifierPreparer, PlantlakeTypeCompiler
from sqlalchemy_plantlake.types import column_type

DEFAULT_SCHEMA = "public"
# Parts of errors after which a connection is of no more use.
LOST_CONNECTION = ("connection error", "connection refused", "error reading from server", "transport is closing", "(Unavailable;")
IS_SQLALCHEMY_1 = sqlalchemy.__version__.startswith("1.")


class PlantlakeDialect(default.DefaultDialect):
    """SQL of plantlake over Arrow Flight SQL. It is read-only: a server refuses statements that write."""

    name = "plantlake"
    driver = "adbc"
    default_paramstyle = "qmark"
    paramstyle = "qmark"
    supports_statement_cache = True

    supports_alter = False
    supports_comments = False
    supports_default_values = False
    supports_empty_insert = False
    supports_multivalues_insert = False
    supports_native_boolean = True
    supports_native_decimal = True
    supports_sane_rowcount = False
    supports_sane_multi_rowcount = False
    supports_sequences = False
    supports_views = True
    max_identifier_length = 255
    default_schema_name = DEFAULT_SCHEMA

    statement_compiler = PlantlakeCompiler
    preparer = PlantlakeIdentifierPreparer
    if IS_SQLALCHEMY_1:
        type_compiler = PlantlakeTypeCompiler
    else:
        type_compiler_cls = PlantlakeTypeCompiler

    # ---- connections

    @classmethod
    def import_dbapi(cls):
        import adbc_driver_flightsql.dbapi

        return adbc_driver_flightsql.dbapi

    @classmethod
    def dbapi(cls):  # the name in SQLAlchemy 1.4
        return cls.import_dbapi()

    def create_connect_args(self, url) -> tuple[list, dict]:
        address, options = driver_arguments(url)
        # There are no transactions, and the driver warns without this.
        return [address], {"db_kwargs": options, "autocommit": True}

    def do_begin(self, dbapi_connection) -> None:
        pass

    def do_commit(self, dbapi_connection) -> None:
        pass

    def do_rollback(self, dbapi_connection) -> None:
        pass

    def do_execute(self, cursor, statement, parameters, context=None) -> None:
        cursor.execute(statement, tuple(map(bindable, parameters)) or None)

    def do_executemany(self, cursor, statement, parameters, context=None) -> None:
        cursor.executemany(statement, [tuple(map(bindable, row)) for row in parameters])

    def is_disconnect(self, e, connection, cursor) -> bool:
        return isinstance(e, self.loaded_error()) and any(text in str(e) for text in LOST_CONNECTION)

    @classmethod
    def loaded_error(cls) -> type[Exception]:
        return cls.import_dbapi().Error

    # ---- the server

    def _get_server_version_info(self, connection) -> tuple[int, ...]:
        version = str(adbc(connection).adbc_get_info().get("vendor_version", ""))
        return tuple(int(number) for number in re.findall(r"\d+", version)[:3])

    def _get_default_schema_name(self, connection) -> str:
        return DEFAULT_SCHEMA

    def get_isolation_level_values(self, dbapi_connection) -> list[str]:
        return ["AUTOCOMMIT"]

    def get_isolation_level(self, dbapi_connection) -> str:
        return "AUTOCOMMIT"

    def set_isolation_level(self, dbapi_connection, level) -> None:
        pass

    def get_default_isolation_level(self, dbapi_connection) -> str:
        return "AUTOCOMMIT"

    # ---- reflection

    @reflection.cache
    def get_schema_names(self, connection, **kw) -> list[str]:
        return sorted(schema["db_schema_name"] for schema in schemas(connection, "db_schemas"))

    @reflection.cache
    def get_table_names(self, connection, schema=None, **kw) -> list[str]:
        return self._names(connection, schema, lambda kind: "VIEW" not in kind)

    @reflection.cache
    def get_view_names(self, connection, schema=None, **kw) -> list[str]:
        return self._names(connection, schema, lambda kind: "VIEW" in kind)

    def _names(self, connection, schema, is_wanted) -> list[str]:
        return sorted(table["table_name"] for table in tables(connection, schema) if is_wanted(table["table_type"].upper()))

    @reflection.cache
    def has_table(self, connection, table_name, schema=None, **kw) -> bool:
        return any(table["table_name"] == table_name for table in tables(connection, schema))

    @reflection.cache
    def get_columns(self, connection, table_name, schema=None, **kw) -> list[dict]:
        found = [table for table in tables(connection, schema, table_name) if table["table_name"] == table_name]
        if not found:
            raise NoSuchTableError(f"{schema}.{table_name}" if schema else table_name)
        names = {column["column_name"]: column["xdbc_type_name"] for column in found[0]["table_columns"] or []}
        quote = self.identifier_preparer.quote_identifier
        with adbc(connection).cursor() as cursor:
            fields = cursor.adbc_execute_schema(f"SELECT * FROM {quote(schema or DEFAULT_SCHEMA)}.{quote(table_name)}")
        return [
            {
                "name": field.name,
                "type": column_type(names.get(field.name), field.type),
                "nullable": field.nullable,
                "default": None,
                "autoincrement": False,
            }
            for field in fields
        ]

    # plantlake has no keys, constraints and indexes.

    @reflection.cache
    def get_pk_constraint(self, connection, table_name, schema=None, **kw) -> dict:
        return {"constrained_columns": [], "name": None}

    @reflection.cache
    def get_foreign_keys(self, connection, table_name, schema=None, **kw) -> list:
        return []

    @reflection.cache
    def get_indexes(self, connection, table_name, schema=None, **kw) -> list:
        return []

    @reflection.cache
    def get_unique_constraints(self, connection, table_name, schema=None, **kw) -> list:
        return []

    @reflection.cache
    def get_check_constraints(self, connection, table_name, schema=None, **kw) -> list:
        return []

    @reflection.cache
    def get_table_comment(self, connection, table_name, schema=None, **kw) -> dict:
        return {"text": None}


def bindable(value: object) -> object:
    """Returns a value that the driver can bind: ids of assets are texts."""
    return str(value) if isinstance(value, uuid.UUID) else value


def adbc(connection):
    """Returns the connection of the driver behind that of SQLAlchemy."""
    pooled = connection.connection
    return getattr(pooled, "dbapi_connection", None) or pooled.connection


def schemas(connection, depth: str, schema: str | None = None, table: str | None = None) -> list[dict]:
    """Returns the schemas with their tables and columns, as deep as asked. Filters are patterns, so that callers compare names."""
    reader = adbc(connection).adbc_get_objects(depth=depth, db_schema_filter=schema, table_name_filter=table)
    return [found for catalog in reader.read_all().to_pylist() for found in catalog["catalog_db_schemas"] or []]


def tables(connection, schema: str | None, table: str | None = None) -> list[dict]:
    """Returns the tables of a schema, and the columns of those that match `table`."""
    schema = schema or DEFAULT_SCHEMA
    found = schemas(connection, "columns" if table else "tables", schema, table)
    return [each for one in found if one["db_schema_name"] == schema for each in one["db_schema_tables"] or []]


