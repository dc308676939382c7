//! The registry of open connections, and of those that are closed to make room for others.
//!
//! A connection is *pending* until a call on it presents a valid credential. Pending connections cost their clients
//! nothing. Therefore they are few, short-lived, may send little, and the oldest is closed for a new one: the credential of
//! a client that makes a call is checked within moments, whereas a client that only occupies a place presents none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;

use crate::clock::Stopwatch;
use crate::metrics::{CloseReason, METRICS};
use crate::model::OrganisationId;

/// The maximum number of pending connections, in total and from one address.
const MAX_PENDING: usize = 1024;
const MAX_PENDING_PER_ADDRESS: usize = 256;
/// The maximum number of connections above the limit that are still being closed.
const MAX_CLOSING: usize = 32;
/// The bytes that a pending connection may send before the credential of its first call is checked: more than the headers
/// of a call may have. Each refused call adds the same amount.
const CALL_ALLOWANCE_BYTES: u64 = 64 << 10;
/// The bytes that a pending connection may send for each health check.
const HEALTH_ALLOWANCE_BYTES: u64 = 4 << 10;
/// The number of calls without a valid credential after which a pending connection is closed.
const MAX_REFUSED: u32 = 32;
/// The number of calls on one connection that the client cancels before their response, within [`CANCEL_WINDOW`], after
/// which the connection is closed. The limit is lower for a pending connection.
const MAX_CANCELLED: u32 = 1_000;
const MAX_CANCELLED_PENDING: u32 = 64;
const CANCEL_WINDOW: Duration = Duration::from_secs(10);

const PENDING: u8 = 0;
const AUTHENTICATED: u8 = 1;
const CLOSED: u8 = 2;

/// Limits on the number of connections, and on the time without a credential.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct RegistryLimits {
    /// The maximum number of connections.
    pub total: usize,
    /// The maximum number of connections from one address.
    pub per_address: usize,
    /// The time limit for the headers of the first call.
    pub first_call_timeout: Duration,
    /// The time limit for a call to present a valid credential.
    pub unauthenticated_timeout: Duration,
}

impl RegistryLimits {
    fn max_pending(&self) -> usize {
        MAX_PENDING.min(self.total / 2).max(1)
    }

    /// The maximum number of connections of one organisation. It must not take all places, nor all places of an address,
    /// which other organisations may share.
    fn max_per_organisation(&self) -> usize {
        (self.total / 2).min(self.per_address * 3 / 4).max(1)
    }

    fn max_pending_per_address(&self) -> usize {
        MAX_PENDING_PER_ADDRESS.min(self.max_pending() / 2).max(1)
    }
}

/// A registry of the open connections. Cheap to clone.
#[derive(Clone)]
pub(in crate::server) struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    limits: RegistryLimits,
    is_stopping: AtomicBool,
    open: Mutex<OpenConnections>,
}

#[derive(Default)]
struct OpenConnections {
    next_id: u64,
    count: usize,
    /// The pending connections by id, the oldest first.
    pending: BTreeMap<u64, Arc<ConnectionState>>,
    addresses: HashMap<IpAddr, AddressConnections>,
    /// The number of authenticated connections of each organisation.
    organisations: HashMap<OrganisationId, usize>,
}

#[derive(Default)]
struct AddressConnections {
    count: usize,
    pending: BTreeSet<u64>,
}

/// The error that there is no place for a connection, and no other connection can be closed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct ConnectionLimitReached;

/// The place of an open connection; released on drop.
pub(in crate::server) struct ConnectionSlot {
    state: Arc<ConnectionState>,
}

/// The state of a connection, shared by the task that reads from it and by those that handle its calls.
pub(in crate::server) struct ConnectionState {
    id: u64,
    /// The network that limits on addresses count; none for a connection that is exempt from them.
    network: Option<IpAddr>,
    phase: AtomicU8,
    /// The organisation whose credential was presented first.
    organisation: OnceLock<OrganisationId>,
    has_call: AtomicBool,
    allowance_bytes: AtomicU64,
    refused: AtomicU32,
    cancelled: Mutex<(Stopwatch, u32)>,
    /// Started when the connection was opened; restarted after the handshake and by each health check.
    pending_since: Mutex<Stopwatch>,
    /// The waker of the task that reads from the connection.
    reader: AtomicWaker,
    shared: Arc<Shared>,
}

