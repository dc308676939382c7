//! Tests of the webhook: it reports a failed job with the details, and no successful one.

use std::sync::{Arc, Mutex};

use plantlake::config::{Inputs, load};
use plantlake::scheduler::Webhook;
use plantlake::store::RunStatus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::schedule::plant::{Plant, seconds, spec};

/// Starts a server that records requests; it answers the first one with an error.
async fn server() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks/SECRET", listener.local_addr().unwrap());
    let posted = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&posted);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4_096];
            loop {
                let count = stream.read(&mut buffer).await.unwrap();
                request.extend_from_slice(&buffer[..count]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let length = text.lines().find_map(|line| {
                    line.to_lowercase()
                        .strip_prefix("content-length: ")?
                        .trim()
                        .parse::<usize>()
                        .ok()
                });
                if let (Some((_, body)), Some(length)) = (text.split_once("\r\n\r\n"), length)
                    && body.len() >= length
                {
                    let first = {
                        let mut posted = posted.lock().unwrap();
                        posted.push(text.clone());
                        posted.len() == 1
                    };
                    let status = if first {
                        "503 Not Now"
                    } else {
                        "204 No Content"
                    };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    break;
                }
                assert!(count > 0, "{text}");
            }
        }
    });
    (url, taken)
}

#[tokio::test]
async fn webhook_reports_failures_and_hides_its_url() {
    let (url, posted) = server().await;
    let inputs = Inputs {
        environment: vec![("PLANTLAKE_SCHEDULE_WEBHOOK_URL".into(), url.clone().into())],
        ..Inputs::default()
    };
    let loaded = load(&inputs).unwrap();
    let shown = format!("{:?} {:?}", loaded.settings, loaded.effective);
    assert!(!shown.contains("SECRET"), "{shown}");
    let plant = Plant::new("2026-05-01T12:59:30Z", |context, _| {
        (
            seconds(5),
            if context.spec.name == "fails" {
                Err("no luck")
            } else {
                Ok(())
            },
        )
    });
    let mut worker = plant.worker().await;
    worker.webhook = Some(Webhook::new(loaded.settings.schedule.webhook_url.unwrap()).unwrap());
    let daemon = plant.start_with(
        worker,
        &[spec("fails", "0 13 * * *"), spec("works", "0 13 * * *")],
    );
    plant.pass(seconds(120)).await;
    assert_eq!(plant.outcome("works").await[0].1, RunStatus::Ok);
    // The webhook retries after a second of real time.
    for _ in 0..300 {
        if posted.lock().unwrap().len() == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let posted = posted.lock().unwrap().clone();
    assert_eq!(posted.len(), 2, "once refused, once taken");
    for request in &posted {
        assert!(
            request.starts_with("POST /hooks/SECRET HTTP/1.1\r\n"),
            "{request}"
        );
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (
                body["job"].as_str(),
                body["kind"].as_str(),
                body["status"].as_str(),
                body["error"].as_str()
            ),
            (
                Some("fails"),
                Some("resample"),
                Some("failed"),
                Some("no luck")
            )
        );
        assert_eq!(
            (body["attempts"].as_u64(), body["host"].as_str()),
            (Some(1), Some("here"))
        );
        assert_eq!(body["scheduled_for"], "2026-05-01T13:00:00Z");
        assert!(body["ended_at"].as_str().unwrap() >= body["started_at"].as_str().unwrap());
    }
    daemon.kill();
}
