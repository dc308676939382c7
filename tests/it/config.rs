//! Runs the program to test the sources of settings, the errors of wrong settings, exit codes and closed pipes.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A temporary working folder in which the program runs with an empty environment.
struct Folder(TempDir);

struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn from_output(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plantlake"));
        command.args(args).current_dir(self.0.path()).env_clear();
        command
    }

    fn run(&self, args: &[&str], environment: &[(&str, &str)]) -> Outcome {
        let mut command = self.command(args);
        Outcome::from_output(command.envs(environment.iter().copied()).output().unwrap())
    }

    /// Returns the output of `plantlake config --json` as a map from setting to value and source.
    #[track_caller]
    fn in_force(&self, args: &[&str], environment: &[(&str, &str)]) -> Shown {
        let outcome = self.run(&[&["config", "--json"], args].concat(), environment);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let settings: Vec<serde_json::Value> = serde_json::from_str(&outcome.stdout).unwrap();
        let text = |it: &serde_json::Value, name| str::to_owned(it[name].as_str().expect(name));
        settings
            .iter()
            .map(|it| (text(it, "setting"), (text(it, "value"), text(it, "source"))))
            .collect()
    }

    /// Checks that `plantlake config` refuses the settings with an error that contains all `parts`.
    #[track_caller]
    fn is_refused(&self, args: &[&str], environment: &[(&str, &str)], parts: &[&str]) {
        let outcome = self.run(&[&["config"], args].concat(), environment);
        assert_eq!(outcome.code, 2, "{}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
        for part in parts {
            assert!(
                outcome.stderr.contains(part),
                "no {part:?} in {:?}",
                outcome.stderr
            );
        }
    }
}

type Shown = BTreeMap<String, (String, String)>;

#[test]
fn settings_come_from_the_later_source_and_name_it() {
    let toml = "# plant\nlake = 'a'\ncatalog = 'a'\njobs = 'a'\nlog = 'info'\n";
    let dotenv = "DB_HOST=elsewhere\nexport PLANTLAKE_CATALOG='b' # ours\n\
                  PLANTLAKE_JOBS=b\nPLANTLAKE_LOG=b=info\n";
    let folder = Folder::new(&[("plantlake.toml", toml), (".env", dotenv)]);
    let shown = folder.in_force(
        &["--log", "d=info"],
        &[
            ("PLANTLAKE_JOBS", "c"),
            ("PLANTLAKE_LOG", "c=info"),
            ("PLANTLAKE_FAILPOINT", "x"),
        ],
    );
    for (setting, value, source) in [
        ("lake", "a", "plantlake.toml:2"),
        ("catalog", "b", ".env:2"),
        ("jobs", "c", "environment PLANTLAKE_JOBS"),
        ("log", "d=info", "flag --log"),
        ("raw", "a/raw", "default"),
        ("state", "a/.state", "default"),
    ] {
        assert_eq!(
            shown[setting],
            (value.to_owned(), source.to_owned()),
            "{setting}"
        );
    }
}

#[test]
fn flags_are_accepted_before_and_after_the_command() {
    for args in [["--lake", "x", "config"], ["config", "--lake", "x"]] {
        let outcome = Folder::new(&[]).run(&args, &[]);
        assert!(outcome.stdout.contains("flag --lake"), "{}", outcome.stdout);
    }
}

#[test]
fn config_flag_selects_another_file_and_fails_if_it_is_missing() {
    let folder = Folder::new(&[
        ("plantlake.toml", "lake = 'a'"),
        ("other.toml", "\nlake = 'b'"),
    ]);
    let shown = folder.in_force(&["--config", "other.toml"], &[]);
    assert_eq!(shown["lake"], ("b".to_owned(), "other.toml:2".to_owned()));
    let missing = "cannot read the settings file none.toml\n  caused by: ";
    folder.is_refused(&["--config", "none.toml"], &[], &[missing]);
}

