-- Hash chains over the audit trail and the ledger: each record's hash covers the record and the hash before it.

-- The record's place in its organisation's chain, from 1, and its SHA-256. Records that are older than the chain have
-- neither: the chain begins with hashes over them. docs/billing.md says what is hashed.
ALTER TABLE audit_trail ADD COLUMN chain_sequence INTEGER;
ALTER TABLE audit_trail ADD COLUMN chain_hash BLOB;
ALTER TABLE api_usage_logs ADD COLUMN chain_sequence INTEGER;
ALTER TABLE api_usage_logs ADD COLUMN chain_hash BLOB;

CREATE TABLE record_chains (
    chain TEXT NOT NULL CHECK (chain IN ('audit', 'ledger')),
    -- No organisation's records are those of 00000000-0000-0000-0000-000000000000.
    organization_id TEXT NOT NULL,
    -- Empty: the chain's end. A month, such as 2026-11: what was there of it when the chain began.
    part TEXT NOT NULL,
    -- Records up to the end, or of the month.
    length INTEGER NOT NULL,
    -- The hash of the last record, or over those of the month, in hexadecimal.
    hash TEXT NOT NULL,
    PRIMARY KEY (chain, organization_id, part)
);
