use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::SessionStateDefaults as Defaults;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;

use super::allow_list::UNSUPPORTED;
use super::*;

async fn run(sql: &str) -> Result<Vec<RecordBatch>> {
    let lake = tempfile::tempdir().unwrap();
    let lake = crate::lake::Store::open(lake.path().to_str().unwrap(), &Default::default());
    let state = crate::engine::session::base_state::base_state(&lake.unwrap(), Default::default());
    let context = SessionContext::new_with_state(state.unwrap());
    // Plans as a session of the server does, which leaves large constants for execution.
    let (state, plan) = context.sql(sql).await?.into_parts();
    let plan = while_planning(|| state.optimize(&plan))?;
    let steps = state
        .query_planner()
        .create_physical_plan(&plan, &state)
        .await?;
    collect(steps, context.task_ctx()).await
}

/// Checks that each function is listed once, and that all existing functions are listed.
fn assert_all_known<'a>(offered: &[&'a str], not_offered: &[&'a str], defaults: BTreeSet<String>) {
    let known = offered.iter().chain(not_offered);
    let known: BTreeSet<_> = known.map(|name| (*name).to_owned()).collect();
    assert_eq!(
        known.len(),
        offered.len() + not_offered.len(),
        "listed twice"
    );
    let difference: Vec<_> = known.symmetric_difference(&defaults).collect();
    assert!(
        difference.is_empty(),
        "differs from the allow-list of functions: {difference:?}"
    );
}

#[test]
fn every_function_of_datafusion_is_listed_once() {
    let scalar: Vec<_> = SCALAR.iter().map(|(name, _)| *name).collect();
    let names = Defaults::default_scalar_functions();
    let names = names.iter().map(|function| function.name().to_owned());
    assert_all_known(&scalar, UNSUPPORTED, names.collect());
    let names = Defaults::default_higher_order_functions();
    let names = names.iter().map(|function| function.name().to_owned());
    assert_all_known(HIGHER_ORDER, &[], names.collect());
    let names = Defaults::default_aggregate_functions();
    let names = names.iter().map(|function| function.name().to_owned());
    assert_all_known(AGGREGATE, &[], names.collect());
    let names = Defaults::default_window_functions();
    let names = names.iter().map(|function| function.name().to_owned());
    assert_all_known(WINDOW, &[], names.collect());
    let names = Defaults::default_table_functions();
    let names = names.iter().map(|function| function.name().to_owned());
    assert_all_known(TABLE, &[], names.collect());
}

#[tokio::test]
async fn unsupported_functions_are_refused() {
    for call in [
        "input_file_name()",
        "file_row_index()",
        "arrow_metadata(column1)",
        "arrow_field(column1)",
        "with_metadata(column1, 'a', 'b')",
    ] {
        let refused = run(&format!("SELECT {call} FROM (VALUES (1))")).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("Invalid function"), "{call}: {refused}");
    }
}

