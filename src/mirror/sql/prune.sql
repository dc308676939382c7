-- Deletes at most $3 rows older than $1, of assets from $2 on, and returns the asset at which the next step continues. With
-- an array, Postgres fetches the rows by location; a join would scan the whole table in each step.
WITH doomed AS MATERIALIZED (
    SELECT assets.id AS asset_id, old.place
    FROM assets CROSS JOIN LATERAL (
        SELECT ctid AS place FROM data_x WHERE asset_id = assets.id AND timestamp < $1 ORDER BY timestamp
    ) AS old
    WHERE assets.id >= $2
    ORDER BY assets.id
    LIMIT $3
), gone AS (
    DELETE FROM data_x WHERE ctid = ANY (ARRAY(SELECT place FROM doomed))
)
SELECT count(*) AS rows, (SELECT asset_id FROM doomed ORDER BY asset_id DESC LIMIT 1) AS last_asset FROM doomed
