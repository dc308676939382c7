//! The account that a session reads: an organisation, and one of its users.

use crate::model::{OrganisationId, UserId};
use crate::store::OrganisationStore;

/// The account that a session reads, and who reads it.
#[derive(Debug, Clone)]
pub struct Account {
    /// The database that holds users, keys, limits and usage.
    pub store: OrganisationStore,
    /// The organisation that the account belongs to.
    pub organisation: OrganisationId,
    /// The user who runs the session.
    pub user: UserId,
    /// Whether the user is an admin, who sees users, keys and the usage of others.
    pub is_admin: bool,
}