impl Registry {
    pub fn new(limits: RegistryLimits) -> Self {
        let shared = Arc::new(Shared {
            limits,
            is_stopping: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let weak = Arc::downgrade(&shared);
        METRICS
            .connections
            .open
            .set_source(move || Some(weak.upgrade()?.lock().count as f64));
        Self { shared }
    }

    /// Opens a place for a new connection from `address`; for a connection of a trusted proxy, the address is none.
    ///
    /// # Errors
    ///
    /// Fails if all places are taken by connections that have presented a credential.
    pub fn open(&self, address: Option<IpAddr>) -> Result<ConnectionSlot, ConnectionLimitReached> {
        let network = address.map(counted_network);
        let limits = &self.shared.limits;
        let mut open = self.shared.lock();
        if let Some(network) = network
            && let Some(own) = open.addresses.get(&network)
        {
            let is_full = own.count >= limits.per_address;
            if is_full || own.pending.len() >= limits.max_pending_per_address() {
                let oldest = own.pending.first().copied();
                open.evict(oldest, is_full)?;
            }
        }
        let is_full = open.count >= limits.total;
        if is_full || open.pending.len() >= limits.max_pending() {
            let oldest = open.pending.keys().next().copied();
            open.evict(oldest, is_full)?;
        }
        if open.count >= limits.total + MAX_CLOSING {
            return Err(ConnectionLimitReached);
        }
        let id = open.next_id;
        open.next_id += 1;
        open.count += 1;
        let state = Arc::new(ConnectionState {
            id,
            network,
            phase: AtomicU8::new(PENDING),
            organisation: OnceLock::new(),
            has_call: AtomicBool::new(false),
            allowance_bytes: AtomicU64::new(CALL_ALLOWANCE_BYTES),
            refused: AtomicU32::new(0),
            cancelled: Mutex::new((Stopwatch::start(), 0)),
            pending_since: Mutex::new(Stopwatch::start()),
            reader: AtomicWaker::new(),
            shared: Arc::clone(&self.shared),
        });
        open.pending.insert(id, Arc::clone(&state));
        if let Some(network) = network {
            let own = open.addresses.entry(network).or_default();
            own.count += 1;
            own.pending.insert(id);
        }
        Ok(ConnectionSlot { state })
    }

    /// Closes all pending connections, because the server shuts down. The others end when their calls have ended.
    pub fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        let mut open = self.shared.lock();
        while let Some((_, state)) = open.pending.pop_first() {
            state.close();
        }
        open.addresses
            .values_mut()
            .for_each(|own| own.pending.clear());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    /// Closes the pending connection `oldest` for another one.
    ///
    /// # Errors
    ///
    /// Fails if there is no such connection, and a place `is_needed`.
    fn evict(
        &mut self,
        oldest: Option<u64>,
        is_needed: bool,
    ) -> Result<(), ConnectionLimitReached> {
        let state = oldest.and_then(|id| self.pending.get(&id).cloned());
        let Some(state) = state else {
            return if is_needed {
                Err(ConnectionLimitReached)
            } else {
                Ok(())
            };
        };
        self.remove_pending(&state);
        METRICS.connections.count_closed(CloseReason::Full);
        state.close();
        Ok(())
    }

    fn remove_pending(&mut self, state: &ConnectionState) {
        self.pending.remove(&state.id);
        if let Some(network) = state.network
            && let Some(own) = self.addresses.get_mut(&network)
        {
            own.pending.remove(&state.id);
        }
    }
}

impl ConnectionSlot {
    /// Returns the state of the connection.
    pub fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut open = self.state.shared.lock();
        open.remove_pending(&self.state);
        if let Some(organisation) = self.state.organisation.get()
            && let Some(count) = open.organisations.get_mut(organisation)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.organisations.remove(organisation);
            }
        }
        open.count = open.count.saturating_sub(1);
        if let Some(network) = self.state.network
            && let Some(own) = open.addresses.get_mut(&network)
        {
            own.count = own.count.saturating_sub(1);
            if own.count == 0 {
                open.addresses.remove(&network);
            }
        }
    }
}

impl ConnectionState {
    /// Records that the headers of a call have arrived.
    pub fn record_call(&self) {
        if !self.has_call.load(Ordering::Relaxed) {
            self.has_call.store(true, Ordering::Relaxed);
        }
    }

