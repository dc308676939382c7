"""Attempts to read another organisation's data, or to act without a valid credential. Each is refused, or reveals nothing.

The attacker is North (temperature sensors), and the victim is South. The catalog file and the tables, as the `deltalake`
package reads them, define which data belongs to which organisation.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import adbc_driver_manager
import pandas as pd
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from conftest import LONG
from harness import OK
from server import PASSWORD, Plant, Raw, any_of, bool_field, connect, eventually, fields_of, text_field

pytestmark = pytest.mark.local_only
REFUSALS = (flight.FlightError, pa.ArrowException, adbc_driver_manager.Error)
# The date of readings that only South has.
LATE_DATE = "2031-07-09"


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A plant in which only South has data in 2031, in a file that it shares with North, and a view over all data."""
    plant = Plant(tmp_path_factory.mktemp("attacked")).build()
    sensors = {name: sorted(plant.tenants[name].assets & measured(plant)) for name in ("North", "South")}
    times = pd.to_datetime([f"{LATE_DATE}T00:00:00Z", f"{LATE_DATE}T00:00:01Z"])
    shared = pd.DataFrame({"id": [sensors["South"][0]] * 2, "timestamp": times, "value": [987654.25, 987654.25]})
    early_time = pd.to_datetime(["2024-05-01T00:00:00.5Z"])
    early = pd.DataFrame({"id": [sensors["North"][0]], "timestamp": early_time, "value": [1.0]})
    pd.concat([shared, early]).to_parquet(plant.lake.raw / "shared.parquet", coerce_timestamps="us", index=False)
    plant.lake.settings["PLANTLAKE_RESAMPLE_LATEST"] = "2040-01-01"
    plant.lake.resample().expect(OK)
    views = plant.lake.folder / "catalog" / "views"
    views.mkdir()
    (views / "everyone.sql").write_text("SELECT a.name, a.location, d.* FROM data_d d LEFT JOIN assets a ON a.id = d.asset_id")
    plant.serve()
    names = {asset["id"]: asset["name"] for asset in plant.assets()}
    south = plant.tenants["South"].assets
    yield SimpleNamespace(
        plant=plant,
        victim=sensors["South"][0],
        own=sensors["North"][0],
        ids=south,
        names={names[id] for id in south},
        users=["ana@south.example", "admin@south.example"],
    )
    assert plant.stop() == OK


def measured(plant: Plant) -> set[str]:
    """Returns the assets that have averages."""
    return set(plant.lake.table("data_d")["asset_id"])


def assert_no_foreign_data(scenario: SimpleNamespace, output: object) -> None:
    """Checks that a result or error contains no data of South."""
    if isinstance(output, pa.Table):
        output = output.to_pandas()
    text = output.to_csv() if isinstance(output, pd.DataFrame) else str(output)
    secrets = [
        *scenario.ids,
        *scenario.names,
        *scenario.users,
        "987654",
        LATE_DATE,
        "shared.parquet",
        str(scenario.plant.lake.folder),
    ]
    found = [secret for secret in secrets if secret in text]
    assert not found, f"{found} in {text[:2000]}"


# ---- SQL

