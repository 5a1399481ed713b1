"""Tool definitions in OpenAI's form, with names and wording that vary."""

from .draw import cap


def function(name, description, params, required=None):
    """A tool definition; `params` is a list of `(name, type, description)`."""
    properties = {}
    for key, kind, text in params:
        properties[key] = {"type": kind, "description": text} if text else {"type": kind}
    schema = {"type": "object", "properties": properties, "required": required if required is not None else [p[0] for p in params]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


# The date tools go by several names; tools of one family are never listed together.
FAMILIES = [
    ["current_date", "get_current_date", "today"],
    ["days_between", "date_difference", "count_days"],
    ["weekday", "day_of_week", "get_weekday"],
    ["add_days", "shift_date", "date_add"],
]


def kin(tool):
    """The names under which a tool's purpose may go."""
    return next((f for f in FAMILIES if name(tool) in f), [name(tool)])


def calculator(d):
    """The calculator, under its usual name."""
    text = d.pick(["Evaluate an arithmetic expression.", "Compute the value of an arithmetic expression.", "A calculator.", "Does arithmetic."])
    hint = d.pick(["The expression to evaluate, e.g. 2 + 3", "An arithmetic expression", "The expression", ""])
    return function("calculator", text, [("expression", "string", hint)])


def current_date(d):
    """Today's date."""
    called = d.pick(FAMILIES[0])
    return function(called, d.pick(["Get the current date.", "Returns today's date.", "The date of today."]), [])


def days_between(d):
    """Number of days from one date to another."""
    keys = d.pick([("start", "end"), ("start", "end"), ("start_date", "end_date"), ("from_date", "to_date"), ("date1", "date2")])
    texts = d.pick([("First date, YYYY-MM-DD", "Second date, YYYY-MM-DD"), ("YYYY-MM-DD", "YYYY-MM-DD"), ("", "")])
    called = d.pick(FAMILIES[1])
    params = [(k, "string", t) for k, t in zip(keys, texts)]
    return function(called, d.pick(["Count the days between two dates.", "Number of days from one date to another."]), params)


def weekday(d):
    """Day of the week of a date."""
    called = d.pick(FAMILIES[2])
    text = d.pick(["Get the day of the week of a date.", "Tells on which weekday a date falls."])
    return function(called, text, [(d.pick(["date", "date", "day"]), "string", d.pick(["A date, YYYY-MM-DD", "YYYY-MM-DD", ""]))])


def add_days(d):
    """A date some days later."""
    called = d.pick(FAMILIES[3])
    params = [("date", "string", d.pick(["A date, YYYY-MM-DD", "YYYY-MM-DD", ""])), ("days", "integer", d.pick(["Number of days to add", ""]))]
    return function(called, d.pick(["Add a number of days to a date.", "Returns the date some days after a date."]), params)


def keys(tool):
    """Names of a tool's parameters, in order."""
    return list(tool["function"]["parameters"]["properties"])


def name(tool):
    """A tool's name."""
    return tool["function"]["name"]


def reordered(d, tools):
    """The tools in random order, at times with sorted keys as some servers send them."""
    tools = d.shuffled(tools)
    return [sort_keys(t) for t in tools] if d.chance(0.2) else tools


def sort_keys(value):
    """The same JSON value with every object's keys sorted."""
    if isinstance(value, dict):
        return {k: sort_keys(value[k]) for k in sorted(value)}
    return [sort_keys(v) for v in value] if isinstance(value, list) else value


def invented(d):
    """A tool that nobody has seen: `(tool, {param: type})`."""
    verb = d.pick(["get", "set", "find", "send", "create", "update", "check", "list", "start", "stop", "open", "close", "book", "order", "lookup"])
    noun = d.word() if d.chance(0.6) else d.pick(["lamp", "door", "ticket", "report", "room", "alarm", "order", "user", "invoice", "photo", "route", "sensor"])
    params = {}
    for _ in range(d.int(1, 3)):
        key = d.word() if d.chance(0.4) else d.pick(["id", "name", "color", "level", "amount", "size", "place", "target", "mode", "label", "count", "code"])
        params[key] = d.pick(["string", "string", "integer"])
    text = cap(f"{verb} the {noun}.") if d.chance(0.6) else cap(f"{verb}s a {noun}.")
    tool = function(f"{verb}_{noun}", text, [(k, t, d.pick(["", f"The {k}"])) for k, t in params.items()])
    return tool, params