    /// Records that a call presented a valid credential of `organisation`: the connection is no longer pending.
    ///
    /// # Errors
    ///
    /// Fails if the organisation has as many connections as it may have; the connection stays pending.
    pub fn authenticate(&self, organisation: OrganisationId) -> Result<(), ConnectionLimitReached> {
        if self.phase.load(Ordering::Acquire) != PENDING {
            return Ok(());
        }
        let mut open = self.shared.lock();
        let count = open.organisations.get(&organisation).copied();
        let count = count.unwrap_or_default();
        // Organisations share the connections of proxies, so these are not counted.
        let is_counted = self.network.is_some() && self.organisation.get().is_none();
        if is_counted && count >= self.shared.limits.max_per_organisation() {
            METRICS.connections.count_closed(CloseReason::Full);
            return Err(ConnectionLimitReached);
        }
        let changed = self
            .phase
            .compare_exchange(PENDING, AUTHENTICATED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if changed {
            if is_counted && self.organisation.set(organisation).is_ok() {
                open.organisations.insert(organisation, count + 1);
            }
            open.remove_pending(self);
            drop(open);
            self.reader.wake();
        }
        Ok(())
    }

    /// Records that a call presented no valid credential.
    pub fn record_refusal(&self) {
        if self.phase.load(Ordering::Acquire) != PENDING {
            return;
        }
        self.add_allowance(CALL_ALLOWANCE_BYTES);
        if self.refused.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_REFUSED {
            self.close_with_reason(CloseReason::Misuse);
        }
    }

    /// Records a health check, which requires no credential: the time limit of a pending connection starts again.
    pub fn record_health_check(&self) {
        if self.phase.load(Ordering::Acquire) == PENDING {
            *self
                .pending_since
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Stopwatch::start();
            self.add_allowance(HEALTH_ALLOWANCE_BYTES);
        }
    }

    /// Records that the client cancelled a call before its response. Too many such calls close the connection: each costs
    /// the server work, and the client next to nothing.
    pub fn record_cancellation(&self) {
        let mut cancelled = self
            .cancelled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if cancelled.0.elapsed() > CANCEL_WINDOW {
            *cancelled = (Stopwatch::start(), 0);
        }
        cancelled.1 += 1;
        let max = match self.phase.load(Ordering::Acquire) {
            AUTHENTICATED => MAX_CANCELLED,
            _ => MAX_CANCELLED_PENDING,
        };
        let is_too_many = cancelled.1 == max;
        drop(cancelled);
        if is_too_many {
            self.close_with_reason(CloseReason::Misuse);
        }
    }

    fn add_allowance(&self, bytes: u64) {
        self.allowance_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.reader.wake();
    }

    fn close_with_reason(&self, reason: CloseReason) {
        METRICS.connections.count_closed(reason);
        tracing::debug!(address = ?self.network, ?reason, "a connection is closed");
        self.close();
    }

    fn close(&self) {
        self.phase.store(CLOSED, Ordering::Release);
        self.reader.wake();
    }

    /// Whether a call on the connection has presented a valid credential, and the connection is not to be closed.
    pub fn is_authenticated(&self) -> bool {
        self.phase.load(Ordering::Acquire) == AUTHENTICATED
    }

    /// Whether the server shuts down.
    pub fn is_server_stopping(&self) -> bool {
        self.shared.is_stopping.load(Ordering::Acquire)
    }

    /// Polls whether the connection is to be closed, and registers the task that reads from it.
    pub fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        self.reader.register(context.waker());
        match self.phase.load(Ordering::Acquire) {
            CLOSED => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Returns how long the connection may stay pending from now on.
    ///
    /// # Errors
    ///
    /// Fails if the connection is to be closed, or has been pending for too long.
    pub fn remaining(&self) -> io::Result<Duration> {
        if self.phase.load(Ordering::Acquire) == CLOSED {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let limits = &self.shared.limits;
        let limit = match self.has_call.load(Ordering::Relaxed) {
            true => limits.unauthenticated_timeout,
            false => limits.first_call_timeout,
        };
        let since = *self
            .pending_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match limit.checked_sub(since.elapsed()) {
            Some(remaining) if !remaining.is_zero() => Ok(remaining),
            _ => {
                self.close_with_reason(CloseReason::Timeout);
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    /// Whether the connection may send more after `sent_bytes`.
    pub fn may_send(&self, sent_bytes: u64) -> bool {
        sent_bytes < self.allowance_bytes.load(Ordering::Acquire)
    }

    /// Starts the time limit for the first call; the handshake before it had a limit of its own.
    pub fn end_handshake(&self) {
        *self
            .pending_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Stopwatch::start();
    }
}

/// Returns the network that limits count as one address: the holder of an IPv6 address has its whole /64.
fn counted_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;
