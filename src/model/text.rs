//! Limits of the texts that clients and operators enter. Every text is checked here before it is stored or logged.

/// The purpose of a text. Each kind has a maximum length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextKind {
    /// The name of a person or a program.
    UserName,
    /// The purpose of an API key.
    KeyName,
    /// The public part of an API key.
    KeyId,
    /// The name or the id of an organisation.
    OrganisationName,
    /// A contact of an organisation.
    Contact,
    /// The postal address of an organisation; the only kind that may contain line breaks.
    PostalAddress,
    /// The e-mail address or the id of a user.
    Email,
    /// A location, a type or an id in a grant.
    Grant,
    /// The subject of an entry in the audit trail.
    AuditSubject,
}

/// The error for a text that fails the check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// The text is too long.
    #[error("the {what} is {found} characters long; the limit is {max}")]
    TooLong {
        /// The kind of text, in words.
        what: &'static str,
        /// The maximum length in characters.
        max: usize,
        /// The length of the text in characters.
        found: usize,
    },
    /// The text contains control characters.
    #[error(
        "the {what} has control characters, such as line breaks; use printable characters only"
    )]
    Control {
        /// The kind of text, in words.
        what: &'static str,
    },
}

impl TextKind {
    /// Returns the kind of text in words.
    pub const fn label(self) -> &'static str {
        match self {
            Self::UserName => "name of the user",
            Self::KeyName => "name of the key",
            Self::KeyId => "id of the key",
            Self::OrganisationName => "name of the organisation",
            Self::Contact => "contact",
            Self::PostalAddress => "postal address",
            Self::Email => "e-mail address",
            Self::Grant => "value of the grant",
            Self::AuditSubject => "subject of the audit entry",
        }
    }

    /// Returns the maximum length in characters.
    pub const fn max_chars(self) -> usize {
        match self {
            Self::UserName | Self::KeyName | Self::OrganisationName | Self::Contact => 200,
            Self::KeyId => 64,
            // RFC 5321, section 4.5.3.1.3, without the angle brackets.
            Self::Email => 254,
            Self::Grant => 500,
            Self::PostalAddress | Self::AuditSubject => 1_000,
        }
    }

    /// Checks a text before it is stored.
    ///
    /// # Errors
    ///
    /// Fails if the text is too long or contains control characters.
    pub fn check(self, text: &str) -> Result<(), InvalidText> {
        let what = self.label();
        // Bytes are compared first: a character has at most four, so this check rarely counts characters.
        let max = self.max_chars();
        if text.len() > max && (text.len() > 4 * max || text.chars().count() > max) {
            let found = text.chars().count();
            return Err(InvalidText::TooLong { what, max, found });
        }
        let has_lines = matches!(self, Self::PostalAddress);
        let is_unfit = |c: char| c.is_control() && !(has_lines && matches!(c, '\n' | '\t' | '\r'));
        match text.contains(is_unfit) {
            true => Err(InvalidText::Control { what }),
            false => Ok(()),
        }
    }
}

/// Prepares a text for logs and the audit trail: at most `max_chars` characters, with control characters replaced.
pub fn printable(text: &str, max_chars: usize) -> String {
    let mut out: String = text
        .chars()
        .take(max_chars)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(max_chars).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_accepts_text_up_to_its_limit_only() {
        for kind in [TextKind::UserName, TextKind::Email, TextKind::PostalAddress] {
            let max = kind.max_chars();
            assert_eq!(kind.check(&"ä".repeat(max)), Ok(()));
            for found in [max + 1, 5 << 20] {
                let error = kind.check(&"ä".repeat(found)).unwrap_err();
                assert!(
                    matches!(error, InvalidText::TooLong { found: f, .. } if f == found),
                    "{error}"
                );
                assert!(error.to_string().len() < 200);
            }
        }
    }

    #[test]
    fn check_refuses_control_characters() {
        assert!(TextKind::KeyName.check("a\nb").is_err());
        assert!(TextKind::PostalAddress.check("a\nb").is_ok());
        assert!(TextKind::PostalAddress.check("a\u{1b}[2J").is_err());
    }

    #[test]
    fn printable_truncates_and_replaces_control_characters() {
        assert_eq!(printable("ada@x\r\n", 9), "ada@x\u{fffd}\u{fffd}");
        assert_eq!(printable("abcdef", 3), "abc…");
        assert_eq!(printable("abc", 3), "abc");
    }
}
