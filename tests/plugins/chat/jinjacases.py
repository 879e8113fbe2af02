"""Jinja templates of well-known families and conversations, for tests and benchmarks."""

import json
from pathlib import Path

HERE = Path(__file__).parent
TEMPLATES = {
    path.stem: path.read_text("utf-8") for path in sorted((HERE / "jinja").glob("*.jinja"))
}
TOOLS = json.loads((HERE / "jinja" / "tools.json").read_text("utf-8"))
CONVERSATIONS = {
    name: {**given, "tools": [TOOLS[tool] for tool in given.get("tools", ())]}
    for name, given in json.loads(
        (HERE / "jinja" / "conversations.json").read_text("utf-8")
    ).items()
}
