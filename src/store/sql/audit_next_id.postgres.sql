SELECT nextval(pg_get_serial_sequence('audit_trail', 'id')) AS id
