//! Tests of settings as a whole: precedence of sources, unknown names and wrong values.

use std::ffi::OsString;
use std::path::PathBuf;

use super::values::storage;
use super::*;

#[derive(Default)]
struct Case {
    toml: &'static str,
    dotenv: &'static str,
    environment: &'static [(&'static str, &'static str)],
    flags: &'static [(&'static str, &'static str, &'static str)],
}

impl Case {
    fn load(&self) -> Result<Loaded, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plantlake.toml"), self.toml).unwrap();
        std::fs::write(folder.path().join(".env"), self.dotenv).unwrap();
        let os = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        load(&Inputs {
            folder: folder.path().to_owned(),
            file: None,
            environment: self.environment.iter().map(os).collect(),
            overrides: self
                .flags
                .iter()
                .map(|&(key, flag, value)| Override {
                    key,
                    flag,
                    value: value.to_owned(),
                })
                .collect(),
        })
    }

    #[track_caller]
    fn settings(&self) -> Settings {
        self.load().unwrap().settings
    }

    /// Checks that loading fails with a message that contains all `parts`.
    #[track_caller]
    fn fails(&self, parts: &[&str]) {
        let message = self.load().unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "no {part:?} in {message:?}");
        }
    }
}

fn toml(toml: &'static str) -> Case {
    Case {
        toml,
        ..Case::default()
    }
}

#[test]
fn defaults_are_valid_and_settings_are_documented() {
    let settings = Case::default().settings();
    assert_eq!(&*settings.lake, "lake");
    assert_eq!(&*settings.raw, "lake/raw");
    assert_eq!(settings.state, PathBuf::from("lake/.state"));
    assert_eq!(settings.resample.memory, 1 << 30);
    assert!(settings.storage.options().is_empty());
    for about in SETTINGS {
        assert!(
            !about.doc.is_empty() && !about.expected.is_empty(),
            "{}",
            about.key
        );
        assert!(markdown().contains(&format!("## `{}`", about.key)));
    }
}

#[test]
fn examples_are_valid() {
    for about in SETTINGS {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{} = {}\n", about.key, about.example);
        std::fs::write(folder.path().join("plantlake.toml"), text).unwrap();
        let inputs = Inputs {
            folder: folder.path().to_owned(),
            ..Inputs::default()
        };
        let loaded = load(&inputs).unwrap();
        let shown = loaded
            .effective
            .iter()
            .find(|shown| shown.key == about.key)
            .unwrap();
        assert_ne!(shown.origin, Origin::Default);
    }
}

#[test]
fn environment_names_are_unambiguous() {
    let names: std::collections::BTreeSet<_> =
        SETTINGS.iter().map(SettingSpec::environment_name).collect();
    assert_eq!(names.len(), SETTINGS.len());
    assert!(
        !names
            .iter()
            .any(|name| name.starts_with("PLANTLAKE_STORAGE_"))
    );
}

#[test]
fn storage_names_are_known_to_object_store() {
    let mut canonical = std::collections::BTreeSet::new();
    for (name, _) in storage::KNOWN_OPTIONS {
        assert!(
            canonical.insert(storage::canonical(name).expect(name)),
            "{name} twice"
        );
    }
}

#[test]
fn load_prefers_the_later_source() {
    let all = Case {
        toml: "lake = 'a'\nraw = 'a'\ncatalog = 'a'\njobs = 'a'",
        dotenv: "PLANTLAKE_RAW=b\nPLANTLAKE_CATALOG=b\nPLANTLAKE_JOBS=b",
        environment: &[("PLANTLAKE_CATALOG", "c"), ("PLANTLAKE_JOBS", "c")],
        flags: &[("jobs", "--jobs", "d")],
    };
    let settings = all.settings();
    assert_eq!((&*settings.lake, &*settings.raw), ("a", "b"));
    assert_eq!(
        (settings.catalog, settings.jobs),
        (PathBuf::from("c"), PathBuf::from("d"))
    );
}

#[test]
fn state_and_raw_default_to_folders_of_the_lake() {
    for (lake, raw, state) in [
        ("lake = 'x'", "x/raw", "x/.state"),
        ("lake = 'x/'", "x/raw", "x/.state"),
        ("lake = 'file:///x/y'", "file:///x/y/raw", "/x/y/.state"),
        ("lake = 's3://b/y/'", "s3://b/y/raw", "state"),
        ("lake = 's3://b/y?z=a/b#c'", "s3://b/y/raw", "state"),
        ("lake = 'memory://'", "memory://raw", "state"),
    ] {
        let settings = toml(lake).settings();
        assert_eq!(
            (&*settings.raw, settings.state),
            (raw, PathBuf::from(state)),
            "{lake}"
        );
    }
}

