SELECT id FROM assets
