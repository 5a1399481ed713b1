"""Multi-turn conversations: memory, follow-ups, edits of an answer, personas."""

from ..chat import assistant, user
from . import pools, smalltalk
from .draw import article, cap, join
from .passage import Subject, answerable, passage, unanswerable

THINGS = [
    ("favorite color", lambda d: d.pick(pools.COLORS)), ("favorite food", lambda d: d.pick(pools.FOODS)), ("favorite animal", lambda d: d.pick(pools.ANIMALS)),
    ("hobby", lambda d: d.pick(pools.HOBBIES)), ("job", lambda d: d.pick(pools.JOBS)), ("home town", lambda d: d.city()), ("favorite number", lambda d: d.number(d.pick([1, 2, 3]))),
    ("password", lambda d: d.word()), ("cat's name", lambda d: d.first_name()), ("dog's name", lambda d: d.first_name()), ("favorite book", lambda d: d.title()),
    ("best friend's name", lambda d: d.first_name()), ("age", lambda d: d.int(8, 90)), ("lucky word", lambda d: d.word()), ("car's color", lambda d: d.pick(pools.COLORS)),
]


def memory(d):
    """The user tells things, talks of others, and asks for them later."""
    name = d.person() if d.chance(0.3) else d.first_name()
    told = {"name": name}
    out = [user(d.pick(["My name is {}.", "I am {}.", "Hi, I'm {}.", "Hello, my name is {}.", "Call me {}.", "Hey, {} here."]).format(name)), assistant(f"Nice to meet you, {name}!")]
    for thing, make in d.some(THINGS, d.int(0, 3)):
        value = make(d)
        told[thing] = value
        out += [user(d.pick(["My {} is {}.", "My {} is {}, by the way.", "Remember that my {} is {}.", "You should know that my {} is {}."]).format(thing, value)), assistant("I will remember that.")]
        if d.chance(0.3):
            said, answer = smalltalk.pair(d)
            out += [user(said), assistant(answer)]
    if d.chance(0.25) and len(told) > 1:
        thing = d.pick([k for k in told if k != "name"])
        told[thing] = dict(THINGS)[thing](d)
        out += [user(d.pick(["Actually, my {} is {}.", "I was wrong, my {} is {}.", "Sorry, my {} is {}."]).format(thing, told[thing])), assistant("I will remember that.")]
    for thing in d.some(list(told), d.int(1, len(told))):
        ask = d.pick(["What is my {}?", "What's my {}?", "Do you remember my {}?", "Can you tell me my {}?", "Tell me my {}."]).format(thing)
        if thing == "name" and d.chance(0.3):
            ask = d.pick(["Who am I?", "Do you know who I am?", "Do you know my name?"])
        out += [user(ask), assistant(f"Your {thing} is {told[thing]}.")]
    if d.chance(0.2):
        thing = d.pick([t for t, _ in THINGS if t not in told])
        out += [user(f"What is my {thing}?"), assistant("You have not told me that.")]
    return None, out


def told_at_once(d):
    """Several things in one message, then a question for one of them."""
    name, town, pet, kin = d.first_name(), d.city(), d.first_name(), d.first_name()
    beast, who, job = d.pick(["dog", "cat", "horse", "rabbit", "parrot"]), d.pick(["brother", "sister", "friend", "boss", "neighbor"]), d.pick(pools.JOBS)
    facts = [
        (f"I live in {town}", ["Where do I live?", "In which city do I live?"], f"You live in {town}."),
        (f"my {beast} is called {pet}", [f"What is my {beast} called?", f"What is the name of my {beast}?", f"What is my {beast}'s name?"], f"Your {beast} is called {pet}."),
        (f"my {who} is called {kin}", [f"What is my {who} called?", f"What is my {who}'s name?"], f"Your {who} is called {kin}."),
        (f"I work as {article(job)}", ["What do I do for a living?", "What is my job?"], f"You work as {article(job)}."),
        (f"my name is {name}", ["What is my name?", "What's my name?", "Who am I?"], f"Your name is {name}."),
        (f"I am {(age := d.int(8, 90))} years old", ["How old am I?", "What is my age?"], f"You are {age} years old."),
    ]
    chosen = d.some(facts, d.int(2, 4))
    out = [user(cap(join(f for f, _, _ in chosen)) + "."), assistant("I will remember that.")]
    if d.chance(0.3):
        said, answer = smalltalk.pair(d)
        out += [user(said), assistant(answer)]
    for _, asks, answer in d.some(chosen, d.int(1, len(chosen))):
        out += [user(d.pick(asks)), assistant(answer)]
    return None, out


