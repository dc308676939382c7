"""The contents of an organisation database, read by sqlite3 or psql, in a form that is the same for both."""

from __future__ import annotations

import datetime as dt
import json
import re
import sqlite3
import subprocess

from databases import Database, SqliteDatabase, client_program

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")


def database_rows(database: Database) -> dict[str, list[dict]]:
    """Returns all rows of all tables, sorted."""
    rows = sqlite_rows(database) if isinstance(database, SqliteDatabase) else postgres_rows(database.url)
    ordered = {}
    for table, found in rows.items():
        comparable = [{column: normalised(value) for column, value in row.items()} for row in found]
        ordered[table] = sorted(comparable, key=lambda row: json.dumps(row, sort_keys=True))
    return ordered


def normalised(value: object) -> object:
    """Returns the value in a form that is the same for SQLite and Postgres."""
    if isinstance(value, str) and TIME.fullmatch(value):
        return dt.datetime.fromisoformat(value.replace("Z", "+00:00")).isoformat(timespec="microseconds")
    if isinstance(value, str) and value.startswith("\\x"):
        return value.removeprefix("\\x")
    return value.hex() if isinstance(value, bytes) else value


def sqlite_rows(database: SqliteDatabase) -> dict[str, list[dict]]:
    connection = sqlite3.connect(database.path)
    names = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!' "
        "AND name <> '_sqlx_migrations'"
    )
    tables = {}
    for (table,) in connection.execute(names).fetchall():
        columns = connection.execute(f"SELECT name, type FROM pragma_table_info('{table}')").fetchall()
        tables[table] = [
            {name: bool(cell) if kind == "BOOLEAN" else cell for (name, kind), cell in zip(columns, row, strict=True)}
            for row in connection.execute(f"SELECT * FROM {table}").fetchall()
        ]
    connection.close()
    return tables


def postgres_rows(url: str) -> dict[str, list[dict]]:
    names = (
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' "
        "AND table_name <> '_sqlx_migrations'"
    )
    tables = psql(url, names).split()
    # One process for all tables, because the start of psql takes longer than most of the queries.
    parts = (f"'{table}', (SELECT coalesce(json_agg(t), '[]') FROM {table} t)" for table in tables)
    return json.loads(psql(url, f"SELECT json_build_object({', '.join(parts)})"))


def psql(url: str, sql: str) -> str:
    command = [client_program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", "SET TIME ZONE 'UTC'", "-c", sql]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"psql: {done.stderr}"
    return done.stdout.strip()
