"""Conversations with tools: calculator, dates, services, invented tools."""

from ..chat import assistant, calls, tool_result, user
from . import dates, pools, toolbox
from .draw import cap
from .services import SERVICES
from .toolbox import function, keys, name

OPS = {
    "+": ["{a} plus {b}", "{a} + {b}", "the sum of {a} and {b}", "{a} and {b} added together"],
    "-": ["{a} minus {b}", "{a} - {b}", "{a} less {b}", "the difference of {a} and {b}"],
    "*": ["{a} times {b}", "{a} * {b}", "{a} multiplied by {b}", "the product of {a} and {b}", "{a} x {b}"],
    "/": ["{a} divided by {b}", "{a} / {b}", "{a} over {b}"],
}
CALC_ASKS = ["What is {x}?", "What is {x}?", "Calculate {x}.", "Compute {x}.", "How much is {x}?", "What's {x}?", "{x}?", "{x} = ?", "Can you calculate {x}?", "Please work out {x}.",
             "I need {x}.", "Tell me {x}.", "What do I get for {x}?", "Work out {x} for me.", "What does {x} make?", "Give me the result of {x}.", "can you do {x} for me", "Could you compute {x}?", "what does {x} equal", "I want to know {x}.", "Quick: {x}?"]
WORD_PROBLEMS = [
    ("+", "{N} has {a} {i} and buys {b} more. How many {i} does {N} have now?"),
    ("+", "There are {a} {i} in one box and {b} in another. How many {i} are there in all?"),
    ("+", "{N} found {a} {i} and {M} found {b}. How many did they find together?"),
    ("+", "{N} has {a} {i} and gets {b} more. How many does {N} have?"),
    ("+", "{N} had {a} {i} and won {b} more. How many {i} does {N} have now?"),
    ("+", "There are {a} {i} on the table. {N} adds {b}. How many are there now?"),
    ("-", "{N} had {a} {i} and lost {b}. How many does {N} have now?"),
    ("-", "There are {a} {i} in a box. {N} takes {b} out. How many remain?"),
    ("-", "{N} had {a} {i} and gave away {b}. How many are left?"),
    ("-", "A shop has {a} {i} and sells {b} of them. How many {i} remain?"),
    ("-", "{N} has {a} {i} and {M} has {b}. How many more does {N} have?"),
    ("*", "There are {a} boxes with {b} {i} each. How many {i} are there?"),
    ("*", "One of the {i} costs {b} coins. How much do {a} {i} cost?"),
    ("*", "{N} makes {b} {i} a day. How many {i} does {N} make in {a} days?"),
    ("/", "{a} {i} are shared equally among {b} people. How many does each get?"),
    ("/", "{N} puts {a} {i} into {b} boxes, the same number in each. How many {i} are in a box?"),
]


def shown(value):
    """A number as the calculator prints it."""
    value = round(value, 4)
    return str(int(value)) if value == int(value) else str(value)


def evaluate(expression):
    """Value of an expression made here (numbers, + - * / and brackets)."""
    return eval(expression, {"__builtins__": {}})  # noqa: S307


def problem(d):
    """`(request, expression)` for the calculator."""
    roll = d.unit()
    if roll < 0.2:
        op, text = d.pick(WORD_PROBLEMS)
        b = d.number(d.pick([1, 1, 2, 2, 3]))
        a = b * d.int(2, 40) if op == "/" else b + d.number(d.pick([1, 2, 3])) if op == "-" else d.number(d.pick([1, 2, 2, 3]))
        return text.format(N=d.first_name(), M=d.first_name(), i=d.pick(pools.ITEMS), a=a, b=b), f"{a} {op} {b}"
    if roll < 0.28:
        p, n = d.int(1, 99), d.number(d.pick([2, 3, 4]))
        asks = ["What is {p} percent of {n}?", "What is {p}% of {n}?", "How much is {p} percent of {n}?", "Calculate {p}% of {n}.", "Take {p} percent of {n}."]
        return d.pick(asks).format(p=p, n=n), f"{n} * {p} / 100"
    if roll < 0.34:
        n = d.number(d.pick([1, 2, 2, 3]))
        return d.pick(["What is {n} squared?", "What is the square of {n}?", "Square {n}."]).format(n=n), f"{n} * {n}"
    op = d.pick("+-**/+")
    a, b = d.number(), d.number()
    if d.chance(0.1):
        a = f"{d.int(0, 99)}.{d.int(1, 99)}"
    if op == "/":
        b = d.int(2, 99)
    words = d.pick(OPS[op]).format(a=a, b=b)
    expression = f"{a} {op} {b}"
    if roll > 0.85:
        op2, c = d.pick("+-*"), d.number(d.pick([1, 2, 3]))
        verb = {"+": f"plus {c}", "-": f"minus {c}", "*": f"times {c}"}[op2]
        shape = d.int(0, 2)
        if shape == 0:
            words = f"({a} {op} {b}) {op2} {c}"
            return d.pick(CALC_ASKS).format(x=words), words
        if shape == 1 and op in "*/" and op2 in "+-":
            return d.pick(CALC_ASKS).format(x=f"{words} {verb}"), f"{expression} {op2} {c}"
        then = {"+": f"add {c}", "-": f"subtract {c}", "*": f"multiply by {c}"}[op2]
        return cap(f"{d.pick(['take', 'start with', 'calculate'])} {words} and then {then}."), f"({expression}) {op2} {c}"
    if d.chance(0.12):
        direct = {"+": d.pick([f"Add {a} and {b}.", f"Can you add {a} and {b} for me?", f"Add {a} to {b}."]), "-": f"Subtract {b} from {a}.", "*": f"Multiply {a} by {b}.", "/": f"Divide {a} by {b}."}
        return direct[op], expression
    return cap(d.pick(CALC_ASKS).format(x=words)), expression


