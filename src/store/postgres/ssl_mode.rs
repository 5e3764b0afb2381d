//! Which connections are encrypted, and the parameters of a connection URL that the driver does not
//! know.

use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode as DriverSslMode};

use super::postgres_fault::PostgresFault;

/// Whether connections are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SslMode {
    Disable,
    /// Encrypted, with a certificate of a trusted root that names the host.
    VerifyFull,
}

/// A connection URL, read.
pub(super) struct ConnectionUrl {
    pub(super) config: Config,
    pub(super) mode: SslMode,
    /// The file of `sslrootcert`.
    pub(super) root_file: Option<PathBuf>,
}

impl ConnectionUrl {
    /// Reads `sslmode` and `sslrootcert` and leaves the rest to the driver, which knows neither
    /// `verify-full` nor `sslrootcert`.
    pub(super) fn parse(text: &str) -> Result<Self, PostgresFault> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let (mut mode, mut root_file) = (None, None);
        let mut take = |parameter: &str| match parameter.split_once('=') {
            Some(("sslmode", value)) => {
                mode = Some(value.to_owned());
                false
            }
            Some(("sslrootcert", value)) => {
                root_file = Some(value.to_owned());
                false
            }
            _ => true,
        };
        let rest = match text.split_once('?') {
            Some((address, parameters)) if is_url => {
                let kept: Vec<_> = parameters.split('&').filter(|of| take(of)).collect();
                format!("{address}?{}", kept.join("&"))
            }
            _ if is_url => text.to_owned(),
            // A value in quotes may hold blanks, and text that looks like a parameter.
            _ if text.contains('\'') && text.contains("ssl") => {
                return Err(PostgresFault::InvalidUrl);
            }
            _ => {
                let kept: Vec<_> = text.split_whitespace().filter(|of| take(of)).collect();
                kept.join(" ")
            }
        };
        let config: Config =
            rest.trim_end_matches('?').parse().map_err(|_| PostgresFault::InvalidUrl)?;
        let root_file = root_file.map(|file| {
            let decoded = percent_encoding::percent_decode_str(&file).decode_utf8();
            decoded.map(|file| PathBuf::from(&*file)).map_err(|_| PostgresFault::InvalidUrl)
        });
        let mode = mode_named(mode.as_deref(), &config)?;
        Ok(Self { config, mode, root_file: root_file.transpose()? })
    }
}

/// The mode of a configuration that a program made itself.
pub(super) fn mode_of(config: &Config) -> SslMode {
    match config.get_ssl_mode() {
        DriverSslMode::Disable => SslMode::Disable,
        DriverSslMode::Require => SslMode::VerifyFull,
        DriverSslMode::Prefer | _ => default_mode(config),
    }
}

/// `require` verifies too: a connection that is encrypted for whoever answers protects nothing.
fn mode_named(name: Option<&str>, config: &Config) -> Result<SslMode, PostgresFault> {
    match name {
        Some("disable") => Ok(SslMode::Disable),
        None | Some("allow" | "prefer") => Ok(default_mode(config)),
        Some("require" | "verify-ca" | "verify-full") => Ok(SslMode::VerifyFull),
        Some(_) => Err(PostgresFault::InvalidUrl),
    }
}

/// Not encrypted if all hosts are this machine.
fn default_mode(config: &Config) -> SslMode {
    let is_local = |host: &Host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    let addresses = config.get_hostaddrs();
    let local = config.get_hosts().iter().all(is_local)
        && addresses.iter().all(std::net::IpAddr::is_loopback);
    if local { SslMode::Disable } else { SslMode::VerifyFull }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_off_this_machine_are_verified_unless_the_url_says_otherwise() {
        for (url, expected) in [
            ("postgres://u:p@db.example.com/d", SslMode::VerifyFull),
            ("postgres://u@db.example.com/d?sslmode=prefer", SslMode::VerifyFull),
            ("postgres://u@db.example.com/d?sslmode=disable", SslMode::Disable),
            ("postgres://u@127.0.0.1:5433/d", SslMode::Disable),
            ("postgres://u@[::1]/d", SslMode::Disable),
            ("postgres://u@localhost/d?sslmode=require", SslMode::VerifyFull),
            ("postgres://u@127.0.0.1,db.example.com/d", SslMode::VerifyFull),
            ("host=/var/run/postgresql user=u", SslMode::Disable),
            ("host=db.example.com user=u sslmode=verify-ca", SslMode::VerifyFull),
        ] {
            assert_eq!(ConnectionUrl::parse(url).unwrap().mode, expected, "{url}");
        }
    }

    #[test]
    fn the_root_file_is_read_from_the_url_and_other_parameters_stay() {
        let url =
            "postgres://u@h/d?connect_timeout=7&sslrootcert=/etc/a%20b.pem&sslmode=verify-full";
        let read = ConnectionUrl::parse(url).unwrap();
        assert_eq!(read.root_file, Some(PathBuf::from("/etc/a b.pem")));
        assert_eq!(read.config.get_connect_timeout().map(|it| it.as_secs()), Some(7));
        assert_eq!(read.config.get_dbname(), Some("d"));
    }

    #[test]
    fn an_unknown_mode_or_parameter_is_refused() {
        let quoted = "host=h password='x sslmode=disable y'";
        let mode = "postgres://u@h/d?sslmode=full";
        for url in [mode, quoted, "postgres://u@h/d?nonsense=1", "mysql://h"] {
            let refused = ConnectionUrl::parse(url).err();
            assert_eq!(refused, Some(PostgresFault::InvalidUrl), "{url}");
        }
    }

    #[test]
    fn a_configuration_of_the_program_is_judged_like_a_url() {
        let mut config = Config::new();
        config.host("db.example.com");
        assert_eq!(mode_of(&config), SslMode::VerifyFull);
        config.ssl_mode(DriverSslMode::Disable);
        assert_eq!(mode_of(&config), SslMode::Disable);
    }
}
