"""A function of constants, of columns, and of both, must have the same results: DataFusion has separate code for each of these forms."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal

import adbc_driver_manager
import pyarrow as pa
import pytest

import conftest
from function_calls import CALLS, KINDS, KNOWN_FAULTS, OTHER_FUNCTIONS
from oracles import connection, plant  # noqa: F401

pytestmark = pytest.mark.local_only

ERROR = "error"
# Other encodings of a column of texts, in which files and other functions return them.
TEXT_ENCODINGS = ["Utf8View", "LargeUtf8", "Dictionary(Int32, Utf8)"]
# The maximum number of combinations of values in a call. Calls with more arguments take the first values of each kind only.
MAX_COMBINATIONS = 12
# The same with --long, and for calls whose faults are known.
MAX_COMBINATIONS_LONG = 48
# The number of combinations whose failure is checked in each form.
FAILURES = 2

Combination = tuple[str, ...]


def rows(connection, sql: str) -> pa.Table | None:
    """Returns the rows, or none if the statement is refused or fails."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()
        except adbc_driver_manager.Error as error:
            assert "panicked" not in str(error), f"{sql}\n{error}"
            return None


def shown(value: object) -> str:
    """Returns a text that differs for different values: also for 0 and -0, and for NaN, null and the text 'NaN'."""
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Decimal):
        return str(value.normalize() + 0)
    return repr(value)


def type_of(column: pa.ChunkedArray) -> str:
    """Returns the type. The digits of a decimal may depend on whether an argument is constant, as those of round do."""
    return "decimal" if pa.types.is_decimal(column.type) else str(column.type)