#[test]
fn load_unknown_setting_suggests_the_nearest() {
    let near = |case: Case, name: &str, nearest: &str, place: &str| {
        case.fails(&[
            &format!("unknown setting `{name}`"),
            &format!("the nearest known one is `{nearest}`"),
            place,
        ]);
    };
    near(toml("\n\nlaek = 'a'"), "laek", "lake", "plantlake.toml:3:");
    near(
        toml("[resample]\nmemry = 1"),
        "resample.memry",
        "resample.memory",
        "plantlake.toml:2:",
    );
    near(
        toml("memory = '1GiB'"),
        "memory",
        "resample.memory",
        "plantlake.toml:1:",
    );
    near(
        toml("[resampel]\nthreads = 1"),
        "resampel.threads",
        "resample.threads",
        "plantlake.toml:2:",
    );
    toml("[resampel]").fails(&[
        "toml:1: unknown setting `resampel`",
        "known one is `resample.",
    ]);
    near(
        toml("storage.aws_endpiont = 'a'"),
        "storage.aws_endpiont",
        "storage.aws_endpoint",
        "plantlake.toml:1:",
    );
    near(
        toml("storage.aws.region = 'a'"),
        "storage.aws.region",
        "storage.aws_region",
        "toml:1:",
    );
    near(
        Case {
            dotenv: "# a\nPLANTLAKE_LAEK=a",
            ..Case::default()
        },
        "PLANTLAKE_LAEK",
        "PLANTLAKE_LAKE",
        ".env:2:",
    );
    near(
        Case {
            environment: &[("PLANTLAKE_RESAMPLE_THREAD", "1")],
            ..Case::default()
        },
        "PLANTLAKE_RESAMPLE_THREAD",
        "PLANTLAKE_RESAMPLE_THREADS",
        "environment PLANTLAKE_RESAMPLE_THREAD:",
    );
    near(
        Case {
            environment: &[("PLANTLAKE_STORAGE_AWS_REGIN", "1")],
            ..Case::default()
        },
        "PLANTLAKE_STORAGE_AWS_REGIN",
        "PLANTLAKE_STORAGE_AWS_REGION",
        "environment",
    );
    near(
        Case {
            environment: &[("PLANTLAKE_MEMORY", "1GiB")],
            ..Case::default()
        },
        "PLANTLAKE_MEMORY",
        "PLANTLAKE_RESAMPLE_MEMORY",
        "environment",
    );
}

#[test]
fn load_dissimilar_name_gets_no_suggestion() {
    let stranger = Case {
        environment: &[("PLANTLAKE_KEY", "pl_hush")],
        ..Case::default()
    };
    for case in [stranger, toml("zzz = 'hush'")] {
        let message = case.load().unwrap_err().to_string();
        assert!(
            message.contains("`plantlake config --docs` lists all settings"),
            "{message}"
        );
        assert!(
            !message.contains("hush") && !message.contains("nearest"),
            "{message}"
        );
    }
}

#[test]
fn load_reads_secrets_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string()
    };
    let given = |variables: &[(&str, &OsString)]| {
        let variables = variables.iter();
        load(&Inputs {
            folder: folder.path().to_owned(),
            environment: variables
                .map(|(name, value)| (OsString::from(name), (*value).clone()))
                .collect(),
            ..Inputs::default()
        })
    };
    let key = file("key", "hush\n");
    let url = file("url", "postgres://me:hush@db.example/organisation\r\n");
    let loaded = given(&[
        ("PLANTLAKE_QDRANT_API_KEY_FILE", &key),
        ("PLANTLAKE_ORGANISATION_URL_FILE", &url),
        ("PLANTLAKE_STORAGE_AWS_SECRET_ACCESS_KEY_FILE", &key),
    ])
    .unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.qdrant.api_key.as_ref().unwrap().expose(), "hush");
    assert!(
        settings
            .organisation_url
            .with_password()
            .ends_with("/organisation")
    );
    assert_eq!(settings.storage.options()["aws_secret_access_key"], "hush");
    assert!(!format!("{loaded:?}").contains("hush"));
    let fails = |variables: &[(&str, &OsString)], part: &str| {
        let message = given(variables).unwrap_err().to_string();
        assert!(
            message.contains(part) && !message.contains("hush"),
            "{message}"
        );
    };
    let nowhere = folder.path().join("nowhere").into_os_string();
    fails(
        &[("PLANTLAKE_MIRROR_URL_FILE", &nowhere)],
        "environment PLANTLAKE_MIRROR_URL_FILE: cannot read the file",
    );
    fails(
        &[
            ("PLANTLAKE_MIRROR_URL_FILE", &url),
            ("PLANTLAKE_MIRROR_URL", &url),
        ],
        "is already set by",
    );
    // The passwords of the original system can be in files too.
    let password = file("password", "p@ss\n");
    let host = OsString::from("db.example");
    let loaded = given(&[("auth_host", &host), ("auth_password_FILE", &password)]).unwrap();
    assert_eq!(
        loaded.settings.organisation_url.with_password(),
        "postgres://postgres:p%40ss@db.example/organisation"
    );
    assert!(!format!("{loaded:?}").contains("p@ss") && !format!("{loaded:?}").contains("p%40"));
    fails(
        &[("DB_HOST", &host), ("DB_PASSWORD_FILE", &nowhere)],
        "environment DB_PASSWORD_FILE: cannot read the file",
    );
    fails(
        &[
            ("DB_HOST", &host),
            ("DB_PASSWORD", &password),
            ("DB_PASSWORD_FILE", &password),
        ],
        "environment DB_PASSWORD_FILE: `DB_PASSWORD` is already set by environment DB_PASSWORD",
    );
    fails(
        &[("DB_HOST_FILE", &password), ("PLANTLAKE_LAKE_FILE", &key)],
        "unknown setting `PLANTLAKE_LAKE_FILE`",
    );
    // Only secrets can be in files.
    fails(
        &[("PLANTLAKE_LAKE_FILE", &key)],
        "unknown setting `PLANTLAKE_LAKE_FILE`",
    );
}

