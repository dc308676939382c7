"""Types of columns: from their SQL names, or from Arrow's types."""

from __future__ import annotations

import re

import pyarrow as pa
from sqlalchemy import types as sqltypes
from sqlalchemy.types import TypeEngine


class DOUBLE(sqltypes.Float):
    """A double, as an own class for SQLAlchemy 1.4, which has none."""

    __visit_name__ = "DOUBLE"

    def __init__(self, precision: int = 53, **options) -> None:
        super().__init__(precision=precision, **options)


# SQL names without their parameters. A name that is missing here gives the type of Arrow.
NAMES = {
    "BIGINT": sqltypes.BIGINT,
    "BINARY": sqltypes.LargeBinary,
    "BOOLEAN": sqltypes.BOOLEAN,
    "BYTEA": sqltypes.LargeBinary,
    "CHARACTER VARYING": sqltypes.VARCHAR,
    "DATE": sqltypes.DATE,
    "DOUBLE": DOUBLE,
    "DOUBLE PRECISION": DOUBLE,
    "INT": sqltypes.INTEGER,
    "INTEGER": sqltypes.INTEGER,
    "REAL": sqltypes.REAL,
    "SMALLINT": sqltypes.SMALLINT,
    "STRING": sqltypes.VARCHAR,
    "TEXT": sqltypes.TEXT,
    "TIME": sqltypes.TIME,
    "TIMESTAMP": sqltypes.TIMESTAMP,
    "TIMESTAMP WITHOUT TIME ZONE": sqltypes.TIMESTAMP,
    "TINYINT": sqltypes.SMALLINT,
    "VARBINARY": sqltypes.LargeBinary,
    "VARCHAR": sqltypes.VARCHAR,
}
WITH_ZONE = ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")


def column_type(type_name: str | None, arrow: pa.DataType) -> TypeEngine:
    """Returns the type of a column: by its SQL name, if the server gives one, or by Arrow's type."""
    name = re.sub(r"\s*\([^)]*\)", "", type_name or "").strip().upper()
    # A name without the zone says less than Arrow's type, and that of a decimal lacks precision and scale.
    if name in WITH_ZONE or pa.types.is_timestamp(arrow):
        return sqltypes.TIMESTAMP(timezone=name in WITH_ZONE or arrow.tz is not None)
    if name in NAMES:
        return NAMES[name]()
    return arrow_column_type(arrow)


def arrow_column_type(arrow: pa.DataType) -> TypeEngine:
    is_type = pa.types
    if is_type.is_dictionary(arrow):
        return arrow_column_type(arrow.value_type)
    if is_type.is_decimal(arrow):
        return sqltypes.NUMERIC(arrow.precision, arrow.scale)
    if arrow == pa.uint64():
        return sqltypes.NUMERIC(20, 0)
    for check, found in (
        (is_type.is_boolean, sqltypes.BOOLEAN),
        (lambda type: type in (pa.int64(), pa.uint32()), sqltypes.BIGINT),
        (lambda type: type in (pa.int32(), pa.uint16()), sqltypes.INTEGER),
        (is_type.is_integer, sqltypes.SMALLINT),
        (lambda type: type == pa.float64(), DOUBLE),
        (is_type.is_floating, sqltypes.REAL),
        (is_type.is_date, sqltypes.DATE),
        (is_type.is_time, sqltypes.TIME),
        (lambda type: is_type.is_duration(type) or is_type.is_interval(type), sqltypes.Interval),
        (lambda type: is_type.is_string(type) or is_type.is_large_string(type) or is_type.is_string_view(type), sqltypes.TEXT),
        (lambda type: "binary" in str(type), sqltypes.LargeBinary),
    ):
        if check(arrow):
            return found()
    return sqltypes.NullType()
