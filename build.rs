//! Compiles the hook for failed allocations, and sets linker options.
//!
//! The hook: on stable Rust, a failed allocation aborts the process. The standard library can call a hook instead,
//! which may unwind, but the function that installs it is not stable yet (`alloc_error_hook`). So that call is the only
//! content of a separate crate, which is compiled here with the feature enabled. If the compilation fails, the program
//! is built without the hook, and refuses no allocation.
//!
//! The linker options: if the C library supports packed relative relocations, the program uses them. They take a tenth
//! of the space. All relocations are read when a process starts, and would otherwise take 9 MB of its resident memory.

use std::process::Command;

/// The first version of glibc that reads packed relocations.
const MIN_GLIBC: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    compile_alloc_error_hook();
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let is_linux = variable("TARGET") == "x86_64-unknown-linux-gnu";
    // Not for cross-compiled programs: their target may have an older C library.
    if is_linux
        && variable("HOST") == variable("TARGET")
        && glibc_version().is_some_and(|found| found >= MIN_GLIBC)
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Returns the version of this machine's C library, from the output of `getconf`: `glibc 2.36`.
fn glibc_version() -> Option<(u32, u32)> {
    let said = Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .output()
        .ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The source of the crate `alloc_error_hook`.
const ALLOC_ERROR_HOOK: &str = r#"
//! Installs a function that is called when an allocation has failed.
#![feature(alloc_error_hook)]
/// Installs `hook`; it may unwind.
pub fn install(hook: fn(std::alloc::Layout)) {
    std::alloc::set_alloc_error_hook(hook)
}
"#;

/// Compiles the hook, and sets the configuration flag `has_alloc_error_hook` if that succeeds.
fn compile_alloc_error_hook() {
    println!("cargo::rustc-check-cfg=cfg(has_alloc_error_hook)");
    println!("cargo::rerun-if-env-changed=RUSTC");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let out = std::path::PathBuf::from(variable("OUT_DIR"));
    let source = out.join("alloc_error_hook.rs");
    let is_written = std::fs::write(&source, ALLOC_ERROR_HOOK).is_ok();
    let compiled = Command::new(variable("RUSTC"))
        // Allows the unstable feature for this crate only.
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
