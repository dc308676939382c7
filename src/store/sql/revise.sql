UPDATE access_revision SET revision = revision + 1 WHERE only_row = 1
