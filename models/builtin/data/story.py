"""Stories, the requests for them, and questions about them."""

from ..chat import assistant, user
from . import pools
from .draw import article, cap, mark
from .plots import PLOTS as PLOTS_A
from .plots_more import PLOTS as PLOTS_B

PLOTS = PLOTS_A + PLOTS_B
THEMES = {p["theme"]: p for p in PLOTS}
PLACES = [
    "the forest", "the village", "the valley", "the old town", "the meadow", "the mountains", "the harbor", "the lake country",
    "the garden", "the desert", "the city", "the farm", "the river bank", "the castle", "the jungle", "the swamp",
    "the snowy north", "the orchard", "the hills", "the moonlit bay",
]
OBJECTS = [
    "lantern", "kite", "drum", "boat", "clock", "umbrella", "violin", "hat", "scarf", "basket", "mirror", "book", "flute",
    "teapot", "compass", "wagon", "necklace", "telescope", "music box", "blanket", "ladder", "bell", "toy horse", "vase",
]
TRAITS = ["small", "clever", "curious", "kind", "shy", "cheerful", "young", "old", "gentle", "brave", "clumsy", "quiet",
          "friendly", "sleepy", "playful", "proud"]
OPENINGS = [
    "Once upon a time, there was {a_trait_hero} named {N} who lived in {place}.",
    "In {place} there lived {a_trait_hero} named {N}.",
    "Long ago, {a_trait_hero} called {N} lived in {place}.",
    "There once was {a_trait_hero} in {place} whose name was {N}.",
    "{N} was {a_trait_hero} who lived in {place}.",
    "Far away, in {place}, lived {a_trait_hero} by the name of {N}.",
]
DAILY = [
    "Every morning {he} greeted the sun and had some {food} for breakfast.",
    "{He} loved {food} and long walks in the evening.",
    "Everybody knew {him}, because {he} always carried {his} {obj}.",
    "{His} best days were those that began with {food} and ended with a song.",
    "{He} had a small house with a blue door and a crooked chimney.",
    "In the evening {he} liked to sit in front of the house and count the clouds.",
    "{He} knew every path and every stone there.",
    "",
    "",
]
FRIENDS = [
    "Next door lived {a_friend} named {F}.",
    "Not far away lived {F}, {a_friend} with a big heart.",
    "{His} neighbor was {F}, {a_friend}.",
    "And then there was {F}, {a_friend} who always had good ideas.",
]
CLOSINGS = ["", "", "", "", "The end.", "And if you listen at night, you can still hear them laughing.",
            "That night, everyone in {place} slept very well."]
PRONOUNS = [("he", "him", "his"), ("she", "her", "her")]
SHE = {"girl", "queen", "princess", "witch", "fairy", "grandmother", "hen", "cow"}
HE = {"boy", "king", "prince", "wizard", "grandfather", "snowman"}


def hero_noun(d):
    """Who the story is about: an animal, a person, a thing, or an invented being."""
    roll = d.unit()
    if roll < 0.5:
        return d.pick(pools.ANIMALS)
    if roll < 0.78:
        return d.pick(pools.ROLES)
    if roll < 0.9:
        return d.pick(pools.THINGS)
    return d.word()


def favoured(d, key, options):
    """One of the options: half of the time the one that belongs to `key`.

    So the likeliest story differs from hero to hero: a fox has its own name,
    friend and theme even when every token is the most likely one.
    """
    return options[mark(key) % len(options)] if d.chance(0.5) else d.pick(options)


def name_for(d, hero):
    """A given name that does not contradict the hero's noun."""
    wrong = pools.HE if hero in SHE else pools.SHE if hero in HE else ()
    name = favoured(d, "name of " + hero, pools.FIRST_NAMES) if d.chance(0.7) else d.first_name()
    while name in wrong:
        name = d.first_name()
    return name


def plan(d, **fixed):
    """The facts of a story; `fixed` may give hero, N, place, theme, obj."""
    hero = fixed.get("hero") or (favoured(d, fixed.get("theme", fixed.get("place", "")), pools.ANIMALS) if d.chance(0.7) else hero_noun(d))
    friend = favoured(d, "friend of " + hero, pools.ANIMALS + pools.ROLES)
    while friend == hero:
        friend = d.pick(pools.ANIMALS)
    name = fixed.get("N") or name_for(d, hero)
    other = name_for(d, friend)
    while other == name:
        other = name_for(d, friend)
    gender = pools.is_she(name) if hero not in SHE | HE else int(hero in SHE)
    return {
        "hero": hero,
        "friend": friend,
        "N": name,
        "F": other,
        "place": fixed.get("place") or favoured(d, "place of " + hero, PLACES),
        "theme": fixed.get("theme") or favoured(d, "theme of " + hero, list(THEMES)),
        "obj": fixed.get("obj") or favoured(d, "thing of " + hero, OBJECTS),
        "food": favoured(d, "food of " + hero, pools.FOODS),
        "trait": fixed.get("trait") or favoured(d, "trait of " + hero, TRAITS),
        "pronouns": PRONOUNS[gender],
    }


