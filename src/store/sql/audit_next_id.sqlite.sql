SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'audit_trail'), 0) + 1 AS id
