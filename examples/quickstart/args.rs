//! The arguments of the command line.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use lexopt::Arg::Long;
use lexopt::ValueExt;
use session_warden::policy::ProviderLimits;
use session_warden::provider::Rotation;
use session_warden::provider::oauth2::{ClientCredentials, Grant, OAuth2, Password};

const HELP: &str = "\
Keeps device sessions alive under load while their actors are killed: at a strict server of its
own, whose tokens live for 2 s, or at any OAuth 2.0 server that is found by discovery.

  --sessions N             how many sessions (1000)
  --seconds N              for how long tokens are asked for (10)
  --exchanges N            how many requests for tokens may be open at once (64)
  --rotation HOW           what the server does to a used refresh token: strict (the default, which
                           is safe with every server), static, idempotent:SECONDS, fork:SECONDS
                           or newest_only:SECONDS; the example's own server does that
  --grant GRANT            password (the default) or client_credentials
  --issuer URL             the server: https, or http to 127.0.0.1 or [::1]
  --client-id ID           who asks
  --client-secret SECRET   sent as HTTP Basic; without it the client is a public one
  --username NAME          whose sessions
  --password PASSWORD      likewise
  --scope SCOPE            what to ask for";

pub(crate) struct Args(BTreeMap<String, String>);

impl Args {
    /// None after `--help`, which prints the help.
    pub(crate) fn parse() -> anyhow::Result<Option<Self>> {
        let mut given = BTreeMap::new();
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            let Long(name) = argument else { return Err(argument.unexpected().into()) };
            if name == "help" {
                println!("{HELP}");
                return Ok(None);
            }
            // An option must be in the help text.
            ensure!(HELP.contains(&format!("  --{name} ")), "--{name} is not known (see --help)");
            given.insert(name.to_owned(), parser.value()?.string()?);
        }
        Ok(Some(Self(given)))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str, usual: u32) -> anyhow::Result<u32> {
        self.get(name).map_or(Ok(usual), str::parse).with_context(|| format!("--{name}"))
    }

    /// The value given; only this example's own server has a default.
    fn needed<'a>(&'a self, name: &str, ours: &'a str) -> anyhow::Result<&'a str> {
        let usual = self.get("issuer").is_none().then_some(ours);
        self.get(name).or(usual).with_context(|| format!("--issuer needs --{name} (see --help)"))
    }

    /// What the server does to a refresh token that was used.
    pub(crate) fn rotation(&self) -> anyhow::Result<Rotation> {
        let how = self.get("rotation").unwrap_or("strict");
        let (name, seconds) = match how.split_once(':') {
            Some((name, seconds)) => (name, Some(seconds)),
            None => (how, None),
        };
        let seconds = seconds.map(str::parse).transpose().context("--rotation: the SECONDS")?;
        Ok(match (name, seconds.map(Duration::from_secs)) {
            ("strict", None) => Rotation::Strict,
            ("static", None) => Rotation::Static,
            ("idempotent", Some(grace)) => Rotation::Idempotent(grace),
            ("fork", Some(grace)) => Rotation::Fork(grace),
            ("newest_only", Some(grace)) => Rotation::NewestOnly(grace),
            _ => bail!(
                "--rotation is strict, static, idempotent:SECONDS, fork:SECONDS or \
                 newest_only:SECONDS, not {how}"
            ),
        })
    }

    pub(crate) fn limits(&self) -> anyhow::Result<ProviderLimits> {
        let usual = ProviderLimits::default();
        let exchanges = self.number("exchanges", usual.exchanges as u32)? as usize;
        ensure!(exchanges > 0, "--exchanges: at least one must be allowed");
        Ok(ProviderLimits { exchanges, ..usual })
    }

    /// A client of the server with this issuer, and the grant for its sessions.
    pub(crate) fn provider(&self, issuer: &str) -> anyhow::Result<(OAuth2, Grant)> {
        let client = OAuth2::discover(issuer, self.needed("client-id", "quickstart")?)?;
        let mut client = client.rotation(self.rotation()?);
        if let Some(secret) = self.get("client-secret") {
            client = client.client_secret_basic(secret);
        }
        if let Some(scope) = self.get("scope") {
            client = client.scope(scope);
        }
        match self.get("grant").unwrap_or("password") {
            "password" => {
                let user = self.needed("username", "somebody")?;
                Ok((client, Password::new(user, self.needed("password", "ok")?).into()))
            }
            "client_credentials" => {
                Ok((client.client_credentials(), ClientCredentials::new().into()))
            }
            other => bail!("--grant is password or client_credentials, not {other}"),
        }
    }
}