def calculation(d):
    """One calculation: `(tools, turns)`."""
    ask, expression = problem(d)
    result = shown(evaluate(expression))
    out = [user(ask), calls(("calculator", {"expression": expression})), tool_result(result), assistant(f"The answer is {result}.")]
    while d.chance(0.2) and result.lstrip("-").isdigit():
        op, c = d.pick("+-*"), d.number(d.pick([1, 2]))
        verb = {"+": f"plus {c}", "-": f"minus {c}", "*": f"times {c}"}[op]
        order = {"+": f"add {c}", "-": f"subtract {c}", "*": f"multiply it by {c}"}[op]
        ask = d.pick([f"And {verb}?", f"And what is that {verb}?", f"Now {order}.", f"Then {order}.", f"What is that {verb}?"])
        expression = f"{result} {op} {c}"
        result = shown(evaluate(expression))
        out += [user(ask), calls(("calculator", {"expression": expression})), tool_result(result), assistant(f"The answer is {result}.")]
    return [toolbox.calculator(d)], out


def dated(d):
    """One date question: `(tools, turns)`."""
    kind = d.int(0, 6)
    a = d.date()
    if kind == 0:
        tool = toolbox.current_date(d)
        ask = d.pick(["What is the date today?", "What day is it today?", "What's today's date?", "Which date is it?", "Tell me the current date.", "What is today's date?", "Do you know the date?",
                      "Which day is today?", "Can you tell me the date?", "What is the current date?", "today's date, please", "What date do we have today?"])
        return [tool], [user(ask), calls((name(tool), {})), tool_result(dates.iso(a)), assistant(f"Today is {dates.long(a)}.")]
    if kind <= 2:
        tool = toolbox.days_between(d)
        b = dates.shift(a, d.int(1, 900)) if d.chance(0.6) else d.date()
        n = dates.days_between(a, b)
        x, y = dates.spoken(d, a), dates.spoken(d, b)
        ask = d.pick(["How many days are there between {x} and {y}?", "How many days are between {x} and {y}?", "How many days is it from {x} to {y}?", "Count the days from {x} to {y}.",
                      "What is the number of days between {x} and {y}?", "How long is it from {x} until {y}, in days?", "Days from {x} to {y}?", "How many days lie between {x} and {y}?"]).format(x=x, y=y)
        k = keys(tool)
        answer = f"It is {n} days from {dates.long(a)} to {dates.long(b)}."
        return [tool], [user(ask), calls((name(tool), {k[0]: dates.iso(a), k[1]: dates.iso(b)})), tool_result(str(n)), assistant(answer)]
    if kind <= 4:
        tool, day = toolbox.weekday(d), dates.weekday(a)
        ask = d.pick(["What day of the week was {x}?", "Which weekday is {x}?", "On which day does {x} fall?", "What weekday is {x}?", "Was {x} a Monday?", "What day is {x}?",
                      "Tell me the weekday of {x}.", "Which day of the week is {x}?", "Is {x} a Sunday?"]).format(x=dates.spoken(d, a))
        return [tool], [user(ask), calls((name(tool), {keys(tool)[0]: dates.iso(a)})), tool_result(day), assistant(f"{dates.long(a)} is a {day}.")]
    tool, n = toolbox.add_days(d), d.int(2, 400)
    b = dates.shift(a, n)
    ask = d.pick(["What date is {n} days after {x}?", "Which date comes {n} days after {x}?", "Add {n} days to {x}.", "What is the date {n} days from {x}?", "{x} plus {n} days is which date?"])
    out = [user(cap(ask.format(x=dates.spoken(d, a), n=n))), calls((name(tool), {"date": dates.iso(a), "days": n})), tool_result(dates.iso(b))]
    return [tool], out + [assistant(f"{n} days after {dates.long(a)} is {dates.long(b)}.")]


