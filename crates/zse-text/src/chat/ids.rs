//! Ids of calls as Mistral's templates demand them: nine letters and digits, or they raise an
//! exception. Clients send the server's ids back, which are longer, or those of others, or none.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::Value;

use super::message::{Message, Role};
use crate::Family;

/// How long an id is.
const LEN: usize = 9;
/// What it is made of.
const CHARACTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// How many ids there are.
const COUNT: u64 = 62_u64.pow(LEN as u32);
/// How far from one new id to the next: without a factor in common with [`COUNT`], so that none
/// comes twice, and about the golden section of it, so that they look as if drawn at random, as
/// those that models were trained on do.
const STEP: u64 = 8_366_379_594_239_805;
/// How many calls without a result a result is compared with, which bounds the time it takes.
const LOOKED_AT: usize = 128;

/// Whether the template `source` may demand such ids.
pub(super) fn are_short(source: &str) -> bool {
    matches!(
        Family::of_template(source),
        Family::Mistral | Family::MistralArgs
    )
}

/// Gives the calls and results among `messages` ids that the template takes, in `rendered`, which
/// is what it gets: an id that is sound stays, another is replaced, by the same one wherever it
/// comes. A result without an id gets that of the first call without a result, of those of its
/// name if there are any.
///
/// What a message gets depends on it and those before it: a conversation that goes on keeps its
/// text, and so what is cached for it.
pub(super) fn shorten(messages: &[Message], rendered: &mut [Value]) {
    let mut ids = Ids::default();
    let mut open: VecDeque<Open<'_>> = VecDeque::new();
    let mut last = None;
    for (message, rendered) in messages.iter().zip(rendered) {
        if message.role == Role::Tool {
            let given = message.tool_call_id.as_deref().unwrap_or_default();
            let answered = open.iter().take(LOOKED_AT).position(|call| match given {
                "" => message.name.as_deref() == Some(call.name),
                given => call.given == given,
            });
            let id = match given {
                "" => open.remove(answered.unwrap_or(0)).map(|call| call.id),
                given => {
                    answered.and_then(|at| open.remove(at));
                    Some(ids.of(given))
                }
            };
            // A result of no call is left for the template to refuse.
            if let Some(id) = id {
                rendered["tool_call_id"] = id.into();
            }
        } else if message.role != Role::Assistant || last != Some(Role::Assistant) {
            open.clear();
        }
        for (i, call) in message.tool_calls.iter().enumerate() {
            let id = ids.of(&call.id);
            rendered["tool_calls"][i]["id"] = id.as_str().into();
            open.push_back(Open {
                given: &call.id,
                name: &call.function.name,
                id,
            });
        }
        last = Some(message.role);
    }
}

/// A call without a result so far.
struct Open<'m> {
    /// Its id as the client has it; may be empty.
    given: &'m str,
    name: &'m str,
    /// Its id as the template gets it.
    id: String,
}

/// Ids by what clients call them.
#[derive(Default)]
struct Ids<'m> {
    by_given: HashMap<&'m str, String>,
    taken: HashSet<String>,
    /// How many new ones were made.
    made: u64,
}

impl<'m> Ids<'m> {
    /// The id for `given`; each empty one is another call's.
    fn of(&mut self, given: &'m str) -> String {
        if let Some(id) = self.by_given.get(given) {
            return id.clone();
        }
        let is_sound = given.len() == LEN && given.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let id = match is_sound && !self.taken.contains(given) {
            true => given.to_owned(),
            false => self.another(),
        };
        self.taken.insert(id.clone());
        if !given.is_empty() {
            self.by_given.insert(given, id.clone());
        }
        id
    }

    /// An id that is not taken.
    fn another(&mut self) -> String {
        loop {
            self.made += 1;
            let id = nth(self.made);
            if !self.taken.contains(&id) {
                return id;
            }
        }
    }
}

