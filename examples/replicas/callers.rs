//! Callers that ask all replicas for tokens all the time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::join_all;
use reqwest::{Client, StatusCode};

/// The pause of a caller between two calls.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Callers {
    replicas: [SocketAddr; 3],
    sessions: usize,
    client: Client,
}

/// How calls ended.
#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) served: u64,
    pub(crate) told_to_retry: u64,
    pub(crate) unanswered: u64,
}

impl Callers {
    pub(crate) fn new(replicas: [SocketAddr; 3], sessions: usize) -> Self {
        Self { replicas, sessions, client: Client::new() }
    }

    /// Signs all devices in, each at another replica than the one before.
    pub(crate) async fn sign_in(&self) -> anyhow::Result<()> {
        for device in 0..self.sessions {
            let replica = self.replicas[device % self.replicas.len()];
            let url = format!("http://{replica}/sign-in/device-{device}");
            let answer = self.client.post(url).send().await?;
            ensure!(answer.status().is_success(), "device {device}: {}", answer.status());
        }
        Ok(())
    }

    /// One caller for each device, who asks one replica after the other.
    pub(crate) async fn run(&self, length: Duration) -> Calls {
        let end = Instant::now() + length;
        let each = join_all((0..self.sessions).map(|device| self.call(device, end))).await;
        each.into_iter().fold(Calls::default(), |all, of| Calls {
            served: all.served + of.served,
            told_to_retry: all.told_to_retry + of.told_to_retry,
            unanswered: all.unanswered + of.unanswered,
        })
    }

    async fn call(&self, device: usize, end: Instant) -> Calls {
        let mut calls = Calls::default();
        for turn in device.. {
            if Instant::now() >= end {
                break;
            }
            match self.token(self.replicas[turn % self.replicas.len()], device).await {
                Some(StatusCode::OK) => calls.served += 1,
                Some(_) => calls.told_to_retry += 1,
                None => calls.unanswered += 1,
            }
            tokio::time::sleep(PAUSE).await;
        }
        calls
    }

    /// How many sessions the first replica cannot serve, however often it is asked.
    pub(crate) async fn lost(&self, patience: Duration) -> anyhow::Result<usize> {
        let end = Instant::now() + patience;
        let served = join_all((0..self.sessions).map(|device| async move {
            while Instant::now() < end {
                if self.token(self.replicas[0], device).await == Some(StatusCode::OK) {
                    return true;
                }
                tokio::time::sleep(PAUSE).await;
            }
            false
        }));
        Ok(served.await.into_iter().filter(|served| !served).count())
    }

    /// The status of the answer; `None` if there is none.
    async fn token(&self, replica: SocketAddr, device: usize) -> Option<StatusCode> {
        let url = format!("http://{replica}/token/device-{device}");
        let request = self.client.get(url).timeout(Duration::from_secs(2));
        request.send().await.ok().map(|answer| answer.status())
    }
}
