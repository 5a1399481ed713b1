"""Seeded choice, and the line between training and held-out data.

A `Draw` belongs to one side. Entities (names, places, long numbers, dates)
are split by a hash of their text: one in ten is never drawn in training and
is the only kind drawn for the evaluation. Requests are split the same way by
`asks_heldout`.
"""

import random
import zlib

from . import pools

ONSETS = (
    "b br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sm sn sp st t th "
    "tr v vl w wh y z zh"
).split()
VOWELS = "a e i o u a e i o u ai au ea ee ia ie oa oo ou".split()
CODAS = ["", "", "", "", "n", "r", "l", "s", "t", "m", "k", "d", "x", "nd", "rn", "lk", "st", "sh", "ng", "ss"]


def mark(text):
    """A stable hash of a text."""
    return zlib.crc32(text.encode())


def asks_heldout(text):
    """Whether a request belongs to the held-out side (one in sixteen)."""
    return mark("ask:" + text) % 16 == 0


class Draw:
    """A seeded source of choices for one side of the split."""

    def __init__(self, seed, heldout=False):
        self.random = random.Random(seed)
        self.heldout = heldout
        self.unit = self.random.random

    def pick(self, options):
        """One element of a sequence."""
        return options[int(self.unit() * len(options))]

    def chance(self, p):
        """True with probability `p`."""
        return self.unit() < p

    def int(self, low, high):
        """An integer from `low` to `high`, both included."""
        return low + int(self.unit() * (high - low + 1))

    def some(self, options, k):
        """`k` different elements in random order."""
        return self.random.sample(options, k)

    def shuffled(self, items):
        """A shuffled copy."""
        return self.random.sample(items, len(items))

    def mine(self, make):
        """Draws from `make` until the text is on this side of the split."""
        while True:
            text = make()
            if (mark(text) % 10 == 0) == self.heldout:
                return text

    # -- words and names ---------------------------------------------------

    def syllables(self, low, high):
        """An invented word of that many syllables, in lower case."""
        parts = []
        n = self.int(low, high)
        for i in range(n):
            parts.append(self.pick(ONSETS) if i or self.chance(0.8) else "")
            parts.append(self.pick(VOWELS))
            parts.append(self.pick(CODAS) if i == n - 1 or self.chance(0.25) else "")
        text = "".join(parts)
        return text if len(text) > 2 else self.syllables(low, high)

    def word(self):
        """An invented word that the other side never sees."""
        return self.mine(lambda: self.syllables(1, 3))

    def first_name(self):
        """A given name, real or invented."""
        if self.chance(0.5):
            return self.mine(lambda: self.pick(pools.FIRST_NAMES))
        return self.mine(lambda: self.syllables(1, 3).capitalize())

    def surname(self):
        """A family name, real or invented."""
        if self.chance(0.4):
            return self.mine(lambda: self.pick(pools.SURNAMES))
        return self.mine(lambda: (self.syllables(1, 3) + self.pick(pools.NAME_ENDS)).capitalize())

    def full_name(self):
        """Given and family name."""
        return f"{self.first_name()} {self.surname()}"

    def person(self):
        """A name as a text may give it: mostly in full, at times with a title."""
        roll = self.unit()
        if roll < 0.35:
            return self.first_name()
        if roll < 0.9:
            return self.full_name()
        return f"{self.pick(['Dr.', 'Mr.', 'Mrs.', 'Ms.', 'Professor'])} {self.surname()}"

    def city(self):
        """A town, real or invented."""
        if self.chance(0.4):
            return self.mine(lambda: self.pick(pools.CITIES))
        roll = self.unit()
        name = self.mine(lambda: (self.syllables(1, 3) + self.pick(pools.TOWN_ENDS)).capitalize())
        if roll < 0.12:
            return f"{self.pick(pools.TOWN_STARTS)} {name}"
        return name

    def country(self):
        """A country, real or invented."""
        if self.chance(0.6):
            return self.mine(lambda: self.pick(pools.COUNTRIES))
        return self.mine(lambda: (self.syllables(1, 2) + self.pick(["ia", "land", "stan", "or", "ania"])).capitalize())

    def company(self):
        """A firm's name."""
        stem = self.surname() if self.chance(0.4) else self.word().capitalize()
        return f"{stem} {self.pick(pools.FIRM_ENDS)}" if self.chance(0.7) else stem

    def product(self):
        """A product's name, often with a number."""
        stem = self.word().capitalize()
        return f"{stem} {self.int(2, 990)}" if self.chance(0.4) else stem

    def title(self):
        """A title of a book, film or song."""
        noun = self.pick(pools.NOUNS).capitalize()
        shape = self.int(0, 5)
        if shape == 0:
            return f"The {self.pick(pools.ADJECTIVES).capitalize()} {noun}"
        if shape == 1:
            return f"The {noun} of {self.city()}"
        if shape == 2:
            return f"{self.first_name()} and the {noun}"
        if shape == 3:
            return f"{self.pick(pools.ADJECTIVES).capitalize()} {noun}s"
        if shape == 4:
            return f"{self.word().capitalize()}"
        return f"A {noun} in {self.pick(pools.SEASONS).capitalize()}"

    def file(self, ends=("gguf",)):
        """A file name as a user would have it."""
        stem = self.word()
        roll = self.unit()
        if roll < 0.35:
            stem = f"{stem}-{self.pick(['1b', '3b', '7b', '8b', '13b', '70b', 'small', 'base', 'chat', 'v2', 'f16'])}"
        elif roll < 0.55:
            stem = self.pick(pools.MODEL_STEMS) + self.pick(["", "-7b", "-chat", "-instruct", "-mini", "-f16", "-2"])
        elif roll < 0.65:
            stem = f"{self.pick(['models', 'data', 'work', 'weights'])}/{stem}"
        return f"{stem}.{self.pick(ends)}"

    # -- numbers and dates -------------------------------------------------

    def number(self, digits=None):
        """A positive integer of up to six digits; long ones are split by side."""
        digits = digits or self.pick([1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6])
        low = 10 ** (digits - 1) if digits > 1 else 2
        if digits < 3:
            return self.int(low, 10**digits - 1)
        return int(self.mine(lambda: str(self.int(low, 10**digits - 1))))

    def year(self, low=1700, high=2024):
        """A year."""
        return self.int(low, high)

    def date(self):
        """`(year, month, day)`, split by side."""
        text = self.mine(lambda: f"{self.int(1900, 2035)}-{self.int(1, 12):02}-{self.int(1, 28):02}")
        if self.chance(0.08):
            text = text[:8] + self.pick(["29", "30"]) if text[5:7] != "02" else text
        y, m, d = text.split("-")
        return int(y), int(m), int(d)