#[test]
fn unknown_setting_is_refused_with_its_location_and_nearest_name() {
    let toml = "[resample]\nthreads = 1\nmemroy = '1GiB'\n";
    Folder::new(&[("plantlake.toml", toml)]).is_refused(
        &[],
        &[],
        &[
            "plantlake.toml:3: unknown setting `resample.memroy`",
            "is `resample.memory`",
        ],
    );
    Folder::new(&[(".env", "\n\nPLANTLAKE_LAK=a")]).is_refused(
        &[],
        &[],
        &[".env:3:", "`PLANTLAKE_LAKE`"],
    );
    Folder::new(&[]).is_refused(
        &[],
        &[("PLANTLAKE_RESAMPLE_TIME_ZONE", "UTC")],
        &[
            "environment PLANTLAKE_RESAMPLE_TIME_ZONE:",
            "is `PLANTLAKE_RESAMPLE_TIMEZONE`",
        ],
    );
}

#[test]
fn wrong_value_is_refused_with_its_location_and_expected_type() {
    let refused = |name, text, parts: &[&str]| {
        Folder::new(&[(name, text)]).is_refused(&[], &[], parts);
    };
    let toml = "\n[resample]\nmemory = 'plenty'";
    refused(
        "plantlake.toml",
        toml,
        &["plantlake.toml:3:", "\"plenty\"", "expected at least 64MiB"],
    );
    refused(
        "plantlake.toml",
        "lake = 'a'\nlake ='b'",
        &["plantlake.toml:2:"],
    );
    refused(
        ".env",
        "PLANTLAKE_RESAMPLE_TIMEZONE=Mars",
        &[".env:1:", "\"Mars\"", "IANA"],
    );
    let folder = Folder::new(&[]);
    let threads = "PLANTLAKE_RESAMPLE_THREADS";
    folder.is_refused(
        &[],
        &[(threads, "many")],
        &[threads, "\"many\"", "expected a whole number"],
    );
    folder.is_refused(
        &["--lake", ""],
        &[],
        &["flag --lake: `lake` is \"\", which is empty"],
    );
}

#[test]
fn secrets_are_never_shown() {
    let toml = "[storage]\naws_secret_access_key = 'hush'\naws_region = 'eu'";
    let folder = Folder::new(&[("plantlake.toml", toml)]);
    for args in [
        ["config", "-q"],
        ["config", "--json"],
        ["--log=trace", "config"],
    ] {
        let outcome = folder.run(&args, &[("PLANTLAKE_STORAGE_AWS_SESSION_TOKEN", "hush")]);
        assert_eq!(outcome.code, 0);
        assert!(outcome.stdout.contains("******") && outcome.stdout.contains("eu"));
        assert!(
            !outcome.stdout.contains("hush") && !outcome.stderr.contains("hush"),
            "{args:?}"
        );
    }
}

#[test]
fn help_shows_examples_and_exit_codes() {
    let outcome = Folder::new(&[]).run(&["--help"], &[]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    for part in [
        "plantlake demo",
        "plantlake resample --lake",
        "plantlake query",
        "130  interrupted",
    ] {
        assert!(
            outcome.stdout.contains(part),
            "no {part:?} in {}",
            outcome.stdout
        );
    }
}

#[test]
fn wrong_usage_exits_with_code_2() {
    // The settings are wrong, too; commands that need no settings must still work.
    let folder = Folder::new(&[("plantlake.toml", "nonsense")]);
    for (args, code) in [
        (&["--version"] as &[_], 0),
        (&["config", "--docs"], 0),
        (&["config"], 2),
        (&["confg"], 2),
        (&["config", "--lakes", "x"], 2),
        (&[], 2),
    ] {
        assert_eq!(folder.run(args, &[]).code, code, "{args:?}");
    }
}

#[test]
fn closed_stdout_exits_with_code_0() {
    let folder = Folder::new(&[]);
    for args in [
        ["config", "--json"],
        ["config", "--docs"],
        ["config", "-q"],
        ["config", "--help"],
    ] {
        // The read end of the pipe is closed before the program starts.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = folder
            .command(&args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        assert_eq!(
            (child.wait().unwrap().code(), stderr.as_str()),
            (Some(0), ""),
            "{args:?}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn full_disk_exits_with_code_1() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let outcome = Folder::new(&[])
        .command(&["config"])
        .stdout(full)
        .output()
        .unwrap();
    let outcome = Outcome::from_output(outcome);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stderr.contains("\n  caused by: "),
        "{}",
        outcome.stderr
    );
}

#[test]
fn settings_documentation_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let written = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
    let outcome = Folder::new(&[]).run(&["config", "--docs"], &[]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(
        written == outcome.stdout,
        "docs/settings.md is out of date; regenerate it: \
         cargo run -- config --docs > docs/settings.md"
    );
}
