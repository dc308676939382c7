-- Assets that the catalog does not have go with their last rows. One probe of an index for each: whole tables are not joined.
DELETE FROM assets
WHERE id = ANY($1)
    AND (SELECT true FROM data_min WHERE asset_id = assets.id LIMIT 1) IS NULL
    AND (SELECT true FROM data_h WHERE asset_id = assets.id LIMIT 1) IS NULL
    AND (SELECT true FROM data_d WHERE asset_id = assets.id LIMIT 1) IS NULL
RETURNING id
