"""The usage tables in SQL: each caller sees only permitted records, as computed by pandas."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator

import adbc_driver_manager
import pandas as pd
import pytest

import ledger
from databases import SqliteDatabase
from harness import OK
from server import PASSWORD, Plant, eventually

pytestmark = pytest.mark.local_only

MONTHS = ["2023-12", "2024-01", "2024-02"]
REPORT = "SELECT * FROM usage_report('2024-01')"


class UsageServer(Plant):
    """A server on a ledger with more than 2,400 records. North's records belong to an admin and two analysts."""

    def fill(self) -> "UsageServer":
        self.lake.run("simulate", "--assets", "2", "--days", "1", "--start", "2024-05-01", "--interval", "60s").expect(OK)
        self.lake.resample().expect(OK)
        for name in ("North", "South"):
            self.tenant(name, [])
        self.run("user", "create", "bea@north.example", "--org", "North", "--role", "analyst", stdin=PASSWORD + "\n")
        self.emails = {user["id"]: user["email"] for user in json.loads(self.run("user", "list", "--json").expect(OK).text)}
        self.rows: list[dict] = []
        for seed, name in enumerate(["North", "South"]):
            organisation = self.run("org", "show", name, "--json").expect(OK).json["id"]
            users = [id for id, email in self.emails.items() if name.lower() in email]
            self.rows += ledger.records(seed, organisation, sorted(users), MONTHS, 800)
        database = SqliteDatabase(f"sqlite:{self.lake.state / 'organisation.db'}")
        database.value("UPDATE organizations SET created_at = '2023-11-30T00:00:00.000000Z'")
        ledger.fill(database, self.rows)
        return self

    def own(self, who: str, tenant: str = "North") -> pd.DataFrame:
        rows = ledger.frame(self.rows)
        rows["user"] = rows["user_id"].map(self.emails)
        rows = rows[rows["user"].str.endswith(f"@{tenant.lower()}.example")]
        return rows if who == "admin" else rows[rows["user"] == f"{who}@{tenant.lower()}.example"]

    def query_as(self, sql: str, who: str, tenant: str = "North", parameters: tuple | None = None) -> pd.DataFrame:
        self.tenants["North"].email("ana")
        with self.connect(tenant, who) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetch_arrow_table().to_pandas()


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UsageServer]:
    plant = UsageServer(tmp_path_factory.mktemp("used")).fill()
    plant.serve()
    yield plant
    assert plant.stop() == OK


CALLERS = [("admin", "North"), ("ana", "North"), ("bea", "North"), ("admin", "South"), ("ana", "South")]


@pytest.mark.parametrize(("who", "tenant"), CALLERS)
def test_usage_shows_organisation_to_admins_and_own_rows_to_others(plant: UsageServer, who: str, tenant: str) -> None:
    # All callers send the same statement: a cached plan of one must not answer another.
    actual = plant.query_as("SELECT * FROM account.usage WHERE billing_month <= '2024-02'", who, tenant)
    expected = plant.own(who, tenant)
    assert len(expected) > 100
    actual = actual.set_index("request_id").sort_index()
    expected = expected.set_index("request_id").sort_index()
    assert list(actual.index) == list(expected.index)
    for column in actual.columns:
        if column in ("started_at", "ended_at"):
            assert list(actual[column]) == list(pd.to_datetime(expected[column], utc=True)), column
        else:
            assert [None if pd.isna(one) else one for one in actual[column]] == [None if pd.isna(one) else one for one in expected[column]], column


@pytest.mark.parametrize(("who", "tenant"), CALLERS)
def test_usage_report_groups_by_user_and_endpoint(plant: UsageServer, who: str, tenant: str) -> None:
    actual = plant.query_as(REPORT, who, tenant).to_dict("records")
    rows = plant.own(who, tenant).query("billing_month == '2024-01'").to_dict("records")
    assert actual == [{"billing_month": "2024-01"} | line for line in ledger.report(rows, ["user", "endpoint"])]
    prepared = plant.query_as("SELECT * FROM usage_report(?)", who, tenant, ("2024-01",))
    assert prepared.to_dict("records") == actual
    totals = plant.query_as("SELECT sum(rows) AS rows FROM usage_report('2024-01') WHERE endpoint LIKE 'DoGet%'", who, tenant)
    assert totals["rows"][0] == sum(line["rows"] for line in actual if line["endpoint"].startswith("DoGet"))


@pytest.mark.parametrize(
    ("where", "query", "is_pushed"),
    [
        ("billing_month = '2024-01'", "billing_month == '2024-01'", True),
        ("billing_month > '2023-12' AND billing_month < '2024-02'", "billing_month == '2024-01'", True),
        ("billing_month BETWEEN '2023-12' AND '2024-01'", "billing_month <= '2024-01'", True),
        ("'2024-01' <= billing_month", "billing_month >= '2024-01'", True),
        ("billing_month <> '2024-01'", "billing_month != '2024-01'", False),
        ("billing_month IN ('2024-01', '2023-12')", "billing_month <= '2024-01'", None),
        ("ended_at >= '2024-01-15' AND ended_at < '2024-02-03'", "'2024-01-15' <= ended_at < '2024-02-03'", True),
        ("ended_at < timestamp '2024-01-01T00:00:00Z'", "ended_at < '2024-01-01'", True),
        ("started_at >= '2024-02-10'", "started_at >= '2024-02-10'", True),
        ("started_at < '2024-02-10'", "started_at < '2024-02-10'", False),
        ("ended_at = '2024-01-01T00:00:00Z'", "ended_at == '2024-01-01T00:00:00.000000Z'", True),
        ("billing_month = 'January'", "billing_month == 'January'", False),
        ("billing_month = '2024-01' AND rows > 50000 AND status = 'OK'", "billing_month == '2024-01' and rows > 50000 and status == 'OK'", True),
        ("billing_month = '2024-01' OR rows > 90000", "billing_month == '2024-01' or rows > 90000", False),
    ],
)
def test_pushed_filters_equal_pandas(plant: UsageServer, where: str, query: str, is_pushed: bool | None) -> None:
    sql = f"SELECT count(*) AS count, sum(bytes_sent) AS sent FROM account.usage WHERE ({where}) AND ended_at < '2024-03-05'"
    actual = plant.query_as(sql, "admin")
    expected = plant.own("admin").query(query)
    assert (actual["count"][0], actual["sent"].fillna(0)[0]) == (len(expected), expected["bytes_sent"].sum())
    plan = plant.query_as(f"EXPLAIN SELECT * FROM account.usage WHERE {where}", "admin")["plan"][0]
    if is_pushed is not None:
        assert ("partial_filters=" in plan) == is_pushed, plan


