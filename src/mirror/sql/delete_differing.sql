-- Deletes the rows within these time spans that are missing from the lake or differ from it in any bit. Each asset's span
-- is looked up in the primary key. OFFSET 0 and the array of row locations stop the planner from scanning the whole table.
DELETE FROM data_x
WHERE ctid = ANY (ARRAY(
    SELECT old.place
    FROM assets CROSS JOIN unnest($1::timestamptz[], $2::timestamptz[]) AS span (first, next)
    CROSS JOIN LATERAL (
        SELECT ctid AS place, COLUMNS FROM data_x
        WHERE asset_id = assets.id AND timestamp >= span.first AND timestamp < span.next
        OFFSET 0
    ) AS old
    WHERE NOT EXISTS (
        SELECT FROM pg_temp.mirror_incoming AS new
        WHERE new.asset_id = old.asset_id AND new.timestamp = old.timestamp
            AND ROW(NEW_VALUES)::record OPERATOR(pg_catalog.*=) ROW(OLD_VALUES)::record
    )
))
