"""Rendering of a conversation, with the training weight of every piece.

`render` gives the same text as `chat_template.jinja` (a test holds the two
together) but cut in segments, so that training can tell the assistant's own
words from the rest.
"""

import json
from pathlib import Path

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
SPECIALS = [END_OF_TEXT, IM_START, IM_END]

SYSTEM = "You are ZSE, a small and helpful assistant."
TEMPLATE = Path(__file__).with_name("chat_template.jinja")

TOOLS_HEAD = "\n\n# Tools\n\nCall a function when the request needs one.\n<tools>"
TOOLS_TAIL = (
    "\n</tools>\nA call looks like this:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


def dumps(value):
    """JSON as the template's `tojson` writes it (keys in the given order)."""
    return json.dumps(value, ensure_ascii=False)


def call_text(call):
    """One tool call as the assistant writes it."""
    call = call.get("function", call)
    arguments = call["arguments"]
    if not isinstance(arguments, str):
        arguments = dumps(arguments)
    return f'<tool_call>\n{{"name": "{call["name"]}", "arguments": {arguments}}}\n</tool_call>'


def assistant_text(message):
    """What the assistant says in this message: content, then tool calls."""
    parts = [message["content"]] if message.get("content") else []
    parts += [call_text(c) for c in message.get("tool_calls") or []]
    return "\n".join(parts)


def system_text(messages, tools):
    """The system part, default and tools included, without its markers."""
    text = messages[0]["content"] if messages and messages[0]["role"] == "system" else SYSTEM
    if tools:
        text += TOOLS_HEAD + "".join("\n" + dumps(t) for t in tools) + TOOLS_TAIL
    return text


def segments(messages, tools=None):
    """Yields `(text, spoken)`: the rendered conversation in pieces.

    `spoken` is true for what the model itself must produce: the assistant's
    words and the `<|im_end|>` behind them.
    """
    yield f"{IM_START}system\n{system_text(messages, tools)}{IM_END}\n", False
    for message in messages:
        role = message["role"]
        if role == "system":
            continue
        if role == "assistant":
            yield f"{IM_START}assistant\n", False
            yield f"{assistant_text(message)}{IM_END}", True
            yield "\n", False
        elif role == "tool":
            body = f"<tool_response>\n{message['content']}\n</tool_response>"
            yield f"{IM_START}user\n{body}{IM_END}\n", False
        else:
            yield f"{IM_START}{role}\n{message['content']}{IM_END}\n", False


def render(messages, tools=None, add_generation_prompt=False):
    """The whole conversation as one text."""
    text = "".join(t for t, _ in segments(messages, tools))
    return text + f"{IM_START}assistant\n" if add_generation_prompt else text


def user(content):
    """A user message."""
    return {"role": "user", "content": content}


def assistant(content):
    """An assistant message of plain text."""
    return {"role": "assistant", "content": content}


def calls(*named):
    """An assistant message that calls tools: `calls((name, arguments), ...)`."""
    made = [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in named]
    return {"role": "assistant", "content": "", "tool_calls": made}


def tool_result(value):
    """The message that carries a tool's result back."""
    return {"role": "tool", "content": value if isinstance(value, str) else dumps(value)}
