"""More everyday tools; see `services`."""

from . import pools
from .dates import iso, spoken
from .events import DISHES, SPOTS, THINGS

ROOMS = ["kitchen", "bedroom", "hall", "bathroom", "garage", "office", "cellar", "attic", "garden", "living room"]


def _same(values, result, answer):
    return values, values, result, answer


def table(d):
    """Restaurant, people."""
    v = {"place": d.pick([f"{d.first_name()}'s", d.company(), f"the {d.word().capitalize()}", d.surname()]), "n": d.int(1, 20)}
    return _same(v, {"status": "booked"}, f"A table for {v['n']} at {v['place']} is booked.")


def device(d):
    """Device, room."""
    v = {"device": d.pick(["lamp", "heater", "fan", "radio", "television", "light", "oven", "printer", "camera"]) if d.chance(0.8) else d.word(), "room": d.pick(ROOMS)}
    return _same(v, {"status": "on"}, f"The {v['device']} in the {v['room']} is on.")


def alarm(d):
    """Hour."""
    v = {"hour": d.int(1, 23)}
    return _same(v, {"status": "ok"}, f"The alarm is set for {v['hour']}.")


def email(d):
    """Address, text."""
    v = {"to": f"{d.word()}@{d.word()}.{d.pick(['com', 'org', 'net', 'de'])}", "body": d.pick(["hello", "I am on my way", f"the {d.pick(THINGS)} is here", "see you tomorrow", "thanks for the help", f"{d.word()} {d.word()}"])}
    return _same(v, {"status": "sent"}, f"The email to {v['to']} was sent.")


def note(d):
    """Text."""
    v = {"text": d.pick([f"buy {d.pick(DISHES)}", f"call {d.first_name()}", f"water the {d.pick(['roses', 'garden', 'plants'])}", f"pay {d.company()}", f"find the {d.pick(THINGS)}", f"meet {d.first_name()} at the {d.pick(SPOTS)}"])}
    return _same(v, {"status": "saved"}, "The note is saved.")


def news(d):
    """Topic."""
    v = {"topic": d.pick([d.city, d.word, d.company, d.country, lambda: d.pick(pools.HOBBIES)])()}
    return _same(v, {"headline": f"{d.pick(pools.ADJECTIVES)} {d.pick(pools.NOUNS)}"}, f"Here is the news about {v['topic']}.")


def order(d):
    """Item, count."""
    v = {"item": d.pick(pools.ITEMS + DISHES), "n": d.int(2, 60)}
    return _same(v, {"status": "ordered"}, f"I ordered {v['n']} {v['item']}.")


def clock(d):
    """City -> time."""
    city, time = d.city(), f"{d.int(0, 23)}:{d.int(10, 59)}"
    return {"city": city}, {"city": city}, {"time": time}, f"It is {time} in {city}."


def way(d):
    """From, to -> distance."""
    v, n = {"a": d.city(), "b": d.city()}, d.number(d.pick([2, 3]))
    return _same(v, {"distance_km": n}, f"It is {n} km from {v['a']} to {v['b']}.")


def call(d):
    """Person."""
    v = {"who": d.person()}
    return _same(v, {"status": "calling"}, f"Calling {v['who']}.")


def read(d):
    """Path -> text."""
    v = {"path": d.file(["txt", "md", "csv", "json", "log"])}
    text = f"{d.word()} {d.word()}"
    return _same(v, {"content": text}, f"The file says: {text}")


def hotel(d):
    """City, nights, start."""
    date = d.date()
    city, n = d.city(), d.int(1, 14)
    return {"city": city, "n": n, "date": spoken(d, date)}, {"city": city, "n": n, "date": iso(date)}, {"status": "booked"}, f"A hotel in {city} is booked for {n} nights."


def user(d):
    """Id -> name."""
    v, name = {"id": d.number(d.pick([2, 3, 4]))}, d.full_name()
    return _same(v, {"name": name}, f"User {v['id']} is {name}.")


def define(d):
    """Word -> meaning."""
    v, what = {"word": d.word() if d.chance(0.6) else d.pick(pools.NOUNS)}, f"a kind of {d.pick(THINGS)}"
    return _same(v, {"definition": what}, f'"{v["word"]}" means {what}.')


def _p(names, kind="string", hint=""):
    return (names, kind, [hint, ""])


