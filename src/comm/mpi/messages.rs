//! Messages whose memory outlives the call that starts them.

use std::ops::Range;

use mpi::ffi;
use mpi::raw::AsRaw;

use super::state::Channel;
use super::{LIMIT, Mpi};
use crate::comm::Wire;
use crate::kernels::{self, Buffer, zeros};

impl Mpi {
    pub(super) fn start_send(&self, channel: usize, to: usize, from: &Buffer, place: Range<usize>, wire: Wire) {
        let len = wire.floats(place.len());
        self.count(4 * len);
        let narrow = (wire == Wire::Bf16).then(|| {
            let mut packed = self.narrow(len);
            kernels::pack_bf16(&from[place.clone()], &mut packed[..len]);
            (packed, None)
        });
        self.start(channel, from, place, narrow, |start, count, tag, request| {
            // SAFETY: `start` is kept in place until the request is done.
            unsafe {
                let world = self.world.as_raw();
                ffi::MPI_Isend(start.cast(), count, ffi::RSMPI_FLOAT, to as i32, tag, world, request);
            }
        });
    }

    pub(super) fn start_receive(&self, channel: usize, from: usize, into: &Buffer, place: Range<usize>, wire: Wire) {
        let narrow =
            (wire == Wire::Bf16).then(|| (self.narrow(wire.floats(place.len())), Some(into.part(place.clone()))));
        self.start(channel, into, place, narrow, |start, count, tag, request| {
            // SAFETY: as above; nobody else touches the place meanwhile.
            unsafe {
                let world = self.world.as_raw();
                ffi::MPI_Irecv(start.cast(), count, ffi::RSMPI_FLOAT, from as i32, tag, world, request);
            }
        });
    }

    pub(super) fn go_on(&self) {
        for channel in self.channels.borrow_mut().iter_mut().filter(|channel| !channel.requests.is_empty()) {
            let (requests, mut done) = (&mut channel.requests, 0);
            // SAFETY: live requests; where all are done MPI has freed them.
            unsafe {
                let count = requests.len() as i32;
                ffi::MPI_Testall(count, requests.as_mut_ptr(), &raw mut done, ffi::RSMPI_STATUSES_IGNORE);
            }
            if done != 0 {
                channel.requests.clear();
                channel.held.clear();
            }
        }
    }

    pub(super) fn wait_for(&self, channel: usize) {
        let Channel { requests, held, narrow } = &mut self.channels.borrow_mut()[channel];
        // SAFETY: live requests.
        unsafe { ffi::MPI_Waitall(requests.len() as i32, requests.as_mut_ptr(), ffi::RSMPI_STATUSES_IGNORE) };
        requests.clear();
        held.clear();
        for (packed, into) in narrow.drain(..) {
            if let Some(mut into) = into {
                let len = Wire::Bf16.floats(into.len());
                kernels::unpack_bf16(&packed[..len], &mut into);
            }
            self.spare.borrow_mut().push(packed);
        }
    }

    /// Memory for `len` floats that hold numbers of half the width.
    fn narrow(&self, len: usize) -> Buffer {
        let mut spare = self.spare.borrow_mut();
        let found = spare.iter().position(|buffer| buffer.len() >= len);
        found.map_or_else(|| zeros(len), |index| spare.swap_remove(index))
    }

    /// Starts what `call` starts (address, length, tag, request), in parts that MPI can count: with a part of `buffer`, or with
    /// what stands `narrow` for it.
    fn start(
        &self,
        channel: usize,
        buffer: &Buffer,
        place: Range<usize>,
        narrow: Option<(Buffer, Option<Buffer>)>,
        call: impl Fn(*mut f32, i32, i32, *mut ffi::MPI_Request),
    ) {
        let under_way = &mut self.channels.borrow_mut()[channel];
        let part = match &narrow {
            Some((packed, _)) => packed.part(0..Wire::Bf16.floats(place.len())),
            None => buffer.part(place),
        };
        under_way.narrow.extend(narrow);
        for start in (0..part.len()).step_by(LIMIT) {
            // SAFETY: a value that MPI overwrites.
            let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
            let count = LIMIT.min(part.len() - start) as i32;
            call(part.address().wrapping_add(start), count, channel as i32, &raw mut request);
            under_way.requests.push(request);
            under_way.held.push(part.alias());
        }
    }
}
