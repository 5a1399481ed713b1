"""Open passages about things: buildings, machines, animals and plants, and plain "the X of Y is Z"."""

from . import pools
from .draw import article, cap
from .events import SPOTS, THINGS, when
from .scene import Scene

BUILT = pools.phrases("lighthouse, tower, bridge, castle, house, church, mill, hotel, museum, library, theater, station, temple, palace, barn, school, tunnel, stadium, statue, fountain")
MEASURES = [("tall", "meters"), ("high", "meters"), ("long", "meters"), ("wide", "meters"), ("deep", "meters"), ("old", "years"), ("long", "kilometers"), ("heavy", "kilograms")]
PARTS = pools.phrases("rooms, windows, doors, seats, wheels, floors, steps, towers, lamps, columns, halls, beds, shelves, buttons, engines, sails")
KINDS = pools.phrases("badgers, wolves, otters, storks, beavers, owls, foxes, moles, seals, herons, lizards, bats, snails, deer, hares, swans, crows, toads")
PLANTS = pools.phrases("oranges, olives, apples, tulips, potatoes, coffee beans, bananas, grapes, roses, onions, mushrooms, cherries, carrots, figs, tea leaves, almonds")
HOMES = pools.phrases("forests, rivers, caves, deserts, mountains, swamps, meadows, old trees, lakes, gardens, holes in the ground")
FEED = pools.phrases("worms, fish, berries, grass, insects, mice, leaves, nuts, seeds, frogs, roots, eggs")
SUBSTANCES = pools.phrases("sugar, salt, iron, caffeine, protein, fat, water, honey, vitamin C, fiber")
WARES = pools.phrases("green tea, coffee, cheese, chocolate, milk, bread, orange juice, honey, olive oil, yogurt, rice, butter")
ATTRIBUTES = pools.phrases("""
capital, president, director, owner, color, code, name, number, leader, founder, symbol, motto, size, price, currency, password, best player,
largest city, oldest building, main street, flag, anthem, language, weight, speed, age, key, entrance, roof, door, teacher, guard, cook, favorite song,
highest point, secret, address, shape, material, mascot, author, hero, sister, brother, title, engine, sponsor, neighbor, winner, chief, mayor, captain
""")
OWNERS = pools.phrases("country, company, team, school, city, book, club, village, car, ship, museum, game, family, planet, island, robot, band, hotel, kingdom, project")


