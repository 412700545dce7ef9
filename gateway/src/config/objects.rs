//! The files of an object directory.

use std::path::{Path, PathBuf};

use clgw_policy::{Diagnostic, SourceFile};

use super::{read_text, whole_file};

/// Reads every `*.yaml` and `*.yml` of `directory`, in the order of their names. Hidden files are
/// left out (editors and atomic writers leave them there for a moment), subdirectories too.
///
/// # Errors
/// Everything that could not be read, each as a diagnostic of that file.
pub fn read_objects(directory: &Path) -> Result<Vec<SourceFile>, Vec<Diagnostic>> {
    let unreadable = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "create the directory, or correct `objects` in gateway.yaml"
            }
            std::io::ErrorKind::NotADirectory => {
                "`objects` in gateway.yaml names a directory, not a file"
            }
            _ => "let the user that runs clgw read the directory",
        };
        vec![whole_file(directory, format!("object directory cannot be read: {error}"), hint)]
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        let hidden = path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
        if yaml && !hidden && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    let mut files = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        match read_text(&path) {
            Ok(text) => files.push(SourceFile { path: path.display().to_string(), text }),
            Err(error) => errors.push(*error),
        }
    }
    if errors.is_empty() { Ok(files) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_files_come_in_order_and_others_do_not_come() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", ".a.yaml", "notes.txt"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        std::fs::create_dir(dir.path().join("sub.yaml")).unwrap();
        let files = read_objects(dir.path()).unwrap();
        assert_eq!(files.iter().map(|f| f.text.as_str()).collect::<Vec<_>>(), ["a.yml", "b.yaml"]);
    }

    #[test]
    fn every_unreadable_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), b"ok: 1\n\xff").unwrap();
        std::os::unix::fs::symlink("/nonexistent/x", dir.path().join("b.yaml")).unwrap();
        let errors = read_objects(dir.path()).unwrap_err();
        assert_eq!(errors.len(), 2);
        assert!(errors[0].file.ends_with("a.yaml") && errors[0].line == 2, "{errors:?}");
        assert!(errors[1].message.contains("cannot be read"), "{errors:?}");
    }

    #[test]
    fn a_missing_directory_says_what_to_do() {
        let errors = read_objects(Path::new("/nonexistent/objects")).unwrap_err();
        assert!(errors[0].hint.contains("create the directory"), "{errors:?}");
    }
}
