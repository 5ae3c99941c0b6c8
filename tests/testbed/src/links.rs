//! Links that can fail: in a testbed that is asked for them, each of Argosy's programs reaches an API server, and the
//! control cluster's API server reaches the webhook, through a TCP proxy that can be told to fail as networks do.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::Testbed;
use crate::argosy::{SYNCER, WEBHOOK, replicas, serving_port};
use crate::cluster::played::api_server;
use crate::further::INSIDE;
use crate::layout::{CONTROL, State};
use crate::process::{Daemon, wait_until};

/// The daemon's name, and the purpose of the port on which it is told what is to fail.
const LINKS: &str = "links";
/// How much of a stream is under way in one piece, and how many pieces are: what a link holds while it stalls.
const PIECE: usize = 16 * 1024;
const PIECES: usize = 64;
/// How long the daemon may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is wrong with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// Every connection is reset, and so is each new one.
    Cut,
    /// Nothing comes through, and nobody is told; what was sent meanwhile comes through afterwards, as TCP has it.
    BlackHole,
    /// Everything takes so long to come through, each way.
    Slow(Duration),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Cut => f.write_str("cut"),
            Self::BlackHole => f.write_str("black-hole"),
            Self::Slow(by) => write!(f, "slow:{}", by.as_millis()),
        }
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.split_once(':') {
            None if text == "none" => Self::None,
            None if text == "cut" => Self::Cut,
            None if text == "black-hole" => Self::BlackHole,
            Some(("slow", millis)) => Self::Slow(Duration::from_millis(millis.parse()?)),
            _ => bail!("fault {text:?}: expected none, cut, black-hole or slow:MILLISECONDS"),
        })
    }
}

/// The link by which a process of Argosy's ([`SYNCER`], say, or a further replica of it) reaches the control cluster.
pub fn to_control(program: &str) -> String {
    format!("{program}-to-{CONTROL}")
}

/// The link by which syncers reach a workload cluster.
pub fn to_wec(wec: &str) -> String {
    format!("{SYNCER}-to-{wec}")
}

/// The link by which the control cluster's API server reaches the webhook.
pub fn to_webhook() -> String {
    format!("{CONTROL}-to-{WEBHOOK}")
}

/// All links of a testbed, and the ports that they lead to: each connection to the next that takes it, as a Service has it.
fn all(state: &State) -> Result<BTreeMap<String, Vec<u16>>> {
    let port = |purpose: String| state.ports.get(&purpose).copied().with_context(|| format!("no port for {purpose}"));
    let webhooks = replicas(WEBHOOK).into_iter().map(|webhook| port(serving_port(&webhook)));
    let mut links = BTreeMap::from([(to_webhook(), webhooks.collect::<Result<Vec<_>>>()?)]);
    let inside = std::iter::once(INSIDE.to_owned());
    for program in replicas(SYNCER).into_iter().chain(replicas(WEBHOOK)).chain(inside) {
        links.insert(to_control(&program), vec![port(api_server(CONTROL))?]);
    }
    for wec in state.clusters().iter().filter(|name| *name != CONTROL) {
        links.insert(to_wec(wec), vec![port(api_server(wec))?]);
    }
    Ok(links)
}

/// The port on which a link is entered; `None` where the testbed has no links.
pub(crate) fn port(state: &State, link: &str) -> Option<u16> {
    state.ports.get(&purpose(link)).copied()
}

/// The address at which a link is entered, `https://HOST:PORT`.
///
/// # Errors
/// The testbed has no such link.
pub fn url(testbed: &Testbed, link: &str) -> Result<String> {
    let port = port(&testbed.state, link).with_context(|| format!("there is no link {link}"))?;
    Ok(format!("https://{}:{port}", testbed.control().host_address))
}

fn purpose(link: &str) -> String {
    format!("{LINKS}/{link}")
}

