//! What runs now, and how long the rest takes: a bar on a terminal, lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The bar is drawn anew this often while a step runs.
const TICK: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    begun: Instant,
    expected: Duration,
    /// Of `expected`, what finished steps were expected to take.
    done: Duration,
    current: Duration,
}

impl Default for Progress {
    /// Nothing has begun.
    fn default() -> Self {
        Self {
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            terminal: std::io::stderr().is_terminal(),
            begun: Instant::now(),
            expected: Duration::ZERO,
            done: Duration::ZERO,
            current: Duration::ZERO,
        }
    }
}

impl Progress {
    /// Begins a run that is expected to take this long.
    pub fn start(&mut self, expected: Duration) {
        self.begun = Instant::now();
        self.expected = expected;
        self.done = Duration::ZERO;
        self.current = Duration::ZERO;
        if self.terminal {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.set_length(millis(expected));
            if let Ok(style) = ProgressStyle::with_template("{wide_bar} {percent}%  {msg}") {
                self.bar.set_style(style);
            }
            self.bar.enable_steady_tick(TICK);
        }
    }

    /// The step before this one is done; this one begins.
    pub fn step(&mut self, label: &str, expected: Duration) {
        self.done += self.current;
        self.current = expected;
        let left = clock(self.left());
        if self.terminal {
            self.bar.set_position(millis(self.done));
            self.bar.set_message(format!("{left} left  {label}"));
        } else {
            let whole = millis(self.expected).max(1);
            let percent = (millis(self.done) * 100 / whole).min(100);
            print_line(&format!("[{percent:>3} %, {left} left] {label}"));
        }
    }

    /// A line above the bar.
    pub fn say(&self, line: &str) {
        if self.terminal {
            self.bar.println(line);
        } else {
            print_line(line);
        }
    }

    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
    }

    /// What is left of the expected time, corrected by how wrong it was so far.
    fn left(&self) -> Duration {
        let rest = self.expected.saturating_sub(self.done);
        if self.done.is_zero() {
            return rest;
        }
        let wrong = self.begun.elapsed().as_secs_f64() / self.done.as_secs_f64();
        rest.mul_f64(wrong.clamp(0.1, 10.0))
    }
}

/// On stderr. Whoever listened may be gone; the measurement goes on.
pub fn print_line(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_the_steps() {
        let mut progress = Progress::default();
        progress.start(Duration::from_secs(100));
        progress.step("first", Duration::from_secs(60));
        assert_eq!(progress.left(), Duration::from_secs(100));
        progress.step("second", Duration::from_secs(40));
        // The first took no time at all: the estimate was ten times too long or more.
        assert_eq!(progress.left(), Duration::from_secs(4));
        assert_eq!(clock(Duration::from_secs(125)), "2:05");
    }
}
