"""Things to do with the command line, with their slots filled: words and the exact command."""

QUANTS = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k_m", "q4_k", "q4_k_m", "q4_k_s", "q5_k", "q5_k_m", "q6_k", "iq4_nl", "iq4_xs", "f16", "bf16", "mxfp4"]
AS_JSON = [" as JSON", " and get JSON", " with JSON output"]
BENCH_OPTIONS = [
    ("-p", [512, 256, 1024, 128, 2048, 64], [" with {} prompt tokens", " with a prompt of {} tokens"]),
    ("-n", [128, 64, 256, 32, 512], [" generating {} tokens", " with {} generated tokens"]),
    ("-b", [1, 2, 4, 8, 16, 32], [" with a batch of {} sequences", " with {} sequences at once"]),
    ("-r", [1, 2, 3, 5, 10, 20], [" with {} repetitions", " repeated {} times"]),
    ("-d", [1024, 4096, 512, 8192], [" at depth {}", " at a depth of {} tokens"]),
    ("-o", ["json", "csv", "md", "table"], [" as {}", " with {} output", " and print {}"]),
]


def pieces(*parts):
    """The parts that are not empty, with one space between."""
    return " ".join(p for p in parts if p)


def model(d):
    """`(words, argument)` for a model; both empty for the default one."""
    roll = d.unit()
    if roll < 0.3:
        return "", ""
    if roll < 0.38:
        return d.pick(["the built-in model", "builtin", "the builtin model"]), "builtin"
    if roll < 0.8:
        name = d.file()
    elif roll < 0.92:
        name = f"{d.word()}/{d.word()}-{d.pick(['1b', '7b', '8b', '70b', 'chat', 'instruct'])}"
    else:
        name = d.word()
    return d.pick(["{}", "{}", "{}", "`{}`", "the model {}", "the file {}" if "." in name else "the model {}"]).format(name), name


def goal_of(d, words, with_model, without):
    """A goal that names the model, or one that leaves it to the default."""
    return d.pick(with_model).format(words) if words else d.pick(without)


def chat(d, words, name):
    """`zse chat`."""
    ways = ["chat with {}", "talk to {}", "talk with {}", "have a conversation with {}", "start a chat with {}"]
    return goal_of(d, words, ways, ["start a chat", "chat with a model", "talk to a model", "start a conversation", "chat"]), pieces("zse chat", name)


def run(d, words, name):
    """`zse run`, with sampling options."""
    prompt = d.pick(["Hello", "Hi there", "Tell me a story", f"Who is {d.first_name()}?", f"Write about {d.word()}", "What is ZSE?", f"Name a {d.word()}", "Tell me a joke"])
    on = f" with {words}" if words else ""
    goal = d.pick(['run the prompt "{}"{}', 'answer the prompt "{}"{}', 'run "{}"{} once', 'send the prompt "{}"{}']).format(prompt, on)
    extras = []
    if d.chance(0.25):
        n = d.pick([16, 32, 50, 64, 100, 128, 200, 256, 500, 512])
        goal += d.pick([f", at most {n} tokens", f" with at most {n} tokens", f" and stop after {n} tokens"])
        extras.append(f"-n {n}")
    if d.chance(0.2):
        t = d.pick(["0", "0.2", "0.5", "0.7", "0.8", "1", "1.2", "0.1", "0.9"])
        goal += d.pick([f" at temperature {t}", f" with temperature {t}", f" with a temperature of {t}"])
        extras.append(f"--temp {t}")
    if d.chance(0.2):
        s = d.int(0, 9999)
        goal += d.pick([f" with seed {s}", f" and seed {s}", f" with the seed {s}"])
        extras.append(f"--seed {s}")
    if d.chance(0.2):
        goal += d.pick([" and get JSON", " with JSON output", " and print JSON", " as JSON"])
        extras.append("--json")
    return goal, pieces("zse run", name, f'-p "{prompt}"', *extras)


def serve(d, words, name):
    """`zse serve`, with address and port."""
    ways = ["serve {}", "start a server with {}", "serve {} over HTTP", "start the server for {}"]
    goal = goal_of(d, words, ways, ["start the server", "start a server", "serve a model", "run the HTTP server", "serve models over HTTP", "start the API server"])
    extras = []
    if d.chance(0.4):
        n = d.pick([8000, 8080, 3000, 5000, 9000, 80, d.number(4), d.number(4)])
        goal += d.pick([f" on port {n}", f" at port {n}"])
        extras.append(f"--port {n}")
    if d.chance(0.25):
        h = d.pick(["0.0.0.0", "127.0.0.1", "localhost", f"192.168.{d.int(0, 9)}.{d.int(1, 250)}", f"10.0.{d.int(0, 9)}.{d.int(1, 250)}"])
        goal += d.pick([f" on host {h}", f" on the address {h}", f" listening on {h}"])
        extras.insert(0, f"--host {h}")
    return goal, pieces("zse serve", name, *extras)


