//! The channel from the engine to a caller: bounded, and never waited for by the engine.
//!
//! A reader is a thread that sleeps or a task that is woken. What a step gives is handed over
//! together, so it is woken once a step.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::event::{Completion, Event};

/// Called to make an engine that has nothing to do look again.
pub(crate) type Wake = Box<dyn Fn() + Send>;

/// What both ends see.
#[derive(Debug, Default)]
struct Shared {
    cancelled: AtomicBool,
    queue: Mutex<Queue>,
    /// For a reader that sleeps.
    arrived: Condvar,
}

/// What was handed over and not read.
#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    /// The engine found more than may be, and waits to be woken.
    is_full: bool,
    /// No more will come.
    is_closed: bool,
    /// Nobody will read.
    is_gone: bool,
    /// A thread waits for the next event.
    sleeps: bool,
    /// The task that waits for the next event.
    task: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every change of it is one of a field.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A channel that is full with more than `capacity` events.
pub(crate) fn channel(capacity: usize, wake: Option<Wake>) -> (Sink, EventStream) {
    let shared = Arc::new(Shared::default());
    let sink = Sink {
        shared: Arc::clone(&shared),
        capacity: capacity.max(1),
        outbox: Vec::new(),
        is_full: false,
    };
    let stream = EventStream {
        shared,
        capacity: capacity.max(1),
        wake,
    };
    (sink, stream)
}

/// The engine's end.
pub(crate) struct Sink {
    shared: Arc<Shared>,
    capacity: usize,
    /// What is not handed over yet.
    outbox: Vec<Event>,
    is_full: bool,
}

impl Sink {
    pub(crate) fn push(&mut self, event: Event) {
        self.outbox.push(event);
    }

    /// Hands over what was pushed; whether there is room for more.
    pub(crate) fn flush(&mut self) -> bool {
        if !self.outbox.is_empty() || self.is_full {
            self.hand_over(false);
        }
        !self.is_full
    }

    fn hand_over(&mut self, is_last: bool) {
        let is_news = is_last || !self.outbox.is_empty();
        let mut queue = self.shared.lock();
        match queue.is_gone {
            true => self.outbox.clear(),
            false => queue.events.extend(self.outbox.drain(..)),
        }
        self.is_full = queue.events.len() > self.capacity;
        queue.is_full = self.is_full;
        queue.is_closed = is_last;
        let task = queue.task.take_if(|_| is_news);
        let sleeps = queue.sleeps;
        drop(queue);
        if let Some(task) = task {
            task.wake();
        }
        if sleeps {
            self.shared.arrived.notify_one();
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(SeqCst)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.hand_over(true);
    }
}

/// The caller's end of a request: its events, in order. Dropping it cancels the request.
pub struct EventStream {
    shared: Arc<Shared>,
    capacity: usize,
    wake: Option<Wake>,
}

impl EventStream {
    /// Waits for the next event; `None` after the last one, or if the engine is gone. For an engine
    /// on another thread: one on this thread does nothing meanwhile, see
    /// [`try_recv`](Self::try_recv).
    pub fn recv(&self) -> Option<Event> {
        self.wait(None).ok()
    }

    /// Waits for the next event, but no longer than `timeout`.
    ///
    /// # Errors
    /// Whether time ran out or no event will come any more.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        self.wait(Instant::now().checked_add(timeout))
    }

