-- What is added next comes after what was copied.
SELECT setval(pg_get_serial_sequence('audit_trail', 'id'), max(id)) FROM audit_trail
