"""Scores an answer against an item of the evaluation. No dependencies."""

import json
import re
from pathlib import Path

ITEMS = Path(__file__).with_name("items.jsonl")
HANDWRITTEN = Path(__file__).with_name("handwritten.jsonl")  # free wording, never looked at while tuning
HANDWRITTEN_DEV = Path(__file__).with_name("handwritten_dev.jsonl")  # free wording, used to find weak points
CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.S)
TEXT = Path(__file__).with_name("text.txt")  # held-out running text, for perplexity
# Tasks that together are "tool calls".
TOOL_CALLS = ("calculator", "dates", "services", "new_tools")


def items(path=ITEMS):
    """All items, in order."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def tool_calls(text):
    """`[(name, arguments)]` of the calls in a text; None when one is no valid JSON or other words stand beside them."""
    if CALL.sub("", text).strip():
        return None
    try:
        made = [json.loads(c) for c in CALL.findall(text)]
        return [(c["name"], c["arguments"]) for c in made]
    except (ValueError, KeyError, TypeError):
        return None


def is_story(text, wanted):
    """A story's shape: long enough, ended, names what was asked for, and no sentence twice."""
    text = text.strip()
    sentences = [s for s in re.split(r"(?<=[.!?\"])\s+", text) if s]
    if len(sentences) < 4 or text[-1] not in ".!\"?":
        return False
    return len(set(sentences)) == len(sentences) and all(w.lower() in text.lower() for w in wanted)


def right(item, text):
    """Whether `text` is what the item expects."""
    expect = item["expect"]
    kind, want = expect["kind"], expect["want"]
    if kind == "exact":
        return text.strip() == want
    if kind == "one_of":
        return text.strip() in want
    if kind == "tools":
        return tool_calls(text) == [(c["name"], c["arguments"]) for c in want]
    if kind == "json":
        try:
            return json.loads(text) == want
        except ValueError:
            return False
    if kind == "contains":
        return all(w.lower() in text.lower() for w in want)
    if kind == "story":
        return is_story(text, want)
    raise ValueError(f"unknown kind of item: {kind}")


def table(listed, answers):
    """`{task: (right, asked)}`, with the sum of all kinds of tool calls and the total."""
    out = {}
    for item, text in zip(listed, answers, strict=True):
        names = [item["task"], "all"] + (["tool_calls"] if item["task"] in TOOL_CALLS else [])
        for name in names:
            good, asked = out.get(name, (0, 0))
            out[name] = (good + right(item, text), asked + 1)
    return dict(sorted(out.items(), key=lambda kv: (kv[0] == "all", kv[0])))


def report(scores):
    """The table as Markdown."""
    lines = ["| task | right | items | score |", "| --- | --- | --- | --- |"]
    lines += [f"| {task} | {good} | {asked} | {100 * good / asked:.1f}% |" for task, (good, asked) in scores.items()]
    return "\n".join(lines)
