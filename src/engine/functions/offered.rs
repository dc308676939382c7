//! The functions of SQL that are offered, and how far each can go. What is in no table here is in no session.
//!
//! A function gets a line here when it is known how large its results become and how long it works, as a function of its
//! arguments. A test compares the tables with what DataFusion brings, so that a new version of it adds nothing by itself.

/// How large a result becomes, for a batch of rows. A constant beside columns counts once for each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Output {
    /// A value of fixed size for each row.
    Fixed,
    /// At most a small multiple of the arguments.
    Linear,
    /// Lists put together, which may be done again with what comes of it.
    Gathered,
    /// All texts one after the other.
    Concatenated,
    /// The first text as often as the second argument says.
    Repeated,
    /// A text of as many characters as the second argument says.
    Padded,
    /// The first text, with the third in every place of the second.
    Replaced,
    /// The first text, with the third in every place that the pattern matches.
    RegexReplaced,
    /// The values of a list as texts, with the second argument between them.
    Joined,
    /// A list of as many values as the second argument says.
    Listed,
    /// A list of the values between the first and the second argument, with the third as the step.
    Between,
    /// As many values as the type has that is named.
    Typed,
}

/// How long a call works, for a batch of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Work {
    /// In proportion to the arguments and the result.
    Linear,
    /// The bytes of the first text times those of the second.
    TextProduct,
    /// The values of the first list times those of the second.
    ListProduct,
    /// One search for a pattern: the bytes of the text times the states of the pattern.
    Search,
    /// A search from every match on: the bytes of the text squared, times the states of the pattern.
    RepeatedSearch,
    /// One search for a pattern of LIKE.
    LikeSearch,
}

/// How far a function can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Bounds {
    /// The size of results.
    pub output: Output,
    /// The length of a call.
    pub work: Work,
}

const fn bounds(output: Output, work: Work) -> Bounds {
    Bounds { output, work }
}

impl Bounds {
    /// Whether calls have to be looked at before they are made. The others are bounded by the batches that they get: a batch
    /// is bounded itself, and so is the memory of a query ([`crate::memory`]).
    pub fn must_be_checked(self) -> bool {
        !matches!(self.output, Output::Fixed | Output::Linear) || self.work != Work::Linear
    }
}

const FIXED: Bounds = bounds(Output::Fixed, Work::Linear);
const LINEAR: Bounds = bounds(Output::Linear, Work::Linear);
const TYPED: Bounds = bounds(Output::Typed, Work::Linear);

