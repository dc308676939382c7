"""A generator of random statements over constant rows, which Postgres answers, too: expressions of six types with nulls, sub-queries
of every kind, joins, aggregates with filters and grouping sets, window frames and set operations.

`sqlgen.py` has statements over the tables; here the rows are few, so that nulls, duplicates and empty results are frequent.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlgen import Choices

INT, DOUBLE, TEXT, BOOL, DECIMAL, TIME = "int", "double precision", "text", "boolean", "decimal(10,2)", "timestamp"
TYPES = (INT, DOUBLE, TEXT, BOOL, DECIMAL, TIME)
# Types of columns that are compared often come more than once.
COLUMN_TYPES = (INT, INT, DOUBLE, TEXT, BOOL, DECIMAL, TIME)
LITERALS = {
    INT: [str(value) for value in (0, 1, 2, 3, 4, 5, -1, -2, -3)],
    DOUBLE: ["0.0", "0.5", "1.5", "-2.25", "3.0"],
    TEXT: ["'a'", "''", "'b'", "'ab'", "'B'", "'é'", "'a%'", "'1'"],
    BOOL: ["true", "false"],
    DECIMAL: ["0.00", "1.10", "-2.55", "3.00"],
    TIME: ["'2024-03-01 00:00:00'", "'2024-02-29 12:00:00'", "'1969-12-31 23:59:59.5'"],
}
COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")
SET_OPERATIONS = ("UNION", "UNION ALL", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL")
JOINS = ("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN")
AGGREGATES = {
    INT: ("count({})", "sum({})", "max({})", "min({})", "avg({})", "count(DISTINCT {})", "sum(DISTINCT {})"),
    DOUBLE: ("sum({})", "max({})", "min({})", "count({})", "stddev({})", "avg({})"),
    TEXT: ("max({})", "min({})", "count(DISTINCT {})", "string_agg({0}, '|' ORDER BY {0})"),
    BOOL: ("bool_and({})", "bool_or({})"),
    DECIMAL: ("sum({})", "min({})"),
    TIME: ("max({})", "min({})"),
}
FRAMES = (
    "",
    " ROWS BETWEEN 1 PRECEDING AND CURRENT ROW",
    " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
    " ROWS BETWEEN 1 FOLLOWING AND 2 FOLLOWING",
    " GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
    " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
)


@dataclass(frozen=True)
class Column:
    name: str
    type: str


class ValuesGenerator:
    """Makes one statement. With few table names, sub-queries and their outer queries have columns of the same name."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.has_subqueries = True
        self.names = 0
        self.repeats_names = choices.chance(50)

    def statement(self) -> str:
        source, columns = self.source()
        where = f" WHERE {self.expression(BOOL, columns, 2)}" if self.choices.chance(60) else ""
        kind = self.choices.below(20)
        if kind < 9:
            values = [self.expression(self.choices.one(TYPES), columns, 3) for _ in range(1 + self.choices.below(3))]
            return f"SELECT {self.choices.one(('', '', 'DISTINCT '))}{', '.join(values)} FROM {source}{where}"
        if kind < 14:
            return self.grouped(source, columns, where)
        if kind < 17:
            windows = [self.window(columns) for _ in range(1 + self.choices.below(2))]
            return f"SELECT {', '.join([columns[0].name, *windows])} FROM {source}{where}"
        return self.set_operation()

    # ---- the parts of a statement

    def rows(self) -> tuple[str, list[Column]]:
        """Returns constant rows as an item of FROM, and its columns; one of them is a number."""
        types = [self.choices.one(COLUMN_TYPES) for _ in range(2 + self.choices.below(3))]
        if INT not in types:
            types[0] = INT
        self.names += 1
        table = f"t{self.names % 3 + 1}" if self.repeats_names else f"t{self.names}"
        columns = [Column(f"{table}.{name}", type) for name, type in zip("abcd", types)]
        rows = [f"({', '.join(self.literal(type) for type in types)})" for _ in range(1 + self.choices.below(5))]
        return f"(VALUES {', '.join(rows)}) {table}({', '.join('abcd'[: len(types)])})", columns

    def source(self) -> tuple[str, list[Column]]:
        # Tables of one query have names of their own.
        first = self.names
        source, columns = self.rows()
        for _ in range(self.choices.one((0, 0, 1, 1, 2))):
            item, others = self.rows()
            join = self.choices.one(JOINS)
            pairs = [(one.name, other.name) for one in columns for other in others if one.type == other.type]
            both = columns + others
            if join == "CROSS JOIN" or not pairs:
                source += f" CROSS JOIN {item}"
            else:
                on = " = ".join(self.choices.one(pairs))
                if join != "FULL JOIN" and self.choices.chance(35):
                    on += f" AND {self.without_subqueries(BOOL, both, 1)}"
                source += f" {join} {item} ON {on}"
            columns = both
        if self.repeats_names:
            self.names = first
        return source, columns

    def grouped(self, source: str, columns: list[Column], where: str) -> str:
        keys = list(dict.fromkeys(self.choices.one(columns).name for _ in range(self.choices.below(3))))
        group = ""
        if keys:
            listed = ", ".join(keys)
            group = f" GROUP BY {self.choices.one((listed, listed, f'ROLLUP({listed})', f'CUBE({listed})'))}"
        results = keys + [self.aggregate(columns) for _ in range(1 + self.choices.below(3))]
        number = next(column.name for column in columns if column.type == INT)
        having = f" HAVING {self.choices.one(('count(*) > 1', f'max({number}) > 0', 'count(*) < 3'))}" if self.choices.chance(25) else ""
        return f"SELECT {', '.join(results)} FROM {source}{where}{group}{having}"

    def aggregate(self, columns: list[Column]) -> str:
        type = self.choices.one(TYPES)
        call = self.choices.one(AGGREGATES[type]).format(self.without_subqueries(type, columns, 1))
        return f"{call} FILTER (WHERE {self.without_subqueries(BOOL, columns, 1)})" if self.choices.chance(25) else call

    def window(self, columns: list[Column]) -> str:
        value = self.without_subqueries(self.choices.one((INT, DOUBLE, TEXT)), columns, 1)
        partition = f"PARTITION BY {self.choices.one(columns).name} " if self.choices.chance(50) else ""
        # All columns are sorted by, so that rows with the same place are equal.
        order = f"{partition}ORDER BY {', '.join(column.name for column in columns)}"
        if self.choices.chance(30):
            return f"{self.choices.one((f'lag({value})', f'lead({value}, 1)', 'rank()', 'dense_rank()', 'row_number()'))} OVER ({order})"
        call = self.choices.one(("count({})", "max({})", "min({})", "first_value({})", "last_value({})", "nth_value({}, 2)"))
        return f"{call.format(value)} OVER ({order}{self.choices.one(FRAMES)})"

    def set_operation(self) -> str:
        types = [self.choices.one((INT, DOUBLE, TEXT, DECIMAL, TIME)) for _ in range(1 + self.choices.below(2))]
        query = ""
        for number in range(2 + self.choices.below(2)):
            source, columns = self.source()
            where = f" WHERE {self.expression(BOOL, columns, 1)}" if self.choices.chance(50) else ""
            values = ", ".join(self.expression(type, columns, 1) for type in types)
            query += f" {self.choices.one(SET_OPERATIONS)} " if number else ""
            query += f"SELECT {self.choices.one(('', '', 'DISTINCT '))}{values} FROM {source}{where}"
        return query

    # ---- expressions

    def literal(self, type: str) -> str:
        value = "NULL" if self.choices.chance(18) else self.choices.one(LITERALS[type])
        return f"CAST({value} AS {type})"

    def without_subqueries(self, type: str, columns: list[Column], depth: int) -> str:
        before, self.has_subqueries = self.has_subqueries, False
        made = self.expression(type, columns, depth)
        self.has_subqueries = before
        return made

    def expression(self, type: str, columns: list[Column], depth: int) -> str:
        """Returns an expression of the type, with up to `depth` levels of operators."""
        named = [column.name for column in columns if column.type == type]
        if depth <= 0 or self.choices.chance(30):
            return self.choices.one(named) if named and self.choices.chance(80) else self.literal(type)

        def part(other: str = type) -> str:
            return self.expression(other, columns, depth - 1)

        kind = self.choices.below(100)
        if kind < 12:
            return f"coalesce({part()}, {part()})"
        if kind < 20:
            otherwise = f" ELSE {part()}" if self.choices.chance(60) else ""
            if self.choices.chance(30):
                return f"CASE {part(INT)} WHEN {part(INT)} THEN {part()}{otherwise} END"
            return f"CASE WHEN {part(BOOL)} THEN {part()}{otherwise} END"
        if kind < 25:
            return f"nullif({part()}, {part()})"
        if kind < 29 and type != BOOL:
            return f"{self.choices.one(('greatest', 'least'))}({part()}, {part()})"
        if kind < 34 and depth > 1 and self.has_subqueries:
            return self.scalar(type, columns)
        return self.predicate(columns, depth, part) if type == BOOL else self.operation(type, part)

    def operation(self, type: str, part) -> str:
        one = self.choices.one
        if type == INT:
            templates = ("({i} + {i})", "({i} - {i})", "({i} * {i})", "({i} / nullif({i}, 0))", "({i} % nullif({i}, 0))", "length({s})",
                         "abs({i})", "CAST(extract(year FROM {t}) AS int)", "strpos({s}, {s})", "(- ({i}))")  # fmt: skip
        elif type == DOUBLE:
            templates = ("({d} + {d})", "({d} * {i})", "({d} - {d})", "({d} / nullif({d}, 0.0))", "abs({d})", "floor({d})",
                         "CAST({i} AS double precision)")  # fmt: skip
        elif type == DECIMAL:
            templates = ("CAST(({n} + {n}) AS decimal(10,2))", "CAST(({n} - {n}) AS decimal(10,2))", "CAST({i} AS decimal(10,2))",
                         "abs({n})")  # fmt: skip
        elif type == TEXT:
            start, count, left = one((1, 0, 2, -1)), one((1, 0, 2)), one((1, 0, 2, -1, -2))
            templates = ("({s} || {s})", "upper({s})", f"substr({{s}}, {start}, {count})", "concat({s}, {s})", "CAST({i} AS text)",
                         "replace({s}, 'a', 'xy')", f"left({{s}}, {left})")  # fmt: skip
        else:
            unit = one(("day", "month", "week", "year"))
            templates = ("({t} + INTERVAL '1 month')", "({t} - INTERVAL '36 hours')", f"date_trunc('{unit}', {{t}})")
        return self.fill(one(templates), part)

    def fill(self, template: str, part) -> str:
        """Puts an expression at each `{i}`, `{d}`, `{s}`, `{n}`, `{t}` of the template: a number, a double, a text and so on."""
        for letter, type in zip("idsnt", (INT, DOUBLE, TEXT, DECIMAL, TIME)):
            while f"{{{letter}}}" in template:
                template = template.replace(f"{{{letter}}}", part(type), 1)
        return template

    def predicate(self, columns: list[Column], depth: int, part) -> str:
        one = self.choices.one
        type = one((INT, INT, DOUBLE, TEXT, DECIMAL, TIME))
        negation = one(("", "NOT "))
        kind = self.choices.below(14 if self.has_subqueries else 11)
        if kind < 3:
            return f"({part(type)} {one(COMPARISONS)} {part(type)})"
        if kind == 3:
            made = f"{part(BOOL)} {one(('AND', 'OR'))} {part(BOOL)}"
            # Without brackets, the precedence of operators decides.
            return made if self.choices.chance(30) else f"({made})"
        if kind == 4:
            return f"(NOT {part(BOOL)})"
        if kind == 5:
            return f"({part(type)} IS {negation}NULL)"
        if kind == 6:
            return f"({part(type)} {negation}IN ({part(type)}, {part(type)}, {self.literal(type)}))"
        if kind == 7:
            return f"({part(type)} {negation}BETWEEN {part(type)} AND {part(type)})"
        if kind == 8:
            return f"({part(type)} IS {negation}DISTINCT FROM {part(type)} {one(('AND', 'OR'))} {part(BOOL)})"
        if kind == 9:
            return f"({part(TEXT)} {negation}{one(('LIKE', 'ILIKE'))} '{one(('a%', '%', '_', '', '%b'))}')"
        if kind == 10:
            return f"({part(BOOL)} IS {negation}{one(('TRUE', 'FALSE', 'UNKNOWN'))})"
        if kind == 11:
            return f"({negation}EXISTS ({self.subquery(None, columns)}))"
        if kind == 12:
            return f"({part(type)} {negation}IN ({self.subquery(type, columns)}))"
        return f"({part(type)} {one(COMPARISONS)} {one(('ANY', 'ALL'))} ({self.subquery(type, columns)}))"

    def subquery(self, type: str | None, outer: list[Column]) -> str:
        source, columns = self.rows()
        value = self.without_subqueries(type, columns, 1) if type else "1"
        return f"SELECT {self.choices.one(('', '', 'DISTINCT ')) if type else ''}{value} FROM {source}{self.condition(columns, outer)}"

    def scalar(self, type: str, outer: list[Column]) -> str:
        source, columns = self.rows()
        where = self.condition(columns, outer)
        if type == INT and self.choices.chance(30):
            return f"(SELECT CAST(count(*) AS int) FROM {source}{where})"
        function = self.choices.one(("bool_or", "bool_and") if type == BOOL else ("max", "min"))
        return f"(SELECT {function}({self.without_subqueries(type, columns, 1)}) FROM {source}{where})"

    def condition(self, columns: list[Column], outer: list[Column]) -> str:
        """Returns the WHERE of a sub-query, which may refer to a column of the outer query."""
        conditions = [self.without_subqueries(BOOL, columns, 1)] if self.choices.chance(40) else []
        inner = {column.name.split(".")[0] for column in columns}
        pairs = [
            f"{one.name} = {other.name}"
            for one in columns
            for other in outer
            if one.type == other.type and other.name.split(".")[0] not in inner
        ]
        if pairs and self.choices.chance(40):
            conditions.append(self.choices.one(pairs))
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""


