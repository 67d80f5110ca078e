//! What must not be printed.

use std::fmt;

/// A password or a private key. It's never printed: not in the log, not by `{:?}`.
#[derive(Clone, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Hides it from now on.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that uses it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
