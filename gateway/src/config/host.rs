//! What the configuration has to know about the machine.

/// Facts read once at start, passed in so that rules can be tested anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// CPUs this process may run on, ascending. A container's CPU set is respected.
    pub cpus: Vec<usize>,
}

impl Host {
    /// The machine this process runs on.
    pub fn read() -> Self {
        let allowed = std::fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|status| {
                status
                    .lines()
                    .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
                    .and_then(cpu_list)
            })
            .filter(|cpus| !cpus.is_empty());
        Self {
            cpus: allowed.unwrap_or_else(|| {
                (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
            }),
        }
    }
}

/// `0-3,8` as the kernel writes CPU sets (cpuset(7), list format).
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    /// The kernel's own NR_CPUS limit is 8,192; anything above is not a CPU list.
    const MAX_CPU: usize = 65_535;
    let mut cpus = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last > MAX_CPU {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_of_the_kernel_are_read() {
        assert_eq!(cpu_list("\t0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(cpu_list("5"), Some(vec![5]));
        assert_eq!(cpu_list("0-99999999999"), None);
        assert_eq!(cpu_list("a"), None);
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!Host::read().cpus.is_empty());
    }
}