/// Functions of a row.
pub(super) const SCALAR: &[(&str, Bounds)] = &[
    // Of any values.
    ("nullif", LINEAR),
    ("nvl", LINEAR),
    ("nvl2", LINEAR),
    ("coalesce", LINEAR),
    ("greatest", LINEAR),
    ("least", LINEAR),
    ("arrow_cast", TYPED),
    ("arrow_try_cast", TYPED),
    ("cast_to_type", TYPED),
    ("try_cast_to_type", TYPED),
    ("arrow_typeof", LINEAR),
    ("struct", TYPED),
    ("named_struct", TYPED),
    ("get_field", LINEAR),
    ("union_extract", LINEAR),
    ("union_tag", LINEAR),
    ("version", FIXED),
    // Of times.
    ("current_date", FIXED),
    ("current_time", FIXED),
    ("now", FIXED),
    ("date_bin", FIXED),
    ("date_part", FIXED),
    ("date_trunc", FIXED),
    ("from_unixtime", FIXED),
    ("make_date", FIXED),
    ("make_time", FIXED),
    ("to_char", LINEAR),
    ("to_date", FIXED),
    ("to_local_time", FIXED),
    ("to_time", FIXED),
    ("to_unixtime", FIXED),
    ("to_timestamp", FIXED),
    ("to_timestamp_seconds", FIXED),
    ("to_timestamp_millis", FIXED),
    ("to_timestamp_micros", FIXED),
    ("to_timestamp_nanos", FIXED),
    // Of numbers.
    ("abs", FIXED),
    ("acos", FIXED),
    ("acosh", FIXED),
    ("asin", FIXED),
    ("asinh", FIXED),
    ("atan", FIXED),
    ("atan2", FIXED),
    ("atanh", FIXED),
    ("cbrt", FIXED),
    ("ceil", FIXED),
    ("cos", FIXED),
    ("cosh", FIXED),
    ("cot", FIXED),
    ("degrees", FIXED),
    ("exp", FIXED),
    ("factorial", FIXED),
    ("floor", FIXED),
    ("gcd", FIXED),
    ("isnan", FIXED),
    ("iszero", FIXED),
    ("lcm", FIXED),
    ("ln", FIXED),
    ("log", FIXED),
    ("log2", FIXED),
    ("log10", FIXED),
    ("nanvl", FIXED),
    ("pi", FIXED),
    ("power", FIXED),
    ("radians", FIXED),
    ("random", FIXED),
    ("signum", FIXED),
    ("sin", FIXED),
    ("sinh", FIXED),
    ("sqrt", FIXED),
    ("tan", FIXED),
    ("tanh", FIXED),
    ("round", FIXED),
    ("trunc", FIXED),
    // Of texts.
    ("ascii", FIXED),
    ("bit_length", FIXED),
    ("btrim", bounds(Output::Linear, Work::TextProduct)),
    ("ltrim", bounds(Output::Linear, Work::TextProduct)),
    ("rtrim", bounds(Output::Linear, Work::TextProduct)),
    ("character_length", FIXED),
    ("chr", FIXED),
    ("concat", bounds(Output::Concatenated, Work::Linear)),
    ("concat_ws", bounds(Output::Concatenated, Work::Linear)),
    ("contains", FIXED),
    // At most two characters for each byte, and the other way round.
    ("decode", LINEAR),
    ("encode", LINEAR),
    ("ends_with", FIXED),
    ("find_in_set", bounds(Output::Fixed, Work::TextProduct)),
    ("initcap", LINEAR),
    ("left", LINEAR),
    ("levenshtein", bounds(Output::Fixed, Work::TextProduct)),
    ("lower", LINEAR),
    ("lpad", bounds(Output::Padded, Work::Linear)),
    ("octet_length", FIXED),
    ("overlay", LINEAR),
    ("repeat", bounds(Output::Repeated, Work::Linear)),
    ("replace", bounds(Output::Replaced, Work::Linear)),
    ("reverse", LINEAR),
    ("right", LINEAR),
    ("rpad", bounds(Output::Padded, Work::Linear)),
    ("split_part", LINEAR),
    ("starts_with", FIXED),
    ("strpos", bounds(Output::Fixed, Work::TextProduct)),
    ("substr", LINEAR),
    ("substr_index", LINEAR),
    ("to_hex", FIXED),
    ("translate", LINEAR),
    ("upper", LINEAR),
    ("uuid", FIXED),
    ("regexp_count", bounds(Output::Fixed, Work::RepeatedSearch)),
    ("regexp_instr", bounds(Output::Fixed, Work::RepeatedSearch)),
    ("regexp_like", bounds(Output::Fixed, Work::Search)),
    ("regexp_match", bounds(Output::Linear, Work::RepeatedSearch)),
    (
        "regexp_replace",
        bounds(Output::RegexReplaced, Work::RepeatedSearch),
    ),
    // Of lists and maps.
    ("array_add", LINEAR),
    ("array_any_value", LINEAR),
    ("array_append", LINEAR),
    ("array_avg", FIXED),
    ("array_compact", LINEAR),
    ("array_concat", bounds(Output::Gathered, Work::Linear)),
    ("array_dims", LINEAR),
    ("array_distance", FIXED),
    ("array_distinct", LINEAR),
    ("array_element", LINEAR),
    ("array_except", bounds(Output::Linear, Work::ListProduct)),
    ("array_has", FIXED),
    ("array_has_all", bounds(Output::Fixed, Work::ListProduct)),
    ("array_has_any", bounds(Output::Fixed, Work::ListProduct)),
    ("array_intersect", bounds(Output::Linear, Work::ListProduct)),
    ("array_length", FIXED),
    ("array_max", LINEAR),
    ("array_min", LINEAR),
    ("array_ndims", FIXED),
    ("array_normalize", LINEAR),
    ("array_pop_back", LINEAR),
    ("array_pop_front", LINEAR),
    ("array_position", FIXED),
    ("array_positions", LINEAR),
    ("array_prepend", LINEAR),
    ("array_product", FIXED),
    ("array_remove", LINEAR),
    ("array_remove_all", LINEAR),
    ("array_remove_n", LINEAR),
    ("array_repeat", bounds(Output::Listed, Work::Linear)),
    ("array_replace", LINEAR),
    ("array_replace_all", LINEAR),
    ("array_replace_n", LINEAR),
    ("array_resize", bounds(Output::Listed, Work::Linear)),
    ("array_reverse", LINEAR),
    ("array_scale", LINEAR),
    ("array_slice", LINEAR),
    ("array_sort", LINEAR),
    ("array_subtract", LINEAR),
    ("array_sum", FIXED),
    ("array_to_string", bounds(Output::Joined, Work::Linear)),
    ("array_union", bounds(Output::Linear, Work::ListProduct)),
    ("arrays_zip", LINEAR),
    ("cardinality", FIXED),
    ("cosine_distance", FIXED),
    ("empty", FIXED),
    ("flatten", LINEAR),
    ("generate_series", bounds(Output::Between, Work::Linear)),
    ("inner_product", FIXED),
    ("make_array", LINEAR),
    ("map", LINEAR),
    ("map_entries", LINEAR),
    ("map_extract", LINEAR),
    ("map_keys", LINEAR),
    ("map_values", LINEAR),
    ("range", bounds(Output::Between, Work::Linear)),
    ("string_to_array", LINEAR),
];

/// Functions that take a function. What that makes of the values is bounded as elsewhere.
pub(super) const HIGHER_ORDER: &[&str] = &[
    "array_any_match",
    "array_filter",
    "array_first",
    "array_transform",
];

/// Functions of many rows. What they keep is counted against the query's memory; [`super::arguments`] bounds those whose
/// arguments say how much that is.
pub(super) const AGGREGATE: &[&str] = &[
    "any_value",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "first_value",
    "grouping",
    "last_value",
    "max",
    "median",
    "min",
    "nth_value",
    "percentile_cont",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "string_agg",
    "sum",
    "var",
    "var_pop",
];

/// Functions of a row among others.
pub(super) const WINDOW: &[&str] = &[
    "cume_dist",
    "dense_rank",
    "first_value",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
];

/// Functions that are tables; their rows are made as they are read.
pub(super) const TABLE: &[&str] = &["generate_series", "range"];

/// Functions that DataFusion has and that are not offered. They show what is the server's alone: paths, rows that others own,
/// and what files say of their columns.
pub(super) const NOT_CALLED: &[&str] = &[
    "arrow_field",
    "arrow_metadata",
    "file_row_index",
    "input_file_name",
    "with_metadata",
];
