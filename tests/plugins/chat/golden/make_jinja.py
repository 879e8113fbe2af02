"""Makes the golden file of Jinja templates by transformers; for developers.

    python tests/plugins/chat/golden/make_jinja.py

It needs transformers (without torch) and pytest's environment not at all: nothing of Corral's.
What is done to messages here stands for what llama.cpp does to them; see `corral_chat/adapting.py`.
"""

import datetime as dt
import json
import os
import sys
import time
from pathlib import Path

os.environ["TZ"] = "UTC"
time.tzset()

import jinja2.sandbox  # noqa: E402 - the zone comes first
from tokenizers import Tokenizer, models  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402
from transformers.utils import chat_template_utils  # noqa: E402

HERE = Path(__file__).parent
NOW = dt.datetime(2024, 7, 3, 9, 46, 40)  # noqa: DTZ001 - as the templates' own clock has it

JSON_ARGUMENTS = {"meetkai-functionary-medium-v3.2"}
NO_SYSTEM = {
    "google-gemma-2-2b-it",
    "plain-OrionStarAI-Orion-14B-Chat",
    "plain-Phi-3-medium",
    "plain-Phi-3-mini",
    "plain-google-gemma-7b-it",
    "plain-mistralai-Mistral-7B-Instruct-v0.2",
    "plain-yandex-YandexGPT-5-Lite-8B-instruct",
}
TEXT_OR_THOUGHT = {"openai-gpt-oss-120b"}
THOUGHTS_AS_PARTS = {"mistralai-Ministral-3-14B-Reasoning-2512"}
TRIMMED = {"StepFun3.5-Flash"}
RESULTS_IN_CALLS = {"google-gemma-4-31B-it-interleaved"}
KNOWS_DEVELOPER = {"openai-gpt-oss-120b"}

NO_TOOLS_IS_AN_EMPTY_LIST = {
    "CohereForAI-c4ai-command-r-plus-tool_use",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
}

# What llama.cpp renders and transformers does not: lists that a template writes may grow, and what
# `map` gives can be dumped.
LISTS_GROW = {"Kimi-K2-Instruct", "Kimi-K2-Thinking"}
PATCHES = {"llama-cpp-deepseek-r1": ("| tojson(indent=2)", "| list | tojson(indent=2)")}


TURNS = [
    {"role": "user", "content": "U"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": ""},
]


class Clock(dt.datetime):
    @classmethod
    def now(cls, tz=None):
        del tz
        return NOW


def messages_of(name: str, given: list[dict]) -> list[dict]:
    shown = [fields(name, message) for message in given]
    if name in NO_SYSTEM and shown[0]["role"] == "system":
        system, user, *others = shown
        shown = [{**user, "content": f"{system['content']}\n{user['content']}"}, *others]
    return results_in_calls(shown) if name in RESULTS_IN_CALLS else shown


def fields(name: str, message: dict) -> dict:
    role, thought = message["role"], message.get("thinking", "")
    if role == "developer" and name not in KNOWS_DEVELOPER:
        role = "system"
    shown = {"role": role, "content": message.get("content", "")}
    if name in TRIMMED:
        shown["content"] = shown["content"].strip()
    if name in THOUGHTS_AS_PARTS and role in ("system", "assistant"):
        parts = [{"type": "thinking", "thinking": thought}] if thought else []
        shown["content"] = [*parts, {"type": "text", "text": shown["content"]}]
    elif thought:
        shown["reasoning_content"] = thought
    if "tool_name" in message:
        shown |= {"name": message["tool_name"], "tool_call_id": message["tool_call_id"]}
    if "tool_calls" in message:
        shown["tool_calls"] = [call_fields(name, call) for call in message["tool_calls"]]
        if name in TEXT_OR_THOUGHT and thought:
            del shown["content"]
    return shown


def call_fields(name: str, call: dict) -> dict:
    arguments = call["function"]["arguments"]
    if name in JSON_ARGUMENTS:
        arguments = json.dumps(arguments, ensure_ascii=False)
    function = {"name": call["function"]["name"], "arguments": arguments}
    return {"type": "function", "function": function, "id": call["id"]}


def results_in_calls(shown: list[dict]) -> list[dict]:
    found: list[dict] = []
    for message in shown:
        caller = found[-1] if found and "tool_calls" in found[-1] else None
        if caller is not None and message["role"] == "tool":
            results = caller.setdefault("tool_responses", [])
            try:
                response = json.loads(message["content"])
            except ValueError:
                response = message["content"]
            results.append({"name": message["name"], "response": response})
        elif caller is not None and message["role"] == "assistant" and "tool_calls" not in message:
            caller["content"] = message["content"]
            found.append({"role": "end"})
        else:
            found.append(
                {k: v for k, v in message.items() if k != "content" or "tool_calls" not in message}
            )
    return [message for message in found if message["role"] != "end"]


def given_beside(source: str, conversation: dict, tools: list[dict] | None) -> dict:
    given = {"date_string": NOW.strftime("%d %b %Y"), "datetime": NOW.strftime("%b %d %Y")}
    think = conversation.get("think")
    if think is not None:
        given |= {"enable_thinking": bool(think), "thinking": bool(think)}
    if isinstance(think, str):
        given |= {"reasoning_effort": think, "reasoning_strength": think}
    if think is False:
        given |= {"reasoning": False, "thinking_mode": "disabled"}
    if "functools[" in source:
        given["functions"] = json.dumps(tools, indent=2, ensure_ascii=False) if tools else ""
    return given


def rendered(name: str, source: str, conversation: dict, tools: dict[str, dict]) -> dict[str, str]:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")),
        bos_token="<s>",
        eos_token="</s>",
    )
    absent = [] if name in NO_TOOLS_IS_AN_EMPTY_LIST else None
    named = [tools[tool] for tool in conversation.get("tools", ())] or absent
    more = given_beside(source, conversation, named)
    messages = messages_of(name, conversation["messages"])

    def apply(shown: list[dict], **how: bool) -> str:
        return tokenizer.apply_chat_template(
            shown, tools=named, chat_template=source, tokenize=False, **how, **more
        )

    last = conversation["messages"][-1]
    try:
        if last["role"] != "assistant" or "tool_calls" in last:
            return {"text": apply(messages, add_generation_prompt=True)}
        try:
            return {"text": apply(messages, continue_final_message=True)}
        except (ValueError, jinja2.TemplateError):  # it does not show it
            asked = apply(messages[:-1], add_generation_prompt=True)
            return {"text": asked, "then": last["content"]}
    except jinja2.TemplateError as error:
        return {"error": str(error)}
    except (TypeError, ValueError, LookupError, RecursionError) as error:
        return {"error": type(error).__name__}