ATTACKS = {
    "all rows": "SELECT * FROM data_d",
    "by id": "SELECT asset_id, value FROM data_d WHERE asset_id = '{victim}' AND asset_id IS NOT NULL",
    "upper case": "SELECT value FROM data_d WHERE upper(asset_id) = upper('{victim}')",
    "no dashes": "SELECT value FROM data_d WHERE replace(asset_id, '-', '') = replace('{victim}', '-', '')",
    "or true": "SELECT * FROM data_d WHERE asset_id = '{own}' OR true",
    "not in": "SELECT * FROM data_d WHERE asset_id NOT IN ('{own}')",
    "union": "SELECT asset_id, value FROM data_d UNION ALL SELECT asset_id, value FROM data_h",
    "except": "SELECT asset_id FROM data_h EXCEPT SELECT '{own}'",
    "cte": "WITH x AS (SELECT * FROM data_d) SELECT * FROM x WHERE asset_id <> '{own}'",
    "cte named as a table": "WITH data_h AS (SELECT * FROM data_d) SELECT * FROM data_h",
    "recursive cte": "WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x WHERE n < 3) SELECT d.* "
    "FROM x, data_d d",
    "subquery": "SELECT * FROM (SELECT * FROM data_d WHERE true) WHERE value > 900000",
    "correlated": "SELECT a.id, (SELECT max(value) FROM data_d d WHERE d.asset_id = a.id) FROM assets a",
    "exists": "SELECT count(*) AS {zero} FROM assets WHERE EXISTS (SELECT 1 FROM data_d WHERE value > 900000)",
    "full join": "SELECT * FROM data_d d FULL JOIN assets a ON a.id = d.asset_id",
    "anti join": "SELECT d.* FROM data_d d LEFT ANTI JOIN assets a ON a.id = d.asset_id",
    "cross join": "SELECT a.*, b.asset_id FROM assets a CROSS JOIN data_d b",
    "view": "SELECT * FROM everyone",
    "view by id": "SELECT count(*) AS {zero} FROM everyone WHERE asset_id = '{victim}'",
    "count by id": "SELECT count(*) AS {zero} FROM data_min WHERE asset_id = '{victim}'",
    "count by value": "SELECT count(*) AS {zero} FROM data_min WHERE value > 900000",
    "count of a date": "SELECT count(*) AS {zero} FROM data_min WHERE date >= '2031-01-01'",
    "max of the partition": "SELECT max(date) AS d FROM data_min",
    "max of the month": "SELECT max(month) AS d FROM data_h",
    "max of the year": "SELECT count(*) AS {zero} FROM data_d WHERE year = 2031",
    "years": "SELECT DISTINCT CAST(year AS VARCHAR) || '-07-09' AS y FROM data_d",
    "max of time": "SELECT max(timestamp) FROM data_d",
    "max of id": "SELECT max(asset_id), min(asset_id) FROM data_d",
    "max of value": "SELECT max(value), max(max), max(last) FROM data_min",
    "limit": "SELECT * FROM data_d LIMIT 100000",
    "top": "SELECT * FROM data_d ORDER BY value DESC LIMIT 5",
    "grouping sets": "SELECT asset_id, year, count(*) FROM data_d GROUP BY CUBE (asset_id, year)",
    "window": "SELECT asset_id, lead(asset_id) OVER (ORDER BY asset_id) FROM data_d",
    "array": "SELECT array_agg(DISTINCT asset_id) FROM data_d",
    "text": "SELECT string_agg(asset_id, ',') FROM data_d",
    "approximate": "SELECT approx_distinct(asset_id), approx_median(value) FROM data_min WHERE value > 900000",
    "raw readings": "SELECT * FROM raw_readings WHERE value > 900000",
    "raw by id": "SELECT count(*) AS {zero} FROM raw_readings WHERE id = '{victim}'",
    "raw by time": "SELECT count(*) AS {zero} FROM raw_readings WHERE timestamp >= '2031-01-01'",
    "raw max": "SELECT max(timestamp), max(value) FROM raw_readings WHERE timestamp > '2030-01-01'",
    "raw without an id": "SELECT count(*) AS {zero} FROM raw_readings WHERE id IS NULL",
    "assets": "SELECT * FROM assets",
    "asset by id": "SELECT count(*) AS {zero} FROM assets WHERE id = '{victim}'",
    "locations": "SELECT name FROM assets WHERE type = 'pressure sensor'",
    "edges": "SELECT * FROM asset_edges",
    "edges to": "SELECT count(*) AS {zero} FROM asset_edges WHERE source = '{victim}' OR target = '{victim}'",
    "tables": "SELECT * FROM information_schema.tables",
    "columns": "SELECT * FROM information_schema.columns",
    "views": "SELECT * FROM information_schema.views",
    "settings": "SELECT * FROM information_schema.df_settings",
    "routines": "SELECT * FROM information_schema.routines",
    "schemata": "SELECT * FROM information_schema.schemata",
    "show tables": "SHOW TABLES",
    "show all": "SHOW ALL",
    "show columns": "SHOW COLUMNS FROM data_d",
    "describe": "DESCRIBE data_d",
    "explain": "EXPLAIN SELECT * FROM data_d WHERE asset_id = '{own}'",
    "division": "SELECT 1 / CAST(CASE WHEN value > 900000 THEN 0 ELSE 1 END AS INT) FROM data_d",
    "cast": "SELECT CAST(CASE WHEN value > 900000 THEN asset_id ELSE '1' END AS INT) FROM data_min",
    "cast in the filter": "SELECT count(*) FROM data_d "
    "WHERE CAST(CASE WHEN value > 900000 THEN asset_id ELSE '1' END AS INT) = 1",
    # An error in a condition must not reveal rows that the caller may not see.
    "division in the filter": "SELECT count(*) FROM data_min "
    "WHERE 1 / CAST(CASE WHEN value > 900000 THEN 0 ELSE 1 END AS INT) = 1",
    "division by time": "SELECT count(*) FROM data_h "
    "WHERE 1 / CAST(CASE WHEN timestamp > '2030-01-01' THEN 0 ELSE 1 END AS INT) = 1",
    "division by id": "SELECT count(*) FROM data_d "
    "WHERE 1 / CAST(CASE WHEN asset_id = '{victim}' THEN 0 ELSE 1 END AS INT) = 1",
    "division of few": "SELECT max(value) FROM data_d WHERE year > 2000 "
    "AND 1 / CAST(CASE WHEN last > 900000 THEN 0 ELSE 1 END AS INT) = 1 LIMIT 3",
    "narrow type": "SELECT count(*) FROM data_d WHERE CAST(value AS SMALLINT) = 5",
    "narrow type of files": "SELECT count(*) FROM data_min WHERE CAST(last AS SMALLINT) > 5 AND timestamp > '2030-01-01'",
    "division in a join": "SELECT count(*) FROM data_d d JOIN assets a ON a.id = d.asset_id "
    "AND 1 / CAST(CASE WHEN d.value > 900000 THEN 0 ELSE 1 END AS INT) = 1",
    "raw division in the filter": "SELECT count(*) FROM raw_readings "
    "WHERE 1 / CAST(CASE WHEN value = 987654.25 THEN 0 ELSE 1 END AS INT) = 1",
    "raw division by id": "SELECT max(timestamp) FROM raw_readings "
    "WHERE 1 / CAST(CASE WHEN id = '{victim}' THEN 0 ELSE 1 END AS INT) = 1",
    "asset division": "SELECT count(*) FROM assets WHERE 1 / CAST(CASE WHEN id = '{victim}' THEN 0 ELSE 1 END AS INT) = 1",
    "edge division": "SELECT count(*) FROM asset_edges "
    "WHERE 1 / CAST(CASE WHEN source = '{victim}' THEN 0 ELSE 1 END AS INT) = 1",
    "raw division": "SELECT 1 / CAST(CASE WHEN value > 900000 THEN 0 ELSE 1 END AS INT) FROM raw_readings "
    "WHERE NOT isnan(value)",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_sql_attack_shows_no_foreign_data(scenario: SimpleNamespace, attack: str) -> None:
    sql = ATTACKS[attack].format(victim=scenario.victim, own=scenario.own, zero="zero")
    output = scenario.plant.ask(sql)
    assert_no_foreign_data(scenario, output)
    if "zero" in output.columns:
        assert output["zero"].tolist() == [0]
    with_parameters = sql.replace(f"'{scenario.victim}'", "?")
    if with_parameters.count("?") == 1 and "?" not in sql:
        assert_no_foreign_data(scenario, scenario.plant.ask(with_parameters, parameters=(scenario.victim,)))


def test_victim_query_returns_attacked_data(scenario: SimpleNamespace) -> None:
    """The data that the attacks try to read exists, and South reads it."""
    maxima = scenario.plant.ask("SELECT max(value) AS v, max(year) AS y FROM data_d", "South")
    assert (maxima["v"].item(), maxima["y"].item()) == (987654.25, 2031)
    assert scenario.plant.ask("SELECT count(*) AS n FROM raw_readings WHERE timestamp > '2031-01-01'", "South")["n"].item() == 2
    assert scenario.plant.ask("SELECT max(date) AS d FROM data_min", "South")["d"].astype(str).item() == LATE_DATE


FORBIDDEN = [
    "SELECT * FROM 'shared.parquet'",
    "SELECT * FROM 'file:///etc/passwd'",
    'SELECT * FROM "lake/raw/shared.parquet"',
    "SELECT * FROM read_parquet('lake/raw/shared.parquet')",
    "SELECT * FROM parquet_metadata('lake/raw/shared.parquet')",
    "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION 'lake/raw'",
    "COPY (SELECT 1) TO 'out.parquet'",
    "SELECT * FROM datafusion.public.data_d",
    "SELECT * FROM South.data_d",
    "SELECT * FROM account.users",
    "SELECT * FROM account.keys",
    "SELECT * FROM organizations",
    "SELECT * FROM plantlake.organisation.users",
    "SELECT 1; SELECT * FROM data_d",
    "SELECT 1 /* */ ; /* */ DROP TABLE data_d",
    "SET datafusion.catalog.default_catalog = 'other'",
    "SET datafusion.sql_parser.dialect = 'postgres'",
    "RESET datafusion.execution.time_zone",
    "EXPLAIN ANALYZE SELECT * FROM data_d",
    "EXPLAIN VERBOSE SELECT * FROM data_d",
    "EXPLAIN FORMAT TREE SELECT * FROM data_d",
    "DESCRIBE nothing",
    "SELECT * FROM data_d WHERE asset_id = '\0'; --",
    "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
    "SELECT " + "-" * 1 + "1" + " + 1" * 200_000 + ";",
    "SELECT " + "NOT " * 50_000 + "true",
    "SELECT " + "1::int" + "::int" * 50_000,
    " UNION ALL ".join(["SELECT 1"] * 20_000),
    "SELECT " + "CASE WHEN true THEN " * 5_000 + "1" + " END" * 5_000,
    "SELECT x" + "[1]" * 50_000,
    "SELECT '" + "x" * (2 << 20) + "'",
]

# Statements near the maximum permitted depth. The server answers or refuses them, and keeps running.
# Planning time grows with more than the square of the number of operators, so the profile `ci` has half of them where another
# statement has as many.
DEEP_STATEMENTS = [
    "SELECT 1" + " + 1" * (1_990 if LONG else 990),
    "SELECT true" + " OR false" * 1_900,
    "SELECT 1" + "::bigint" * 990,
    " UNION ALL ".join(["SELECT 1"] * 600),
    "SELECT 'a'" + " || 'a'" * (1_990 if LONG else 990),
    "SELECT " + "(" * 60 + "1" + ")" * 60,
    f"SELECT 1 IN ({', '.join(map(str, range(100_000)))})",
]


@pytest.mark.parametrize("number", range(len(DEEP_STATEMENTS)))
def test_deep_sql_leaves_server_running(scenario: SimpleNamespace, number: int) -> None:
    try:
        assert scenario.plant.ask(DEEP_STATEMENTS[number]).shape[0] > 0
    except adbc_driver_manager.Error as error:
        assert "connection" not in str(error), error
    assert scenario.plant.ask("SELECT 1 AS x")["x"].item() == 1, "the server is down"


@pytest.mark.parametrize("number", range(len(FORBIDDEN)))
def test_forbidden_sql_is_refused(scenario: SimpleNamespace, number: int) -> None:
    with pytest.raises(REFUSALS) as caught:
        scenario.plant.ask(FORBIDDEN[number])
    error = str(caught.value).replace(FORBIDDEN[number], "")
    if "shared.parquet" in FORBIDDEN[number]:
        error = error.replace("shared.parquet", "")
    assert_no_foreign_data(scenario, error)
    assert scenario.plant.ask("SELECT 1 AS x")["x"].item() == 1, "the server is down"


# ---- credentials


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def invalid_credentials(scenario: SimpleNamespace) -> dict[str, list[bytes]]:
    """Returns invalid values of the header `authorization`."""
    key = scenario.plant.tenants["South"].key
    token = json.loads(scenario.plant.run("token", "create", scenario.users[0], "--json", stdin=PASSWORD + "\n"))["token"]
    head, body, signature = token.split(".")
    unsigned_head = b64(b'{"alg":"none","typ":"at+jwt"}')
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    basic = base64.b64encode(f"{scenario.users[0]}:{PASSWORD}".encode()).decode()
    headers = {
        "none": [],
        "empty": [""],
        "scheme only": ["Bearer"],
        "another key": [f"Bearer {wrong}"],
        "a key's id": [f"Bearer pl_{scenario.plant.tenants['South'].key_id}"],
        "no signature": [f"Bearer {head}.{body}."],
        "another signature": [f"Bearer {head}.{body}.{'A' * len(signature)}"],
        "alg none": [f"Bearer {unsigned_head}.{body}."],
        "another body": [f"Bearer {head}.{b64(b'{}')}.{signature}"],
        "a password": [f"Basic {basic}"],
        "two": [f"Bearer {wrong}", f"Bearer {key}"],
        "a key in base64": [f"Bearer {b64(key.encode())}"],
        "a key in capitals": [f"Bearer {key.upper()}"],
    }
    return {name: [value.encode() for value in values] for name, values in headers.items()}


CREDENTIAL_NAMES = [
    "none", "empty", "scheme only", "another key", "a key's id", "no signature", "another signature", "alg none",
    "another body", "a password", "two", "a key in base64", "a key in capitals",
]  # fmt: skip
CALLS: dict[str, Callable[[flight.FlightClient, flight.FlightCallOptions], object]] = {
    "GetFlightInfo": lambda c, o: c.get_flight_info(flight.FlightDescriptor.for_command(any_of("CommandGetTables")), o),
    "GetSchema": lambda c, o: c.get_schema(flight.FlightDescriptor.for_command(any_of("CommandGetTables")), o),
    "DoGet": lambda c, o: c.do_get(flight.Ticket(any_of("CommandGetTables", bool_field(5, True))), o).read_all(),
    "DoAction": lambda c, o: list(c.do_action(flight.Action("GetSessionOptions", b""), o)),
    "Administer": lambda c, o: list(
        c.do_action(flight.Action("plantlake.Administer", b'{"order": "users", "organisation": null}'), o)
    ),
    "ListActions": lambda c, o: list(c.list_actions(o)),
    "ListFlights": lambda c, o: list(c.list_flights(b"", o)),
    "DoPut": lambda c, o: put_update(c, o),
    "DoExchange": lambda c, o: c.do_exchange(flight.FlightDescriptor.for_command(b""), o)[1].read_chunk(),
}


def put_update(client: flight.FlightClient, options: flight.FlightCallOptions) -> None:
    command = any_of("CommandStatementUpdate", text_field(1, "SET TIME ZONE = 'UTC'"))
    writer, reader = client.do_put(flight.FlightDescriptor.for_command(command), pa.schema([]), options)
    writer.done_writing()
    reader.read()
    writer.close()


@pytest.mark.parametrize("call", CALLS)
def test_call_with_invalid_credential_is_refused(scenario: SimpleNamespace, call: str) -> None:
    client = flight.FlightClient(scenario.plant.uri)
    for name, values in invalid_credentials(scenario).items():
        assert name in CREDENTIAL_NAMES
        options = flight.FlightCallOptions(headers=[(b"authorization", value) for value in values], timeout=30)
        # pyarrow has no specific exception class for this error of GetSchema.
        with pytest.raises((*REFUSALS, OSError)) as caught:
            CALLS[call](client, options)
        error = caught.value
        is_unauthenticated = isinstance(error, flight.FlightUnauthenticatedError) or "unauthenticated error" in str(error)
        assert is_unauthenticated, f"{name}: {error!r}"
        assert_no_foreign_data(scenario, error)


def test_revoked_key_is_refused(scenario: SimpleNamespace) -> None:
    created = scenario.plant.run("key", "create", "--user", scenario.users[0], "--name", "short", "--json").expect(OK).json
    client = Raw(scenario.plant.uri, created["key"])
    assert client.query("SELECT 1 AS x").num_rows == 1
    ticket = client.info(any_of("CommandStatementQuery", text_field(1, "SELECT * FROM data_d"))).endpoints[0].ticket
    scenario.plant.run("key", "revoke", created["id"]).expect(OK)
    eventually(lambda: is_refused(lambda: client.query("SELECT 1")))
    with pytest.raises(flight.FlightUnauthenticatedError):
        client.get(ticket)


def is_refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except REFUSALS:
        return True
    return False


# ---- tickets and handles


def ticket_of(client: Raw, sql: str = "SELECT * FROM data_d") -> bytes:
    return client.info(any_of("CommandStatementQuery", text_field(1, sql))).endpoints[0].ticket.ticket


def encrypted_part(ticket: bytes) -> bytes:
    """Returns the encrypted part of a ticket."""
    return fields_of(fields_of(ticket)[2][0])[1][0]


def as_ticket(part: bytes) -> bytes:
    return any_of("TicketStatementQuery", text_field(1, part))


def as_prepared(part: bytes) -> bytes:
    return any_of("CommandPreparedStatementQuery", text_field(1, part))


def test_stolen_ticket_is_refused(scenario: SimpleNamespace) -> None:
    ticket = ticket_of(scenario.plant.client("South"))
    assert scenario.plant.client("South").get(ticket).num_rows > 0
    ticket = ticket_of(scenario.plant.client("South"))
    for thief in ("North", "Everything", "Nobody"):
        with pytest.raises(REFUSALS, match="no such ticket"):
            scenario.plant.client(thief).get(ticket)
    with connect(scenario.plant.uri, {"username": "admin@south.example", "password": PASSWORD}):
        output = scenario.plant.run("token", "create", "admin@south.example", "--json", stdin=PASSWORD + "\n")
        token = json.loads(output)["token"]
    with pytest.raises(REFUSALS, match="no such ticket"):
        Raw(scenario.plant.uri, token).get(ticket)


def test_stolen_handle_is_refused(scenario: SimpleNamespace) -> None:
    handle = scenario.plant.client("South").prepare("SELECT * FROM data_d")
    thief = scenario.plant.client("North")
    for attempt in (
        lambda: thief.info(as_prepared(handle)),
        lambda: thief.get(as_prepared(handle)),
        lambda: thief.get(as_ticket(handle)),
    ):
        with pytest.raises(REFUSALS, match="there is no such"):
            attempt()


def test_ticket_as_handle_and_handle_as_ticket_are_refused(scenario: SimpleNamespace) -> None:
    client = scenario.plant.client("North")
    with pytest.raises(REFUSALS, match="no such ticket"):
        client.get(as_ticket(client.prepare("SELECT 1")))
    with pytest.raises(REFUSALS, match="no such prepared statement"):
        client.get(as_prepared(encrypted_part(ticket_of(client))))


@pytest.mark.parametrize("kind", ["ticket", "handle"])
def test_altered_ticket_or_handle_is_refused(scenario: SimpleNamespace, kind: str) -> None:
    client = scenario.plant.client("North")
    good = encrypted_part(ticket_of(client)) if kind == "ticket" else client.prepare("SELECT 1")
    wrap = as_ticket if kind == "ticket" else as_prepared
    for at in [*range(0, len(good), 7), len(good) - 1]:
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 8)
        with pytest.raises(REFUSALS, match="there is no such"):
            client.get(wrap(bytes(bad)))
    for bad in (b"", good[:-1], good[: len(good) // 2], good + b"\0", os.urandom(len(good))):
        with pytest.raises(REFUSALS, match="there is no such"):
            client.get(wrap(bad))


def test_ticket_after_revoked_grant_returns_no_rows_and_needs_credential(scenario: SimpleNamespace) -> None:
    plant = scenario.plant
    plant.tenant("Losing", ["--all"])
    client = plant.client("Losing")
    ticket = ticket_of(client)
    plant.run("org", "revoke", "Losing", "--all").expect(OK)
    eventually(lambda: plant.ask("SELECT count(*) AS n FROM data_d", "Losing")["n"].item() == 0)
    assert client.get(ticket).num_rows == 0
    with pytest.raises(flight.FlightUnauthenticatedError):
        plant.client(None).get(ticket)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff" * 100,
        any_of("CommandStatementQuery", b"\xff\xff"),
        any_of("Nonsense"),
        b"\x0a\x7f",
        any_of("TicketStatementQuery"),
    ],
)
def test_malformed_message_is_refused(scenario: SimpleNamespace, body: bytes) -> None:
    client = scenario.plant.client("North")
    for attempt in (
        lambda: client.get(body),
        lambda: client.info(body),
        lambda: client.action("CreatePreparedStatement", body),
    ):
        with pytest.raises(REFUSALS) as caught:
            attempt()
        assert "panick" not in str(caught.value)
    assert scenario.plant.ask("SELECT 1 AS x")["x"].item() == 1


