INSERT INTO audit_trail (at, actor, action, organization_id, subject, details)
VALUES ($1, $2, $3, $4, $5, $6)
