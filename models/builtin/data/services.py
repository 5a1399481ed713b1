"""Everyday tools (weather, timers, messages, ...): schema, requests, results."""

from . import pools
from .dates import iso, spoken
from .services_more import MORE

# Every entry: names, descriptions, parameters {slot: (names, type, texts)},
# requests with the slots, and a function giving (values shown, arguments,
# result, answer).


def weather(d):
    """City -> weather."""
    city = d.city()
    degrees, sky = d.int(-15, 38), d.pick(pools.WEATHER)
    return {"city": city}, {"city": city}, {"temperature": degrees, "condition": sky}, f"It is {sky} in {city}, with {degrees} degrees."


def timer(d):
    """Minutes -> timer."""
    n = d.int(2, 180)
    return {"minutes": n}, {"minutes": n}, {"status": "ok"}, f"The timer is set for {n} minutes."


def message(d):
    """Person, text -> message."""
    who = d.first_name()
    text = d.pick(["I will be late", "happy birthday", "dinner is ready", f"see you in {d.city()}", "call me back", "the train is late", "thank you", f"bring the {d.pick(pools.ITEMS)}",
                   f"meet me at {d.int(2, 11)}", "good luck", f"I found the {d.pick(pools.NOUNS)}", f"{d.word()} {d.word()}"])
    return {"to": who, "text": text}, {"to": who, "text": text}, {"status": "sent"}, f"The message to {who} was sent."


def convert(d):
    """Value, units -> value."""
    a, b = d.pick(pools.UNITS)
    n = d.number(d.pick([1, 2, 3]))
    out = round(n * d.pick([0.62, 1.61, 2.2, 0.45, 3.28, 0.3]), 2)
    return {"value": n, "a": a, "b": b}, {"value": n, "a": a, "b": b}, {"result": out}, f"{n} {a} are {out} {b}."


def currency(d):
    """Amount, currencies -> amount."""
    a, b = d.some(pools.CURRENCIES, 2)
    n = d.number(d.pick([1, 2, 3, 4]))
    out = round(n * d.pick([0.9, 1.1, 1.3, 0.8, 7.5, 150.2]), 2)
    return {"value": n, "a": a, "b": b}, {"value": n, "a": a, "b": b}, {"result": out}, f"{n} {a} are {out} {b}."


def translate(d):
    """Text, language -> text."""
    language = d.pick(pools.LANGUAGES)
    text = d.pick(["good morning", "thank you", "where is the station", "I am hungry", f"the {d.pick(pools.NOUNS)} is {d.pick(pools.ADJECTIVES)}", "how are you", f"{d.word()} {d.word()}"])
    out = " ".join(d.word() for _ in text.split())
    return {"text": text, "language": language}, {"text": text, "language": language}, {"translation": out}, f'In {language}: "{out}"'


def search(d):
    """Query -> answer."""
    query = d.pick([f"{d.word()} recipes", f"history of {d.city()}", f"{d.company()}", f"best {d.pick(pools.FOODS)} in {d.city()}", f"{d.full_name()}", f"how to fix a {d.pick(pools.NOUNS)}"])
    found = f"{d.word().capitalize()} {d.pick(pools.NOUNS)}"
    return {"query": query}, {"query": query}, {"title": found}, f'I found "{found}".'


def music(d):
    """Song, artist -> playing."""
    song, artist = d.title(), d.full_name()
    return {"song": song, "artist": artist}, {"song": song, "artist": artist}, {"status": "playing"}, f'Now playing "{song}" by {artist}.'


def stock(d):
    """Company -> price."""
    firm, price = d.company(), round(d.number(3) + d.int(0, 99) / 100, 2)
    return {"company": firm}, {"company": firm}, {"price": price}, f"The share price of {firm} is {price}."


def event(d):
    """Title, date -> event."""
    date = d.date()
    title = d.pick(["dinner", "meeting", "dentist", "concert", "lunch", "exam"]) + (f" with {d.first_name()}" if d.chance(0.5) else "")
    return {"title": title, "date": spoken(d, date)}, {"title": title, "date": iso(date)}, {"status": "created"}, f'The event "{title}" is in your calendar.'


def light(d):
    """Room, brightness -> ok."""
    room = d.pick(["kitchen", "bedroom", "hall", "bathroom", "garage", "office", "cellar", "living room"]) if d.chance(0.7) else d.word()
    n = d.int(1, 100)
    return {"room": room, "level": n}, {"room": room, "level": n}, {"status": "ok"}, f"The light in the {room} is at {n} percent."


def population(d):
    """City -> inhabitants."""
    city, n = d.city(), d.number(6)
    return {"city": city}, {"city": city}, {"population": n}, f"{city} has {n} inhabitants."


def flight(d):
    """From, to -> flight."""
    a, b = d.city(), d.city()
    code = f"{d.pick('ABCDEFKLMNSTZ')}{d.pick('ABCDEFKLMNSTZ')}{d.number(3)}"
    return {"a": a, "b": b}, {"a": a, "b": b}, {"flight": code, "price": d.number(3)}, f"Flight {code} goes from {a} to {b}."


