SELECT max(version) FROM mirror_migrations
