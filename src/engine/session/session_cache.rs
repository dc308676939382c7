//! A cache of recent sessions. Opening a session takes longer than planning a small query, and cached plans share one
//! session instead of holding one each.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::idle_cache::{IdleCache, IdleCacheLimits};
use super::query_session::QuerySession;
use super::views::Views;
use crate::catalog::{Snapshot, VisibleAssets};
use crate::engine::query_error::QueryError;
use crate::engine::sql::statement::SessionOption;
use crate::engine::tables::account::Account;
use crate::engine::tables::published::PublishedTables;

/// The maximum number of cached sessions.
const MAX_SESSIONS: usize = 32;
/// The time after which an unused session is dropped: it holds tables and a catalog that may have been replaced.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The inputs of a session, which are the key of the cache. Tables, catalog, views and visible assets are the same if they
/// are at the same address, which stays unique because the key keeps them alive.
pub(in crate::engine) struct SessionKey {
    pub published: Arc<PublishedTables>,
    pub catalog: Arc<Snapshot>,
    pub views: Arc<Views>,
    pub visible: Arc<VisibleAssets>,
    pub account: Account,
    pub options: Vec<SessionOption>,
}

impl PartialEq for SessionKey {
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (&self.account, &other.account);
        Arc::ptr_eq(&self.published, &other.published)
            && Arc::ptr_eq(&self.catalog, &other.catalog)
            && Arc::ptr_eq(&self.views, &other.views)
            && Arc::ptr_eq(&self.visible, &other.visible)
            && (one.organisation, one.user, one.is_admin)
                == (two.organisation, two.user, two.is_admin)
            && self.options == other.options
    }
}

impl Eq for SessionKey {}

impl Hash for SessionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.published).hash(state);
        Arc::as_ptr(&self.catalog).hash(state);
        Arc::as_ptr(&self.views).hash(state);
        Arc::as_ptr(&self.visible).hash(state);
        let account = &self.account;
        (account.organisation, account.user, account.is_admin).hash(state);
        self.options.hash(state);
    }
}

/// The sessions of one engine, which has a single organisation database.
pub(in crate::engine) struct SessionCache(IdleCache<SessionKey, QuerySession>);

impl Default for SessionCache {
    fn default() -> Self {
        Self(IdleCache::new(IdleCacheLimits {
            entries: MAX_SESSIONS,
            weight: MAX_SESSIONS as u64,
            idle_timeout: IDLE_TIMEOUT,
        }))
    }
}

impl SessionCache {
    /// Returns the session for these inputs; calls `open` if none is cached.
    pub fn get(
        &self,
        key: SessionKey,
        open: impl FnOnce(&SessionKey) -> Result<QuerySession, QueryError>,
    ) -> Result<QuerySession, QueryError> {
        if let Some(session) = self.0.get(&key, |_| true) {
            return Ok(session);
        }
        // Without the lock: at worst, two threads open the same session.
        let session = open(&key)?;
        self.0.insert(key, session.clone(), 1);
        Ok(session)
    }

    /// Removes idle sessions.
    pub fn remove_idle(&self) {
        self.0.remove_idle();
    }
}
