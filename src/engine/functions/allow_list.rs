//! The supported SQL functions with their bounds. A function that is in no table here is in no session.
//!
//! A function is added here once the size of its results and its run time are known as functions of its arguments. A
//! test compares the tables with DataFusion's functions, so that a new version of DataFusion adds none unnoticed.

/// The size of a result for a batch of rows. A constant argument beside columns counts once for each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Output {
    /// A value of fixed size for each row.
    Fixed,
    /// At most a small multiple of the arguments.
    Linear,
    /// Concatenated lists. The result may be concatenated again.
    ConcatenatedLists,
    /// All texts, concatenated.
    Concatenated,
    /// The first text, repeated as often as the second argument says.
    Repeated,
    /// A text whose number of characters is the second argument.
    Padded,
    /// The first text, with the second replaced by the third.
    Replaced,
    /// The first text, with each match of the pattern replaced by the third.
    RegexReplaced,
    /// The values of a list as texts, with the second argument between them.
    Joined,
    /// A list whose number of values is the second argument.
    SizedList,
    /// A list of the values between the first and the second argument, with the third as the step.
    Range,
    /// A value of the type that an argument names.
    NamedType,
}

/// The run time of a call for a batch of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Work {
    /// The same for each row, whatever the arguments are.
    Constant,
    /// Proportional to the bytes of the arguments and the result.
    Linear,
    /// Proportional to the values of the arguments, each of which is hashed, compared or copied separately.
    EachValue,
    /// The product of the lengths of the first and the second text, in bytes.
    TextProduct,
    /// The product of the numbers of values in the first and the second list.
    ListProduct,
    /// One search for a regular expression: the bytes of the text times the states of the pattern.
    Search,
    /// A search from every match on: the bytes of the text squared, times the states of the pattern.
    RepeatedSearch,
    /// One search for a LIKE pattern.
    LikeSearch,
}

/// The bounds of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Bounds {
    /// The size of results.
    pub output: Output,
    /// The run time of a call.
    pub work: Work,
}

const fn bounds(output: Output, work: Work) -> Bounds {
    Bounds { output, work }
}

impl Bounds {
    /// Whether the costs of a call must be checked before it is made. The other functions take little time for each
    /// row.
    pub fn is_check_required(self) -> bool {
        !(self.work == Work::Constant && matches!(self.output, Output::Fixed | Output::Linear))
    }

    /// Whether the expression that a call is simplified to, an operator or another call, has the same bounds.
    pub fn is_kept_by_simplification(self) -> bool {
        let is_of_arguments = matches!(
            self.output,
            Output::Fixed | Output::Linear | Output::NamedType
        );
        let is_of_values = matches!(self.work, Work::Constant | Work::Linear | Work::EachValue);
        is_of_arguments && is_of_values
    }

    /// Whether both result and work are proportional to the arguments.
    pub fn is_proportional(self) -> bool {
        self.is_kept_by_simplification() && self.output != Output::NamedType
    }
}

/// A number or a time for each row, computed from numbers and times.
const FIXED: Bounds = bounds(Output::Fixed, Work::Constant);
/// A number for each text or list, which is scanned once.
const SCANNED: Bounds = bounds(Output::Fixed, Work::Linear);
const LINEAR: Bounds = bounds(Output::Linear, Work::Linear);
const EACH_VALUE: Bounds = bounds(Output::Linear, Work::EachValue);
/// One of the arguments or a part of one, unchanged.
const CHOSEN: Bounds = bounds(Output::Linear, Work::Constant);
const TYPED: Bounds = bounds(Output::NamedType, Work::Linear);