class ChainGenerator:
    """Makes statements whose operators are chained without brackets, so that their precedence decides what they mean."""

    ROWS = "(VALUES (1, 3, 'a', true), (2, NULL, 'ab', false), (NULL, 4, NULL, NULL)) AS t (i, j, s, b)"

    def __init__(self, choices: Choices) -> None:
        self.one = choices.one
        self.chance = choices.chance
        self.below = choices.below

    def statement(self) -> str:
        value = self.one((self.condition, self.number, self.text))()
        return f"SELECT {value}, {self.chain()} FROM {self.ROWS}"

    def chain(self) -> str:
        made = self.negated(self.condition())
        for _ in range(self.below(4)):
            made += f" {self.one(('AND', 'OR'))} {self.negated(self.condition())}"
        return made

    def negated(self, condition: str) -> str:
        return f"NOT {condition}" if self.chance(20) else condition

    def condition(self) -> str:
        number, one = self.number, self.one
        negation = one(("", "NOT "))
        kind = self.below(10)
        if kind < 3:
            return f"{number()} {one(COMPARISONS)} {number()}"
        if kind == 3:
            return f"{number()} {negation}BETWEEN {number()} AND {number()}"
        if kind == 4:
            return f"{number()} {negation}IN ({number()}, {number()})"
        if kind == 5:
            return f"{self.text()} {one(('LIKE', 'NOT LIKE', 'ILIKE', '~', '!~', '='))} {self.text()}"
        if kind == 6:
            return f"{number()} IS {negation}DISTINCT FROM {number()}"
        if kind == 7:
            return f"{self.condition()} {one(('IS TRUE', 'IS NOT FALSE', 'IS UNKNOWN'))}"
        if kind == 8:
            tight = one((f"{number()} IN (1, 2)", f"{number()} BETWEEN 1 AND 3", f"{self.text()} LIKE 'a%'", "b"))
            return f"{one(('b', 'true', 'false'))} {one(('=', '<>'))} {tight}"
        return one(("b", "true", "CAST(NULL AS boolean)", f"{number()} IS NOT NULL", "i IS NULL"))

    def number(self) -> str:
        made = self.one(("i", "1", "j", "2", "3", "7"))
        for _ in range(self.below(4)):
            # Numbers to divide or to shift by are constants, neither 0 nor negative.
            made += self.one((" + 2", " - j", " * i", " % 3", " << 1", " >> 1", " | 4", " & j", " + 3 * i", " - (i + 1)", " * - 2"))
        return made

    def text(self) -> str:
        made = self.one(("s", "'a'", "'ab'", "'a%'"))
        for _ in range(self.below(3)):
            made += self.one((" || s", " || 'b'", " || 1", " || i"))
        return made
