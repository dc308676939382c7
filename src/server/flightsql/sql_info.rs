//! Information about the server and its SQL for drivers. There is a correct value for every item that drivers read.

use std::collections::HashMap;
use std::sync::LazyLock;

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity,
    SqlSupportedTransaction, SqlSupportsConvert, XdbcDataType, XdbcDatetimeSubcode,
};

/// The result of GetSqlInfo.
pub(in crate::server) static SQL_INFO: LazyLock<Result<SqlInfoData, FlightError>> =
    LazyLock::new(|| sql_info().build());

/// The result of GetXdbcTypeInfo.
pub(in crate::server) static XDBC_TYPES: LazyLock<Result<XdbcTypeInfoData, FlightError>> =
    LazyLock::new(xdbc_types);

/// The supported version of the Arrow format.
const ARROW_FORMAT: &str = "1.5.0";
/// Functions that tools suggest in their editors.
const NUMERIC_FUNCTIONS: &[&str] = &[
    "abs", "acos", "asin", "atan", "atan2", "cbrt", "ceil", "cos", "degrees", "exp", "floor", "ln",
    "log", "log10", "log2", "pi", "power", "radians", "random", "round", "signum", "sin", "sqrt",
    "tan", "trunc",
];
const STRING_FUNCTIONS: &[&str] = &[
    "ascii",
    "btrim",
    "character_length",
    "chr",
    "concat",
    "concat_ws",
    "initcap",
    "left",
    "lower",
    "lpad",
    "ltrim",
    "regexp_like",
    "regexp_match",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "translate",
    "trim",
    "upper",
];
const DATETIME_FUNCTIONS: &[&str] = &[
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "from_unixtime",
    "make_date",
    "now",
    "to_char",
    "to_date",
    "to_local_time",
    "to_timestamp",
    "to_unixtime",
];
const SYSTEM_FUNCTIONS: &[&str] = &[
    "arrow_cast",
    "arrow_typeof",
    "coalesce",
    "nullif",
    "nvl",
    "spec_in",
    "spec_unit",
    "spec_value",
    "version",
];
/// Keywords that are reserved here and not in SQL:2003.
const KEYWORDS: &[&str] = &[
    "ANALYZE", "ANTI", "ASOF", "EXPLAIN", "ILIKE", "LIMIT", "OFFSET", "QUALIFY", "SEMI", "SHOW",
];

fn sql_info() -> SqlInfoDataBuilder {
    let mut info = SqlInfoDataBuilder::new();
    append_server_info(&mut info);
    append_language_info(&mut info);
    append_limits(&mut info);
    info
}

fn append_server_info(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::FlightSqlServerName, "plantlake");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, ARROW_FORMAT);
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerSubstraitMinVersion, "");
    info.append(SqlInfo::FlightSqlServerSubstraitMaxVersion, "");
    info.append(
        SqlInfo::FlightSqlServerTransaction,
        SqlSupportedTransaction::None as i32,
    );
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 0_i32);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0_i32);
}