/// Starts the proxies of a played testbed. Their ports are saved in its state.
///
/// # Errors
/// There are no ports left, or the daemon does not start.
pub(crate) async fn start(testbed: &mut Testbed, program: &std::path::Path) -> Result<()> {
    let links = all(&testbed.state)?;
    let control = testbed.state.port(&purpose("control"))?;
    let mut args = vec!["links".to_owned(), format!("--control={control}")];
    for (link, targets) in &links {
        let port = testbed.state.port(&purpose(link))?;
        let targets: Vec<String> = targets.iter().map(u16::to_string).collect();
        args.push(format!("--link={link}={port}={}", targets.join(",")));
    }
    testbed.state.save(&testbed.layout)?;
    let running = Daemon::new(&testbed.layout, CONTROL, LINKS, program).args(args).start()?;
    wait_until("links", PATIENCE, Some(&running), || async {
        TcpStream::connect((Ipv4Addr::LOCALHOST, control)).await.map(drop).context("not there yet")
    })
    .await
}

/// Makes links fail in this way from now on, or mends them.
///
/// # Errors
/// The testbed has no such link.
pub async fn set(testbed: &Testbed, links: &[String], fault: Fault) -> Result<()> {
    let control = port(&testbed.state, "control").context("the testbed was brought up without links")?;
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, control)).await.context("asking the links' daemon")?;
    let mut stream = BufReader::new(stream);
    for link in links {
        stream.write_all(format!("{link} {fault}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        ensure!(answer.trim() == "ok", "link {link}: {}", answer.trim());
    }
    Ok(())
}

/// Which links there are, for the daemon.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Loopback port on which it is told what is to fail: lines `LINK FAULT`, each answered with `ok` or with what is
    /// wrong
    #[arg(long)]
    control: u16,
    /// A link, entered on one loopback port and leading to others
    #[arg(long, value_name = "NAME=PORT=TARGET,TARGET", value_parser = Link::from_str)]
    link: Vec<Link>,
}

#[derive(Debug, Clone)]
struct Link {
    name: String,
    port: u16,
    targets: Vec<u16>,
}

impl FromStr for Link {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('=').collect();
        let [name, port, targets] = parts[..] else { bail!("expected NAME=PORT=TARGET,TARGET") };
        let targets = targets.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), port: port.parse()?, targets })
    }
}

/// Runs until it is ended.
///
/// # Errors
/// A port is taken.
pub async fn run(args: Args) -> Result<()> {
    let mut faults = BTreeMap::new();
    for Link { name, port, targets } in args.link {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.with_context(|| format!("port {port}"))?;
        let (sender, fault) = watch::channel(Fault::None);
        faults.insert(name, sender);
        tokio::spawn(accept(listener, targets, fault));
    }
    let faults = Arc::new(faults);
    let control = TcpListener::bind((Ipv4Addr::LOCALHOST, args.control)).await.context("the control port")?;
    loop {
        let (stream, _) = control.accept().await?;
        tokio::spawn(obey(stream, Arc::clone(&faults)));
    }
}

async fn obey(stream: TcpStream, faults: Arc<BTreeMap<String, watch::Sender<Fault>>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let answer = match told(&line, &faults) {
            Ok(()) => "ok\n".to_owned(),
            Err(error) => format!("{error:#}\n"),
        };
        stream.write_all(answer.as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

fn told(line: &str, faults: &BTreeMap<String, watch::Sender<Fault>>) -> Result<()> {
    let (link, fault) = line.trim().split_once(' ').context("expected LINK FAULT")?;
    let sender = faults.get(link).context("there is no such link")?;
    sender.send_replace(fault.parse()?);
    tracing::info!(link, fault);
    Ok(())
}

async fn accept(listener: TcpListener, mut targets: Vec<u16>, fault: watch::Receiver<Fault>) {
    loop {
        targets.rotate_left(1);
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(forward(stream, targets.clone(), fault.clone()))),
            Err(error) => tracing::warn!(%error, "cannot accept"),
        }
    }
}

