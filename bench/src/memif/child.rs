//! The process that has the ports: what it says to the one that has the report, and its end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::config::file_prefixes;
use super::row::Row;
use crate::interrupt::Interrupt;
use crate::lab::run_program;
use crate::lab::runtime_dir::RuntimeDir;

const LOOK: Duration = Duration::from_millis(50);
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(15);

/// A line of its output.
#[derive(Debug, Serialize, Deserialize)]
pub enum Said {
    Row(Box<Row>),
    /// A measurement, or the rest of them, and why.
    Failed(String),
}

impl Said {
    /// # Errors
    /// Nobody listens any more.
    pub fn say(&self) -> anyhow::Result<()> {
        let line = serde_json::to_string(self)?;
        writeln!(std::io::stdout(), "{line}").context("whoever started this does not listen")
    }
}

/// Killed when dropped; what it has started is killed with it.
#[derive(Debug)]
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail when it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the process to its end, which an interrupt brings about, and hears what it says.
///
/// # Errors
/// It does not start, or says what cannot be read.
pub fn run(
    mut command: Command,
    interrupt: &Interrupt,
    hear: &mut dyn FnMut(Said),
) -> anyhow::Result<ExitStatus> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} does not start", command.get_program().display()))?;
    // Dropped behind the process.
    let _runtime_dirs = file_prefixes(child.id()).map(RuntimeDir::of);
    let mut child = Guard(child);
    let stdout = child.0.stdout.take().context("its output")?;
    let (send, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    let mut told = None;
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) => hear(
                serde_json::from_str(&line)
                    .with_context(|| format!("the process with the ports said {line:?}"))?,
            ),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if interrupt.is_set() {
                    end(&mut child.0, &mut told);
                }
            }
            // Its end of the pipe is closed: it has ended.
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let _ = reader.join();
    child.0.wait().context("its status")
}

/// SIGTERM, and some time later SIGKILL.
fn end(child: &mut Child, told: &mut Option<Instant>) {
    match told {
        None => {
            // Gone since: as well.
            let _ = run_program("kill", &["-TERM", &child.id().to_string()]);
            *told = Some(Instant::now());
        }
        Some(at) if at.elapsed() > GRACE => {
            let _ = child.kill();
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_process_that_says_what_cannot_be_read_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("echo $$ > {}; echo nonsense; exec sleep 1000", file.display());
        let begin = Instant::now();
        let interrupt = Interrupt::install().unwrap();
        let error = run(shell(&script), &interrupt, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("nonsense"), "{error:#}");
        assert!(begin.elapsed() < Duration::from_secs(100));
        let pid = fs::read_to_string(file).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "it runs on");
    }

    #[test]
    fn what_comes_behind_a_failure_is_heard() {
        let row = Said::Row(Box::new(Row { load: "streams".to_owned(), ..Row::default() }));
        let said = [Said::Failed("one: it's full".to_owned()), row];
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("said");
        let lines = said.map(|said| serde_json::to_string(&said).unwrap() + "\n");
        fs::write(&file, lines.concat()).unwrap();
        let script = format!("cat {}; exit 3", file.display());
        let mut heard = Vec::new();
        let interrupt = Interrupt::install().unwrap();
        let status = run(shell(&script), &interrupt, &mut |said| heard.push(said)).unwrap();
        assert_eq!(status.code(), Some(3));
        let [Said::Failed(why), Said::Row(row)] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!((why.as_str(), row.load.as_str()), ("one: it's full", "streams"));
    }
}
