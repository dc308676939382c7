"""Generated records of the usage ledger, and their expected reports, hashes and invoices, computed with pandas, hashlib and
decimal."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import random
import uuid
from decimal import ROUND_HALF_UP, Decimal

import pandas as pd

from databases import Database

SUMS = [
    "requests", "billable_requests", "late_requests", "rows", "bytes_sent", "bytes_scanned", "errors", "cancelled",
    "aborted",
]  # fmt: skip
TOTALS = ["requests", "rows", "bytes_sent", "bytes_scanned"]
# The order of the canonical form, which src/store/usage/usage_hash.rs documents.
CANONICAL = [
    "request_id", "user_id", "api_key_id", "session_id", "server_id", "endpoint", "sql_fingerprint", "sql_text",
    "started_at", "ended_at", "first_byte_microseconds", "duration_microseconds", "rows", "bytes_sent", "bytes_scanned",
    "status", "cancelled", "client_address", "client_agent", "billable",
]  # fmt: skip


def instant(at: dt.datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def record(generator: random.Random, organisation: str, user: str, ended: dt.datetime, **fixed) -> dict:
    """Returns one record, billed in the month in which it ended."""
    billable = generator.random() < 0.6
    duration = generator.randrange(1, 5_000_000)
    status = generator.choices(["OK", "INVALID_ARGUMENT", "ABORTED", "CANCELLED"], [85, 8, 3, 4])[0]
    endpoints = ["DoGet/StatementQuery", "DoPut/Ingest"] if billable else ["GetFlightInfo/StatementQuery", "DoAction"]
    endpoint = generator.choice(endpoints)
    return {
        "request_id": str(uuid.UUID(int=generator.getrandbits(128))),
        "organization_id": organisation,
        "user_id": user,
        "api_key_id": None,
        "session_id": generator.choice([None, str(uuid.UUID(int=generator.getrandbits(128)))]),
        "server_id": str(uuid.UUID(int=7)),
        "endpoint": endpoint,
        "sql_fingerprint": generator.choice([None, f"{generator.getrandbits(256):064x}"]),
        "sql_text": generator.choice([None, 'SELECT "ä\\n" FROM données\n\t-- \u2028 \x7f \x01 😀']),
        "started_at": instant(ended - dt.timedelta(microseconds=duration)),
        "ended_at": instant(ended),
        "billing_month": f"{ended:%Y-%m}",
        "first_byte_microseconds": generator.choice([None, duration // 2]),
        "duration_microseconds": duration,
        "rows": generator.randrange(100_000),
        "bytes_sent": generator.randrange(10**10),
        "bytes_scanned": generator.randrange(10**12),
        "status": status,
        "cancelled": status == "CANCELLED",
        "client_address": "10.0.0.7:1234",
        "client_agent": 'ADBC "1.8", test',
        "billable": billable,
    } | fixed


def records(seed: int, organisation: str, users: list[str], months: list[str], count: int = 60) -> list[dict]:
    """Returns `count` records per month, two of them at its first and last microsecond."""
    generator = random.Random(seed)
    generated = []
    for month in months:
        start = dt.datetime.fromisoformat(f"{month}-01T00:00:00")
        following = (start + dt.timedelta(days=32)).replace(day=1)
        length = int((following - start) / dt.timedelta(microseconds=1))
        for offset in [0, length - 1, *(generator.randrange(length) for _ in range(count - 2))]:
            ended = start + dt.timedelta(microseconds=offset)
            generated.append(record(generator, organisation, generator.choice(users), ended))
    return generated


def fill(database: Database, rows: list[dict]) -> None:
    """Inserts records into the ledger, and their sums into the totals, as `add_usage` does."""
    database.insert("api_usage_logs", rows)
    billable = frame(rows).query("billable")
    for (organisation, month), group in billable.groupby(["organization_id", "billing_month"]):
        totals = {"requests": len(group)} | {name: int(group[name].sum()) for name in TOTALS[1:]}
        database.insert("usage_totals", [{"organization_id": organisation, "billing_month": month} | totals])


def frame(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows)


def sums(group: pd.DataFrame) -> dict[str, int]:
    """Returns the sums of these records, as in a line of a report."""
    billable_rows = group[group["billable"]]
    late = billable_rows["billing_month"] != billable_rows["ended_at"].str[:7]
    failed = ~group["status"].isin(["OK", "ABORTED"]) & ~group["cancelled"]
    aborted = (group["status"] == "ABORTED") & ~group["cancelled"]
    values = [
        len(group), len(billable_rows), late.sum(), billable_rows["rows"].sum(), billable_rows["bytes_sent"].sum(),
        billable_rows["bytes_scanned"].sum(), failed.sum(), group["cancelled"].sum(), aborted.sum(),
    ]  # fmt: skip
    return dict(zip(SUMS, map(int, values)))


def report(rows: list[dict], by: list[str]) -> list[dict]:
    """Returns the lines of a report grouped by these columns."""
    table = frame(rows).assign(day=lambda rows: rows["ended_at"].str[:10])
    lines = []
    for keys, group in table.groupby(by):
        lines.append(dict(zip(by, keys if isinstance(keys, tuple) else (keys,))) | sums(group))
    return lines


def digest(rows: list[dict], organisation: str, month: str) -> str:
    """Returns the hash of a statement, computed independently of plantlake."""
    def line(value: list) -> bytes:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"

    selected = [row for row in rows if (row["organization_id"], row["billing_month"]) == (organisation, month)]
    selected.sort(key=lambda row: (row["ended_at"], row["request_id"]))
    text = line(["plantlake usage 1", organisation, month])
    return hashlib.sha256(text + b"".join(line([row[name] for name in CANONICAL]) for row in selected)).hexdigest()


def invoice(rows: list[dict], prices: dict[str, str], precision: str = "0.01") -> list[Decimal]:
    """Returns the amounts of an invoice's lines: requests, bytes sent, bytes scanned."""
    total = sums(frame(rows))
    amounts = []
    for used, unit, price, free in [
        (total["billable_requests"], 1_000, prices["PER_1000_REQUESTS"], Decimal(prices["FREE_REQUESTS"]) / 1_000),
        (total["bytes_sent"], 10**9, prices["PER_GB_SENT"], Decimal(prices["FREE_GB_SENT"])),
        (total["bytes_scanned"], 10**9, prices["PER_GB_SCANNED"], Decimal(prices["FREE_GB_SCANNED"])),
    ]:
        billed = max(Decimal(used) / unit - free, Decimal(0))
        amounts.append((billed * Decimal(price)).quantize(Decimal(precision), ROUND_HALF_UP))
    return amounts
