//! Server-sent events: what happens to a user, in all browsers that the user has open.
//!
//! Each event has the key of its job as its id. A browser that gets an id twice ignores it, as the hub does: an event is
//! kept for those who come later, and is sent once.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Frame;

use super::job::JobKey;

/// Events that one user may have; older ones are forgotten.
const MAX_EVENTS: usize = 4_096;
/// Events that wait for one browser; a browser that reads slower is let go, and will come again.
const MAX_WAITING: usize = 4_096;

/// The events of all users and the browsers that wait for them.
#[derive(Debug, Default)]
pub struct Hub(Mutex<BTreeMap<u64, Listeners>>);

#[derive(Debug, Default)]
struct Listeners {
    known: BTreeSet<JobKey>,
    past: Vec<Bytes>,
    browsers: Vec<Sender<Bytes, Infallible>>,
}

impl Hub {
    /// Sends an event to the user's browsers. False if it was sent before.
    pub fn publish(&self, user: u64, key: JobKey, text: &str) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let listeners = all.entry(user).or_default();
        if !listeners.known.insert(key.clone()) {
            return false;
        }
        // A line break would begin another field.
        let text = text.replace(['\r', '\n'], " ");
        let event = Bytes::from(format!("id: {}\ndata: {text}\n\n", key.as_str()));
        listeners.browsers.retain_mut(|browser| browser.try_send(Frame::data(event.clone())).is_ok());
        listeners.past.push(event);
        if listeners.past.len() > MAX_EVENTS {
            listeners.past.remove(0);
        }
        true
    }

    /// The body of a stream of all events of a user, past and to come.
    pub fn listen(&self, user: u64) -> Body {
        let (mut browser, body) = Channel::<Bytes, Infallible>::new(MAX_EVENTS + MAX_WAITING);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let listeners = all.entry(user).or_default();
        // There is room for all of them.
        let is_there = listeners.past.iter().all(|event| browser.try_send(Frame::data(event.clone())).is_ok());
        if is_there {
            listeners.browsers.push(browser);
        }
        Body::new(body)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_browser_gets_each_event_once_also_if_it_comes_late() {
        let (hub, key) = (Hub::default(), |text: &str| JobKey::new(text).unwrap());
        assert!(hub.publish(7, key("a"), "one\ndata: two"));
        let mut late = hub.listen(7);
        assert!(!hub.publish(7, key("a"), "one"));
        assert!(hub.publish(7, key("b"), "three"));
        assert!(hub.publish(8, key("c"), "not yours"));
        let mut seen = String::new();
        for _ in 0..2 {
            let frame = late.frame().await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        assert_eq!(seen, "id: a\ndata: one data: two\n\nid: b\ndata: three\n\n");
    }
}
