"""Do the files, functions, options, events, commands and tests exist that the texts name? Speaks TAP.

usage: tests/install/names.py SOURCE-FOLDER BUILD-FOLDER
"""
import glob
import os
import re
import subprocess
import sys

SRC, BUILD = sys.argv[1:3]
TEXTS = [os.path.relpath(name, SRC) for pattern in ("README.md", "HACKING.md", "docs/*.md", "tests/README.md")
         for name in sorted(glob.glob(f"{SRC}/{pattern}"))]
# What begins with one of these is a path of ours; names of Haraka's and of other programs' files are not.
FOLDERS = {"src", "tests", "data", "docs", "po", "m4", "packaging"} | {
    os.path.basename(name) for name in glob.glob(f"{SRC}/src/*")}


def read(name):
    with open(name, encoding="utf-8", errors="replace") as file:
        return file.read()


def told(*command):
    return subprocess.run([f"{BUILD}/{command[0]}", *command[1:]], capture_output=True, text=True, check=True,
                          env={**os.environ, "LC_ALL": "C"}).stdout


def spans(text):
    """The parts in backticks, and the lines of code: one string each."""
    code = re.findall(r"^(?: {4}|\t)(\S.*)$", text, re.M)
    for fence in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.M | re.S):
        code += fence.splitlines()
        text = text.replace(fence, "")
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)] + code


class Known:
    def __init__(self):
        self.options = set()
        for line in told("tables-manual", "options").splitlines():
            if line.startswith(".It Cm "):
                self.options.update(line[len(".It Cm "):].split(" , Cm "))
        self.events = set(re.findall(r'"event=([a-z-]+)', told("tables-manual", "events")))
        self.source = "\n".join(read(name) for name in glob.glob(f"{SRC}/src/*/*.[ch]"))
        self.words = set(re.findall(r"\w+", self.source + read(f"{SRC}/Makefile.am")))
        self.makefiles = "\n".join(read(name) for pattern in ("Makefile.am", "configure.ac", "m4/*.m4", "*/*.mk", "*/*/*.mk")
                                   for name in glob.glob(f"{SRC}/{pattern}"))
        self.scenarios = "\n".join(read(name) for name in glob.glob(f"{SRC}/tests/*/*") if os.path.isfile(name))
        self.helps = {name: told("relayctl", name, "--help")
                      for name in re.findall(r"^  ([a-z-]+) ", told("relayctl", "--help"), re.M)}

    def has_option(self, path):
        path = path.replace("out.default_route.", "out.routes.")  # it has the same options, told of once
        return any(option == path or option.startswith(path + ".") or option.endswith("." + path)
                   for option in self.options)


def file_exists(path):
    """PATH may leave out src/ and the ending, and have NAME for any name."""
    path = re.sub(r"[A-Z]{2,}", "*", path) if not path.endswith(".md") else path
    return any(glob.glob(f"{SRC}/{folder}{path}{ending}") for folder in ("", "src/", "tests/")
               for ending in ("", ".[ch]", ".*", "-*"))


def command_faults(known, span):
    match = re.match(r"(?:.*\brelayctl )?([a-z-]+)\b(.*)", span)
    if match is None or ("relayctl " not in span and match.group(1) not in known.helps):
        return
    name, rest = match.groups()
    if name not in known.helps:
        yield f"relayctl has no command {name}"
        return
    for option in re.findall(r"(?<!\S)(--[a-z-]+)", re.split(r"\||&&", rest)[0]):
        if option != "--help" and option not in known.helps[name]:
            yield f"relayctl {name} has no {option}"


