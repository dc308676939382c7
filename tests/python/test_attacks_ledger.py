"""Sent data is billed however the call ends, and quotas hold while results are sent. plantlake and an independent program that
follows docs/billing.md detect changes to the ledger or audit trail that bypass plantlake."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import random
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import ledger
from copies import postgres_rows, sqlite_rows
from databases import Database, SqliteDatabase
from harness import OK, USAGE, Finished
from admin import PASSWORD, Installation, installation  # noqa: F401 (a fixture)
from server import Plant, any_of, eventually, text_field
from test_metering import LEDGER_TIMEOUT, ClientResult, CountingClient, database_of, is_true
from test_metering import ledger as recorded

pytestmark = pytest.mark.local_only
DIFFERS = 5
MIB = 1 << 20
# Slightly more than the maximum size of a message, in bytes.
MESSAGE_BYTES = 1.2 * MIB
NO_ORGANISATION = str(uuid.UUID(int=0))
LEDGER = [
    "request_id", "organization_id", "user_id", "api_key_id", "session_id", "server_id", "endpoint", "sql_fingerprint",
    "sql_text", "started_at", "ended_at", "billing_month", "first_byte_microseconds", "duration_microseconds", "rows",
    "bytes_sent", "bytes_scanned", "status", "cancelled", "client_address", "client_agent", "billable",
]  # fmt: skip
AUDIT = ["id", "at", "actor", "action", "organization_id", "subject", "details"]
CHAINS = {"audit": ("audit_trail", AUDIT), "ledger": ("api_usage_logs", LEDGER)}
TIMES = {"at", "started_at", "ended_at"}
# 172,433 rows.
ALL = "SELECT *, row_number() OVER () AS n FROM data_min"
HUGE = "SELECT a.*, b.value AS other FROM data_min a CROSS JOIN (SELECT value FROM data_min LIMIT 200) b"


# ---- chains, computed independently


def sha256(value: list, end: str = "") -> str:
    return hashlib.sha256((json.dumps(value, separators=(",", ":"), ensure_ascii=False) + end).encode()).hexdigest()


def rows_of(database: Database, table: str) -> list[dict]:
    if isinstance(database, SqliteDatabase):
        rows = sqlite_rows(database)[table]
    else:
        rows = postgres_rows(database.url)[table]
    for row in rows:
        for column in TIMES & row.keys():
            row[column] = ledger.instant(dt.datetime.fromisoformat(row[column].replace("Z", "+00:00")))
        written = row.get("chain_hash")
        if written is not None:
            row["chain_hash"] = written.hex() if isinstance(written, bytes) else written.removeprefix("\\x")
    return rows


def ends_of(database: Database, chain: str) -> dict[str, tuple[int, str]]:
    """Returns the ends of the chains of a database as defined in docs/billing.md, and fails on a mismatch."""
    table, columns = CHAINS[chain]
    rows = rows_of(database, table)
    parts: dict[str, dict[str, tuple[int, str]]] = {}
    for part in rows_of(database, "record_chains"):
        if part["chain"] == chain:
            parts.setdefault(part["organization_id"], {})[part["part"]] = (part["length"], part["hash"])
    ends = {}
    for organisation, known in parts.items():
        own = [row for row in rows if (row["organization_id"] or NO_ORGANISATION) == organisation]
        anchors = []
        month_of = (lambda row: row["billing_month"]) if chain == "ledger" else (lambda row: row["at"][:7])
        for month in sorted(known.keys() - {""}):
            older = [row for row in own if row["chain_sequence"] is None and month_of(row) == month]
            older.sort(key=lambda row: (row["ended_at"], row["request_id"]) if chain == "ledger" else row["id"])
            text = [[f"plantlake {chain} anchor 1", organisation, month], *([row[name] for name in columns] for row in older)]
            lines = "".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in text)
            anchors.append([month, len(older), hashlib.sha256(lines.encode()).hexdigest()])
            assert known[month] == tuple(anchors[-1][1:])
        length = sum(records for _, records, _ in anchors)
        previous = sha256([f"plantlake {chain} 1", 0, "", anchors]) if anchors else ""
        for row in sorted((row for row in own if row["chain_sequence"] is not None), key=lambda row: row["chain_sequence"]):
            length += 1
            assert row["chain_sequence"] == length
            previous = sha256([f"plantlake {chain} 1", length, previous, *(row[name] for name in columns)])
            assert row["chain_hash"] == previous, row
        assert known[""] == (length, previous)
        ends[organisation] = (length, previous)
    assert {row["organization_id"] or NO_ORGANISATION for row in rows} <= ends.keys()
    return ends


def heads_of(head: dict, chain: str) -> dict[str, tuple[int, str]]:
    """Returns the ends of the chains in an exported head."""
    ends = {(one["organisation_id"] or NO_ORGANISATION): (one[chain]["length"], one[chain]["hash"]) for one in head["heads"]}
    return {organisation: end for organisation, end in ends.items() if end != (0, "")}


def test_independent_program_computes_same_audit_chains(installation: Installation) -> None:  # noqa: F811
    for number, name in enumerate(["Acme, \"Chemicals\" ü 😀", "bolt"]):
        installation.json("org", "create", name, "--user-limit", "5")
        installation.json("user", "create", f"ada@{number}.example", "--org", name, "--role", "admin", stdin=f"{PASSWORD}\n")
    installation.ok("token", "keys", "rotate")
    head = installation.json("audit", "head")
    ends = ends_of(installation.database, "audit")
    assert heads_of(head, "audit") == ends and len(ends) == 3
    assert sorted(length for length, _ in ends.values())[1:] == [2, 2]
    verified = installation.json("audit", "verify")
    assert verified["verified"] and all(chain["findings"] == [] for chain in verified["chains"])
    assert {
        chain["organisation_id"] or NO_ORGANISATION for chain in verified["chains"] if chain["chain"] == "audit"
    } == ends.keys()
    output = installation.ok("audit", "head")
    assert all(hash in output for _, hash in ends.values())
    # After another entry, the old head is still valid.
    (installation.folder / "head.json").write_text(json.dumps(head))
    installation.json("org", "set-limit", "bolt", "7")
    assert installation.json("audit", "verify", "--head", "head.json")["verified"]
    assert heads_of(installation.json("audit", "head"), "audit") == ends_of(installation.database, "audit") != ends


AUDIT_TAMPERED = {
    "id": "id = id + 1000",
    "at": "at = '2020-01-01T00:00:00.000000Z'",
    "actor": "actor = 'operator eve'",
    "action": "action = 'user.remove'",
    "organization_id": "organization_id = (SELECT id FROM organizations WHERE name = 'bolt')",
    "subject": "subject = ''",
    "details": "details = '{}'",
    "chain_sequence": "chain_sequence = 99",
    "chain_hash": None,
}


@pytest.mark.parametrize("column", AUDIT_TAMPERED)
def test_changed_audit_entry_is_reported(tmp_path: Path, audited: Path, column: str) -> None:
    database = copy_of(audited, tmp_path)
    name = database.value("SELECT id FROM audit_trail WHERE action = 'org.set-limit' ORDER BY id LIMIT 1 OFFSET 1")
    change = AUDIT_TAMPERED[column] or "chain_hash = zeroblob(32)"
    database.change("audit_trail", f"UPDATE audit_trail SET {change} WHERE id = {name}")
    found = findings(database, "audit", "verify")
    # An entry whose id was changed is reported by its new id.
    name = str(int(name) + 1000) if column == "id" else name
    assert name in {finding["record"] for finding in found}, found
    assert len(found) <= 2, found


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with an audit trail."""
    folder = tmp_path_factory.mktemp("audited")
    installation = Installation(folder, SqliteDatabase(f"sqlite:{folder / 'o.db'}"))  # noqa: F811
    for name in ("Acme", "bolt"):
        installation.json("org", "create", name)
    for limit in range(5):
        installation.json("org", "set-limit", "Acme", str(limit + 10))
    return folder / "o.db"


