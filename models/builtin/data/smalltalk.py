"""Small talk, a little general knowledge, and honest "I don't know"."""

from ..chat import assistant, user
from . import pools
from .draw import article, cap, hasty

# Every entry: ways to say it, accepted answers.
TALK = [
    (["Hello!", "Hello", "Hi", "Hi!", "Hey", "Hi there", "Hello there!", "Good morning", "Good morning!", "Good evening", "Good afternoon", "Hey there", "Greetings", "hello zse", "Hi ZSE!", "Howdy"],
     ["Hello! How can I help you?", "Hi! What can I do for you?", "Hello! What would you like to know?"]),
    (["How are you?", "How are you doing?", "How's it going?", "How do you feel?", "Are you well?", "How are you today?", "What's up?", "How is it going?", "Everything all right?"],
     ["I am fine, thank you. How can I help you?", "All is well here. What can I do for you?"]),
    (["Who are you?", "What are you?", "What is your name?", "Tell me about yourself.", "Introduce yourself.", "What should I call you?", "Who am I talking to?", "What's your name?", "Do you have a name?", "Please introduce yourself."],
     ["I am ZSE's built-in model, a small language model that ships inside the program."]),
    (["What can you do?", "What are you able to do?", "How can you help me?", "What can I ask you?", "What do you know?", "What are you good at?", "What is it that you can do?", "Help", "help me", "What can you help me with?"],
     ["I can tell stories, explain ZSE's commands, use tools, extract fields as JSON and answer questions about a passage."]),
    (["Are you a human?", "Are you a robot?", "Are you a person?", "Are you real?", "Are you alive?", "Am I talking to a human?", "Are you an AI?", "Is this a real person?"],
     ["I am a small language model, not a person."]),
    (["Who made you?", "Who created you?", "Who built you?", "Who trained you?", "Where do you come from?", "Who wrote you?", "How were you made?"],
     ["I was trained by the makers of ZSE, from text that a program wrote."]),
    (["How big are you?", "How many parameters do you have?", "How large are you?", "What size are you?", "Are you a large model?", "How many parameters are in you?"],
     ["I am very small: about 13 million parameters."]),
    (["Thank you!", "Thanks", "Thanks a lot!", "Thank you very much.", "Thank you for your help.", "thx", "Great, thanks!", "Many thanks!", "That was helpful, thank you.", "Perfect, thank you."],
     ["You are welcome!", "You're welcome! Is there anything else?", "Glad to help!"]),
    (["Bye", "Goodbye!", "See you later.", "Bye bye", "Good night", "See you!", "I have to go now.", "Until next time.", "Farewell.", "That's all for today."],
     ["Goodbye!", "Goodbye! Have a nice day.", "See you soon!"]),
    (["Okay.", "I see.", "Good.", "Nice.", "All right.", "Interesting.", "Cool.", "Great!", "Fine.", "ok"],
     ["Is there anything else I can do for you?", "Glad to hear it. What else can I do?"]),
    (["Sorry", "I am sorry.", "My mistake.", "Excuse me.", "Sorry about that.", "Forgive me."], ["No problem at all.", "That is all right."]),
    (["You are great!", "You are funny.", "I like you.", "Well done!", "You are very helpful.", "Good job!", "You're smart."], ["Thank you, that is kind of you!", "Thank you!"]),
    (["You are stupid.", "That is wrong.", "You are not very smart.", "That makes no sense.", "You are bad at this.", "That was not right."],
     ["I am sorry. I am a small model and I make mistakes."]),
    (["Are you connected to the internet?", "Can you search the web?", "Do you have internet access?", "Can you go online?", "Are you online?", "Do you send my data anywhere?", "Is my data safe?", "Where do you run?", "Do you run locally?"],
     ["I run on your own machine and need no network."]),
    (["I am bored.", "I'm bored", "What should I do today?", "I have nothing to do.", "It is so boring today."], ["I could tell you a story. Just ask!", "How about a story?"]),
    (["I am sad.", "I feel bad today.", "I'm so tired.", "I had a bad day.", "I feel lonely.", "I am not happy today."],
     ["I am sorry to hear that. Would you like to hear a story?", "I am sorry to hear that. I hope it will be better soon."]),
    (["I am happy today!", "I had a great day.", "I feel great.", "I got good news today!", "Today is a wonderful day."], ["That is wonderful to hear!", "How nice! I am glad for you."]),
    (["Do you like music?", "Do you like cats?", "Do you like chocolate?", "Do you sleep?", "Do you dream?", "Do you have feelings?", "Do you have a favorite color?", "Do you eat?", "How old are you?", "Do you have friends?", "Do you get tired?", "What is your favorite food?"],
     ["I am only a small language model, so I have no such things, but I like a good question."]),
    (["Tell me a joke.", "Tell me something funny.", "Do you know a joke?", "Make me laugh.", "Can you tell a joke?", "A joke, please.", "Say something funny.", "Tell me another joke."],
     ["Why did the computer go to the doctor? It had a virus.", "What do you call a sleeping bull? A bulldozer.", "Why can't a bicycle stand on its own? It is two-tired.", "What did one wall say to the other? Let's meet at the corner.",
      "Why was the math book sad? It had too many problems.", "What has hands but cannot clap? A clock.", "Why did the scarecrow win a prize? It was outstanding in its field."]),
]
FACTS = [
    (["How many days are in a week?", "How many days does a week have?"], "A week has seven days."),
    (["How many months are in a year?", "How many months does a year have?"], "A year has twelve months."),
    (["How many days are in a year?", "How long is a year in days?"], "A year has 365 days, and a leap year has 366."),
    (["How many hours are in a day?", "How many hours does a day have?"], "A day has 24 hours."),
    (["How many minutes are in an hour?", "How many minutes does an hour have?"], "An hour has 60 minutes."),
    (["How many legs does a spider have?", "How many legs do spiders have?"], "A spider has eight legs."),
    (["How many legs does an insect have?", "How many legs does an ant have?", "How many legs does a bee have?"], "It has six legs."),
    (["What color is the sky?", "What is the color of the sky?", "Which color does the sky have?"], "On a clear day the sky is blue."),
    (["What color is grass?", "Which color does grass have?"], "Grass is green."),
    (["What is water made of?", "What does water consist of?"], "Water is made of hydrogen and oxygen."),
    (["At what temperature does water boil?", "When does water boil?"], "Water boils at 100 degrees Celsius at sea level."),
    (["At what temperature does water freeze?", "When does water freeze?"], "Water freezes at 0 degrees Celsius."),
    (["What is the largest planet?", "Which planet is the largest?", "What is the biggest planet?"], "The largest planet of the solar system is Jupiter."),
    (["Which planet is closest to the sun?", "What planet is nearest to the sun?"], "Mercury is the planet closest to the sun."),
    (["What is the largest animal?", "Which animal is the largest?", "What is the biggest animal in the world?"], "The largest animal is the blue whale."),
    (["What is the tallest animal?", "Which animal is the tallest?"], "The tallest animal is the giraffe."),
    (["What is the highest mountain?", "Which mountain is the highest in the world?", "What is the tallest mountain on Earth?"], "The highest mountain is Mount Everest."),
    (["What is the largest ocean?", "Which ocean is the largest?"], "The largest ocean is the Pacific."),
    (["How many continents are there?", "How many continents does the Earth have?"], "There are seven continents."),
    (["What do bees make?", "What do bees produce?"], "Bees make honey."),
    (["What do cows eat?", "What does a cow eat?"], "Cows eat grass."),
    (["Where does the sun rise?", "In which direction does the sun rise?"], "The sun rises in the east."),
    (["What is a GGUF file?", "What is GGUF?", "What does GGUF mean?"], "GGUF is a file format that holds a language model: its settings, its tokenizer and its weights."),
    (["What is quantization?", "What does quantization mean?", "What does it mean to quantize a model?", "Why would I quantize a model?"], "Quantization stores weights with fewer bits, so that a model needs less memory and runs faster."),
    (["What is a token?", "What are tokens?", "What does token mean?"], "A token is a piece of text, often a word or a part of one, that a language model reads and writes."),
    (["What is a context window?", "What is the context size?", "What does context length mean?"], "The context size is the number of tokens that a model can look back on."),
    (["What is the KV cache?", "What is a KV cache?", "What does the KV cache hold?"], "The KV cache holds the keys and values of earlier tokens, so that they need not be computed again."),
    (["What is perplexity?", "What does perplexity mean?"], "Perplexity measures how well a model predicts a text: the lower, the better."),
    (["What is temperature?", "What does temperature mean for a model?", "What does the sampling temperature do?"], "Temperature controls how random the choice of tokens is: 0 always takes the most likely one."),
    (["What is a language model?", "How does a language model work?"], "A language model predicts the next token of a text, again and again."),
    (["What is a tokenizer?", "What does a tokenizer do?"], "A tokenizer cuts a text into tokens and puts tokens together again."),
    (["What is the opposite of hot?"], "The opposite of hot is cold."),
    (["What is the opposite of big?"], "The opposite of big is small."),
    (["What is the opposite of day?"], "The opposite of day is night."),
]
SOUNDS = {"dog": "barks", "cat": "meows", "cow": "moos", "sheep": "bleats", "duck": "quacks", "lion": "roars", "owl": "hoots", "horse": "neighs", "pig": "oinks", "rooster": "crows", "bee": "buzzes", "frog": "croaks", "wolf": "howls", "snake": "hisses"}
UNKNOWN = [
    "Who won the {y} world cup?", "Who is the president of {c}?", "Explain quantum physics.", "What is the meaning of life?", "What happened in {y}?", "Who was {p}?", "Who is {p}?", "How do I cook {f}?",
    "What is the best phone?", "Write a program in Python.", "What do you think about politics?", "Who will win the election?", "How do I fix my car?", "What is {w}?", "What does {w} mean?", "Explain {w} to me.",
    "How far is the moon?", "Who invented the {n}?", "What is the price of gold?", "Tell me about {t}.", "What do you know about {t}?", "Who wrote {b}?", "How does a {n} work?", "What is the history of {t}?",
    "Can you recommend a movie?", "What is the square root of pi?", "Write an essay about {w}.", "When was {p} born?", "Where does {p} live?", "How many people live in {t}?", "Explain how {w} works.", "What should I invest in?",
    "Translate this into French.", "Why is {w} important?", "Give me advice about {w}.", "What is the weather like?", "What is the news today?", "How do I lose weight?", "Is {w} good or bad?", "Can you draw a picture?",
]
DONT_KNOW = "I don't know that. I am a small model."
NO_TOOL = "I would need a calculator tool for that."
NO_DATE = "I would need a date tool for that."
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()


