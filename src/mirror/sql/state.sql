SELECT table_name, lake, run, published_at, first_date, pruned_to, mirrored_at FROM mirror_state
