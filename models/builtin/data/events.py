"""Open passages about people who do things: who, what, when, where, with whom, for how much."""

from . import pools
from .draw import article, cap
from .scene import Scene

THINGS = pools.phrases("""
bicycle, car, lamp, guitar, coat, hat, book, chair, table, boat, tent, camera, watch, ring, bag, umbrella, clock, painting,
kite, ladder, phone, radio, piano, vase, mirror, carpet, sofa, bottle, basket, drum, map, key, knife, jacket, ball, toy,
candle, pillow, blanket, bed, scooter, tractor, computer, desk, telescope, suitcase, wallet, letter, box, statue, flute
""")
DOGS = pools.phrases("dog, cat, horse, goat, rabbit, hen, cow, parrot, sheep, pony, duck, turtle, donkey, pig, goose")
DISHES = pools.phrases("soup, bread, pasta, rice, salad, cake, pie, fish, pizza, cheese, stew, curry, omelette, sandwich, pancakes")
SPOTS = pools.phrases("""
market, station, park, school, library, harbor, beach, museum, garden, office, church, farm, hospital, airport, hotel, shop,
kitchen, forest, lake, bakery, castle, theater, stadium, pool, mill, cinema, river, bridge, mountain, square
""")
KIN = pools.phrases("friend, neighbor, teacher, cousin, boss, doctor, friend")
KIN_OF = (pools.phrases("uncle, brother, grandfather, father, son"), pools.phrases("aunt, sister, grandmother, mother, daughter"))
# Verbs with a thing: past, base, kind of object, may have (source, recipient, price).
ACTS = [
    ("bought", "buy", "thing", "from price"), ("sold", "sell", "thing", "to price"), ("gave", "give", "thing", "to"), ("sent", "send", "thing", "to"),
    ("lent", "lend", "thing", "to"), ("borrowed", "borrow", "thing", "from"), ("found", "find", "thing", ""), ("lost", "lose", "thing", ""),
    ("painted", "paint", "thing", ""), ("repaired", "repair", "thing", ""), ("built", "build", "thing", ""), ("broke", "break", "thing", ""),
    ("cleaned", "clean", "thing", ""), ("carried", "carry", "thing", ""), ("stole", "steal", "thing", "from"), ("hid", "hide", "thing", ""),
    ("brought", "bring", "thing", "to"), ("showed", "show", "thing", "to"), ("drew", "draw", "thing", ""), ("forgot", "forget", "thing", ""),
    ("got", "get", "thing", "from"), ("saw", "see", "animal", ""), ("fed", "feed", "animal", ""), ("washed", "wash", "animal", ""),
    ("bought", "buy", "animal", "from price"), ("sold", "sell", "animal", "to price"), ("followed", "follow", "animal", ""), ("cooked", "cook", "dish", ""),
    ("ate", "eat", "dish", ""), ("baked", "bake", "dish", ""), ("ordered", "order", "dish", "price"), ("made", "make", "dish", ""),
    ("met", "meet", "person", ""), ("called", "call", "person", ""), ("helped", "help", "person", ""), ("invited", "invite", "person", ""),
    ("visited", "visit", "person", ""), ("thanked", "thank", "person", ""), ("taught", "teach", "person", ""), ("saw", "see", "person", ""),
]
# Verbs of going and staying: past, base, preposition, kind of place.
MOVES = [
    ("walked", "walk", "to", "spot"), ("went", "go", "to", "spot"), ("ran", "run", "to", "spot"), ("drove", "drive", "to", "city"), ("flew", "fly", "to", "city"),
    ("traveled", "travel", "to", "city"), ("moved", "move", "to", "city"), ("went", "go", "to", "city"), ("slept", "sleep", "in", "spot"), ("worked", "work", "in", "city"),
    ("waited", "wait", "at", "spot"), ("studied", "study", "in", "city"), ("sang", "sing", "at", "spot"), ("rode", "ride", "to", "spot"), ("stayed", "stay", "in", "city"),
]


def when(d):
    """`(words, bare value)` of a time in the past."""
    roll = d.int(0, 7)
    if roll == 0:
        day = d.pick(pools.DAYS)
        return f"on {day}", day
    if roll == 1:
        year = str(d.year(1850))
        return f"in {year}", int(year)
    if roll == 2:
        month = d.pick(pools.MONTHS)
        return f"in {month}", month
    if roll == 3:
        hour = f"{d.int(1, 12)} {d.pick(['am', 'pm'])}"
        return f"at {hour}", hour
    if roll == 4:
        day = f"{d.pick(pools.MONTHS)} {d.int(1, 28)}"
        return f"on {day}", day
    if roll == 5:
        season = d.pick(pools.SEASONS)
        return f"in {season}", season
    word = d.pick(["yesterday", "last week", "last year", "last night", "this morning", "two days ago", "last summer", "today"])
    return word, word


