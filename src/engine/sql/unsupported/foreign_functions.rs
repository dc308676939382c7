//! Functions of other databases that have no definition here, and what to use instead.

/// The names, sorted, with what to use instead.
const REMEDIES: &[(&str, &str)] = &[
    ("age", "subtract the timestamps: a - b"),
    ("arg_max", "use last_value(x ORDER BY y NULLS FIRST)"),
    ("arg_min", "use first_value(x ORDER BY y)"),
    ("argmax", "use last_value(x ORDER BY y)"),
    ("argmin", "use first_value(x ORDER BY y)"),
    (
        "array",
        "use array_agg(…) for a query, and [a, b] for values",
    ),
    ("charindex", "use strpos(text, part)"),
    ("convert_timezone", "use AT TIME ZONE"),
    ("date_add", "add an interval: timestamp + INTERVAL '1 day'"),
    (
        "date_sub",
        "subtract an interval: timestamp - INTERVAL '1 day'",
    ),
    ("datename", "use to_char(timestamp, 'FMMonth')"),
    ("dayname", "use to_char(timestamp, 'FMDay')"),
    (
        "dayofweek",
        "use date_part('dow', timestamp), from 0 for Sunday, or 'isodow', from 1 for Monday",
    ),
    ("epoch", "use date_part('epoch', timestamp)"),
    (
        "epoch_ms",
        "use to_timestamp_millis(number), or date_part('epoch', timestamp) * 1000",
    ),
    ("first", "use first_value(x ORDER BY timestamp)"),
    ("group_concat", "use string_agg(text, ',' ORDER BY …)"),
    ("if", "use CASE WHEN … THEN … ELSE … END"),
    ("iif", "use CASE WHEN … THEN … ELSE … END"),
    ("isnull", "use coalesce(x, y), or x IS NULL"),
    ("last", "use last_value(x ORDER BY timestamp)"),
    ("listagg", "use string_agg(text, ',' ORDER BY …)"),
    ("max_by", "use last_value(x ORDER BY y NULLS FIRST)"),
    ("min_by", "use first_value(x ORDER BY y)"),
    (
        "mode",
        "group by the value, and use ORDER BY count(*) DESC LIMIT 1",
    ),
    ("monthname", "use to_char(timestamp, 'FMMonth')"),
    (
        "percentile_disc",
        "use percentile_cont(…) WITHIN GROUP (ORDER BY …)",
    ),
    (
        "quantile",
        "use percentile_cont(…) WITHIN GROUP (ORDER BY …)",
    ),
    ("regexp_extract", "use regexp_match(text, pattern)"),
    ("regexp_substr", "use regexp_match(text, pattern)"),
    (
        "string_split",
        "use split_part(text, separator, number), or string_to_array(text, separator)",
    ),
    (
        "time_bucket",
        "use date_bin(INTERVAL '15 minutes', timestamp)",
    ),
    (
        "timestampadd",
        "add an interval: timestamp + INTERVAL '1 day'",
    ),
    ("timestampdiff", "use date_diff('day', start, end)"),
    ("to_number", "use CAST(text AS DOUBLE)"),
    ("toyear", "use date_part('year', timestamp)"),
    (
        "week",
        "use date_part('week', timestamp), the week of ISO 8601",
    ),
    (
        "weekday",
        "use date_part('dow', timestamp), from 0 for Sunday, or 'isodow', from 1 for Monday",
    ),
    (
        "weekofyear",
        "use date_part('week', timestamp), the week of ISO 8601",
    ),
    (
        "width_bucket",
        "use floor((x - low) / (high - low) * count) + 1",
    ),
];

/// Returns what to use instead of a function of another database; `None` for other functions.
pub(super) fn remedy(name: &str) -> Option<&'static str> {
    let at = REMEDIES.binary_search_by_key(&name, |(known, _)| *known);
    REMEDIES.get(at.ok()?).map(|(_, remedy)| *remedy)
}

#[cfg(test)]
mod tests {
    use datafusion::functions::all_default_functions;
    use datafusion::functions_aggregate::all_default_aggregate_functions;
    use datafusion::functions_nested::all_default_nested_functions;

    use super::*;

    #[test]
    fn foreign_functions_are_sorted_and_do_not_exist_here() {
        assert!(REMEDIES.is_sorted_by_key(|(name, _)| *name));
        assert!(remedy("max_by").is_some() && remedy("avg").is_none());
        let scalars = all_default_functions().into_iter();
        let scalars = scalars.chain(all_default_nested_functions());
        for function in scalars {
            for name in [function.name()]
                .into_iter()
                .chain(function.aliases().iter().map(String::as_str))
            {
                assert!(remedy(name).is_none(), "{name}");
            }
        }
        for function in all_default_aggregate_functions() {
            for name in [function.name()]
                .into_iter()
                .chain(function.aliases().iter().map(String::as_str))
            {
                assert!(remedy(name).is_none(), "{name}");
            }
        }
    }
}
