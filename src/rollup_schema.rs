//! The columns of the rollup tables, each declared once. The schemas of data files, Delta tables, queries and the mirror,
//! and the table in `docs/sql.md`, are derived from the declarations.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// The column of the asset, the first.
pub const ASSET_COLUMN: &str = "asset_id";
/// The column of the bucket's time, the second.
pub const TIME_COLUMN: &str = "timestamp";

/// Declares the columns in their order, and the type [`Quantity`] with a variant for each.
macro_rules! columns {
    ($($quantity:ident = $name:expr, { $($field:ident: $value:expr,)* })*) => {
        /// The content of a column. A match on it does not compile before it handles a new column.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Quantity {
            $(#[doc = concat!("The content of the column `", $name, "`.")] $quantity,)*
        }

        const COLUMNS: &[Column] = &[
            $(Column { name: $name, quantity: Quantity::$quantity, $($field: $value,)* },)*
        ];
    };
}

// Columns are added at the end, nullable, and with the version that introduces them.
columns! {
    AssetId = "asset_id", {
        kind: ColumnKind::Asset,
        nullable: false,
        meaning: "the asset, a UUID in lower case: `assets.id`",
        unit: None,
        aggregation: Aggregation::Key,
        encoding: ColumnEncoding::Dictionary,
        since: None,
    }
    Timestamp = "timestamp", {
        kind: ColumnKind::Time,
        nullable: false,
        meaning: "the start of the bucket; a reading at its end belongs to the next bucket",
        unit: None,
        aggregation: Aggregation::Key,
        encoding: ColumnEncoding::DeltaBinaryPacked,
        since: None,
    }
    Value = "value", {
        kind: ColumnKind::Double,
        nullable: false,
        meaning: "arithmetic mean of the readings",
        unit: Some(Unit::Sensor),
        aggregation: Aggregation::WeightedMean,
        encoding: ColumnEncoding::Plain,
        since: None,
    }
    Count = "count", {
        kind: ColumnKind::Integer,
        nullable: false,
        meaning: "number of readings; none is counted twice",
        unit: None,
        aggregation: Aggregation::Sum,
        encoding: ColumnEncoding::DeltaBinaryPacked,
        since: None,
    }
    Min = "min", {
        kind: ColumnKind::Double,
        nullable: false,
        meaning: "smallest reading",
        unit: Some(Unit::Sensor),
        aggregation: Aggregation::Min,
        encoding: ColumnEncoding::Plain,
        since: None,
    }
    Max = "max", {
        kind: ColumnKind::Double,
        nullable: false,
        meaning: "largest reading",
        unit: Some(Unit::Sensor),
        aggregation: Aggregation::Max,
        encoding: ColumnEncoding::Plain,
        since: None,
    }
    First = "first", {
        kind: ColumnKind::Double,
        nullable: false,
        meaning: "the earliest reading",
        unit: Some(Unit::Sensor),
        aggregation: Aggregation::First,
        encoding: ColumnEncoding::Plain,
        since: None,
    }
    Last = "last", {
        kind: ColumnKind::Double,
        nullable: false,
        meaning: "the latest reading",
        unit: Some(Unit::Sensor),
        aggregation: Aggregation::Last,
        encoding: ColumnEncoding::Plain,
        since: None,
    }
    Stddev = "stddev", {
        kind: ColumnKind::Double,
        nullable: true,
        meaning: "sample standard deviation; null for a single reading",
        unit: Some(Unit::Sensor),
        aggregation: Aggregation::PooledDeviation,
        encoding: ColumnEncoding::Plain,
        since: None,
    }
}

/// A column of the rollup tables.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The name in files, SQL and the mirror.
    pub name: &'static str,
    /// The content, which determines how it is computed.
    pub quantity: Quantity,
    /// The type.
    pub kind: ColumnKind,
    /// Whether it has nulls. Later columns are nullable, because older rows lack them.
    pub nullable: bool,
    /// The meaning, for the documentation.
    pub meaning: &'static str,
    /// The unit; `None` for a column without one.
    pub unit: Option<Unit>,
    /// The combination of several buckets into one.
    pub aggregation: Aggregation,
    /// The encoding in data files.
    pub encoding: ColumnEncoding,
    /// The version of plantlake that introduced the column; `None` for the original columns, which all tables have.
    pub since: Option<&'static str>,
}

