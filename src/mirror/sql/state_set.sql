-- If the window was extended to earlier dates, pruned_to moves back, so that these dates are pruned again when they expire.
INSERT INTO mirror_state (table_name, lake, run, published_at, first_date, pruned_to, mirrored_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (table_name) DO UPDATE SET
    lake = EXCLUDED.lake, run = EXCLUDED.run, published_at = EXCLUDED.published_at, first_date = EXCLUDED.first_date,
    pruned_to = LEAST(mirror_state.pruned_to, EXCLUDED.first_date), mirrored_at = EXCLUDED.mirrored_at
