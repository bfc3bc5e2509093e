//! Which build of the program each rank is.

use std::fs::File;
use std::hash::Hasher;
use std::io::Read;

use object::Object;
use object::read::ReadCache;
use twox_hash::XxHash3_64;

/// The commit that the program was built from; `-modified` behind it where the sources were others.
pub const COMMIT: &str = git_version::git_version!(
    args = ["--always", "--abbrev=12", "--exclude=*", "--dirty=-modified"],
    fallback = "unknown"
);

/// What tells this build from any other: the linker's digest of it where there is one, which is read from a page or two; else
/// one of the whole file.
pub fn executable() -> String {
    let digest = std::env::current_exe().and_then(|path| linked(&path).map_or_else(|| whole(&path), Ok));
    digest.unwrap_or_else(|_| "unknown".to_owned())
}

fn linked(path: &std::path::Path) -> Option<String> {
    let cache = ReadCache::new(File::open(path).ok()?);
    let file = object::File::parse(&cache).ok()?;
    let id = match file.build_id() {
        Ok(Some(id)) => id.to_owned(),
        _ => file.mach_uuid().ok()??.to_vec(),
    };
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn whole(path: &std::path::Path) -> std::io::Result<String> {
    let (mut file, mut hash, mut part) = (File::open(path)?, XxHash3_64::default(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut part)? {
            0 => return Ok(format!("{:016x}", hash.finish())),
            read => hash.write(&part[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_known_by_its_linker_s_digest_or_its_bytes() {
        let id = executable();
        assert!(id.len() >= 16 && id.bytes().all(|c| c.is_ascii_hexdigit()) && id == executable(), "{id}");
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        std::fs::write(&one, "no program").unwrap();
        std::fs::write(&two, "no programs").unwrap();
        assert_eq!(linked(&one), None);
        assert_ne!(whole(&one).unwrap(), whole(&two).unwrap());
    }
}
