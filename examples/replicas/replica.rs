//! The process of a replica.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub(crate) struct Replica {
    process: Child,
    address: SocketAddr,
}

impl Replica {
    /// Starts this program again as a replica. It ends with this value.
    pub(crate) async fn start(name: &str, database: &str, server: &str) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["replica", database, server])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let said = process.stdout.take().context("its output is a pipe")?;
        let first_line = BufReader::new(said).lines().next_line().await?;
        let address = first_line.with_context(|| format!("the {name} replica did not start"))?;
        Ok(Self { process, address: address.parse()? })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// As `kill -9` does: without a shutdown.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.process.start_kill()?)
    }

    /// The process gets no time of the processor until it [goes on](Self::go_on).
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    pub(crate) fn go_on(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(kill_process(id.context("the replica has ended")?, signal)?)
    }
}