def word_list(d):
    """A list of things, then questions and edits."""
    pool = d.pick([pools.ANIMALS, pools.FOODS, pools.COLORS, pools.HOBBIES, pools.ITEMS, pools.CITIES, pools.FIRST_NAMES])
    items = d.some(pool, d.int(3, 5)) if d.chance(0.6) else [d.word() for _ in range(d.int(3, 5))]
    out = [user(d.pick(["Here is my list: {}.", "My list is {}.", "Remember this list: {}.", "I have a list: {}."]).format(join(items))), assistant(f"Your list has {len(items)} entries.")]
    for _ in range(d.int(1, 4)):
        kind = d.int(0, 6)
        if kind == 0:
            out += [user(d.pick(["What is the first entry?", "Which one is first?", "What comes first?"])), assistant(f"The first entry is {items[0]}.")]
        elif kind == 1:
            out += [user(d.pick(["What is the last entry?", "Which one is last?", "What comes last?"])), assistant(f"The last entry is {items[-1]}.")]
        elif kind == 2:
            new = d.pick(pool) if d.chance(0.5) else d.word()
            if new in items:
                continue
            items = items + [new]
            out += [user(d.pick(["Add {}.", "Please add {} to the list.", "Put {} on the list."]).format(new)), assistant(f"Your list is now {join(items)}.")]
        elif kind == 3 and len(items) > 2:
            gone = d.pick(items)
            items = [i for i in items if i != gone]
            out += [user(d.pick(["Remove {}.", "Take {} off the list.", "Please remove {}."]).format(gone)), assistant(f"Your list is now {join(items)}.")]
        elif kind == 4:
            items = items[::-1]
            out += [user(d.pick(["Reverse the list.", "Turn the list around.", "Read it backwards."])), assistant(f"Your list is now {join(items)}.")]
        elif kind == 5:
            out += [user(d.pick(["How many entries does it have?", "How long is the list?", "How many are there now?"])), assistant(f"Your list has {len(items)} entries.")]
        else:
            out += [user(d.pick(["What is on my list?", "Read me the list.", "Show the list.", "What is my list now?"])), assistant(f"Your list is {join(items)}.")]
    return None, out


def repeat(d):
    """Copying and small edits of words."""
    words = [d.word() if d.chance(0.6) else d.pick(pools.NOUNS) for _ in range(d.int(1, 6))]
    text = " ".join(words)
    kind = d.int(0, 4)
    if kind == 0:
        return None, [user(d.pick(["Repeat after me: {}", "Say: {}", "Please repeat: {}", "Echo this: {}", 'Say "{}".', 'Repeat "{}".']).format(text)), assistant(text)]
    if kind == 1:
        return None, [user(d.pick(["Write {} in capital letters.", "Put {} in uppercase.", "{} in capitals, please."]).format(words[0])), assistant(words[0].upper())]
    if kind == 2:
        return None, [user(d.pick(["What is the first word of: {}", "First word of: {}", 'What is the first word of "{}"?']).format(text)), assistant(words[0])]
    if kind == 3:
        return None, [user(d.pick(["What is the last word of: {}", "Last word of: {}", 'What is the last word of "{}"?']).format(text)), assistant(words[-1])]
    return None, [user(d.pick(["How many words are in: {}", 'How many words does "{}" have?', "Count the words: {}"]).format(text)), assistant(str(len(words)))]


