SELECT
    CAST(c.table_name AS text) AS table_name,
    CAST(c.column_name AS text) AS column_name,
    CAST(c.udt_name AS text) AS column_type,
    CAST(coalesce(k.ordinal_position, 0) AS bigint) AS key_place
FROM information_schema.columns c
LEFT JOIN (
    information_schema.key_column_usage k
    JOIN information_schema.table_constraints p
        ON p.constraint_schema = k.constraint_schema AND p.constraint_name = k.constraint_name
        AND p.table_name = k.table_name AND p.constraint_type = 'PRIMARY KEY'
) ON k.table_schema = c.table_schema AND k.table_name = c.table_name AND k.column_name = c.column_name
WHERE c.table_schema = current_schema()
ORDER BY c.table_name, c.ordinal_position
