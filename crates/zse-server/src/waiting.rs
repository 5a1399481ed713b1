//! A stream that begins while its model is loaded: its client, and what is between, hear that somebody is there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, interval_at};

use crate::error::{ApiError, Dialect};
use crate::request::Fields;
use crate::routes::responses;
use crate::sse::Wire;
use crate::state::App;

/// Most time between two comments.
const PACE: Duration = Duration::from_secs(5);

type Work = Pin<Box<dyn Future<Output = Result<Response, ApiError>> + Send>>;

/// What `answer` gives to a request at `path`. Where that is to be a stream of events whose model is not
/// loaded, and has not failed by [`load_notice`](crate::Config::load_notice), the stream begins with comments,
/// and an error is an event of it.
///
/// # Errors
/// Those of `answer`.
pub(crate) async fn stream<F>(
    app: Arc<App>,
    fields: Fields,
    path: &'static str,
    answer: impl FnOnce(Arc<App>, Fields) -> F,
) -> Result<Response, ApiError>
where
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let is_stream = fields.get("stream") == Some(&Value::Bool(true));
    let name = fields.get("model").and_then(Value::as_str);
    let model = is_stream.then(|| app.models.missing(name));
    let Some(model) = model.flatten() else {
        return answer(app, fields).await;
    };
    let since = Instant::now();
    let mut work: Work = Box::pin(answer(Arc::clone(&app), fields));
    // What is wrong with a request mostly shows at once, and has a status of its own then.
    let notice = app.config.load_notice;
    if !notice.is_zero()
        && let Ok(done) = tokio::time::timeout(notice, &mut work).await
    {
        return done;
    }
    let pace = app.config.keep_alive.clamp(Duration::from_millis(1), PACE);
    let body = Body::new(Waiting {
        state: State::Loading(work),
        is_silent: true,
        comments: interval_at(Instant::now() + pace, pace),
        model,
        since,
        app,
        path,
    });
    Ok((Wire::Events.headers(), body).into_response())
}

/// The body of a response whose beginning waits for a model.
struct Waiting {
    state: State,
    /// Before the first comment, which is due at once.
    is_silent: bool,
    /// When others are due.
    comments: Interval,
    model: String,
    since: Instant,
    app: Arc<App>,
    path: &'static str,
}

enum State {
    Loading(Work),
    Answering(Body),
    Over,
}

impl Waiting {
    /// A line that clients skip.
    fn comment(&self) -> String {
        // Names are one line: they are parts of addresses, too.
        let name = self.model.replace(['\r', '\n'], " ");
        let seconds = self.since.elapsed().as_secs();
        format!(": loading {name}, for {seconds} s so far\n\n")
    }

    /// An error as the event that ends the stream.
    fn error(&self, error: &ApiError) -> String {
        if let Some(why) = &error.internal {
            self.app.report(why);
        }
        let body = error.body_for(self.path);
        match Dialect::of(self.path) {
            Dialect::Anthropic => format!("event: error\ndata: {body}\n\n"),
            _ if self.path.starts_with(responses::PATH) => {
                let error = &body["error"];
                let event = json!({
                    "type": "error", "sequence_number": 0, "code": error["code"],
                    "message": error["message"], "param": error["param"],
                });
                format!("event: error\ndata: {event}\n\n")
            }
            _ => format!("data: {body}\n\ndata: [DONE]\n\n"),
        }
    }
}

impl http_body::Body for Waiting {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = |text: String| Poll::Ready(Some(Ok(Frame::data(text.into()))));
        loop {
            match &mut this.state {
                State::Over => return Poll::Ready(None),
                State::Answering(body) => return Pin::new(body).poll_frame(cx),
                State::Loading(_)
                    if std::mem::take(&mut this.is_silent)
                        || this.comments.poll_tick(cx).is_ready() =>
                {
                    return frame(this.comment());
                }
                State::Loading(work) => match ready!(work.as_mut().poll(cx)) {
                    Ok(response) => this.state = State::Answering(response.into_body()),
                    Err(error) => {
                        this.state = State::Over;
                        return frame(this.error(&error));
                    }
                },
            }
        }
    }
}