MORE = [
    (table, ["book_table", "reserve_table"], ["Book a table at a restaurant.", "Reserve a table."], {"place": _p(["restaurant", "place", "name"]), "n": _p(["people", "guests", "party_size"], "integer", "Number of people")},
     ["Book a table for {n} at {place}.", "I need a table at {place} for {n} people.", "Reserve a table for {n} people at {place}.", "Can you get us a table for {n} at {place}?"]),
    (device, ["turn_on", "switch_on"], ["Turn on a device.", "Switches on a device in a room."], {"device": _p(["device", "name"]), "room": _p(["room", "location"])},
     ["Turn on the {device} in the {room}.", "Switch on the {device} in the {room}.", "Switch the {room} {device} on.", "I want the {device} in the {room} on."]),
    (alarm, ["set_alarm", "alarm"], ["Set an alarm.", "Set an alarm for an hour."], {"hour": _p(["hour", "time"], "integer", "0 to 23")}, ["Set an alarm for {hour}.", "Wake me at {hour}.", "Wake me up at {hour} o'clock.", "I need an alarm at {hour}."]),
    (email, ["send_email", "email"], ["Send an email.", "Sends an email to an address."], {"to": _p(["to", "address", "recipient"]), "body": _p(["body", "text", "message"])},
     ['Send an email to {to} saying {body}.', 'Email {to}: {body}.', 'Write an email to {to} that says "{body}".', "Mail {to} and say {body}."]),
    (note, ["create_note", "add_note", "remember"], ["Save a note.", "Adds a note or a task."], {"text": _p(["text", "note", "content"])}, ["Make a note: {text}.", "Note down: {text}.", "Remind me to {text}.", "Add a note to {text}.", "Write down that I must {text}."]),
    (news, ["get_news", "news"], ["Get the news about a topic.", "Latest news."], {"topic": _p(["topic", "subject", "query"])}, ["What is the news about {topic}?", "Any news about {topic}?", "Give me the news on {topic}.", "What is new in {topic}?"]),
    (order, ["place_order", "order_item", "add_to_cart"], ["Order an item.", "Adds an item to the cart."], {"item": _p(["item", "product"]), "n": _p(["quantity", "count", "amount"], "integer")},
     ["Order {n} {item}.", "I want to buy {n} {item}.", "Put {n} {item} in my cart.", "Please order {n} {item} for me."]),
    (clock, ["get_time", "time_in", "current_time"], ["Get the current time in a city.", "Local time of a place."], {"city": _p(["city", "place", "location"])}, ["What time is it in {city}?", "How late is it in {city}?", "Tell me the time in {city}."]),
    (way, ["get_distance", "directions", "route"], ["Get the distance between two places.", "Find the way from one place to another."], {"a": _p(["start", "from", "origin"]), "b": _p(["end", "to", "destination"])},
     ["How far is it from {a} to {b}?", "How do I get from {a} to {b}?", "Show me the way from {a} to {b}.", "What is the distance from {a} to {b}?", "How far is {b} from {a}?"]),
    (call, ["call_person", "phone", "make_call"], ["Call a person.", "Makes a phone call."], {"who": _p(["name", "person", "contact"])}, ["Call {who}.", "Please phone {who}.", "I want to talk to {who}, call them.", "Ring {who}."]),
    (read, ["read_file", "open_file"], ["Read a file.", "Returns the text of a file."], {"path": _p(["path", "file", "filename"])}, ["Read the file {path}.", "What is in {path}?", "Open {path}.", "Show me {path}."]),
    (hotel, ["book_hotel", "reserve_hotel"], ["Book a hotel.", "Reserve a hotel room."], {"city": _p(["city", "place"]), "n": _p(["nights", "duration"], "integer"), "date": _p(["check_in", "date", "start"], "string", "YYYY-MM-DD")},
     ["Book a hotel in {city} for {n} nights from {date}.", "I need a hotel in {city}, {n} nights, starting {date}.", "Find me a hotel in {city} on {date} for {n} nights."]),
    (user, ["get_user", "find_user", "user_info"], ["Get a user by id.", "Looks up a user."], {"id": _p(["id", "user_id"], "integer")}, ["Who is user {id}?", "Look up user {id}.", "Show me user number {id}.", "Get the user with id {id}."]),
    (define, ["define", "dictionary", "get_definition"], ["Get the meaning of a word.", "Looks up a word."], {"word": _p(["word", "term"])}, ["What does {word} mean?", "Define {word}.", "Look up the word {word}.", 'What is the meaning of "{word}"?']),
]