def building(d):
    """A thing with a definite name: when and by whom, how tall, what color."""
    scene = Scene()
    noun = d.pick(BUILT) if d.chance(0.6) else d.pick(THINGS) if d.chance(0.8) else d.word()
    whole, it = f"the {noun}", d.pick(["it", f"the {noun}"])
    if d.chance(0.5):
        whole = f"the {d.pick(pools.ADJECTIVES)} {noun}"
    if d.chance(0.3):
        whole += d.pick([" in ", " of ", " at ", " near "]) + d.city()
    the = f"the {noun}"
    facts = []
    year, who = d.year(1500), d.person()
    made = d.pick([("built", "build"), ("made", "make"), ("designed", "design"), ("opened", "open")])[0]
    by = d.pick(["", "", "the architect ", "the engineer ", "the artist "]) + who
    shape = d.int(0, 2)
    asks_when, asks_who = [f"When was {the} {made}?", f"In which year was {the} {made}?"], [f"Who {made} {the}?", f"By whom was {the} {made}?"]
    if shape == 0:
        facts.append((f"was {made} in {year} by {by}", [(asks_when, f"was {made} in {year}", ["year", made], year), (asks_who, f"was {made} by {by}", ["builder", "maker", "made_by"], who)]))
    elif shape == 1:
        facts.append((f"was {made} in {year}", [(asks_when, f"was {made} in {year}", ["year", made], year)]))
        scene.unsaid.append(asks_who)
    else:
        facts.append((f"was {made} by {by}", [(asks_who, f"was {made} by {by}", ["builder", "maker", "made_by"], who)]))
        scene.unsaid.append(asks_when)
    how, unit = d.pick(MEASURES)
    n = d.number(d.pick([1, 2, 2, 3]))
    noun_of = {"tall": "height", "high": "height", "long": "length", "wide": "width", "deep": "depth", "old": "age", "heavy": "weight"}[how]
    weighs = f"weighs {n} kilograms" if how == "heavy" else f"is {n} {unit} {how}"
    asks = [f"How {how} is {the}?", f"What is the {noun_of} of {the}?"] + ([f"How much does {the} weigh?"] if how == "heavy" else [])
    facts.append((weighs, [(asks, weighs, [noun_of], n)]))
    color = d.pick(pools.COLORS)
    facts.append((d.pick(["is {}", "is painted {}"]).format(color), [([f"What color is {the}?", f"Which color is {the}?"], f"is {color}", ["color"], color)]))
    material = d.pick(pools.MATERIALS)
    facts.append((d.pick(["is made of {}", "is built of {}"]).format(material), [([f"What is {the} made of?"], f"is made of {material}", ["material", "made_of"], material)]))
    part, many = d.pick(PARTS), d.int(2, 400)
    facts.append((f"has {many} {part}", [([f"How many {part} does {the} have?", f"How many {part} are there in {the}?"], f"has {many} {part}", [part], many)]))
    day = d.pick(pools.DAYS)
    opens = d.pick([f"opens every {day}", f"opens on {day}", f"is open on {day}"])
    facts.append((opens, [([f"When does {the} open?", f"On which day is {the} open?"], opens, ["day", "opens"], day)]))
    owner = d.person()
    facts.append((f"belongs to {owner}", [([f"Who owns {the}?", f"Who does {the} belong to?"], f"belongs to {owner}", ["owner"], owner)]))
    cost = d.number(d.pick([1, 2, 3, 4]))
    facts.append((f"costs {cost} dollars", [([f"How much does {the} cost?", f"What is the price of {the}?"], f"costs {cost} dollars", ["price", "cost"], cost)]))
    spot, city = d.pick(SPOTS), d.city()
    place = d.pick([(f"stands near the {spot}", spot), (f"stands in {city}", city), (f"is in {city}", city)])
    facts.append((place[0], [([f"Where is {the}?", f"Where does {the} stand?"], place[0], ["place", "location"], place[1])]))
    role, free = d.pick(["museum", "school", "hotel", "shop", "theater", "library", "restaurant", "prison"]), d.pick(pools.DAYS)
    if d.chance(0.3) and role != noun:
        now = f"is a {role} today that opens every {free}"
        facts.append((now, [([f"When does the {role} open?", f"On which day does the {role} open?"], now, ["opens"], free), ([f"What is {the} today?"], now, ["use"], role)]))
    order = facts[:1] + d.shuffled(facts[1:]) if d.chance(0.5) else d.shuffled(facts)
    count = d.int(1, 5)
    scene.fields.append((["name", "thing", "object"], noun))
    for i, (words, known) in enumerate(order[:count]):
        subject = whole if i == 0 else it
        if " today that " in words and d.chance(0.7):
            scene.sentences.append(cap(f"today {subject} {words.replace(' today', '')}."))
            scene.know([f"What is {the} today?"], cap(f"{the} {words}."))
            scene.know([f"When does the {role} open?"], cap(f"{the} {words}."))
            continue
        if i and i + 1 == count and d.chance(0.3):
            scene.sentences[-1] = scene.sentences[-1][:-1] + f" and {words}."
        else:
            scene.sentences.append(cap(f"{subject} {words}."))
        for asked, verb, keys, value in known:
            scene.know(asked + ([q.replace(the, "it") for q in asked] if d.chance(0.3) else []), cap(f"{the} {verb}."), keys, value)
    for _, known in order[count:]:
        scene.unsaid += [k[0] for k in known]
    return scene