def span_faults(known, span, of_code):
    """What a span names that does not exist. `of_code`: the text is about our code only."""
    for event in re.findall(r"\bevent=([a-z-]+)", span):
        if event not in known.events:
            yield f"no event {event}"
    for option in re.findall(r"^((?:in|out|tls|dns|log|limits|timeouts)(?:\.[a-z_0-9]+)+)(?= |$)", span):
        if not re.search(r"\.(ini|sh)$", option) and not known.has_option(option):
            yield f"no option {option}"
    yield from command_faults(known, span)
    for path in re.findall(r"(?<![\w/.~-])(?!data/conf/)([a-z0-9-]+(?:/[\w.-]+)+)(?![\w/])", span):
        if path.split("/")[0] in FOLDERS and not path.endswith(".log") and not file_exists(path):
            yield f"no file {path}"
    if re.fullmatch(r"[a-z-]+\.(c|h|py|sh)", span) and not glob.glob(f"{SRC}/*/*/{span}"):
        yield f"no file {span}"
    for unit in re.findall(r"(?<![\w/])((?:relay|postern)-[a-z-]+\.(?:service|timer|socket))\b", span):
        if not glob.glob(f"{SRC}/data/units/{unit}*"):
            yield f"no unit {unit}"
    for target in re.findall(r"\bmake ([a-z]+-[a-z-]+|rpm|deb|bench)\b", span):
        if not re.search(rf"^(?:\w[\w-]* )*{target}(?: [\w -]*)?:", known.makefiles, re.M):
            yield f"no target {target}"
    for feature in re.findall(r"--enable-([a-z-]+)", span):
        if "./configure " in span and f"AC_ARG_ENABLE([{feature}]" not in known.makefiles:
            yield f"no --enable-{feature}"
    if of_code:
        match = re.fullmatch(r"([a-z]+(?:_[a-z0-9]+)+)(?:\(\))?", span)
        if match and match.group(1) not in known.words:
            yield f"nothing in src has the name {match.group(1)}"
        match = re.fullmatch(r"[A-Z]+_[A-Z_]*", span)
        if match and not re.search(rf"\b{span}", known.source):
            yield f"nothing in src has the name {span}"


def test_faults(known, text):
    """Tests that are named outside of code: test-gate, fault/spool-crash, peers/run "xclient"."""
    for name in re.findall(r"(?<![\w/-])(?:unit/)?(test-[a-z][a-z-]*[a-z])\b", text):
        if not os.path.exists(f"{SRC}/tests/unit/{name}.c"):
            yield f"no tests/unit/{name}.c"
    for folder, name in re.findall(r"(?<![\w/.-])(fault|peers|fuzz|model|bench|install|e2e)/([a-z][\w.-]*\w)", text):
        if not file_exists(f"{folder}/{name}") and not glob.glob(f"{SRC}/tests/fuzz/fuzz-{name}*"):
            yield f"no tests/{folder}/{name}"
    for row in re.findall(r"^\|.*\b(?:peers|unit)/.*$", text, re.M):
        for scenario in re.findall(r'"([^"]+)"', row.split("|")[-2]):
            for word in scenario.split(" ... "):
                if word.rstrip(" .") not in known.scenarios:
                    yield f'no test has "{word}" in its name'


def link_faults(name, text):
    def anchors(target):
        return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-")
                for head in re.findall(r"^#+ (.*)$", read(target), re.M)}
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = os.path.normpath(os.path.join(SRC, os.path.dirname(name), path)) if path else f"{SRC}/{name}"
        if "://" in link:
            continue
        if not os.path.exists(target):
            yield f"no file {link}"
        elif anchor and anchor not in anchors(target):
            yield f"no heading {link}"


def help_faults(known):
    """Options of relayctl's tables that --help does not tell, and those of --help that relayctl(8) does not."""
    manual = read(f"{SRC}/data/man/relayctl.8").split(".Sh DESCRIPTION")[1]
    starts = {name: manual.find(f".It Cm {name}") for name in known.helps}
    for name, text in known.helps.items():
        ends = [start for start in starts.values() if start > starts[name]] + [manual.find(".Sh FILES")]
        section = manual[starts[name]:min(ends)]
        if starts[name] < 0:
            yield f"relayctl(8) has no {name}"
        for option in re.findall(r"^ +(?:-\w, )?--([a-z0-9-]+)", text, re.M):
            if not re.search(rf" -{option}\b", section if option not in ("config", "json") else manual):
                yield f"relayctl(8) has no --{option} of {name}"
        for source in glob.glob(f"{SRC}/src/relayctl/{name.split('-')[0]}*.c"):
            for table in re.findall(r"struct subcommand_option \w+\[[^]]*\] = \{(.*?)\};", read(source), re.S):
                for option in re.findall(r'\{"([a-z0-9-]+)"', table):
                    if f"--{option}" not in text:
                        yield f"relayctl {name} --help has no --{option}"


def main():
    known, results = Known(), []
    for name in TEXTS:
        text = read(f"{SRC}/{name}")
        faults = {fault for span in spans(text) for fault in span_faults(known, span, name == "HACKING.md")}
        results.append((f"what {name} names is there", faults | {*test_faults(known, text), *link_faults(name, text)}))
    results.append(("--help and relayctl(8) tell of every option", set(help_faults(known))))
    print(f"1..{len(results)}")
    for number, (name, faults) in enumerate(results, 1):
        print(f"{'not ok' if faults else 'ok'} {number} - names: {name}")
        for fault in sorted(faults):
            print("#", fault)
    return any(faults for _, faults in results)


if __name__ == "__main__":
    sys.exit(main())
