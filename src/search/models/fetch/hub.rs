//! Downloads from Hugging Face's hub, or from a compatible one (`HF_ENDPOINT`).
//!
//! The crate `hf-hub` bounds no sizes and does not know `HF_HUB_OFFLINE`; 0.5 reserves what the server declares, and 1.0 brings 60
//! crates and begins an interrupted file again.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::observer::{FetchEvent, FetchObserver};
use crate::model::with_causes;
use crate::search::models::files::{CONFIG, MAX_SMALL_FILE_BYTES, OPTIONAL, TOKENIZER, WEIGHTS};

const HUB: &str = "https://huggingface.co";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The read timeout.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after n consecutive failures is this times 2^n.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// The maximum number of consecutive attempts without progress.
const MAX_ATTEMPTS: u32 = 5;
/// The maximum size of the weights in bytes. Larger models are too slow on a CPU for interactive searches.
const MAX_WEIGHTS_BYTES: u64 = 8 << 30;

/// Returns the URL of the hub.
pub(super) fn display_url() -> String {
    match endpoint() {
        Ok(mut url) => {
            // The URL may contain a password.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.to_string().trim_end_matches('/').to_owned()
        }
        Err(_) => "the hub".to_owned(),
    }
}

fn env_var(variable: &str) -> Option<String> {
    std::env::var(variable)
        .ok()
        .filter(|value| !value.trim().is_empty())
}