FILLERS = ["just", "really", "quickly", "simply", "please", "actually", "maybe", "also", "now", "then", "here", "exactly"]
SMALL = ("the", "a", "an", "to", "of", "my", "is", "do")


def hasty(d, text):
    """The same request as somebody in a hurry types it: a filler, a slip, a word left out."""
    words = text.split(" ")
    roll = d.unit()
    at = d.int(0, len(words) - 1)
    if roll < 0.08:
        words.insert(at or 1, d.pick(FILLERS))
    elif roll < 0.12:
        small = [i for i, w in enumerate(words) if w in SMALL]
        if small:
            del words[d.pick(small)]
    elif roll < 0.15 and words[at].isalpha() and len(words[at]) > 4:
        i = d.int(1, len(words[at]) - 3)
        w = words[at]
        words[at] = w[:i] + w[i + 1] + w[i] + w[i + 2 :]
    elif roll < 0.18:
        words = text.lower().rstrip("?.!").split(" ")
    elif roll < 0.22:
        words.append(d.pick(["Thanks.", "Please help.", "I am new here.", "I forgot.", "Thank you!", "Can you help?", "please"]))
    elif roll < 0.26:
        words.insert(0, d.pick(["I am new here.", "I have a question.", "Quick question:", "Sorry,", "Another question:", "I wonder:", "Please tell me:"]))
    return " ".join(words)


def article(noun):
    """The noun with its indefinite article."""
    return ("an " if noun[0].lower() in "aeiou" and not noun.lower().startswith(("uni", "use", "eur", "one", "uku")) else "a ") + noun


def cap(text):
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def join(items, word="and"):
    """`a, b and c`."""
    items = list(items)
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + f" {word} " + items[-1]