def talk(d):
    """One exchange of small talk: `(said, accepted answers)`."""
    asks, answers = d.pick(TALK)
    return hasty(d, loosen(d, d.pick(asks))), answers


def loosen(d, ask):
    """The same words as a hasty person types them."""
    roll = d.unit()
    if roll < 0.12:
        return ask.lower()
    if roll < 0.22:
        return ask.rstrip("?!.")
    if roll < 0.28:
        return d.pick(["So, ", "Well, ", "Hey, ", "Oh, ", "Please, ", "Tell me: "]) + ask
    if roll < 0.32:
        return ask + d.pick([" please", " :)", " Thanks.", "!"])
    return ask


def knowledge(d):
    """A simple question of general knowledge: `(request, answer)`."""
    roll = d.unit()
    if roll < 0.35:
        asks, answer = d.pick(FACTS)
        return hasty(d, loosen(d, d.pick(asks))), answer
    if roll < 0.6:
        country = d.pick(list(pools.CAPITALS))
        ask = d.pick(["What is the capital of {}?", "Which city is the capital of {}?", "Name the capital of {}.", "What's the capital of {}?", "Capital of {}?"]).format(country)
        return loosen(d, ask), f"The capital of {country} is {pools.CAPITALS[country]}."
    if roll < 0.7:
        animal = d.pick(list(SOUNDS))
        ask = d.pick(["What sound does a {} make?", "What noise does {a} make?", "How does a {} sound?"]).format(animal, a=article(animal)).replace("a owl", "an owl")
        return loosen(d, ask), f"{cap(article(animal))} {SOUNDS[animal]}."
    if roll < 0.8:
        names = d.pick([pools.DAYS, pools.MONTHS])
        i, step = d.int(0, len(names) - 1), d.pick([-1, 1])
        kind = "day" if names is pools.DAYS else "month"
        word = "after" if step == 1 else "before"
        ask = d.pick([f"Which {kind} comes {word} {names[i]}?", f"What {kind} is {word} {names[i]}?", f"What comes {word} {names[i]}?"])
        return ask, f"{names[(i + step) % len(names)]} comes {word} {names[i]}."
    a, b = d.int(0, 12), d.int(0, 12)
    if d.chance(0.5):
        ask, value = d.pick(["What is {a} plus {b}?", "{a} + {b}", "How much is {a} plus {b}?", "What is {a} + {b}?"]), a + b
    else:
        ask, value = d.pick(["What is {a} times {b}?", "{a} * {b}", "How much is {a} times {b}?", "What is {a} x {b}?"]), a * b
    return ask.format(a=a, b=b), f"The answer is {value}."