@pytest.mark.parametrize("pattern", ["%", "_%", "data%", "\\", "%" * 1_000, "' OR 1=1 --"])
def test_metadata_with_hostile_pattern_shows_no_foreign_data(scenario: SimpleNamespace, pattern: str) -> None:
    client = scenario.plant.client("North")
    for command in (
        any_of("CommandGetTables", text_field(3, pattern) + bool_field(5, True)),
        any_of("CommandGetDbSchemas", text_field(2, pattern)),
        any_of("CommandGetPrimaryKeys", text_field(3, pattern)),
    ):
        result = client.get(command)
        assert_no_foreign_data(scenario, result.drop_columns(["table_schema"]) if b"GetTables" in command else result)


def test_session_options_of_other_organisation_are_refused(scenario: SimpleNamespace) -> None:
    client = scenario.plant.client("North")
    for name, value in (
        ("catalog", "other"),
        ("schema", "organisation"),
        ("organisation", "South"),
        ("user", scenario.users[0]),
    ):
        option = text_field(1, text_field(1, name) + text_field(2, text_field(1, value)))
        [result] = client.action("SetSessionOptions", option)
        assert 1 in fields_of(result), f"{name} was accepted"
    assert_no_foreign_data(scenario, client.query("SELECT * FROM data_d"))
    client.action("CloseSession")
