//! The documentation of every setting as Markdown; `docs/settings.md` contains this text.

use std::fmt::Write as _;

use super::secret::{is_secret, may_be_secret};
use super::storage;
use super::table::{DefaultValue, SETTINGS, environment_name};

const HEAD: &str = "\
<!-- Generated. To write it again: cargo run -- config --docs > docs/settings.md -->
# Settings

Each setting has a default. It can be set, each source stronger than the one before, by

1. `plantlake.toml` in the working folder, or the file that `--config FILE` names;
2. a line in `.env` in the working folder (lines that do not begin with `PLANTLAKE_` are ignored);
3. an environment variable `PLANTLAKE_*`;
4. a flag.

A secret need not be in any of them: `PLANTLAKE_<NAME>_FILE` in the environment, or in `.env`, names a file that has it, as
container engines and Kubernetes hand secrets out. That goes for what is masked below, and for the URLs of databases.

A setting that plantlake does not know is an error, wherever it stands. `plantlake config` shows what is in
force and where each value came from.

```toml
# plantlake.toml
lake = \"s3://plant/lake\"

[resample]
memory = \"2GiB\"

[storage]
aws_endpoint = \"https://minio.example:9000\"
```
";

/// Returns the documentation of all settings, with their types, defaults and sources.
pub fn markdown() -> String {
    let mut out = HEAD.to_owned();
    for about in SETTINGS {
        let default = match about.default {
            DefaultValue::Fixed(text) => format!("`{text}`"),
            DefaultValue::Derived { words, .. } => words.to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "\n## `{}`\n{}\n\n- value: {}\n- default: {default}\n- example: `{} = {}`\n- environment: `{}`\n",
            about.key,
            about.doc,
            about.expected,
            about.key,
            about.example,
            about.environment_name(),
        );
        if may_be_secret(about.key) {
            let _ = writeln!(out, "- from a file: `{}_FILE`", about.environment_name());
        }
        if is_secret(about.key) {
            out.push_str("- masked wherever it is shown\n");
        }
        if let Some(flag) = about.flag {
            let (flag, of) = flag.split_once(' ').unwrap_or((flag, ""));
            let _ = writeln!(out, "- flag: {}", format!("`{flag}` {of}").trim_end());
        }
    }
    let example = environment_name("storage.aws_endpoint");
    let _ = write!(
        out,
        "\n## `storage.*`\n{}\n\nIn the environment: `{example}` and so on.\n\n| setting | meaning |\n|---|---|\n",
        storage::DOC,
    );
    for (name, meaning) in storage::KNOWN {
        let masked = if storage::is_secret(name) {
            " (masked)"
        } else {
            ""
        };
        let _ = writeln!(out, "| `{}{name}` | {meaning}{masked} |", storage::PREFIX);
    }
    out
}
