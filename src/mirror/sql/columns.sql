-- The columns of a table; whether each must not be null, and whether it has a value in rows that do not name it.
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS is_required,
    a.atthasdef OR a.attidentity <> '' AS has_default
FROM pg_attribute AS a
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
