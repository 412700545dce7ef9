//! The directory that EAL makes for each file prefix and leaves behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::progress::print_line;

/// EAL's file prefix of a gateway that process `pid` of this program starts.
pub fn file_prefix(pid: u32, site: &str) -> String {
    format!("clgw-bench-{pid}-{site}")
}

/// Removes the directory of a prefix when dropped; to be dropped after the process of that prefix
/// has ended, or its EAL was cleaned up.
#[derive(Debug)]
pub struct RuntimeDir(String);

impl RuntimeDir {
    /// `prefix` must be of one process of this run only: others may still use theirs.
    pub fn of(prefix: impl Into<String>) -> Self {
        Self(prefix.into())
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        if let Err(error) = remove(&parent(), &self.0) {
            print_line(&format!(
                "clgw-bench: EAL's directory of {} is left behind: {error}",
                self.0
            ));
        }
    }
}

/// Where EAL has the directories of this user's processes: like EAL's own choice, which follows
/// systemd.exec(5) and the XDG Base Directory Specification.
fn parent() -> PathBuf {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let real = uids.and_then(|ids| ids.split_whitespace().next());
    parent_of(real == Some("0"), |name| std::env::var_os(name).map(PathBuf::from))
}

fn parent_of(root: bool, variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    let directory = variable("RUNTIME_DIRECTORY").unwrap_or_else(|| match root {
        true => "/var/run".into(),
        false => variable("XDG_RUNTIME_DIR").unwrap_or_else(|| "/tmp".into()),
    });
    directory.join("dpdk")
}

fn remove(parent: &Path, prefix: &str) -> io::Result<()> {
    // Anything else would be the directory of others.
    if prefix.is_empty() || prefix.starts_with('.') || prefix.contains('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file prefix"));
    }
    match fs::remove_dir_all(parent.join(prefix)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_directory_of_the_prefix_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        for prefix in ["mine-1", "mine-10"] {
            fs::create_dir(parent.path().join(prefix)).unwrap();
            fs::write(parent.path().join(prefix).join("config"), "").unwrap();
        }
        remove(parent.path(), "mine-1").unwrap();
        remove(parent.path(), "mine-1").unwrap();
        for wrong in ["", ".", "..", "../x", "a/b"] {
            assert!(remove(parent.path(), wrong).is_err(), "{wrong}");
        }
        let left: Vec<_> = fs::read_dir(parent.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert!(parent.path().join("mine-10/config").is_file());
    }

    #[test]
    fn the_place_is_the_one_that_eal_chooses() {
        let none = |_: &str| None;
        let only = |set: &'static str| move |name: &str| (name == set).then(|| PathBuf::from("/x"));
        let place = |root, variable: &dyn Fn(&str) -> Option<PathBuf>| parent_of(root, variable);
        assert_eq!(place(true, &none), Path::new("/var/run/dpdk"));
        assert_eq!(place(false, &none), Path::new("/tmp/dpdk"));
        assert_eq!(place(true, &only("XDG_RUNTIME_DIR")), Path::new("/var/run/dpdk"));
        assert_eq!(place(false, &only("XDG_RUNTIME_DIR")), Path::new("/x/dpdk"));
        assert_eq!(place(true, &only("RUNTIME_DIRECTORY")), Path::new("/x/dpdk"));
    }
}
