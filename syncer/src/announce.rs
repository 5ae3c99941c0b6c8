//! Events: what the syncer tells whoever runs `kubectl describe` on an object, or `kubectl get events`.

use argosy_api::workflow;
use argosy_runtime::client::DEADLINE;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::desk::Key;

/// The API server takes no longer notes, in bytes.
const LONGEST: usize = 1024;

/// Publishes events beside the work: nothing waits for them, and one that is lost is no loss.
#[derive(Clone)]
pub struct Announcer {
    recorder: Recorder,
}

impl Announcer {
    /// In the name of this process.
    pub fn new(control: Client, identity: &str) -> Self {
        let reporter = Reporter { controller: "argosy-syncer".to_owned(), instance: Some(identity.to_owned()) };
        Self { recorder: Recorder::new(control, reporter) }
    }

    /// About an original.
    pub fn workflow(&self, key: &Key, uid: &str, reason: &'static str, note: &str) {
        self.publish(reference(key, uid), EventType::Normal, reason, "Placing", note);
    }

    /// About an original of which something is missing here.
    pub fn warn_workflow(&self, key: &Key, uid: &str, reason: &'static str, note: &str) {
        self.publish(reference(key, uid), EventType::Warning, reason, "Showing", note);
    }

    /// About something that is not as its author may believe.
    pub fn warn(&self, object: ObjectReference, reason: &'static str, note: &str) {
        self.publish(object, EventType::Warning, reason, "Reading", note);
    }

    fn publish(&self, object: ObjectReference, type_: EventType, reason: &str, action: &str, note: &str) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shortened(note)),
            action: action.to_owned(),
            secondary: None,
        };
        let recorder = self.recorder.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(DEADLINE, recorder.publish(&event, &object)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "event not published"),
                Err(_) => tracing::debug!("event not published in time"),
            }
        });
    }
}

fn reference(key: &Key, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{}/{}", workflow::GROUP, workflow::VERSION)),
        kind: Some(workflow::KIND.to_owned()),
        namespace: Some(key.namespace.clone()),
        name: Some(key.name.clone()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

fn shortened(note: &str) -> String {
    if note.len() <= LONGEST {
        return note.to_owned();
    }
    let end = (0..=LONGEST - 3).rev().find(|end| note.is_char_boundary(*end)).unwrap_or_default();
    format!("{}…", &note[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_no_longer_than_the_api_server_takes() {
        assert_eq!(shortened("short"), "short");
        for long in ["x".repeat(2000), "é".repeat(2000), "…".repeat(700)] {
            let note = shortened(&long);
            assert!(note.len() <= LONGEST && note.len() > LONGEST - 8 && note.ends_with('…'), "{}", note.len());
        }
    }
}
