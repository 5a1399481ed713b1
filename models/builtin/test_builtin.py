"""Tests of the generator, the template and the scorer.

    python -m unittest builtin.test_builtin          # from models/; needs jinja2 and tokenizers
"""

import json
import unittest

import jinja2

from . import chat, data, tokenizer
from .data import dialogue
from .data.draw import Draw, asks_heldout, mark
from .eval import make, score


def jinja(trim):
    """The template as a server would compile it."""
    env = jinja2.Environment(trim_blocks=trim, lstrip_blocks=trim)
    env.filters["tojson"] = chat.dumps
    return env.from_string(chat.TEMPLATE.read_text(encoding="utf-8").rstrip("\n"))


class Template(unittest.TestCase):
    """The Jinja template and `chat.render` write the same text."""

    def test_template_equals_render(self):
        for trim in (False, True):
            template = jinja(trim)
            for i in range(300):
                task = data.MIX[i % (len(data.MIX) - 1)][0]  # the last is plain text
                messages, listed = data.conversation(Draw(i), task)
                for prompt in (False, True):
                    made = template.render(messages=messages, tools=listed, add_generation_prompt=prompt)
                    self.assertEqual(made, chat.render(messages, listed, prompt))

    def test_arguments_may_be_a_string(self):
        call = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
        messages = [chat.user("hi"), {"role": "assistant", "content": None, "tool_calls": [call]}]
        self.assertIn('<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>', jinja(False).render(messages=messages))


class Generator(unittest.TestCase):
    """The seed decides, and the two sides stay apart."""

    def test_same_seed_same_document(self):
        for i in range(50):
            self.assertEqual(data.document(3, i), data.document(3, i))
        self.assertNotEqual([data.document(3, i) for i in range(20)], [data.document(4, i) for i in range(20)])

    def test_training_never_sees_heldout_requests_or_words(self):
        for i in range(400):
            d = Draw(i)
            for message in data.conversation(d, "passage")[0]:
                if message["role"] == "user" and len(message["content"].split()) > 3:
                    self.assertFalse(asks_heldout(message["content"]))
            self.assertNotEqual(mark(d.word()) % 10, 0)
            self.assertEqual(mark(Draw(i, heldout=True).word()) % 10, 0)

    def test_every_task_generates(self):
        for task, _ in data.MIX:
            if task != "plain":
                messages, _ = data.conversation(Draw(1), task)
                self.assertEqual(messages[-1]["role"], "assistant")
        for make_dialogue, _ in dialogue.MAKERS:
            self.assertTrue(make_dialogue(Draw(2))[1])


class Tokenizer(unittest.TestCase):
    """Any text comes back."""

    def test_round_trip(self):
        bpe = tokenizer.load()
        self.assertEqual(bpe.get_vocab_size(), tokenizer.VOCAB)
        texts = ["".join(t for t, _ in data.document(9, i)) for i in range(50)]
        for text in texts + ["caf\u00e9 \u4f60\u597d \U0001f600\r\n\t  x  ", "".join(map(chr, range(1, 600)))]:
            ids = bpe.encode(text, add_special_tokens=False).ids
            self.assertEqual(bpe.decode(ids, skip_special_tokens=False), text)


class Scorer(unittest.TestCase):
    """The committed items are those of the generator, and the scorer tells right from wrong."""

    def test_committed_items_are_current(self):
        self.assertEqual(make.build(), score.items())

    def test_right_and_wrong(self):
        for item in score.items():
            kind, want = item["expect"]["kind"], item["expect"]["want"]
            if kind == "story":
                continue
            if kind == "tools":
                answer = "\n".join(chat.call_text(c) for c in want)
            elif kind == "json":
                answer = json.dumps(want)
            else:
                answer = want if kind == "exact" else want[0]
            self.assertTrue(score.right(item, answer), item["id"])
            self.assertFalse(score.right(item, answer + "x"), item["id"])

    def test_stories_must_be_whole_and_on_the_subject(self):
        story = "A fox lived here. It was red. One day it ran. Then it slept."
        self.assertTrue(score.is_story(story, ["fox"]))
        self.assertFalse(score.is_story(story, ["owl"]))
        self.assertFalse(score.is_story(story + " It was red.", ["fox"]))
        self.assertFalse(score.is_story(story + " And then", ["fox"]))


if __name__ == "__main__":
    unittest.main()
