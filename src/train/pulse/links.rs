//! The tree that the ranks' pulses travel on: TCP, lines of JSON.

use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::comm::{self, Communicator, Nodes};
use crate::position::Position;

/// For one address of another machine; and for its answer, where it is the right one but has much to do.
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(10);

/// Between two looks at who comes.
const LOOK: Duration = Duration::from_millis(1);

/// A line longer than this is none of ours.
const LONGEST: usize = 1 << 20;

/// What travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Where ranks are, and how many milliseconds ago: this one, and, towards the root, those that report to it.
    At(Vec<(usize, Position, u64)>),
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

/// What a rank says first on a link, and what it gets back from the right one.
#[derive(Debug, Serialize, Deserialize)]
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
        let children = (0..comm.size()).filter(|&other| parent(nodes, other) == Some(rank)).collect();
        let secret = RandomState::new().hash_one(std::process::id());
        let door = Door::open(children, rank, secret);
        let port = door.as_ref().map_or(0, |door| door.port);
        let address = if port > 0 { Address { port, hosts: addresses(), secret } } else { Address::default() };
        let all: Vec<Address> = comm::allgather(comm, &address);
        let parent = parent(nodes, rank).map(|parent| {
            let near = nodes.of(parent) == nodes.of(rank);
            connect(rank, parent, &all[parent], near)
        });
        let failed = parent.as_ref().and_then(|parent| parent.as_ref().err()).cloned();
        // From here on nobody comes any more.
        let failures: Vec<Option<String>> = comm::allgather(comm, &failed);
        let mut children = door.map(Door::close).unwrap_or_default();
        children.retain(|child| failures[child.rank].is_none());
        let failures = failures.into_iter().enumerate().filter_map(|(rank, failure)| Some((rank, failure?))).collect();
        (Links { rank, parent: parent.and_then(Result::ok), children }, failures)
    }

    /// Says no more, and waits until the others say no more either, or that long: a connection that is closed with something
    /// unread in it may take back what was sent last.
    pub fn close(&mut self, limit: Duration) {
        let start = Instant::now();
        for link in self.all() {
            let _ = link.stream.shutdown(Shutdown::Write);
        }
        while self.all().any(|link| !link.done) && start.elapsed() < limit {
            self.all().for_each(|link| drop(link.receive::<Message>()));
            std::thread::sleep(LOOK);
        }
    }

    /// All of them.
    pub fn all(&mut self) -> impl Iterator<Item = &mut Link> {
        self.parent.iter_mut().chain(&mut self.children)
    }
}

/// Where ranks come in, as long as it is open.
struct Door {
    port: u16,
    closed: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Link>>,
}

impl Door {
    /// For the ranks `expected`, if there are any; nothing where the system refuses.
    fn open(expected: Vec<usize>, rank: usize, secret: u64) -> Option<Door> {
        if expected.is_empty() {
            return None;
        }
        let (both, old) = ((Ipv6Addr::UNSPECIFIED, 0), (Ipv4Addr::UNSPECIFIED, 0));
        let listener = TcpListener::bind(both).or_else(|_| TcpListener::bind(old)).ok()?;
        listener.set_nonblocking(true).ok()?;
        let port = listener.local_addr().ok()?.port();
        let closed = Arc::new(AtomicBool::new(false));
        let until = closed.clone();
        let accept = move || accept(&listener, &expected, &Hello { rank, secret }, &until);
        let thread = std::thread::Builder::new().name("door".to_owned()).spawn(accept).ok()?;
        Some(Door { port, closed, thread })
    }

    /// Those who came.
    fn close(self) -> Vec<Link> {
        self.closed.store(true, Ordering::Release);
        self.thread.join().unwrap_or_default()
    }
}

/// This machine's addresses that others may know; the older kind first, which is routed more often.
fn addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let hosts = interfaces.into_iter().filter(|interface| !interface.is_loopback()).map(|interface| interface.ip());
    // Addresses of one link alone need its name, which is another on the other side.
    let mut hosts: Vec<IpAddr> =
        hosts.filter(|host| !matches!(host, IpAddr::V6(host) if host.is_unicast_link_local())).collect();
    hosts.sort_by_key(IpAddr::is_ipv6);
    hosts
}

/// From `rank` to `parent`, at the first of its addresses where it answers: some may be those of other machines, too.
fn connect(rank: usize, parent: usize, address: &Address, near: bool) -> Result<Link, String> {
    let near = near.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut why = format!("rank {parent} has no address");
    for host in near.into_iter().chain(address.hosts.iter().copied()) {
        let place = SocketAddr::new(host, address.port);
        match TcpStream::connect_timeout(&place, CONNECT).and_then(|stream| Link::new(parent, stream)) {
            Ok(mut link) => {
                link.send(&Hello { rank, secret: address.secret });
                if link.is_answered(parent, address.secret) {
                    return Ok(link);
                }
                why = format!("no answer of rank {parent} at {place}");
            }
            Err(failure) => why = format!("to rank {parent} at {place}: {failure}"),
        }
    }
    Err(why)
}

/// The ranks `expected`, as far as they come before the door is closed; each gets `own` in answer, strangers are sent away.
fn accept(listener: &TcpListener, expected: &[usize], own: &Hello, closed: &AtomicBool) -> Vec<Link> {
    let (mut strangers, mut children) = (Vec::<Link>::new(), Vec::<Link>::new());
    while !closed.load(Ordering::Acquire) {
        while let Ok(Ok(link)) = listener.accept().map(|(stream, _)| Link::new(usize::MAX, stream)) {
            strangers.push(link);
        }
        for mut link in std::mem::take(&mut strangers) {
            match link.receive::<Hello>().pop() {
                Some(hello) if hello.secret == own.secret && expected.contains(&hello.rank) => {
                    link.rank = hello.rank;
                    link.send(own);
                    // It has given up an older one.
                    children.retain(|child| child.rank != hello.rank);
                    children.push(link);
                }
                None if !link.done => strangers.push(link),
                _ => {}
            }
        }
        std::thread::sleep(LOOK);
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

    /// Whether rank `rank` says in time that it is who it should be.
    fn is_answered(&mut self, rank: usize, secret: u64) -> bool {
        let start = Instant::now();
        while !self.done && start.elapsed() < ANSWER {
            if let Some(hello) = self.receive::<Hello>().pop() {
                return hello.rank == rank && hello.secret == secret;
            }
            std::thread::sleep(LOOK);
        }
        false
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
        let door = Door::open(vec![5], 0, 7).unwrap();
        let address = |secret: u64| Address { port: door.port, hosts: Vec::new(), secret };
        let stranger = connect(5, 0, &address(8), true).unwrap_err();
        assert!(stranger.contains("no answer of rank 0 at 127.0.0.1"), "{stranger}");
        let mut child = connect(5, 0, &address(7), true).unwrap();
        let mut parents = door.close();
        assert_eq!((parents.len(), parents[0].rank), (1, 5));
        child.send(&Message::At(vec![(5, Position { step: 3, ..Position::default() }, 0)]));
        child.send(&Message::Done);
        let mut got = Vec::<Message>::new();
        while got.len() < 2 {
            got.extend(parents[0].receive());
        }
        assert!(matches!(&got[..], [Message::At(at), Message::Done] if at[0].1.step == 3), "{got:?}");
        assert!(!parents[0].done);
        drop(child);
        while !parents[0].done {
            assert!(parents[0].receive::<Message>().is_empty());
        }
    }
}
