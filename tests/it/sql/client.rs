//! The client of the arrow-flight crate, as the database of the `.slt` runner.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_flight::FlightInfo;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use async_trait::async_trait;
use futures::TryStreamExt;
use sqllogictest::{AsyncDB, ColumnType, DBOutput};
use tonic::transport::{Channel, Endpoint};

/// A connection of the arrow-flight crate.
pub type Client = FlightSqlServiceClient<Channel>;

/// Connects without a credential.
pub async fn connect(address: &str) -> Client {
    let endpoint = Endpoint::new(address.to_owned()).unwrap();
    Client::new(endpoint.connect().await.unwrap())
}

/// Returns all rows of a result.
pub async fn fetch(client: &mut Client, info: FlightInfo) -> Result<Vec<RecordBatch>, FlightError> {
    let mut rows = Vec::new();
    for endpoint in info.endpoint {
        let ticket = endpoint.ticket.unwrap();
        let stream = client.do_get(ticket).await?;
        rows.extend(stream.try_collect::<Vec<_>>().await?);
    }
    Ok(rows)
}

/// Runs the runner's statements on the server.
pub struct Asker(Client);

impl Asker {
    /// Connects with an API key.
    pub async fn connect(address: &str, key: String) -> Result<Self, FlightError> {
        let mut client = connect(address).await;
        client.set_token(key);
        Ok(Self(client))
    }
}

/// The type of a column, as `.slt` files denote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Integer,
    Number,
    Text,
    Instant,
    Other,
}

impl ColumnType for Kind {
    fn from_char(letter: char) -> Option<Self> {
        Some(match letter {
            'B' => Self::Boolean,
            'I' => Self::Integer,
            'R' => Self::Number,
            'T' => Self::Text,
            'P' => Self::Instant,
            '?' => Self::Other,
            _ => return None,
        })
    }

    fn to_char(&self) -> char {
        match self {
            Self::Boolean => 'B',
            Self::Integer => 'I',
            Self::Number => 'R',
            Self::Text => 'T',
            Self::Instant => 'P',
            Self::Other => '?',
        }
    }
}

fn kind_of(kind: &DataType) -> Kind {
    match kind {
        DataType::Boolean => Kind::Boolean,
        kind if kind.is_integer() => Kind::Integer,
        kind if kind.is_numeric() => Kind::Number,
        DataType::Utf8 => Kind::Text,
        DataType::Timestamp(..) | DataType::Date32 => Kind::Instant,
        _ => Kind::Other,
    }
}

#[async_trait]
impl AsyncDB for Asker {
    type Error = FlightError;
    type ColumnType = Kind;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Kind>, FlightError> {
        let info = self.0.execute(sql.to_owned(), None).await?;
        if info.endpoint.is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        let schema = info.clone().try_decode_schema()?;
        let mut rows = Vec::new();
        for batch in fetch(&mut self.0, info).await? {
            assert_eq!(
                batch.schema().as_ref(),
                &schema,
                "the schema was another before"
            );
            rows.extend(lines(&batch)?);
        }
        let types = schema.fields().iter();
        let types = types.map(|field| kind_of(field.data_type())).collect();
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "plantlake"
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

fn lines(batch: &RecordBatch) -> Result<Vec<Vec<String>>, FlightError> {
    let options = FormatOptions::new()
        .with_null("NULL")
        .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.f%Z"));
    let columns = batch.columns().iter();
    let columns = columns
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<Vec<_>, _>>()?;
    let shown = |text: String| match text.as_str() {
        "" => "(empty)".to_owned(),
        _ => text.replace('\n', "\\n"),
    };
    let row = |at: usize| {
        let cells = columns.iter();
        cells
            .map(|column| shown(column.value(at).to_string()))
            .collect()
    };
    Ok((0..batch.num_rows()).map(row).collect())
}
