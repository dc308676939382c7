-- What was used: the ledger of requests, and what invoices are made of.

-- The ledger: one row for each request of a known organisation, written once and never changed.
CREATE TABLE api_usage_logs (
    -- A UUIDv7, which the client was given in the response's headers.
    request_id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    -- What the user proved who they are with: one of the two.
    api_key_id TEXT REFERENCES api_keys (id),
    session_id TEXT,
    -- The run of a server that answered.
    server_id TEXT NOT NULL,
    -- The RPC and the command in it, such as DoGet/StatementQuery.
    endpoint TEXT NOT NULL,
    -- SHA-256 of the statement with its literals left out, in hexadecimal; none for calls without a statement.
    sql_fingerprint TEXT,
    -- The statement itself, where the setting metering.sql says so.
    sql_text TEXT,
    started_at TEXT NOT NULL,
    ended_at TEXT NOT NULL,
    -- The UTC month that it is billed in, as 2026-11: the month of ended_at, or if that was closed already, the first one
    -- after it that was not.
    billing_month TEXT NOT NULL,
    -- From the start to the first message of the answer; none if there was no message.
    first_byte_microseconds INTEGER,
    duration_microseconds INTEGER NOT NULL,
    -- Rows that were sent, or taken in by an ingest.
    rows INTEGER NOT NULL,
    -- Messages of the answer, as they were encoded.
    bytes_sent INTEGER NOT NULL,
    -- Of the lake's files.
    bytes_scanned INTEGER NOT NULL,
    -- How gRPC names it: OK, INVALID_ARGUMENT, …; ABORTED where the server died before the answer was whole.
    status TEXT NOT NULL,
    -- The client went away or cancelled before the answer was whole.
    cancelled BOOLEAN NOT NULL,
    client_address TEXT NOT NULL,
    client_agent TEXT NOT NULL,
    -- Running a statement is, an ingest too; the calls around it are not.
    billable BOOLEAN NOT NULL
);
CREATE INDEX api_usage_logs_month ON api_usage_logs (organization_id, billing_month, ended_at, request_id);

CREATE TRIGGER api_usage_logs_no_update BEFORE UPDATE ON api_usage_logs
BEGIN
    SELECT RAISE(ABORT, 'the usage ledger is append-only');
END;
CREATE TRIGGER api_usage_logs_no_delete BEFORE DELETE ON api_usage_logs
BEGIN
    SELECT RAISE(ABORT, 'the usage ledger is append-only');
END;
-- INSERT OR REPLACE would delete without asking the trigger above. What is there already is passed over.
CREATE TRIGGER api_usage_logs_no_replace BEFORE INSERT ON api_usage_logs
WHEN EXISTS (SELECT 1 FROM api_usage_logs WHERE request_id = NEW.request_id)
BEGIN
    SELECT RAISE(IGNORE);
END;

-- One row that whoever adds to the ledger or closes a month takes first: so that no request comes into a month while it
-- is being closed.
CREATE TABLE usage_ledger (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    revision INTEGER NOT NULL
);
INSERT INTO usage_ledger (only_row, revision) VALUES (1, 0);

-- Sums of the ledger's billable requests, grown with it: what quotas are compared with.
CREATE TABLE usage_totals (
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    billing_month TEXT NOT NULL,
    requests INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    bytes_sent INTEGER NOT NULL,
    bytes_scanned INTEGER NOT NULL,
    PRIMARY KEY (organization_id, billing_month)
);

-- Calls that nobody is known to have made, since no good credential came with them.
CREATE TABLE unknown_callers (
    minute TEXT NOT NULL,
    client_address TEXT NOT NULL,
    -- Each run of a server counts for itself.
    server_id TEXT NOT NULL,
    calls INTEGER NOT NULL,
    PRIMARY KEY (minute, client_address, server_id)
);

-- What an organisation may use; null for as much as it likes.
CREATE TABLE organization_limits (
    organization_id TEXT PRIMARY KEY REFERENCES organizations (id),
    requests_per_second REAL CHECK (requests_per_second > 0),
    concurrent_queries INTEGER CHECK (concurrent_queries > 0),
    -- In a UTC month, of billable requests.
    monthly_requests INTEGER CHECK (monthly_requests >= 0),
    monthly_bytes_sent INTEGER CHECK (monthly_bytes_sent >= 0),
    monthly_bytes_scanned INTEGER CHECK (monthly_bytes_scanned >= 0),
    updated_at TEXT NOT NULL
);

-- What limited organisations ask of each run of a server at the moment: servers divide limits by it.
CREATE TABLE usage_demand (
    server_id TEXT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    seen_at TEXT NOT NULL,
    requests_per_second REAL NOT NULL,
    running INTEGER NOT NULL,
    PRIMARY KEY (server_id, organization_id)
);

-- A closed month of an organisation: what its invoice is made of. Never changed.
CREATE TABLE usage_statements (
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    billing_month TEXT NOT NULL,
    closed_at TEXT NOT NULL,
    closed_by TEXT NOT NULL,
    -- Billable requests; of those, the ones that had ended in an earlier month that was closed already.
    requests INTEGER NOT NULL,
    late_requests INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    bytes_sent INTEGER NOT NULL,
    bytes_scanned INTEGER NOT NULL,
    -- SHA-256 over the month's records as src/store/usage_hash.rs writes them, in hexadecimal.
    records_hash TEXT NOT NULL,
    PRIMARY KEY (organization_id, billing_month)
);
CREATE TRIGGER usage_statements_no_update BEFORE UPDATE ON usage_statements
BEGIN
    SELECT RAISE(ABORT, 'the usage ledger is append-only');
END;
CREATE TRIGGER usage_statements_no_delete BEFORE DELETE ON usage_statements
BEGIN
    SELECT RAISE(ABORT, 'the usage ledger is append-only');
END;
CREATE TRIGGER usage_statements_no_replace BEFORE INSERT ON usage_statements
WHEN EXISTS (
    SELECT 1 FROM usage_statements
    WHERE organization_id = NEW.organization_id AND billing_month = NEW.billing_month
)
BEGIN
    SELECT RAISE(ABORT, 'the usage ledger is append-only');
END;
