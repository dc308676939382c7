SELECT table_name, date, source FROM mirror_dates