def persona(d):
    """A system prompt that gives a name and a place, and questions about it."""
    name, firm = d.pick([d.first_name, lambda: d.word().capitalize()])(), d.company()
    role = d.pick(["assistant", "helper", "guide", "support agent", "librarian", "tutor", "concierge"])
    system = d.pick(["You are {n}, the {r} of {f}.", "You are {n}, a friendly {r} at {f}.", "Your name is {n}. You are the {r} of {f}.", "You are called {n} and work as a {r} for {f}."]).format(n=name, r=role, f=firm)
    subject = Subject(d, d.pick(["firm", "event", "town", "machine"])) if d.chance(0.6) else None
    if subject:
        system += " " + " ".join(subject.say(d, f) for f in subject.facts)
    out = []
    for _ in range(d.int(1, 4)):
        roll = d.unit()
        if roll < 0.35:
            out += [user(d.pick(["Who are you?", "What is your name?", "What's your name?", "Who am I talking to?", "Hello, who are you?", "Introduce yourself."])), assistant(f"I am {name}, the {role} of {firm}.")]
        elif subject:
            ask, answer = answerable(d, [subject])
            if roll > 0.9:
                ask, answer = subject.ask(d, d.pick(subject.unsaid)), "I don't have that information."
            out += [user(ask), assistant(answer)]
        else:
            said, answers = d.pick([smalltalk.TALK[0], smalltalk.TALK[7], smalltalk.TALK[8]])
            out += [user(d.pick(said)), assistant(d.pick(answers))]
    return system, out


def rule(d):
    """A system prompt with a rule about the form of answers."""
    mark = d.pick(["Over.", "Ahoy!", "Beep.", "Meow!", "Cheers!", cap(d.word()) + "!", cap(d.word()) + "."])
    kind = d.int(0, 3)
    base = d.pick(["You are ZSE, a small and helpful assistant.", "You are a helpful assistant.", ""])
    system, change = [
        (d.pick(["End every answer with \"{}\"", "Always end with \"{}\"", "Finish each reply with \"{}\""]).format(mark), lambda a: f"{a} {mark}"),
        (d.pick(["Begin every answer with \"{}\"", "Always start with \"{}\"", "Start each reply with \"{}\""]).format(mark), lambda a: f"{mark} {a}"),
        (d.pick(["Answer in capital letters.", "Write everything in uppercase.", "Always use capital letters."]), lambda a: a.upper()),
        (d.pick(["Answer in lower case.", "Write everything in lowercase.", "Never use capital letters."]), lambda a: a.lower()),
    ][kind]
    out = []
    for _ in range(d.int(1, 4)):
        roll = d.unit()
        if roll < 0.4:
            said, answers = d.pick(smalltalk.TALK)
            out += [user(d.pick(said)), assistant(change(d.pick(answers)))]
        else:
            said, answer = smalltalk.knowledge(d)
            out += [user(said), assistant(change(answer))]
    return f"{base} {system}".strip(), out


def combined(d):
    """A passage, then questions that look back on the conversation."""
    text, subjects = passage(d)
    out = [user(d.pick(["I will give you a text: {}", "Read this: {}", "Here is a text. {}", "Please read: {}"]).format(text)), assistant("I have read it. What would you like to know?")]
    last = None
    for _ in range(d.int(1, 5)):
        if last and d.chance(0.2):
            out += [user(d.pick(["What did I ask last?", "What was my last question?", "Repeat my last question."])), assistant(f'You asked: "{last}"')]
            continue
        last, answer = (answerable if d.chance(0.75) else unanswerable)(d, subjects)
        out += [user(last), assistant(answer)]
    return None, out


MAKERS = [(memory, 0.24), (told_at_once, 0.1), (word_list, 0.14), (repeat, 0.16), (persona, 0.12), (rule, 0.1), (combined, 0.14)]


def turns(d):
    """`(system or None, turns)`."""
    roll = d.unit()
    for make, share in MAKERS:
        roll -= share
        if roll < 0:
            return make(d)
    return MAKERS[-1][0](d)
