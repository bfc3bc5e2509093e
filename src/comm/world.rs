//! The ranks that this process was started with.

#[cfg(feature = "mpi")]
use super::mpi;
use super::{Communicator, Solo};
#[cfg(not(feature = "mpi"))]
use crate::launch::Library;
use crate::launch::{Environment, Launch};

/// How this process was started, with the MPI that the program was built with, which need not be started for it.
pub fn launch() -> Launch {
    let environment = Environment::read();
    #[cfg(feature = "mpi")]
    let library = mpi::library(!environment.is_bare());
    #[cfg(not(feature = "mpi"))]
    let library = Library::new("", None);
    Launch::read(&environment, library)
}

/// The ranks this process was started with: MPI's where a launcher started it and the program was built with MPI, else
/// one.
///
/// Where a rank does not come, the others end after minutes, but who is `patient` waits for ever.
///
/// Call it once, first thing: with MPI it also makes a panic on any rank end all of them (the alternative is a hang,
/// because the others would wait for this rank for ever).
pub fn world(launch: &Launch, patient: bool) -> Box<dyn Communicator> {
    #[cfg(feature = "mpi")]
    if launch.starts_mpi() {
        return Box::new(mpi::Mpi::initialize(launch, patient));
    }
    let _ = (launch, patient);
    Box::new(Solo::default())
}

/// The MPI that the program was built with, by name and version; it need not be started.
pub fn library() -> String {
    #[cfg(feature = "mpi")]
    return mpi::version();
    #[cfg(not(feature = "mpi"))]
    "none: built without".to_owned()
}
