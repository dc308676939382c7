-- Rows of these spans of time that the lake does not have, or not so to the bit. Each asset's span is looked up in the
-- primary key: OFFSET 0 keeps the planner from reading the whole table instead, and so does the array of places.
DELETE FROM data_x
WHERE ctid = ANY (ARRAY(
    SELECT old.place
    FROM assets CROSS JOIN unnest($1::timestamptz[], $2::timestamptz[]) AS span (first, next)
    CROSS JOIN LATERAL (
        SELECT ctid AS place, * FROM data_x
        WHERE asset_id = assets.id AND timestamp >= span.first AND timestamp < span.next
        OFFSET 0
    ) AS old
    WHERE NOT EXISTS (
        SELECT FROM pg_temp.mirror_incoming AS new
        WHERE new.asset_id = old.asset_id AND new.timestamp = old.timestamp
            AND ROW(new.value, new.count, new.min, new.max, new.first, new.last, new.stddev)::record
                OPERATOR(pg_catalog.*=)
                ROW(old.value, old.count, old.min, old.max, old.first, old.last, old.stddev)::record
    )
))
