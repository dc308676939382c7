//! Tests of which connections are closed for others.

use super::*;

fn registry(total: usize, per_address: usize) -> Registry {
    Registry::new(RegistryLimits {
        total,
        per_address,
        first_call_timeout: Duration::from_secs(10),
        unauthenticated_timeout: Duration::from_secs(30),
    })
}

fn authenticate(place: &ConnectionSlot, organisation: u128) -> Result<(), ConnectionLimitReached> {
    let organisation = OrganisationId(uuid::Uuid::from_u128(organisation));
    place.state.authenticate(organisation)
}

fn address(last: u8) -> Option<IpAddr> {
    Some([192, 0, 2, last].into())
}

fn is_closed(place: &ConnectionSlot) -> bool {
    place.state.remaining().is_err()
}

#[test]
fn open_when_full_closes_the_oldest_pending() {
    let registry = registry(8, 8);
    let first = registry.open(address(1)).unwrap();
    authenticate(&first, 1).unwrap();
    let pending: Vec<_> = (2..6).map(|i| registry.open(address(i)).unwrap()).collect();
    assert!(pending.iter().all(|place| !is_closed(place)));
    let next = registry.open(address(9)).unwrap();
    assert!(is_closed(&pending[0]) && !is_closed(&pending[1]) && !is_closed(&next));
    assert!(first.state.is_authenticated());
}

#[test]
fn open_above_address_limit_closes_only_connections_of_that_address() {
    let registry = registry(100, 8);
    let other = registry.open(address(1)).unwrap();
    let mut own: Vec<_> = (0..8).map(|_| registry.open(address(2)).unwrap()).collect();
    let next = registry.open(address(2)).unwrap();
    assert!(is_closed(&own[0]) && !is_closed(&own[1]) && !is_closed(&other));
    for (place, id) in own.iter().skip(1).zip(1..) {
        authenticate(place, id).unwrap();
    }
    authenticate(&next, 99).unwrap();
    drop(own.remove(0));
    assert!(registry.open(address(2)).is_err(), "all are in use");
    assert!(registry.open(address(3)).is_ok());
    assert!(registry.open(None).is_ok(), "a proxy is exempt");
}

#[test]
fn open_when_full_without_pending_fails_until_one_leaves() {
    let registry = registry(8, 100);
    let mut all: Vec<_> = (0..8).map(|i| registry.open(address(i)).unwrap()).collect();
    for (place, id) in all.iter().zip(1..) {
        authenticate(place, id).unwrap();
    }
    assert!(registry.open(address(9)).is_err());
    all.pop();
    assert!(registry.open(address(9)).is_ok());
    drop(all);
    let open = registry.shared.lock();
    assert_eq!((open.count, open.addresses.len()), (0, 0));
    assert!(open.organisations.is_empty());
}

#[test]
fn authenticate_above_half_of_the_places_fails() {
    let registry = registry(8, 100);
    let mut own: Vec<_> = (0..4).map(|i| registry.open(address(i)).unwrap()).collect();
    for place in &own {
        authenticate(place, 1).unwrap();
        authenticate(place, 1).unwrap();
    }
    let further = registry.open(address(5)).unwrap();
    assert_eq!(authenticate(&further, 1), Err(ConnectionLimitReached));
    assert!(!further.state.is_authenticated());
    assert_eq!(authenticate(&further, 2), Ok(()));
    let of_proxy = registry.open(None).unwrap();
    assert_eq!(authenticate(&of_proxy, 1), Ok(()));
    own.pop();
    let further = registry.open(address(6)).unwrap();
    assert_eq!(authenticate(&further, 1), Ok(()));
}

#[test]
fn pending_connection_that_misbehaves_is_closed() {
    let registry = registry(100, 100);
    let place = registry.open(address(1)).unwrap();
    assert!(!place.state.may_send(CALL_ALLOWANCE_BYTES));
    place.state.record_refusal();
    assert!(place.state.may_send(CALL_ALLOWANCE_BYTES));
    (1..MAX_REFUSED).for_each(|_| place.state.record_refusal());
    assert!(is_closed(&place));
    let place = registry.open(address(1)).unwrap();
    (0..MAX_CANCELLED_PENDING).for_each(|_| place.state.record_cancellation());
    assert!(is_closed(&place));
    let place = registry.open(address(1)).unwrap();
    authenticate(&place, 1).unwrap();
    (0..MAX_REFUSED).for_each(|_| place.state.record_refusal());
    (0..MAX_CANCELLED - 1).for_each(|_| place.state.record_cancellation());
    assert!(place.state.is_authenticated());
    place.state.record_cancellation();
    assert!(!place.state.is_authenticated());
}

#[test]
fn network_of_ipv6_address_is_its_64() {
    let of = |text: &str| counted_network(text.parse().unwrap());
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
}
