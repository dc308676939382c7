//! How the program is linked: where the system can read them, the places to put addresses into are written down in a tenth
//! of the room. They are all read when a process starts, and are 9 MB of its resident memory otherwise.

use std::process::Command;

/// glibc can read packed relocations since then.
const PACKED: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    let is_linux = of("TARGET") == "x86_64-unknown-linux-gnu";
    // What is built here for elsewhere may meet an older system.
    if is_linux && of("HOST") == of("TARGET") && glibc().is_some_and(|found| found >= PACKED) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library: `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .output()
        .ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
