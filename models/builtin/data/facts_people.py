"""Facts for passages: people, animals and teams.

A subject has attributes. Each attribute gives its field names (for JSON),
a value, the ways a text states it, the ways to ask for it, and the answer.
Slots: {S} the subject (a name, or at times a pronoun in statements), {V} the
value, {P} the subject's possessive (`his`, `Ann's`); questions and answers use
the name: {S} and {S's}.
"""

from . import pools
from .draw import article


def _age(d):
    return d.int(5, 97)


def _job(d):
    return article(d.pick(pools.JOBS))


def _pet(d):
    return article(d.pick(["dog", "cat", "parrot", "rabbit", "hamster", "turtle", "pony", "goat", "snake", "canary"]))


def _list(name):
    return lambda d: d.pick(getattr(pools, name))


PERSON = [
    (["age", "years", "age_in_years"], _age,
     ["{S} is {V} years old.", "{S} turned {V} this year.", "At the age of {V}, {S} is still full of energy.", "{S} is {V}."],
     ["How old is {S}?", "What is {S's} age?", "What age is {S}?"], "{S} is {V} years old."),
    (["job", "occupation", "profession"], _job,
     ["{S} works as {V}.", "{S} is {V} by trade.", "{S} earns a living as {V}.", "{S} has been {V} for many years.", "{S} is {V}."],
     ["What does {S} do for a living?", "What is {S's} job?", "What work does {S} do?", "What is {S's} profession?", "What does {S} work as?"], "{S} works as {V}."),
    (["city", "home", "residence", "lives_in"], lambda d: d.city(),
     ["{S} lives in {V}.", "{S} has lived in {V} for years.", "{P} home is in {V}.", "{S} has a house in {V}.", "{S} moved to {V} some time ago."],
     ["Where does {S} live?", "In which city does {S} live?", "What town does {S} live in?", "Where is {S's} home?"], "{S} lives in {V}."),
    (["birthplace", "born_in", "place_of_birth"], lambda d: d.city(),
     ["{S} was born in {V}.", "{S} comes from {V}.", "{S} is originally from {V}.", "{S} grew up in {V}."],
     ["Where was {S} born?", "Where does {S} come from?", "Where is {S} from?", "What is {S's} birthplace?"], "{S} comes from {V}."),
    (["hobby", "pastime", "free_time"], _list("HOBBIES"),
     ["In {p} free time, {S} enjoys {V}.", "{P} hobby is {V}.", "{S} loves {V}.", "{S} spends every weekend on {V}.", "{S} is fond of {V}."],
     ["What is {S's} hobby?", "What does {S} do in the free time?", "What does {S} enjoy?", "What does {S} like to do?"], "{S's} hobby is {V}."),
    (["employer", "company", "works_for"], lambda d: d.company(),
     ["{S} works for {V}.", "{S} has a job at {V}.", "{S} is employed by {V}.", "{P} employer is {V}."],
     ["Who does {S} work for?", "Where does {S} work?", "Which company does {S} work for?", "Who is {S's} employer?"], "{S} works for {V}."),
    (["pet", "animal"], _pet,
     ["{S} has {V}.", "{S} owns {V}.", "{S} keeps {V} at home.", "{P} pet is {V}."],
     ["What pet does {S} have?", "Which animal does {S} own?", "What is {S's} pet?"], "{S} has {V}."),
    (["favorite_food", "food", "likes_to_eat"], _list("FOODS"),
     ["{P} favorite food is {V}.", "{S} likes to eat {V}.", "{S} could eat {V} every day.", "Nothing tastes better to {S} than {V}."],
     ["What is {S's} favorite food?", "What does {S} like to eat?", "Which food does {S} like best?"], "{S's} favorite food is {V}."),
    (["favorite_color", "color"], _list("COLORS"),
     ["{P} favorite color is {V}.", "{S} likes the color {V} best.", "{S} always wears {V}."],
     ["What is {S's} favorite color?", "Which color does {S} like best?", "What color does {S} like?"], "{S's} favorite color is {V}."),
    (["instrument", "plays"], _list("INSTRUMENTS"),
     ["{S} plays the {V}.", "{S} is learning to play the {V}.", "{S} practices the {V} every evening."],
     ["Which instrument does {S} play?", "What does {S} play?", "What instrument does {S} play?"], "{S} plays the {V}."),
    (["language", "speaks"], _list("LANGUAGES"),
     ["{S} speaks {V}.", "{S} is fluent in {V}.", "{P} native language is {V}."],
     ["Which language does {S} speak?", "What language does {S} speak?", "What does {S} speak?"], "{S} speaks {V}."),
    (["spouse", "married_to", "partner"], lambda d: d.first_name(),
     ["{S} is married to {V}.", "{S} and {V} have been married for years.", "{S} shares a home with {V}."],
     ["Who is {S} married to?", "Who is {S's} partner?", "What is the name of {S's} partner?"], "{S} is married to {V}."),
    (["birth_year", "year_of_birth"], lambda d: d.year(1920, 2015),
     ["{S} was born in the year {V}.", "{P} year of birth is {V}.", "It was in {V} that {S} was born."],
     ["When was {S} born?", "In which year was {S} born?", "What is {S's} year of birth?"], "{S} was born in {V}."),
]
PET = [
    (["owner", "belongs_to"], lambda d: d.person(),
     ["{S} belongs to {V}.", "{P} owner is {V}.", "{V} is the owner of {S}.", "{S} lives with {V}."],
     ["Who owns {S}?", "Who is {S's} owner?", "Who does {S} belong to?"], "{S} belongs to {V}."),
    (["age", "years"], lambda d: d.int(2, 25), ["{S} is {V} years old.", "{S} will soon be older than {V}, but now {S} is {V} years old.", "{S} is {V}."],
     ["How old is {S}?", "What is {S's} age?"], "{S} is {V} years old."),
    (["species", "animal", "kind"], _pet, ["{S} is {V}.", "As everybody knows, {S} is {V}."],
     ["What kind of animal is {S}?", "What animal is {S}?", "What is {S}?"], "{S} is {V}."),
    (["color", "fur"], _list("COLORS"), ["{P} fur is {V}.", "{S} is all {V}.", "{P} color is {V}."],
     ["What color is {S}?", "What is {S's} color?"], "{S} is {V}."),
    (["food", "eats"], _list("FOODS"), ["{S} loves to eat {V}.", "{P} favorite food is {V}.", "{S} gets {V} on Sundays."],
     ["What does {S} like to eat?", "What is {S's} favorite food?"], "{S} likes to eat {V}."),
    (["sleeping_place", "sleeps"], lambda d: d.pick(["under the table", "on the sofa", "in the kitchen", "in a basket", "on the roof", "in the barn", "behind the stove", "by the window"]),
     ["{S} sleeps {V}.", "At night {S} lies {V}.", "{S} spends the nights {V}."],
     ["Where does {S} sleep?", "Where is {S} at night?"], "{S} sleeps {V}."),
    (["weight_kg", "weight"], lambda d: d.int(2, 80), ["{S} weighs {V} kilograms.", "{P} weight is {V} kilograms."],
     ["How much does {S} weigh?", "What is {S's} weight?"], "{S} weighs {V} kilograms."),
]
TEAM = [
    (["coach", "trainer"], lambda d: d.person(), ["{S} is coached by {V}.", "The coach of {S} is {V}.", "{V} trains {S}."],
     ["Who coaches {S}?", "Who is the coach of {S}?", "Who trains {S}?"], "{S} is coached by {V}."),
    (["sport", "game"], lambda d: d.pick(["football", "basketball", "volleyball", "hockey", "rugby", "handball", "baseball", "water polo"]),
     ["{S} plays {V}.", "{S} is a {V} team.", "The sport of {S} is {V}."],
     ["Which sport does {S} play?", "What does {S} play?"], "{S} plays {V}."),
    (["city", "home", "based_in"], lambda d: d.city(), ["{S} comes from {V}.", "{S} is based in {V}.", "{S} plays its home games in {V}."],
     ["Where does {S} come from?", "Where is {S} based?", "Which city is {S} from?"], "{S} is based in {V}."),
    (["color", "shirts"], _list("COLORS"), ["{S} plays in {V} shirts.", "The shirts of {S} are {V}."],
     ["What color are the shirts of {S}?", "Which color does {S} wear?"], "The shirts of {S} are {V}."),
    (["founded", "year"], lambda d: d.year(1850, 2020), ["{S} was founded in {V}.", "{S} has existed since {V}.", "It was in {V} that {S} was founded."],
     ["When was {S} founded?", "In which year was {S} founded?", "Since when has {S} existed?"], "{S} was founded in {V}."),
    (["captain"], lambda d: d.person(), ["The captain of {S} is {V}.", "{V} is the captain of {S}.", "{S} is led by {V} on the field."],
     ["Who is the captain of {S}?", "What is the name of the captain of {S}?"], "The captain of {S} is {V}."),
    (["goals", "points"], lambda d: d.int(2, 120), ["{S} scored {V} points this season.", "This season {S} has {V} points."],
     ["How many points does {S} have?", "How many points did {S} score?"], "{S} has {V} points."),
]
SUBJECTS = [
    ("person", lambda d: d.person(), PERSON),
    ("person", lambda d: d.person(), PERSON),
    ("person", lambda d: d.person(), PERSON),
    ("pet", lambda d: d.first_name(), PET),
    ("team", lambda d: f"{d.pick(['FC', 'Team', 'SC', 'the'])} {d.city() if d.chance(0.5) else d.word().capitalize()}".replace("the ", "") , TEAM),
]