/// The type of a column, from which the types in Arrow, Delta and Postgres are derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// The UUID of an asset. A text in files and SQL, a UUID in the mirror.
    Asset,
    /// An instant, in UTC and microseconds.
    Time,
    /// A floating-point number of 64 bits.
    Double,
    /// A signed integer of 64 bits.
    Integer,
}

/// The unit of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// The unit of the sensor's readings.
    Sensor,
}

/// The combination of the values of several buckets into the value of one coarser bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// The column identifies the bucket.
    Key,
    /// The mean, weighted by the number of readings.
    WeightedMean,
    /// The sum.
    Sum,
    /// The minimum.
    Min,
    /// The maximum.
    Max,
    /// The value of the earliest bucket.
    First,
    /// The value of the latest bucket.
    Last,
    /// The standard deviation of all readings, from the counts, means and deviations of the buckets.
    PooledDeviation,
}

/// The encoding of a column in Parquet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnEncoding {
    /// PLAIN, which all readers support.
    Plain,
    /// A dictionary of the distinct values.
    Dictionary,
    /// DELTA_BINARY_PACKED, which takes a few bits for each integer or time that is close to the previous one.
    DeltaBinaryPacked,
}

impl ColumnKind {
    /// Returns the type in data files.
    pub fn file_type(self) -> DataType {
        match self {
            Self::Asset => {
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
            }
            Self::Time => utc_micros(),
            Self::Double => DataType::Float64,
            Self::Integer => DataType::Int64,
        }
    }

    /// Returns the type in queries.
    pub fn query_type(self) -> DataType {
        match self {
            Self::Asset => DataType::Utf8View,
            Self::Time => utc_micros(),
            Self::Double => DataType::Float64,
            Self::Integer => DataType::Int64,
        }
    }

    /// Returns the type in Postgres, as its function `format_type` names it.
    pub fn postgres_type(self) -> &'static str {
        match self {
            Self::Asset => "uuid",
            Self::Time => "timestamp with time zone",
            Self::Double => "double precision",
            Self::Integer => "bigint",
        }
    }

    /// Returns the type in the documentation of SQL.
    pub fn documented_type(self) -> &'static str {
        match self {
            Self::Asset => "text",
            Self::Time => "instant, UTC, microseconds",
            Self::Double => "double",
            Self::Integer => "bigint",
        }
    }
}

fn utc_micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

impl Unit {
    /// Returns the unit in the documentation.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Sensor => "the sensor's",
        }
    }
}

impl Aggregation {
    /// Returns the SQL expression that aggregates a column over several buckets, in Markdown.
    pub fn documented(self, column: &str) -> String {
        match self {
            Self::Key => String::new(),
            Self::WeightedMean => format!("`sum({column} * count) / sum(count)`"),
            Self::Sum => format!("`sum({column})`"),
            Self::Min => format!("`min({column})`"),
            Self::Max => format!("`max({column})`"),
            Self::First => format!("`first_value({column} ORDER BY timestamp)`"),
            Self::Last => format!("`last_value({column} ORDER BY timestamp)`"),
            Self::PooledDeviation => format!("from `{column}`, `value` and `count`"),
        }
    }
}

/// A set of columns. It is a value, so that tests can work with other columns than the declared ones.
#[derive(Debug, Clone, PartialEq)]
pub struct RollupSchema {
    columns: Arc<[Column]>,
    file_schema: SchemaRef,
}