#[test]
fn load_wrong_value_names_origin_and_expectation() {
    toml("lake = 3")
        .fails(&["plantlake.toml:1: `lake` is 3, which is a number; expected a folder"]);
    toml("lake = { a = 1 }").fails(&["`lake` is {…}, which is a table"]);
    toml("lake = ''").fails(&["which is empty"]);
    toml("lake = 's3://a b'").fails(&["is not a URL"]);
    toml("state = 's3://a/b'").fails(&["is a URL; expected a folder"]);
    toml("resample = 3").fails(&["`resample` is 3, which is a number; expected a table"]);
    toml("[resample]\nmemory = '10MiB'").fails(&["toml:2:", "\"10MiB\"", "at least 64MiB"]);
    toml("[resample]\nmemory = 1.5").fails(&["a number with a fraction"]);
    toml("[resample]\nthreads = '4'").fails(&["`resample.threads` is \"4\", which is text"]);
    toml("[resample]\ntimezone = 'Mars'").fails(&["not a known zone"]);
    toml("[storage]\naws_region = [1]").fails(&["`storage.aws_region` is […], which is a list"]);
    toml("log_format = 'xml'").fails(&["expected `text` or `json`"]);
    toml("resample.earliest = 2024-01-01\nresample.latest = 2023-01-01").fails(&[
        "plantlake.toml:2:",
        "is before `resample.earliest`",
        "plantlake.toml:1",
    ]);
    Case {
        environment: &[("PLANTLAKE_RESAMPLE_THREADS", "0")],
        ..Case::default()
    }
    .fails(&[
        "environment PLANTLAKE_RESAMPLE_THREADS:",
        "\"0\"",
        "1 to 1024",
    ]);
    Case {
        dotenv: "PLANTLAKE_LOG=wran",
        ..Case::default()
    }
    .fails(&[".env:1:", "\"wran\""]);
    Case {
        flags: &[("lake", "--lake", " ")],
        ..Case::default()
    }
    .fails(&["flag --lake:"]);
}

#[test]
fn load_accepts_unquoted_dates_and_numbers() {
    let settings = toml(
        "[resample]\nearliest = 1970-01-02\nlatest = 2024-01-01T00:00:00Z\nmemory = 0x1000_0000\nthreads = 3",
    )
    .settings();
    assert_eq!(settings.resample.earliest, TimeBound::At(86_400_000_000));
    assert_eq!(settings.resample.memory, 1 << 28);
    assert_eq!(settings.resample.threads, 3);
    toml("resample.earliest = 2024-01-01T00:00:00").fails(&["is not a time", "with its zone"]);
}

#[test]
fn load_merges_synonyms_of_storage_settings() {
    let case = Case {
        toml: "[storage]\nendpoint = 'a'\naws_allow_http = true",
        environment: &[("PLANTLAKE_STORAGE_AWS_ENDPOINT_URL", "b")],
        ..Case::default()
    };
    let loaded = case.load().unwrap();
    let options = loaded.settings.storage.options();
    assert_eq!(options.get("aws_endpoint").map(String::as_str), Some("b"));
    assert_eq!(options.get("allow_http").map(String::as_str), Some("true"));
    // It is shown as written.
    assert!(
        loaded
            .effective
            .iter()
            .any(|shown| shown.key == "storage.aws_allow_http")
    );
    toml("[storage]\nendpoint = 'a'\naws_endpoint = 'b'")
        .fails(&["toml:3: `storage.aws_endpoint` is already set by", "toml:2"]);
}

