SELECT o.name FROM organizations o
WHERE o.active
    AND EXISTS (
        SELECT 1 FROM users u
        WHERE u.organization_id = o.id AND u.may_ingest AND u.active AND u.removed_at IS NULL
    )
    AND NOT EXISTS (SELECT 1 FROM organization_grants g WHERE g.organization_id = o.id AND g.may_write)
ORDER BY o.name_key