CITY = (["city", "city", "location", "place", "town"], "string", ["The city", "Name of the city", ""])
SERVICES = [
    (weather, ["get_weather", "weather", "weather_lookup", "get_current_weather"], ["Get the current weather of a city.", "Weather for a place."], {"city": CITY},
     ["What is the weather in {city}?", "How is the weather in {city}?", "Is it cold in {city}?", "Do I need an umbrella in {city}?", "What's the weather like in {city} today?",
      "Tell me the weather in {city}.", "Is it raining in {city}?", "How warm is it in {city} right now?", "weather in {city}", "What is the temperature in {city}?"]),
    (timer, ["set_timer", "start_timer", "timer"], ["Start a timer.", "Set a timer for some minutes."], {"minutes": (["minutes", "minutes", "duration"], "integer", ["Minutes", ""])},
     ["Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes.", "Timer for {minutes} minutes, please.", "Wake me in {minutes} minutes.", "Remind me in {minutes} minutes."]),
    (message, ["send_message", "text_person", "send_text"], ["Send a message to a person.", "Sends a text message."],
     {"to": (["to", "recipient", "person"], "string", ["Who gets it", ""]), "text": (["text", "message", "body"], "string", ["The text", ""])},
     ['Send "{text}" to {to}.', 'Tell {to}: {text}.', 'Write to {to}: "{text}".', 'Text {to} that {text}.', 'Send a message to {to} saying {text}.', 'Message {to}: {text}']),
    (convert, ["convert_units", "unit_converter"], ["Convert a value from one unit to another.", "Unit conversion."],
     {"value": (["value", "amount"], "number", ["The value", ""]), "a": (["from_unit", "from", "source"], "string", ["Unit to convert from", ""]), "b": (["to_unit", "to", "target"], "string", ["Unit to convert to", ""])},
     ["Convert {value} {a} to {b}.", "How many {b} are {value} {a}?", "What is {value} {a} in {b}?", "Please convert {value} {a} into {b}."]),
    (currency, ["convert_currency", "exchange"], ["Convert money from one currency to another.", "Currency conversion."],
     {"value": (["amount", "value"], "number", ["The amount", ""]), "a": (["from_currency", "from", "source"], "string", ["Currency code", ""]), "b": (["to_currency", "to", "target"], "string", ["Currency code", ""])},
     ["Convert {value} {a} to {b}.", "How much is {value} {a} in {b}?", "Exchange {value} {a} into {b}.", "What are {value} {a} worth in {b}?"]),
    (translate, ["translate", "translate_text"], ["Translate a text.", "Translates a text into a language."],
     {"text": (["text", "phrase"], "string", ["The text", ""]), "language": (["language", "target_language", "to"], "string", ["The language", ""])},
     ['Translate "{text}" into {language}.', 'How do you say "{text}" in {language}?', 'What is "{text}" in {language}?', 'Say "{text}" in {language}.']),
    (search, ["web_search", "search", "search_web"], ["Search the web.", "Look something up on the web."], {"query": (["query", "query", "q"], "string", ["What to search for", ""])},
     ["Search for {query}.", "Look up {query}.", "Search the web for {query}.", "Find something about {query}.", "Google {query}."]),
    (music, ["play_song", "play_music"], ["Play a song.", "Plays music."], {"song": (["song", "title", "track"], "string", ["The song", ""]), "artist": (["artist", "by"], "string", ["The artist", ""])},
     ['Play "{song}" by {artist}.', "Put on {song} by {artist}.", "I want to hear {song} by {artist}.", "Please play {song} from {artist}."]),
    (stock, ["get_stock_price", "stock_price"], ["Get the share price of a company.", "Share prices."], {"company": (["company", "name"], "string", ["The company", ""])},
     ["What is the share price of {company}?", "How much is a share of {company}?", "Stock price of {company}?", "How is the stock of {company} doing?"]),
    (event, ["create_event", "add_event", "calendar_add"], ["Create a calendar event.", "Adds an event to the calendar."],
     {"title": (["title", "name"], "string", ["The title", ""]), "date": (["date", "day"], "string", ["YYYY-MM-DD", "The date, YYYY-MM-DD"])},
     ["Put {title} on {date} in my calendar.", "Create an event {title} on {date}.", "Schedule {title} for {date}.", "Add {title} to my calendar on {date}."]),
    (light, ["set_light", "dim_light"], ["Set the brightness of a light.", "Controls the lights."], {"room": (["room", "place"], "string", ["The room", ""]), "level": (["level", "brightness", "percent"], "integer", ["0 to 100", ""])},
     ["Set the light in the {room} to {level} percent.", "Dim the {room} light to {level} percent.", "Turn the light in the {room} to {level}%.", "{room} light to {level} percent, please."]),
    (population, ["get_population", "population"], ["Get the number of inhabitants of a city.", "Population of a place."], {"city": CITY},
     ["How many people live in {city}?", "What is the population of {city}?", "How big is {city}, in people?", "How many inhabitants does {city} have?"]),
    (flight, ["find_flight", "search_flights"], ["Find a flight between two cities.", "Search for flights."], {"a": (["origin", "from", "departure"], "string", ["Departure city", ""]), "b": (["destination", "to", "arrival"], "string", ["Arrival city", ""])},
     ["Find a flight from {a} to {b}.", "I want to fly from {a} to {b}.", "Is there a flight from {a} to {b}?", "Book me a flight to {b} from {a}.", "How do I fly from {a} to {b}?"]),
] + MORE
