//! What is put into the queue: one thing to do, small enough to be copied around, and the key by which it is done once.

use serde::{Deserialize, Serialize};

/// Identifies what is done, however often it is asked for: the sender chooses it, and every effect carries it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobKey(String);

/// A key that could not be part of a file's name or a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job's key has 1 to 64 letters, digits, `-` or `_`")]
pub struct BadKey;

impl JobKey {
    /// Checks a key that came from outside.
    ///
    /// # Errors
    ///
    /// [`BadKey`].
    pub fn new(text: impl Into<String>) -> Result<Self, BadKey> {
        let text = text.into();
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if (1..=64).contains(&text.len()) && text.bytes().all(is_good) { Ok(Self(text)) } else { Err(BadKey) }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One thing to do, apart from the request that asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Job {
    /// A smaller picture of one that was uploaded: a long task.
    Thumbnail {
        /// The file's name in the folder of uploads.
        picture: String,
        /// Width and height of the thumbnail in pixels.
        pixels: u32,
    },
    /// A letter to a new user, by SMTP.
    Mail {
        /// The address.
        to: String,
        /// The subject.
        subject: String,
        /// The text.
        text: String,
    },
    /// A text message, by the webhook of a provider.
    Sms {
        /// The number.
        phone: String,
        /// The text.
        text: String,
    },
    /// A notification in the browsers of a user.
    Notification {
        /// Whose.
        user: u64,
        /// The text.
        text: String,
    },
    /// Cannot be done, however often it is tried: a poison message.
    Impossible,
}

impl Job {
    /// Its kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Thumbnail { .. } => "thumbnail",
            Self::Mail { .. } => "mail",
            Self::Sms { .. } => "sms",
            Self::Notification { .. } => "notification",
            Self::Impossible => "impossible",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_could_leave_its_folder_or_its_header_is_refused() {
        for text in ["", "../x", "a b", "a\r\nB: c", &"x".repeat(65)] {
            assert_eq!(JobKey::new(text), Err(BadKey), "{text:?}");
        }
        assert!(JobKey::new("mail-1_7").is_ok());
    }
}