/// The `n`th new id.
fn nth(n: u64) -> String {
    let mut number = (u128::from(n) * u128::from(STEP) % u128::from(COUNT)) as u64;
    let mut id = [0; LEN];
    for place in &mut id {
        *place = CHARACTERS[(number % 62) as usize];
        number /= 62;
    }
    id.iter().map(|&byte| char::from(byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ToolCall;

    /// The ids of the calls and results of `messages`, in order.
    fn ids(messages: &[Message]) -> Vec<String> {
        let mut rendered: Vec<Value> = messages.iter().map(Message::for_template).collect();
        shorten(messages, &mut rendered);
        let mut ids = Vec::new();
        for message in &rendered {
            let calls = message["tool_calls"].as_array().into_iter().flatten();
            ids.extend(calls.map(|call| call["id"].as_str().unwrap().to_owned()));
            ids.extend(message["tool_call_id"].as_str().map(str::to_owned));
        }
        ids
    }

    fn calls(given: &[(&str, &str)]) -> Message {
        let call = |&(id, name): &(&str, &str)| ToolCall::new(id, name, "{}");
        Message {
            tool_calls: given.iter().map(call).collect(),
            ..Message::new(Role::Assistant, "")
        }
    }

    fn result(id: Option<&str>, name: Option<&str>) -> Message {
        Message {
            tool_call_id: id.map(str::to_owned),
            name: name.map(str::to_owned),
            ..Message::new(Role::Tool, "")
        }
    }

    #[test]
    fn ids_are_nine_letters_and_digits_and_distinct() {
        let given: Vec<String> = (0..2000).map(|i| format!("call_{i}")).collect();
        let mut pairs: Vec<_> = given.iter().map(|id| (id.as_str(), "f")).collect();
        pairs.extend([("", "f"), ("", "f"), ("abcdefghi", "f"), ("abcdefgh-", "f")]);
        let mut ids = ids(&[calls(&pairs)]);
        assert_eq!(ids[2002], "abcdefghi");
        let is_sound = |id: &String| id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        assert!(ids.iter().all(is_sound));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), pairs.len());
    }

    #[test]
    fn what_comes_later_changes_no_id() {
        let first = ids(&[calls(&[("call_0", "f")])]);
        // A client has the very id that was made for another.
        let both = ids(&[calls(&[("call_0", "f")]), calls(&[(&first[0], "f")])]);
        assert_eq!(both[0], first[0]);
        assert_ne!(both[1], both[0]);
        // It was there first.
        let both = ids(&[calls(&[(&first[0], "f")]), calls(&[("call_0", "f")])]);
        assert_eq!(both[0], first[0]);
        assert_ne!(both[1], both[0]);
    }

    #[test]
    fn results_have_the_ids_of_their_calls() {
        let two = || calls(&[("", "f"), ("", "g")]);
        let id = |id| result(Some(id), None);
        let name = |name| result(None, Some(name));
        let bare = || result(None, None);
        for (messages, expected) in [
            (vec![two(), bare(), bare()], [0, 1]),
            (vec![two(), id(""), id("")], [0, 1]),
            (vec![two(), name("g"), name("f")], [1, 0]),
            (vec![two(), name("other"), bare()], [0, 1]),
            (
                vec![calls(&[("a", "f"), ("b", "f")]), id("b"), id("a")],
                [1, 0],
            ),
            (
                vec![calls(&[("a", "f"), ("b", "f")]), id("a"), bare()],
                [0, 1],
            ),
            (
                vec![calls(&[("a", "f"), ("b", "f")]), id("b"), bare()],
                [1, 0],
            ),
        ] {
            let ids = ids(&messages);
            assert_eq!(
                [&ids[2], &ids[3]],
                expected.map(|at| &ids[at]),
                "{messages:?}"
            );
        }
        // One message for each call, with the results behind them.
        let one = |name| calls(&[("", name)]);
        let apart = ids(&[one("f"), one("g"), bare(), bare()]);
        assert_eq!(apart[..2], apart[2..]);
        // A call that was never answered takes no result of a later one.
        let left = ids(&[two(), name("f"), one("h"), bare()]);
        assert_eq!(left[4], left[3]);
        let left = ids(&[
            two(),
            Message::new(Role::User, "Never mind."),
            one("h"),
            bare(),
        ]);
        assert_eq!(left[3], left[2]);
        // A result of no call has none.
        assert!(ids(&[bare()]).is_empty());
    }
}
