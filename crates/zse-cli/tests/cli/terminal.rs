//! `zse chat` at a terminal.
#![cfg(unix)]

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{calculator, command, zse};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An empty line that waits for a message.
const PROMPT: &str = "\u{1b}[K> ";

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";

/// A command at a terminal of its own.
struct Terminal {
    child: Child,
    keys: File,
    output: Receiver<Vec<u8>>,
    /// What was printed and not yet waited for.
    seen: String,
}

impl Terminal {
    fn new(args: &[&str]) -> Self {
        let pty = openpty(None, None).expect("a terminal");
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        let child = command(args)
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the binary starts");
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().expect("a descriptor");
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Where the last user of a terminal is gone, Linux gives an error instead of an end.
            while let Ok(n @ 1..) = screen.read(&mut bytes) {
                if sender.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keys,
            output,
            seen: String::new(),
        }
    }

    /// Types `keys`.
    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it listens");
    }

    /// Types a line when it is asked for: what is typed earlier may be lost.
    #[track_caller]
    fn enter(&mut self, line: &str) {
        self.wait_for(PROMPT);
        self.press(&format!("{line}\r"));
    }

    /// Waits until `text` is printed.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(why) => panic!("no {text:?} ({why}): {:?}", self.seen),
            }
        }
    }

    /// What Ctrl-C does while the terminal is not read.
    fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("it runs");
    }

    /// Ends the chat.
    #[track_caller]
    fn leave(mut self) {
        self.wait_for(PROMPT);
        self.press(CTRL_D);
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn ctrl_c_stops_an_answer_and_a_mistake_is_told_but_neither_ends_the_chat() {
    let question = "Tell me a story about a fox.";
    let start = zse(&["run", "-p", question, "--temp", "0", "-n", "4"]).ok();
    let mut chat = Terminal::new(&["chat", "--temp", "0", "--ignore-eos"]);
    chat.enter(question);
    chat.wait_for(start.trim_end());
    chat.interrupt();
    chat.wait_for("(stopped)");
    chat.enter("/load missing");
    chat.wait_for("cannot read missing");
    chat.enter("/stats");
    chat.wait_for("all 1 answers");
    chat.leave();
}

#[test]
fn a_call_whose_result_does_not_come_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (tools, file) = (path("tools.json"), path("talk.json"));
    std::fs::write(&tools, calculator().to_string()).unwrap();
    let mut chat = Terminal::new(&["chat", "--temp", "0", "--tools", &tools]);
    chat.enter("What is 37 * 12?");
    chat.wait_for("result of calculator> ");
    chat.press(CTRL_C);
    chat.enter(&format!("/save {file}"));
    chat.wait_for("saved 0 messages");
    chat.leave();
}

#[test]
fn a_measurement_that_is_stopped_gives_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text.txt").display().to_string();
    let text = "The fox ran over the hill to find the river. ".repeat(4000);
    std::fs::write(&file, text).unwrap();
    let mut run = Terminal::new(&["perplexity", "-f", &file, "--ctx", "64"]);
    run.wait_for(" chunks");
    run.interrupt();
    run.wait_for("cancelled after");
    assert_eq!(run.child.wait().unwrap().code(), Some(1));
}