#[tokio::test]
async fn calls_beyond_their_bounds_are_refused() {
    for call in [
        "repeat('x', 2000000000)",
        "repeat(repeat('x', 10000), column1 * 100000)",
        "lpad('x', 2147483647)",
        "rpad(column2, 20000000, 'y')",
        "concat(column2, repeat('x', 40000000))",
        "concat_ws(',', repeat('x', 40000000), column2, column2)",
        "replace(repeat('a', 100000), 'a', repeat('b', 100000))",
        "replace(repeat(column2, 100000), '', repeat('b', 100000))",
        "regexp_replace(repeat('a', 10000), 'a', repeat('b', 100000), 'g')",
        "array_to_string(array_repeat('a', 1000000), repeat('b', 1000))",
        "array_to_string([array_repeat(column1, 1000000)], repeat('b', 1000))",
        "array_repeat(1, 2000000000)",
        "array_resize([1], 2000000000)",
        "array_resize(['a'], 10, repeat('x', 60000000))",
        "range(0, 1000000000)",
        "range(column1, -1000000000, -1)",
        "generate_series(TIMESTAMP '2024-01-01', TIMESTAMP '2025-01-01', INTERVAL '1 microsecond')",
        "generate_series(DATE '2024-01-31', DATE '2025-01-01', INTERVAL '1 month -29 days')",
        "levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
        "btrim(repeat('a', 1000000), repeat('b', 100000))",
        "strpos(repeat('a', 1000000), repeat(column2, 100000))",
        "position(repeat(column2, 100000) in repeat('a', 1000000))",
        "array_has_all(range(0, 3000000), range(0, 3000000))",
        "array_has_any(range(0, 3000000), [range(0, 3000000)][column1])",
        "range(0, 3000000) @> range(0, 3000000)",
        "array_except(range(0, 3000000), range(0, 3000000))",
        "array_union(range(0, 3000000), range(0, 3000000))",
        "array_intersect(range(0, 3000000), range(0, 3000000))",
        "array_union(range(0, 8000000), [1])",
        "array_distinct(range(0, 8000000))",
        "array_sort(range(0, 8000000))",
        "array_sort([range(0, 8000000), [1]][column1])",
        "arrays_zip(range(0, 8000000), [1])",
        "arrays_zip([range(0, 3000000)], [range(0, 3000000)])",
        "array_remove_all(range(0, 8000000), column1)",
        "translate(repeat('ab', 30000000), 'a', column2)",
        "string_to_array(repeat('ab', 30000000), 'a')",
        "nullif(repeat('ab', 20000000), column2)",
        "array_append(range(0, 8000000), column1)",
        "regexp_count(repeat('A', 3000000), '.*[^A-Z]|[A-Z]')",
        "regexp_replace(repeat('A', 3000000), '.*[^A-Z]|[A-Z]', '', 'g')",
        "regexp_match(repeat('A', 3000000), '.*[^A-Z]|[A-Z]', 'g')",
        "regexp_like(repeat('A', 3000000), repeat('(a|b)', 4000))",
        "repeat('A', 3000000) ~ repeat('(a|b)', 4000)",
        "repeat('A', 3000000) NOT LIKE repeat('%_', 4000)",
        "repeat('A', 3000000) SIMILAR TO repeat('(a|b)', 4000)",
        "repeat('A', 3000000) ILIKE repeat(column2, 20000)",
        "CAST(repeat('1', 30000000) AS DECIMAL(38, 10))",
        "repeat('1', 30000000)::decimal(76, 0)",
        "concat('-', repeat('1', 30000000))::decimal(9, 0)",
        "arrow_cast(repeat('1', 30000000), 'Decimal256(76, 0)')",
        "arrow_cast([repeat('1', 30000000)], 'List(Decimal128(9, 0))')",
        "repeat(column2, 30000000) = 1::decimal(38, 0)",
        "repeat(column2, 10000) IN (1::decimal(38, 0), column1)",
        "repeat('1', 30000000)::timestamp",
        "repeat('1', 30000000)::date",
        "repeat('1', 30000000)::time",
        "repeat('1 day ', 3000000)::interval",
        "repeat('1', 30000000)::bigint",
        "repeat('1', 30000000)::double",
        "repeat('t', 30000000)::boolean",
        "repeat(column2, 30000)::smallint",
        "CAST(repeat('1', 30000000) AS BYTEA)::text::bigint",
        "encode(repeat('1', 3000000), 'hex')::bigint",
        "repeat('1', 10000) < now()",
        "CASE WHEN column1 = 1 THEN repeat('1', 10000) ELSE '1' END::bigint",
        "array_to_string([column2], repeat('1', 5000)) || repeat('1', 5000) = 1",
        "arrow_cast([repeat('1', 30000000)], 'List(Int64)')",
        "to_timestamp(repeat('1', 30000000))",
        "to_timestamp('2024-01-01', repeat('%Y', 3000000))",
        "to_date(repeat(column2, 30000))",
        "to_char(now(), repeat('%Y', 10000))",
        "date_part('year', repeat('1', 30000000))",
        "date_trunc('day', repeat('1', 30000000))",
        "arrow_cast(NULL, 'FixedSizeList(2147483647, Int64)')",
        "arrow_cast(NULL, 'FixedSizeList(10000, FixedSizeList(10000, Int64))')",
        "arrow_cast(NULL, 'List(FixedSizeBinary(2147483647))')",
    ] {
        let sql = format!("SELECT {call} FROM (VALUES (1, 'a'), (2, 'b'))");
        let refused = run(&sql).await.unwrap_err().to_string();
        let expected = [
            "ask for less",
            "of fixed size",
            "steps on one value",
            "bytes as a number, a time or a format",
            "the name of a type",
        ];
        assert!(
            expected.iter().any(|text| refused.contains(text)),
            "{call}: {refused}"
        );
    }
}

#[tokio::test]
async fn arrow_cast_to_a_type_nested_too_deep_is_refused() {
    for (begin, end) in [
        ("List(", ")"),
        ("Struct(\"a\": ", ")"),
        ("Dictionary(Int32, ", ")"),
        ("Map(", ", false)"),
        ("RunEndEncoded(\"run_ends\": Int32, \"values\": ", ")"),
    ] {
        for levels in [1_000, 60_000] {
            let open = begin.repeat(levels);
            let closed = format!("{open}Int64{}", end.repeat(levels));
            for (function, name) in [("arrow_cast", open), ("arrow_try_cast", closed)] {
                let refused = run(&format!("SELECT {function}(NULL, '{name}')")).await;
                let refused = refused.unwrap_err().to_string();
                assert!(
                    refused.contains("the name of a type must have"),
                    "{refused}"
                );
            }
        }
    }
}