fn append_language_info(info: &mut SqlInfoDataBuilder) {
    for no in [
        SqlInfo::SqlDdlCatalog,
        SqlInfo::SqlDdlSchema,
        SqlInfo::SqlDdlTable,
        SqlInfo::SqlSupportsIntegrityEnhancementFacility,
        SqlInfo::SqlSelectForUpdateSupported,
        SqlInfo::SqlStoredProceduresSupported,
        SqlInfo::SqlMaxRowSizeIncludesBlobs,
        SqlInfo::SqlTransactionsSupported,
        SqlInfo::SqlDataDefinitionCausesTransactionCommit,
        SqlInfo::SqlDataDefinitionsInTransactionsIgnored,
        SqlInfo::SqlBatchUpdatesSupported,
        SqlInfo::SqlSavepointsSupported,
        SqlInfo::SqlNamedParametersSupported,
        SqlInfo::SqlLocatorsUpdateCopy,
        SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported,
    ] {
        info.append(no, false);
    }
    for yes in [
        SqlInfo::SqlAllTablesAreSelectable,
        SqlInfo::SqlSupportsColumnAliasing,
        SqlInfo::SqlNullPlusNullIsNull,
        SqlInfo::SqlSupportsTableCorrelationNames,
        SqlInfo::SqlSupportsExpressionsInOrderBy,
        SqlInfo::SqlSupportsOrderByUnrelated,
        SqlInfo::SqlSupportsLikeEscapeClause,
        SqlInfo::SqlSupportsNonNullableColumns,
        SqlInfo::SqlCatalogAtStart,
        SqlInfo::SqlCorrelatedSubqueriesSupported,
    ] {
        info.append(yes, true);
    }
    // An alias may equal the name of another table.
    info.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    let lower = SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32;
    let exact = SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32;
    info.append(SqlInfo::SqlIdentifierCase, lower);
    info.append(SqlInfo::SqlQuotedIdentifierCase, exact);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(
        SqlInfo::SqlNullOrdering,
        SqlNullOrdering::SqlNullsSortedHigh as i32,
    );
    info.append(SqlInfo::SqlKeywords, KEYWORDS);
    info.append(SqlInfo::SqlNumericFunctions, NUMERIC_FUNCTIONS);
    info.append(SqlInfo::SqlStringFunctions, STRING_FUNCTIONS);
    info.append(SqlInfo::SqlSystemFunctions, SYSTEM_FUNCTIONS);
    info.append(SqlInfo::SqlDatetimeFunctions, DATETIME_FUNCTIONS);
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlProcedureTerm, "procedure");
    // Bits, as FlightSql.proto numbers them: each value is the position of its bit.
    info.append(SqlInfo::SqlSupportedGroupBy, 0b111_i32);
    info.append(SqlInfo::SqlSupportedGrammar, 0b111_i32);
    info.append(SqlInfo::SqlAnsi92SupportedLevel, 0b001_i32);
    info.append(SqlInfo::SqlOuterJoinsSupportLevel, 0b110_i32);
    // Procedure calls, index definitions and privilege definitions do not exist, so no bit is set. Names may be qualified
    // in SELECT only.
    info.append(SqlInfo::SqlSchemasSupportedActions, 0_i32);
    info.append(SqlInfo::SqlCatalogsSupportedActions, 0_i32);
    info.append(SqlInfo::SqlSupportedPositionedCommands, 0_i32);
    info.append(SqlInfo::SqlSupportedSubqueries, 0b1111_i32);
    info.append(SqlInfo::SqlSupportedUnions, 0b11_i32);
    // No transactions; a query sees one set of table versions.
    info.append(SqlInfo::SqlDefaultTransactionIsolation, 0_i64);
    info.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, 0b1_i32);
    // Forward only, read only.
    info.append(SqlInfo::SqlSupportedResultSetTypes, 0b10_i32);
    for concurrency in [
        SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified,
        SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive,
    ] {
        info.append(concurrency, 0b10_i32);
    }
    let numbers: Vec<i32> = [
        SqlSupportsConvert::SqlConvertInteger,
        SqlSupportsConvert::SqlConvertBigint,
        SqlSupportsConvert::SqlConvertFloat,
        SqlSupportsConvert::SqlConvertReal,
        SqlSupportsConvert::SqlConvertVarchar,
    ]
    .map(|kind| kind as i32)
    .to_vec();
    let conversions: HashMap<i32, Vec<i32>> = numbers
        .iter()
        .map(|from| (*from, numbers.clone()))
        .collect();
    info.append(SqlInfo::SqlSupportsConvert, &conversions);
}

/// Zero means no limit, or no known limit.
fn append_limits(info: &mut SqlInfoDataBuilder) {
    for unlimited in [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxConnections,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTableNameLength,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
    ] {
        info.append(unlimited, 0_i64);
    }
    info.append(
        SqlInfo::SqlMaxStatementLength,
        crate::engine::MAX_SQL_BYTES as i64,
    );
}

