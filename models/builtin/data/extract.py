"""Extraction of fields from a sentence or a short text, as one line of JSON."""

from ..chat import assistant, dumps, user
from . import pools
from .dates import iso, spoken
from .draw import cap, join
from .forms import fill
from .passage import Subject, scene, sentences

ASKS = [
    "Extract {f} as JSON: {t}", "Extract the {f} as JSON.\n\n{t}", "Extract {f} from this text as JSON: {t}", "Return JSON with the keys {f}.\n\n{t}", "Give me {f} as JSON. {t}",
    "{t}\n\nExtract {f} as JSON.", "{t}\n\nReturn a JSON object with {f}.", "Turn this into JSON with {f}: {t}", "Text: {t}\n\nFields: {f}\n\nAnswer with JSON.", "From the sentence \"{t}\" extract {f} as JSON.",
    "Read the text and fill in {f} as a JSON object.\n\n{t}", "Find {f} in the text. Answer in JSON.\n\n{t}", "Extract these fields as JSON: {f}\n\nText: {t}", "{t} Give me the {f} as JSON.",
    "What are the {f}? Answer with JSON only.\n\n{t}", "Please extract the fields {f} in JSON format from: {t}", "JSON with {f} please: {t}", "Parse this sentence into JSON with {f}: {t}",
    "Convert to JSON ({f}): {t}", "I need {f} as JSON from this: {t}", "Get the {f} as JSON from this sentence: {t}", "Extract {f} from this as JSON: {t}",
    "Which {f}? JSON only: {t}", "Make a JSON object with the fields {f} from: {t}", "Give me a JSON object with {f}.\n\n{t}", "Return {f} as JSON: {t}", "Extract the {f} as JSON: {t}",
    "Extract {f}: {t}\nAnswer as JSON.", "Fill in the fields {f} as JSON. {t}",
]


def _email(d):
    return f"{d.word()}{d.pick(['', '.', '_'])}{d.pick([d.word(), str(d.int(1, 99)), ''])}".rstrip("._") + f"@{d.word()}.{d.pick(['com', 'org', 'net', 'io', 'de'])}"


def _phone(d):
    return "-".join(str(d.int(100, 999)) for _ in range(2)) + f"-{d.int(1000, 9999)}"


def _time(d):
    return f"{d.int(1, 12)}:{d.pick(['00', '15', '30', '45', '10', '20'])} {d.pick(['am', 'pm'])}"


def _order(d):
    v = {"customer": d.person(), "quantity": d.int(2, 500), "item": d.pick(pools.ITEMS), "price": d.number(d.pick([1, 2, 3])), "city": d.city()}
    return v, ["{customer} ordered {quantity} {item} for {price} dollars, to be sent to {city}.", "An order of {quantity} {item} at {price} dollars came in from {customer} in {city}.",
               "{customer} from {city} bought {quantity} {item} and paid {price} dollars.", "Please ship {quantity} {item} to {customer} in {city}; the total is {price} dollars."]


def _meeting(d):
    date = d.date()
    v = {"title": d.pick(["budget", "design", "project", "team", "sales", "planning", "safety"]) + " meeting", "date": iso(date), "time": _time(d), "room": f"{d.pick('ABCDEFG')}{d.int(1, 40)}", "person": d.person()}
    say = dict(v, date=spoken(d, date))
    return v, ["The {title} with {person} is on {date} at {time} in room {room}.", "{person} invites you to the {title} on {date}, {time}, room {room}.", "On {date} at {time}, {person} leads the {title} in room {room}.",
               "Room {room} is booked for the {title} on {date} at {time} by {person}."], say


def _flight(d):
    v = {"flight": f"{d.pick('ABDEKLSTU')}{d.pick('ABFHLNSZ')}{d.int(100, 9999)}", "origin": d.city(), "destination": d.city(), "time": _time(d), "gate": f"{d.pick('ABCD')}{d.int(1, 60)}"}
    return v, ["Flight {flight} from {origin} to {destination} leaves at {time} from gate {gate}.", "{flight} departs from {origin} at {time}, gate {gate}, and flies to {destination}.",
               "At {time} flight {flight} to {destination} leaves {origin}; the gate is {gate}."]


def _contact(d):
    v = {"name": d.full_name(), "email": _email(d), "phone": _phone(d), "company": d.company()}
    return v, ["You can reach {name} of {company} at {email} or {phone}.", "{name} ({company}): phone {phone}, email {email}.", "Write to {email} or call {phone} and ask for {name} from {company}.",
               "My name is {name}, I work for {company}, my email is {email} and my number is {phone}."]


def _invoice(d):
    date = d.date()
    v = {"number": d.number(5), "customer": d.company(), "amount": d.number(d.pick([2, 3, 4])), "date": iso(date), "currency": d.pick(pools.CURRENCIES)}
    say = dict(v, date=spoken(d, date))
    return v, ["Invoice {number} of {date} to {customer} is over {amount} {currency}.", "{customer} owes {amount} {currency} for invoice {number}, dated {date}.", "On {date} we sent {customer} invoice number {number} for {amount} {currency}."], say


