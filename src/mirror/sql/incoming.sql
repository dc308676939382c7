-- Holds the lake's rows of some dates, to compare them with the rows in the database.
CREATE TEMPORARY TABLE mirror_incoming (DEFINITIONS) ON COMMIT DROP
