"""Short sentences with several fields, for extraction as JSON.

Every form is a list of `(key names, maker)` and ways to write the sentence;
a slot is called by the first key name.
"""

from . import pools
from .dates import iso, spoken
from .draw import cap
from .events import DISHES, DOGS, SPOTS, THINGS, when

BRANDS = pools.phrases("Toyota, Ford, Honda, Volvo, Fiat, Tesla, Mazda, Opel, Renault, Nissan, Skoda, Kia, BMW, Audi")


def _name(d):
    return d.full_name() if d.chance(0.5) else d.first_name()


def _brand(d):
    return d.pick(BRANDS) if d.chance(0.4) else d.word().capitalize()


def _email(d):
    return f"{d.first_name().lower()}@{d.word()}.{d.pick(['com', 'org', 'net', 'io', 'de'])}"


def _time(d):
    return f"{d.int(1, 12)}:{d.pick(['00', '15', '30', '45', '20'])} {d.pick(['am', 'pm'])}"


def _of(options):
    return lambda d: d.pick(options)


def _n(*digits):
    return lambda d: d.number(d.pick(digits))


FORMS = [
    ([(["sender", "from", "payer"], _name), (["recipient", "to", "receiver"], _name), (["amount", "sum", "money"], _n(1, 2, 3, 4)), (["currency", "unit"], _of(["euros", "dollars", "pounds", "coins"]))],
     ["{sender} sent {amount} {currency} to {recipient}.", "{sender} paid {recipient} {amount} {currency}.", "{recipient} got {amount} {currency} from {sender}.", "{sender} owes {recipient} {amount} {currency}.", "A payment of {amount} {currency} went from {sender} to {recipient}."]),
    ([(["brand", "make", "maker"], _brand), (["model", "type"], lambda d: d.word().capitalize() if d.chance(0.7) else f"{d.pick('ABCXZ')}{d.int(1, 9)}"), (["year", "built"], lambda d: d.year(1960)), (["color"], _of(pools.COLORS))],
     ["I drive a {year} {brand} {model}.", "My car is a {color} {brand} {model} from {year}.", "For sale: a {color} {year} {brand} {model}.", "She bought a {color} {brand} {model}, built in {year}.", "The {brand} {model} of {year} is {color}."]),
    ([(["country", "nation"], lambda d: d.country()), (["capital", "city"], lambda d: d.city()), (["population", "inhabitants"], _n(4, 5, 6))],
     ["The capital of {country} is {capital}.", "{capital} is the capital of {country} and has {population} inhabitants.", "{country}, with its capital {capital}, has {population} people.", "In {country} the capital is called {capital}."]),
    ([(["name", "person", "contact"], _name), (["email", "mail", "address"], _email)],
     ["You can write to {name} at {email}.", "{name}'s email is {email}.", "Contact: {name}, {email}.", "Send it to {name} ({email}).", "My name is {name} and my email is {email}.", "Please mail {name} at {email}."]),
    ([(["animal", "pet", "beast"], _of(DOGS)), (["color", "colour"], _of(pools.COLORS)), (["place", "location"], _of(SPOTS))],
     ["A {color} {animal} ran over the {place}.", "There is a {color} {animal} in the {place}.", "We saw a {color} {animal} near the {place}.", "The {animal} in the {place} is {color}.", "A {color} {animal} sat in front of the {place}."]),
    ([(["team", "winner", "home_team"], lambda d: d.city()), (["opponent", "loser", "away_team"], lambda d: d.city()), (["goals", "score"], lambda d: d.int(3, 9)), (["against", "goals_against"], lambda d: d.int(0, 2))],
     ["{team} beat {opponent} {goals} to {against}.", "{team} won {goals}:{against} against {opponent}.", "{opponent} lost to {team} with {against} to {goals}."]),
    ([(["dish", "food", "recipe"], _of(DISHES)), (["minutes", "time"], lambda d: d.int(5, 180)), (["servings", "people", "persons"], lambda d: d.int(2, 12))],
     ["The {dish} takes {minutes} minutes and serves {servings}.", "Cook the {dish} for {minutes} minutes; it is enough for {servings} people.", "In {minutes} minutes you have {dish} for {servings}."]),
    ([(["train", "line", "number"], lambda d: f"{d.pick(['IC', 'RE', 'S', 'T'])}{d.int(1, 999)}"), (["destination", "to", "city"], lambda d: d.city()), (["time", "departure", "leaves"], _time), (["platform", "track"], lambda d: d.int(1, 30))],
     ["Train {train} to {destination} leaves at {time} from platform {platform}.", "At {time} the {train} goes to {destination} from track {platform}.", "The {train} to {destination}, platform {platform}, leaves at {time}."]),
    ([(["item", "product", "thing", "object"], _of(THINGS)), (["price", "cost", "amount"], _n(1, 2, 3)), (["shop", "store", "seller"], lambda d: d.company()), (["discount", "percent_off"], lambda d: d.int(5, 80))],
     ["The {item} costs {price} dollars at {shop}.", "{shop} sells the {item} for {price} dollars, {discount} percent off.", "I paid {price} dollars for a {item} at {shop}.", "At {shop} you get a {item} for {price} dollars."]),
    ([(["event", "title", "name"], _of(["concert", "meeting", "exam", "wedding", "party", "match", "lecture", "exhibition"])), (["city", "place", "location"], lambda d: d.city()), (["date", "day"], lambda d: d.date()), (["time", "start"], _time)],
     ["The {event} in {city} is on {date}.", "The {event} takes place in {city} on {date} at {time}.", "On {date} there is a {event} in {city}.", "Come to the {event} on {date}, {time}, in {city}."]),
    ([(["student", "name", "pupil"], _name), (["subject", "course", "class"], _of(["math", "history", "music", "biology", "chemistry", "art", "physics", "geography"])), (["grade", "mark", "score"], lambda d: d.pick(list("BCD")))],
     ["{student} got a {grade} in {subject}.", "In {subject}, {student} has the grade {grade}.", "{subject}: {student}, {grade}.", "The teacher gave {student} a {grade} in {subject}."]),
    ([(["employee", "name", "person"], _name), (["position", "job", "role", "title"], _of(pools.JOBS)), (["company", "employer", "firm"], lambda d: d.company()), (["salary", "pay"], _n(4, 5)), (["since", "year", "start"], lambda d: d.year(1980))],
     ["{employee} has been a {position} at {company} since {since}.", "{company} hired {employee} as {position} for {salary} a year.", "{employee}, {position} at {company}, earns {salary}.", "Since {since} {employee} works for {company} as {position}."]),
    ([(["name", "patient", "person"], _name), (["age", "years"], lambda d: d.int(2, 99)), (["city", "town", "home"], lambda d: d.city()), (["job", "profession", "occupation"], _of(pools.JOBS))],
     ["{name} is {age} years old and lives in {city}.", "{name}, {age}, is a {job} from {city}.", "{name} is a {job} who lives in {city}.", "{name} ({age}) lives in {city} and works as a {job}.", "I am {name}, {age} years old, a {job} in {city}."]),
    ([(["title", "book", "work"], lambda d: d.title()), (["author", "writer"], _name), (["year", "published"], lambda d: d.year(1800))],
     ['"{title}" was written by {author}.', "{author} wrote {title} in {year}.", 'The book "{title}" by {author} appeared in {year}.', "{title} ({year}) is by {author}."]),
    ([(["who", "name", "person"], _name), (["what", "item", "object"], _of(THINGS)), (["when", "time", "day"], when), (["where", "place", "location"], _of(SPOTS))],
     ["{when} {who} left a {what} at the {where}.", "{who} lost a {what} at the {where} {when}.", "{who} found a {what} near the {where} {when}.", "At the {where} {who} sold a {what} {when}."]),
]


def fill(d):
    """`(sentence, {field: value})`: only what the sentence states."""
    slots, ways = d.pick(FORMS)
    way, say, values = d.pick(ways), {}, {}
    for keys, make in slots:
        if "{" + keys[0] + "}" not in way:
            continue
        value = make(d)
        shown = value
        if make is when:
            shown, value = value
        elif keys[0] == "date":
            shown, value = spoken(d, value), iso(value)
        say[keys[0]] = shown
        key = keys[0] if d.chance(0.5) else d.pick(keys)
        values[key if key not in values else keys[0]] = value
    return cap(way.format(**say)), values
