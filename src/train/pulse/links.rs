//! The tree that the ranks' pulses travel on: TCP, lines of JSON.

use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::comm::{Communicator, Nodes};
use crate::position::Position;

/// For one address of another machine, and for all that is to be linked.
const CONNECT: Duration = Duration::from_secs(2);
const ACCEPT: Duration = Duration::from_secs(6);

/// A line longer than this is none of ours.
const LONGEST: usize = 1 << 20;

/// What travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Where ranks are: those that report to this one, or, away from the root, this one alone.
    At(Vec<(usize, Position)>),
    /// Both ways: the run is over, as somebody has said in this line; empty: as a panicking rank is about to say.
    Over(String),
    /// Goodbye: this rank, and those behind it, have come to their end.
    Done,
}

/// Where a rank can be reached.
#[derive(Default, Serialize, Deserialize)]
struct Address {
    port: u16,
    hosts: Vec<IpAddr>,
    secret: u64,
}

/// What a rank says first on a link.
#[derive(Serialize, Deserialize)]
struct Hello {
    rank: usize,
    secret: u64,
}

/// A connection to another rank.
#[derive(Debug)]
pub struct Link {
    /// Who is there.
    pub rank: usize,
    stream: TcpStream,
    coming: Vec<u8>,
    going: Vec<u8>,
    /// It said goodbye, or is closed.
    pub done: bool,
}

/// A rank's connections.
#[derive(Debug, Default)]
pub struct Links {
    /// This rank.
    pub rank: usize,
    /// Towards the root.
    pub parent: Option<Link>,
    /// Away from it.
    pub children: Vec<Link>,
}

/// Towards the root: the first rank of the machine, from there the root.
pub fn parent(nodes: &Nodes, rank: usize) -> Option<usize> {
    let first = nodes.ranks(nodes.of(rank)).start;
    (rank > 0).then_some(if rank == first { 0 } else { first })
}

impl Links {
    /// Collective: links the ranks; those that could not be, and why.
    pub fn open(comm: &dyn Communicator) -> (Links, Vec<(usize, String)>) {
        let (rank, nodes) = (comm.rank(), comm.nodes());
        let has_children = (0..comm.size()).any(|other| parent(nodes, other) == Some(rank));
        let listener = has_children.then(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)));
        let secret = RandomState::new().hash_one(std::process::id());
        let address = match &listener {
            Some(Ok(listener)) => Address { port: port(listener), hosts: addresses(), secret },
            _ => Address::default(),
        };
        let all: Vec<Address> = exchange(comm, &address);
        let parent = parent(nodes, rank).map(|parent| {
            let near = nodes.of(parent) == nodes.of(rank);
            connect(rank, parent, &all[parent], near)
        });
        let expected = (0..comm.size()).filter(|&other| self::parent(nodes, other) == Some(rank)).collect();
        let failed = parent.as_ref().and_then(|parent| parent.as_ref().err()).cloned();
        // Who could not connect will not come.
        let failures: Vec<Option<String>> = exchange(comm, &failed);
        let expected: Vec<usize> = Vec::into_iter(expected).filter(|&other| failures[other].is_none()).collect();
        let children = match listener {
            Some(Ok(listener)) => accept(&listener, secret, &expected),
            _ => Vec::new(),
        };
        let came: Vec<Vec<usize>> = exchange(comm, &children.iter().map(|child| child.rank).collect());
        let is_linked = |rank: usize| rank == 0 || came.iter().flatten().any(|&other| other == rank);
        let parent = parent.and_then(Result::ok).filter(|_| is_linked(rank));
        let lost = (0..comm.size()).filter(|&rank| !is_linked(rank));
        let why = |rank: usize| failures[rank].clone().unwrap_or_else(|| "it did not come".to_owned());
        (Links { rank, parent, children }, lost.map(|rank| (rank, why(rank))).collect())
    }

    /// All of them.
    pub fn all(&mut self) -> impl Iterator<Item = &mut Link> {
        self.parent.iter_mut().chain(&mut self.children)
    }
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().map_or(0, |address| address.port())
}

/// This machine's addresses that others may know.
fn addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let hosts = interfaces.into_iter().filter(|interface| !interface.is_loopback()).map(|interface| interface.ip());
    hosts.filter(IpAddr::is_ipv4).collect()
}

/// Collective: what every rank has, in rank order.
fn exchange<T: Serialize + DeserializeOwned + Default>(comm: &dyn Communicator, own: &T) -> Vec<T> {
    let all = comm.gather(&serde_json::to_vec(own).unwrap_or_default());
    all.iter().map(|bytes| serde_json::from_slice(bytes).unwrap_or_default()).collect()
}

