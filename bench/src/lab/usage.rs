//! What processes and CPUs have used, from /proc.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;

/// USER_HZ: the unit of CPU times in /proc (proc_pid_stat(5)), 100 on all 64-bit machines DPDK
/// runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process and those that its first thread started (proc_pid_children(5)).
fn family(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(pid) = family.get(next) {
        let file = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(&file).with_context(|| {
            format!("{file}: it has ended, or the kernel lacks CONFIG_PROC_CHILDREN")
        })?;
        family.extend(children.split_whitespace().filter_map(|n| n.parse::<u32>().ok()));
        next += 1;
    }
    Ok(family)
}

/// CPU seconds of a process and its children so far, user and system (proc_pid_stat(5)).
///
/// # Errors
/// It has ended.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let of = |pid| {
        let file = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&file).with_context(|| format!("{file}: it has ended"))?;
        process_seconds(&stat).with_context(|| format!("{file}: no CPU times in {stat:?}"))
    };
    family(pid)?.into_iter().map(of).sum()
}

/// utime + stime; the name in front of them may hold blanks and parentheses.
fn process_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    // The state is field 3; utime and stime are 14 and 15.
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// Nanoseconds that the thread of this name has had a CPU.
///
/// # Errors
/// There is no such thread.
pub fn thread_nanos(pid: u32, name: &str) -> anyhow::Result<u64> {
    for task in tasks(pid)? {
        if fs::read_to_string(task.join("comm")).is_ok_and(|text| text.trim() == name) {
            return task_nanos(&task);
        }
    }
    anyhow::bail!("/proc/{pid}/task: no thread is named {name}")
}

/// The same of all its threads that have not ended.
///
/// # Errors
/// It has ended.
pub fn process_nanos(pid: u32) -> anyhow::Result<u64> {
    tasks(pid)?.iter().map(|task| task_nanos(task)).sum()
}

/// Directories of its threads.
fn tasks(pid: u32) -> anyhow::Result<Vec<PathBuf>> {
    let tasks = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&tasks).with_context(|| tasks.clone())?;
    entries.map(|task| Ok(task.with_context(|| tasks.clone())?.path())).collect()
}

/// First field of a thread's schedstat.
fn task_nanos(task: &Path) -> anyhow::Result<u64> {
    let file = task.join("schedstat");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let nanos = text.split_whitespace().next().and_then(|n| n.parse().ok());
    nanos.with_context(|| format!("{}: {text:?}", file.display()))
}

/// Since when, and how long a CPU had been idle then.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    at: Instant,
    seconds: f64,
}

impl Idle {
    /// # Errors
    /// There is no such CPU.
    pub fn of(cpu: u16) -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let seconds =
            idle_seconds(&stat, cpu).with_context(|| format!("/proc/stat has no cpu{cpu}"))?;
        Ok(Self { at: Instant::now(), seconds })
    }

    /// Seconds since `self` in which the CPU did something: time that was not idle, since what
    /// interrupts do while a CPU idles without its tick is in no other column.
    pub fn busy_until(&self, now: &Self) -> f64 {
        ((now.at - self.at).as_secs_f64() - (now.seconds - self.seconds)).max(0.0)
    }
}

/// (user, nice, system), idle, iowait, (irq, softirq), steal (proc_stat(5)): not ours.
fn idle_seconds(stat: &str, cpu: u16) -> Option<f64> {
    let name = format!("cpu{cpu} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
    let times: Vec<u64> = line.split_whitespace().map_while(|n| n.parse().ok()).collect();
    let ticks: u64 = [3, 4, 7].iter().filter_map(|n| times.get(*n)).sum();
    Some(ticks as f64 / TICKS_PER_SECOND)
}

/// Bytes of memory of a process and its children: their share of what is in memory, and huge pages
/// of their own.
///
/// # Errors
/// It has ended.
pub fn memory(pid: u32) -> anyhow::Result<u64> {
    let of = |pid| {
        let file = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&file).with_context(|| format!("{file}: it has ended"))?;
        rollup(&text).with_context(|| format!("{file}: no Pss in it"))
    };
    family(pid)?.into_iter().map(of).sum()
}

fn rollup(text: &str) -> Option<u64> {
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some((kib("Pss:")? + kib("Private_Hugetlb:").unwrap_or(0)) * 1024)
}

/// How many files a process of this user may have open, at the most.
///
/// # Errors
/// /proc does not say.
pub fn open_files_limit() -> anyhow::Result<u64> {
    let limits = fs::read_to_string("/proc/self/limits").context("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    // Soft limit, hard limit, unit.
    let hard = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse().ok());
    hard.context("/proc/self/limits has no line for open files")
}

/// Files of a relay that are no connections: ports, logs, libraries.
const OTHER_FILES: u64 = 1_000;

/// Connections that a relay on the kernel's TCP may have open here: two files each.
///
/// # Errors
/// As of [`open_files_limit`].
pub fn relayed_limit() -> anyhow::Result<u64> {
    Ok(open_files_limit()?.saturating_sub(2 * OTHER_FILES) / 2)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    #[test]
    fn children_are_family() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 0.2 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let child: u32 = line.trim().parse().unwrap();
        assert_eq!(family(shell.id()).unwrap(), [shell.id(), child]);
        shell.wait().unwrap();
        let error = family(shell.id()).unwrap_err().to_string();
        assert!(error.contains("it has ended"), "{error}");
    }

    #[test]
    fn time_of_threads_is_time_of_the_process() {
        let pid = std::process::id();
        let spin = move || {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(30) {}
            let own = thread_nanos(pid, "spinning").unwrap();
            assert!(process_nanos(pid).unwrap() >= own);
            own
        };
        let thread = std::thread::Builder::new().name("spinning".into()).spawn(spin).unwrap();
        assert!(thread.join().unwrap() > 1_000_000);
        let error = thread_nanos(pid, "no such").unwrap_err().to_string();
        assert!(error.contains("no thread is named no such"), "{error}");
    }

    #[test]
    fn cpu_times_behind_any_name() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194560 9 0 0 0 150 25 7 8 20 0 1 0 5 6 7";
        assert_eq!(process_seconds(stat), Some(1.75));
        assert_eq!(process_seconds("77 (a) S 1"), None);
    }

    #[test]
    fn a_cpu_is_busy_when_it_is_not_idle() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 10 50 7000 30 20 40 5 0 0\ncpu1 1 1 1 1 1 1 1\n";
        assert_eq!(idle_seconds(stat, 0), Some(70.35));
        assert_eq!(idle_seconds(stat, 2), None);
        let before = Idle { at: Instant::now(), seconds: 70.0 };
        let after = Idle { at: before.at + Duration::from_secs(2), seconds: 71.5 };
        assert_eq!(before.busy_until(&after), 0.5);
    }

    #[test]
    fn memory_counts_huge_pages() {
        let text = "0-1 ---p [rollup]\nRss: 10 kB\nPss:   7 kB\nPrivate_Hugetlb:  2048 kB\n";
        assert_eq!(rollup(text), Some(2_055 * 1024));
        assert_eq!(rollup("Rss: 1 kB\n"), None);
    }
}
