"""Reports, closed months and invoices on the command line, on both databases, compared with pandas, hashlib and decimal."""

from __future__ import annotations

import copy
import csv
import datetime as dt
import fcntl
import io
import json
import os
import pty
import random
import shutil
import struct
import subprocess
import termios
from decimal import Decimal
from pathlib import Path

import pytest

import ledger
from admin import PASSWORD, Installation
from databases import Database, Postgres, PostgresDatabase, SqliteDatabase
from harness import FAILURE, OK, USAGE, binary, environment

pytestmark = pytest.mark.local_only

DIFFERS = 5
MONTHS = ["2023-12", "2024-01", "2024-02"]
PRICES = {
    "PER_1000_REQUESTS": "0.40",
    "FREE_REQUESTS": "7",
    "PER_GB_SENT": "0.085",
    "FREE_GB_SENT": "0.5",
    "PER_GB_SCANNED": "0.005",
    "FREE_GB_SCANNED": "1000",
}


class UsageData:
    """Two organisations with usage and one without."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.ids: dict[str, str] = {}
        self.users: dict[str, str] = {}
        self.rows: list[dict] = []
        for seed, name in enumerate(["Acme, Chemicals", "bolt", "Idle"]):
            self.ids[name] = installation.json("org", "create", name)["id"]
            emails = [f"{who}@{seed}.example" for who in ("zoe", "Ada")]
            for email in emails:
                user = installation.json("user", "create", email, "--org", name, "--role", "analyst", stdin=f"{PASSWORD}\n")
                self.users[user["id"]] = email
            if name != "Idle":
                own = [user for user, email in self.users.items() if email in emails]
                self.rows += ledger.records(seed, self.ids[name], own, MONTHS)
        # The organisations must be older than their usage.
        installation.database.value("UPDATE organizations SET created_at = '2023-11-30T00:00:00.000000Z'")
        ledger.fill(installation.database, self.rows)

    def own(self, name: str | None, *months: str) -> list[dict]:
        """Returns an organisation's records of these months, with names added."""
        names = {id: name for name, id in self.ids.items()}
        wanted = [row for row in self.rows if row["billing_month"] in months and name in (None, names[row["organization_id"]])]
        added = [{"organisation": names[row["organization_id"]], "user": self.users[row["user_id"]]} for row in wanted]
        return [row | {"month": row["billing_month"]} | more for row, more in zip(wanted, added)]

    def close(self, *months: str) -> dict:
        for month in months:
            closed = self.installation.json("usage", "close", month)
        return closed

    def settings(self) -> dict[str, str]:
        return {f"PLANTLAKE_BILLING_{name}": value for name, value in PRICES.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, UsageData]:
    """The data in each kind of database, which tests copy."""
    return {}


@pytest.fixture(params=["sqlite", "postgres"])
def usage(request: pytest.FixtureRequest, built: dict[str, UsageData], tmp_path_factory: pytest.TempPathFactory) -> UsageData:
    def database(folder: Path, options: str = "") -> Database:
        if request.param == "sqlite":
            return SqliteDatabase(f"sqlite:{folder / 'organisation.db'}")
        server: Postgres = request.getfixturevalue("postgres")
        return PostgresDatabase(server.new_database(options=options))

    if request.param not in built:
        folder = tmp_path_factory.mktemp("built")
        built[request.param] = UsageData(Installation(folder, database(folder)))
    template = built[request.param].installation
    folder = tmp_path_factory.mktemp("usage")
    shutil.copytree(template.folder, folder, dirs_exist_ok=True)
    own = copy.copy(built[request.param])
    own.rows = list(own.rows)
    own.installation = Installation(folder, database(folder, f"TEMPLATE {template.database.url.rsplit('/', 1)[1]}"))
    return own


def lines_of(printed: dict, by: list[str]) -> list[dict]:
    return [{name: line[name] for name in by + ledger.SUMS} for line in printed["lines"]]


# ---- reports


