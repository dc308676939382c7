//! Tests of the spacing of attempts at gates.

use super::*;

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

/// Guesses at an account, one after another; returns the duration of each in milliseconds.
async fn guess(throttle: &Throttle, account: &str, address: IpAddr, times: u32) -> Vec<u128> {
    let mut took = Vec::new();
    for _ in 0..times {
        let since = Stopwatch::start();
        let attempt = throttle.admit(account, Some(address)).await.unwrap();
        attempt.fail().await.unwrap();
        took.push(since.elapsed().as_millis());
    }
    took
}

async fn succeed(throttle: &Throttle, account: &str, address: IpAddr) -> Duration {
    let since = Stopwatch::start();
    let attempt = throttle.admit(account, Some(address)).await;
    attempt.unwrap().succeed();
    since.elapsed()
}

#[test]
fn spacing_doubles_up_to_its_maximum() {
    let spacing: Vec<_> = (0..12).map(|n| PAIR.spacing(n).as_millis()).collect();
    assert_eq!(spacing, [0, 0, 0, 0, 0, 0, 250, 500, 500, 500, 500, 500]);
    assert_eq!(PAIR.spacing(u32::MAX), PAIR.max);
    assert_eq!(ADDRESS.spacing(u32::MAX), ADDRESS.max);
}

#[tokio::test]
async fn throttle_delays_wrong_passwords_and_admits_right_one() {
    let throttle = Throttle::default();
    let took = guess(&throttle, "Ada@x", HOME, 7).await;
    assert!(took[..5].iter().all(|ms| *ms < 200), "{took:?}");
    assert!(took[5] >= 240 && took[6] >= 490, "{took:?}");
    let wait = succeed(&throttle, " ada@X ", HOME).await;
    assert!(wait <= PAIR.max, "{wait:?}");
    // Other accounts, and the same account at another address, do not wait.
    assert!(succeed(&throttle, "bob@x", HOME).await < Duration::from_millis(100));
    assert!(succeed(&throttle, "ada@x", AWAY).await < Duration::from_millis(100));
}

#[tokio::test]
async fn concurrent_right_passwords_do_not_delay_each_other() {
    let throttle = Throttle::default();
    let since = Stopwatch::start();
    let all = (0..60).map(|_| succeed(&throttle, "ada@x", HOME));
    futures::future::join_all(all).await;
    assert!(
        since.elapsed() < Duration::from_secs(2),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test]
async fn concurrent_guesses_are_spaced_and_latest_attempt_passes_soon() {
    let throttle = Throttle::default();
    let guesses = (0..40).map(|_| guess(&throttle, "ada@x", HOME, 1));
    let guesses = futures::future::join_all(guesses);
    let owner = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        succeed(&throttle, "ada@x", HOME).await
    };
    let both = async {
        tokio::select! { _ = guesses => None, wait = owner => Some(wait) }
    };
    let wait = both.await.expect("the owner passes before the guesses");
    assert!(wait < Duration::from_secs(3), "{wait:?}");
    let state = throttle.lock();
    let gate = Gate::Pair("ada@x".to_owned(), Some(HOME));
    assert!(
        state.gates[&gate].failures <= 14,
        "{:?}",
        state.gates[&gate]
    );
}

#[tokio::test]
async fn known_account_is_not_delayed_by_foreign_guesses() {
    let throttle = Throttle::default();
    succeed(&throttle, "ada@x", HOME).await;
    for i in 0..ADDRESS.free_attempts + 10 {
        drop(throttle.admit(&format!("{i}@x"), Some(HOME)).await.unwrap());
    }
    for i in 0..=ACCOUNT.free_attempts as u8 + 2 {
        let address = Some(IpAddr::from([10, 1, 0, i]));
        drop(throttle.admit("ada@x", address).await.unwrap());
    }
    assert!(succeed(&throttle, "ada@x", HOME).await < Duration::from_millis(50));
    // A wrong password takes as long as for an account that is not known at the address.
    let known = guess(&throttle, "ada@x", HOME, 1).await;
    assert!(known[0] >= 50, "{known:?}");
}

#[tokio::test]
async fn success_does_not_clear_failures() {
    let throttle = Throttle::default();
    for _ in 0..PAIR.free_attempts {
        guess(&throttle, "ada@x", HOME, 1).await;
        succeed(&throttle, "ada@x", HOME).await;
    }
    let took = guess(&throttle, "ada@x", HOME, 1).await;
    assert!(took[0] >= 200, "{took:?}");
    let attempt = throttle.admit("ada@x", Some(HOME)).await.unwrap();
    attempt.cancel();
    let gate = Gate::Pair("ada@x".to_owned(), Some(HOME));
    assert_eq!(
        throttle.lock().gates[&gate].failures,
        PAIR.free_attempts + 1
    );
}

#[tokio::test]
async fn throttle_state_is_bounded() {
    let throttle = Throttle::default();
    let mut state = throttle.lock();
    for i in 0..MAX_RECORDS + 10 {
        let record = state.record(&Gate::Account(format!("{i}@y")));
        record.failures = 1;
        record.last_failure = Some(Stopwatch::start());
        state.record_sign_in(&format!("{i}@y"), None);
    }
    assert!(state.gates.len() <= MAX_RECORDS && state.known_pairs.len() <= MAX_RECORDS);
    // The latest sign-ins are kept.
    assert!(
        state
            .known_pairs
            .contains_key(&(format!("{}@y", MAX_RECORDS + 9), None))
    );
}

#[test]
fn network_groups_ipv6_addresses_by_64_bit_prefix() {
    let parse = |text: &str| network(text.parse().unwrap());
    assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff"));
    assert_ne!(parse("2001:db8::1"), parse("2001:db8:1::1"));
    assert_eq!(parse("::ffff:10.0.0.1"), HOME);
}
