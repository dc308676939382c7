-- An address may belong to a user of each organisation: whether another organisation has it is nobody's to know.
DROP INDEX users_email;
CREATE UNIQUE INDEX users_organization_email ON users (organization_id, email_key) WHERE removed_at IS NULL;
CREATE INDEX users_email_key ON users (email_key);
