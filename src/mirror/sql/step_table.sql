SELECT to_regclass('mirror_migrations') IS NOT NULL
