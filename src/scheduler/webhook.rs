//! Reports failures by a POST of JSON to the URL in the settings. A report that fails is logged and has no other
//! effect.

use std::time::Duration;

use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use serde_json::json;

use crate::config::WebhookUrl;
use crate::metrics::METRICS;
use crate::model::JobSpec;
use crate::store::{JobEnd, JobRun};

/// The timeout of one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of calls for one report.
const MAX_ATTEMPTS: u32 = 3;
/// The wait before the second call; before the n-th call it is n - 1 times as long.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// The HTTP client cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot call the webhook of the setting `schedule.webhook_url`")]
pub struct WebhookError(#[source] reqwest::Error);

/// The recipient of failure reports. Its URL is a secret: whoever knows it can post there.
pub struct Webhook {
    client: Client,
    url: WebhookUrl,
}

impl Webhook {
    /// Returns a webhook with this URL.
    pub fn new(url: WebhookUrl) -> Result<Self, WebhookError> {
        let client = Client::builder()
            .timeout(CALL_TIMEOUT)
            // The message is for this address only.
            .redirect(Policy::none())
            .user_agent(concat!("plantlake/", env!("CARGO_PKG_VERSION")))
            .build();
        let client = client.map_err(WebhookError)?;
        Ok(Self { client, url })
    }

    /// Reports how a run ended.
    pub async fn report_failure(&self, spec: &JobSpec, run: &JobRun, end: &JobEnd) {
        let body = json!({
            "event": "job.failed",
            "job": spec.name,
            "kind": spec.kind.name(),
            "status": end.status.name(),
            "error": end.error,
            "attempts": end.failures,
            "host": run.host,
            "pid": run.pid,
            "run": run.id,
            "scheduled_for": run.scheduled_for,
            "started_at": run.started_at,
            "ended_at": end.at,
        });
        for number in 1..=MAX_ATTEMPTS {
            let told = self.post(body.to_string()).await;
            METRICS.jobs.count_webhook_call(told.is_ok());
            match told {
                Ok(()) => return,
                Err(why) => {
                    tracing::error!(job = %spec.name, "cannot call the webhook, attempt {number} of {MAX_ATTEMPTS}: {why}")
                }
            }
            if number < MAX_ATTEMPTS {
                tokio::time::sleep(RETRY_WAIT * number).await;
            }
        }
    }

    async fn post(&self, body: String) -> Result<(), String> {
        let request = self
            .client
            .post(self.url.expose())
            .header(CONTENT_TYPE, "application/json");
        let answer = request.body(body).send().await;
        // The error's text would contain the URL.
        let answer = answer.map_err(|error| error.without_url().to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }
}
