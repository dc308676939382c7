-- Run once by the image of Postgres, when its folder is new: the mirror has a database of its own.
CREATE DATABASE chemical;
-- Nobody but its owner gets in by default.
REVOKE ALL ON DATABASE organisation, chemical FROM PUBLIC;
