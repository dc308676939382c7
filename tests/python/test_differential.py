"""Random SQL against DuckDB on the same files, and against itself (TLP and NoREC, as SQLancer does).

    pytest tests/python/test_differential.py                       the same statements in each run, about a minute
    pytest tests/python/test_differential.py --long                an hour, from a random seed that is printed
    pytest tests/python/test_differential.py --seed 4711           from this seed on: the first statement is the one that failed
    PLANTLAKE_TEST_DIFFERENTIAL_SECONDS=600 pytest …               another duration

A difference is shrunk and printed. One that the dialects explain is left out by sqlgen.py, with a comment. One that is a fault of
plantlake is listed in `KNOWN` until it is mended.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import adbc_driver_manager
import duckdb
import pyarrow as pa
import pytest

import conftest
from answers import Row, SecondOpinion, difference, rows_of
from harness import LEFT_OUT, OK
from server import Plant
from sqlgen import Choices, Generator, shrink

pytestmark = pytest.mark.local_only
LONG_SECONDS = 3_600.0
# The number of statements of a short run, which does not depend on the machine's speed: a change must not fail by a fault that
# it has not made.
SHORT_STATEMENTS = 600
FIRST_SEED = 26_000_000
# The share of statements that the engines may refuse, for example those with a kind of correlation that one of them has not.
MAX_REFUSED_SHARE = 0.15


@dataclass(frozen=True)
class Known:
    """A fault that is known and not mended yet: a statement whose answer is still wrong, and the rows that are right.

    The generator leaves out `feature`. Once the statement is answered rightly, the test of this entry fails, and the entry goes.
    """

    feature: str
    sql: str
    right: list[Row]
    reason: str


KNOWN: tuple[Known, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """A statement that plantlake refuses rather than answers: the pattern of the error, and an example that is still refused."""

    pattern: str
    sql: str
    reason: str


REFUSALS = (
    Refusal(
        "cannot run this sub",
        """SELECT (SELECT t2."value" FROM data_d AS t2 WHERE t2."asset_id" = t1."asset_id" ORDER BY t2."timestamp" LIMIT 1) AS x
        FROM data_d AS t1""",
        "DataFusion makes joins of correlated sub-queries, and not of those with LIMIT or with a comparison below an aggregate",
    ),
    Refusal(
        "cannot plan the statement",
        """SELECT row_number() OVER (ORDER BY CASE WHEN (t1."source" || t1."source") > t1."source" THEN t1."source" END,
        t1."target") AS x0 FROM asset_edges AS t1""",
        "DataFusion forgets that rows are sorted by an expression whose bounds it cannot derive",
    ),
    Refusal(
        "ORDER BY expressions must appear in argument list",
        """SELECT t6."id" AS x0, string_agg(DISTINCT t6."id", '|' ORDER BY t6."id") AS x1 FROM raw_readings AS t6 LEFT JOIN data_d
        AS t7 ON t6."id" = t7."asset_id" AND t6."timestamp" = t7."timestamp" GROUP BY CUBE (t6."id")""",
        "DataFusion takes the key of a grouping set and the same column for different expressions",
    ),
)


class Answers:
    """The two engines on one plant. Statements run as an organisation with everything, or as one with a list of grants, whose
    statements are planned differently."""

    def __init__(self, plant: Plant) -> None:
        self.connection = plant.with_key("Everything")
        self.granted = plant.with_key("Granted")
        tables = (self.ask("SELECT * FROM assets"), self.ask("SELECT * FROM asset_edges"))
        self.second = SecondOpinion(plant.lake, Path(plant.lake.url) / "raw", *tables)
        names = tables[0]["name"].to_pylist()
        self.texts = ("", "a", "2024-05", names[-1], tables[0]["id"][-1].as_py(), tables[0]["type"][0].as_py(), "O'Brien")

    def ask(self, sql: str, is_granted: bool = False) -> pa.Table:
        # Readings without an id are in no grant.
        is_granted = is_granted and "raw_readings" not in sql
        with (self.granted if is_granted else self.connection).cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()

    def generator(self, choices: Choices, is_wide: bool = False) -> Generator:
        return Generator(choices, self.texts, frozenset(known.feature for known in KNOWN), is_wide)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    plant = Plant(tmp_path_factory.mktemp("differential"))
    simulated = ("--assets", "14", "--days", "2", "--start", "2024-05-01", "--interval", "600s", "--seed", "5")
    plant.lake.run("simulate", *simulated).expect(OK)
    put_readings(plant)
    plant.lake.resample().expect(OK, LEFT_OUT)
    plant.tenant("Everything", ["--all"])
    kinds = sorted({asset["type"] for asset in plant.assets()})
    plant.tenant("Granted", [part for kind in kinds for part in ("--type", kind)])
    plant.serve()
    yield Answers(plant)
    assert plant.stop() == OK


def put_readings(plant: Plant) -> None:
    """Adds readings with what the simulation lacks: repeated values, nulls, single readings, and other months and years.

    The simulation's NaN are taken out, since the engines sort and compare them differently.
    """
    import io

    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for path in sorted((Path(plant.lake.url) / "raw").rglob("*.parquet")):
        table = pq.read_table(path)
        kept = pc.invert(pc.fill_null(pc.is_nan(table["value"].cast(pa.float64())), False))
        pq.write_table(table.filter(kept), path)
    drawn = random.Random(5)
    ids = [asset["id"] for asset in plant.assets()][-4:]
    rows = []
    for month in ("2023-12-31T", "2024-02-29T", "2024-05-01T", "2024-06-30T"):
        for asset in ids:
            for _ in range(drawn.choice((1, 4, 30))):
                minute, second = drawn.randrange(24 * 60), drawn.choice((0, 15, 30, 45))
                value = drawn.choice((None, 0.0, 20.0, 20.25, 20.25, -3.5, 47.0, 100.0))
                rows.append((asset, f"{month}{minute // 60:02}:{minute % 60:02}:{second:02}", value))
    rows += [(None, "2024-05-01T00:00:00", 1.0), (ids[0], None, 2.0)]
    times = pa.array([row[1] for row in rows]).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    table = pa.table({"id": pa.array([row[0] for row in rows]), "timestamp": times, "value": pa.array([row[2] for row in rows])})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    plant.lake.put("repeated.parquet", sink.getvalue())


# ---- one statement


class Refused(Exception):
    """One of the engines does not answer the statement, for a known reason or, for DuckDB, any."""


def plantlake_rows(answers: Answers, sql: str, is_granted: bool = False) -> list[Row] | str:
    """Returns the rows, or the text of the error."""
    try:
        return rows_of(answers.ask(sql, is_granted))
    except adbc_driver_manager.Error as error:
        return f"{type(error).__name__}: {error}"


def is_refusal(found: list[Row] | str) -> bool:
    return isinstance(found, str) and any(each.pattern in found for each in REFUSALS)


def against_duckdb(answers: Answers, choices: Choices) -> tuple[str, str | None]:
    """Returns a statement, and how the engines differ."""
    is_granted = choices.chance(50)
    statement = answers.generator(choices).statement()
    found = plantlake_rows(answers, statement.sql, is_granted)
    if is_refusal(found):
        raise Refused(f"by plantlake: {kind_of(found)}")
    try:
        expected = answers.second.rows(statement.sql)
    except duckdb.Error as error:
        raise Refused(f"by DuckDB: {str(error).splitlines()[0][:100]}") from error
    if isinstance(found, str):
        return statement.sql, found
    return statement.sql, difference(found, expected, statement.is_ordered)


def against_itself(method: Callable[[Generator], object]) -> Callable[[Answers, Choices], tuple[str, str | None]]:
    def check(answers: Answers, choices: Choices) -> tuple[str, str | None]:
        is_granted = choices.chance(50)
        partition = method(answers.generator(choices, is_wide=True))
        text = f"{partition.whole}\n-- and\n{partition.parts}"
        whole, parts = (plantlake_rows(answers, sql, is_granted) for sql in (partition.whole, partition.parts))
        for found in (whole, parts):
            if is_refusal(found):
                raise Refused(f"by plantlake: {kind_of(found)}")
            if isinstance(found, str):
                return text, found
        return text, difference(whole, parts, False)

    return check


CHECKS = {
    "duckdb": (against_duckdb, 0.6),
    "tlp": (against_itself(Generator.partition), 0.25),
    "norec": (against_itself(Generator.filter_and_column), 0.15),
}


@pytest.mark.parametrize("name", CHECKS)
def test_random_statements_have_one_answer(answers: Answers, pytestconfig: pytest.Config, name: str) -> None:
    check, share = CHECKS[name]
    seed = first_seed(pytestconfig)
    given = os.environ.get("PLANTLAKE_TEST_DIFFERENTIAL_SECONDS")
    is_long = given is not None or conftest.profile(pytestconfig) == "long"
    seconds = (float(given) if given else LONG_SECONDS) * share
    limit = f"{seconds:.0f} s" if is_long else f"{SHORT_STATEMENTS * share:.0f} statements"
    print(f"\n{name}: {limit}, from --seed {seed}")
    found: list[str] = []
    counts: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while len(found) < 5 and (time.monotonic() < end if is_long else counts["statements"] < SHORT_STATEMENTS * share):
        choices = Choices(seed)
        try:
            text, wrong = check(answers, choices)
        except Refused as refused:
            counts["refused"] += 1
            counts[f"refused {refused}"] += 1
            wrong = None
        counts["statements"] += 1
        if wrong:
            found.append(report(answers, check, choices.made, f"--seed {seed} ({name})", text, wrong))
            if is_long:
                print(found[-1], flush=True)
        seed += 1
    print(dict(counts.most_common(20)))
    assert counts["statements"] > 0
    assert counts["refused"] <= MAX_REFUSED_SHARE * counts["statements"] + 3, counts
    assert not found, "\n\n".join(found)


def first_seed(config: pytest.Config) -> int:
    if (given := config.getoption("--seed")) is not None:
        return given
    return random.SystemRandom().randrange(1 << 40) if conftest.profile(config) == "long" else FIRST_SEED


def report(answers: Answers, check: Callable, made: list[int], where: str, text: str, wrong: str) -> str:
    """Returns the difference with the shortest statement that shows one of the same kind."""
    kind = kind_of(wrong)

    def is_wrong(recorded: list[int]) -> bool:
        try:
            _, difference = check(answers, Choices(recorded=recorded))
        except Refused:
            return False
        return difference is not None and kind_of(difference) == kind

    shortest = shrink(made, is_wrong)
    try:
        short_text, short_wrong = check(answers, Choices(recorded=shortest))
    except Refused:
        short_text, short_wrong = text, wrong
    return f"{where}: {short_wrong}\n{short_text}\n(shrunk from: {wrong[:500]}\n{text})"


def kind_of(wrong: str) -> str:
    """Returns the kind of a difference: that of the error, or that the rows differ."""
    if "Error" not in wrong:
        return "rows"
    return re.sub(r"[\d'\"].*", "", wrong.split("Error: ", 1)[1])[:90]


# ---- the table of known faults


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.feature)
def test_known_fault_is_still_wrong(answers: Answers, known: Known) -> None:
    found = plantlake_rows(answers, known.sql)
    expected = answers.second.rows(known.sql)
    assert difference(expected, known.right, False) is None, "the entry does not say what DuckDB answers"
    is_right = not isinstance(found, str) and difference(found, known.right, False) is None
    assert not is_right, f"{known.feature} is mended: remove the entry from KNOWN"


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.pattern)
def test_known_refusal_is_still_refused(answers: Answers, refusal: Refusal) -> None:
    answers.second.rows(refusal.sql)
    found = plantlake_rows(answers, refusal.sql)
    assert isinstance(found, str), f"{refusal.pattern} is answered now: remove the entry from REFUSALS"
    assert refusal.pattern in found


# ---- the tools of this test


def test_comparison_finds_wrong_rows() -> None:
    rows = [("a", 1.0, None), ("b", 2.0, 3), ("b", 2.0, 3)]
    assert difference(rows, rows[::-1], False) is None
    assert difference(rows, [("b", 2.0 + 1e-12, 3), ("a", 1.0, None), ("b", 2.0, 3)], False) is None
    for wrong in (
        rows[:2],
        [("a", 1.0, None), ("a", 1.0, None), ("b", 2.0, 3)],
        [("a", 1.0, 0), *rows[1:]],
        [("a", 1.0 + 1e-6, None), *rows[1:]],
        [("a", "1.0", None), *rows[1:]],
    ):
        assert difference(rows, wrong, False) is not None, wrong
        assert difference(wrong, rows, False) is not None, wrong
    assert difference(rows, rows[::-1], True) is not None


def test_same_seed_gives_same_statement(answers: Answers) -> None:
    for seed in range(200):
        choices = Choices(seed)
        sql = answers.generator(choices).statement().sql
        assert answers.generator(Choices(seed)).statement().sql == sql
        assert answers.generator(Choices(recorded=choices.made)).statement().sql == sql


def test_statements_have_every_shape(answers: Answers) -> None:
    """The generator has not lost a kind of statement."""
    made = "\n".join(answers.generator(Choices(seed)).statement().sql for seed in range(3_000))
    shapes = (
        " LEFT JOIN ", " RIGHT JOIN ", " FULL JOIN ", " CROSS JOIN ", "EXISTS (", " NOT IN (SELECT", " FILTER (", "DISTINCT ",
        " HAVING ", "ROLLUP (", "CUBE (", "GROUPING SETS", "grouping(", " ROWS BETWEEN", " GROUPS BETWEEN", "UNION ALL", " EXCEPT ",
        " INTERSECT ", "WITH c0", "CASE ", " LIKE ", " BETWEEN ", "NULLS FIRST", "NULLS LAST", " LIMIT ", " OFFSET ", "date_trunc",
        "date_bin", "(SELECT max(", "VALUES", "IS DISTINCT FROM", "extract(", "string_agg(DISTINCT", "CAST(NULL",
    )
    assert [shape for shape in shapes if shape not in made] == []


def test_shrinking_finds_smaller_statement(answers: Answers) -> None:
    choices = next(
        choices for choices in map(Choices, range(10_000)) if "FULL JOIN" in answers.generator(choices).statement().sql
    )
    has_full_join = lambda made: "FULL JOIN" in answers.generator(Choices(recorded=made)).statement().sql  # noqa: E731
    shortest = shrink(choices.made, has_full_join)
    assert has_full_join(shortest) and len(shortest) <= len(choices.made)
    assert len(answers.generator(Choices(recorded=shortest)).statement().sql) < 600
