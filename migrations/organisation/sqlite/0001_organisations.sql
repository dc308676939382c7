-- Who may see what: organisations, what they are granted, their users, keys and sessions, and the audit trail.
-- The same as for Postgres; ids are UUIDs in lower case, times are UTC such as 2026-11-24T08:00:00.000000Z.

CREATE TABLE organizations (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    -- The name in lower case: two organisations never differ in case alone.
    name_key TEXT NOT NULL UNIQUE,
    contact TEXT NOT NULL,
    address TEXT NOT NULL,
    billing_email TEXT NOT NULL,
    -- How many users it may have; deactivated ones count, removed ones do not.
    user_limit INTEGER NOT NULL CHECK (user_limit >= 0),
    active BOOLEAN NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

-- Rules for the assets that an organisation may see. Without any it sees nothing.
CREATE TABLE organization_grants (
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    kind TEXT NOT NULL CHECK (kind IN ('all', 'location', 'type', 'asset')),
    -- A location's prefix, a type or an asset's id; empty for all.
    value TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (organization_id, kind, value)
);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    email TEXT NOT NULL,
    -- The address in lower case.
    email_key TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('admin', 'analyst', 'service')),
    -- Argon2id, in the PHC string format; none for those who have keys only.
    password_hash TEXT,
    may_ingest BOOLEAN NOT NULL,
    active BOOLEAN NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    last_sign_in_at TEXT,
    -- A removed user's row stays: the ledger and the audit trail name it.
    removed_at TEXT
);
CREATE UNIQUE INDEX users_email ON users (email_key) WHERE removed_at IS NULL;
CREATE INDEX users_organization ON users (organization_id);

CREATE TABLE api_keys (
    -- The public part, pl_<id>_….
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    -- SHA-256 of the secret part, which has 256 random bits.
    secret_hash BLOB NOT NULL,
    may_ingest BOOLEAN NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    last_used_at TEXT,
    revoked_at TEXT
);
CREATE INDEX api_keys_user ON api_keys (user_id);

-- A sign-in. Access tokens belong to one, and end with it.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    client_address TEXT NOT NULL,
    revoked_at TEXT
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- One row that grows with each change of who may do what: servers look at it to know when to look again.
CREATE TABLE access_revision (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    revision INTEGER NOT NULL
);
INSERT INTO access_revision (only_row, revision) VALUES (1, 0);

CREATE TABLE audit_trail (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    -- Who did it: an operator on a machine, or a user.
    actor TEXT NOT NULL,
    -- What was done, such as user.create.
    action TEXT NOT NULL,
    organization_id TEXT REFERENCES organizations (id),
    -- To whom or what.
    subject TEXT NOT NULL,
    -- The particulars, as JSON; never a secret.
    details TEXT NOT NULL
);
CREATE INDEX audit_trail_organization ON audit_trail (organization_id, id);

CREATE TRIGGER audit_trail_no_update BEFORE UPDATE ON audit_trail
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
CREATE TRIGGER audit_trail_no_delete BEFORE DELETE ON audit_trail
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
-- INSERT OR REPLACE would delete without asking the trigger above.
CREATE TRIGGER audit_trail_no_replace BEFORE INSERT ON audit_trail
WHEN EXISTS (SELECT 1 FROM audit_trail WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
