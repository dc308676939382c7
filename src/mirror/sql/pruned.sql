UPDATE mirror_state SET pruned_to = first_date WHERE table_name = $1