def service(d):
    """One request to an everyday tool: `(tools, turns)`."""
    make, names, texts, params, asks = d.pick(SERVICES)
    values, arguments, result, answer = make(d)
    slots = {slot: d.pick(n) for slot, (n, _, _) in params.items()}
    if len(set(slots.values())) < len(slots):
        slots = {slot: n[0] for slot, (n, _, _) in params.items()}
    tool = function(d.pick(names), d.pick(texts), [(slots[s], kind, d.pick(hints)) for s, (_, kind, hints) in params.items()])
    if d.chance(0.15):
        add_optional(d, tool)
    ask = cap(d.pick(asks).format(**values))
    if d.chance(0.1):
        ask = d.pick(["Please ", "Hey, ", "Can you help? "]) + ask
    given = {slots[s]: v for s, v in arguments.items()}
    return [tool], [user(ask), calls((name(tool), given)), tool_result(result), assistant(answer)]


def add_optional(d, tool):
    """Gives a tool one more parameter that no request fills."""
    key, values = d.pick([("unit", ["celsius", "fahrenheit"]), ("priority", ["low", "high"]), ("format", ["short", "long"]), ("mode", ["fast", "exact"])])
    tool["function"]["parameters"]["properties"][key] = {"type": "string", "enum": values}


def unseen(d):
    """A request that names an invented tool and its parameters."""
    tool, params = toolbox.invented(d)
    values = {}
    for key, kind in params.items():
        values[key] = d.number(d.pick([1, 2, 3, 4])) if kind == "integer" else d.pick([d.word, d.first_name, d.city, lambda: d.pick(pools.COLORS), d.company])()
    goal = name(tool).replace("_", " ", 1).replace(" ", " the ", 1)
    said = [d.pick([f"{k} {v}", f"{k} {v}", f"{k} set to {v}", f'{k} "{v}"', f"the {k} {v}"]) for k, v in values.items()]
    with_ = said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]
    asks = [f"{goal} with {with_}.", f"please {goal}, {with_}.", f"use {name(tool)} with {with_}.", f"call {name(tool)} with {with_}.", f"I want to {goal} with {with_}.", f"can you {goal} with {with_}?"]
    status = d.pick(["ok", "done", "success"])
    return [tool], [user(cap(d.pick(asks))), calls((name(tool), values)), tool_result({"status": status}), assistant("Done.")]


def several(d):
    """Two calls in one answer: the weather of two places."""
    make, names, texts, params, _ = SERVICES[0]
    key = d.pick(params["city"][0])
    tool = function(d.pick(names), d.pick(texts), [(key, "string", "")])
    (a, _, first, one), (b, _, second, two) = make(d), make(d)
    ask = d.pick(["What is the weather in {a} and in {b}?", "Compare the weather of {a} and {b}.", "How is the weather in {a} and {b}?"]).format(a=a["city"], b=b["city"])
    out = [user(ask), calls((name(tool), {key: a["city"]}), (name(tool), {key: b["city"]})), tool_result(first), tool_result(second), assistant(f"{one} {two}")]
    return [tool], out


def distractors(d, used, most=3):
    """Other tools to list beside the ones that are needed."""
    makers = [toolbox.calculator, toolbox.current_date, toolbox.days_between, toolbox.weekday, toolbox.add_days]
    out, taken = [], {n for t in used for n in toolbox.kin(t)}
    described = {t["function"]["description"] for t in used}
    for _ in range(d.int(0, most)):
        roll = d.unit()
        if roll < 0.45:
            tool = d.pick(makers)(d)
        elif roll < 0.9:
            _, names, texts, params, _ = d.pick(SERVICES)
            tool = function(d.pick(names), d.pick(texts), [(n[0], kind, d.pick(hints)) for n, kind, hints in params.values()])
            if any(t in described for t in texts):
                continue
            described.update(texts)
        else:
            tool, _ = toolbox.invented(d)
        if name(tool) not in taken:
            out.append(tool)
            taken.update(toolbox.kin(tool))
    return out


def turns(d):
    """A short conversation that uses a tool: `(tools, turns)`."""
    roll = d.unit()
    make = calculation if roll < 0.34 else dated if roll < 0.58 else service if roll < 0.84 else unseen if roll < 0.95 else several
    tools, out = make(d)
    return toolbox.reordered(d, tools + distractors(d, tools)), out
