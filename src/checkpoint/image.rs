//! An HDF5 file in memory, and its bytes. HDF5 does not survive a disk that fills up under it, so nothing that matters
//! is written through it.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

use hdf5_sys::h5f::{H5Fget_file_image, H5Fget_vfd_handle};
use hdf5_sys::h5p::H5P_DEFAULT;

/// How every HDF5 file begins; the byte behind it is the version of its superblock.
const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n\0";
/// Where a superblock of version 0 says that somebody has the file open for writing.
const FLAGS: std::ops::Range<usize> = 20..24;

/// More bytes than HDF5 needs to describe a dataset, its group and its name.
const BY_TENSOR: usize = 4096;

/// A finished file, which only this holds open.
pub(super) struct Image {
    file: hdf5::File,
    user_block: usize,
}

impl Image {
    /// A file that `fill` fills with `tensors` datasets and `content` bytes altogether (more is no error, but takes more
    /// memory). In front are `user_block` bytes (0, 512, 1024, …) that HDF5 leaves alone. `fill` keeps nothing of the
    /// file open.
    pub(super) fn build(
        user_block: usize,
        (tensors, content): (usize, usize),
        fill: impl FnOnce(&hdf5::File) -> hdf5::Result<()>,
    ) -> hdf5::Result<Image> {
        // HDF5 tells files in memory apart by name, and opens none twice.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("image-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut options = hdf5::File::with_options();
        // The earliest version of the format: every library reads it, and its superblock has no checksum (see `parts`).
        // Its memory is taken at once: growing piece by piece leaves holes where pieces were.
        let memory = user_block + content + (tensors + 16) * BY_TENSOR;
        options.with_fapl(|p| p.core_options(memory, false).libver_earliest());
        if user_block > 0 {
            options.with_fcpl(|p| p.userblock(user_block as u64));
        }
        let file = options.create(name)?;
        fill(&file)?;
        file.flush()?;
        Ok(Image { file, user_block })
    }

    /// What would be on disk behind the user block, part after part; borrowed, for `H5Fget_file_image` would copy it.
    pub(super) fn parts(&self) -> hdf5::Result<[&[u8]; 3]> {
        let bytes = self.bytes()?;
        if !bytes.starts_with(SIGNATURE) || bytes.len() < FLAGS.end {
            return Err(hdf5::Error::Internal("a file in memory has an unknown superblock".to_owned()));
        }
        // Closed properly, the file would say that nobody writes it.
        Ok([&bytes[..FLAGS.start], &[0; FLAGS.end - FLAGS.start], &bytes[FLAGS.end..]])
    }

    fn bytes(&self) -> hdf5::Result<&[u8]> {
        let id = self.file.id();
        let mut handle: *mut c_void = std::ptr::null_mut();
        // SAFETY: `file` is open for the whole call; without a buffer it only says how many bytes there are.
        #[allow(unsafe_code)]
        let size = hdf5::sync::sync(|| unsafe { H5Fget_file_image(id, std::ptr::null_mut(), 0) });
        // SAFETY: `file` is open for the whole call, and `handle` has room for the address that it stores.
        #[allow(unsafe_code)]
        let status = hdf5::sync::sync(|| unsafe { H5Fget_vfd_handle(id, H5P_DEFAULT, &mut handle) });
        let failed = || hdf5::Error::Internal("HDF5 does not show a file in memory".to_owned());
        // The driver holds at least as much as the file's size, for `build` flushed it.
        let size = usize::try_from(size).map_err(|_| failed())?;
        let held = usize::try_from(self.file.size()).map_err(|_| failed())?;
        if status < 0 || handle.is_null() || self.user_block.checked_add(size).is_none_or(|end| end > held) {
            return Err(failed());
        }
        // SAFETY: a file's handle is, with the core driver, the place where the driver keeps its memory's address.
        #[allow(unsafe_code)]
        let memory = unsafe { *handle.cast::<*const u8>() };
        if memory.is_null() {
            return Err(failed());
        }
        // SAFETY: the driver's memory holds `held` initialised bytes, at least user block and size. It moves only when
        // the file is written or closed: nobody else has it open, and `self` is borrowed as long as the slice lives.
        #[allow(unsafe_code)]
        Ok(unsafe { std::slice::from_raw_parts(memory.add(self.user_block), size) })
    }
}
