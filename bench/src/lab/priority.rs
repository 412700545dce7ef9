//! Linux gives each session of a terminal or a service an equal share of the CPUs (autogroups of
//! sched(7)), so that other sessions take time from ours whatever its processes' nice values are.

use std::fs;
use std::path::Path;

use crate::progress::print_line;

const FILE: &str = "/proc/self/autogroup";
const HIGHEST: i8 = -20;

/// Gives the session of this process the highest weight; dropped, what it had.
#[derive(Debug)]
pub(super) struct Priority {
    before: Option<i8>,
}

impl Priority {
    pub fn raise() -> Self {
        Self::of(Path::new(FILE))
    }

    /// Kernels without autogroups have no such file, and need none.
    fn of(file: &Path) -> Self {
        let before = fs::read_to_string(file).ok().and_then(|text| nice(&text));
        let before = before.filter(|_| fs::write(file, HIGHEST.to_string()).is_ok());
        Self { before }
    }

    /// The words for the report.
    pub fn describe(&self) -> &'static str {
        if self.before.is_some() { "; all in one autogroup of nice -20" } else { "" }
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        if let Some(before) = self.before
            && let Err(error) = fs::write(FILE, before.to_string())
        {
            print_line(&format!(
                "clgw-bench: {FILE} is left at nice {HIGHEST}, was {before}: {error}"
            ));
        }
    }
}

/// `/autogroup-7 nice 0`.
fn nice(text: &str) -> Option<i8> {
    text.rsplit_once("nice ")?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_is_read() {
        assert_eq!(nice("/autogroup-62 nice 0\n"), Some(0));
        assert_eq!(nice("/autogroup-62 nice -20\n"), Some(-20));
        assert_eq!(nice(""), None);
    }

    #[test]
    fn without_autogroups_nothing_is_done() {
        let priority = Priority::of(Path::new("/proc/self/no-such-file"));
        assert_eq!((priority.before, priority.describe()), (None, ""));
    }
}
