//! The channel from the engine to a caller: bounded, and never waited for by the engine.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError};
use std::time::Duration;

use crate::event::{Completion, Event};

/// Called to make an engine that has nothing to do look again.
pub(crate) type Wake = Box<dyn Fn() + Send>;

/// What both ends see.
#[derive(Debug, Default)]
struct Shared {
    cancelled: AtomicBool,
    /// The engine found the channel full and waits to be woken.
    full: AtomicBool,
}

/// A channel for `capacity` events.
pub(crate) fn channel(capacity: usize, wake: Option<Wake>) -> (Sink, EventStream) {
    let (sender, receiver) = mpsc::sync_channel(capacity.max(1));
    let shared = Arc::new(Shared::default());
    let sink = Sink {
        sender,
        shared: Arc::clone(&shared),
        outbox: VecDeque::new(),
    };
    (
        sink,
        EventStream {
            receiver,
            shared,
            wake,
        },
    )
}

/// The engine's end.
pub(crate) struct Sink {
    sender: SyncSender<Event>,
    shared: Arc<Shared>,
    /// Events that did not fit.
    outbox: VecDeque<Event>,
}

impl Sink {
    pub(crate) fn push(&mut self, event: Event) {
        self.outbox.push_back(event);
    }

    /// Sends what fits; whether that was all.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(event) = self.outbox.pop_front() {
            // Set before the attempt: if the channel is full, then whoever takes one of the events
            // that are in it now sees the flag afterwards.
            self.shared.full.store(true, SeqCst);
            match self.sender.try_send(event) {
                Ok(()) => self.shared.full.store(false, SeqCst),
                Err(TrySendError::Full(event)) => {
                    self.outbox.push_front(event);
                    return false;
                }
                Err(TrySendError::Disconnected(_)) => {
                    self.outbox.clear();
                    self.shared.cancelled.store(true, SeqCst);
                }
            }
        }
        true
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(SeqCst)
    }
}

/// The caller's end of a request: its events, in order. Dropping it cancels the request.
pub struct EventStream {
    receiver: Receiver<Event>,
    shared: Arc<Shared>,
    wake: Option<Wake>,
}

impl EventStream {
    /// Waits for the next event; `None` after the last one, or if the engine is gone. For an engine
    /// on another thread: one on this thread does nothing meanwhile, see
    /// [`try_recv`](Self::try_recv).
    pub fn recv(&self) -> Option<Event> {
        self.receiver.recv().ok().map(|event| self.taken(event))
    }

    /// Waits for the next event, but no longer than `timeout`.
    ///
    /// # Errors
    /// Whether time ran out or no event will come any more.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        self.receiver
            .recv_timeout(timeout)
            .map(|event| self.taken(event))
    }

    /// The next event, if it is there.
    ///
    /// # Errors
    /// Whether none is there yet or none will come any more.
    pub fn try_recv(&self) -> Result<Event, TryRecvError> {
        self.receiver.try_recv().map(|event| self.taken(event))
    }

    /// Cancels the request: it ends within a step, with
    /// [`FinishReason::Cancelled`](crate::FinishReason::Cancelled).
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, SeqCst);
        self.wake();
    }

    /// Waits for the end and puts the events of each continuation together, in order of choice.
    /// Scores and embeddings are left out. Fewer than were asked for if the engine is gone. For an
    /// engine on another thread, or one that has served the request.
    pub fn completions(self) -> Vec<Completion> {
        let mut parts: BTreeMap<u32, (String, Vec<_>)> = BTreeMap::new();
        let mut done = Vec::new();
        while let Some(event) = self.recv() {
            match event {
                Event::Tokens {
                    choice,
                    tokens,
                    text,
                } => {
                    let part = parts.entry(choice).or_default();
                    part.0.push_str(&text);
                    part.1.extend(tokens);
                }
                Event::Finished(finished) => {
                    let (text, tokens) = parts.remove(&finished.choice).unwrap_or_default();
                    done.push(Completion {
                        text,
                        tokens,
                        finished,
                    });
                }
                Event::Scores(_) | Event::Embedding(_) => {}
            }
        }
        done.sort_by_key(|c| c.finished.choice);
        done
    }

    fn taken(&self, event: Event) -> Event {
        if self.shared.full.swap(false, SeqCst) {
            self.wake();
        }
        event
    }

    fn wake(&self) {
        if let Some(wake) = &self.wake {
            wake();
        }
    }
}

impl Iterator for &EventStream {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.recv()
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn event(i: usize) -> Event {
        Event::Scores(vec![i as f32])
    }

    #[test]
    fn what_does_not_fit_is_kept_in_order() {
        let (mut sink, stream) = channel(2, None);
        for i in 0..5 {
            sink.push(event(i));
        }
        assert!(!sink.flush());
        assert_eq!(stream.recv(), Some(event(0)));
        assert!(!sink.flush());
        assert_eq!(stream.recv(), Some(event(1)));
        assert_eq!(stream.recv(), Some(event(2)));
        assert!(sink.flush());
        drop(sink);
        assert_eq!(stream.into_iter().collect::<Vec<_>>(), [event(3), event(4)]);
    }

    #[test]
    fn a_reader_wakes_the_engine_only_if_it_found_the_channel_full() {
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&woken);
        let wake: Wake = Box::new(move || {
            counter.fetch_add(1, SeqCst);
        });
        let (mut sink, stream) = channel(1, Some(wake));
        sink.push(event(0));
        assert!(sink.flush());
        stream.recv();
        assert_eq!(woken.load(SeqCst), 0);
        sink.push(event(1));
        sink.push(event(2));
        assert!(!sink.flush());
        stream.recv();
        assert_eq!(woken.load(SeqCst), 1);
        drop(stream);
        assert_eq!(woken.load(SeqCst), 2, "and when it goes away");
        assert!(sink.is_cancelled());
        assert!(sink.flush(), "nothing is kept for a reader that is gone");
    }
}