/// Forwards one connection until both ends have closed it, or the link is cut.
async fn forward(mut from: TcpStream, targets: Vec<u16>, fault: watch::Receiver<Fault>) -> std::io::Result<()> {
    let is_cut = |fault: &Fault| *fault == Fault::Cut;
    tokio::select! {
        biased;
        () = until(&fault, is_cut) => return reset(&from),
        () = until(&fault, is_open) => {}
    }
    let targets: Vec<SocketAddr> = targets.into_iter().map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
    let Ok(mut to) = TcpStream::connect(&targets[..]).await else { return reset(&from) };
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    let was_cut = {
        let (from_read, from_write) = from.split();
        let (to_read, to_write) = to.split();
        tokio::select! {
            () = until(&fault, is_cut) => true,
            _ = futures::future::join(pump(from_read, to_write, &fault), pump(to_read, from_write, &fault)) => false,
        }
    };
    if was_cut {
        reset(&from)?;
        reset(&to)?;
    }
    Ok(())
}

fn is_open(fault: &Fault) -> bool {
    *fault != Fault::BlackHole
}

async fn until(fault: &watch::Receiver<Fault>, so: impl FnMut(&Fault) -> bool) {
    // Nobody is left to change it: the daemon ends.
    let _ = fault.clone().wait_for(so).await;
}

/// Has a connection end with a reset once it is dropped.
fn reset(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_zero_linger()
}

/// One direction of a connection: pieces, each with the time at which it is due at the other end.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, fault: &watch::Receiver<Fault>) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let take = async {
        let mut buffer = vec![0; PIECE];
        loop {
            let Ok(length @ 1..) = from.read(&mut buffer).await else { return drop(sender) };
            let delay = if let Fault::Slow(by) = *fault.borrow() { by } else { Duration::ZERO };
            if sender.send((Instant::now() + delay, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let give = async {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            until(fault, is_open).await;
            if to.write_all(&piece).await.is_err() {
                return pieces.close();
            }
        }
        // The other end has said all that it had to say.
        let _ = to.shutdown().await;
    };
    futures::future::join(take, give).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn link() -> (watch::Sender<Fault>, u16, TcpListener) {
        let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, fault) = watch::channel(Fault::None);
        tokio::spawn(accept(listener, vec![target.local_addr().unwrap().port()], fault));
        (sender, port, target)
    }

    async fn said(stream: &mut TcpStream) -> std::io::Result<String> {
        let mut buffer = [0; 64];
        let length = stream.read(&mut buffer).await?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    #[tokio::test]
    async fn a_link_fails_as_it_is_told_and_mends() {
        let (fault, port, target) = link().await;
        let mut near = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let (mut far, _) = target.accept().await.unwrap();
        near.write_all(b"a").await.unwrap();
        assert_eq!(said(&mut far).await.unwrap(), "a");

        fault.send_replace(Fault::BlackHole);
        near.write_all(b"b").await.unwrap();
        let mut unanswered = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        unanswered.write_all(b"c").await.unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(100), said(&mut far)).await;
        assert!(silent.is_err(), "{silent:?}");
        fault.send_replace(Fault::Slow(Duration::from_millis(50)));
        assert_eq!(said(&mut far).await.unwrap(), "b");
        let (mut late, _) = target.accept().await.unwrap();
        assert_eq!(said(&mut late).await.unwrap(), "c");

        let before = Instant::now();
        far.write_all(b"d").await.unwrap();
        assert_eq!(said(&mut near).await.unwrap(), "d");
        assert!(before.elapsed() >= Duration::from_millis(50));

        fault.send_replace(Fault::Cut);
        assert!(said(&mut near).await.is_err());
        let mut refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let said_then = tokio::time::timeout(Duration::from_secs(5), said(&mut refused)).await.unwrap();
        assert!(!matches!(said_then, Ok(said) if !said.is_empty()));
        fault.send_replace(Fault::None);
        let mut again = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        again.write_all(b"e").await.unwrap();
        let (mut far, _) = target.accept().await.unwrap();
        assert_eq!(said(&mut far).await.unwrap(), "e");
        again.shutdown().await.unwrap();
        assert_eq!(said(&mut far).await.unwrap(), "");
    }

    #[test]
    fn faults_read_as_they_are_written() {
        for fault in [Fault::None, Fault::Cut, Fault::BlackHole, Fault::Slow(Duration::from_millis(500))] {
            assert_eq!(fault.to_string().parse::<Fault>().unwrap(), fault);
        }
        assert!("slow".parse::<Fault>().is_err());
    }
}
