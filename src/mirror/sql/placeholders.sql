-- Creates placeholder assets for readings of assets that are not, or are no longer, in the catalog.
INSERT INTO assets (id, name, type, location, specifications)
SELECT id, id::text, 'unknown', '', '{}' FROM unnest($1::uuid[]) AS id
ON CONFLICT (id) DO UPDATE SET
    name = EXCLUDED.name, type = EXCLUDED.type, location = EXCLUDED.location, specifications = EXCLUDED.specifications
WHERE (assets.name, assets.type, assets.location, assets.specifications)
    IS DISTINCT FROM (EXCLUDED.name, EXCLUDED.type, EXCLUDED.location, EXCLUDED.specifications)
