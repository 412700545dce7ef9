//! The one error of this crate's control path: what was tried, on what, why it failed, what to do.

use std::ffi::{CString, c_int};

use thiserror::Error;

/// A failed EAL, pool, port or queue operation.
#[derive(Debug, Clone, Error)]
#[error("{op} `{subject}` failed: {}. {hint}{}", errno_text(*.errno), log_text(.log))]
pub struct DpdkError {
    /// What was tried, as a verb phrase: "start EAL", "configure port".
    pub op: &'static str,
    /// The port, pool, option or thread it was tried on.
    pub subject: String,
    /// The positive errno of DPDK, or of the kernel below it.
    pub errno: i32,
    /// What to do about it.
    pub hint: String,
    /// The end of what DPDK logged during the operation; empty if nothing.
    pub log: String,
}

/// Errno values this crate makes or tells apart itself (Linux, all architectures DPDK runs on).
pub(crate) mod errno {
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const ENOMEM: i32 = 12;
    pub(crate) const EACCES: i32 = 13;
    pub(crate) const EBUSY: i32 = 16;
    pub(crate) const EEXIST: i32 = 17;
    pub(crate) const ENODEV: i32 = 19;
    pub(crate) const EINVAL: i32 = 22;
    pub(crate) const ENAMETOOLONG: i32 = 36;
    pub(crate) const ENOTSUP: i32 = 95;
    pub(crate) const EALREADY: i32 = 114;
}

impl DpdkError {
    /// For a rule this crate checks before DPDK is asked.
    pub(crate) fn refused(
        op: &'static str,
        subject: impl Into<String>,
        errno: i32,
        hint: impl Into<String>,
    ) -> Self {
        Self { op, subject: subject.into(), errno, hint: hint.into(), log: String::new() }
    }

    /// For a DPDK call that returned `code` (negative errno); takes along what DPDK logged.
    pub(crate) fn from_code(
        op: &'static str,
        subject: impl Into<String>,
        code: c_int,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            op,
            subject: subject.into(),
            errno: code.saturating_neg(),
            hint: hint.into(),
            log: take_log(),
        }
    }
}

/// Empties the captured DPDK log and returns its end.
pub(crate) fn take_log() -> String {
    let mut buffer = [0u8; 1024];
    // SAFETY: the buffer is writable for the length given; the shim writes at most that much.
    let n = unsafe { dpdk_sys::clgw_log_take(buffer.as_mut_ptr(), buffer.len() as u32) };
    String::from_utf8_lossy(&buffer[..(n as usize).min(buffer.len())]).trim().to_owned()
}

/// For strings that become C strings; DPDK would silently cut them at the first zero byte.
pub(crate) fn c_string(op: &'static str, text: &str) -> Result<CString, DpdkError> {
    CString::new(text).map_err(|_| {
        DpdkError::refused(
            op,
            text.escape_default().to_string(),
            errno::EINVAL,
            "The text contains a zero byte; remove it",
        )
    })
}

fn errno_text(errno: i32) -> String {
    // DPDK's own values above the kernel's.
    match errno {
        1001 => "not allowed in a secondary process (1001)".into(),
        1002 => "EAL has no shared configuration (1002)".into(),
        _ => std::io::Error::from_raw_os_error(errno).to_string(),
    }
}

fn log_text(log: &str) -> String {
    const LINES: usize = 4;
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    if lines.is_empty() {
        return String::new();
    }
    format!(". DPDK said: {}", lines[lines.len().saturating_sub(LINES)..].join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_where_why_and_what_to_do() {
        let mut error = DpdkError::refused("configure port", "net_x", errno::EINVAL, "Do this");
        assert_eq!(
            error.to_string(),
            "configure port `net_x` failed: Invalid argument (os error 22). Do this"
        );
        error.log = "a\nb\n\n c\nd\ne\n".into();
        assert!(error.to_string().ends_with("Do this. DPDK said: b | c | d | e"), "{error}");
    }

    #[test]
    fn zero_bytes_are_refused() {
        assert_eq!(c_string("x", "a\0b").unwrap_err().errno, errno::EINVAL);
        assert_eq!(c_string("x", "ab").unwrap().as_bytes(), b"ab");
    }
}