def test_usage_can_be_counted_limited_and_joined(plant: UsageServer) -> None:
    expected = plant.own("admin").query("billing_month <= '2024-02'")
    counted = plant.query_as("SELECT count(*) AS n FROM account.usage WHERE billing_month <= '2024-02'", "admin")
    assert counted["n"][0] == len(expected)
    assert len(plant.query_as("SELECT request_id FROM account.usage LIMIT 7", "admin")) == 7
    sql = "SELECT request_id FROM account.usage WHERE billing_month <= ? ORDER BY ended_at, 1 LIMIT 3"
    first = plant.query_as(sql, "admin", parameters=("2024-01",))
    assert list(first["request_id"]) == list(expected.sort_values(["ended_at", "request_id"])["request_id"][:3])
    sql = """SELECT u."user", count(*) AS n FROM account.usage u JOIN account.users p ON p.email = u."user"
             WHERE billing_month = '2024-02' GROUP BY 1 ORDER BY 1"""
    joined = plant.query_as(sql, "admin")
    assert dict(zip(joined["user"], joined["n"])) == dict(expected.query("billing_month == '2024-02'")["user"].value_counts())


def test_limits_table_shows_limits_and_usage(plant: UsageServer) -> None:
    plant.run("org", "limit", "North", "--requests-per-second", "500.5", "--monthly-bytes-sent", "1TB").expect(OK)
    limits = plant.query_as("SELECT * FROM account.limits", "ana").set_index("limit_name")
    assert list(limits.index) == [
        "requests_per_second", "concurrent_queries", "monthly_requests", "monthly_bytes_sent", "monthly_bytes_scanned",
    ]  # fmt: skip
    assert limits["at_most"]["requests_per_second"] == 500.5 and limits["at_most"]["monthly_bytes_sent"] == 1e12
    assert pd.isna(limits["at_most"]["concurrent_queries"]) and pd.isna(limits["used"]["concurrent_queries"])
    following = (dt.datetime.now(dt.UTC).replace(day=1) + dt.timedelta(days=32)).replace(day=1)
    assert f"{limits['resets_at']['monthly_requests']:%Y-%m-%dT%H:%M}" == f"{following:%Y-%m}-01T00:00"
    assert pd.isna(plant.query_as("SELECT * FROM account.limits", "ana", "South")["at_most"]).all()


def test_account_tables_are_listed_and_invalid_months_fail(plant: UsageServer) -> None:
    sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'account' ORDER BY 1"
    assert list(plant.query_as(sql, "admin")["table_name"]) == ["keys", "limits", "usage", "users"]
    assert list(plant.query_as(sql, "ana")["table_name"]) == ["limits", "usage"]
    columns = "SELECT count(*) AS n FROM information_schema.columns WHERE table_schema = 'account' AND table_name = 'usage'"
    assert plant.query_as(columns, "ana")["n"][0] == 20
    for call in ["usage_report()", "usage_report('2024-13')", "usage_report(2024)", "usage_report('2024-01', 1)", "usage_report(NULL)"]:
        with pytest.raises(adbc_driver_manager.ProgrammingError, match="2026-11"):
            plant.query_as(f"SELECT * FROM {call}", "ana")
    assert len(plant.query_as("SELECT * FROM usage_report('1999-01')", "admin")) == 0


def test_new_requests_appear_for_their_user_only(plant: UsageServer) -> None:
    recent = """SELECT count(*) AS n, count(DISTINCT "user") AS users, min("user") AS who FROM account.usage
              WHERE started_at >= now() - INTERVAL '1 hour' AND billable"""
    before = int(plant.query_as(recent, "bea")["n"][0])
    for _ in range(3):
        plant.query_as("SELECT 1 AS x", "bea")
    # These queries are counted, too.
    eventually(lambda: plant.query_as(recent, "bea")["n"][0] >= before + 4)
    for who in ("bea", "ana"):
        seen = plant.query_as(recent, who).iloc[0]
        assert seen["n"] == 0 or (seen["users"], seen["who"]) == (1, f"{who}@north.example")
    month = f"{dt.datetime.now(dt.UTC):%Y-%m}"
    sql = f"SELECT * FROM usage_report('{month}') WHERE endpoint LIKE 'DoGet%' AND billable_requests > 0"
    [line] = plant.query_as(sql, "bea").to_dict("records")
    assert (line["user"], line["late_requests"]) == ("bea@north.example", 0)
    assert line["billable_requests"] >= before + 4
    plant.run("usage", "verify", "--month", month).expect(OK)
