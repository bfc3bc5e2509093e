//! A communicator whose waits and messages are recorded.

use std::cell::RefCell;
use std::ops::Range;

use super::{CHANNELS, Communicator, Nodes, Wire};
use crate::kernels::Buffer;
use crate::trace::{Mark, Trace, What};

/// Another communicator, and where what it does is recorded.
pub struct Traced<'a> {
    inner: Inner<'a>,
    trace: Trace,
    channels: RefCell<Vec<UnderWay>>,
}

/// One that others keep, or one of our own.
enum Inner<'a> {
    Lent(&'a dyn Communicator),
    Own(Box<dyn Communicator + 'a>),
}

impl<'a> std::ops::Deref for Inner<'a> {
    type Target = dyn Communicator + 'a;
    fn deref(&self) -> &Self::Target {
        match self {
            Inner::Lent(comm) => *comm,
            Inner::Own(comm) => comm.as_ref(),
        }
    }
}

/// What was started on a channel and is not finished.
#[derive(Clone, Copy, Default)]
struct UnderWay {
    since: Mark,
    sent: u64,
    received: u64,
    messages: u64,
}

impl<'a> Traced<'a> {
    /// Records what `inner` does.
    pub fn new(inner: &'a dyn Communicator, trace: Trace) -> Traced<'a> {
        Traced::of(Inner::Lent(inner), trace)
    }

    fn of(inner: Inner<'a>, trace: Trace) -> Traced<'a> {
        Traced { inner, trace, channels: RefCell::new(vec![UnderWay::default(); CHANNELS]) }
    }

    fn collective<T>(&self, bytes: usize, work: impl FnOnce(&dyn Communicator) -> T) -> T {
        self.trace.span(What::Collective, 0, [bytes as u64, 0, 0, 0], || work(&*self.inner))
    }

    /// Where messages on `channel` are counted; the first one begins it.
    fn under_way(&self, channel: usize, mark: Mark, count: impl FnOnce(&mut UnderWay)) {
        if mark.is_on() {
            let under_way = &mut self.channels.borrow_mut()[channel];
            if under_way.messages == 0 {
                *under_way = UnderWay { since: mark, ..UnderWay::default() };
            }
            under_way.messages += 1;
            count(under_way);
        }
    }
}

impl Communicator for Traced<'_> {
    fn rank(&self) -> usize {
        self.inner.rank()
    }
    fn size(&self) -> usize {
        self.inner.size()
    }
    fn allreduce_f32(&self, mine: &mut Buffer, total: &mut Buffer) {
        self.collective(size_of_val(&mine[..]), |comm| comm.allreduce_f32(mine, total));
    }
    fn has_processes(&self) -> bool {
        self.inner.has_processes()
    }
    fn nodes(&self) -> &Nodes {
        self.inner.nodes()
    }
    fn allocate_shared(&self, floats: usize) -> Result<Vec<Buffer>, String> {
        self.inner.allocate_shared(floats)
    }
    fn node_barrier(&self) {
        self.trace.span(What::NodeBarrier, 0, [0; 4], || self.inner.node_barrier());
    }
    fn send(&self, channel: usize, to: usize, from: &Buffer, place: Range<usize>, wire: Wire) {
        let (mark, bytes) = (self.trace.now(), (size_of::<f32>() * wire.floats(place.len())) as u64);
        self.inner.send(channel, to, from, place, wire);
        self.trace.end(mark, What::Send, channel, [bytes, to as u64, 0, 0]);
        self.under_way(channel, mark, |under_way| under_way.sent += bytes);
    }
    fn receive(&self, channel: usize, from: usize, into: &Buffer, place: Range<usize>, wire: Wire) {
        let (mark, bytes) = (self.trace.now(), (size_of::<f32>() * wire.floats(place.len())) as u64);
        self.inner.receive(channel, from, into, place, wire);
        self.trace.end(mark, What::Receive, channel, [bytes, from as u64, 0, 0]);
        self.under_way(channel, mark, |under_way| under_way.received += bytes);
    }
    fn progress(&self) {
        self.inner.progress();
    }
    fn finish(&self, channel: usize) {
        let mark = self.trace.now();
        self.inner.finish(channel);
        let UnderWay { since, sent, received, messages } = std::mem::take(&mut self.channels.borrow_mut()[channel]);
        // Many a channel has nothing under way, and nothing to wait for.
        if messages > 0 && mark.is_on() {
            let end = self.trace.now();
            self.trace.end_at(mark, end, What::Finish, channel, [sent + received, 0, 0, 0]);
            self.trace.end_at(since, end, What::UnderWay, channel, [sent, received, messages, 0]);
        }
    }
    fn allgather_f64(&self, mine: &[f64], all: &mut [f64]) {
        self.collective(size_of_val(mine), |comm| comm.allgather_f64(mine, all));
    }
    fn allreduce_f64(&self, values: &mut [f64]) {
        self.collective(size_of_val(values), |comm| comm.allreduce_f64(values));
    }
    fn allreduce_u64(&self, values: &mut [u64]) {
        self.collective(size_of_val(values), |comm| comm.allreduce_u64(values));
    }
    fn allgather(&self, mine: &[u8]) -> Vec<Vec<u8>> {
        self.collective(mine.len(), |comm| comm.allgather(mine))
    }
    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8> {
        let own = if self.is_root() { bytes.len() } else { 0 };
        self.collective(own, |comm| comm.broadcast(bytes))
    }
    fn barrier(&self) {
        self.trace.span(What::Barrier, 0, [0; 4], || self.inner.barrier());
    }
    fn sleeping_barrier(&self) {
        self.trace.span(What::Barrier, 0, [0; 4], || self.inner.sleeping_barrier());
    }
    fn split(&self, colour: usize) -> Box<dyn Communicator + '_> {
        Box::new(Traced::of(Inner::Own(self.inner.split(colour)), self.trace.clone()))
    }
    fn bytes_communicated(&self) -> u64 {
        self.inner.bytes_communicated()
    }
    fn abort(&self, code: i32) -> ! {
        self.inner.abort(code)
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
}