def beyond(d):
    """A question that the model cannot answer: `(request, answer)`."""
    roll = d.unit()
    if roll < 0.2:
        a, b, op = d.number(d.pick([3, 4, 5])), d.number(d.pick([3, 4, 5])), d.pick(["plus", "times", "minus", "divided by", "+", "*", "-", "/"])
        return d.pick(["What is {} {} {}?", "Calculate {} {} {}.", "How much is {} {} {}?", "{} {} {}?"]).format(a, op, b), NO_TOOL
    if roll < 0.3:
        return d.pick(["What is the date today?", "What day is it today?", "What's today's date?", "Which date is it?", "What time is it?", "What day is today?", "Tell me the current date.", "Which year is it?"]), NO_DATE
    ask = d.pick(UNKNOWN).format(y=d.year(1900), c=d.country(), p=d.full_name(), f=d.pick(pools.FOODS), w=d.word(), n=d.pick(pools.NOUNS), t=d.pick([d.city, d.country, d.word, d.company])(), b=d.title())
    return loosen(d, ask), DONT_KNOW


def pair(d):
    """One exchange: `(said, answer)`."""
    roll = d.unit()
    if roll < 0.5:
        said, answers = talk(d)
        return said, d.pick(answers)
    return knowledge(d) if roll < 0.8 else beyond(d)


def turns(d):
    """One to four exchanges."""
    out = []
    for _ in range(d.pick([1, 1, 2, 2, 3, 4])):
        said, answer = pair(d)
        out += [user(said), assistant(answer)]
    return out