def copy_of(path: Path, folder: Path) -> SqliteDatabase:
    with sqlite3.connect(path) as source, sqlite3.connect(folder / "copy.db") as target:
        source.backup(target)
    return SqliteDatabase(f"sqlite:{folder / 'copy.db'}")


def run_on(database: SqliteDatabase, *command: str) -> Finished:
    """Runs a command on a database."""
    installation = Installation(database.path.parent, database)  # noqa: F811
    return installation.run(*command, "--json")


def findings(database: SqliteDatabase, *command: str, code: int = DIFFERS) -> list[dict]:
    finished = run_on(database, *command).expect(code).json
    assert finished["verified"] == (code == OK)
    return [finding for chain in finished["chains"] for finding in chain["findings"]]


# ---- the ledger of a server


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    return Plant(tmp_path_factory.mktemp("attacked")).build()


@pytest.fixture(scope="module")
def chained(built: Plant, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the database after a server has answered two organisations for some seconds, with its head in the same
    folder."""
    plant = built.serve(settings={"PLANTLAKE_METERING_SQL": "true"})
    clients = [CountingClient(plant.uri, plant.tenants[name].key) for name in ("North", "South")]
    for number in range(40):
        for client in clients:
            client.ask(f"SELECT {number} AS x, 'ä\t\"' AS y")
        if number % 16 == 0:
            time.sleep(1.1)
    assert plant.stop() == OK
    folder = tmp_path_factory.mktemp("chained")
    (folder / "head.json").write_text(json.dumps(plant.run("audit", "head", "--json").expect(OK).json))
    return copy_of(database_of(plant).path, folder).path


@pytest.fixture(scope="module")
def plant(built: Plant, chained: Path) -> Iterator[Plant]:
    """The plant with a running server, started after the copy was made."""
    yield built.serve()
    assert built.stop() == OK, "".join(built.log)


def test_independent_program_computes_same_ledger_chains(chained: Path) -> None:
    database = SqliteDatabase(f"sqlite:{chained}")
    head = json.loads((chained.parent / "head.json").read_text())
    for chain in CHAINS:
        assert heads_of(head, chain) == ends_of(database, chain)
    assert len(heads_of(head, "ledger")) == 2
    # All commands agree, with and without the head.
    for command in (
        ["audit", "verify"],
        ["usage", "verify"],
        ["usage", "verify", "--month", f"{dt.datetime.now(dt.UTC):%Y-%m}"],
    ):
        for more in ([], ["--head", str(chained.parent / "head.json")]):
            assert findings(database, *command, *more, code=OK) == []
    (chained.parent / "no head.json").write_text('{"format": "another", "at": "2026-01-01T00:00:00Z", "heads": []}')
    refused = run_on(database, "audit", "verify", "--head", str(chained.parent / "no head.json")).expect(USAGE)
    assert "plantlake audit head --json" in refused.err and "another" in refused.err


def changes(database: SqliteDatabase) -> dict[str, str]:
    """Returns a change of each column of a record, as SQL."""
    other = database.value("SELECT id FROM organizations WHERE name = 'Everything'")
    changes = {name: f"{name} = {name} || 'x'" for name in LEDGER}
    changes |= {name: f"{name} = '{uuid.uuid4()}'" for name in ("request_id", "session_id", "server_id")}
    changes |= {name: f"{name} = '2020-01-01T00:00:00.000001Z'" for name in ("started_at", "ended_at")}
    changes |= {
        name: f"{name} = coalesce({name}, 0) + 1"
        for name in LEDGER
        if name.endswith("_microseconds") or name.startswith("bytes_") or name == "rows"
    }
    changes |= {name: f"{name} = NOT {name}" for name in ("cancelled", "billable")}
    changes |= {
        "organization_id": f"organization_id = '{other}'",
        "user_id": f"user_id = (SELECT id FROM users WHERE organization_id = '{other}' LIMIT 1)",
        "api_key_id": "api_key_id = NULL",
        "sql_fingerprint": "sql_fingerprint = NULL",
        "billing_month": "billing_month = '2020-01'",
        # Values with the same meaning, but another text.
        "started_at again": "started_at = replace(started_at, 'Z', '+00:00')",
        "request_id again": "request_id = upper(request_id)",
        "billable again": "billable = 2",
        "number instead of text": "status = 7",
        "text instead of number": "rows = 'many'",
        "chain_hash": "chain_hash = zeroblob(32)",
        "chain_hash again": "chain_hash = NULL",
        "chain_sequence": "chain_sequence = NULL",
        "chain_sequence again": "chain_sequence = 100000",
    }
    return changes


def test_changed_ledger_columns_are_reported_without_other_records(tmp_path: Path, chained: Path) -> None:
    database = copy_of(chained, tmp_path)
    north = database.value("SELECT id FROM organizations WHERE name = 'North'")
    names = database.value(
        f"SELECT request_id FROM api_usage_logs WHERE organization_id = '{north}' ORDER BY chain_sequence"
    ).splitlines()
    # Every second record is changed, so that each has unchanged neighbours.
    changed, unchanged, sql = {}, set(names), []
    for at, (case, change) in enumerate(changes(database).items()):
        name = names[1 + 2 * at]
        sql.append(f"UPDATE api_usage_logs SET {change} WHERE request_id = '{name}'")
        changed[case] = name
        unchanged.discard(name)
    changed["request_id"] = sql[0].split("'")[1]
    changed["request_id again"] = changed["request_id again"].upper()
    with sqlite3.connect(database.path) as connection:
        for trigger in ("no_update", "no_delete", "no_replace"):
            connection.execute(f"DROP TRIGGER api_usage_logs_{trigger}")
        for statement in sql:
            connection.execute(statement)
    found = findings(database, "audit", "verify")
    reported = {finding["record"] for finding in found}
    assert {case: name for case, name in changed.items() if name not in reported} == {}
    assert reported & unchanged == set()


def tampered(chained: Path, folder: Path, *sql: str) -> SqliteDatabase:
    """Returns a copy of the database after these statements, with the triggers removed that protect its records."""
    database = copy_of(chained, folder)
    with sqlite3.connect(database.path) as connection:
        for name, table in connection.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            if table in ("api_usage_logs", "audit_trail"):
                connection.execute(f"DROP TRIGGER {name}")
        for statement in sql:
            connection.execute(statement)
    return database


NORTH = "organization_id = (SELECT id FROM organizations WHERE name = 'North')"
COPIED = ", ".join(f"'{uuid.UUID(int=9)}'" if name == "request_id" else name for name in LEDGER)
INSERT = (
    f"INSERT INTO api_usage_logs ({', '.join(LEDGER)}, chain_sequence, chain_hash) "
    f"SELECT {COPIED}, {{}} FROM api_usage_logs WHERE {NORTH} AND chain_sequence = 20"
)
TAMPERING: dict[str, tuple[list[str], list[tuple[str, object]]]] = {
    "inserted without a sequence": ([INSERT.format("NULL, NULL")], [("inserted", str(uuid.UUID(int=9)))]),
    "inserted at a used sequence": ([INSERT.format("20, chain_hash")], [("inserted", str(uuid.UUID(int=9)))]),
    "inserted at the end": ([INSERT.format("1000, chain_hash")], [("inserted", str(uuid.UUID(int=9)))]),
    "removed": ([f"DELETE FROM api_usage_logs WHERE {NORTH} AND chain_sequence = 20"], [("removed", 20)]),
    "many removed": ([f"DELETE FROM api_usage_logs WHERE {NORTH} AND chain_sequence BETWEEN 20 AND 30"], [("removed", 20)]),
    "first removed": ([f"DELETE FROM api_usage_logs WHERE {NORTH} AND chain_sequence = 1"], [("removed", 1)]),
    "last removed": ([f"DELETE FROM api_usage_logs WHERE {NORTH} AND chain_sequence > 40"], [("cut", 41)]),
    "all removed": ([f"DELETE FROM api_usage_logs WHERE {NORTH}"], [("cut", 1)]),
    "end of the chain changed": ([f"UPDATE record_chains SET hash = 'ab' WHERE {NORTH} AND chain = 'ledger'"], [("end", None)]),
    "end of the chain removed": ([f"DELETE FROM record_chains WHERE {NORTH} AND chain = 'ledger'"], [("end", None)]),
}


@pytest.mark.parametrize("case", TAMPERING)
def test_tampered_ledger_is_reported(tmp_path: Path, chained: Path, case: str) -> None:
    sql, expected = TAMPERING[case]
    database = tampered(chained, tmp_path, *sql)
    found = findings(database, "usage", "verify")
    assert [(finding["kind"], finding["record"] or finding["sequence"]) for finding in found] == expected, found
    verified = run_on(database, "audit", "verify").expect(DIFFERS)
    assert found[0]["text"] in json.dumps(verified.json, ensure_ascii=False).replace('\\"', '"')


def test_swapped_records_are_reported(tmp_path: Path, chained: Path) -> None:
    swap = (
        "UPDATE api_usage_logs SET chain_sequence = CASE chain_sequence WHEN 10 THEN 20 ELSE 10 END "
        f"WHERE {NORTH} AND chain_sequence IN (10, 20)"
    )
    database = tampered(chained, tmp_path, swap)
    names = database.value(f"SELECT request_id FROM api_usage_logs WHERE {NORTH} AND chain_sequence IN (10, 20)").splitlines()
    assert set(names) <= {finding["record"] for finding in findings(database, "audit", "verify")}


def test_rewritten_chain_is_reported_with_head_only(tmp_path: Path, chained: Path) -> None:
    """An attacker who can write to the whole database and knows docs/billing.md can do this."""
    database = tampered(chained, tmp_path)
    north = database.value("SELECT id FROM organizations WHERE name = 'North'")
    rows = [row for row in rows_of(database, "api_usage_logs") if row["organization_id"] == north]
    rows.sort(key=lambda row: row["chain_sequence"])
    previous, statements = "", []
    rows[19]["bytes_sent"] = 0
    for sequence, row in enumerate(rows, 1):
        previous = sha256(["plantlake ledger 1", sequence, previous, *(row[name] for name in LEDGER)])
        statements.append(
            f"UPDATE api_usage_logs SET bytes_sent = {row['bytes_sent']}, chain_hash = x'{previous}' "
            f"WHERE request_id = '{row['request_id']}'"
        )
    statements.append(f"UPDATE record_chains SET hash = '{previous}' WHERE {NORTH} AND chain = 'ledger'")
    database = tampered(chained, tmp_path, *statements)
    head = ["--head", str(chained.parent / "head.json")]
    assert findings(database, "audit", "verify", code=OK) == []
    [found] = findings(database, "audit", "verify", *head)
    assert found["kind"] == "rewritten"
    # The end of the chain is deleted, and its recorded end is set back.
    cut = [f"DELETE FROM api_usage_logs WHERE {NORTH} AND chain_sequence > 30",
           "UPDATE record_chains SET length = 30, hash = (SELECT lower(hex(chain_hash)) FROM api_usage_logs "
           f"WHERE {NORTH} AND chain_sequence = 30) WHERE {NORTH} AND chain = 'ledger'"]  # fmt: skip
    database = tampered(chained, tmp_path, *cut)
    assert findings(database, "audit", "verify", code=OK) == []
    [found] = findings(database, "usage", "verify", *head)
    assert (found["kind"], found["sequence"]) == ("cut", 31)
    # The whole chain is deleted, with all its records.
    database = tampered(
        chained, tmp_path, f"DELETE FROM api_usage_logs WHERE {NORTH}", f"DELETE FROM record_chains WHERE {NORTH}"
    )
    found = findings(database, "usage", "verify", *head)
    assert [(finding["kind"], finding["sequence"]) for finding in found] == [("cut", 1)]


def test_backup_keeps_chains_anchored_in_older_records(tmp_path: Path) -> None:
    old = Installation(tmp_path / "old", SqliteDatabase(f"sqlite:{tmp_path / 'old' / 'organisation.db'}"))
    organisation = old.json("org", "create", "Acme", "--user-limit", "5")["id"]
    user = old.json("user", "create", "ada@0.example", "--org", "Acme", "--role", "admin", stdin=f"{PASSWORD}\n")["id"]
    rows = ledger.records(1, organisation, [user], ["2024-01", "2024-02"], count=20)
    ledger.fill(old.database, rows)
    # Records written by a version without chains.
    [chain] = old.json("usage", "verify")["chains"]
    assert (chain["begun"], chain["records"], chain["findings"]) == (False, 40, [])
    head = old.json("audit", "head")
    assert heads_of(head, "ledger") == ends_of(old.database, "ledger") and heads_of(head, "ledger")[organisation][0] == 40
    old.ok("backup", "--to", "backup.tar.zst")
    new = Installation(tmp_path / "new", SqliteDatabase(f"sqlite:{tmp_path / 'new' / 'organisation.db'}"))
    shutil.rmtree(new.folder / "catalog")
    new.json("restore", "--from", str(old.folder / "backup.tar.zst"))
    (new.folder / "head.json").write_text(json.dumps(head))
    assert new.json("audit", "verify", "--head", "head.json")["verified"]
    new.json("org", "set-limit", "Acme", "7")
    assert new.json("audit", "verify", "--head", "head.json")["verified"]
    one = random.Random(3).choice([row for row in rows if row["billing_month"] == "2024-02"])["request_id"]
    new.database.change("api_usage_logs", f"UPDATE api_usage_logs SET rows = rows + 1 WHERE request_id = '{one}'")
    [found] = [
        finding
        for chain in new.run("audit", "verify", "--json").expect(DIFFERS).json["chains"]
        for finding in chain["findings"]
    ]
    assert found["kind"] == "anchor" and "2024-02" in found["text"]


# ---- billing of sent data


def start_reading(plant: Plant, tenant: str, sql: str) -> tuple[CountingClient, flight.FlightStreamReader]:
    """Starts a query, and returns the client and the reader of its result."""
    client = CountingClient(plant.uri, plant.tenants[tenant].key)
    command = any_of("CommandStatementQuery", text_field(1, sql))
    info = client.client.get_flight_info(flight.FlightDescriptor.for_command(command), client.options)
    return client, client.client.do_get(info.endpoints[0].ticket, client.options)


def record_of(plant: Plant, request: str) -> dict:
    database = database_of(plant)
    eventually(lambda: request in recorded(database, f"request_id = '{request}'"), LEDGER_TIMEOUT)
    return recorded(database)[request]


def billed_bytes(plant: Plant, tenant: str) -> int:
    """Returns the sent bytes in the totals of an organisation."""
    organisation = f"(SELECT id FROM organizations WHERE name = '{tenant}')"
    return int(
        database_of(plant).value(
            f"SELECT coalesce(sum(bytes_sent), 0) FROM usage_totals WHERE organization_id = {organisation}"
        )
    )


# Each of these expressions fails in the last rows in a different way: internal error, argument, number, text or pattern.
LATE_FAILURES = {
    "resize": "array_resize(make_array(n), CASE WHEN n >= 172400 THEN -1 ELSE 1 END)",
    "zero": "1 / (CASE WHEN n >= 172400 THEN 0 ELSE 1 END)",
    "overflow": "CAST(n AS BIGINT) + (CASE WHEN n >= 172400 THEN 9223372036854775807 ELSE 1 END)",
    "cast": "CAST(CASE WHEN n >= 172400 THEN 'x' ELSE '1' END AS INT)",
    "date": "to_timestamp(CASE WHEN n >= 172400 THEN 'x' ELSE '2024-01-01T00:00:00' END)",
    "pattern": "regexp_replace('a', CASE WHEN n >= 172400 THEN '(' ELSE 'b' END, 'c')",
    "like": "regexp_like('a', CASE WHEN n >= 172400 THEN '(' ELSE 'b' END)",
    "chr": "chr(CASE WHEN n >= 172400 THEN -1 ELSE 65 END)",
    "repeat": "repeat('a', CASE WHEN n >= 172400 THEN 999999999 ELSE 1 END)",
    "factorial": "factorial(CASE WHEN n >= 172400 THEN 100 ELSE 1 END)",
    "decode": "decode(CASE WHEN n >= 172400 THEN 'x' ELSE 'YQ==' END, 'base64')",
}


def test_expression_failing_in_last_rows_is_caller_error_and_billed(plant: Plant) -> None:
    outcomes = {}
    for case, expression in LATE_FAILURES.items():
        before = billed_bytes(plant, "Everything")
        got, request = 0, None
        try:
            client, reader = start_reading(plant, "Everything", f"SELECT *, {expression} AS late FROM ({ALL})")
            for chunk in reader:
                got += chunk.data.num_rows
        except (flight.FlightError, pa.ArrowException, OSError) as error:
            request = client.ids.last.get("DO_GET") if got else None
            outcomes[case] = (got, str(error)) if request is None else (got, "failed")
            if request is None:
                # The function is not permitted, or the error occurs before any data is sent; both are errors of the caller.
                assert not isinstance(error, flight.FlightUnavailableError), (case, error)
                continue
            assert isinstance(error, pa.ArrowInvalid) or "InvalidArgument" in str(error) or "INVALID" in str(error).upper(), (
                case,
                error,
            )
        else:
            # Some of these functions accept every argument.
            outcomes[case] = (got, "answered")
            continue
        row = record_of(plant, request)
        assert row["status"] == "INVALID_ARGUMENT" and is_true(row["billable"]), (case, row)
        assert int(row["rows"]) >= got > 100_000, (case, row)
        assert billed_bytes(plant, "Everything") >= before + int(row["bytes_sent"]) > before + 10 * MIB
    failed = [case for case, (_, outcome) in outcomes.items() if outcome == "failed"]
    assert {"zero", "cast"} <= set(failed), outcomes


def test_answer_ended_by_role_change_is_billed(plant: Plant) -> None:
    plant.tenant("Losing", ["--all"])
    client, reader = start_reading(plant, "Losing", HUGE)
    got = reader.read_chunk().data.num_rows
    request = client.ids.last["DO_GET"]
    plant.run("user", "change", plant.tenants["Losing"].email("ana"), "--role", "admin").expect(OK)
    with pytest.raises(flight.FlightUnavailableError, match="repeat the request"):
        while True:
            got += reader.read_chunk().data.num_rows
    row = record_of(plant, request)
    assert row["status"] == "UNAVAILABLE" and is_true(row["billable"]) and int(row["rows"]) >= got > 0
    assert billed_bytes(plant, "Losing") == int(row["bytes_sent"]) > 0
    plant.run("usage", "verify").expect(OK)


@pytest.mark.parametrize("interruption", ["user", "organisation", "key", "client"])
def test_interrupted_answer_is_billed(plant: Plant, interruption: str) -> None:
    name = f"Ended{interruption}"
    plant.tenant(name, ["--all"])
    client, reader = start_reading(plant, name, HUGE)
    got = reader.read_chunk().data.num_rows
    request = client.ids.last["DO_GET"]
    if interruption == "client":
        reader.cancel()
    else:
        end = {"user": ["user", "deactivate", plant.tenants[name].email("ana")], "organisation": ["org", "deactivate", name],
               "key": ["key", "revoke", plant.tenants[name].key_id]}[interruption]  # fmt: skip
        plant.run(*end).expect(OK)
        with pytest.raises(flight.FlightError):
            while True:
                got += reader.read_chunk().data.num_rows
    row = record_of(plant, request)
    assert is_true(row["billable"]) and int(row["rows"]) >= got > 0 and int(row["bytes_sent"]) > 0
    assert row["status"] == ("CANCELLED" if interruption == "client" else "UNAUTHENTICATED"), row


def test_data_sent_before_server_kill_is_billed(plant: Plant) -> None:
    plant.tenant("Killed", ["--all"])
    client, reader = start_reading(plant, "Killed", HUGE)
    request, got, rows = None, 0, 0
    while got < 64 * MIB:
        chunk = reader.read_chunk().data
        got, rows = got + chunk.nbytes, rows + chunk.num_rows
    request = client.ids.last["DO_GET"]
    plant.process.kill()
    plant.process.wait()
    del reader
    plant.serve()
    row = record_of(plant, request)
    assert row["status"] == "ABORTED" and is_true(row["billable"]), row
    # Messages are slightly larger than their data.
    assert int(row["bytes_sent"]) > got - 16 * MIB - 2 * MESSAGE_BYTES, (row, got)
    assert int(row["rows"]) > rows / 2 and int(row["bytes_scanned"]) > 0
    assert billed_bytes(plant, "Killed") == int(row["bytes_sent"])
    # Data sent after the last progress record in the journal is not billed, and the ledger still verifies.
    plant.run("usage", "verify").expect(OK)


# ---- quotas while results are sent


def create_limited(plant: Plant, name: str, *flags: str) -> None:
    """Creates an organisation with limits, and waits until the server applies them."""
    plant.tenant(name, ["--all"])
    plant.run("org", "limit", name, *flags).expect(OK)
    # Servers read the limits every second.
    time.sleep(2.5)


def ask_concurrently(plant: Plant, name: str, sql: str, count: int) -> list[ClientResult | Exception]:
    """Runs a query with `count` clients at the same time, and returns the results or errors."""
    gate = threading.Barrier(count)

    def ask(_: int) -> ClientResult | Exception:
        client = CountingClient(plant.uri, plant.tenants[name].key)
        gate.wait()
        try:
            return client.ask(sql)
        except (flight.FlightError, pa.ArrowException) as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


@pytest.mark.parametrize("count", [2, 6])
def test_concurrent_answers_exceed_quota_by_one_message_each(plant: Plant, count: int) -> None:
    name = f"Quota{count}"
    create_limited(plant, name, "--monthly-bytes-sent", "1MB", "--concurrent-queries", "100")
    for outcome in ask_concurrently(plant, name, ALL, count):
        assert isinstance(outcome, pa.ArrowInvalid), outcome
        assert "quota of monthly_bytes_sent" in str(outcome) and "it resets at" in str(outcome), outcome
    database = database_of(plant)
    is_of_organisation = f"organization_id = (SELECT id FROM organizations WHERE name = '{name}')"
    eventually(
        lambda: len(recorded(database, f"{is_of_organisation} AND endpoint = 'DoGet/StatementQuery'")) == count, LEDGER_TIMEOUT
    )
    rows = recorded(database, f"{is_of_organisation} AND endpoint = 'DoGet/StatementQuery'").values()
    assert {row["status"] for row in rows} == {"FAILED_PRECONDITION"}
    sent = sum(int(row["bytes_sent"]) for row in rows)
    # Calls that sent data are billed. The other calls ended before they started or before they sent data.
    assert all(is_true(row["billable"]) == (int(row["bytes_sent"]) > 0) for row in rows)
    assert 1_000_000 <= sent == billed_bytes(plant, name) <= 1_000_000 + count * 2 * MESSAGE_BYTES, rows
    # Further calls are refused.
    [refused] = ask_concurrently(plant, name, "SELECT 1", 1)
    assert isinstance(refused, pa.ArrowInvalid) and "quota of monthly_bytes_sent" in str(refused)


def test_concurrent_requests_do_not_exceed_request_quota(plant: Plant) -> None:
    create_limited(plant, "Requests", "--monthly-requests", "3", "--concurrent-queries", "100")
    outcomes = ask_concurrently(plant, "Requests", ALL, 8)
    refused = [outcome for outcome in outcomes if isinstance(outcome, pa.ArrowInvalid) and "monthly_requests" in str(outcome)]
    assert len(refused) == 5 and sum(isinstance(outcome, ClientResult) for outcome in outcomes) == 3, outcomes


def test_query_without_rows_ends_when_scan_quota_is_used_up(plant: Plant) -> None:
    create_limited(plant, "Reading", "--monthly-bytes-scanned", "1KB")
    slow = "SELECT count(*) FROM data_min a CROSS JOIN data_min b CROSS JOIN data_min c WHERE a.value + b.value + c.value < 0"
    began = time.monotonic()
    [outcome] = ask_concurrently(plant, "Reading", slow, 1)
    assert isinstance(outcome, pa.ArrowInvalid) and "quota of monthly_bytes_scanned" in str(outcome), outcome
    assert time.monotonic() - began < 10
