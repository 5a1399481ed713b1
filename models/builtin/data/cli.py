"""Questions about ZSE's commands and options, with exact answers.

Most are composed: a task with its slots (`zse quantize FILE -o ...`) and up
to three options on top (threads, context, device, ...), each with several
ways to say it, so that the model learns how command lines are put together.
"""

from ..chat import assistant, user
from .cli_facts import COMMANDS, CONTROLS, GOALS, NEEDS, OPTIONS, QUESTIONS, SLASH
from .cli_tasks import pieces, task
from .draw import cap, hasty, join

HOW = [
    "How do I {x}?", "How do I {x}?", "How can I {x}?", "How do you {x}?", "How would I {x}?", "How to {x}?", "I want to {x}.",
    "I'd like to {x}.", "I need to {x}.", "What is the command to {x}?", "What's the command to {x}?", "Which command do I use to {x}?",
    "What do I type to {x}?", "Show me how to {x}.", "Tell me how to {x}.", "What command lets me {x}?", "Is there a command to {x}?",
    "Can I {x}?", "Give me the command to {x}.", "Which command would {x}?", "How should I {x}?", "What must I type to {x}?",
    "Can you tell me how to {x}?", "Please show me how to {x}.", "With which command can I {x}?", "Could you show me how to {x}?",
    "I am trying to {x}. What is the command?", "I want to {x}, what do I type?", "What would I run to {x}?", "How does one {x}?", "how to {x}", "I'd like to {x}, which command does that?", "Which zse command does this: {x}?", "Is there a way to {x}?", "Is there any way to {x}?", "Help me {x}.", "I want to {x}, how?", "Do you know how to {x}?",
    "Which command should I use to {x}?", "What would be the command to {x}?", "Tell me the command to {x}.", "My goal is to {x}.",
]
WHAT = [
    "What does {c} do?", "What does {c} do?", "What is {c} for?", "Explain {c}.", "What is {c}?", "What can I do with {c}?", "Tell me about {c}.",
    "What does the command {c} do?", "What is the use of {c}?", "What is the purpose of {c}?", "Describe {c}.",
    "When do I use {c}?", "What's {c}?", "What happens when I type {c}?", "Can you explain {c}?", "What is the {c} command for?",
    "What does the {c} command do?", "Why would I use {c}?", "Please explain {c} to me.", "Explain {c} to me.", "Explain the {c} command.", "Explain the {c} command to me.", "what's {c}", "Describe the command {c}.", "I don't understand {c}.", "What good is {c}?", "Tell me what {c} does.", "Do you know what {c} does?", "I saw {c}. What does it do?",
]
WHAT_OPTION = [
    "What does {o} do{c}?", "What does {o} do{c}?", "What is {o}{c}?", "What is {o} for{c}?", "Explain {o}{c}.", "What does the option {o} do{c}?",
    "What does the {o} option mean{c}?", "What is the meaning of {o}{c}?", "What does {o} mean{c}?", "Tell me about {o}{c}.",
    "What's {o} for{c}?", "Can you explain {o}{c}?", "What does the flag {o} do{c}?", "what's {o}{c}", "Explain the option {o}{c}.", "Tell me what {o} does{c}.", "Describe {o}{c}.", "Do you know what {o} does{c}?", "Why would I use {o}{c}?", "What is the {o} flag for{c}?",
]
IN = [" in {c}", " in {c}", " with {c}", " for {c}", " of {c}", " in the {c} command", " when I use {c}"]
KV_TYPES = ["f32", "f16", "bf16", "q8_0", "q4_0", "fp8"]
LEADS = ["", "", "", "", "", "", "Hi, ", "Hello, ", "Hey, ", "Okay, ", "So ", "One question: ", "In ZSE, ", "With zse, "]


def quoted(d, name):
    """A command's name as people write it."""
    full = f"zse {name}"
    return d.pick([full, full, f"`{full}`", full, name if " " not in name else full, f'"{full}"'])


def modifiers(d, most=3):
    """`(words, options)`: some global options, in the order asked."""
    made = []
    for kind in d.some(range(5), d.pick([0, 0, 1, 1, 1, 2, 2, most])):
        if kind == 0:
            n = d.pick([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64])
            made.append((d.pick([f"with {n} threads", f"on {n} threads", f"using {n} threads"]) if n > 1 else "with one thread", f"--threads {n}"))
        elif kind == 1:
            n = d.pick([512, 1024, 2048, 4096, 8192, 16384, 32768, 131072, 1000, 3000, 20000, d.number(4)])
            made.append((d.pick([f"with a context of {n} tokens", f"with a context of {n}", f"with a context size of {n}", f"with {n} tokens of context"]), f"--ctx {n}"))
        elif kind == 2:
            roll = d.unit()
            if roll < 0.35:
                made.append((d.pick(["on the CPU", "only on the CPU", "on CPU"]), "--device cpu"))
            elif roll < 0.6:
                made.append((d.pick(["on the GPU", "on CUDA", "with CUDA", "on my GPU"]), "--device cuda"))
            elif roll < 0.85:
                n = d.int(0, 7)
                made.append((d.pick([f"on GPU {n}", f"on GPU number {n}", f"using GPU {n}"]), f"--device cuda:{n}"))
            else:
                a, b = sorted(d.some(range(8), 2))
                made.append((d.pick([f"on GPUs {a} and {b}", f"using the GPUs {a} and {b}"]), f"--device cuda:{a},{b}"))
        elif kind == 3:
            t = d.pick(KV_TYPES)
            made.append((d.pick([f"with a {t} KV cache", f"with the KV cache in {t}", f"with KV type {t}", f"using {t} for the KV cache"]), f"--kv-type {t}"))
        else:
            level = d.pick(["debug", "info", "warn", "error", "trace"])
            made.append((d.pick([f"with log level {level}", f"with {level} logging", f"with the log set to {level}"]), f"--log {level}"))
    return join((w for w, _ in made)), " ".join(o for _, o in made)


