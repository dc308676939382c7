-- The Postgres image runs this script once, when it creates its data folder. The mirror has a separate database.
CREATE DATABASE chemical;
-- By default, only the owner can connect.
REVOKE ALL ON DATABASE organisation, chemical FROM PUBLIC;
