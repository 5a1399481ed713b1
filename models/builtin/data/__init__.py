"""The generator of the built-in model's training and evaluation data.

`document(seed, i)` is the i-th training document: a conversation or a bare
text. Everything follows from the seed.
"""

from ..chat import END_OF_TEXT, segments
from . import cli, dialogue, extract, passage, smalltalk, story, tools
from .draw import Draw, asks_heldout

# Share of documents, by task.
MIX = [
    ("story", 0.09),
    ("commands", 0.17),
    ("tools", 0.17),
    ("passage", 0.22),
    ("json", 0.15),
    ("smalltalk", 0.06),
    ("dialogue", 0.1),
    ("mixed", 0.02),
    ("plain", 0.02),
]
SYSTEMS = ["You are a helpful assistant.", "You are ZSE.", "Be brief.", "Answer the user.", "You are an assistant that answers exactly.", "You are a friendly assistant.", "Help the user."]


def one(d, task):
    """`(system, tools, turns)` of a task."""
    if task == "tools":
        listed, turns = tools.turns(d)
        return None, listed, turns
    if task == "dialogue":
        system, turns = dialogue.turns(d)
        return system, None, turns
    make = {"story": story, "commands": cli, "passage": passage, "json": extract, "smalltalk": smalltalk}[task]
    return None, None, make.turns(d)


def mixed(d):
    """Several tasks in one conversation, up to the whole context."""
    listed, turns = tools.turns(d) if d.chance(0.5) else (None, [])
    for _ in range(d.pick([1, 2, 3, 4, 6, 9])):
        task = d.pick(["story", "commands", "passage", "json", "smalltalk", "smalltalk", "commands"])
        if listed and task == "smalltalk":
            said, answers = smalltalk.talk(d)
            turns = turns + [{"role": "user", "content": said}, {"role": "assistant", "content": d.pick(answers)}]
        else:
            turns = turns + one(d, task)[2]
    return None, listed, turns


def conversation(d, task):
    """A conversation of a task on the side of `d`: `(messages, tools)`.

    In training, no request of the held-out side appears (very short ones
    excepted: there is only one way to say hello).
    """
    while True:
        system, listed, turns = mixed(d) if task == "mixed" else one(d, task)
        asks = [m["content"] for m in turns if m["role"] == "user"]
        if d.heldout or not any(asks_heldout(a) and len(a.split()) > 3 for a in asks):
            break
    if system is None and d.chance(0.12):
        system = d.pick(SYSTEMS)
    if listed is None and system is None and task in ("commands", "story", "smalltalk", "json", "passage") and d.chance(0.06):
        listed = idle_tools(d)
    head = [{"role": "system", "content": system}] if system else []
    return head + turns, listed


def idle_tools(d):
    """Tools that a conversation lists and does not need."""
    return [t for t in tools.distractors(d, [], 2) if t["function"]["name"] not in ("calculator", "current_date")] or None


def pick_task(d):
    """A task by its share."""
    roll = d.unit() * sum(share for _, share in MIX)
    for task, share in MIX:
        roll -= share
        if roll < 0:
            return task
    return MIX[-1][0]


def document(seed, i):
    """The i-th training document as `[(text, spoken)]`, ended by `<|endoftext|>`."""
    d = Draw(seed * 1_000_003 + i)
    task = pick_task(d)
    if task == "plain":
        text = "\n\n".join(d.pick([story.plain, passage.plain])(d) for _ in range(d.int(1, 4)))
        return [(text + END_OF_TEXT, True)]
    return list(segments(*conversation(d, task)))