impl RollupSchema {
    /// Creates a set of columns. The first two must be the asset and the time.
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        let columns: Arc<[Column]> = columns.into_iter().collect();
        let fields = columns
            .iter()
            .map(|column| Field::new(column.name, column.kind.file_type(), column.nullable));
        let file_schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Self {
            columns,
            file_schema,
        }
    }

    /// Returns the columns that this version of plantlake declares.
    pub fn declared() -> &'static Self {
        static DECLARED: LazyLock<RollupSchema> =
            LazyLock::new(|| RollupSchema::new(COLUMNS.iter().cloned()));
        &DECLARED
    }

    /// Returns the declared columns and two nullable ones of numbers, as a later version may declare them. For tests.
    pub fn with_test_columns() -> Self {
        let later = |name, source: Quantity, kind| {
            let source = COLUMNS.iter().find(|column| column.quantity == source);
            source.map(|source| Column {
                name,
                kind,
                nullable: true,
                since: Some("test"),
                ..source.clone()
            })
        };
        let added = [
            later("test_max", Quantity::Max, ColumnKind::Double),
            later("test_count", Quantity::Count, ColumnKind::Integer),
        ];
        Self::new(COLUMNS.iter().cloned().chain(added.into_iter().flatten()))
    }

    /// Returns the columns in their order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Returns the columns that tables of older versions lack.
    pub fn later_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.since.is_some())
    }

    /// Returns the schema of data files, without the partition column of the table.
    pub fn file_schema(&self) -> &SchemaRef {
        &self.file_schema
    }

    /// Returns the columns in queries, without the partition column of the table.
    pub fn query_schema(&self) -> SchemaRef {
        let fields = self
            .columns
            .iter()
            .map(|column| Field::new(column.name, column.kind.query_type(), column.nullable));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Returns the rows of the table in `docs/sql.md`.
    pub fn documentation(&self) -> String {
        let rows = self.columns.iter().map(|column| {
            let since = column.since.map(|version| {
                format!("; since {version}, null in older rows until they are computed again")
            });
            format!(
                "| `{}` | {} | {} | {}{} | {} |\n",
                column.name,
                column.kind.documented_type(),
                column.unit.map_or("", Unit::documented),
                column.meaning,
                since.unwrap_or_default(),
                column.aggregation.documented(column.name),
            )
        });
        rows.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn declaration_begins_with_key_and_adds_nullable_columns_at_the_end() {
        let columns = RollupSchema::declared().columns();
        let names: Vec<_> = columns.iter().map(|column| column.name).collect();
        let original = [
            "asset_id",
            "timestamp",
            "value",
            "count",
            "min",
            "max",
            "first",
            "last",
            "stddev",
        ];
        assert_eq!(names[..9], original, "the original columns are frozen");
        assert_eq!(names[..2], [ASSET_COLUMN, TIME_COLUMN]);
        for (at, column) in columns.iter().enumerate() {
            let is_later = at >= original.len();
            assert_eq!(column.since.is_some(), is_later, "{}: since", column.name);
            assert!(
                column.nullable || !is_later,
                "{} is not nullable",
                column.name
            );
        }
    }

    #[test]
    fn declaration_has_unique_plain_names() {
        let columns = RollupSchema::declared().columns();
        // The partition columns have names, too.
        let mut names = BTreeSet::from(["date", "month", "year"]);
        for column in columns {
            // The statements of the mirror quote names, and its templates use words in capitals.
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(column.name.chars().all(is_plain), "{}", column.name);
            assert!(names.insert(column.name), "{} appears twice", column.name);
        }
    }

    #[test]
    fn encodings_suit_types() {
        for column in RollupSchema::declared().columns() {
            let is_suitable = match column.encoding {
                ColumnEncoding::Plain => true,
                ColumnEncoding::Dictionary => column.kind == ColumnKind::Asset,
                ColumnEncoding::DeltaBinaryPacked => {
                    matches!(column.kind, ColumnKind::Time | ColumnKind::Integer)
                }
            };
            assert!(is_suitable, "{}: {:?}", column.name, column.encoding);
        }
    }

    #[test]
    fn documentation_of_sql_has_the_declared_columns() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql.md");
        let text = std::fs::read_to_string(path).unwrap();
        let rows = RollupSchema::declared().documentation();
        assert!(
            text.contains(&rows),
            "docs/sql.md must have these rows in the section of data_min, data_h and data_d:\n{rows}"
        );
    }
}
