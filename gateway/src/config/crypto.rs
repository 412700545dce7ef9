//! Which library does the cryptography of TLS.

/// What handshakes and records are computed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Crypto {
    #[default]
    Ring,
    /// AWS-LC. Its handshakes begin with a key exchange that a quantum computer does not undo
    /// (X25519MLKEM768), where the other gateway has it too.
    #[cfg(feature = "aws-lc")]
    AwsLc,
}

impl Crypto {
    /// What this build has, the default first.
    pub const ALL: &[Self] = &[
        Self::Ring,
        #[cfg(feature = "aws-lc")]
        Self::AwsLc,
    ];

    /// `None` where this build has none of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|crypto| crypto.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            #[cfg(feature = "aws-lc")]
            Self::AwsLc => "aws-lc",
        }
    }
}
