//! The documentation of every setting as Markdown; `docs/settings.md` contains this text.

use std::fmt::Write as _;

use crate::config::spec::SETTINGS;
use crate::config::spec::setting::{DefaultValue, environment_name};
use crate::config::values::secret::{is_secret, may_be_secret};
use crate::config::values::storage;

const HEAD: &str = "\
<!-- Generated. To regenerate it: cargo run -- config --docs > docs/settings.md -->
# Settings

Each setting has a default. These sources can set it, in increasing precedence:

1. `plantlake.toml` in the working folder, or the file that `--config FILE` names;
2. a line in `.env` in the working folder (lines that do not begin with `PLANTLAKE_` are ignored);
3. an environment variable `PLANTLAKE_*`;
4. a flag.

A secret can also be read from a file, as container engines and Kubernetes provide them: `PLANTLAKE_<NAME>_FILE` in the
environment, or in `.env`, names the file. This applies to the settings that are masked, and to the URLs of databases.

An unknown setting is an error in every source. `plantlake config` shows the settings in force and where each value came from.

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
            DefaultValue::Derived {
                description: words, ..
            } => words.to_owned(),
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
    for (name, meaning) in storage::KNOWN_OPTIONS {
        let masked = if storage::is_secret(name) {
            " (masked)"
        } else {
            ""
        };
        let _ = writeln!(out, "| `{}{name}` | {meaning}{masked} |", storage::PREFIX);
    }
    out
}
