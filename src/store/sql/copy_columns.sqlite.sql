SELECT t.name AS table_name, c.name AS column_name, lower(c.type) AS column_type, c.pk AS key_place
FROM sqlite_master t
JOIN pragma_table_info(t.name) c
WHERE t.type = 'table'
ORDER BY t.name, c.cid