@pytest.mark.parametrize("by", [None, "user", "endpoint", "day"])
@pytest.mark.parametrize("name", [None, "Acme, Chemicals"])
@pytest.mark.parametrize("months", ["2024-01", "2023-12..2024-02"])
def test_reports_equal_pandas(usage: UsageData, by: str | None, name: str | None, months: str) -> None:
    command = ["usage", "report", "--month", months]
    command += ["--by", by] if by else []
    command += ["--org", name] if name else []
    columns = ["organisation", "month"] + ([by] if by else [])
    rows = usage.own(name, *([months] if ".." not in months else MONTHS))
    expected = ledger.report(rows, columns)
    assert len(expected) >= 1
    printed = usage.installation.json(*command)
    assert lines_of(printed, columns) == expected
    assert printed["adjustments"] == []
    text = usage.installation.ok(*command, "--format", "csv")
    table = list(csv.DictReader(io.StringIO(text)))
    assert [{name: line[name] for name in columns} | {name: int(line[name]) for name in ledger.SUMS} for line in table] == expected
    shown = usage.installation.ok(*command)
    assert f"{sum(line['rows'] for line in expected):,}" in shown, shown


@pytest.mark.parametrize("width", [80, 120])
def test_report_table_fits_terminal(usage: UsageData, width: int) -> None:
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    command = [str(binary()), "usage", "report", "--month", "2024-01", "--by", "endpoint"]
    installation = usage.installation
    process = subprocess.Popen(command, env=environment(installation.settings), cwd=installation.folder, stdout=terminal)
    assert process.wait(timeout=60) == OK
    os.close(terminal)
    shown = os.read(controller, 1 << 16).decode()
    os.close(controller)
    assert max(len(line) for line in shown.splitlines()) <= width, shown
    assert ("failed" in shown, "aborted" in shown) == (width == 80, width == 120), shown


def test_empty_report_says_no_usage_and_invalid_arguments_fail(usage: UsageData) -> None:
    installation = usage.installation
    assert "no usage by Idle in 2024-01" in installation.ok("usage", "report", "--month", "2024-01", "--org", "idle")
    this_month = f"{dt.datetime.now(dt.UTC):%Y-%m}"
    assert f"no usage in {this_month}" in installation.ok("usage", "report")
    assert installation.json("usage", "report", "--month", "1999-01")["lines"] == []
    installation.fails("usage", "report", "--month", "2024-13", code=USAGE, error="2026-11")
    installation.fails("usage", "report", "--month", "2024-02..2024-01", code=USAGE, error="ends before it begins")
    installation.fails("usage", "report", "--by", "moon", code=USAGE, error="endpoint")
    installation.fails("usage", "report", "--org", "nobody", error="org list")
    for command in ("report", "close", "statement", "invoice", "verify"):
        assert "2026-1" in installation.ok("usage", command, "--help")


def test_postgres_report_function_equals_pandas(usage: UsageData) -> None:
    if not isinstance(usage.installation.database, PostgresDatabase):
        pytest.skip("SQLite has no functions")
    organisation = usage.ids["Acme, Chemicals"]
    rows = usage.own("Acme, Chemicals", "2024-01")
    # The time zone of the session must not matter.
    output = usage.installation.database.value(
        f"SET timezone = 'Pacific/Auckland'; SELECT row_to_json(r) FROM get_monthly_usage_report('{organisation}', '2024-01-01') r"
    )
    lines = [json.loads(line) for line in output.splitlines()]
    assert [{"user": line["user_email"], "endpoint": line["endpoint"]} | {name: line[name] for name in ledger.SUMS} for line in lines] == (
        ledger.report(rows, ["user", "endpoint"])
    )
    assert {(line["organization"], line["billing_month"]) for line in lines} == {("Acme, Chemicals", "2024-01")}
    nothing = f"SELECT count(*) FROM get_monthly_usage_report('{organisation}', '2024-03-31')"
    assert usage.installation.database.value(nothing) == "0"


# ---- closing