TAKES_GLOBALS = ("zse chat", "zse run", "zse serve", "zse bench", "zse perplexity")


def composed(d):
    """A task, perhaps with global options: `(request, answer)`."""
    goal, command = task(d)
    if command.startswith(TAKES_GLOBALS) and d.chance(0.55):
        words, options = modifiers(d)
        goal, command = pieces(goal, words), pieces(command, options)
    return d.pick(HOW).format(x=goal), f"Use `{command}`."


def explained(d):
    """What a command or an option does."""
    roll = d.unit()
    if roll < 0.45:
        name = d.pick(list(COMMANDS))
        return d.pick(WHAT).format(c=quoted(d, name)), COMMANDS[name]
    if roll < 0.9:
        option, command, answer = d.pick(OPTIONS)
        where = d.pick(IN).format(c=quoted(d, command)) if command else d.pick(["", "", "", " in zse"])
        if command and d.chance(0.2):
            return d.pick([f"What does zse {command} {option} do?", f"What is {option} in `zse {command}`?", f"In zse {command}, what does {option} do?",
                           f"In `zse {command}`, what is {option} for?"]), answer
        return d.pick(WHAT_OPTION).format(o=d.pick([option, option, f"`{option}`"]), c=where), answer
    slash, answer, _ = d.pick(SLASH)
    return d.pick(WHAT_OPTION[:6] + ["What does {o} do in the chat?", "What is {o} in zse chat?"]).format(o=d.pick([slash, f"`{slash}`"]), c=""), answer


def wanted(d):
    """Needs that have one fixed answer."""
    roll = d.unit()
    if roll < 0.55:
        command, ways = d.pick(NEEDS)
        return d.pick(HOW).format(x=d.pick(ways)), f"Use `{command}`."
    if roll < 0.7:
        slash, _, ways = d.pick(SLASH)
        return d.pick(HOW).format(x=d.pick(ways)), f"Type `{slash}` in the chat."
    if roll < 0.85:
        if d.chance(0.35):
            return controlled(d)
        option, command, ways = d.pick(GOALS)
        asks = ["Which option lets me {x}{c}?", "Which option do I use to {x}{c}?", "What option is there to {x}{c}?", "With which option can I {x}{c}?", "I want to {x}{c}. Which option?", "I want to {x}{c}. Which flag is that?", "What do I add to {x}{c}?", "How do I {x}{c}? Which option?",
                "Is there an option to {x}{c}?", "Which flag do I need to {x}{c}?"]
        if not command:
            asks += ["How do I {x}?", "How can I {x}?", "I want to {x}."]
        where = f" in zse {command}" if command and d.chance(0.4) else ""
        return d.pick(asks).format(x=d.pick(ways), c=where), f"Use the option `{option}`" + (f" of `zse {command}`." if command else ".")
    answer, ways = d.pick(QUESTIONS)
    return d.pick(ways), answer


def controlled(d):
    """Which option controls a thing."""
    option, command, nouns = d.pick(CONTROLS)
    asks = ["What flag changes {t}?", "Which option sets {t}?", "What option controls {t}?", "Which flag sets {t}?", "What is the option for {t}?", "Which option is for {t}?", "Which option changes {t}?", "Where do I set {t}?", "What controls {t}?"]
    return d.pick(asks).format(t=d.pick(nouns)), f"Use the option `{option}`" + (f" of `zse {command}`." if command else ".")


def fact(d):
    """One of QUESTIONS, so that every one of them is seen often."""
    answer, ways = d.pick(QUESTIONS)
    return d.pick(ways), answer


def pair(d):
    """One question with its answer."""
    roll = d.unit()
    make = composed if roll < 0.45 else explained if roll < 0.66 else wanted if roll < 0.94 else fact
    ask, answer = make(d)
    if make is not composed:
        ask = hasty(d, ask)
    lead = d.pick(LEADS)
    if lead:
        keep = ask.startswith(("I ", "I'd", "ZSE")) or (lead == "One question: ")
        ask = lead + (ask if keep else ask[0].lower() + ask[1:])
    elif d.chance(0.1):
        ask = ask[0].lower() + ask[1:]
    if d.chance(0.06):
        ask = ask.rstrip("?.")
    return ask, answer


def follow_up(d):
    """Two turns: a task, then the same task with options added."""
    goal, command = task(d)
    while not command.startswith(TAKES_GLOBALS):
        goal, command = task(d)
    words, options = modifiers(d)
    while not options:
        words, options = modifiers(d)
    ask = d.pick(["And {}?", "And {}?", "And how {}?", "Now {}.", "The same {}, please.", "How about {}?", "And if I want it {}?", "What about {}?"])
    return [user(d.pick(HOW).format(x=goal)), assistant(f"Use `{command}`."), user(ask.format(words)), assistant(f"Use `{command} {options}`.")]


def turns(d):
    """A short conversation about the command line."""
    if d.chance(0.12):
        return follow_up(d)
    ask, answer = pair(d)
    return [user(cap(ask) if d.chance(0.7) else ask), assistant(answer)]
