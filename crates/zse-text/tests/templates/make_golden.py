"""Renders the templates of this folder with Hugging Face's implementation and writes golden.json.

    pip install transformers jinja2
    python make_golden.py
"""

import json
import pathlib

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = pathlib.Path(__file__).parent

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place, in <b>words</b> & numbers",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "Where, e.g. Malmö"},
                "days": {"type": "integer", "default": 1},
            },
            "required": ["place"],
        },
    },
}
SYSTEM = {"role": "system", "content": "You are terse.\n"}
USER = {"role": "user", "content": "  Hi there, 'friend'! "}
ASSISTANT = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello. "}
USER_AGAIN = {"role": "user", "content": "Weather in Malmö?"}
ARGUMENTS = {"place": "Malmö", "days": 2, "units": ["C", 1.5, None, True]}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "abcdefghi",
            "type": "function",
            "function": {"name": "get_weather", "arguments": ARGUMENTS},
        }
    ],
}
RESULT = {"role": "tool", "content": "12", "tool_call_id": "abcdefghi"}
LAST = {"role": "assistant", "content": "12 degrees."}

CHATS = {
    "user": [USER],
    "system": [SYSTEM, USER],
    "turns": [USER, ASSISTANT, USER_AGAIN],
    "system_turns": [SYSTEM, USER, ASSISTANT, USER_AGAIN, LAST],
    "call": [USER_AGAIN, CALL, RESULT],
    "answered": [SYSTEM, USER, ASSISTANT, USER_AGAIN, CALL, RESULT, LAST],
    "wrong_order": [USER, USER_AGAIN],
}


def cases():
    for path in sorted(HERE.glob("*.jinja")):
        for chat in CHATS:
            for tools in (False, True):
                for prompt in (False, True):
                    yield path.name, chat, tools, prompt, {}
        yield path.name, "user", False, True, {"enable_thinking": False}


def render(template, chat, tools, prompt, extra):
    compiled = _compile_jinja_template((HERE / template).read_text(encoding="utf-8"))
    try:
        text = compiled.render(
            messages=CHATS[chat],
            tools=[TOOL, TOOL] if tools else None,
            documents=None,
            add_generation_prompt=prompt,
            bos_token="<s>",
            eos_token="</s>",
            **extra,
        )
        return {"text": text}
    except TemplateError as error:
        return {"refused": str(error)}
    except TypeError as error:
        return {"fails": str(error)}


def main():
    golden = [
        {
            "template": template,
            "chat": chat,
            "tools": tools,
            "add_generation_prompt": prompt,
            "extra": extra,
            **render(template, chat, tools, prompt, extra),
        }
        for template, chat, tools, prompt, extra in cases()
    ]
    # Requests carry the arguments of calls as JSON text.
    for call in CALL["tool_calls"]:
        call["function"]["arguments"] = json.dumps(ARGUMENTS)
    with open(HERE / "golden.json", "w", encoding="utf-8") as file:
        json.dump({"chats": CHATS, "tools": [TOOL, TOOL], "cases": golden}, file, ensure_ascii=False, indent=1)
        file.write("\n")
    print(len(golden), "cases")


main()