/// From `rank` to `parent`, at the first of its addresses that answers.
fn connect(rank: usize, parent: usize, address: &Address, near: bool) -> Result<Link, String> {
    let near = near.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut why = format!("rank {parent} has no address");
    for host in near.into_iter().chain(address.hosts.iter().copied()) {
        let place = SocketAddr::new(host, address.port);
        match TcpStream::connect_timeout(&place, CONNECT).and_then(|stream| Link::new(parent, stream)) {
            Ok(mut link) => {
                link.send(&Hello { rank, secret: address.secret });
                return Ok(link);
            }
            Err(failure) => why = format!("to rank {parent} at {place}: {failure}"),
        }
    }
    Err(why)
}

/// The ranks `expected`, as far as they come; strangers are sent away.
fn accept(listener: &TcpListener, secret: u64, expected: &[usize]) -> Vec<Link> {
    let (start, mut strangers, mut children) = (Instant::now(), Vec::<Link>::new(), Vec::new());
    if listener.set_nonblocking(true).is_err() {
        return children;
    }
    while children.len() < expected.len() && start.elapsed() < ACCEPT {
        while let Ok(Ok(link)) = listener.accept().map(|(stream, _)| Link::new(usize::MAX, stream)) {
            strangers.push(link);
        }
        for mut link in std::mem::take(&mut strangers) {
            match link.receive::<Hello>().pop() {
                Some(hello) if hello.secret == secret && expected.contains(&hello.rank) => {
                    link.rank = hello.rank;
                    children.push(link);
                }
                None if !link.done => strangers.push(link),
                _ => {}
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    children.sort_by_key(|child| child.rank);
    children
}

impl Link {
    fn new(rank: usize, stream: TcpStream) -> std::io::Result<Link> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Link { rank, stream, coming: Vec::new(), going: Vec::new(), done: false })
    }

    /// Sends as much as goes without waiting; where nothing goes, what would be out of date anyway is left out.
    pub fn send(&mut self, message: &impl Serialize) {
        if self.going.len() < LONGEST
            && let Ok(mut line) = serde_json::to_vec(message)
        {
            line.push(b'\n');
            self.going.extend(line);
        }
        while !self.going.is_empty() {
            match self.stream.write(&self.going) {
                Ok(sent) if sent > 0 => drop(self.going.drain(..sent)),
                Err(failure) if failure.kind() == ErrorKind::Interrupted => {}
                _ => break,
            }
        }
    }

    /// What has come; afterwards `done` says whether more can.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Vec<T> {
        let mut part = [0; 4096];
        while !self.done {
            match self.stream.read(&mut part) {
                Ok(0) => self.done = true,
                Ok(read) => self.coming.extend(&part[..read]),
                Err(failure) if failure.kind() == ErrorKind::Interrupted => {}
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.done = true,
            }
            self.done |= self.coming.len() > LONGEST;
        }
        let end = self.coming.iter().rposition(|&byte| byte == b'\n').map_or(0, |place| place + 1);
        let lines: Vec<u8> = self.coming.drain(..end).collect();
        lines.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_linked_to_the_first_of_their_machine_and_those_to_the_root() {
        let parents = |sizes: &[usize]| {
            let size: usize = sizes.iter().sum();
            (0..size).map(|rank| parent(&Nodes::new(sizes.iter().copied(), rank), rank)).collect::<Vec<_>>()
        };
        assert_eq!(parents(&[3, 2]), [None, Some(0), Some(0), Some(0), Some(3)]);
        assert_eq!(parents(&[1, 1]), [None, Some(0)]);
    }

    #[test]
    fn a_link_carries_lines_and_says_when_it_has_ended() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = Address { port: port(&listener), hosts: Vec::new(), secret: 7 };
        let mut child = connect(5, 0, &address, true).unwrap();
        let stranger = connect(5, 0, &Address { secret: 8, ..address }, true).unwrap();
        let mut parents = accept(&listener, 7, &[5]);
        assert_eq!((parents.len(), parents[0].rank), (1, 5));
        child.send(&Message::At(vec![(5, Position { step: 3, ..Position::default() })]));
        child.send(&Message::Done);
        let mut got = Vec::<Message>::new();
        while got.len() < 2 {
            got.extend(parents[0].receive());
        }
        assert!(matches!(&got[..], [Message::At(at), Message::Done] if at[0].1.step == 3), "{got:?}");
        assert!(!parents[0].done);
        drop((child, stranger));
        while !parents[0].done {
            assert!(parents[0].receive::<Message>().is_empty());
        }
    }
}
