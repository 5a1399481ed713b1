"""Writes `items.jsonl` (held-out items: seed, entities and requests unseen in training) and `text.txt`.

`text.txt` is held-out running text (stories and passages) for perplexity.

    python -m builtin.eval.make          # from models/
"""

import json

from ..chat import dumps
from ..data import cli, dialogue, extract, passage, smalltalk, story, tools
from ..data.draw import Draw, asks_heldout
from .score import ITEMS, TEXT

SEED = 20_000_003


def item(task, messages, expect, listed=None):
    """An item; `expect` is `(kind, want)`."""
    made = {"task": task, "messages": [as_sent(m) for m in messages]}
    if listed:
        made["tools"] = listed
    made["expect"] = {"kind": expect[0], "want": expect[1]}
    return made


def as_sent(message):
    """A message as OpenAI's API carries it: arguments of a call are a string of JSON."""
    if not message.get("tool_calls"):
        return message
    sent = [{"type": "function", "function": dict(c["function"], arguments=dumps(c["function"]["arguments"]))} for c in message["tool_calls"]]
    return dict(message, tool_calls=sent)


def called(message):
    """The calls of an assistant message, as the scorer compares them."""
    return [c["function"] for c in message["tool_calls"]]


def single(task, make, kind="exact"):
    """A maker of one-turn items from a `turns` function."""

    def build(d):
        turns = make(d)
        while len(turns) != 2:
            turns = make(d)
        return item(task, turns[:1], (kind, turns[1]["content"]))

    return build


def commands(d):
    """A question about the command line."""
    return single("commands", cli.turns)(d)


def json_fields(d):
    """Extraction of fields."""
    made = single("json", extract.turns, "json")(d)
    made["expect"]["want"] = json.loads(made["expect"]["want"])
    return made


def passages(d):
    """A question that the passage answers."""
    made = single("passage", passage.turns)(d)
    return made if made["expect"]["want"] != passage.NOT_SAID else None


def refusals(d):
    """A question that the passage does not answer."""
    made = single("refusals", passage.turns)(d)
    made["task"] = "refusals"
    return made if made["expect"]["want"] == passage.NOT_SAID else None


def first_call(task, make):
    """A maker of items that want a tool call for the first request."""

    def build(d):
        used, turns = make(d)
        listed = tools.toolbox.reordered(d, used + tools.distractors(d, used))
        return item(task, turns[:1], ("tools", called(turns[1])), listed)

    return build


def tool_answers(d):
    """The answer after a tool's result."""
    listed, turns = tools.turns(d)
    at = next(i for i, m in enumerate(turns) if m["role"] == "assistant" and not m.get("tool_calls"))
    return item("tool_answers", turns[:at], ("exact", turns[at]["content"]), listed)


def multi_turn(d):
    """A later turn of a conversation: memory, lists, follow-ups, rules, personas."""
    roll = d.unit()
    if roll < 0.65:
        system, turns = dialogue.turns(d)
    else:
        system, turns = None, d.pick([cli.follow_up, passage.turns, extract.turns, story.turns])(d)
    if len(turns) < 4 or len(turns[-2]["content"]) > 400 or turns[-2]["content"] in sum((a for a, _ in smalltalk.TALK), []):
        return None
    answer = turns[-1]["content"]
    if len(answer) > 300 or any(a in answer for _, many in smalltalk.TALK if len(many) > 1 for a in many):
        return None
    head = [{"role": "system", "content": system}] if system else []
    kind = ("json", json.loads(answer)) if answer.startswith("{") else ("exact", answer)
    return item("multi_turn", head + turns[:-1], kind)


def copying(d):
    """Repeating words, counting them, personas: one turn."""
    system, turns = d.pick([dialogue.repeat, dialogue.persona])(d)
    answer = turns[1]["content"]
    if any(answer in many for _, many in smalltalk.TALK):
        return None
    head = [{"role": "system", "content": system}] if system else []
    return item("system_and_copying", head + turns[:1], ("exact", answer))


def small_talk(d):
    """Greetings and questions about the model itself."""
    said, answers = smalltalk.talk(d)
    return item("smalltalk", [{"role": "user", "content": said}], ("one_of", answers))


def unknown(d):
    """Questions that a small model should not answer."""
    said, answer = smalltalk.beyond(d)
    return item("dont_know", [{"role": "user", "content": said}], ("exact", answer))


def stories(d):
    """A story about what was asked for."""
    ask, fixed, _ = story.request(d)
    wanted = [fixed[k] for k in ("hero", "N", "place") if k in fixed]
    return item("story", [{"role": "user", "content": ask}], ("story", wanted))


PLAN = [
    (commands, 130, True),
    (first_call("calculator", tools.calculation), 60, True),
    (first_call("dates", tools.dated), 50, True),
    (first_call("services", tools.service), 60, True),
    (first_call("new_tools", tools.unseen), 30, True),
    (tool_answers, 40, True),
    (json_fields, 90, True),
    (passages, 90, True),
    (refusals, 40, True),
    (multi_turn, 70, False),
    (copying, 30, False),
    (small_talk, 30, False),
    (unknown, 20, False),
    (stories, 30, True),
]


def build():
    """All items, without repetition."""
    d, out, seen = Draw(SEED, heldout=True), [], set()
    for make, count, unseen in PLAN:
        made = 0
        while made < count:
            new = make(d)
            if new is None:
                continue
            first = next(m["content"] for m in new["messages"] if m["role"] == "user")
            key = dumps(new["messages"])
            if key in seen or (unseen and not asks_heldout(first)):
                continue
            seen.add(key)
            new["id"] = f"{new['task']}-{made}"
            out.append(new)
            made += 1
    return out


def running_text(size=100_000):
    """Held-out stories and passages, about `size` characters."""
    d, out, held = Draw(SEED + 1, heldout=True), [], 0
    while held < size:
        out.append(d.pick([story.plain, passage.plain])(d))
        held += len(out[-1])
    return "\n\n".join(out) + "\n"


if __name__ == "__main__":
    TEXT.write_text(running_text(), encoding="utf-8")
    with open(ITEMS, "w", encoding="utf-8") as file:
        for new in build():
            file.write(dumps(new) + "\n")