def species(d):
    """Animals, plants and foods in general."""
    scene = Scene()
    kind = d.int(0, 2)
    if kind == 0:
        them = d.pick(KINDS) if d.chance(0.8) else d.word() + "s"
        facts = [
            (f"live in {(v := d.pick(HOMES))}", [f"Where do {them} live?"], ["habitat", "home"], v), (f"eat {(v := d.pick(FEED))}", [f"What do {them} eat?"], ["food", "diet"], v),
            (f"sleep {(v := d.pick(['in winter', 'during the day', 'at night', 'in autumn']))}", [f"When do {them} sleep?"], ["sleep"], v),
            (f"can live {(v := d.int(2, 60))} years", [f"How long can {them} live?", f"How old can {them} become?"], ["years", "lifespan"], v),
            (f"weigh {(v := d.int(2, 90))} kilograms", [f"How much do {them} weigh?"], ["weight"], v), (f"hunt {(v := d.pick(['at night', 'in groups', 'alone', 'in the morning']))}", [f"How do {them} hunt?", f"When do {them} hunt?"][:1], ["hunting"], v),
        ]
    elif kind == 1:
        them = d.pick(PLANTS) if d.chance(0.8) else d.word() + "s"
        facts = [
            (f"come from {(v := d.country())}", [f"Where do {them} come from?"], ["origin", "country"], v), (f"are picked in {(v := d.pick(pools.SEASONS + pools.MONTHS))}", [f"When are {them} picked?"], ["season", "picked"], v),
            (f"are cut in {(v := d.pick(pools.SEASONS))}", [f"When are {them} cut?"], ["season", "cut"], v), (f"are loved by {(v := d.pick(['children', 'birds', 'bees', 'painters', 'cooks']))}", [f"Who loves {them}?", f"Who are {them} loved by?"], ["loved_by"], v),
            (f"are sold at {(v := d.pick(['the market', 'the harbor', 'the station', 'small shops']))}", [f"Where are {them} sold?"], ["sold_at"], v), (f"cost {(v := d.int(2, 40))} dollars a kilogram", [f"How much do {them} cost?"], ["price"], v),
            (f"grow in {(v := d.pick(['the sun', 'the shade', 'sandy soil', 'wet soil', 'the south']))}", [f"Where do {them} grow?"], ["grows_in"], v), (f"are dried in {(v := d.pick(['the sun', 'the oven', 'the wind']))}", [f"How are {them} dried?", f"Where are {them} dried?"], ["drying"], v),
        ]
    else:
        them = d.pick(WARES) if d.chance(0.8) else d.word()
        s, n = d.pick(SUBSTANCES), d.int(2, 900)
        facts = [
            (f"comes from {(v := d.country())}", [f"Where does {them} come from?"], ["origin", "country"], v), (f"contains {n} milligrams of {s}", [f"How much {s} does {them} contain?", f"How much {s} is in {them}?", f"How many milligrams of {s} are in {them}?"], [s.replace(" ", "_")], n),
            (f"costs {(v := d.int(2, 60))} dollars", [f"How much does {them} cost?", f"What is the price of {them}?"], ["price"], v), (f"is made from {(v := d.pick(FEED))}", [f"What is {them} made from?"], ["ingredient", "made_from"], v),
            (f"was invented by {(v := d.person())}", [f"Who invented {them}?"], ["inventor"], v), (f"is stored in {(v := d.pick(['the cellar', 'the kitchen', 'glass jars', 'wooden boxes']))}", [f"Where is {them} stored?"], ["storage"], v),
        ]
    scene.fields.append((["name", "animal"] if kind == 0 else ["name", "product"], them))
    order = d.shuffled(facts)
    count = d.int(1, 4)
    pronoun = "it" if kind == 2 else "they"
    for i, (words, asks, keys, value) in enumerate(order[:count]):
        if i and d.chance(0.3):
            scene.sentences[-1] = scene.sentences[-1][:-1] + f" and {words}."
        else:
            scene.sentences.append(cap(f"{them if i == 0 or d.chance(0.3) else pronoun} {words}."))
        scene.know(asks, cap(f"{them} {words}."), keys, value)
    if kind == 1 and d.chance(0.5):
        harvest(d, scene, them)
    if kind == 2 and d.chance(0.5):
        vessel, other, n = d.pick(["cup", "glass", "bottle", "spoon", "piece"]), d.pick([x for x in SUBSTANCES if x != s]), d.int(2, 900)
        fact = cap(f"a {vessel} of {them} contains {d.pick(['', 'about '])}{n} milligrams of {other}.")
        scene.sentences.append(fact)
        scene.know([f"How much {other} is in a {vessel}?", f"How much {other} does a {vessel} of {them} contain?", f"How much {other} is in a {vessel} of {them}?"], fact)
    scene.unsaid += [asks for _, asks, _, _ in order[count:]]
    return scene