def _weather(d):
    v = {"city": d.city(), "temperature": d.int(-20, 40), "condition": d.pick(pools.WEATHER), "wind": d.int(2, 120)}
    return v, ["In {city} it is {condition} with {temperature} degrees and wind of {wind} km/h.", "{city}: {temperature} degrees, {condition}, wind {wind} km/h.", "Today it is {condition} in {city}, {temperature} degrees, and the wind blows at {wind} km/h."]


def _review(d):
    v = {"product": d.product(), "rating": d.int(1, 5), "author": d.first_name(), "store": d.company()}
    return v, ["{author} gave the {product} from {store} {rating} stars.", "\"{rating} stars for the {product}, bought at {store}\", writes {author}.", "The {product} that {author} bought at {store} gets {rating} out of 5."]


def _home(d):
    v = {"street": f"{d.surname()} {d.pick(['Street', 'Road', 'Lane', 'Avenue'])}", "number": d.int(1, 300), "city": d.city(), "rooms": d.int(2, 9), "rent": d.number(d.pick([3, 4]))}
    return v, ["The flat at {number} {street} in {city} has {rooms} rooms and costs {rent} a month.", "For rent in {city}: {rooms} rooms at {number} {street}, {rent} a month.", "At {number} {street}, {city}, a home with {rooms} rooms is free for {rent} a month."]


FORMS = [_order, _meeting, _flight, _contact, _invoice, _weather, _review, _home]


def bare(value):
    """A value without its article, as a field holds it."""
    if isinstance(value, str):
        for start in ("a ", "an "):
            if value.startswith(start):
                return value[len(start):]
    return value


def from_form(d):
    """`(text, {field: value})` of one of the fixed forms."""
    made = d.pick(FORMS)(d)
    values, ways = made[0], made[1]
    return cap(d.pick(ways).format(**(made[2] if len(made) > 2 else values))), values


def from_facts(d):
    """`(text, {field: value})` of a described subject."""
    s = Subject(d, d.pick(["person", "person", "person", None]))
    while len(s.facts) < 2:
        s = Subject(d, s.kind)
    values = {d.pick(["name", "name", "full_name"]) if s.kind == "person" else "title" if s.kind == "book" else "name": s.name.removeprefix("the ")}
    for attribute, value in s.facts:
        key = attribute[0][0] if d.chance(0.5) else d.pick(attribute[0])
        while key in values:
            key += "_2"
        values[key] = bare(value)
    return " ".join(sentences(d, s)), values


def from_scene(d):
    """`(text, {field: value})` of an open passage."""
    made, values = scene(d, brief=True), {}
    while len(made.fields) < 2:
        made = scene(d, brief=True)
    for keys, value in made.fields:
        free = [k for k in keys if k not in values]
        if free:
            values[free[0] if d.chance(0.5) else d.pick(free)] = value
    return " ".join(made.sentences), values


def field_list(d, fields):
    """How a request lists its fields."""
    roll = d.unit()
    if roll < 0.38:
        return join(fields)
    if roll < 0.5:
        return join(f"the {f}" if i else f for i, f in enumerate(fields))
    if roll < 0.65:
        return ", ".join(fields)
    if roll < 0.78:
        return join(f'"{f}"' for f in fields)
    if roll < 0.9:
        return join(f"`{f}`" for f in fields)
    return join(f.replace("_", " ") for f in fields) if all("_" not in f for f in fields) else join(fields)


def pair(d):
    """`(request, values, text)`: some fields of a text, asked in random order."""
    roll = d.unit()
    text, values = (from_form if roll < 0.25 else fill if roll < 0.55 else from_facts if roll < 0.75 else from_scene)(d)
    fields = d.some(list(values), d.int(min(2, len(values)), len(values)))
    if d.chance(0.1):
        extra = d.pick(["phone", "email", "age", "color", "price", "country", "date", "website", "weight", "owner"])
        if extra not in values and not any(extra in k for k in values):
            fields.insert(d.int(0, len(fields)), extra)
    request = d.pick(ASKS).format(f=field_list(d, fields), t=text)
    return request, {f: values.get(f) for f in fields}, values


def turns(d):
    """A text and its fields; at times another selection of fields after it."""
    ask, wanted, values = pair(d)
    out = [user(ask), assistant(dumps(wanted))]
    if d.chance(0.2):
        fields = d.some(list(values), d.int(1, min(3, len(values))))
        more = d.pick(["Now only {f}.", "Only {f}, please.", "And just {f}?", "Now the same with only {f}.", "Just {f}."])
        out += [user(more.format(f=field_list(d, fields))), assistant(dumps({f: values[f] for f in fields}))]
    return out