    /// The next event, if it is there.
    ///
    /// # Errors
    /// Whether none is there yet or none will come any more.
    pub fn try_recv(&self) -> Result<Event, TryRecvError> {
        let mut queue = self.shared.lock();
        match queue.events.pop_front() {
            Some(event) => Ok(self.taken(event, queue)),
            None if queue.is_closed => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    /// The next event, or `None` after the last one or if the engine is gone; where none is there
    /// yet, the task of `cx` is woken for it.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut queue = self.shared.lock();
        match queue.events.pop_front() {
            Some(event) => Poll::Ready(Some(self.taken(event, queue))),
            None if queue.is_closed => Poll::Ready(None),
            None => {
                match &mut queue.task {
                    Some(task) => task.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    /// Waits for the next event, until `deadline` if there is one.
    fn wait(&self, deadline: Option<Instant>) -> Result<Event, RecvTimeoutError> {
        let mut queue = self.shared.lock();
        loop {
            if let Some(event) = queue.events.pop_front() {
                return Ok(self.taken(event, queue));
            }
            if queue.is_closed {
                return Err(RecvTimeoutError::Disconnected);
            }
            queue.sleeps = true;
            let arrived = &self.shared.arrived;
            queue = match deadline.map(|end| end.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => {
                    queue.sleeps = false;
                    return Err(RecvTimeoutError::Timeout);
                }
                Some(left) => match arrived.wait_timeout(queue, left) {
                    Ok((queue, _)) => queue,
                    Err(poisoned) => poisoned.into_inner().0,
                },
                None => arrived.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
            queue.sleeps = false;
        }
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

    /// Lets an engine go on that waits for room.
    fn taken(&self, event: Event, mut queue: MutexGuard<'_, Queue>) -> Event {
        let has_room = queue.is_full && queue.events.len() <= self.capacity;
        queue.is_full &= !has_room;
        drop(queue);
        if has_room {
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
        let mut queue = self.shared.lock();
        queue.is_gone = true;
        let unread = std::mem::take(&mut queue.events);
        drop(queue);
        drop(unread);
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
        Event::Embedding(vec![i as f32])
    }

    #[test]
    fn what_is_too_much_is_kept_in_order() {
        let (mut sink, stream) = channel(2, None);
        for i in 0..5 {
            sink.push(event(i));
        }
        assert!(!sink.flush());
        assert_eq!(stream.recv(), Some(event(0)));
        assert_eq!(stream.recv(), Some(event(1)));
        assert!(!sink.flush());
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
        sink.push(event(3));
        assert!(sink.flush(), "nothing is kept for a reader that is gone");
    }

    struct Task(AtomicUsize);

    impl std::task::Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_task_is_woken_once_for_all_that_is_handed_over() {
        let task = Arc::new(Task(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&task));
        let mut cx = Context::from_waker(&waker);
        let (mut sink, stream) = channel(2, None);
        assert_eq!(stream.poll_recv(&mut cx), Poll::Pending);
        sink.push(event(0));
        sink.push(event(1));
        assert_eq!(task.0.load(SeqCst), 0);
        assert!(sink.flush() && sink.flush());
        assert_eq!(task.0.load(SeqCst), 1);
        for i in 0..2 {
            assert_eq!(stream.poll_recv(&mut cx), Poll::Ready(Some(event(i))));
        }
        assert_eq!(stream.poll_recv(&mut cx), Poll::Pending);
        sink.push(event(2));
        drop(sink);
        assert_eq!(task.0.load(SeqCst), 2, "for the last and the end together");
        assert_eq!(stream.poll_recv(&mut cx), Poll::Ready(Some(event(2))));
        assert_eq!(stream.poll_recv(&mut cx), Poll::Ready(None));
    }

    #[test]
    fn a_thread_sleeps_until_something_comes_or_time_is_up() {
        let (mut sink, stream) = channel(2, None);
        let soon = Duration::from_millis(1);
        assert_eq!(stream.recv_timeout(soon), Err(RecvTimeoutError::Timeout));
        let engine = std::thread::spawn(move || {
            for i in 0..100 {
                sink.push(event(i));
                sink.flush();
            }
        });
        for i in 0..100 {
            assert_eq!(stream.recv_timeout(Duration::MAX), Ok(event(i)));
        }
        engine.join().unwrap();
        assert_eq!(stream.recv(), None);
        assert_eq!(stream.try_recv(), Err(TryRecvError::Disconnected));
    }
}