def test_closed_month_has_totals_and_hash_of_records(usage: UsageData) -> None:
    closed = usage.close(*MONTHS[:2])
    assert [statement["organisation"] for statement in closed["statements"]] == ["Acme, Chemicals", "Idle", "bolt"]
    for statement in closed["statements"]:
        rows = usage.own(statement["organisation"], "2024-01")
        expected = ledger.sums(ledger.frame(rows)) if rows else dict.fromkeys(ledger.SUMS, 0)
        assert {name: statement[name] for name in ledger.TOTALS[1:]} == {name: expected[name] for name in ledger.TOTALS[1:]}
        assert statement["requests"] == expected["billable_requests"]
        assert statement["records_hash"] == ledger.digest(usage.rows, statement["organisation_id"], "2024-01")
        assert not statement["already"]
        assert statement["closed_by"].startswith("operator otto on ")
    trail = [entry for entry in usage.installation.json("audit", "--org", "bolt") if entry["action"] == "usage.close"]
    assert [(entry["subject"], entry["details"]["records_hash"]) for entry in trail] == [
        (month, ledger.digest(usage.rows, usage.ids["bolt"], month)) for month in ("2024-01", "2023-12")
    ]
    # Closing again changes nothing.
    again = usage.installation.json("usage", "close", "2024-01")
    assert [statement | {"already": False} for statement in again["statements"]] == closed["statements"]
    assert all(statement["already"] for statement in again["statements"])
    assert "was closed already" in usage.installation.ok("usage", "close", "2024-01", "--org", "bolt")
    shown = usage.installation.json("usage", "statement", "2024-01", "--org", "bolt")["statements"]
    assert [statement | {"already": False} for statement in shown] == closed["statements"][2:]
    assert "is not closed" in usage.installation.ok("usage", "statement", "2024-02")