class Actor:
    """Somebody who acts: full mention, short name and pronouns."""

    def __init__(self, d, taken=()):
        self.name = d.first_name() if d.chance(0.7) else d.full_name()
        while self.name in taken:
            self.name = d.first_name()
        she = pools.is_she(self.name.split()[0])
        self.he, self.his = ("she", "her") if she else ("he", "his")
        if d.chance(0.12):
            job = d.pick(pools.JOBS)
            self.name, self.he, self.his = f"the {job}", "the " + job, "the " + job + "'s"


def companion(d, actor):
    """`(words, name)` of somebody else."""
    name = d.first_name()
    while name == actor.name:
        name = d.first_name()
    if d.chance(0.5):
        return f"{actor.his} {d.pick(KIN + KIN_OF[pools.is_she(name)])} {name}", name
    if d.chance(0.3):
        kin = d.pick(KIN + KIN_OF[0] + KIN_OF[1])
        return f"{actor.his} {kin}", kin
    return name, name


def act(d, scene, actor, first):
    """One deed with an object, and what can be asked of it."""
    past, base, kind, roles = d.pick(ACTS)
    who = actor.name if first or d.chance(0.4) else actor.he
    name = actor.name
    color = d.pick(pools.COLORS) if kind in ("thing", "animal") and d.chance(0.5) else None
    if kind == "person":
        noun = d.first_name()
        whole = short = noun
    else:
        noun = d.pick({"thing": THINGS, "animal": DOGS, "dish": DISHES}[kind]) if d.chance(0.9) else d.word()
        whole = noun if kind == "dish" else article(f"{color} {noun}" if color else noun)
        short = f"the {noun}"
    words, facts, unsaid = f"{past} {whole}", [], []
    if "to" in roles.split() and d.chance(0.75):
        other, bare = companion(d, actor)
        words += f" to {other}"
        facts.append(([f"Who did {name} {base} {short} to?", f"To whom did {name} {base} {short}?"], f"{name} {past} {short} to {other}.", ["recipient", "to", "receiver"], bare))
    elif "to" in roles.split():
        unsaid.append([f"Who did {name} {base} {short} to?", f"To whom did {name} {base} {short}?"])
    if "from" in roles.split() and d.chance(0.6):
        other, bare = companion(d, actor)
        words += f" from {other}"
        facts.append(([f"Who did {name} {base} {short} from?", f"From whom did {name} {base} {short}?"], f"{name} {past} {short} from {other}.", ["source", "from", "giver"], bare))
    if d.chance(0.3):
        other, bare = companion(d, actor)
        words += f" with {other}"
        facts.append(([f"Who was with {name}?", f"With whom did {name} {base} {short}?", f"Who did {name} {base} {short} with?"], f"{name} {past} {short} with {other}.", ["companion", "with"], bare))
    elif d.chance(0.4):
        unsaid.append([f"Who was with {name}?", f"With whom did {name} {base} {short}?"])
    if d.chance(0.35):
        spot = d.pick(SPOTS)
        place, bare = (f"at the {spot}", spot) if d.chance(0.6) else (lambda c: (f"in {c}", c))(d.city())
        words += f" {place}"
        facts.append(([f"Where did {name} {base} {short}?"], f"{name} {past} {short} {place}.", ["place", "location", "where"], bare))
    else:
        unsaid.append([f"Where did {name} {base} {short}?"])
    if "price" in roles and d.chance(0.5):
        n, money = d.number(d.pick([1, 2, 3])), d.pick(["dollars", "euros", "coins", "pounds"])
        verb = "got" if base == "sell" else "pay"
        asks = [f"How much did {name} get for {short}?"] if base == "sell" else [f"How much did {name} pay?", f"How much did {actor.he} pay?", f"What was the price of {short}?", f"How much did {name} pay for {short}?", f"What did {name} pay for {short}?"]
        facts.append((asks, f"{name} {'got' if verb == 'got' else 'paid'} {n} {money} for {short}.", ["price", "amount", "cost"], n))
        words += f" for {n} {money}"
    elif "price" in roles:
        unsaid.append([f"How much did {name} pay for {short}?"] if base != "sell" else [f"How much did {name} get for {short}?"])
    start, after = "", ""
    if base == "buy" and not any("paid" in fact[1] for fact in facts) and d.chance(0.4):
        n, money = d.number(d.pick([1, 2, 3])), d.pick(["dollars", "euros", "coins", "pounds"])
        after = cap(f"{actor.he} paid {n} {money} for {d.pick(['it', short])}.")
        unsaid = [u for u in unsaid if "pay" not in u[0]]
        asks = [f"How much did {name} pay?", f"How much did {actor.he} pay?", f"How much did {name} pay for {short}?", f"What did {name} pay for {short}?"]
        facts.append((asks, f"{name} paid {n} {money} for {short}.", ["price", "amount", "cost"], n))
    if d.chance(0.55):
        time, bare = when(d)
        if d.chance(0.4):
            start = cap(time) + (", " if d.chance(0.5) else " ")
        else:
            words += f" {time}"
        facts.append(([f"When did {name} {base} {short}?"], f"{name} {past} {short} {time}.", ["time", "date", "when", "day"], bare))
    else:
        unsaid.append([f"When did {name} {base} {short}?"])
    scene.sentences.append((start + (who if start else cap(who)) + f" {words}."))
    if after:
        scene.sentences.append(after)
    if d.chance(0.15) and kind != "person":
        errand(d, scene, actor, short)
    scene.know([f"Who {past} {short}?", f"Who {past} {whole}?"], f"{name} {past} {whole}.", ["person", "name", "who"], name.removeprefix("the "))
    ask = "Who" if kind == "person" else "What"
    keys = {"thing": ["item", "object", "thing"], "animal": ["animal", "item"], "dish": ["food", "dish"], "person": ["met", "other_person", "whom"]}[kind]
    scene.know([f"{ask} did {name} {base}?"], f"{name} {past} {whole}.", keys, noun)
    if color:
        scene.know([f"What color is {short}?", f"What color was {short}?", f"Which color does {short} have?"], f"{cap(short)} is {color}.", ["color", "colour"], color)
    elif kind in ("thing", "animal"):
        unsaid.append([f"What color is {short}?", f"What color was {short}?"])
    for fact in facts:
        scene.know(*fact)
    scene.unsaid += unsaid


