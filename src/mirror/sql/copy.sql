COPY data_x (asset_id, timestamp, value, count, min, max, first, last, stddev) FROM STDIN (FORMAT binary)
