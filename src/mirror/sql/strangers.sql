-- Existing tables that have the names of our tables, and whether each belongs to the original system.
SELECT c.relname::text AS name, EXISTS (
    SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'pk_id' AND NOT a.attisdropped
) AS is_original
FROM unnest(ARRAY['data_min', 'data_h', 'data_d', 'assets', 'mirror_state', 'mirror_dates']) WITH ORDINALITY AS wanted (name, place)
JOIN pg_class AS c ON c.oid = to_regclass(wanted.name)
ORDER BY wanted.place