/// Scalar functions with their bounds.
pub(super) const SCALAR: &[(&str, Bounds)] = &[
    // Functions of any values.
    ("nullif", LINEAR),
    ("nvl", CHOSEN),
    ("nvl2", CHOSEN),
    ("coalesce", CHOSEN),
    ("greatest", LINEAR),
    ("least", LINEAR),
    ("arrow_cast", TYPED),
    ("arrow_try_cast", TYPED),
    ("cast_to_type", TYPED),
    ("try_cast_to_type", TYPED),
    ("arrow_typeof", CHOSEN),
    ("struct", TYPED),
    ("named_struct", TYPED),
    ("get_field", CHOSEN),
    ("union_extract", CHOSEN),
    ("union_tag", CHOSEN),
    ("version", FIXED),
    // Functions of times.
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
    ("to_date", SCANNED),
    ("to_local_time", FIXED),
    ("to_time", SCANNED),
    ("to_unixtime", SCANNED),
    ("to_timestamp", SCANNED),
    ("to_timestamp_seconds", SCANNED),
    ("to_timestamp_millis", SCANNED),
    ("to_timestamp_micros", SCANNED),
    ("to_timestamp_nanos", SCANNED),
    // Functions of numbers.
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
    // Functions of texts.
    ("ascii", SCANNED),
    ("bit_length", SCANNED),
    ("btrim", bounds(Output::Linear, Work::TextProduct)),
    ("ltrim", bounds(Output::Linear, Work::TextProduct)),
    ("rtrim", bounds(Output::Linear, Work::TextProduct)),
    ("character_length", SCANNED),
    ("chr", FIXED),
    ("concat", bounds(Output::Concatenated, Work::Linear)),
    ("concat_ws", bounds(Output::Concatenated, Work::Linear)),
    ("contains", SCANNED),
    // Encoding gives at most two characters for each byte; decoding reverses that.
    ("decode", LINEAR),
    ("encode", LINEAR),
    ("ends_with", SCANNED),
    ("find_in_set", bounds(Output::Fixed, Work::TextProduct)),
    ("initcap", EACH_VALUE),
    ("left", EACH_VALUE),
    ("levenshtein", bounds(Output::Fixed, Work::TextProduct)),
    ("lower", LINEAR),
    ("lpad", bounds(Output::Padded, Work::Linear)),
    ("octet_length", SCANNED),
    ("overlay", EACH_VALUE),
    ("repeat", bounds(Output::Repeated, Work::Linear)),
    ("replace", bounds(Output::Replaced, Work::Linear)),
    ("reverse", EACH_VALUE),
    ("right", EACH_VALUE),
    ("rpad", bounds(Output::Padded, Work::Linear)),
    ("split_part", LINEAR),
    ("starts_with", SCANNED),
    ("strpos", bounds(Output::Fixed, Work::TextProduct)),
    ("substr", LINEAR),
    ("substr_index", EACH_VALUE),
    ("to_hex", FIXED),
    ("translate", EACH_VALUE),
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
    // Functions of lists and maps.
    ("array_add", LINEAR),
    ("array_any_value", LINEAR),
    ("array_append", LINEAR),
    ("array_avg", SCANNED),
    ("array_compact", EACH_VALUE),
    (
        "array_concat",
        bounds(Output::ConcatenatedLists, Work::Linear),
    ),
    ("array_dims", EACH_VALUE),
    ("array_distance", SCANNED),
    ("array_distinct", EACH_VALUE),
    ("array_element", LINEAR),
    ("array_except", bounds(Output::Linear, Work::ListProduct)),
    ("array_has", SCANNED),
    ("array_has_all", bounds(Output::Fixed, Work::ListProduct)),
    ("array_has_any", bounds(Output::Fixed, Work::ListProduct)),
    ("array_intersect", bounds(Output::Linear, Work::ListProduct)),
    ("array_length", SCANNED),
    ("array_max", EACH_VALUE),
    ("array_min", EACH_VALUE),
    ("array_ndims", SCANNED),
    ("array_normalize", LINEAR),
    ("array_pop_back", LINEAR),
    ("array_pop_front", LINEAR),
    ("array_position", SCANNED),
    ("array_positions", EACH_VALUE),
    ("array_prepend", LINEAR),
    ("array_product", SCANNED),
    ("array_remove", EACH_VALUE),
    ("array_remove_all", EACH_VALUE),
    ("array_remove_n", EACH_VALUE),
    ("array_repeat", bounds(Output::SizedList, Work::Linear)),
    ("array_replace", EACH_VALUE),
    ("array_replace_all", EACH_VALUE),
    ("array_replace_n", EACH_VALUE),
    ("array_resize", bounds(Output::SizedList, Work::Linear)),
    ("array_reverse", EACH_VALUE),
    ("array_scale", LINEAR),
    ("array_slice", LINEAR),
    ("array_sort", EACH_VALUE),
    ("array_subtract", LINEAR),
    ("array_sum", SCANNED),
    ("array_to_string", bounds(Output::Joined, Work::Linear)),
    ("array_union", bounds(Output::Linear, Work::ListProduct)),
    ("arrays_zip", EACH_VALUE),
    ("cardinality", SCANNED),
    ("cosine_distance", SCANNED),
    ("empty", SCANNED),
    ("flatten", LINEAR),
    ("generate_series", bounds(Output::Range, Work::Linear)),
    ("inner_product", SCANNED),
    ("make_array", LINEAR),
    ("map", EACH_VALUE),
    ("map_entries", EACH_VALUE),
    ("map_extract", EACH_VALUE),
    ("map_keys", LINEAR),
    ("map_values", LINEAR),
    ("range", bounds(Output::Range, Work::Linear)),
    ("string_to_array", EACH_VALUE),
];

/// Functions that take a function. The bounds of the functions that it calls apply there, too.
pub(super) const HIGHER_ORDER: &[&str] = &[
    "array_any_match",
    "array_filter",
    "array_first",
    "array_transform",
];

/// Aggregate functions. Their memory counts towards the query's limit; [`super::arguments`] bounds the arguments that
/// determine it.
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

/// Window functions.
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

/// Table functions. Their rows are generated while they are read.
pub(super) const TABLE: &[&str] = &["generate_series", "range"];

/// Functions of DataFusion that are not supported. They show internals of the server: paths, positions of rows in files
/// that others' rows share, and metadata of columns in files.
pub(super) const UNSUPPORTED: &[&str] = &[
    "arrow_field",
    "arrow_metadata",
    "file_row_index",
    "input_file_name",
    "with_metadata",
];
