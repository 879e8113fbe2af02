"""Compares random templates with Go's own text/template; for developers, as `make_go.py`.

python tests/plugins/chat/golden/compare_go.py 20000 1   # how many, and a seed
"""

import random
import re
import sys
from pathlib import Path

import msgspec

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from gocases import CONVERSATIONS, TEMPLATES  # noqa: E402 - found by the line above
from make_go import made  # noqa: E402 - likewise

from corral_chat.renderers import GoRenderer  # noqa: E402 - likewise
from corral_kernel.contracts import Conversation  # noqa: E402 - likewise
from corral_kernel.errors import TemplateError  # noqa: E402 - likewise

ADDRESS = re.compile(r"[0-9a-f]{11}|templateMessage=&")  # of a pointer, another one each time
_VALUES = """. $ $x $i $m .System .Messages .Tools .Response .Nope .Nope.Foo .Role .Content
.ToolCalls .Thinking
.Function .Function.Name .Function.Arguments $.System $.Messages $.Tools $m.Role $x.Foo
1 0 -1 2 3.5 1e6 'a' "" "a" "%s" "%d|%v" "ä<\\n" `raw` true false nil
(index .Messages 0).Content (index $.Messages 1) (len .Messages)"""
_FUNCTIONS = """and or not eq ne lt le gt ge len index slice print printf println html js urlquery
json currentDate toTypeScriptType call"""
VALUES, FUNCTIONS = _VALUES.split(), _FUNCTIONS.split()
VERBS = [
    "%v",
    "%+v",
    "%d",
    "%s",
    "%q",
    "%x",
    "%5v",
    "%-6s|",
    "%05d",
    "%t",
    "%T",
    "%8.3f",
    "%c",
    "%%",
]


class Writer:
    """Writes random templates."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def template(self) -> str:
        return "".join(self._node(3) for _ in range(self._random.randint(1, 4)))

    def mutated(self) -> str:
        """Change a few characters of a real template."""
        text = self._random.choice(list(TEMPLATES.values()))
        for _ in range(self._random.randint(1, 3)):
            at = self._random.randrange(len(text))
            extra = self._random.choice(
                ["", "{{", "}}", "-", " ", "\n", "(", ")", "|", '"', "$", ".", "1"]
            )
            text = text[:at] + extra + text[at + self._random.randint(0, 3) :]
        return text

    def _node(self, depth: int) -> str:
        left, right = self._delimiters()
        choice = self._random.random()
        if depth == 0 or choice < 0.45:
            return f"{self._text()}{left}{self._pipe(2)}{right}{self._text()}"
        body = "".join(self._node(depth - 1) for _ in range(self._random.randint(0, 2)))
        rest = f"{left}else{right}{self._node(depth - 1)}" if self._random.random() < 0.4 else ""
        if choice < 0.6:
            return f"{left}if {self._pipe(2)}{right}{body}{rest}{left}end{right}"
        if choice < 0.7:
            return f"{left}with {self._pipe(1)}{right}{body}{rest}{left}end{right}"
        if choice < 0.8:
            return f"{left}$x := {self._pipe(1)}{right}{body}{left}$x = {self._pipe(1)}{right}"
        names = self._random.choice(["", "$m := ", "$i, $m := "])
        what = self._random.choice(
            [".Messages", ".Messages", ".Tools", "$.Messages", "3", self._pipe(1)]
        )
        jump = self._random.choice(["", "", f"{left}break{right}", f"{left}continue{right}"])
        return f"{left}range {names}{what}{right}{body}{jump}{rest}{left}end{right}"

    def _delimiters(self) -> tuple[str, str]:
        return self._random.choice(["{{", "{{ ", "{{- "]), self._random.choice(
            ["}}", " }}", " -}}"]
        )

    def _text(self) -> str:
        return self._random.choice(["", "a", " b ", "\n", " \n\t", "ü", "}", "{"])

    def _pipe(self, depth: int) -> str:
        count = 2 if self._random.random() < 0.15 else 1
        return " | ".join(self._command(depth) for _ in range(count))

    def _command(self, depth: int) -> str:
        if depth == 0 or self._random.random() < 0.3:
            return self._random.choice(VALUES)
        name = self._random.choice(FUNCTIONS)
        count = {"not": 1, "len": 1, "json": 1}.get(name, self._random.randint(1, 3))
        operands = [self._operand(depth) for _ in range(count)]
        if name == "printf":
            form = "".join(self._random.choice(VERBS) for _ in range(self._random.randint(1, 3)))
            operands.insert(0, f'"{form}"')
        return " ".join([name, *operands])

    def _operand(self, depth: int) -> str:
        if self._random.random() < 0.6:
            return self._random.choice(VALUES)
        return f"({self._pipe(depth - 1)})"


def ours(source: str, given: Conversation) -> dict[str, str]:
    try:
        return {"text": GoRenderer().render(source, given)[0].text}
    except TemplateError as error:
        return {"text": "", "error": str(error)}


def main(count: int, seed: int) -> None:
    writer = Writer(seed)
    sources = [writer.mutated() if i % 4 == 0 else writer.template() for i in range(count)]
    names = ["turns", "calls", "tools", "empty"]
    pairs = [(i, i % len(names)) for i in range(count)]
    results = made(sources, [CONVERSATIONS[name] for name in names], pairs)
    given = [
        msgspec.convert({**CONVERSATIONS[name], "now": 1_720_000_000.0}, Conversation)
        for name in names
    ]
    texts = differences = 0
    for (place, number), expected in zip(pairs, results, strict=True):
        got = ours(sources[place], given[number])
        if ADDRESS.search(str(expected)):
            continue
        texts += "error" not in expected
        if got != expected:
            differences += 1
            sys.stdout.write(
                f"{sources[place]!r} of {names[number]}\n  Go   {expected}\n  ours {got}\n"
            )
    sys.stdout.write(f"{count} templates, {texts} of them gave text; {differences} differ\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