def harvest(d, scene, them):
    """Adds a sentence on what people do with a plant, and when."""
    people = d.pick(["farmers", "people", "children", "workers", "monks", "the villagers"])
    done, base = d.pick([("picked", "pick"), ("dried", "dry"), ("washed", "wash"), ("sold", "sell"), ("cooked", "cook"), ("planted", "plant"), ("roasted", "roast")])
    time, part = d.pick(pools.SEASONS + pools.MONTHS), d.pick(["them", them, "the leaves", "the fruits", "the seeds", "the roots"])
    what = them if part == "them" else part
    fact = cap(f"{people} {base} {what} in {time}.")
    scene.sentences.append(cap(f"{people} {base} {part} in {time}."))
    scene.know([f"When are {what} {done}?", f"When do {people} {base} {what}?", f"Who {base}s {what}?"], fact)


def value_of(d):
    """Anything that can stand behind "is"."""
    return d.pick([d.city, d.first_name, d.full_name, d.word, lambda: str(d.number()), lambda: d.pick(pools.COLORS), lambda: d.pick(THINGS), d.company, lambda: str(d.year())])()


def relations(d):
    """Plain relations between named things: "The capital of X is Y." """
    scene = Scene()
    owner, name = d.pick(OWNERS), d.pick([d.country, d.word, d.city, d.company, d.first_name])()
    name = cap(name)
    fields = [([owner], name)]
    used = d.some(ATTRIBUTES, 6)
    for i in range(d.int(1, 4)):
        key = used[i] if d.chance(0.8) else d.word()
        value = value_of(d)
        subject = name if d.chance(0.7) or i == 0 else f"the {owner}"
        way = d.pick(["The {k} of {s} is {v}.", "The {k} of {s} is {v}.", "{s}'s {k} is {v}.", "{v} is the {k} of {s}.", "{s} has {v} as its {k}.", "As its {k}, {s} has {v}."])
        scene.sentences.append(cap(way.format(k=key, s=subject, v=value)))
        asks = [f"What is the {key} of {name}?", f"What is {name}'s {key}?", f"Which {key} does {name} have?", f"Tell me the {key} of {name}."]
        scene.know(asks, cap(f"the {key} of {name} is {value}."), [key.replace(" ", "_")], int(value) if value.isdigit() else value)
    if d.chance(0.4):
        scene.sentences[0] = f"{name} is {article(owner)}. " + scene.sentences[0]
        scene.fields = fields + scene.fields
    missing = used[5]
    scene.unsaid.append([f"What is the {missing} of {name}?", f"What is {name}'s {missing}?"])
    stranger = cap(d.word())
    scene.unsaid.append([f"What is the {used[0]} of {stranger}?"])
    return scene


def animal_sighting(d):
    """A short sentence about an animal or thing, rich in fields."""
    scene = Scene()
    color, beast = d.pick(pools.COLORS), d.pick(pools.ANIMALS)
    spot, (time, bare) = d.pick(SPOTS), when(d)
    verb, base = d.pick([("ran over", "run over"), ("slept near", "sleep near"), ("walked around", "walk around"), ("sat in front of", "sit in front of"), ("jumped into", "jump into"), ("hid behind", "hide behind")])
    n = d.int(2, 30)
    many = d.chance(0.25)
    who = f"{n} {color} {beast}s" if many and not beast.endswith("s") and beast not in ("mouse", "goose", "fish", "deer", "sheep") else article(f"{color} {beast}")
    scene.sentences.append(cap(f"{who} {verb} the {spot} {time}."))
    scene.know([f"What {verb} the {spot}?", f"Which animal {verb} the {spot}?"], cap(f"{who} {verb} the {spot}."), ["animal"], beast)
    scene.know([f"What color was the {beast}?", f"What color is the {beast}?"], f"The {beast} was {color}.", ["color"], color)
    scene.know([f"When did the {beast} {base} the {spot}?"], f"The {beast} {verb} the {spot} {time}.", ["time", "when"], bare)
    scene.fields.append((["place", "where"], spot))
    scene.unsaid += [[f"How old is the {beast}?", f"What is the name of the {beast}?", f"Who owns the {beast}?"]]
    return scene


MAKERS = [building, building, species, relations, animal_sighting]
