ANALYZE data_x
