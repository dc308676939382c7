//! A cache of recent sessions. Opening a session takes longer than planning a small query, and cached plans share one
//! session instead of holding one each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::QueryError;
use super::account::Account;
use super::published::PublishedTables;
use super::session::QuerySession;
use super::sql::SessionOption;
use super::views::Views;
use crate::catalog::{Snapshot, VisibleAssets};
use crate::clock::Stopwatch;

/// The maximum number of cached sessions.
const MAX_SESSIONS: usize = 32;
/// The time after which an unused session is dropped: it holds tables and a catalog that may have been replaced.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The inputs of a session, which are the key of the cache.
pub(super) struct SessionKey {
    pub published: Arc<PublishedTables>,
    pub catalog: Arc<Snapshot>,
    pub views: Arc<Views>,
    pub visible: Arc<VisibleAssets>,
    pub account: Account,
    pub options: Vec<SessionOption>,
}

impl SessionKey {
    fn is_same(&self, other: &Self) -> bool {
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

/// The sessions of one engine, which has a single organisation database.
#[derive(Default)]
pub(super) struct SessionCache {
    entries: Mutex<Vec<(SessionKey, QuerySession, Stopwatch)>>,
}

impl SessionCache {
    /// Returns the session for these inputs; calls `open` if none is cached.
    pub fn get(
        &self,
        key: SessionKey,
        open: impl FnOnce(&SessionKey) -> Result<QuerySession, QueryError>,
    ) -> Result<QuerySession, QueryError> {
        {
            let mut kept = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|(_, _, used)| used.elapsed() < IDLE_TIMEOUT);
            let mut known = kept.iter_mut();
            if let Some((_, session, used)) = known.find(|(known, _, _)| known.is_same(&key)) {
                *used = Stopwatch::start();
                return Ok(session.clone());
            }
        }
        let session = open(&key)?;
        let mut kept = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_SESSIONS {
            let idlest = kept.iter().enumerate();
            let idlest = idlest.max_by_key(|(_, (_, _, used))| used.elapsed());
            if let Some(at) = idlest.map(|(at, _)| at) {
                kept.swap_remove(at);
            }
        }
        kept.push((key, session.clone(), Stopwatch::start()));
        Ok(session)
    }
}
