//! Running the binary.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// What a command gave.
pub(crate) struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    /// Of a command that has ended.
    pub(crate) fn new(output: Output) -> Self {
        Self {
            code: output.status.code().expect("not ended by a signal"),
            out: String::from_utf8(output.stdout).expect("plain text"),
            err: String::from_utf8(output.stderr).expect("plain text"),
        }
    }

    /// Its output, where it must have succeeded without a word on standard error.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// Its output as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }
}

/// The command, ready to be changed.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zse"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs `zse ARGS`.
pub(crate) fn zse(args: &[&str]) -> Done {
    Done::new(command(args).output().expect("the binary starts"))
}

/// Runs `zse ARGS` with `input` piped in.
pub(crate) fn zse_with_input(args: &[&str], input: &str) -> Done {
    let mut command = command(args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A command that needs no input may be gone already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    Done::new(child.wait_with_output().expect("it ends"))
}

/// OpenAI's list of tools, of one that the built-in model knows how to call.
pub(crate) fn calculator() -> Value {
    let parameters =
        json!({ "type": "object", "properties": { "expression": { "type": "string" } } });
    let calculator = json!({ "name": "calculator", "parameters": parameters });
    json!([{ "type": "function", "function": calculator }])
}