def main() -> None:
    chat_template_utils.datetime = Clock
    conversations = json.loads((HERE.parent / "jinja" / "conversations.json").read_text("utf-8"))
    tools = json.loads((HERE.parent / "jinja" / "tools.json").read_text("utf-8"))
    lines: dict[str, int] = {}
    cases: dict[str, dict[str, object]] = {}
    for path in sorted((HERE.parent / "jinja").glob("*.jinja")):
        name, source = path.stem, path.read_text("utf-8")
        if name in PATCHES:
            source = source.replace(*PATCHES[name])
        immutable = jinja2.sandbox.ImmutableSandboxedEnvironment
        if name in LISTS_GROW:
            chat_template_utils.ImmutableSandboxedEnvironment = jinja2.sandbox.SandboxedEnvironment
        cases[name] = {}
        for key, conversation in conversations.items():
            found = rendered(name, source, conversation, tools)
            if "text" in found:
                parts = found["text"].split("\n")
                found["text"] = [lines.setdefault(line, len(lines)) for line in parts]
            cases[name][key] = found
        chat_template_utils.ImmutableSandboxedEnvironment = immutable
    write({"lines": list(lines), "cases": cases})
    idioms = (HERE.parent / "jinja" / "idioms.txt").read_text("utf-8").splitlines()
    shown = {line: idiom(line.replace("⏎", "\n")) for line in idioms}
    text = json.dumps(shown, ensure_ascii=False, indent=1)
    (HERE / "jinja-idioms.json").write_text(text + "\n", "utf-8")


def idiom(source: str) -> dict[str, str]:
    """Render three turns; nothing else is given but the tokens."""
    try:
        text, _ = chat_template_utils.render_jinja_template(
            [TURNS],
            chat_template=source,
            add_generation_prompt=True,
            bos_token="<s>",
            eos_token="</s>",
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, there is one
        return {"error": type(error).__name__, "words": str(error)}
    return {"text": text[0]}


def write(found: dict[str, object]) -> None:
    """Write a line for each text, and one for each case."""
    text = json.dumps(found["lines"], ensure_ascii=False, indent=0)
    cases = ",\n".join(
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(
            f"{json.dumps(key)}: {json.dumps(case, ensure_ascii=False, separators=(',', ':'))}"
            for key, case in ones.items()
        )
        + "\n}"
        for name, ones in found["cases"].items()
    )
    (HERE / "jinja.json").write_text(f'{{"lines": {text},\n"cases": {{\n{cases}\n}}}}\n', "utf-8")


if __name__ == "__main__":
    sys.exit(main())
