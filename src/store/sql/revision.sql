SELECT revision FROM access_revision WHERE only_row = 1