#[test]
fn messages_and_reports_mask_secrets() {
    let case = toml("[storage]\naws_secret_access_key = 'hush'\naws_session_token = 'hush'");
    let loaded = case.load().unwrap();
    assert!(!format!("{loaded:?}").contains("hush"));
    let loaded = toml("qdrant_api_key = 'hush'").load().unwrap();
    assert!(!format!("{loaded:?}").contains("hush"));
    let key = loaded.settings.qdrant.api_key.unwrap();
    assert_eq!(key.expose(), "hush");
    let wrong = toml("qdrant_api_key = 4711").load().unwrap_err();
    assert!(!wrong.to_string().contains("4711"), "{wrong}");
    for broken in [
        "[storage]\naws_secret_access_key = 'hush' x",
        "[storage]\naws_secret_access_key = hush",
        "[storage]\naws_secret_access_key = ['hush']",
        "[storage]\naws_secret_acces_key = 'hush'",
        "lake = 'a\u{7}://me:hush@host'",
        "qdrant_api_key = 'hush hush'",
        "qdrant_api_key = ['hush']",
        "qdrant_url = 'http://me:hush@host'",
    ] {
        let message = toml(broken).load().unwrap_err().to_string();
        assert!(!message.contains("hush"), "{message}");
    }
}

#[test]
fn load_ignores_failpoints_and_foreign_variables() {
    let case = Case {
        dotenv: "DB_HOST=x\nPLANTLAKE_FAILPOINT_A=1\n",
        environment: &[
            ("PLANTLAKE_FAILPOINT", "commit"),
            ("LAKE", "x"),
            ("plantlake_lake", "x"),
        ],
        ..Case::default()
    };
    assert_eq!(&*case.settings().lake, "lake");
}

#[test]
fn load_fails_if_the_given_file_is_missing() {
    let inputs = Inputs {
        file: Some(PathBuf::from("nowhere.toml")),
        ..Inputs::default()
    };
    assert!(matches!(load(&inputs), Err(ConfigError::Unreadable { .. })));
}

#[test]
fn load_assembles_urls_from_original_variables() {
    let url = |case: &Case| {
        let settings = case.settings();
        let mirror = settings
            .mirror_url
            .map(|url| url.with_password().to_owned());
        (settings.organisation_url.with_password().to_owned(), mirror)
    };
    let sqlite = "sqlite:lake/.state/organisation.db".to_owned();
    assert_eq!(url(&Case::default()), (sqlite.clone(), None));
    let dotenv = Case {
        dotenv: "DB_HOST=localhost\nDB_PORT=5433\nDB_NAME=plant\nDB_USER=me\nDB_PASSWORD='p@ss:w/d'\nauth_db=no host\n",
        ..Case::default()
    };
    let mirror = Some("postgres://me:p%40ss%3Aw%2Fd@localhost:5433/plant".to_owned());
    assert_eq!(url(&dotenv), (sqlite.clone(), mirror));
    let mixed = Case {
        toml: "organisation_url = \"sqlite:a.db\"",
        dotenv: "auth_host=10.0.0.7\nPLANTLAKE_MIRROR_URL=postgres://own/name\nDB_HOST=other",
        environment: &[("auth_password", "x")],
        ..Case::default()
    };
    let own = Some("postgres://own/name".to_owned());
    let expected = "postgres://postgres:x@10.0.0.7/organisation".to_owned();
    assert_eq!(url(&mixed), (expected, own));
    let shown = mixed.load().unwrap().effective;
    let shown = shown
        .iter()
        .find(|shown| shown.key == "organisation_url")
        .unwrap();
    assert_eq!(
        shown.value,
        "postgres://postgres:******@10.0.0.7/organisation"
    );
    assert_eq!(shown.origin.to_string(), "environment auth_password");
    let socket = Case {
        environment: &[("auth_host", "/run/postgresql"), ("auth_user", "me")],
        ..Case::default()
    };
    let expected = "postgres://me@localhost/organisation?host=%2Frun%2Fpostgresql";
    assert_eq!(url(&socket).0, expected);
    let wrong = Case {
        dotenv: "auth_host=a\n\nauth_port=x\n",
        ..Case::default()
    };
    wrong.fails(&[".env:3", "`auth_port` is not a port"]);
}

#[test]
fn debug_of_settings_masks_passwords() {
    let case = toml(
        "organisation_url = \"postgres://me:hush@host/db\"\nmirror_url = \"postgres://me:hush@host/db\"",
    );
    assert!(!format!("{:?}", case.load().unwrap()).contains("hush"));
}
