"""SQL of plantlake where it differs from SQLAlchemy's default."""

from __future__ import annotations

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS
from sqlalchemy.exc import CompileError
from sqlalchemy.sql import compiler

MAX_REAL_PRECISION = 24  # bits; more need a double


class PlantlakeCompiler(compiler.SQLCompiler):
    """Compiles statements."""

    def limit_clause(self, select, **kw) -> str:
        # SQLAlchemy's default writes LIMIT -1 for an offset alone.
        text = ""
        if select._limit_clause is not None:
            text += "\n LIMIT " + self.process(select._limit_clause, **kw)
        if select._offset_clause is not None:
            text += "\n OFFSET " + self.process(select._offset_clause, **kw)
        return text

    def for_update_clause(self, select, **kw) -> str:
        raise CompileError("plantlake is read-only and locks no rows; leave out with_for_update()")

    def visit_empty_set_expr(self, element_types, **kw) -> str:
        columns = ", ".join("CAST(NULL AS VARCHAR)" for _ in element_types or [None])
        return f"SELECT {columns} WHERE 1 != 1"

    def visit_truediv_binary(self, binary, operator, **kw) -> str:
        # A quotient of two integers is an integer in SQL, and a double in Python.
        return f"{self.process(binary.left, **kw)} / CAST({self.process(binary.right, **kw)} AS DOUBLE PRECISION)"

    def visit_ilike_op_binary(self, binary, operator, **kw) -> str:
        return f"{self.process(binary.left, **kw)} ILIKE {self.process(binary.right, **kw)}" + self.escape_of(binary)

    def visit_not_ilike_op_binary(self, binary, operator, **kw) -> str:
        return f"{self.process(binary.left, **kw)} NOT ILIKE {self.process(binary.right, **kw)}" + self.escape_of(binary)

    def escape_of(self, binary) -> str:
        escape = binary.modifiers.get("escape")
        return "" if escape is None else f" ESCAPE '{escape}'"

    def visit_regexp_match_op_binary(self, binary, operator, **kw) -> str:
        return f"{self.process(binary.left, **kw)} ~ {self.process(binary.right, **kw)}"

    def visit_not_regexp_match_op_binary(self, binary, operator, **kw) -> str:
        return f"{self.process(binary.left, **kw)} !~ {self.process(binary.right, **kw)}"


class PlantlakeTypeCompiler(compiler.GenericTypeCompiler):
    """Compiles types of casts."""

    def visit_FLOAT(self, type_, **kw) -> str:
        # FLOAT alone is a single-precision number in plantlake.
        return "REAL" if type_.precision and type_.precision <= MAX_REAL_PRECISION else "DOUBLE PRECISION"

    def visit_DOUBLE(self, type_, **kw) -> str:
        return "DOUBLE PRECISION"

    def visit_DOUBLE_PRECISION(self, type_, **kw) -> str:
        return "DOUBLE PRECISION"

    def visit_TIMESTAMP(self, type_, **kw) -> str:
        return "TIMESTAMP WITH TIME ZONE" if type_.timezone else "TIMESTAMP"

    visit_DATETIME = visit_TIMESTAMP

    def visit_BLOB(self, type_, **kw) -> str:
        return "BYTEA"

    def visit_CLOB(self, type_, **kw) -> str:
        return "TEXT"

    def visit_UUID(self, type_, **kw) -> str:
        return "VARCHAR"

    def visit_uuid(self, type_, **kw) -> str:
        return "VARCHAR"


class PlantlakeIdentifierPreparer(compiler.IdentifierPreparer):
    """Quotes names that are reserved or have upper-case letters."""

    reserved_words = RESERVED_WORDS
