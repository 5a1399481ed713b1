//! Responses that later ones may go on from: in memory, the oldest forgotten first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use zse::Message;

use crate::guard::Tenant;

/// Most responses that are kept.
const MAX_RESPONSES: usize = 1000;
/// Most bytes that they take in memory, by a cautious guess.
const MAX_BYTES: usize = 64 << 20;

/// A response that is over.
#[derive(Debug)]
pub(crate) struct Done {
    pub(super) id: String,
    /// The object that its client got.
    pub(super) response: Value,
    /// The items that it was made from.
    pub(super) items: Vec<Value>,
    /// The whole conversation, but for instructions, which hold for one response.
    pub(super) messages: Vec<Message>,
    /// Whether it is to be kept.
    pub(super) store: bool,
}

/// The responses that are kept.
#[derive(Debug, Default)]
pub(crate) struct Store(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<String, Entry>,
    /// Ids, oldest first; some may be gone.
    order: VecDeque<String>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    tenant: Tenant,
    done: Arc<Done>,
    bytes: usize,
}

impl Store {
    /// Keeps a response, if it asks for that.
    pub(super) fn keep(&self, tenant: &Tenant, done: Done) {
        if !done.store {
            return;
        }
        let messages: usize = done.messages.iter().map(size).sum();
        let items: usize = done.items.iter().map(weight).sum();
        let bytes = weight(&done.response) + items + messages;
        if bytes > MAX_BYTES {
            return;
        }
        let mut kept = self.kept();
        kept.bytes += bytes;
        kept.order.push_back(done.id.clone());
        let entry = Entry {
            tenant: tenant.clone(),
            bytes,
            done: Arc::new(done),
        };
        kept.by_id.insert(entry.done.id.clone(), entry);
        while kept.by_id.len() > MAX_RESPONSES || kept.bytes > MAX_BYTES {
            let Some(oldest) = kept.order.pop_front() else {
                break;
            };
            kept.forget(&oldest);
        }
    }

    /// The response `id` of a tenant.
    pub(super) fn find(&self, tenant: &Tenant, id: &str) -> Option<Arc<Done>> {
        let kept = self.kept();
        let entry = kept.by_id.get(id).filter(|entry| entry.tenant == *tenant)?;
        Some(Arc::clone(&entry.done))
    }

    /// Forgets the response `id` of a tenant; false if there is none.
    pub(super) fn remove(&self, tenant: &Tenant, id: &str) -> bool {
        let is_there = self.find(tenant, id).is_some();
        let mut kept = self.kept();
        if is_there {
            kept.forget(id);
            kept.order.retain(|other| other != id);
        }
        is_there
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget(&mut self, id: &str) {
        if let Some(entry) = self.by_id.remove(id) {
            self.bytes -= entry.bytes;
        }
    }
}

/// Bytes of a message, with all that it says.
fn size(message: &Message) -> usize {
    let value = serde_json::to_value(message).unwrap_or_default();
    size_of::<Message>() + weight(&value)
}

/// Bytes of a value: its texts, and what each of its parts takes however short it is.
fn weight(value: &Value) -> usize {
    // Lists have room to spare.
    const PART: usize = 2 * size_of::<Value>();
    let own = match value {
        Value::String(text) => text.len(),
        Value::Array(parts) => parts.iter().map(weight).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| PART + name.len() + weight(value))
            .sum(),
        _ => 0,
    };
    PART + own
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use zse::{Role, ToolCall};

    fn done(id: usize, bytes: usize) -> Done {
        Done {
            id: id.to_string(),
            response: Value::Null,
            items: Vec::new(),
            messages: vec![Message::new(Role::User, "x".repeat(bytes))],
            store: true,
        }
    }

    #[test]
    fn the_oldest_are_forgotten_and_tenants_kept_apart() {
        let store = Store::default();
        let (ours, theirs) = (Tenant::default(), Tenant::of_key(1));
        for id in 0..MAX_RESPONSES + 5 {
            store.keep(&ours, done(id, 1));
        }
        assert!(store.find(&ours, "4").is_none());
        assert!(store.find(&ours, "5").is_some());
        assert!(store.find(&theirs, "5").is_none());
        assert!(!store.remove(&theirs, "5"));
        assert!(store.remove(&ours, "5"));
        assert!(!store.remove(&ours, "5"));

        store.keep(&ours, done(9999, MAX_BYTES / 2));
        store.keep(&ours, done(10_000, MAX_BYTES / 2));
        assert!(store.find(&ours, "9999").is_none());
        assert!(store.find(&ours, "10000").is_some());
        store.keep(&ours, done(10_001, MAX_BYTES + 1));
        assert!(store.find(&ours, "10001").is_none());
        assert!(store.kept().bytes <= MAX_BYTES);
    }

    #[test]
    fn all_that_a_message_says_is_counted() {
        const LARGE: usize = 1 << 20;
        let large = || "x".repeat(LARGE);
        let plain = Message::new(Role::Assistant, "");
        assert!(size(&plain) >= size_of::<Message>());
        for message in [
            Message {
                reasoning_content: Some(large()),
                ..plain.clone()
            },
            Message {
                tool_call_id: Some(large()),
                ..plain.clone()
            },
            Message {
                tool_calls: vec![ToolCall::new(large(), "f", "{}")],
                ..plain
            },
        ] {
            assert!(size(&message) > LARGE);
        }
        let short = json!(vec![json!([]); 1000]);
        assert!(weight(&short) >= 1000 * size_of::<Value>());
    }
}