def errand(d, scene, actor, short):
    """A second deed with the same thing, which the text calls "it"."""
    spot, (time, _), (other, _) = d.pick(SPOTS), when(d), companion(d, actor)
    name = actor.name
    verb, base = d.pick([("took", "take"), ("brought", "bring"), ("carried", "carry"), ("moved", "move")])
    scene.sentences.append(cap(d.pick([f"{time}, {actor.he} {verb} it to the {spot} with {other}.", f"{actor.he} {verb} it to the {spot} with {other} {time}."])))
    scene.know([f"Where did {name} {base} {short}?", f"Where did {name} {base} it?"], f"{name} {verb} {short} to the {spot}.")
    scene.know([f"Who went to the {spot} with {name}?", f"With whom did {name} {base} {short} to the {spot}?"], f"{name} {verb} {short} to the {spot} with {other}.")
    scene.know([f"When did {name} {base} {short} to the {spot}?"], f"{name} {verb} {short} to the {spot} {time}.")


def move(d, scene, actor, first):
    """One way or stay, and what can be asked of it."""
    past, base, prep, kind = d.pick(MOVES)
    who = actor.name if first or d.chance(0.4) else actor.he
    name = actor.name
    bare = d.city() if kind == "city" else d.pick(SPOTS)
    place = f"{prep} {bare}" if kind == "city" else f"{prep} the {bare}"
    words, start = f"{past} {place}", ""
    to = "" if prep in ("in", "at") else " to"
    scene.know([f"Where did {name} {base}{to}?", f"Where did {name} {base}?"], f"{name} {past} {place}.", ["place", "destination", "location"] if to else ["place", "location"], bare)
    scene.know([f"Who {past} {place}?"], f"{name} {past} {place}.", ["person", "name", "who"], name.removeprefix("the "))
    if d.chance(0.4):
        other, short = companion(d, actor)
        words += f" with {other}"
        scene.know([f"Who was with {name}?", f"With whom did {name} {base} {place}?", f"Who {past} {place} with {name}?"], f"{name} {past} {place} with {other}.", ["companion", "with"], short)
    else:
        scene.unsaid.append([f"With whom did {name} {base} {place}?", f"Who {past} {place} with {name}?"])
    if to and d.chance(0.25):
        how = d.pick(["by train", "by bus", "by boat", "on foot", "by taxi", "on horseback"])
        words += f" {how}"
        scene.know([f"How did {name} {base} {place}?"], f"{name} {past} {place} {how}.", ["transport", "means"], how)
    if d.chance(0.6):
        time, short = when(d)
        if d.chance(0.4):
            start = cap(time) + (", " if d.chance(0.5) else " ")
        else:
            words += f" {time}"
        scene.know([f"When did {name} {base} {place}?"], f"{name} {past} {place} {time}.", ["time", "date", "when", "day"], short)
    else:
        scene.unsaid.append([f"When did {name} {base} {place}?"])
    scene.sentences.append(start + (who if start else cap(who)) + f" {words}.")


def story(d, brief=False):
    """One or two people with one to three deeds each; brief: one deed."""
    scene = Scene()
    names = []
    for _ in range(1 if brief else d.pick([1, 1, 2])):
        actor = Actor(d, names)
        names.append(actor.name)
        for i in range(1 if brief else d.pick([1, 1, 2, 3])):
            (act if d.chance(0.7) else move)(d, scene, actor, i == 0)
    stranger = Actor(d, names)
    if d.chance(0.5):
        past, base, _, _ = d.pick(ACTS)
        scene.unsaid.append([f"What did {stranger.name} {base}?", f"Where does {stranger.name} live?"])
    name = names[0]
    scene.unsaid.append([f"How old is {name}?", f"Where does {name} live?", f"Where was {name} born?", f"What is the favorite color of {name}?", f"What does {name} do for a living?"])
    return scene
