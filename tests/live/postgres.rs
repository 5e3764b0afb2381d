//! PostgreSQL: the cluster of the tests, and what stands between it and a client.

mod cluster;
mod pool;
mod proxy;
mod store_suite;

use tokio_postgres::{Client, Error, NoTls};

/// A connection by URL, as a service makes it.
async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The only row and column of the answer.
async fn one(client: &Client, statement: &str) -> Result<String, Error> {
    let answers = client.simple_query(statement).await?;
    let rows = answers.iter().filter_map(|answer| match answer {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), 1, "{statement}");
    Ok(rows[0].to_owned())
}
