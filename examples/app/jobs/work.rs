//! What workers do: each kind of job, so that doing it twice has the effect of doing it once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use tenfold_rig::unix_seconds;

use super::job::{Job, JobKey};
use super::pictures::{self, PictureError};
use super::smtp::{self, Letter, MailError};
use super::webhook;
use super::world::{IDEMPOTENCY_KEY, SIGNATURE};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Where the work goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// The mail server.
    pub smtp: SocketAddr,
    /// The provider of text messages.
    pub sms: SocketAddr,
    /// What its webhooks are signed with.
    pub secret: String,
    /// The web server that has the browsers; without one, notifications fail.
    pub browsers: Option<SocketAddr>,
    /// The folder of uploaded pictures.
    pub uploads: PathBuf,
    /// The folder of thumbnails.
    pub thumbnails: PathBuf,
}

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// The picture is none.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The letter was not taken.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// Somebody who is called does not answer, or says no.
    #[error("the {0} does not take it")]
    Refused(&'static str),
    /// Nobody can do this.
    #[error("there is nobody who could do this")]
    Impossible,
}

/// Does jobs.
#[derive(Debug, Clone)]
pub struct Hands {
    places: Places,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Hands {
    /// Hands that reach these places.
    pub fn new(places: Places) -> Self {
        Self { places, client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()) }
    }

    /// Does a job.
    ///
    /// # Errors
    ///
    /// [`WorkError`]; whether the job had its effect is then not known, and it may be done again.
    pub async fn work(&self, key: &JobKey, job: &Job) -> Result<(), WorkError> {
        match job {
            Job::Thumbnail { picture, pixels } => self.thumbnail(key, picture, *pixels).await,
            Job::Mail { to, subject, text } => {
                Ok(smtp::send(self.places.smtp, Letter { key, to, subject, text }).await?)
            }
            Job::Sms { phone, text } => self.sms(key, phone, text).await,
            Job::Notification { user, text } => self.notify(key, *user, text).await,
            Job::Impossible => Err(WorkError::Impossible),
        }
    }

    async fn thumbnail(&self, key: &JobKey, picture: &str, pixels: u32) -> Result<(), WorkError> {
        let picture = JobKey::new(picture).map_err(|_| WorkError::Impossible)?;
        let from = self.places.uploads.join(format!("{}.png", picture.as_str()));
        let to = self.places.thumbnails.join(format!("{}.png", key.as_str()));
        let made = tokio::task::spawn_blocking(move || pictures::thumbnail(&from, &to, pixels.clamp(1, 1_024)));
        made.await.map_err(|_| WorkError::Impossible)??;
        Ok(())
    }

    async fn sms(&self, key: &JobKey, phone: &str, text: &str) -> Result<(), WorkError> {
        let body = serde_json::json!({ "to": phone, "text": text }).to_string();
        let signature = webhook::sign(self.places.secret.as_bytes(), unix_seconds(), body.as_bytes());
        let request = Request::post(format!("http://{}/sms", self.places.sms))
            .header(CONTENT_TYPE, "application/json")
            .header(SIGNATURE, signature)
            .header(IDEMPOTENCY_KEY, key.as_str());
        self.call("provider of text messages", request.body(Full::from(body))).await
    }

    async fn notify(&self, key: &JobKey, user: u64, text: &str) -> Result<(), WorkError> {
        let browsers = self.places.browsers.ok_or(WorkError::Refused("web server"))?;
        let request = Request::post(format!("http://{browsers}/events/{user}/{}", key.as_str()));
        self.call("web server", request.body(Full::from(text.to_owned()))).await
    }

    async fn call(
        &self,
        who: &'static str,
        request: hyper::http::Result<Request<Full<Bytes>>>,
    ) -> Result<(), WorkError> {
        let request = request.map_err(|_| WorkError::Impossible)?;
        let answer = tokio::time::timeout(TIMEOUT, self.client.request(request)).await;
        match answer {
            Ok(Ok(answer)) if answer.status() == StatusCode::NO_CONTENT => Ok(()),
            _ => Err(WorkError::Refused(who)),
        }
    }
}
