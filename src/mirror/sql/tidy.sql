-- Deletes assets that are not in the catalog and have no rows left. Each check is one index probe; no whole table is joined.
DELETE FROM assets
WHERE id = ANY($1)
    AND (SELECT true FROM data_min WHERE asset_id = assets.id LIMIT 1) IS NULL
    AND (SELECT true FROM data_h WHERE asset_id = assets.id LIMIT 1) IS NULL
    AND (SELECT true FROM data_d WHERE asset_id = assets.id LIMIT 1) IS NULL
RETURNING id
