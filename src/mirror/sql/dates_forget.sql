DELETE FROM mirror_dates WHERE table_name = $1 AND date = ANY($2)