def values_of(column: pa.ChunkedArray) -> list:
    """Returns the values, times as numbers: Python has none before the year 1 and after 9999."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_date(kind):
        column = column.cast(pa.int64() if kind.bit_width == 64 else pa.int32())
    return column.to_pylist()


class Form:
    """A form of a call: some of its arguments are columns, the others are constants."""

    def __init__(self, connection, template: str, values: Sequence[Sequence[str]], columns: Sequence[int], encoding: str = "") -> None:
        self.connection = connection
        self.template = template
        self.columns = columns
        self.constants = [at for at in range(len(values)) if at not in columns]
        self.values = values
        self.encoding = encoding
        self.results: dict[Combination, str] = {}

    def combination(self, constants: Combination, cells: Combination) -> Combination:
        found = dict(zip(self.constants, constants)) | dict(zip(self.columns, cells))
        return tuple(found[at] for at in range(len(self.values)))

    def expression(self, constants: Combination) -> str:
        named = dict(zip(self.constants, constants))
        for at in self.columns:
            named[at] = f"c{at}"
            if self.encoding and self.values[at] is KINDS["text"]:
                named[at] = f"arrow_cast(c{at}, '{self.encoding}')"
        return self.template.format(*(named[at] for at in range(len(self.values))))

    def compute(self, failing: set[Combination] = frozenset()) -> dict[Combination, str]:
        """Returns the result of each combination of values, and of a few of those that fail in another form. A statement has
        all combinations, as long as none of them fails."""
        groups: dict[tuple[Combination, ...], list[Combination]] = {}
        for constants in itertools.product(*(self.values[at] for at in self.constants)):
            cells = itertools.product(*(self.values[at] for at in self.columns))
            good = tuple(cell for cell in cells if self.combination(constants, cell) not in failing)
            groups.setdefault(good, []).append(constants)
        for cells, constants in groups.items():
            if cells:
                self._compute(constants, list(cells))
        for combination in sorted(failing)[:FAILURES]:
            constants, cell = (tuple(combination[at] for at in part) for part in (self.constants, self.columns))
            self._compute([constants], [cell])
        return self.results

    def _compute(self, constants: list[Combination], cells: list[Combination]) -> None:
        selected = ", ".join(f"{self.expression(one)} AS x{number}" for number, one in enumerate(constants))
        sql = f"SELECT {selected}"
        if self.columns:
            tuples = ", ".join(f"({', '.join([str(number), *one])})" for number, one in enumerate(cells))
            names = ", ".join(["i", *(f"c{at}" for at in self.columns)])
            sql = f"SELECT {selected} FROM (VALUES {tuples}) AS t ({names}) ORDER BY i"
        table = rows(self.connection, sql)
        if table is not None:
            for one, column in zip(constants, table.columns):
                for cell, value in zip(cells, values_of(column), strict=True):
                    self.results[self.combination(one, cell)] = f"{shown(value)} ({'' if self.encoding else type_of(column)})"
        elif len(constants) > 1:
            self._compute(constants[: len(constants) // 2], cells)
            self._compute(constants[len(constants) // 2 :], cells)
        elif len(cells) > 1:
            self._compute(constants, cells[: len(cells) // 2])
            self._compute(constants, cells[len(cells) // 2 :])
        else:
            self.results[self.combination(constants[0], cells[0])] = ERROR


def arguments(kinds: str, limit: int) -> list[list[str]]:
    """Returns the values of each argument, of which there are at most this number of combinations."""
    values = [KINDS[kind] for kind in kinds.split()]
    while len(list(itertools.product(*values))) > limit:
        longest = max(range(len(values)), key=lambda at: len(values[at]))
        # The last value is null.
        values[longest] = [*values[longest][:-2], values[longest][-1]]
    return values


def faults(connection, template: str, kinds: str, limit: int) -> list[str]:
    """Returns the differences between the forms of a call."""
    values = arguments(kinds, limit)
    everywhere = range(len(values))
    forms = [form for count in range(len(values) + 1) for form in itertools.combinations(everywhere, count)]
    expected = Form(connection, template, values, everywhere).compute()
    failing = {combination for combination, value in expected.items() if value == ERROR}
    found = []
    for columns in forms[:-1]:
        for combination, value in Form(connection, template, values, columns).compute(failing).items():
            if value != expected[combination]:
                form = ", ".join("column" if at in columns else "constant" for at in everywhere)
                found.append(f"{template.format(*combination)}: {value} of ({form}), {expected[combination]} of columns")
    if "text" in kinds.split():
        plain = {combination: value.rsplit(" (", 1)[0] for combination, value in expected.items()}
        for encoding in TEXT_ENCODINGS:
            for combination, value in Form(connection, template, values, everywhere, encoding).compute(failing).items():
                if value.rsplit(" (", 1)[0] != plain[combination]:
                    found.append(f"{template.format(*combination)}: {value} of {encoding}, {plain[combination]} of Utf8")
    return found


@pytest.mark.parametrize(("template", "kinds"), CALLS, ids=[f"{template} of {kinds}" for template, kinds in CALLS])
def test_call_of_constants_and_columns_has_the_same_results(
    connection, template: str, kinds: str, pytestconfig: pytest.Config
) -> None:
    is_thorough = conftest.profile(pytestconfig) == "long" or (template, kinds) in KNOWN_FAULTS
    found = faults(connection, template, kinds, MAX_COMBINATIONS_LONG if is_thorough else MAX_COMBINATIONS)
    if (template, kinds) in KNOWN_FAULTS:
        part = KNOWN_FAULTS[template, kinds]
        assert any(part in fault for fault in found), f"mended: remove {template} from KNOWN_FAULTS"
        found = [fault for fault in found if part not in fault]
    assert not found, f"{len(found)} faults:\n" + "\n".join(found[:20])


def test_each_scalar_function_has_calls(connection) -> None:
    sql = "SELECT DISTINCT routine_name FROM information_schema.routines WHERE function_type = 'SCALAR'"
    names = set(rows(connection, sql).columns[0].to_pylist())
    called = {template.split("(")[0] for template, _ in CALLS}
    # DataFusion's functions of lists have a second name.
    missing = {name for name in names - called - set(OTHER_FUNCTIONS) if f"array_{name.removeprefix('list_')}" not in called}
    assert not missing, f"add calls of these functions to function_calls.py: {sorted(missing)}"
    assert not set(OTHER_FUNCTIONS) & called, "listed as functions without calls, but called"
    assert set(OTHER_FUNCTIONS) <= names, f"no functions: {sorted(set(OTHER_FUNCTIONS) - names)}"
