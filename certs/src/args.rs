//! What can be set about certificates.

use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::ServerName;

/// Where certificates are kept, whom they are for, and how long they last.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Secret, in the namespace of --namespace, that holds the CA and the serving certificate
    #[arg(long, default_value = "argosy-webhook-tls", value_name = "NAME")]
    pub(crate) tls_secret: String,

    /// DNS name or IP address under which the API server calls; may be repeated
    #[arg(long, required = true, value_parser = server_name, value_name = "NAME")]
    pub(crate) tls_san: Vec<String>,

    /// MutatingWebhookConfiguration whose caBundle is kept; without it, nobody is told of the CA
    #[arg(long, value_name = "NAME")]
    pub(crate) webhook_configuration: Option<String>,

    #[command(flatten)]
    pub(crate) lifetimes: Lifetimes,
}

/// How long certificates last; each is renewed when two thirds of its life are over.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Lifetimes {
    /// Lifetime of a serving certificate, such as 90d
    #[arg(long = "tls-lifetime", default_value = "90d", value_parser = lifetime, value_name = "DURATION")]
    pub serving: Duration,

    /// Lifetime of a CA, such as 1095d
    #[arg(long = "tls-ca-lifetime", default_value = "1095d", value_parser = lifetime, value_name = "DURATION")]
    pub authority: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self { serving: 90 * DAY, authority: 1095 * DAY }
    }
}

/// A name in the form in which a certificate holds it, so that the two can be compared.
fn server_name(text: &str) -> Result<String, String> {
    match ServerName::try_from(text) {
        Ok(ServerName::DnsName(name)) => Ok(name.as_ref().to_ascii_lowercase()),
        Ok(ServerName::IpAddress(address)) => Ok(std::net::IpAddr::from(address).to_string()),
        _ => Err("expected a DNS name or an IP address".to_owned()),
    }
}

/// Certificates count in whole seconds, and a renewal takes a few.
fn lifetime(text: &str) -> Result<Duration, String> {
    const MIN: Duration = Duration::from_secs(10);
    // What a certificate's end may be at most; also keeps sums of times within range.
    const MAX: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);
    let lifetime = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (MIN..=MAX).contains(&lifetime) { Ok(lifetime) } else { Err("expected between 10s and 100 years".to_owned()) }
}

/// `now` later by a duration; the end of time where there is no such time.
pub(crate) fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// `now` earlier by a duration.
pub(crate) fn earlier(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn parse(args: &[&str]) -> Result<Args, String> {
        Program::try_parse_from([&["program"], args].concat()).map(|p| p.args).map_err(|e| e.to_string())
    }

    #[test]
    fn names_take_the_form_that_certificates_have() {
        let args =
            parse(&["--tls-san", "Webhook.argosy.SVC", "--tls-san", "::0001", "--tls-san", "127.0.0.1"]).unwrap();
        assert_eq!(args.tls_san, ["webhook.argosy.svc", "::1", "127.0.0.1"]);
        assert_eq!(args.lifetimes.serving, Lifetimes::default().serving);
        assert_eq!(args.lifetimes.authority, Lifetimes::default().authority);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        assert!(parse(&[]).unwrap_err().contains("--tls-san"));
        assert!(parse(&["--tls-san", "not a name"]).unwrap_err().contains("expected a DNS name or an IP address"));
        assert!(parse(&["--tls-san", "a", "--tls-lifetime", "1s"]).unwrap_err().contains("between 10s and"));
        assert!(parse(&["--tls-san", "a", "--tls-lifetime", "soon"]).is_err());
    }
}
