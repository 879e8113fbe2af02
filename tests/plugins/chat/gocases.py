"""Templates in Go and conversations, for the tests and for making their golden files."""

import json
from pathlib import Path

HERE = Path(__file__).parent
CONVERSATIONS = json.loads((HERE / "gotemplates" / "conversations.json").read_text("utf-8"))
TEMPLATES = {
    path.stem: path.read_text("utf-8") for path in sorted((HERE / "templates").glob("*.gotmpl"))
}
EXPRESSIONS = [
    line.replace("⏎", "\n")
    for line in (HERE / "gotemplates" / "expressions.txt").read_text("utf-8").splitlines()
]