def test_months_close_in_order_after_they_end(usage: UsageData) -> None:
    installation = usage.installation
    now = dt.datetime.now(dt.UTC)
    following = (now.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
    installation.fails("usage", "close", f"{now:%Y-%m}", error=f"it can be closed from {following:%Y-%m}-01T00:00:00Z on")
    output = installation.fails("usage", "close", "2024-02", error="2023-12 of Acme, Chemicals")
    assert "`plantlake usage close 2023-12`" in output and "2024-01 of bolt" in output
    assert installation.json("usage", "statement", "2024-02")["statements"] == []
    # An organisation's open months do not affect another organisation.
    for month in MONTHS:
        installation.json("usage", "close", month, "--org", "bolt")
    installation.fails("usage", "close", "2024-02", error="2023-12 of Acme")
    assert "bolt" not in installation.fails("usage", "close", "2024-01").split("open:")[1]
    closed = usage.close(*MONTHS)["statements"]
    assert [statement["already"] for statement in closed] == [False, False, True]
    # Months without usage need not be closed.
    assert len(installation.json("usage", "close", "2024-05")["statements"]) == 3


def test_concurrent_closes_close_once(usage: UsageData) -> None:
    running = [usage.installation.start("usage", "close", "2023-12", "--json") for _ in range(6)]
    closed = []
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == OK, err.decode()
        closed.append(json.loads(out)["statements"])
    assert sorted({statement["already"] for statement in one} == {False} for one in closed) == [False] * 5 + [True]
    assert len({statement["closed_at"] for one in closed for statement in one}) == 1
    trail = usage.installation.json("audit", "--last", "1000")
    assert sum(entry["action"] == "usage.close" for entry in trail) == 3


def test_late_records_are_adjustments_of_next_month(usage: UsageData) -> None:
    bolt, [user] = usage.ids["bolt"], [user for user, email in usage.users.items() if email == "zoe@1.example"]
    usage.close("2023-12")
    # As add_usage does once the month is closed; tests/organisation tests that.
    ends = [dt.datetime(2023, 12, 31, 23, 59, 59, 999_999), dt.datetime(2023, 12, 5), dt.datetime(2023, 12, 6)]
    rng = random.Random(9)
    late = [
        ledger.record(rng, bolt, user, end, billing_month="2024-01", billable=billable, rows=10, bytes_sent=10**9)
        for end, billable in zip(ends, [True, True, False])
    ]
    usage.installation.database.insert("api_usage_logs", late)
    usage.rows += late
    totals = ledger.sums(ledger.frame(usage.own("bolt", "2024-01")))
    usage.installation.database.value(
        f"UPDATE usage_totals SET requests = {totals['billable_requests']}, rows = {totals['rows']}, "
        f"bytes_sent = {totals['bytes_sent']}, bytes_scanned = {totals['bytes_scanned']} "
        f"WHERE organization_id = '{bolt}' AND billing_month = '2024-01'"
    )
    adjustment = {
        "organisation_id": bolt, "organisation": "bolt", "month": "2024-01", "from_month": "2023-12", "requests": 2, "rows": 20,
        "bytes_sent": 2 * 10**9, "bytes_scanned": sum(row["bytes_scanned"] for row in late if row["billable"]),
    }  # fmt: skip
    report = usage.installation.json("usage", "report", "--month", "2024-01")
    assert report["adjustments"] == [adjustment]
    assert lines_of(report, ["organisation"]) == ledger.report(usage.own(None, "2024-01"), ["organisation"])
    assert [line["late_requests"] for line in report["lines"]] == [0, 2]
    days = usage.installation.json("usage", "report", "--month", "2024-01", "--org", "bolt", "--by", "day")
    assert [line["day"] for line in days["lines"]][:2] == ["2023-12-05", "2023-12-06"]
    usage.installation.json("usage", "verify", "--month", "2024-01")
    # The closed month is unchanged, and the next month has the adjustment.
    assert usage.installation.json("usage", "verify", "--month", "2023-12")["verified"]
    closed = usage.installation.json("usage", "close", "2024-01")
    assert closed["adjustments"] == [adjustment]
    assert [statement["late_requests"] for statement in closed["statements"]] == [0, 0, 2]
    [statement] = usage.installation.json("usage", "statement", "2024-01", "--org", "bolt")["statements"]
    assert statement["records_hash"] == ledger.digest(usage.rows, bolt, "2024-01")
    assert "Adjustments" in usage.installation.ok("usage", "statement", "2024-01")
    assert "Adjustments" in usage.installation.ok("usage", "report", "--month", "2024-01")
    assert "Adjustments" in usage.installation.ok("usage", "invoice", "2024-01", "--org", "bolt", **usage.settings())
    assert "Adjustments" not in usage.installation.ok("usage", "invoice", "2024-01", "--org", "idle", **usage.settings())


# ---- verifying


TAMPERED = {
    "a count": ("api_usage_logs", "UPDATE api_usage_logs SET rows = rows + 1 WHERE {one}", ["rows", "rows", "records_hash"]),
    "a text": ("api_usage_logs", "UPDATE api_usage_logs SET client_agent = 'x' WHERE {one}", ["records_hash"]),
    "a deleted record": (
        "api_usage_logs",
        "DELETE FROM api_usage_logs WHERE {one}",
        ["requests", "rows", "bytes_sent", "bytes_scanned"] * 2 + ["records_hash"],
    ),
    "the statement": ("usage_statements", "UPDATE usage_statements SET bytes_sent = 1 WHERE {org}", ["bytes_sent"]),
    "the statement's hash": ("usage_statements", "UPDATE usage_statements SET records_hash = 'x' WHERE {org}", ["records_hash"] * 2),
    "a deleted statement": ("usage_statements", "DELETE FROM usage_statements WHERE {org}", ["records_hash"]),
    "the totals": ("usage_totals", "UPDATE usage_totals SET requests = 0 WHERE {org}", ["requests"]),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERED)
def test_verify_finds_tampering(usage: UsageData, what: str) -> None:
    usage.close("2023-12")
    verified = usage.installation.json("usage", "verify", "--month", "2023-12")
    assert verified["verified"] and len(verified["organisations"]) == 3
    for found in verified["organisations"]:
        assert (found["closed"], found["differences"]) == (True, [])
        assert found["records"] == len(usage.own(found["organisation"], "2023-12"))
    table, sql, differences = TAMPERED[what]
    rows = usage.own("bolt", "2023-12")
    one = next(row for row in rows if row["billable"] and min(row[name] for name in ledger.TOTALS[1:]) > 1)
    org = f"organization_id = '{usage.ids['bolt']}' AND billing_month = '2023-12'"
    usage.installation.database.change(table, sql.format(one=f"request_id = '{one['request_id']}'", org=org))
    finished = usage.installation.run("usage", "verify", "--month", "2023-12", "--json").expect(DIFFERS).json
    assert not finished["verified"]
    found = {found["organisation"]: [difference["what"] for difference in found["differences"]] for found in finished["organisations"]}
    assert found == {"Acme, Chemicals": [], "Idle": [], "bolt": differences}
    output = usage.installation.run("usage", "verify", "--month", "2023-12", "--org", "bolt").expect(DIFFERS).text
    assert f"bolt: {differences[0]} of 2023-12 is " in output
    usage.installation.run("usage", "verify", "--month", "2023-12", "--org", "idle").expect(OK)
    if table == "api_usage_logs":
        usage.installation.fails("usage", "close", "2023-12", error="usage verify --month 2023-12")


def test_verify_compares_open_month_with_totals(usage: UsageData) -> None:
    verified = usage.installation.json("usage", "verify", "--month", "2024-02")
    assert [(found["organisation"], found["closed"]) for found in verified["organisations"]] == [("Acme, Chemicals", False), ("bolt", False)]
    assert "no usage" in usage.installation.ok("usage", "verify", "--month", "2025-02")
    where = f"organization_id = '{usage.ids['bolt']}' AND billing_month = '2024-02'"
    usage.installation.database.value(f"DELETE FROM usage_totals WHERE {where}")
    usage.installation.run("usage", "verify", "--month", "2024-02").expect(DIFFERS)


# ---- invoices


def test_invoices_equal_decimal_arithmetic(usage: UsageData) -> None:
    installation = usage.installation
    usage.close(*MONTHS)
    for month in MONTHS:
        invoices = installation.run("usage", "invoice", month, "--json", **usage.settings()).expect(OK).json
        assert [invoice["organisation"] for invoice in invoices] == ["Acme, Chemicals", "Idle", "bolt"]
        for invoice in invoices:
            assert (invoice["preview"], invoice["currency"]) == (False, "EUR")
            rows = usage.own(invoice["organisation"], month)
            expected = ledger.invoice(rows, PRICES) if rows else [Decimal(0)] * 3
            assert [Decimal(line["amount"]) for line in invoice["lines"]] == expected
            assert Decimal(invoice["total"]) == sum(expected)
            for line in invoice["lines"]:
                assert Decimal(line["quantity"]) == Decimal(line["allowance"]) + Decimal(line["billed"])
        text = installation.ok("usage", "invoice", month, "--format", "csv", **usage.settings())
        table = list(csv.DictReader(io.StringIO(text)))
        assert [line["amount"] for line in table] == [line["amount"] for invoice in invoices for line in invoice["lines"]]
        assert {(line["state"], line["currency"]) for line in table} == {("closed", "EUR")}
    assert sum(map(Decimal, (invoice["total"] for invoice in invoices))) > 0
    shown = installation.ok("usage", "invoice", "2024-02", "--org", "bolt", **usage.settings())
    assert invoices[2]["total"] in shown and "closed" in shown
    in_yen = usage.settings() | {"PLANTLAKE_BILLING_CURRENCY": "JPY"}
    yen = installation.run("usage", "invoice", "2024-02", "--org", "bolt", "--json", **in_yen).json
    assert [Decimal(line["amount"]) for line in yen[0]["lines"]] == ledger.invoice(usage.own("bolt", "2024-02"), PRICES, "1")


def test_invoice_of_open_month_is_preview(usage: UsageData) -> None:
    installation = usage.installation
    [invoice] = installation.run("usage", "invoice", "2023-12", "--org", "bolt", "--json", **usage.settings()).expect(OK).json
    assert invoice["preview"] and invoice["closed_at"] is None
    assert [Decimal(line["amount"]) for line in invoice["lines"]] == ledger.invoice(usage.own("bolt", "2023-12"), PRICES)
    assert "PREVIEW" in installation.ok("usage", "invoice", "2023-12", "--org", "bolt", **usage.settings())
    assert ",preview," in installation.ok("usage", "invoice", "2023-12", "--org", "bolt", "--format", "csv", **usage.settings())
    [idle] = installation.run("usage", "invoice", "2023-12", "--org", "idle", "--json", **usage.settings()).expect(OK).json
    assert (idle["preview"], idle["total"]) == (True, "0.00")
    # Without prices, the error lists the settings for them.
    assert "billing.per_gb_sent" in installation.run("usage", "invoice", "2023-12").expect(OK).err
    for name, wrong in [("PER_GB_SENT", "0,1"), ("PER_GB_SENT", "-1"), ("CURRENCY", "euro"), ("FREE_REQUESTS", "1.5")]:
        settings = {f"PLANTLAKE_BILLING_{name}": wrong}
        finished = installation.run("usage", "invoice", "2023-12", **settings).expect(USAGE)
        assert f"billing.{name.lower()}" in finished.err or f"PLANTLAKE_BILLING_{name}" in finished.err


# ---- limits


def test_limits_are_shown_changed_and_removed(usage: UsageData) -> None:
    installation = usage.installation
    nothing = dict.fromkeys(["requests_per_second", "concurrent_queries", "monthly_requests", "monthly_bytes_sent", "monthly_bytes_scanned"])
    shown = installation.json("org", "limit", "BOLT")
    assert (shown["limits"], shown["changed"]) == (nothing, False)
    revision = int(installation.database.value("SELECT revision FROM access_revision"))
    given = ["--requests-per-second", "2.5", "--concurrent-queries", "4", "--monthly-bytes-sent", "10GB", "--monthly-bytes-scanned", "1TB"]
    limits = nothing | {
        "requests_per_second": 2.5, "concurrent_queries": 4, "monthly_bytes_sent": 10**10, "monthly_bytes_scanned": 10**12,
    }  # fmt: skip
    changed = installation.json("org", "limit", "bolt", *given)
    assert (changed["limits"], changed["changed"]) == (limits, True)
    assert int(installation.database.value("SELECT revision FROM access_revision")) == revision + 1
    assert not installation.json("org", "limit", "bolt", *given)["changed"]
    changed = installation.json("org", "limit", "bolt", "--requests-per-second", "none", "--monthly-requests", "0")
    assert changed["limits"] == limits | {"requests_per_second": None, "monthly_requests": 0}
    assert installation.json("org", "limit", "Idle")["limits"] == nothing
    [second, first] = [entry for entry in installation.json("audit") if entry["action"] == "org.limit"]
    assert (first["details"]["from"], first["details"]["to"]) == (nothing, limits)
    assert second["subject"] == "bolt"
    for flag, wrong, code in [
        ("--requests-per-second", "0", FAILURE),
        ("--requests-per-second", "nan", FAILURE),
        ("--requests-per-second", "-1", FAILURE),
        ("--requests-per-second", "fast", USAGE),
        ("--concurrent-queries", "0", FAILURE),
        ("--concurrent-queries", "1.5", USAGE),
        ("--monthly-bytes-sent", "10G", USAGE),
        ("--monthly-requests", "-5", USAGE),
    ]:
        installation.fails("org", "limit", "bolt", flag, wrong, code=code)
    assert int(installation.database.value("SELECT revision FROM access_revision")) == revision + 2
    assert "10.0 GB" in installation.ok("org", "limit", "bolt")