def tell(d, p, short=False):
    """The text of a story with plan `p`."""
    he, him, his = p["pronouns"]
    slots = dict(p, he=he, him=him, his=his, He=cap(he), His=cap(his))
    slots["a_trait_hero"] = article(f"{p['trait']} {p['hero']}") if d.chance(0.9) else article(p["hero"])
    slots["a_friend"] = article(f"{favoured(d, p['friend'], TRAITS)} {p['friend']}") if d.chance(0.5) else article(p["friend"])
    plot = THEMES[p["theme"]]
    beats = [favoured(d, "opening" + p["hero"], OPENINGS)]
    if not short:
        beats.append(favoured(d, "daily" + p["hero"], DAILY))
    beats.append(favoured(d, "friends" + p["hero"], FRIENDS))
    beats.append(favoured(d, "problem" + p["hero"], plot["problem"]))
    if not short or d.chance(0.3):
        beats.append(d.pick(plot["try"]))
    beats += [favoured(d, beat + p["hero"], plot[beat]) for beat in ("turn", "end", "moral")]
    if not short:
        beats.append(d.pick(CLOSINGS))
    lines = [b.format(**slots) for b in beats if b]
    if short or d.chance(0.5):
        return " ".join(lines)
    cut = 3 if len(lines) > 7 else 2
    return " ".join(lines[:cut]) + "\n\n" + " ".join(lines[cut:-2]) + "\n\n" + " ".join(lines[-2:])


ASKS = [
    "Tell me {s}.", "Tell me {s}.", "Tell {s}.", "Please tell me {s}.", "Can you tell me {s}?", "Write {s}.", "Write me {s}.",
    "I would like to hear {s}.", "Could you write {s}?", "Make up {s}.", "I want {s}.", "Please write {s}.", "Give me {s}.",
    "Let me hear {s}.", "Read me {s}.",
]


def request(d):
    """`(text, fixed, short)`: a request for a story and what it fixes."""
    fixed, short = {}, d.chance(0.25)
    kind = d.pick(["a story"] * 4 + ["a tale", "a bedtime story", "a fairy tale", "a fable"])
    if short:
        kind = kind.replace("a ", d.pick(["a short ", "a very short ", "a little "]), 1)
    elif d.chance(0.12):
        kind = kind.replace("a ", d.pick(["a nice ", "a long ", "a good ", "a funny "]), 1)
    roll = d.unit()
    if roll < 0.62:
        fixed["hero"] = hero_noun(d)
        adjective = d.pick(TRAITS + ["lonely", "little", "big", "lazy", "hungry", "funny", "tiny", "magic", "sad", "happy", "lost", "angry", "wise"]) if d.chance(0.3) else ""
        if adjective:
            fixed["trait"] = adjective
        kind += " about " + article(f"{adjective} {fixed['hero']}".strip())
        if d.chance(0.25):
            fixed["N"] = d.first_name()
            kind += d.pick([" named ", " called "]) + fixed["N"]
        if d.chance(0.2):
            fixed["place"] = d.pick(PLACES)
            kind += d.pick([" in ", " who lives in ", " from "]) + fixed["place"]
        if d.chance(0.15):
            fixed["obj"] = d.pick(OBJECTS)
            kind += " and " + article(fixed["obj"])
            fixed["theme"] = d.pick(["honesty", "losing something"])
        elif d.chance(0.12):
            fixed["theme"] = d.pick(PLOTS)["theme"]
            kind += " with the theme of " + fixed["theme"]
    elif roll < 0.82:
        fixed["theme"] = d.pick(PLOTS)["theme"]
        kind += " about " + fixed["theme"]
    elif roll < 0.88:
        fixed["place"] = d.pick(PLACES)
        kind += " that happens in " + fixed["place"]
    return d.pick(ASKS).format(s=kind), fixed, short


def follow_up(d, p):
    """A question about a story that was just told, and its answer."""
    h = d.pick(["the story", "it"])
    asks = [
        ([f"What was the {p['hero']}'s name?", f"What was the name of the {p['hero']}?", f"How was the {p['hero']} called?"],
         f"The {p['hero']}'s name was {p['N']}."),
        ([f"Who was {p['F']}?", f"And who was {p['F']}?"], f"{p['F']} was {article(p['friend'])}."),
        ([f"Where did {p['N']} live?", "Where did the story happen?", f"Where did the {p['hero']} live?"],
         f"{p['N']} lived in {p['place']}."),
        ([f"What is {h} about?", f"What was the theme of {h}?", "What was that story about?"],
         f"The story is about {p['theme']}."),
        ([f"Who was {p['N']}?", f"What kind of being was {p['N']}?"], f"{p['N']} was {article(p['hero'])}."),
    ]
    questions, answer = d.pick(asks)
    return d.pick(questions), answer


def turns(d):
    """A request for a story, the story, and at times questions about it."""
    ask, fixed, short = request(d)
    p = plan(d, **fixed)
    out = [user(ask), assistant(tell(d, p, short))]
    while d.chance(0.3):
        question, answer = follow_up(d, p)
        out += [user(question), assistant(answer)]
    if d.chance(0.12):
        fixed = {"hero": hero_noun(d)}
        again = d.pick(["Another one, please, about {s}.", "Now one about {s}.", "And now about {s}.", "Tell me one about {s} now."])
        out += [user(again.format(s=article(fixed["hero"]))), assistant(tell(d, plan(d, **fixed), d.chance(0.3)))]
    return out


def plain(d):
    """A story as bare text, without a conversation around it."""
    return tell(d, plan(d), d.chance(0.2))
