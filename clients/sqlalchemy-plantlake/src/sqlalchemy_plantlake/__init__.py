"""SQLAlchemy dialect of plantlake, over Arrow Flight SQL by ADBC."""

from sqlalchemy_plantlake.dialect import PlantlakeDialect

__all__ = ["PlantlakeDialect"]