fn endpoint() -> Result<Url, String> {
    let text = env_var("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned());
    let url =
        Url::parse(text.trim()).map_err(|error| format!("HF_ENDPOINT is not a URL ({error})"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err("HF_ENDPOINT is not a URL that begins with https:// or http://".to_owned()),
    }
}

/// Downloads a model's files into a folder.
pub(super) async fn download(
    name: &str,
    folder: &Path,
    watch: FetchObserver<'_>,
) -> Result<(), String> {
    if env_var("HF_HUB_OFFLINE")
        .is_some_and(|value| !["0", "false", "no"].contains(&value.to_lowercase().as_str()))
    {
        return Err("HF_HUB_OFFLINE forbids downloads".to_owned());
    }
    let hub = Hub::new(endpoint()?)?;
    // The small files come first: they show at once whether the model exists.
    for file in [CONFIG, TOKENIZER]
        .iter()
        .chain(&OPTIONAL)
        .chain([&WEIGHTS])
    {
        let to = folder.join(file);
        if let Some(parent) = to.parent() {
            let made = fs::create_dir_all(parent).await;
            made.map_err(|error| format!("cannot create {}: {error}", parent.display()))?;
        }
        let most = if *file == WEIGHTS {
            MAX_WEIGHTS_BYTES
        } else {
            MAX_SMALL_FILE_BYTES
        };
        let is_there = hub.file(name, file, &to, most, watch).await?;
        if !is_there && !OPTIONAL.contains(file) {
            return Err(match *file {
                CONFIG => format!("no model {name}, or it requires a token (HF_TOKEN)"),
                WEIGHTS => format!(
                    "no {WEIGHTS} of {name}; pytorch_model.bin is not supported, because such a file can run code"
                ),
                file => format!("no {file} of {name}"),
            });
        }
    }
    Ok(())
}

struct Hub {
    client: Client,
    url: Url,
    token: Option<HeaderValue>,
}

/// The outcome of an attempt.
enum Attempt {
    Done,
    NotFound,
    /// The attempt failed, but another one may succeed.
    Interrupted(String),
}

impl Hub {
    fn new(url: Url) -> Result<Self, String> {
        let is_here = url.host().is_some_and(|host| match host {
            url::Host::Domain(name) => name == "localhost",
            url::Host::Ipv4(address) => address.is_loopback(),
            url::Host::Ipv6(address) => address.is_loopback(),
        });
        let is_safe = url.scheme() == "https";
        let mut client = Client::builder()
            .user_agent(concat!("plantlake/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            // The hub redirects downloads of large files. reqwest drops the token when a redirect leads to another
            // host.
            .redirect(reqwest::redirect::Policy::limited(10))
            .https_only(is_safe);
        if is_here {
            client = client.no_proxy();
        }
        let token = match env_var("HF_TOKEN").filter(|_| is_safe || is_here) {
            Some(token) => {
                let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
                let mut value = value.map_err(|_| "HF_TOKEN has invalid characters")?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Self {
            client: client.build().map_err(error_text)?,
            url,
            token,
        })
    }

    /// Downloads one file; returns false if it does not exist.
    async fn file(
        &self,
        name: &str,
        file: &str,
        to: &Path,
        most: u64,
        watch: FetchObserver<'_>,
    ) -> Result<bool, String> {
        let mut failures = 0;
        let mut told = false;
        let mut etag = None;
        loop {
            let before = file_bytes(to).await;
            let attempt = self
                .attempt(name, file, to, most, &mut etag, &mut told, watch)
                .await?;
            let problem = match attempt {
                Attempt::Done => return Ok(true),
                Attempt::NotFound => return Ok(false),
                Attempt::Interrupted(problem) => problem,
            };
            failures = if file_bytes(to).await > before {
                1
            } else {
                failures + 1
            };
            if failures == MAX_ATTEMPTS {
                return Err(format!("{file}: {problem}"));
            }
            tokio::time::sleep(RETRY_DELAY * 2_u32.pow(failures)).await;
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all arguments describe one attempt"
    )]
    async fn attempt(
        &self,
        name: &str,
        file: &str,
        to: &Path,
        most: u64,
        etag: &mut Option<HeaderValue>,
        told: &mut bool,
        watch: FetchObserver<'_>,
    ) -> Result<Attempt, String> {
        let base = self.url.as_str().trim_end_matches('/');
        let mut request = self
            .client
            .get(format!("{base}/{name}/resolve/main/{file}"));
        if let Some(token) = &self.token {
            request = request.header(reqwest::header::AUTHORIZATION, token.clone());
        }
        // Requests the missing rest of the file; `If-Range` requests all of it if the file has changed.
        let have = file_bytes(to).await;
        if let Some(etag) = etag.as_ref().filter(|_| have > 0) {
            request = request
                .header(RANGE, format!("bytes={have}-"))
                .header(IF_RANGE, etag.clone());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(Attempt::Interrupted(error_text(error))),
        };
        let status = response.status();
        let begin = match status {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT if has_range_start(response.headers(), have) => have,
            StatusCode::NOT_FOUND => return Ok(Attempt::NotFound),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(format!(
                    "access to {file} denied ({status}): no such model, or it requires a token (HF_TOKEN)"
                ));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                return Ok(Attempt::Interrupted(format!(
                    "the server returned {status}"
                )));
            }
            status if status.is_server_error() => {
                return Ok(Attempt::Interrupted(format!(
                    "the server returned {status}"
                )));
            }
            // This includes a range that the server rejects; the next attempt then starts from the beginning.
            status if have > 0 => {
                *etag = None;
                return Ok(Attempt::Interrupted(format!(
                    "the server returned {status}"
                )));
            }
            status => return Err(format!("the server returned {status} for {file}")),
        };
        *etag = strong_etag(response.headers());
        let total = response.content_length().map(|left| begin + left);
        if total.is_some_and(|total| total > most) {
            return Err(format!("{file} is larger than {most} bytes"));
        }
        if !std::mem::replace(told, true) {
            watch(FetchEvent::File {
                name: file,
                bytes: total,
            });
        }
        receive(response, to, begin, most, watch).await
    }
}

/// Writes the body of a response to a file.
async fn receive(
    mut response: Response,
    to: &Path,
    begin: u64,
    most: u64,
    watch: FetchObserver<'_>,
) -> Result<Attempt, String> {
    let unwritable = |error| format!("cannot write {}: {error}", to.display());
    let open = match begin {
        0 => File::create(to).await,
        _ => OpenOptions::new().append(true).open(to).await,
    };
    let mut out = open.map_err(unwritable)?;
    let mut have = begin;
    let ended = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                have += chunk.len() as u64;
                if have > most {
                    return Err(format!("{} is larger than {most} bytes", to.display()));
                }
                out.write_all(&chunk).await.map_err(unwritable)?;
                watch(FetchEvent::Bytes(chunk.len() as u64));
            }
            Ok(None) => break Attempt::Done,
            Err(error) => {
                break Attempt::Interrupted(format!(
                    "the connection was lost after {have} bytes ({})",
                    error_text(error)
                ));
            }
        }
    };
    out.flush().await.map_err(unwritable)?;
    Ok(ended)
}

async fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).await.map_or(0, |about| about.len())
}

fn has_range_start(headers: &HeaderMap, at: u64) -> bool {
    let range = headers
        .get(CONTENT_RANGE)
        .and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {at}-")))
}

/// Returns the `ETag` if it is strong, that is, if it identifies the content byte by byte.
fn strong_etag(headers: &HeaderMap) -> Option<HeaderValue> {
    headers
        .get(ETAG)
        .filter(|etag| etag.as_bytes().starts_with(b"\""))
        .cloned()
}

/// Returns the text of an error and its causes, without the URL: that of a redirect grants access to the file.
fn error_text(error: reqwest::Error) -> String {
    with_causes(&error.without_url())
}