#[tokio::test]
// style: one table of calls
async fn calls_within_their_bounds_succeed() {
    for (call, expected) in [
        ("length(repeat('x', 10000))", "10000"),
        ("repeat(column2, column1)", "a"),
        ("repeat(NULL, 3)", ""),
        ("lpad(column2, 4, '0')", "000a"),
        ("rpad('a', NULL)", ""),
        ("concat(column2, '-', column1, NULL)", "a-1"),
        ("concat_ws('/', column2, NULL, 'b')", "a/b"),
        ("replace('banana', column2, 'oo')", "boonoonoo"),
        ("regexp_replace('a1b22', '[0-9]+', '<&>', 'g')", "a<&>b<&>"),
        ("array_to_string([1, 2, NULL], ',', '-')", "1,2,-"),
        ("array_to_string([[1, 2], [3]], '+')", "1+2+3"),
        ("array_length(array_repeat(column2, 100))", "100"),
        ("array_length(array_resize([1], 1000))", "1000"),
        ("array_length(range(0, 1000000))", "1000000"),
        ("array_to_string(range(3, column1, -1), ',')", "3,2"),
        (
            "array_length(generate_series(DATE '2024-01-01', DATE '2025-01-01', INTERVAL '1 month'))",
            "13",
        ),
        ("array_length(array_distinct(range(0, 1000000)))", "1000000"),
        ("array_position([3, 1, 2], column1)", "2"),
        ("array_element(['x', 'y'], column1)", "x"),
        (
            "array_to_string(array_distinct([column1, 1, 2]), ',')",
            "1,2",
        ),
        (
            "array_to_string(array_distinct([[column1], [1]])[1], ',')",
            "1",
        ),
        ("array_has(make_array('a', 'b'), column2)", "true"),
        ("translate(column2, 'a', 'b')", "b"),
        ("coalesce(NULL, nullif(column2, 'b'), 'c')", "a"),
        ("starts_with(column2, 'a')", "true"),
        ("array_length(map_keys(map(['k'], [column1])))", "1"),
        ("to_timestamp('2024-01-31')", "2024-01-31T00:00:00Z"),
        ("repeat('1', 3)::decimal(38, 2)", "111.00"),
        ("repeat('1', 3)::bigint + column1", "112"),
        ("concat('2024-01-0', column1)::date", "2024-01-01"),
        ("TRY_CAST(repeat('1', 30000000) AS BIGINT)", ""),
        ("TRY_CAST(repeat(column2, 30000) AS TIMESTAMP)", ""),
        ("length(CAST(repeat('x', 10000) AS BYTEA)::text)", "10000"),
        (
            "length(column2 || 'b' || 'c' || column2 || 'd' || column2 || 'e' || column2 || column2)",
            "9",
        ),
        ("arrow_cast(column1, 'Dictionary(Int32, Float64)')", "1.0"),
        (
            "array_length(arrow_cast([column1], 'LargeList(Utf8)'))",
            "1",
        ),
        (
            "date_trunc('day', concat('2024-01-0', column1, 'T10:00:00'))",
            "2024-01-01T00:00:00",
        ),
        ("TRY_CAST(repeat('1', 30000000) AS DECIMAL(38, 10))", ""),
        ("TRY_CAST(concat(column1, '.5') AS DECIMAL(9, 1))", "1.5"),
        (
            "arrow_cast(concat(column1, '.5'), 'Decimal128(9, 1)')",
            "1.5",
        ),
        ("levenshtein(column2, 'kitten')", "6"),
        ("levenshtein(NULL, 'a')", ""),
        ("btrim('xxaxx', 'x')", "a"),
        ("strpos('banana', 'nan')", "3"),
        (
            "array_to_string(array_except([1, 2, 3], [2, column1]), ',')",
            "3",
        ),
        ("find_in_set(concat('b', ''), 'a,b,c')", "2"),
        ("encode('plant', 'hex')", "706c616e74"),
        ("position('n' in 'banana')", "3"),
        ("array_has_all([1, 2, 3], [column1, 2])", "true"),
        ("[1, 2, 3] @> [column1]", "true"),
        (r"regexp_count('a1b22', '\d+')", "2"),
        (
            r"array_to_string(regexp_match('P-101', '\w-(\d+)'), ',')",
            "101",
        ),
        (r"regexp_like('P-101', '^\w-\d+$')", "true"),
        (r"concat('P-', 101) ~ '^\w-\d+$'", "true"),
        (r"concat('p-', 101) ~* '^P-\d+$'", "true"),
        ("concat('P-', 101) LIKE 'P%1'", "true"),
        ("concat('P-', 101) NOT ILIKE 'p_1%'", "false"),
        ("concat('P-', column1) SIMILAR TO '(P|Q)-[0-9]'", "true"),
        ("concat('P-', column1) LIKE NULL", ""),
        (
            "array_length(arrow_cast([1, 2], 'FixedSizeList(2, Int64)'))",
            "2",
        ),
    ] {
        let sql = format!(
            "SELECT CAST({call} AS TEXT) AS x FROM (VALUES (1, 'a'), (2, 'b')) ORDER BY column1 LIMIT 1"
        );
        let rows = run(&sql)
            .await
            .unwrap_or_else(|error| panic!("{call}: {error}"));
        let text = arrow::util::pretty::pretty_format_batches(&rows).unwrap();
        let text = text.to_string();
        let value = text.lines().nth(3).unwrap().trim_matches(['|', ' ']);
        assert_eq!(value, expected, "{call}");
    }
}

