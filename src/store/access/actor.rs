//! The author of a change.

/// The author of a change, as recorded in the audit trail: `operator ada on plant7`, `user ada@example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor(pub String);

impl Actor {
    /// Returns the actor for a user of an organisation, as opposed to an operator.
    pub fn user(email: &str) -> Self {
        Self(format!("user {email}"))
    }

    pub(in crate::store) fn is_user(&self) -> bool {
        self.0.starts_with("user ")
    }
}
