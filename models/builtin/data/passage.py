"""Passages made of facts, questions about them, and refusals."""

from ..chat import assistant, user
from . import events, pools, scenery
from .draw import cap
from .facts_people import SUBJECTS as PEOPLE
from .facts_things import PAIRS
from .facts_things import SUBJECTS as THINGS

SUBJECTS = PEOPLE + THINGS
NOT_SAID = "The passage does not say."
FILLERS = [
    "It was a quiet day.", "Nobody was surprised.", "The weather was fine that week.", "This is well known.", "Many people have heard of it.", "Some find this strange.",
    "There is more to tell another time.", "The local newspaper wrote about it.", "That has not changed for a long time.", "It is a popular topic.",
]
FRAMES = [
    "{p}\n\n{q}", "{p}\n\n{q}", "{p}\n{q}", "{p} {q}", "Passage: {p}\n\nQuestion: {q}", "Passage: {p}\nQuestion: {q}", "Read the passage and answer.\n\n{p}\n\n{q}",
    "Answer the question from the passage.\n\n{p}\n\nQuestion: {q}", "Context: {p}\n\nQuestion: {q}", "{q}\n\n{p}", "Text: {p}\n\n{q}", "Here is a text: {p}\n\n{q}",
    "Use only this text to answer.\n\n{p}\n\n{q}", "Given this passage:\n\n{p}\n\n{q}", "Question: {q}\n\nPassage: {p}", 'Read this: "{p}" {q}',
    "Based on the following text, {q}\n\n{p}", "I have a text for you.\n\n{p}\n\n{q}", "Please read this text:\n{p}\n\nNow tell me: {q}",
]


class Subject:
    """A thing that a passage speaks of, with the facts stated and not stated."""

    def __init__(self, d, kind=None):
        kinds = [s for s in SUBJECTS if s[0] == kind] if kind else SUBJECTS
        self.kind, make, attributes = d.pick(kinds)
        self.name = make(d)
        given = self.name.split()[0]
        if self.kind == "person" or self.kind == "pet":
            she = pools.is_she(given) if given[-1] != "." else given in ("Mrs.", "Ms.")
            self.pronoun, self.possessive = ("She", "Her") if she else ("He", "His")
        else:
            self.pronoun, self.possessive = "It", "Its"
        order = d.shuffled(attributes)
        count = min(len(order) - 1, d.pick([1, 2, 2, 3, 3, 4, 5]))
        self.facts = [(a, a[1](d)) for a in order[:count]]
        self.unsaid = order[count:]

    def slots(self, value=None, pronoun=False, d=None):
        """The words for the slots of a sentence."""
        if pronoun:
            return {"S": self.pronoun, "P": self.possessive, "p": self.possessive.lower(), "V": value}
        own = self.name + "'s"
        return {"S": self.name, "P": own, "p": self.possessive.lower(), "V": value, "S's": own}

    def say(self, d, fact, pronoun=False):
        """One sentence that states a fact."""
        (_, _, ways, _, _), value = fact
        way = d.pick(ways)
        pronoun = pronoun and way.startswith(("{S} ", "{P} "))
        return cap(way.format(**self.slots(value, pronoun)))

    def ask(self, d, attribute):
        """A question for an attribute."""
        return cap(d.pick(attribute[3]).format(**self.slots()))

    def answer(self, fact):
        """The full answer for a stated fact."""
        (_, _, _, _, way), value = fact
        return cap(way.format(**self.slots(value)))


def sentences(d, subject):
    """The subject's facts as sentences; later ones may use a pronoun."""
    out, said = [], set()
    held = {a[0][0]: value for a, value in subject.facts}
    if d.chance(0.4):
        fitting = [p for p in PAIRS if p[0] == subject.kind and p[1] in held and p[2] in held]
        if fitting:
            _, one, two, ways = d.pick(fitting)
            out.append(cap(d.pick(ways).format(S=subject.name, **held)))
            said = {one, two}
    for fact in subject.facts:
        if fact[0][0][0] not in said:
            out.append(subject.say(d, fact, pronoun=bool(out) and d.chance(0.5)))
    if len(out) > 1 and d.chance(0.2) and subject.kind == "person":
        first, second = out[0], out[1]
        if second.startswith((subject.pronoun + " ", subject.possessive + " ")):
            out[:2] = [f"{first[:-1]}, and {second[0].lower()}{second[1:]}"]
    return out


