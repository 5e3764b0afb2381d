//! PostgreSQL: the cluster of the tests, what stands between it and a client, and the store on it.

mod cluster;
mod copying;
mod ended_records;
mod faults;
mod large_table;
mod model;
mod pauses;
mod pool;
mod proxy;
pub mod replicas;
mod statements;
mod store_suite;

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// The only row and column of the answer.
async fn one(client: &Client, statement: &str) -> Result<String, Error> {
    let answers = client.simple_query(statement).await?;
    let rows = answers.iter().filter_map(|answer| {
        let SimpleQueryMessage::Row(row) = answer else { return None };
        row.get(0)
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), 1, "{statement}");
    Ok(rows[0].to_owned())
}
