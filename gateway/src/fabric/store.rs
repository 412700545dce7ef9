//! A directory of files that appears as a whole or not at all.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::FabricError;

pub(super) struct File<'a> {
    pub name: &'a str,
    pub text: &'a str,
    pub mode: u32,
}

/// Whether nothing has this name yet, a dangling link included.
pub(super) fn must_be_free(directory: &Path) -> Result<(), FabricError> {
    match fs::symlink_metadata(directory) {
        Ok(_) => Err(FabricError::Exists(directory.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(FabricError::Read { path: directory.to_owned(), source }),
    }
}

/// Writes `files` into the new `directory`. They are made in a hidden sibling that only the owner
/// can enter and renamed at the end, so a key is never readable by others, and a crash leaves no
/// half directory under the final name.
pub(super) fn write_directory(directory: &Path, files: &[File<'_>]) -> Result<(), FabricError> {
    must_be_free(directory)?;
    let parent = directory.parent().unwrap_or(Path::new("."));
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let staging = parent.join(format!(".{name}.{}.tmp", std::process::id()));
    let result = fill(&staging, directory, parent, files);
    if result.is_err() {
        // Only the hidden directory made above; a failure to remove it must not hide the cause.
        let _ = fs::remove_dir_all(&staging);
    }
    result
}

fn fill(
    staging: &Path,
    directory: &Path,
    parent: &Path,
    files: &[File<'_>],
) -> Result<(), FabricError> {
    DirBuilder::new().mode(0o700).create(staging).map_err(failed(directory))?;
    for file in files {
        let path = staging.join(file.name);
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(file.mode)
            .open(&path)
            .map_err(failed(&directory.join(file.name)))?;
        out.write_all(file.text.as_bytes())
            .and_then(|()| out.sync_all())
            .map_err(failed(&directory.join(file.name)))?;
    }
    fs::set_permissions(staging, fs::Permissions::from_mode(0o755)).map_err(failed(directory))?;
    fs::rename(staging, directory).map_err(|error| match error.kind() {
        // Somebody else was faster; rename does not replace a directory that has files.
        io::ErrorKind::AlreadyExists
        | io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::NotADirectory => FabricError::Exists(directory.to_owned()),
        _ => failed(directory)(error),
    })?;
    // The name is durable only when the parent is.
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    fs::File::open(parent).and_then(|d| d.sync_all()).map_err(failed(directory))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> FabricError + use<> {
    let path: PathBuf = path.to_owned();
    move |source| FabricError::Write { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failure_half_way_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            File { name: "cert.pem", text: "c", mode: 0o644 },
            File { name: "no/such/place", text: "k", mode: 0o600 },
        ];
        let error = write_directory(&dir.path().join("x"), &files).unwrap_err();
        assert!(matches!(error, FabricError::Write { .. }), "{error}");
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn whatever_has_the_name_already_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let files = [File { name: "cert.pem", text: "new", mode: 0o644 }];
        fs::write(dir.path().join("file"), "old").unwrap();
        fs::create_dir(dir.path().join("empty")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        for name in ["file", "empty", "link"] {
            let error = write_directory(&dir.path().join(name), &files).unwrap_err();
            assert!(matches!(error, FabricError::Exists(_)), "{name}: {error}");
        }
        assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), "old");
        assert_eq!(names(dir.path()), ["empty", "file", "link"]);
    }

    #[test]
    fn a_lost_race_does_not_overwrite() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x");
        let staging = dir.path().join(".x.tmp");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("cert.pem"), "first").unwrap();
        let files = [File { name: "cert.pem", text: "second", mode: 0o644 }];
        let error = fill(&staging, &target, dir.path(), &files).unwrap_err();
        assert!(matches!(error, FabricError::Exists(_)), "{error}");
        assert_eq!(fs::read_to_string(target.join("cert.pem")).unwrap(), "first");
    }
}