fn xdbc_types() -> Result<XdbcTypeInfoData, FlightError> {
    let mut types = XdbcTypeInfoDataBuilder::new();
    // `scale` is the maximum scale; the minimum is 0. Floating-point numbers have none.
    let number = |name: &str, kind, digits, scale: Option<i32>| XdbcTypeInfo {
        searchable: Searchable::Basic,
        unsigned_attribute: Some(false),
        num_prec_radix: Some(10),
        minimum_scale: scale.map(|_| 0),
        maximum_scale: scale,
        ..base_type_info(name, kind, digits)
    };
    let quoted = |name: &str, kind, size| XdbcTypeInfo {
        literal_prefix: Some("'".to_owned()),
        literal_suffix: Some("'".to_owned()),
        ..base_type_info(name, kind, size)
    };
    types.append(base_type_info("BOOLEAN", XdbcDataType::XdbcBit, Some(1)));
    types.append(number(
        "TINYINT",
        XdbcDataType::XdbcTinyint,
        Some(3),
        Some(0),
    ));
    types.append(number(
        "BIGINT",
        XdbcDataType::XdbcBigint,
        Some(19),
        Some(0),
    ));
    types.append(quoted("VARBINARY", XdbcDataType::XdbcVarbinary, None));
    types.append(number(
        "DECIMAL",
        XdbcDataType::XdbcDecimal,
        Some(38),
        Some(38),
    ));
    types.append(number(
        "INTEGER",
        XdbcDataType::XdbcInteger,
        Some(10),
        Some(0),
    ));
    types.append(number(
        "SMALLINT",
        XdbcDataType::XdbcSmallint,
        Some(5),
        Some(0),
    ));
    types.append(number("FLOAT", XdbcDataType::XdbcFloat, Some(7), None));
    types.append(number("DOUBLE", XdbcDataType::XdbcDouble, Some(15), None));
    types.append(XdbcTypeInfo {
        case_sensitive: true,
        searchable: Searchable::Full,
        ..quoted("VARCHAR", XdbcDataType::XdbcVarchar, None)
    });
    types.append(XdbcTypeInfo {
        // FlightSql.proto gives year and date the number 1; the generated code has one name for both.
        datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeYear),
        sql_data_type: XdbcDataType::XdbcDatetime,
        ..quoted("DATE", XdbcDataType::XdbcDate, Some(10))
    });
    types.append(XdbcTypeInfo {
        datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTime),
        sql_data_type: XdbcDataType::XdbcDatetime,
        ..quoted("TIME", XdbcDataType::XdbcTime, Some(15))
    });
    types.append(XdbcTypeInfo {
        datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTimestamp),
        sql_data_type: XdbcDataType::XdbcDatetime,
        ..quoted("TIMESTAMP", XdbcDataType::XdbcTimestamp, Some(26))
    });
    types.append(XdbcTypeInfo {
        datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTimestampWithTimezone),
        sql_data_type: XdbcDataType::XdbcDatetime,
        ..quoted(
            "TIMESTAMP WITH TIME ZONE",
            XdbcDataType::XdbcTimestamp,
            Some(32),
        )
    });
    types.build()
}

fn base_type_info(name: &str, kind: XdbcDataType, size: Option<i32>) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type: kind,
        column_size: size,
        literal_prefix: None,
        literal_suffix: None,
        create_params: None,
        nullable: Nullable::NullabilityNullable,
        case_sensitive: false,
        searchable: Searchable::Basic,
        unsigned_attribute: None,
        fixed_prec_scale: false,
        auto_increment: Some(false),
        local_type_name: Some(name.to_owned()),
        minimum_scale: None,
        maximum_scale: None,
        sql_data_type: kind,
        datetime_subcode: None,
        num_prec_radix: None,
        interval_precision: None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn xdbc_types_of_numbers_have_scales_from_zero() {
        let types = xdbc_types().unwrap().record_batch(None::<i32>).unwrap();
        let names = types["type_name"].as_string::<i32>();
        let number = |column: &str, row: usize| {
            let values = types[column].as_primitive::<Int32Type>();
            values.is_valid(row).then(|| values.value(row))
        };
        for (name, minimum, maximum) in [
            ("DECIMAL", Some(0), Some(38)),
            ("BIGINT", Some(0), Some(0)),
            ("DOUBLE", None, None),
            ("VARCHAR", None, None),
        ] {
            let row = names.iter().position(|found| found == Some(name)).unwrap();
            let scales = (number("minimum_scale", row), number("maximum_scale", row));
            assert_eq!(scales, (minimum, maximum), "{name}");
        }
    }
}
