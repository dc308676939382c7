UPDATE access_revision SET revision = revision WHERE only_row = 1