def bench(d, words, name):
    """`zse bench`, with up to three options."""
    ways = ["benchmark {}", "measure the speed of {}", "bench {}", "test how fast {} is", "run a benchmark of {}"]
    goal = goal_of(d, words, ways, ["run a benchmark", "measure the speed", "benchmark my machine", "measure tokens per second", "see how fast a model is", "run the benchmark"])
    extras = []
    for option, values, said in d.some(BENCH_OPTIONS, d.pick([0, 1, 1, 2, 2, 3])):
        value = d.pick(values)
        goal += d.pick(said).format(value)
        extras.append(f"{option} {value}")
    return goal, pieces("zse bench", name, *extras)


def info(d, words, name):
    """`zse info`, at times with the program."""
    goal = d.pick(["see what is in {}", "see the details of {}", "show information about {}", "inspect {}", "see how many parameters {} has",
                   "see the architecture of {}", "see how much memory {} needs", "get info on {}"]).format(words)
    if d.chance(0.2):
        return d.pick(["print the program of {}", "see the graph of {}", "show the program graph of {}"]).format(words), f"zse info {name} --graph"
    return goal, f"zse info {name}"


def measured(d, goal, words, command, name, argument):
    """A goal about a text, with the default model or a named one, at times as JSON."""
    default = d.chance(0.4)
    goal = goal(d)
    goal += "" if default else d.pick([" with {}", " for {}"]).format(words)
    as_json = d.chance(0.25)
    goal += d.pick(AS_JSON) if as_json else ""
    return goal, pieces(command, "" if default else name, argument, "--json" if as_json else "")


def tokenize(d, words, name):
    """`zse tokenize`."""
    text = f"{d.word()} {d.word()}" if d.chance(0.5) else d.pick(["Hello world", "Hello", "one two three", "the quick fox", "Hi there"])
    ways = ['tokenize "{}"', 'see the tokens of "{}"', 'turn "{}" into tokens', 'count the tokens of "{}"', 'get the token ids of "{}"']
    return measured(d, lambda d: d.pick(ways).format(text), words, "zse tokenize", name, f'-p "{text}"')


def perplexity(d, words, name):
    """`zse perplexity`."""
    text = d.file(["txt", "txt", "md", "text"])
    ways = ["measure the perplexity on {}", "compute the perplexity of {}", "get the perplexity on the file {}"]
    return measured(d, lambda d: d.pick(ways).format(text), words, "zse perplexity", name, f"-f {text}")


def quantize(d, words, name):
    """`zse quantize`; without a name for the output, one made of source and type."""
    source, quant = d.file(), d.pick(QUANTS)
    out = d.file()
    shown = quant.upper() if d.chance(0.4) else quant
    if d.chance(0.5):
        goal = d.pick(["quantize {} to {} as {}", "quantize {} to {} and write {}", "quantize {} to {} into {}"]).format(source, shown, out)
    else:
        out = source.rsplit("/", 1)[-1].removesuffix(".gguf") + f"-{quant}.gguf"
        goal = d.pick(["quantize {} to {}", "make a {1} version of {0}", "turn {} into {}", "quantize the file {} to {}", "quantize the model {} to {}"]).format(source, shown)
    return goal, f"zse quantize {source} -o {out} --quant {quant}"


def convert(d, words, name):
    """`zse convert`, with type and target."""
    source, out = d.pick([d.file(), d.word(), f"{d.word()}/{d.word()}"]), d.file(["zse"])
    goal = d.pick(["convert {} to {}", "turn {} into {}", "convert {} into the file {}", "make {1} from {0}"]).format(source, out)
    extras = []
    if d.chance(0.35):
        quant = d.pick(QUANTS)
        goal += d.pick([f" with {quant} weights", f" quantized to {quant}", f" in {quant}"])
        extras.append(f"--quant {quant}")
    if d.chance(0.3):
        target = d.pick(["cpu", "cuda", "portable"])
        goal += {"cpu": " for the CPU", "cuda": " for CUDA", "portable": " as a portable file"}[target]
        extras.append(f"--target {target}")
    return goal, pieces(f"zse convert {source} -o {out}", *extras)


def pull(d, words, name):
    """`zse pull`."""
    ident = f"{d.word()}/{d.word()}-{d.pick(['1b', '7b', '8b', 'chat', 'instruct', 'base'])}" if d.chance(0.6) else d.word()
    return d.pick(["download {}", "download the model {}", "pull {}", "get the model {}", "fetch {}"]).format(ident), f"zse pull {ident}"


def models(d, words, name):
    """The subcommands of `zse models`."""
    ident = d.word()
    verb, ways = d.pick([
        ("search", ["search for {}", "find models named {}", "search models for {}", "look for a model called {}"]),
        ("check", ["check the stored model {}", "verify my model {}", "check that the model {} is intact"]),
        ("info", ["see the details of the stored model {}", "show what the registry knows about {}"]),
        ("rm", ["remove {}", "delete the model {}", "remove the model {}", "delete {} from my machine"]),
    ])
    return d.pick(ways).format(ident), f"zse models {verb} {ident}"


# By weight: a command stands as often as it is asked.
WITH_DEFAULT = [chat, chat, run, run, serve, serve, bench, bench]
WITH_FILE = [info, tokenize, perplexity, quantize, quantize, convert, pull, models]


def task(d):
    """`(words, command)`: one thing to do."""
    words, name = model(d)
    kind = d.int(0, 15)
    if kind < 8:
        return WITH_DEFAULT[kind](d, words, name)
    name = name or d.file()
    return WITH_FILE[kind - 8](d, words or name, name)
