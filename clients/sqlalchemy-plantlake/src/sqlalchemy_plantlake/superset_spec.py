"""Superset's description of plantlake: time grains, and literals of times. Imported by Superset alone."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import types
from superset.constants import TimeGrain
from superset.db_engine_specs.base import BaseEngineSpec

try:  # Superset 5 and later
    from sqlglot.dialects.dialect import Dialects
    from superset.sql.parse import SQLGLOT_DIALECTS
except ImportError:
    pass
else:
    SQLGLOT_DIALECTS.setdefault("plantlake", Dialects.POSTGRES)


class PlantlakeEngineSpec(BaseEngineSpec):
    """plantlake over Arrow Flight SQL."""

    engine = "plantlake"
    engine_name = "plantlake"
    default_driver = "adbc"
    drivers = {"adbc": "Arrow Flight SQL by ADBC"}
    sqlalchemy_uri_placeholder = "plantlake://user:password@host:50051/"
    disable_ssh_tunneling = True
    supports_file_upload = False
    supports_catalog = False
    max_column_name_length = 255

    # date_trunc and date_bin keep the instant's zone, UTC.
    _time_grain_expressions = {
        None: "{col}",
        TimeGrain.SECOND: "date_trunc('second', {col})",
        TimeGrain.FIVE_SECONDS: "date_bin(INTERVAL '5 seconds', {col})",
        TimeGrain.THIRTY_SECONDS: "date_bin(INTERVAL '30 seconds', {col})",
        TimeGrain.MINUTE: "date_trunc('minute', {col})",
        TimeGrain.FIVE_MINUTES: "date_bin(INTERVAL '5 minutes', {col})",
        TimeGrain.TEN_MINUTES: "date_bin(INTERVAL '10 minutes', {col})",
        TimeGrain.FIFTEEN_MINUTES: "date_bin(INTERVAL '15 minutes', {col})",
        TimeGrain.THIRTY_MINUTES: "date_bin(INTERVAL '30 minutes', {col})",
        TimeGrain.HOUR: "date_trunc('hour', {col})",
        TimeGrain.SIX_HOURS: "date_bin(INTERVAL '6 hours', {col})",
        TimeGrain.DAY: "date_trunc('day', {col})",
        TimeGrain.WEEK: "date_trunc('week', {col})",
        TimeGrain.WEEK_STARTING_SUNDAY: "date_trunc('week', {col} + INTERVAL '1 day') - INTERVAL '1 day'",
        TimeGrain.WEEK_STARTING_MONDAY: "date_trunc('week', {col})",
        TimeGrain.WEEK_ENDING_SATURDAY: "date_trunc('week', {col} + INTERVAL '1 day') + INTERVAL '5 days'",
        TimeGrain.WEEK_ENDING_SUNDAY: "date_trunc('week', {col}) + INTERVAL '6 days'",
        TimeGrain.MONTH: "date_trunc('month', {col})",
        TimeGrain.QUARTER: "date_trunc('quarter', {col})",
        TimeGrain.YEAR: "date_trunc('year', {col})",
    }

    @classmethod
    def epoch_to_dttm(cls) -> str:
        return "to_timestamp_seconds({col})"

    @classmethod
    def epoch_ms_to_dttm(cls) -> str:
        return "to_timestamp_millis({col})"

    @classmethod
    def convert_dttm(cls, target_type: str, dttm: datetime, db_extra: dict[str, Any] | None = None) -> str | None:
        """Returns a literal of a time, which Superset gives without a zone and means in UTC."""
        found = cls.get_sqla_column_type(target_type)
        if isinstance(found, types.Date) and not isinstance(found, types.DateTime):
            return f"DATE '{dttm.date().isoformat()}'"
        if isinstance(found, types.DateTime):
            instant = dttm.replace(tzinfo=timezone.utc) if dttm.tzinfo is None else dttm.astimezone(timezone.utc)
            return f"TIMESTAMP WITH TIME ZONE '{instant.isoformat(timespec='microseconds')}'"
        return None
