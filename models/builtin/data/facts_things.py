"""Facts for passages: places, firms, works, machines, events. See `facts_people`."""

from . import pools
from .dates import long


def _date(d):
    return long(d.date())


def _price(d):
    return d.number(d.pick([1, 2, 3]))


TOWN = [
    (["country", "located_in"], lambda d: d.country(), ["{S} is a town in {V}.", "{S} lies in {V}.", "{S} is in {V}.", "In {V} there is a place called {S}."],
     ["In which country is {S}?", "Where is {S}?", "Which country is {S} in?", "Where does {S} lie?"], "{S} is in {V}."),
    (["population", "inhabitants"], lambda d: d.number(d.pick([3, 4, 5, 6])), ["{S} has {V} inhabitants.", "About {V} people live in {S}.", "The population of {S} is {V}.", "{S} is home to {V} people."],
     ["How many people live in {S}?", "What is the population of {S}?", "How many inhabitants does {S} have?"], "{S} has {V} inhabitants."),
    (["mayor", "head"], lambda d: d.person(), ["The mayor of {S} is {V}.", "{V} is the mayor of {S}.", "{S} is governed by {V}."],
     ["Who is the mayor of {S}?", "What is the name of the mayor of {S}?", "Who governs {S}?"], "The mayor of {S} is {V}."),
    (["river"], lambda d: d.word().capitalize(), ["{S} stands on the river {V}.", "The river {V} flows through {S}.", "Through {S} runs the river {V}."],
     ["Which river flows through {S}?", "What is the river in {S} called?", "On which river is {S}?"], "The river {V} flows through {S}."),
    (["founded", "year_founded"], lambda d: d.year(800, 1980), ["{S} was founded in {V}.", "The town of {S} goes back to the year {V}.", "It was in {V} that {S} was founded."],
     ["When was {S} founded?", "In which year was {S} founded?", "How old is {S}, when was it founded?"], "{S} was founded in {V}."),
    (["famous_for", "known_for"], lambda d: d.pick(["its bridges", "its cheese", "its old castle", "its gardens", "its glass", "its clocks", "its music festival", "its lighthouse", "its bread", "its tulips", "its museum", "its wooden houses"]),
     ["{S} is famous for {V}.", "{S} is known for {V}.", "People visit {S} because of {V}."],
     ["What is {S} famous for?", "What is {S} known for?", "Why do people visit {S}?"], "{S} is famous for {V}."),
    (["market_day", "market"], lambda d: d.pick(pools.DAYS), ["In {S} the market is held on {V}.", "{S} has its market on {V}.", "Every {V} there is a market in {S}."],
     ["On which day is the market in {S}?", "When is the market in {S}?", "When does {S} have its market?"], "The market in {S} is on {V}."),
]
FIRM = [
    (["founder", "founded_by"], lambda d: d.person(), ["{S} was founded by {V}.", "{V} founded {S}.", "The founder of {S} is {V}.", "{V} started {S} in a garage."],
     ["Who founded {S}?", "Who is the founder of {S}?", "Who started {S}?"], "{S} was founded by {V}."),
    (["founded", "year"], lambda d: d.year(1850, 2023), ["{S} was founded in {V}.", "{S} has existed since {V}.", "{S} opened its doors in {V}."],
     ["When was {S} founded?", "In which year was {S} founded?", "Since when has {S} existed?"], "{S} was founded in {V}."),
    (["employees", "staff"], lambda d: d.number(d.pick([2, 3, 4, 5])), ["{S} has {V} employees.", "{V} people work at {S}.", "{S} employs {V} people."],
     ["How many people work at {S}?", "How many employees does {S} have?", "How many people does {S} employ?"], "{S} has {V} employees."),
    (["headquarters", "city", "based_in"], lambda d: d.city(), ["{S} has its headquarters in {V}.", "{S} is based in {V}.", "The main office of {S} is in {V}."],
     ["Where is {S} based?", "Where are the headquarters of {S}?", "In which city is {S}?", "Where is the main office of {S}?"], "{S} is based in {V}."),
    (["product", "makes", "products"], lambda d: d.pick(["bicycles", "lamps", "robots", "cheese", "watches", "pianos", "software", "toys", "boats", "paper", "furniture", "batteries", "cameras", "tents", "shoes", "drones"]),
     ["{S} makes {V}.", "{S} is known for its {V}.", "{S} sells {V} all over the world.", "{S} produces {V}."],
     ["What does {S} make?", "What does {S} produce?", "What is made by {S}?", "What does {S} sell?"], "{S} makes {V}."),
    (["ceo", "director", "led_by"], lambda d: d.person(), ["{S} is led by {V}.", "The director of {S} is {V}.", "{V} runs {S} today."],
     ["Who runs {S}?", "Who leads {S}?", "Who is the director of {S}?"], "{S} is led by {V}."),
    (["color", "logo_color"], lambda d: d.pick(pools.COLORS), ["The logo of {S} is {V}.", "{S} has a {V} logo."],
     ["What color is the logo of {S}?", "Which color does the logo of {S} have?"], "The logo of {S} is {V}."),
]
BOOK = [
    (["author", "written_by"], lambda d: d.person(), ["{S} was written by {V}.", "The author of {S} is {V}.", "{V} wrote {S}."],
     ["Who wrote {S}?", "Who is the author of {S}?", "By whom is {S}?"], "{S} was written by {V}."),
    (["year", "published"], lambda d: d.year(1800, 2024), ["{S} appeared in {V}.", "{S} was published in {V}.", "{S} came out in {V}."],
     ["When was {S} published?", "In which year did {S} appear?", "When did {S} come out?"], "{S} was published in {V}."),
    (["pages", "length"], lambda d: d.number(3), ["{S} has {V} pages.", "The book {S} is {V} pages long."],
     ["How many pages does {S} have?", "How long is {S}?"], "{S} has {V} pages."),
    (["setting", "set_in"], lambda d: d.city(), ["{S} is set in {V}.", "The plot of {S} takes place in {V}."],
     ["Where is {S} set?", "Where does {S} take place?"], "{S} is set in {V}."),
    (["hero", "main_character"], lambda d: d.first_name(), ["The hero of {S} is called {V}.", "{S} tells of {V}, who leaves home.", "The main character of {S} is {V}."],
     ["Who is the hero of {S}?", "Who is the main character of {S}?", "What is the hero of {S} called?"], "The hero of {S} is {V}."),
    (["price"], _price, ["{S} costs {V} dollars.", "The price of {S} is {V} dollars.", "You can buy {S} for {V} dollars."],
     ["How much does {S} cost?", "What is the price of {S}?"], "{S} costs {V} dollars."),
]
MACHINE = [
    (["maker", "manufacturer", "made_by"], lambda d: d.company(), ["{S} is made by {V}.", "{V} builds {S}.", "The maker of {S} is {V}."],
     ["Who makes {S}?", "Who is the maker of {S}?", "Which company builds {S}?"], "{S} is made by {V}."),
    (["price", "cost"], _price, ["{S} costs {V} euros.", "The price of {S} is {V} euros.", "{S} sells for {V} euros."],
     ["How much does {S} cost?", "What is the price of {S}?", "What does {S} cost?"], "{S} costs {V} euros."),
    (["weight_kg", "weight"], lambda d: d.number(d.pick([1, 2, 3])), ["{S} weighs {V} kilograms.", "The weight of {S} is {V} kilograms.", "With {V} kilograms, {S} is quite heavy."],
     ["How much does {S} weigh?", "What is the weight of {S}?", "How heavy is {S}?"], "{S} weighs {V} kilograms."),
    (["color"], lambda d: d.pick(pools.COLORS), ["{S} is painted {V}.", "The color of {S} is {V}.", "{S} comes in {V}."],
     ["What color is {S}?", "Which color does {S} have?"], "{S} is {V}."),
    (["material", "made_of"], lambda d: d.pick(pools.MATERIALS), ["{S} is made of {V}.", "{S} is built from {V}.", "The material of {S} is {V}."],
     ["What is {S} made of?", "Which material is {S} made of?"], "{S} is made of {V}."),
    (["battery_hours", "battery"], lambda d: d.int(2, 96), ["The battery of {S} lasts {V} hours.", "{S} runs for {V} hours on one charge."],
     ["How long does the battery of {S} last?", "How many hours does {S} run?"], "The battery of {S} lasts {V} hours."),
    (["inventor", "invented_by"], lambda d: d.person(), ["{S} was invented by {V}.", "{V} invented {S}.", "The inventor of {S} is {V}."],
     ["Who invented {S}?", "Who is the inventor of {S}?"], "{S} was invented by {V}."),
    (["warranty_years", "warranty"], lambda d: d.int(2, 20), ["{S} has a warranty of {V} years.", "The warranty of {S} is {V} years."],
     ["How long is the warranty of {S}?", "How many years of warranty does {S} have?"], "{S} has a warranty of {V} years."),
]
EVENT = [
    (["date", "day"], _date, ["{S} takes place on {V}.", "{S} will be held on {V}.", "The date of {S} is {V}."],
     ["When is {S}?", "On which day is {S}?", "When does {S} take place?", "What is the date of {S}?"], "{S} is on {V}."),
    (["place", "city", "location"], lambda d: d.city(), ["{S} is held in {V}.", "{S} takes place in {V}.", "The location of {S} is {V}."],
     ["Where is {S}?", "Where does {S} take place?", "In which city is {S} held?"], "{S} is in {V}."),
    (["visitors", "guests"], lambda d: d.number(d.pick([2, 3, 4, 5])), ["{V} visitors are expected at {S}.", "{S} draws {V} visitors.", "About {V} people come to {S}."],
     ["How many people come to {S}?", "How many visitors does {S} have?", "How many visitors are expected at {S}?"], "{S} has {V} visitors."),
    (["organizer", "host"], lambda d: d.person(), ["{S} is organized by {V}.", "{V} organizes {S}.", "The host of {S} is {V}."],
     ["Who organizes {S}?", "Who is the organizer of {S}?", "Who is the host of {S}?"], "{S} is organized by {V}."),
    (["ticket_price", "price"], lambda d: d.int(2, 150), ["A ticket for {S} costs {V} dollars.", "Entry to {S} costs {V} dollars.", "The tickets for {S} are {V} dollars each."],
     ["How much is a ticket for {S}?", "What does a ticket for {S} cost?", "How much does entry to {S} cost?"], "A ticket for {S} costs {V} dollars."),
    (["start_time", "begins", "time"], lambda d: f"{d.int(1, 12)}:{d.pick(['00', '15', '30', '45'])} {d.pick(['am', 'pm'])}", ["{S} begins at {V}.", "{S} starts at {V}.", "The doors of {S} open at {V}."],
     ["At what time does {S} begin?", "When does {S} start?", "What time does {S} begin?"], "{S} begins at {V}."),
]
MOUNTAIN = [
    (["height_m", "height"], lambda d: d.number(4), ["{S} is {V} meters high.", "{S} rises to {V} meters.", "The height of {S} is {V} meters."],
     ["How high is {S}?", "What is the height of {S}?"], "{S} is {V} meters high."),
    (["country"], lambda d: d.country(), ["{S} lies in {V}.", "{S} is a mountain in {V}.", "{S} stands in the north of {V}."],
     ["In which country is {S}?", "Where is {S}?", "Where does {S} stand?"], "{S} is in {V}."),
    (["first_climbed_by", "climber"], lambda d: d.person(), ["{S} was first climbed by {V}.", "{V} was the first to climb {S}."],
     ["Who first climbed {S}?", "Who was the first to climb {S}?"], "{S} was first climbed by {V}."),
    (["first_climbed", "year"], lambda d: d.year(1780, 2000), ["The first ascent of {S} was in {V}.", "{S} was climbed for the first time in {V}."],
     ["When was {S} first climbed?", "In which year was {S} climbed for the first time?"], "{S} was first climbed in {V}."),
    (["nearest_town", "town"], lambda d: d.city(), ["The town nearest to {S} is {V}.", "From {V} a path leads up {S}.", "{S} stands above the town of {V}."],
     ["Which town is nearest to {S}?", "What is the nearest town to {S}?"], "The town nearest to {S} is {V}."),
]
# Sentences that state two facts at once: kind, the two fields, ways to say them.
PAIRS = [
    ("person", "age", "job", ["{S}, {age}, works as {job}.", "{S} is {job} and {age} years old."]),
    ("person", "age", "city", ["{S}, who is {age} years old, lives in {city}.", "{S} is {age} and lives in {city}."]),
    ("person", "job", "birthplace", ["{S} is {job} from {birthplace}.", "{S}, born in {birthplace}, works as {job}."]),
    ("person", "job", "employer", ["{S} works as {job} at {employer}.", "{S} is {job} and works for {employer}."]),
    ("person", "city", "birthplace", ["{S} was born in {birthplace} but lives in {city}.", "{S} left {birthplace} and moved to {city}."]),
    ("person", "birthplace", "birth_year", ["{S} was born in {birthplace} in {birth_year}.", "{S} was born in {birth_year} in {birthplace}."]),
    ("person", "city", "pet", ["{S} lives in {city} with {pet}.", "{S} has {pet} and a house in {city}."]),
    ("person", "hobby", "instrument", ["{S} enjoys {hobby} and plays the {instrument}.", "{S} plays the {instrument} and loves {hobby}."]),
    ("person", "favorite_food", "favorite_color", ["{S} likes {favorite_food} and the color {favorite_color}."]),
    ("pet", "species", "age", ["{S} is {species} and {age} years old.", "{S}, {species}, is {age} years old."]),
    ("pet", "species", "owner", ["{S} is {species} that belongs to {owner}.", "{owner} has {species} called {S}."]),
    ("team", "sport", "city", ["{S} is a {sport} team from {city}."]),
    ("team", "coach", "captain", ["The coach of {S} is {coach} and the captain is {captain}."]),
    ("town", "country", "population", ["{S} is a town in {country} with {population} inhabitants.", "{S}, in {country}, has {population} inhabitants."]),
    ("town", "country", "river", ["{S} lies in {country}, on the river {river}."]),
    ("town", "mayor", "population", ["{S} has {population} inhabitants, and its mayor is {mayor}."]),
    ("firm", "founder", "founded", ["{S} was founded in {founded} by {founder}.", "{founder} founded {S} in {founded}."]),
    ("firm", "headquarters", "employees", ["{S}, based in {headquarters}, has {employees} employees."]),
    ("firm", "product", "headquarters", ["{S} makes {product} in {headquarters}.", "{S} from {headquarters} makes {product}."]),
    ("book", "author", "year", ["{S} was written by {author} and published in {year}.", "{author} wrote {S} in {year}."]),
    ("book", "pages", "price", ["{S} has {pages} pages and costs {price} dollars."]),
    ("machine", "price", "weight_kg", ["{S} costs {price} euros and weighs {weight_kg} kilograms."]),
    ("machine", "maker", "price", ["{S}, made by {maker}, costs {price} euros.", "{maker} sells {S} for {price} euros."]),
    ("machine", "color", "material", ["{S} is made of {material} and painted {color}."]),
    ("event", "place", "date", ["{S} takes place in {place} on {date}.", "On {date}, {S} is held in {place}."]),
    ("event", "date", "start_time", ["{S} begins on {date} at {start_time}."]),
    ("event", "ticket_price", "visitors", ["{S} has {visitors} visitors, who pay {ticket_price} dollars each."]),
    ("mountain", "height_m", "country", ["{S} in {country} is {height_m} meters high.", "With {height_m} meters, {S} is a high mountain in {country}."]),
    ("mountain", "first_climbed_by", "first_climbed", ["{S} was first climbed in {first_climbed} by {first_climbed_by}."]),
]
SUBJECTS = [
    ("town", lambda d: d.city(), TOWN),
    ("firm", lambda d: d.company(), FIRM),
    ("book", lambda d: d.title(), BOOK),
    ("machine", lambda d: f"the {d.product()}", MACHINE),
    ("event", lambda d: f"the {d.pick([d.word().capitalize(), d.city(), d.surname()])} {d.pick(['Festival', 'Fair', 'Concert', 'Marathon', 'Congress', 'Show', 'Cup', 'Market'])}", EVENT),
    ("mountain", lambda d: f"Mount {d.word().capitalize()}", MOUNTAIN),
]
