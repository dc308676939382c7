"""Generates random, typed SQL statements that plantlake and DuckDB must answer alike.

Each statement comes from a seed, or from a list of recorded choices: a shorter list, or smaller choices, give a simpler statement,
so that `shrink` can reduce a statement that is answered wrongly.

The generator leaves out what the dialects define differently; a comment beside each gap gives the reason. `Feature` names what
plantlake is known to answer wrongly, and is left out while test_differential.py lists it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

INT, FLOAT, TEXT, TIME, DATE, BOOL = "int", "float", "text", "time", "date", "bool"
# A double that depends on the order of summation or on the library of mathematics: it is compared with a tolerance. No statement
# sorts, groups, joins or filters by it, except against a literal that no sum comes near.
INEXACT = "inexact"
EXACT = (INT, FLOAT, TEXT, TIME, DATE)
SQL_TYPES = {INT: "BIGINT", FLOAT: "DOUBLE", INEXACT: "DOUBLE", TEXT: "VARCHAR", DATE: "DATE", BOOL: "BOOLEAN"}
JOINS = ("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN")
MAX_ROWS = 8_000  # the estimated rows of a FROM clause


class Choices:
    """Draws numbers, and records them."""

    def __init__(self, seed: int | None = None, recorded: Sequence[int] = ()) -> None:
        self._random = random.Random(seed) if seed is not None else None
        self._recorded = list(recorded)
        self.made: list[int] = []

    def below(self, bound: int) -> int:
        """Returns a number from 0 to `bound` - 1. 0 is the simplest choice, and the one after the end of a recording."""
        if self._random is not None:
            value = self._random.randrange(bound)
        else:
            at = len(self.made)
            value = min(self._recorded[at], bound - 1) if at < len(self._recorded) else 0
        self.made.append(value)
        return value

    def chance(self, percent: int) -> bool:
        return self.below(100) >= 100 - percent

    def one(self, options: Sequence):
        return options[self.below(len(options))]

    def some(self, options: Sequence, most: int) -> list:
        """Returns up to `most` of the options, at least one, each at most once."""
        remaining, taken = list(options), []
        for _ in range(min(1 + self.below(most), len(remaining))):
            taken.append(remaining.pop(self.below(len(remaining))))
        return taken


def shrink(made: list[int], is_wrong: Callable[[list[int]], bool], seconds: float = 20) -> list[int]:
    """Returns a shorter recording whose statement is still wrong."""
    best = list(made)
    size = max(1, len(best) // 2)
    end = time.monotonic() + seconds
    while size >= 1 and time.monotonic() < end:
        at = 0
        while at < len(best) and time.monotonic() < end:
            for candidate in (best[:at] + best[at + size :], best[:at] + [0] * len(best[at : at + size]) + best[at + size :]):
                if candidate != best and time.monotonic() < end:
                    if is_wrong(candidate):
                        best = candidate
                        break
            else:
                at += size
                continue
            if best[at : at + size] == [0] * size:
                at += size
        size //= 2
    return best


@dataclass(frozen=True)
class Column:
    """A column that expressions can use. `sql` is qualified and quoted."""

    sql: str
    type: str
    is_id: bool = False


@dataclass(frozen=True)
class Relation:
    """An item of a FROM clause, or a whole FROM clause."""

    sql: str
    columns: tuple[Column, ...]
    rows: int
    key: tuple[str, ...]  # expressions by which the rows are in a total order, except for equal rows
    may_repeat: bool = True  # whether there may be equal rows


@dataclass(frozen=True)
class Table:
    """A table of the plant: all its columns in order with types, estimated rows, the columns of a key, and those with ids."""

    name: str
    columns: dict[str, str]
    rows: int
    key: tuple[str, ...]
    ids: tuple[str, ...]


ROLLUP_COLUMNS = {"asset_id": TEXT, "timestamp": TIME, "value": FLOAT, "count": INT} | {
    name: FLOAT for name in ("min", "max", "first", "last", "stddev")
}
KEY = ("asset_id", "timestamp")
TABLES = (
    Table("data_d", ROLLUP_COLUMNS | {"year": INT}, 60, KEY, ("asset_id",)),
    Table("assets", dict.fromkeys(("id", "name", "type", "location", "specifications"), TEXT), 40, ("id",), ("id",)),
    Table("data_h", ROLLUP_COLUMNS | {"month": TEXT}, 700, KEY, ("asset_id",)),
    Table("asset_edges", {"source": TEXT, "target": TEXT, "relation": TEXT}, 60, ("source", "target", "relation"), ("source", "target")),
    Table("raw_readings", {"id": TEXT, "timestamp": TIME, "value": FLOAT}, 4_000, ("id", "timestamp", "value"), ("id",)),
    Table("data_min", ROLLUP_COLUMNS | {"date": DATE}, 4_000, KEY, ("asset_id",)),
)
NUMBERS = {
    INT: ("0", "1", "2", "3", "6", "10", "60", "-1", "2024"),
    # With an exponent, both engines read a double; without, DuckDB reads a decimal.
    FLOAT: ("0e0", "1e0", "20e0", "20.25e0", "-3.5e0", "0.5e0", "47e0", "1e2"),
    INEXACT: ("0.1234567e0", "20.7654321e0", "333.1234567e0", "1234.7654321e0", "-7.1234567e0"),
}
TIMES = ("2024-05-01T06:00:00", "2024-05-02T00:00:00", "2024-05-01T13:30:00", "2024-06-30T23:59:59", "2023-12-31T00:00:00")
DATES = ("2024-05-01", "2024-05-02", "2024-02-29", "2023-12-31", "2024-06-30")
PATTERNS = ("%a%", "T%", "%1", "_T-%", "%0_", "", "%", "F_-2%", "%sensor", "a%e")
UNITS = ("hour", "day", "minute", "month", "week", "quarter", "year")
PARTS = ("hour", "day", "minute", "month", "dow", "doy", "week", "quarter", "year", "isodow")
COMPARISONS = ("=", "<", ">=", "<>", ">", "<=")


@dataclass(frozen=True)
class Query:
    """A SELECT without ORDER BY and LIMIT."""

    sql: str
    types: tuple[str, ...]
    names: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Statement:
    """A statement for both engines. `is_ordered` says that the order of the rows counts."""

    sql: str
    is_ordered: bool


@dataclass(frozen=True)
class Partition:
    """A statement and the three parts into which a predicate divides its rows (ternary logic partitioning)."""

    whole: str
    parts: str


@dataclass
class Generator:
    """Generates statements. `texts` are values of text columns, `excluded` names features, and `is_wide` allows functions and
    casts that DuckDB has not, or has with another meaning."""

    choices: Choices
    texts: tuple[str, ...]
    excluded: frozenset[str] = frozenset()
    is_wide: bool = False
    used: set[str] = field(default_factory=set)
    _aliases: int = 0
    _common: list[Relation] = field(default_factory=list)

    def has(self, feature: str) -> bool:
        """Whether a feature may be used. Records its use."""
        if feature in self.excluded:
            return False
        self.used.add(feature)
        return True

    def alias(self) -> str:
        self._aliases += 1
        return f"t{self._aliases}"

    # ---- statements

    def statement(self) -> Statement:
        """Returns a statement that both engines must answer alike."""
        prefix = self.common_tables() if self.choices.chance(25) else ""
        query = self.query(3)
        sql = prefix + query.sql
        if not self.choices.chance(35):
            return Statement(sql, False)
        # Rows that are equal in all columns may change places. Inexact columns come last.
        positions = sorted(range(1, len(query.types) + 1), key=lambda at: query.types[at - 1] == INEXACT)
        first = self.choices.some([at for at in positions if query.types[at - 1] != INEXACT] or positions, 2)
        order = first + [at for at in positions if at not in first]
        keys = ", ".join(f"{at}{self.direction()}" for at in order)
        sql = f"SELECT * FROM ({query.sql}) AS o ORDER BY {keys}" if self.choices.chance(30) else f"{query.sql} ORDER BY {keys}"
        if self.choices.chance(50):
            sql += f" LIMIT {self.choices.one((1, 3, 10, 0, 100))}"
            if self.choices.chance(40):
                sql += f" OFFSET {self.choices.one((1, 2, 7, 50))}"
        return Statement(prefix + sql, True)

    def direction(self) -> str:
        return self.choices.one(("", " DESC", " NULLS FIRST", " DESC NULLS LAST", " ASC NULLS LAST", " DESC NULLS FIRST"))

    def common_tables(self) -> str:
        parts = []
        for number in range(1 + self.choices.below(2)):
            query = self.query(1)
            name = f"c{number}"
            parts.append(f"{name} AS ({query.sql})")
            self._common.append(self.of_query(query, name, name))
        return f"WITH {', '.join(parts)} "

    def partition(self) -> Partition:
        """Returns a statement, and the same as the union of the parts by a predicate."""
        source = self.source(2)
        predicate = self.predicate(source, 2)
        kind = self.choices.below(5)
        parts = (f"({predicate})", f"NOT ({predicate})", f"({predicate}) IS NULL")
        if kind == 2:
            keys = ", ".join(self.group_keys(source))
            select = f"SELECT {keys}, count(*) AS n FROM {source.sql} GROUP BY {keys}"
            having = self.having(source)
            parts = (f"({having})", f"NOT ({having})", f"({having}) IS NULL")
            return Partition(select, " UNION ALL ".join(f"{select} HAVING {part}" for part in parts))
        items = ", ".join(f"{self.expression(source, self.type_in(source, EXACT), 2)} AS x{at}" for at in range(1 + self.choices.below(3)))
        if kind == 1:
            select = f"SELECT DISTINCT {items} FROM {source.sql}"
            return Partition(select, " UNION ".join(f"{select} WHERE {part}" for part in parts))
        if kind == 3:
            value = self.expression(source, self.choices.one((INT, FLOAT)), 2)
            select = f"SELECT count({value}) AS n, min({value}) AS low, max({value}) AS high, sum({value}) AS total FROM {source.sql}"
            union = " UNION ALL ".join(f"{select} WHERE {part}" for part in parts)
            return Partition(select, f"SELECT sum(n) AS n, min(low) AS low, max(high) AS high, sum(total) AS total FROM ({union}) AS u")
        select = f"SELECT {items} FROM {source.sql}"
        return Partition(select, " UNION ALL ".join(f"{select} WHERE {part}" for part in parts))

    def filter_and_column(self) -> Partition:
        """Returns the number of rows that a filter leaves, and the number for which the predicate is true as a column (NoREC)."""
        source = self.source(3)
        # DataFusion supports sub-queries of EXISTS and IN in filters only.
        predicate = self.predicate(source, 3, with_queries=False)
        return Partition(
            f"SELECT count(*) AS n FROM {source.sql} WHERE {predicate}",
            f"SELECT coalesce(sum(CASE WHEN x THEN 1 ELSE 0 END), 0) AS n FROM (SELECT ({predicate}) AS x FROM {source.sql}) AS y",
        )

    # ---- queries

    def query(self, depth: int) -> Query:
        """Returns a SELECT or a set operation."""
        kind = self.choices.below(10)
        if kind >= 9 and depth > 1:
            return self.set_operation(depth)
        if kind >= 7:
            return self.windows(depth)
        if kind >= 4:
            return self.aggregate(depth)
        return self.plain(depth)

    def plain(self, depth: int, types: Sequence[str] | None = None) -> Query:
        source = self.source(depth)
        distinct = "DISTINCT " if self.choices.chance(20) else ""
        if types is None:
            offered = (*EXACT, BOOL) if distinct else (*EXACT, BOOL, INEXACT)
            types = tuple(self.type_in(source, offered) for _ in range(1 + self.choices.below(4)))
        items = [self.expression(source, type, 0 if type == INEXACT else 2) for type in types]
        if source.rows <= MAX_ROWS and not distinct and self.choices.chance(10):
            items[-1] = self.scalar(source, types[-1])
        return self.select(distinct, items, types, source, self.where(source, depth))

    def select(self, distinct: str, items: list[str], types: Sequence[str], source: Relation, rest: str) -> Query:
        names = tuple(f"x{at}" for at in range(len(items)))
        listed = ", ".join(f"{item} AS {name}" for item, name in zip(items, names))
        return Query(f"SELECT {distinct}{listed} FROM {source.sql}{rest}", tuple(types), names, source.rows)

    def where(self, source: Relation, depth: int) -> str:
        if not self.choices.chance(60):
            return ""
        conditions = [self.predicate(source, min(depth, 2))]
        if source.rows <= MAX_ROWS and self.choices.chance(15):
            conditions.append(self.membership(source))
        return f" WHERE {' AND '.join(f'({each})' for each in conditions)}"

    def membership(self, source: Relation) -> str:
        """Returns a condition of WHERE with IN or NOT IN and a sub-query."""
        inner = self.relation(0)
        operator = self.choices.one(("IN", "NOT IN"))
        where = self.inner_where(source, inner)
        exact = [column for column in inner.columns if column.type in EXACT]
        if not exact:
            return f"{self.column(source, INT)} {operator} (SELECT count(*) FROM {inner.sql}{where})"
        column = self.choices.one(exact)
        return f"{self.column(source, column.type)} {operator} (SELECT {column.sql} FROM {inner.sql}{where})"

    def aggregate(self, depth: int) -> Query:
        source = self.source(depth)
        keys: list[str] = []
        types: list[str] = []
        if self.choices.chance(75):
            for _ in range(1 + self.choices.below(3)):
                key, type = self.group_key(source, self.type_in(source, (TEXT, TIME, INT, DATE, BOOL)))
                if key not in keys:
                    keys.append(key)
                    types.append(type)
        where = self.where(source, depth)
        items = list(keys)
        shape = self.choices.below(8) if keys else 0
        grouping = f" GROUP BY {', '.join(keys)}" if keys else ""
        if shape == 6:
            grouping = f" GROUP BY {self.choices.one(('ROLLUP', 'CUBE'))} ({', '.join(keys)})"
        elif shape == 7:
            whole = f"({', '.join(keys)})"
            sets = [f"({', '.join(self.choices.some(keys, len(keys)))})" for _ in range(1 + self.choices.below(2))]
            grouping = f" GROUP BY GROUPING SETS ({', '.join(dict.fromkeys([whole, *sets, '()']))})"
        if shape >= 6 and self.choices.chance(50):
            items.append(f"grouping({self.choices.one(keys)})")
            types.append(INT)
        elif shape == 5:
            grouping = f" GROUP BY {', '.join(str(at + 1) for at in range(len(keys)))}"
        for _ in range(1 + self.choices.below(3)):
            item, type = self.aggregation(source)
            items.append(item)
            types.append(type)
        having = f" HAVING {self.having(source)}" if self.choices.chance(25) else ""
        return self.select("", items, types, source, where + grouping + having)

    def group_keys(self, source: Relation) -> list[str]:
        keys = [self.group_key(source, self.type_in(source, (TEXT, TIME, INT, DATE)))[0] for _ in range(1 + self.choices.below(2))]
        return list(dict.fromkeys(keys))

    def group_key(self, source: Relation, type: str) -> tuple[str, str]:
        """Returns an expression with its type: the given one, or that of the first column."""
        # A bare number would be a position, and DuckDB refuses other constants.
        key = self.expression(source, type, 1)
        if any(column.sql in key for column in source.columns):
            return key, type
        first = next((column for column in source.columns if column.type != INEXACT), source.columns[0])
        return first.sql, first.type

    def having(self, source: Relation) -> str:
        item, type = self.aggregation(source)
        if self.choices.chance(20):
            return f"{item} IS {self.choices.one(('NOT NULL', 'NULL'))}"
        if type == BOOL:
            return item
        return f"{item} {self.choices.one(COMPARISONS[1:3])} {self.literal(type)}"

    def aggregation(self, source: Relation) -> tuple[str, str]:
        """Returns an aggregate with the type of its result."""
        kind = self.choices.below(12)
        type = self.type_in(source, (FLOAT, INT, TEXT, TIME, DATE))
        number = self.type_in(source, (FLOAT, INT))
        distinct = "DISTINCT " if self.choices.chance(25) else ""
        if kind == 0:
            item, result = "count(*)", INT
        elif kind in (1, 2):
            item, result = f"count({distinct}{self.expression(source, type, 2)})", INT
        elif kind in (3, 4, 5):
            item, result = f"{self.choices.one(('min', 'max'))}({self.expression(source, type, 2)})", type
        elif kind == 6:
            item, result = f"sum({distinct}{self.expression(source, number, 2)})", INT if number == INT else INEXACT
        elif kind == 7:
            item, result = f"avg({distinct}{self.expression(source, number, 2)})", INEXACT
        elif kind == 8:
            item, result = f"{self.choices.one(('bool_and', 'bool_or'))}({self.predicate(source, 1, False)})", BOOL
        elif kind == 9:
            # The value of a column, since the variance of computed constants is a matter of rounding.
            function = self.choices.one(("stddev_samp", "stddev_pop", "var_pop", "var_samp"))
            item, result = f"{function}({self.column(source, FLOAT)})", INEXACT
        elif kind == 10:
            text, found = self.group_key(source, TEXT)
            text = text if found == TEXT else f"CASE WHEN {text} IS NULL THEN 'none' END"
            item, result = f"string_agg({distinct}{text}, '|' ORDER BY {text})", TEXT
        else:
            item, result = f"median({self.expression(source, number, 1)})", INEXACT
        if self.choices.chance(25):
            item += f" FILTER (WHERE {self.predicate(source, 1, False)})"
        return item, result

    def scalar(self, source: Relation, type: str) -> str:
        """Returns a scalar sub-query, which may be correlated."""
        inner = self.relation(0)
        item = f"{'min' if self.choices.chance(50) else 'max'}({self.column(inner, type)})"
        if type == INT and self.choices.chance(50):
            item = "count(*)"
        if type == BOOL:
            item = f"bool_or({self.predicate(inner, 1, False)})"
        return f"(SELECT {item} FROM {inner.sql}{self.inner_where(source, inner)})"

    def windows(self, depth: int) -> Query:
        source = self.source(depth)
        types = [self.type_in(source, (TEXT, FLOAT, TIME, INT))]
        items = [self.column(source, types[0])]
        # Equal rows of a derived table may be in another order for each function.
        count = 1 + self.choices.below(2)
        for _ in range(1 if source.may_repeat else count):
            item, type = self.window(source)
            items.append(item)
            types.append(type)
        return self.select("", items, types, source, self.where(source, depth))

    def window(self, source: Relation) -> tuple[str, str]:
        """Returns a window function with the type of its result. Its rows are in a total order."""
        partition = f"PARTITION BY {self.group_key(source, self.type_in(source, (TEXT, INT, DATE)))[0]} " if self.choices.chance(60) else ""
        key = self.group_key(source, self.type_in(source, (TIME, FLOAT, TEXT, INT)))[0] + self.direction()
        total = f"{partition}ORDER BY {', '.join([key, *source.key])}"
        kind = self.choices.below(8)
        if kind == 0:
            return f"row_number() OVER ({total})", INT
        if kind == 1:
            return f"{self.choices.one(('rank', 'dense_rank'))}() OVER ({partition}ORDER BY {key})", INT
        if kind == 2:
            return f"{self.choices.one(('percent_rank', 'cume_dist'))}() OVER ({partition}ORDER BY {key})", INEXACT
        type = self.type_in(source, (FLOAT, INT, TEXT, TIME))
        value = self.expression(source, type, 1)
        if kind == 3:
            return f"ntile({self.choices.one((4, 1, 7))}) OVER ({total})", INT
        if kind == 4:
            default = f", {self.literal(type)}" if self.choices.chance(30) else ""
            offset = self.choices.one((1, 2, 5))
            return f"{self.choices.one(('lag', 'lead'))}({value}, {offset}{default}) OVER ({total})", type
        frame = self.frame()
        if kind == 5:
            function = self.choices.one((f"first_value({value})", f"last_value({value})", f"nth_value({value}, 2)"))
            return f"{function} OVER ({total}{frame})", type
        if kind == 6:
            function = self.choices.one(("count", "min", "max"))
            return f"{function}({value}) OVER ({total}{frame})", INT if function == "count" else type
        number = self.type_in(source, (FLOAT, INT))
        value = self.expression(source, number, 1)
        function = self.choices.one(("sum", "avg"))
        return f"{function}({value}) OVER ({total}{frame})", INT if (number, function) == (INT, "sum") else INEXACT

    def frame(self) -> str:
        if not self.choices.chance(60):
            return ""
        start = self.choices.one(("UNBOUNDED PRECEDING", "2 PRECEDING", "CURRENT ROW", "1 FOLLOWING"))
        ends = ("UNBOUNDED FOLLOWING", "3 FOLLOWING") + (() if "FOLLOWING" in start else ("CURRENT ROW",))
        # RANGE with an offset needs a single key, and so no total order.
        return f" {self.choices.one(('ROWS', 'ROWS', 'GROUPS'))} BETWEEN {start} AND {self.choices.one(ends)}"

    def set_operation(self, depth: int) -> Query:
        types = tuple(self.choices.one(EXACT) for _ in range(1 + self.choices.below(3)))
        left, right = self.plain(depth - 1, types), self.plain(depth - 1, types)
        operator = self.choices.one(("UNION ALL", "UNION", "EXCEPT", "INTERSECT", "EXCEPT ALL", "INTERSECT ALL"))
        return Query(f"({left.sql}) {operator} ({right.sql})", types, left.names, left.rows + right.rows)

    # ---- FROM

    def source(self, depth: int) -> Relation:
        """Returns a FROM clause: a table, or joins."""
        joins = [self.choices.one(JOINS) for _ in range(self.choices.below(3) if depth > 0 else 0)]
        source = self.relation(depth)
        for kind in joins:
            source = self.join(source, kind, self.relation(depth - 1))
        return source

    def relation(self, depth: int) -> Relation:
        kind = self.choices.below(10)
        if kind == 9:
            return self.values()
        if kind >= 7 and self._common:
            return self.renamed(self.choices.one(self._common))
        if kind >= 7 and depth > 1:
            query = self.query(depth - 1)
            alias = self.alias()
            return self.of_query(query, f"({query.sql})", alias)
        table = self.choices.one(TABLES)
        alias = self.alias()
        columns = tuple(Column(f'{alias}."{name}"', type, name in table.ids) for name, type in table.columns.items())
        return Relation(f"{table.name} AS {alias}", columns, table.rows, tuple(f'{alias}."{name}"' for name in table.key), table.name == "raw_readings")

    @staticmethod
    def of_query(query: Query, sql: str, alias: str) -> Relation:
        columns = tuple(Column(f"{alias}.{name}", type) for name, type in zip(query.names, query.types))
        # An inexact column orders nothing that another column has not ordered.
        key = tuple(column.sql for column in sorted(columns, key=lambda column: column.type == INEXACT))
        return Relation(f"{sql} AS {alias}" if sql != alias else sql, columns, query.rows, key)

    def renamed(self, relation: Relation) -> Relation:
        alias = self.alias()
        rename = lambda sql: f"{alias}.{sql.split('.', 1)[1]}"  # noqa: E731
        columns = tuple(replace(column, sql=rename(column.sql)) for column in relation.columns)
        return Relation(f"{relation.sql} AS {alias}", columns, relation.rows, tuple(map(rename, relation.key)))

    def values(self) -> Relation:
        types = tuple(self.choices.one((INT, TEXT, FLOAT)) for _ in range(1 + self.choices.below(2)))
        rows = []
        for _ in range(1 + self.choices.below(4)):
            rows.append(", ".join(self.typed_null(type) if self.choices.chance(25) else self.literal(type) for type in types))
        alias = self.alias()
        names = ", ".join(f"v{at}" for at in range(len(types)))
        columns = tuple(Column(f"{alias}.v{at}", type) for at, type in enumerate(types))
        listed = ", ".join(f"({row})" for row in rows)
        return Relation(f"(VALUES {listed}) AS {alias}({names})", columns, len(rows), tuple(column.sql for column in columns))

    def join(self, left: Relation, kind: str, right: Relation) -> Relation:
        columns = left.columns + right.columns
        both = Relation("", columns, left.rows, left.key + right.key)
        if left.rows * right.rows <= MAX_ROWS and self.choices.chance(25):
            if kind != "FULL JOIN" and self.choices.chance(50):
                # DuckDB has no FULL JOIN on conditions without an equality.
                condition = self.predicate(both, 1, with_queries=False)
                return self.joined(left, right, kind, f" ON {condition}", left.rows * right.rows)
            return self.joined(left, right, "CROSS JOIN", "", left.rows * right.rows)
        conditions = self.join_conditions(left, right)
        if not conditions:
            small = left.rows * right.rows <= MAX_ROWS
            return self.joined(left, right, "CROSS JOIN", "", left.rows * right.rows) if small else left
        if self.choices.chance(25):
            # With an OR outside parentheses, it would join everything.
            conditions.append(f"({self.predicate(both, 1, with_queries=False)})")
        rows = left.rows * right.rows // (1_000 if len(conditions) > 1 else 14)
        if rows > MAX_ROWS:
            return left
        return self.joined(left, right, kind, f" ON {' AND '.join(conditions)}", max(left.rows, right.rows, rows))

    def join_conditions(self, left: Relation, right: Relation) -> list[str]:
        """Returns equalities of columns: of ids and, if the relations are large, of times."""
        conditions = []
        ids = [(a, b) for a in left.columns if a.is_id for b in right.columns if b.is_id]
        times = [(a, b) for a in left.columns if a.type == TIME for b in right.columns if b.type == TIME]
        others = [(a, b) for a in left.columns for b in right.columns if a.type == b.type and a.type in EXACT]
        for pairs in (ids, times):
            if pairs and (not conditions or left.rows * right.rows > MAX_ROWS or self.choices.chance(30)):
                a, b = self.choices.one(pairs)
                conditions.append(f"{a.sql} = {b.sql}")
        if not conditions and others and left.rows * right.rows <= MAX_ROWS:
            a, b = self.choices.one(others)
            conditions.append(f"{a.sql} = {b.sql}")
        return conditions

    @staticmethod
    def joined(left: Relation, right: Relation, kind: str, condition: str, rows: int) -> Relation:
        sql = f"{left.sql} {kind} {right.sql}{condition}"
        return Relation(sql, left.columns + right.columns, rows, left.key + right.key, left.may_repeat or right.may_repeat)

    # ---- predicates

    def type_in(self, source: Relation, offered: Sequence[str]) -> str:
        """Returns one of the types, mostly one of which the relation has a column."""
        present = {column.type for column in source.columns}
        found = [type for type in offered if type in present]
        return self.choices.one(found if found and not self.choices.chance(15) else offered)

    def predicate(self, source: Relation, depth: int, with_queries: bool = True) -> str:
        kind = self.choices.below(16 if depth > 0 else 6)
        type = self.type_in(source, (FLOAT, TEXT, INT, TIME, DATE))
        if kind == 0:
            return f"{self.column(source, type)} {self.choices.one(COMPARISONS)} {self.literal(type)}"
        if kind == 1:
            return f"{self.column(source, type)} IS {self.choices.one(('NULL', 'NOT NULL'))}"
        if kind == 2:
            negation = "NOT " if self.choices.chance(30) else ""
            return f"{self.column(source, type)} {negation}BETWEEN {self.literal(type)} AND {self.literal(type)}"
        if kind == 3:
            values = [self.literal(type) for _ in range(1 + self.choices.below(4))]
            if self.choices.chance(15):
                values.append(self.typed_null(type))
            return f"{self.column(source, type)} {self.choices.one(('IN', 'NOT IN'))} ({', '.join(values)})"
        if kind == 4:
            operator = self.choices.one(("LIKE", "NOT LIKE", "ILIKE"))
            return f"{self.column(source, TEXT)} {operator} '{self.choices.one(PATTERNS)}'"
        if kind == 5:
            operator = self.choices.one((*COMPARISONS, "IS DISTINCT FROM", "IS NOT DISTINCT FROM"))
            return f"{self.column(source, type)} {operator} {self.column(source, type)}"
        if kind in (6, 7):
            operator = self.choices.one(COMPARISONS)
            return f"{self.expression(source, type, depth)} {operator} {self.expression(source, type, depth)}"
        if kind in (8, 9, 10):
            operator = self.choices.one(("AND", "OR"))
            parts = (self.predicate(source, depth - 1, with_queries), self.predicate(source, depth - 1, with_queries))
            return f"({parts[0]}) {operator} ({parts[1]})"
        if kind == 11:
            return f"NOT ({self.predicate(source, depth - 1, with_queries)})"
        if kind == 12:
            check = self.choices.one(("IS TRUE", "IS NOT TRUE", "IS FALSE", "IS NOT FALSE"))
            return f"({self.predicate(source, depth - 1, with_queries)}) {check}"
        if with_queries and source.rows <= MAX_ROWS:
            return self.query_predicate(source)
        return f"{self.column(source, type)} {self.choices.one(COMPARISONS)} {self.literal(type)}"

    def query_predicate(self, source: Relation) -> str:
        """Returns a predicate with a sub-query: EXISTS, IN, NOT IN with nulls, or a comparison with a scalar."""
        kind = self.choices.below(6)
        if kind > 3:
            return self.membership(source)
        inner = self.relation(0)
        where = self.inner_where(source, inner)
        if kind > 1:
            negation = "NOT " if self.choices.chance(40) else ""
            return f"{negation}EXISTS (SELECT 1 FROM {inner.sql}{where})"
        item, type = self.aggregation(inner)
        if type == BOOL:
            return f"(SELECT {item} FROM {inner.sql}{where}) IS TRUE"
        left = self.literal(type) if type == INEXACT else self.column(source, type)
        return f"{left} {self.choices.one(COMPARISONS[1:3])} (SELECT {item} FROM {inner.sql}{where})"

    def inner_where(self, source: Relation, inner: Relation) -> str:
        """Returns the WHERE of a sub-query, which may be correlated with the outer relation by an id."""
        outer, ids = ([column.sql for column in each.columns if column.is_id] for each in (source, inner))
        conditions = []
        if outer and ids and self.choices.chance(60):
            conditions.append(f"{self.choices.one(ids)} = {self.choices.one(outer)}")
        if self.choices.chance(60):
            conditions.append(f"({self.predicate(inner, 1, False)})")
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""

    # ---- expressions

    def column(self, source: Relation, type: str) -> str:
        found = [column.sql for column in source.columns if column.type == type]
        return self.choices.one(found) if found else self.literal(type)

    def typed_null(self, type: str) -> str:
        return "CAST(NULL AS TIMESTAMP WITH TIME ZONE)" if type == TIME else f"CAST(NULL AS {SQL_TYPES[type]})"

    def literal(self, type: str) -> str:
        if type == TEXT:
            return "'" + self.choices.one(self.texts).replace("'", "''") + "'"
        if type == TIME:
            return f"TIMESTAMP WITH TIME ZONE '{self.choices.one(TIMES)}+00:00'"
        if type == DATE:
            return f"DATE '{self.choices.one(DATES)}'"
        if type == BOOL:
            return self.choices.one(("TRUE", "FALSE"))
        return self.choices.one(NUMBERS[type])

    def expression(self, source: Relation, type: str, depth: int) -> str:
        if depth == 0 or self.choices.chance(40) is False:
            return self.column(source, type)
        general = self.choices.below(12)
        inner = lambda wanted: self.expression(source, wanted, depth - 1)  # noqa: E731
        if general == 0:
            return self.literal(type)
        if general == 1:
            otherwise = f" ELSE {inner(type)}" if self.choices.chance(60) else ""
            return f"CASE WHEN {self.predicate(source, 1, False)} THEN {inner(type)}{otherwise} END"
        if general == 2:
            return f"coalesce({inner(type)}, {inner(type)})"
        if general == 3:
            return f"nullif({inner(type)}, {inner(type)})"
        if general == 4 and type != BOOL:
            return f"{self.choices.one(('greatest', 'least'))}({inner(type)}, {inner(type)})"
        if general == 5 and type != BOOL:
            values = f"{self.literal(type)} THEN {inner(type)} WHEN {self.literal(type)}"
            return f"CASE {self.column(source, type)} WHEN {values} THEN {inner(type)} ELSE {inner(type)} END"
        return getattr(self, f"_{type}")(source, inner)

    def _int(self, source: Relation, inner: Callable[[str], str]) -> str:
        # A difference of two dates is an interval in plantlake, and a number in DuckDB. A double that is cast to a number is
        # truncated in plantlake and rounded in DuckDB, so that it is rounded first.
        return self.choices.one((
            lambda: f"({inner(INT)} + {inner(INT)})",
            lambda: f"({inner(INT)} - {inner(INT)})",
            lambda: f"({inner(INT)} * {self.choices.one((2, 3, -1))})",
            lambda: f"({inner(INT)} / nullif({inner(INT)}, 0))",
            lambda: f"({inner(INT)} % nullif({inner(INT)}, 0))",
            lambda: f"abs({inner(INT)})",
            lambda: f"length({inner(TEXT)})",
            lambda: f"strpos({inner(TEXT)}, {self.literal(TEXT)})",
            lambda: f"CAST(extract({self.choices.one(PARTS)} FROM {inner(self.choices.one((TIME, DATE)))}) AS BIGINT)",
            lambda: f"CAST(floor({inner(FLOAT)}) AS BIGINT)",
            lambda: f"CAST({self.predicate(source, 1, False)} AS BIGINT)",
        ))()

    def _float(self, source: Relation, inner: Callable[[str], str]) -> str:
        return self.choices.one((
            lambda: f"({inner(FLOAT)} + {inner(FLOAT)})",
            lambda: f"({inner(FLOAT)} - {inner(FLOAT)})",
            lambda: f"({inner(FLOAT)} * {inner(FLOAT)})",
            lambda: f"({inner(FLOAT)} / nullif({inner(FLOAT)}, 0))",
            lambda: f"abs({inner(FLOAT)})",
            lambda: f"(-({inner(FLOAT)}))",
            lambda: f"({self.choices.one(('floor', 'ceil', 'round', 'trunc'))}({inner(FLOAT)}))",
            lambda: f"sqrt(abs({inner(FLOAT)}))",
            lambda: f"CAST({inner(INT)} AS DOUBLE)",
        ))()

    def _text(self, source: Relation, inner: Callable[[str], str]) -> str:
        # Doubles and times as text have other forms in DuckDB.
        options = (
            lambda: f"({inner(TEXT)} || {inner(TEXT)})",
            lambda: f"{self.choices.one(('upper', 'lower', 'trim', 'reverse'))}({inner(TEXT)})",
            lambda: f"substr({inner(TEXT)}, {self.choices.one((1, 2, 5))}, {self.choices.one((1, 3, 0, 40))})",
            lambda: f"{self.choices.one(('left', 'right'))}({inner(TEXT)}, {self.choices.one((1, 4, 40))})",
            lambda: f"CAST({inner(self.choices.one((INT, DATE)))} AS VARCHAR)",
            lambda: f"replace({inner(TEXT)}, {self.choices.one(('-', 'a'))!r}, 'zz')",
            lambda: f"concat({inner(TEXT)}, '/', {inner(TEXT)})",
            lambda: f"lpad({inner(TEXT)}, {self.choices.one((3, 40))}, '*')",
            lambda: f"split_part({inner(TEXT)}, '-', {self.choices.one((1, 2, 9))})",
        )
        wide = (
            lambda: f"CAST({inner(self.choices.one((FLOAT, TIME)))} AS VARCHAR)",
            lambda: f"initcap({inner(TEXT)})",
            lambda: f"regexp_replace({inner(TEXT)}, '[0-9]+', 'n')",
        )
        return self.choices.one(options + wide if self.is_wide else options)()

    def _time(self, source: Relation, inner: Callable[[str], str]) -> str:
        return self.choices.one((
            lambda: f"date_trunc('{self.choices.one(UNITS)}', {inner(TIME)})",
            lambda: f"date_bin(INTERVAL '{self.choices.one(('15 minutes', '1 day', '7 minutes', '6 hours'))}', {inner(TIME)})",
            lambda: f"({inner(TIME)} {self.choices.one('+-')} INTERVAL '{self.choices.one(('1 day', '90 minutes', '1 month'))}')",
        ))()

    def _date(self, source: Relation, inner: Callable[[str], str]) -> str:
        return self.choices.one((
            lambda: f"CAST({inner(TIME)} AS DATE)",
            lambda: f"CAST(date_trunc('{self.choices.one(UNITS[1:])}', {inner(DATE)}) AS DATE)",
            lambda: f"CAST(({inner(DATE)} {self.choices.one('+-')} INTERVAL '{self.choices.one(('1 day', '1 month'))}') AS DATE)",
        ))()

    def _bool(self, source: Relation, inner: Callable[[str], str]) -> str:
        return f"({self.predicate(source, 1, False)})"
