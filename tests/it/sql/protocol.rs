//! Tests of the other calls of the arrow-flight crate's client: signing in, preparing, binding, describing, closing.

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow_flight::FlightDescriptor;
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetTables, CommandStatementQuery, ProstMessageExt, SqlInfo,
};
use prost::Message;
use std::sync::Arc;

use crate::sql::client::{Client, connect, fetch};
use crate::sql::plant::Plant;

const BOILER: &str = "11111111-0000-4000-8000-000000000001";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrow_flight_client_is_served() {
    let plant = Plant::start();
    signs_in_with_a_password(&plant).await;
    let mut client = connect(plant.address()).await;
    client.set_token(plant.key("Operators").to_owned());
    prepares_and_binds(&mut client).await;
    describes(&mut client).await;
    is_refused_changes(&mut client).await;
    polls(&mut client).await;
    client.close().await.unwrap();
    let mut stranger = connect(plant.address()).await;
    let refused = stranger.execute("SELECT 1".to_owned(), None).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("no credential was sent")
    );
}

async fn signs_in_with_a_password(plant: &Plant) {
    let mut client = connect(plant.address()).await;
    let key = plant.key("Boilers");
    client.handshake("anyone", key).await.unwrap();
    assert!(client.token().is_some());
    let info = client
        .execute(
            "SELECT count(DISTINCT asset_id) FROM data_d".to_owned(),
            None,
        )
        .await
        .unwrap();
    let rows = fetch(&mut client, info).await.unwrap();
    assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().value(0), 1);
    let mut client = connect(plant.address()).await;
    let refused = client.handshake("anyone", "not a password").await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("wrong e-mail address or password")
    );
}

async fn prepares_and_binds(client: &mut Client) {
    let sql = "SELECT count(*) FROM data_h WHERE asset_id = $1 AND value > $2";
    let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
    let parameters = prepared.parameter_schema().unwrap();
    let types: Vec<&DataType> = parameters
        .fields()
        .iter()
        .map(|field| field.data_type())
        .collect();
    assert_eq!(types, [&DataType::Utf8, &DataType::Float64]);
    assert_eq!(prepared.dataset_schema().unwrap().fields().len(), 1);
    for (value, expected) in [(0.0, 2), (75.0, 1), (1e9, 0)] {
        let columns: [(&str, ArrayRef); 2] = [
            ("$1", Arc::new(StringArray::from(vec![BOILER]))),
            ("$2", Arc::new(Float64Array::from(vec![value]))),
        ];
        prepared
            .set_parameters(RecordBatch::try_from_iter(columns).unwrap())
            .unwrap();
        let info = prepared.execute().await.unwrap();
        let rows = fetch(client, info).await.unwrap();
        assert_eq!(
            rows[0].column(0).as_primitive::<Int64Type>().value(0),
            expected
        );
    }
    prepared.close().await.unwrap();
}

async fn describes(client: &mut Client) {
    let catalogs = client.get_catalogs().await.unwrap();
    assert_eq!(
        texts(&fetch(client, catalogs).await.unwrap(), 0),
        ["plantlake"]
    );
    let schemas = CommandGetDbSchemas::default();
    let schemas = client.get_db_schemas(schemas).await.unwrap();
    let schemas = texts(&fetch(client, schemas).await.unwrap(), 1);
    assert_eq!(
        schemas,
        ["account", "archive", "information_schema", "public"]
    );
    let tables = CommandGetTables {
        table_name_filter_pattern: Some("data\\_%".to_owned()),
        ..CommandGetTables::default()
    };
    let tables = client.get_tables(tables).await.unwrap();
    let tables = texts(&fetch(client, tables).await.unwrap(), 2);
    assert_eq!(tables, ["data_d", "data_h", "data_min"]);
    let types = client.get_table_types().await.unwrap();
    assert_eq!(
        texts(&fetch(client, types).await.unwrap(), 0),
        ["TABLE", "VIEW"]
    );
    let info = client
        .get_sql_info(vec![SqlInfo::FlightSqlServerName])
        .await
        .unwrap();
    assert_eq!(fetch(client, info).await.unwrap()[0].num_rows(), 1);
}

async fn is_refused_changes(client: &mut Client) {
    let refused = client
        .execute_update("DELETE FROM data_d".to_owned(), None)
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("written by its jobs only"), "{refused}");
    let refused = client.begin_transaction().await.unwrap_err().to_string();
    assert!(refused.contains("transaction"), "{refused}");
}

/// Uses the client that tonic generates from Flight's definition, because the crate's own client does not support
/// this call.
async fn polls(client: &mut Client) {
    let command = CommandStatementQuery {
        query: "SELECT count(*) FROM data_d".to_owned(),
        transaction_id: None,
    };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let mut request = tonic::Request::new(descriptor);
    let bearer = format!("Bearer {}", client.token().unwrap());
    request
        .metadata_mut()
        .insert("authorization", bearer.parse().unwrap());
    let polled = client
        .inner_mut()
        .poll_flight_info(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (polled.progress, polled.flight_descriptor),
        (Some(1.0), None)
    );
    let rows = fetch(client, polled.info.unwrap()).await.unwrap();
    assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().value(0), 3);
}

fn texts(rows: &[RecordBatch], column: usize) -> Vec<String> {
    let columns = rows
        .iter()
        .map(|rows| rows.column(column).as_string::<i32>());
    columns.flatten().flatten().map(str::to_owned).collect()
}
