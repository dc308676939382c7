//! Compiles the hook for failed allocations, and says how the program is linked.
//!
//! The hook: on stable Rust, a failed allocation aborts the process. The standard library can call a hook instead, which may
//! unwind, but the function that installs it is not stable yet (`alloc_error_hook`). So that one call is a crate of its own,
//! which is compiled here with the feature allowed, and nothing else is. Where that fails, the program is built without it,
//! and refuses no allocation.
//!
//! How the program is linked: where the system can read them, the places to put addresses into are written down in a tenth
//! of the room. They are all read when a process starts, and are 9 MB of its resident memory otherwise.

use std::process::Command;

/// glibc can read packed relocations since then.
const PACKED: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    compile_alloc_error_hook();
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

/// The crate `alloc_error_hook`.
const ALLOC_ERROR_HOOK: &str = r#"
//! Installs a function that is called when an allocation has failed.
#![feature(alloc_error_hook)]
/// Installs `hook`; it may unwind.
pub fn install(hook: fn(std::alloc::Layout)) {
    std::alloc::set_alloc_error_hook(hook)
}
"#;

/// Compiles the hook; sets `has_alloc_error_hook` if it is there to be used.
fn compile_alloc_error_hook() {
    println!("cargo::rustc-check-cfg=cfg(has_alloc_error_hook)");
    println!("cargo::rerun-if-env-changed=RUSTC");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let out = std::path::PathBuf::from(variable("OUT_DIR"));
    let source = out.join("alloc_error_hook.rs");
    let is_written = std::fs::write(&source, ALLOC_ERROR_HOOK).is_ok();
    let compiled = Command::new(variable("RUSTC"))
        // For this crate, which is no other's dependency.
        .env("RUSTC_BOOTSTRAP", "alloc_error_hook")
        .args(["--crate-name", "alloc_error_hook", "--crate-type", "rlib"])
        .args(["--edition", "2024", "-C", "opt-level=3"])
        .args(["--target", &variable("TARGET")])
        .arg("--out-dir")
        .arg(&out)
        .arg(&source)
        .status();
    if is_written && compiled.is_ok_and(|status| status.success()) {
        println!("cargo::rustc-cfg=has_alloc_error_hook");
        println!("cargo::rustc-link-search=crate={}", out.display());
    } else {
        println!(
            "cargo::warning=queries that run out of memory will abort the program: this compiler has no alloc_error_hook"
        );
    }
}
