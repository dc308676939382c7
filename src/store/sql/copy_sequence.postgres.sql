-- The next id follows the copied ids.
SELECT setval(pg_get_serial_sequence('audit_trail', 'id'), max(id)) FROM audit_trail
