-- Who may see what: organisations, what they are granted, their users, keys and sessions, and the audit trail.

CREATE TABLE organizations (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    -- The name in lower case: two organisations never differ in case alone.
    name_key TEXT NOT NULL UNIQUE,
    contact TEXT NOT NULL,
    address TEXT NOT NULL,
    billing_email TEXT NOT NULL,
    -- How many users it may have; deactivated ones count, removed ones do not.
    user_limit BIGINT NOT NULL CHECK (user_limit >= 0),
    active BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

-- Rules for the assets that an organisation may see. Without any it sees nothing.
CREATE TABLE organization_grants (
    organization_id UUID NOT NULL REFERENCES organizations (id),
    kind TEXT NOT NULL CHECK (kind IN ('all', 'location', 'type', 'asset')),
    -- A location's prefix, a type or an asset's id; empty for all.
    value TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (organization_id, kind, value)
);

CREATE TABLE users (
    id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organizations (id),
    email TEXT NOT NULL,
    -- The address in lower case.
    email_key TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('admin', 'analyst', 'service')),
    -- Argon2id, in the PHC string format; none for those who have keys only.
    password_hash TEXT,
    may_ingest BOOLEAN NOT NULL,
    active BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    last_sign_in_at TIMESTAMPTZ,
    -- A removed user's row stays: the ledger and the audit trail name it.
    removed_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX users_email ON users (email_key) WHERE removed_at IS NULL;
CREATE INDEX users_organization ON users (organization_id);

CREATE TABLE api_keys (
    -- The public part, pl_<id>_….
    id TEXT PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    -- SHA-256 of the secret part, which has 256 random bits.
    secret_hash BYTEA NOT NULL,
    may_ingest BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ
);
CREATE INDEX api_keys_user ON api_keys (user_id);

-- A sign-in. Access tokens belong to one, and end with it.
CREATE TABLE sessions (
    id UUID PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id),
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    client_address TEXT NOT NULL,
    revoked_at TIMESTAMPTZ
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- One row that grows with each change of who may do what: servers look at it to know when to look again.
CREATE TABLE access_revision (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    revision BIGINT NOT NULL
);
INSERT INTO access_revision (only_row, revision) VALUES (1, 0);

CREATE TABLE audit_trail (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL,
    -- Who did it: an operator on a machine, or a user.
    actor TEXT NOT NULL,
    -- What was done, such as user.create.
    action TEXT NOT NULL,
    organization_id UUID REFERENCES organizations (id),
    -- To whom or what.
    subject TEXT NOT NULL,
    -- The particulars, as JSON; never a secret.
    details TEXT NOT NULL
);
CREATE INDEX audit_trail_organization ON audit_trail (organization_id, id);

CREATE FUNCTION audit_trail_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is append-only';
END
$$;
CREATE TRIGGER audit_trail_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_trail
    FOR EACH STATEMENT EXECUTE FUNCTION audit_trail_is_append_only();