#[tokio::test]
async fn call_on_many_long_texts_is_made_in_slices_with_the_same_results() {
    // Too much for one slice, but not too much for any row.
    let texts =
        "SELECT value, repeat('ab', CAST(value AS INT) % 300) AS x FROM generate_series(0, 3000)";
    let sliced = format!(
        r"SELECT sum(regexp_count(x, '\w')), sum(length(replace(x, 'a', 'xyz'))) FROM ({texts})"
    );
    let expected =
        "SELECT sum(2 * (value % 300)), sum(4 * (value % 300)) FROM generate_series(0, 3000)";
    let [found, expected] = [sliced.as_str(), expected].map(run);
    let (found, expected) = (found.await.unwrap(), expected.await.unwrap());
    assert_eq!(found[0].columns()[..2], expected[0].columns()[..2]);
}

#[tokio::test]
async fn calls_with_a_long_constant_beside_rows_are_made_in_slices() {
    let rows = "generate_series(0, 3000)";
    for (call, expected) in [
        ("sum(array_position(range(0, 50000), value))", "4504501"),
        (
            "sum(CAST(array_has(range(0, 50000), value) AS INT))",
            "3001",
        ),
        ("max(length(nullif(repeat('x', 20000), 'y')))", "20000"),
    ] {
        let sums = run(&format!("SELECT {call} FROM {rows}")).await.unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&sums).unwrap();
        assert!(text.to_string().contains(expected), "{call}: {text}");
    }
    // Three thousand lists of 40 KiB.
    let lists = format!("SELECT array_append(range(0, 5000), value) FROM {rows}");
    let refused = run(&lists).await.unwrap_err().to_string();
    assert!(refused.contains("ask for less"), "{refused}");
}

#[tokio::test]
async fn arguments_of_aggregates_and_windows_out_of_range_are_refused() {
    for (call, is_good) in [
        (
            "approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY x)",
            true,
        ),
        (
            "approx_percentile_cont(0.5, 200) WITHIN GROUP (ORDER BY x)",
            true,
        ),
        (
            "approx_percentile_cont(0.5, 1000000000000000) WITHIN GROUP (ORDER BY x)",
            false,
        ),
        (
            "approx_percentile_cont(0.5, CAST(random() * 0 AS BIGINT) + 1000000) WITHIN GROUP (ORDER BY x)",
            false,
        ),
        (
            "approx_percentile_cont_with_weight(1, 0.5, 1000000000) WITHIN GROUP (ORDER BY x)",
            false,
        ),
        ("lag(x, 9223372036854775807) OVER (ORDER BY x)", false),
        ("lead(x, 3) OVER (ORDER BY x)", true),
        ("ntile(18446744073709551615) OVER (ORDER BY x)", false),
        (
            "sum(x) OVER (ORDER BY x ROWS BETWEEN 18446744073709551615 PRECEDING AND CURRENT ROW)",
            false,
        ),
        (
            "sum(x) OVER (ORDER BY x ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)",
            true,
        ),
    ] {
        let sql = format!("SELECT {call} FROM (VALUES (1), (2)) AS t(x)");
        let lake = tempfile::tempdir().unwrap();
        let lake = crate::lake::Store::open(lake.path().to_str().unwrap(), &Default::default());
        let state =
            crate::engine::session::base_state::base_state(&lake.unwrap(), Default::default());
        let context = SessionContext::new_with_state(state.unwrap());
        let planned = context.sql(&sql).await;
        let plan = planned.and_then(|frame| frame.into_optimized_plan());
        let checked = plan.and_then(|plan| check_arguments(&plan));
        assert_eq!(checked.is_ok(), is_good, "{call}: {checked:?}");
    }
}