def passage(d, most=3):
    """`(text, subjects)`: one to three subjects, mostly of the same kind."""
    first = Subject(d)
    subjects = [first]
    for _ in range(d.pick([0, 0, 1, 1, 2][: most + 2])):
        other = Subject(d, first.kind if d.chance(0.6) else None)
        if all(other.name != s.name and not clash(other.name, s.name) for s in subjects):
            subjects.append(other)
    text = []
    for s in subjects:
        text += sentences(d, s)
        if d.chance(0.12):
            text.append(d.pick(FILLERS))
    gap = "\n\n" if len(subjects) > 1 and d.chance(0.1) else " "
    return " ".join(text) if gap == " " else gap.join(text), subjects


def clash(a, b):
    """Whether two names share a word, so that a question would be ambiguous."""
    return bool({w for w in a.split() if len(w) > 3} & {w for w in b.split() if len(w) > 3} - {"Mount", "Team", "Professor"})


def answerable(d, subjects):
    """A question with its answer."""
    s = d.pick(subjects)
    fact = d.pick(s.facts)
    return s.ask(d, fact[0]), s.answer(fact)


def unanswerable(d, subjects):
    """A question that the passage does not answer."""
    s = d.pick(subjects)
    if d.chance(0.25):
        s = Subject(d, s.kind)
        while any(clash(s.name, t.name) or s.name == t.name for t in subjects):
            s = Subject(d, s.kind)
        return s.ask(d, d.pick(s.facts)[0]), NOT_SAID
    others = [a for o in subjects if o is not s and o.kind == s.kind for a, _ in o.facts if a in s.unsaid]
    said = {a[3][0] for a, _ in s.facts}
    pool = [a for a in (others if others and d.chance(0.6) else s.unsaid) if a[3][0] not in said and not near(a, s)]
    if not pool:
        return unanswerable(d, [Subject(d, s.kind)])
    return s.ask(d, d.pick(pool)), NOT_SAID


NEAR = [{"home", "birthplace"}, {"employer", "home"}, {"job", "employer"}, {"birth_year", "age"}, {"hobby", "instrument"}, {"sport", "color"}]


def near(attribute, subject):
    """Whether a stated fact could pass as an answer to this attribute's questions."""
    mine = set(attribute[0])
    return any(mine & pair and set(a[0]) & pair for a, _ in subject.facts for pair in NEAR)


def scene(d, brief=False):
    """An open passage (see `events` and `scenery`)."""
    return events.story(d, brief) if d.chance(0.5) else d.pick(scenery.MAKERS)(d)


def about_facts(d):
    """A passage of facts: `(text, ask)` where `ask(d)` gives a question and its answer."""
    text, subjects = passage(d)
    return text, lambda d: (answerable if d.chance(0.68) else unanswerable)(d, subjects)


def about_scenes(d):
    """An open passage: `(text, ask)` as `about_facts`."""
    scenes = [scene(d) for _ in range(d.pick([1, 1, 1, 2, 2]))]
    text = " ".join(s for made in scenes for s in made.sentences)
    names = {q for made in scenes for asks, _ in made.said for q in asks}

    def ask(d):
        made = d.pick(scenes)
        if d.chance(0.7):
            asks, answer = d.pick(made.said)
            return d.pick(asks), cap(answer)
        free = [q for asks in made.unsaid for q in asks if q not in names]
        return (d.pick(free), NOT_SAID) if free else ask(d)

    return text, ask


def turns(d):
    """A passage, a question, and at times more questions about it."""
    text, make = (about_facts if d.chance(0.5) else about_scenes)(d)
    ask, answer = make(d)
    frame = d.pick(FRAMES)
    shown = ask[0].lower() + ask[1:] if frame.startswith("Based") or d.chance(0.04) else ask
    out, asked = [user(frame.format(p=text, q=shown)), assistant(answer)], {ask}
    while d.chance(0.7):
        ask, answer = make(d)
        if ask in asked:
            break
        asked.add(ask)
        if d.chance(0.25):
            ask = d.pick(["And ", "Now, ", "Also, ", "Next: "]) + ask[0].lower() + ask[1:]
        out += [user(ask), assistant(answer)]
    return out


def plain(d):
    """A passage as bare text."""
    return (about_facts if d.chance(0.5) else about_scenes)(d)[0]
