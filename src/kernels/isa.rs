//! Which instruction set the kernels run on: chosen once, at run time, for the processor that is there.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

/// The variable that forces an instruction set.
const VARIABLE: &str = "GLASSES_ISA";

/// An instruction set that the kernels are compiled for. All give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// One lane: the reference.
    Scalar,
    /// 4 lanes (aarch64).
    Neon,
    /// 8 lanes, with FMA.
    Avx2,
    /// 16 lanes.
    Avx512,
}

impl Isa {
    /// Slowest first.
    pub const ALL: [Isa; 4] = [Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512];

    /// As it is typed and printed.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            Isa::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.is_available() && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => false,
        }
    }

    /// Those that this processor has, slowest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }

    fn best() -> Isa {
        Isa::available().last().unwrap_or(Isa::Scalar)
    }

    /// Runs `work` with the kernels of this instruction set on this thread: for tests and benches.
    ///
    /// # Panics
    /// When this processor does not have it.
    pub fn with<R>(self, work: impl FnOnce() -> R) -> R {
        assert!(self.is_available(), "this processor has no {}", self.name());
        let before = FORCED.replace(Some(self));
        let result = work();
        FORCED.set(before);
        result
    }
}

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

static CHOSEN: OnceLock<Isa> = OnceLock::new();

/// The instruction set in use on this thread.
///
/// # Panics
/// As [`choose`] errs, where nobody called that first.
#[inline]
pub fn isa() -> Isa {
    FORCED.get().unwrap_or_else(|| *CHOSEN.get_or_init(|| choose().unwrap_or_else(|error| panic!("{error}"))))
}

/// `GLASSES_ISA` names no instruction set, or one that this processor does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchIsa {
    /// What it says.
    pub found: String,
    /// Whether there is an instruction set of that name.
    pub known: bool,
}

impl NoSuchIsa {
    /// The variable.
    pub const VARIABLE: &str = VARIABLE;

    /// What could stand there instead.
    pub fn expected(&self) -> String {
        let names: Vec<&str> = Isa::available().map(Isa::name).collect();
        format!("one of {}", names.join(", "))
    }
}

impl fmt::Display for NoSuchIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VARIABLE}: found '{}', expected {}", self.found, self.expected())
    }
}

impl std::error::Error for NoSuchIsa {}

/// The best instruction set of this processor, or the one that `GLASSES_ISA` names. The program asks once, at its start.
///
/// # Errors
/// When the variable names none, or one that this processor does not have.
pub fn choose() -> Result<Isa, NoSuchIsa> {
    let Some(wanted) = std::env::var_os(VARIABLE) else {
        return Ok(Isa::best());
    };
    let known = Isa::ALL.into_iter().find(|isa| wanted == isa.name());
    known
        .filter(|isa| isa.is_available())
        .ok_or_else(|| NoSuchIsa { found: wanted.to_string_lossy().into_owned(), known: known.is_some() })
}

/// Defines a function that runs `generic::<S>` compiled for the instruction set in use, `S` being its
/// [`Simd`](super::simd::Simd). `generic` and all that it calls must be `#[inline(always)]`, or they would be compiled
/// without the instruction set.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $generic:ident) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $type),*) $(-> $ret)? {
            use $crate::isa::{Isa, isa};
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
            fn avx512($($arg: $type),*) $(-> $ret)? {
                $generic::<$crate::simd::Avx512>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) $(-> $ret)? {
                $generic::<$crate::simd::Avx2>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "fma")]
            fn scalar_fma($($arg: $type),*) $(-> $ret)? {
                $generic::<$crate::simd::Scalar>($($arg),*)
            }
            match isa() {
                // SAFETY: `Isa` values other than `Scalar` are only chosen where `is_available` says yes, and it asks the
                // processor for these very features.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Isa::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => $generic::<$crate::simd::Neon>($($arg),*),
                // Without the feature, `mul_add` is a slow call. The result is the same.
                #[cfg(target_arch = "x86_64")]
                // SAFETY: asked for right here.
                _ if is_x86_feature_detected!("fma") => unsafe { scalar_fma($($arg),*) },
                _ => $generic::<$crate::simd::Scalar>($($arg),*),
            }
        }
    };
}

pub(super) use dispatch;
