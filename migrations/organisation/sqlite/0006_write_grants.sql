-- A grant says whether readings may be sent for its assets (write) or not (read), and only the operator changes it.
-- Grants that are there become read: nobody has decided yet who may write.
ALTER TABLE organization_grants ADD COLUMN may_write BOOLEAN NOT NULL DEFAULT FALSE;
