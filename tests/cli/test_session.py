import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DEADLINE_S = 60
PROMPT = ">>> Send a message"
INFO: dict[str, Any] = {
    "details": {"family": "llama", "quantization_level": "Q8_0"},
    "capabilities": ["completion"],
    "model_info": {"general.architecture": "llama"},
    "parameters": "temperature                    0.7",
    "system": "Model's own.",
}
DONE = {"message": {"role": "assistant", "content": ""}, "done": True, "total_duration": 1_000}
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
CTRL_C, CTRL_D, CTRL_G, ENTER = "\x03", "\x04", "\x07", "\r"


class Terminal:
    """A command in a terminal of its own: what is typed, and what is seen."""

    def __init__(self, env: dict[str, str], *args: str) -> None:
        self._master, slave = pty.openpty()
        # `login_tty` makes it the controlling terminal, without which Ctrl+C interrupts nobody.
        start = "import os, sys; os.login_tty(0); os.execv(sys.executable, sys.argv[1:])"
        command = [sys.executable, "-m", "corral_cli", *args]
        self.process = subprocess.Popen(
            [sys.executable, "-c", start, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
        )
        os.close(slave)
        self._text = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def line(self, text: str) -> None:
        self.type(text + ENTER)

    def see(self, wanted: str) -> str:
        """Wait for a text; gives all from the last one waited for up to it."""
        deadline = time.monotonic() + DEADLINE_S
        while wanted not in (shown := ESCAPES.sub("", self._text)):
            if not select.select([self._master], [], [], max(0, deadline - time.monotonic()))[0]:
                pytest.fail(f"{wanted!r} did not come, but {shown!r}")
            self._text += self._read() or pytest.fail(f"{wanted!r} did not come, but {shown!r}")
        before, _, self._text = shown.partition(wanted)
        return before

    def end(self) -> int:
        """Wait for the command's end and give its status."""
        while self._read():
            pass
        return self.process.wait(timeout=DEADLINE_S)

    def rest(self) -> str:
        """Give what came after the last text waited for, once the command has ended."""
        while text := self._read():
            self._text += text
        return ESCAPES.sub("", self._text)

    def _read(self) -> str:
        try:
            return os.read(self._master, 65536).decode(errors="replace")
        except OSError:  # nobody has the other end any more
            return ""

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def chat(scripted: Any, answer: Any) -> Callable[..., None]:
    """Scripts a model that answers with the pieces given, or repeats what it is told."""

    def script(*pieces: str, info: dict[str, Any] = INFO, **fields: Any) -> None:
        def reply(request: Any) -> Any:
            said = request.json["messages"][-1]["content"]
            lines = [
                {"message": {"role": "assistant", "content": piece}, "done": False}
                for piece in pieces or (f"You said: {said}",)
            ]
            return answer(lines=[*lines, DONE], **fields)

        scripted.on("POST", "/api/show", answer(info))
        scripted.on("POST", "/api/generate", answer({"done": True, "done_reason": "load"}))
        scripted.on("POST", "/api/chat", reply)

    return script


@pytest.fixture
def open_terminal(corral: Any) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*args: str) -> Terminal:
        opened.append(Terminal(corral.env, "run", "m", *args))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


def test_a_conversation_is_sent_whole_each_time(
    chat: Any, open_terminal: Any, scripted: Any, corral: Any
) -> None:
    chat()
    terminal = open_terminal()
    terminal.see(PROMPT)

    terminal.line("one")
    terminal.see("You said: one")
    terminal.see(PROMPT)
    terminal.line("two")
    terminal.see("You said: two")
    terminal.see(PROMPT)
    terminal.type(CTRL_D)

    assert terminal.end() == 0
    assert scripted.bodies("/api/generate") == [{"model": "m", "stream": False}]
    assert scripted.bodies("/api/chat")[1] == {
        "model": "m",
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "You said: one"},
            {"role": "user", "content": "two"},
        ],
    }
    history = Path(corral.env["CORRAL_HOME"], "history")
    assert [json.loads(line) for line in history.read_text().splitlines()] == ["one", "two"]
    assert history.stat().st_mode & 0o077 == 0


def test_no_history_is_kept_where_that_is_asked_for(
    chat: Any, open_terminal: Any, corral: Any
) -> None:
    corral.env["OLLAMA_NOHISTORY"] = "1"
    chat()
    terminal = open_terminal()
    terminal.see(PROMPT)
    terminal.line("secret")
    terminal.see("You said: secret")
    terminal.see(PROMPT)
    terminal.line("/bye")
    assert terminal.end() == 0
    assert not Path(corral.env["CORRAL_HOME"], "history").exists()


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        (['"""one', "  two", 'three"""'], "one\n  two\nthree"),
        (['"""all here"""'], "all here"),
        (['"""', "/bye", '"""'], "\n/bye\n"),
        (["\x1b[200~pasted one\npasted two\x1b[201~"], "pasted one\npasted two"),
    ],
    ids=["block", "one line", "slash inside", "pasted"],
)
def test_a_message_may_have_many_lines(
    typed: list[str], sent: str, chat: Any, open_terminal: Any, scripted: Any
) -> None:
    chat("fine")
    terminal = open_terminal()
    for number, line in enumerate(typed):
        terminal.see("..." if number else PROMPT)
        terminal.line(line)
    terminal.see("fine")
    assert scripted.bodies("/api/chat")[0]["messages"] == [{"role": "user", "content": sent}]


def test_slash_commands_change_what_is_sent(chat: Any, open_terminal: Any, scripted: Any) -> None:
    chat()
    terminal = open_terminal("--keepalive", "10m")
    for line, said in (
        ("/set parameter temperature 0.5", "Set parameter 'temperature' to '0.5'"),
        ("/set parameter stop a b", "Set parameter 'stop' to 'a, b'"),
        ("/set parameter num_ctx 4k", 'Couldn\'t set parameter: "invalid int value [4k]"'),
        ("/set parameter nope 1", "Couldn't set parameter: \"unknown parameter 'nope'\""),
        ("/set format json", "Set format to 'json' mode."),
        ("/set system Be  brief.", "Set system message."),
        ("/set think high", "Set 'think' mode to 'high'."),
        ("/set verbose", "Set 'verbose' mode."),
        ("hello", "total duration:       1µs"),
        ("/set nothink", "Set 'nothink' mode."),
        ("/set noformat", "Disabled format."),
        ("/clear", "Cleared session context"),
        ("again", "total duration:"),
    ):
        terminal.see(PROMPT)
        terminal.line(line)
        terminal.see(said)

    first, second = scripted.bodies("/api/chat")
    fields = {
        "model": "m",
        "options": {"temperature": 0.5, "stop": ["a", "b"]},
        "keep_alive": "10m0s",
    }
    system = {"role": "system", "content": "Be  brief."}
    hello = {"role": "user", "content": "hello"}
    assert first == fields | {"format": "json", "think": "high", "messages": [system, hello]}
    again = {"role": "user", "content": "again"}
    assert second == fields | {"think": False, "messages": [system, again]}


def test_parameters_of_a_session_are_those_that_the_server_lists(
    chat: Any, open_terminal: Any, scripted: Any, answer: Any
) -> None:
    chat()
    options = [
        {"name": "samplers", "type": "array", "items": ["string", "object"]},
        {"name": "mirostat", "type": "integer"},
        {"name": "logit_bias", "type": "object"},
    ]
    scripted.on("GET", "/api/options", answer({"options": options}))
    terminal = open_terminal()
    for line, said in (
        ('/set parameter samplers top_k {"name":"x"}', "Set parameter 'samplers' to 'top_k, {"),
        ("/set parameter mirostat 2", "Set parameter 'mirostat' to '2'"),
        ('/set parameter logit_bias {"5": 1}', "Set parameter 'logit_bias' to"),
        ("/set parameter mirostats 2", "unknown parameter 'mirostats'; did you mean 'mirostat'?"),
        ("/set parameter samplers {x", "invalid JSON value [{x]"),
        ("/show parameters", 'samplers                       [top_k {"name": "x"}]'),
        ("hello", "You said: hello"),
    ):
        terminal.see(PROMPT)
        terminal.line(line)
        terminal.see(said)
    assert scripted.bodies("/api/chat")[0]["options"] == {
        "samplers": ["top_k", {"name": "x"}],
        "mirostat": 2,
        "logit_bias": {"5": 1},
    }


def test_slash_commands_that_ask(chat: Any, open_terminal: Any, scripted: Any, answer: Any) -> None:
    chat()
    scripted.on("GET", "/api/tags", answer({"models": [{"name": "mine:latest"}]}))
    terminal = open_terminal()
    for line, said in (
        ("/show info", "quantization    Q8_0"),
        ("/show system", "Model's own."),
        ("/set system mine", "Set system message."),
        ("/show system", "mine"),
        ("/show license", "No license was specified for this model."),
        ("/set parameter top_k 7", "Set parameter 'top_k' to '7'"),
        ("/show parameters", "  temperature                    0.7"),
        ("/show nonsense", "Unknown command '/show nonsense'. Type /? for help"),
        ("/list", "mine:latest"),
        ("/? shortcuts", "Ctrl + a"),
        ("/?", "Available Commands:"),
        ("/nonsense", "Unknown command '/nonsense'. Type /? for help"),
    ):
        terminal.see(PROMPT)
        terminal.line(line)
        terminal.see(said)
    assert scripted.bodies("/api/show")[-1] == {
        "model": "m",
        "name": "m",
        "system": "mine",
        "options": {"top_k": 7},
    }


def test_a_session_is_saved_and_another_model_loaded(
    chat: Any, open_terminal: Any, scripted: Any, answer: Any
) -> None:
    example = {"role": "user", "content": "An example?"}
    reply = {"role": "assistant", "content": "An answer."}
    chat("fine", info=INFO | {"messages": [example, reply]})
    scripted.on("POST", "/api/create", answer(lines=[{"status": "success"}]))
    terminal = open_terminal()
    terminal.see(">>> An example?")
    terminal.see("An answer.")
    terminal.see(PROMPT)
    terminal.line("hello")
    terminal.see("fine")
    terminal.see(PROMPT)
    terminal.line("/save mine")
    terminal.see("Created new model 'mine'")
    terminal.see(PROMPT)
    terminal.line("/load other")
    terminal.see("Loading model 'other'")
    terminal.see(PROMPT)
    scripted.on("POST", "/api/show", answer({"error": "model 'none' not found"}, 404))
    terminal.line("/load none")
    terminal.see("Couldn't find model 'none'")
    terminal.see(PROMPT)
    terminal.line("hi")
    terminal.see("fine")

    said = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "fine"}]
    assert scripted.bodies("/api/create") == [
        {"model": "mine", "from": "m", "messages": [example, reply, *said]}
    ]
    assert scripted.bodies("/api/chat")[-1] == {
        "model": "other",
        "messages": [{"role": "user", "content": "hi"}],
    }


def test_a_model_that_cannot_be_loaded_leaves_the_session_as_it_was(
    chat: Any, open_terminal: Any, scripted: Any, answer: Any
) -> None:
    chat("fine")
    terminal = open_terminal()
    terminal.see(PROMPT)
    terminal.line("hello")
    terminal.see("fine")
    terminal.see(PROMPT)
    refused = {"error": '"vectors" does not support generate'}
    scripted.on("POST", "/api/generate", answer(refused, 400))
    terminal.line("/load vectors")
    terminal.see("""Couldn't load model 'vectors': "vectors" does not support generate""")
    terminal.see(PROMPT)
    terminal.line("again")
    terminal.see("fine")

    assert [said["content"] for said in scripted.bodies("/api/chat")[-1]["messages"]] == [
        "hello",
        "fine",
        "again",
    ]
    assert scripted.bodies("/api/chat")[-1]["model"] == "m"


def test_an_answer_without_its_last_line_gets_a_warning_and_the_session_goes_on(
    chat: Any, open_terminal: Any, scripted: Any, answer: Any
) -> None:
    chat("fine")
    piece = {"message": {"role": "assistant", "content": "so so so"}, "done": False}
    scripted.on("POST", "/api/chat", answer(lines=[piece]))
    terminal = open_terminal()
    terminal.see(PROMPT)
    terminal.line("hello")
    terminal.see("so so so")
    terminal.see("Warning: the answer ended without its last line")
    terminal.see(PROMPT)


def test_ctrl_c_empties_the_line_or_tells_how_to_leave(
    chat: Any, open_terminal: Any, scripted: Any
) -> None:
    chat("fine")
    terminal = open_terminal()
    terminal.see(PROMPT)
    terminal.type("never mind")
    terminal.see("never mind")
    terminal.type(CTRL_C)
    terminal.see("Send a message")
    terminal.type(CTRL_C)
    terminal.see("Use Ctrl + d or /bye to exit.")
    terminal.see(PROMPT)
    assert scripted.bodies("/api/chat") == []


def test_ctrl_c_stops_an_answer_and_the_session_goes_on(
    chat: Any, open_terminal: Any, scripted: Any
) -> None:
    chat("half of it", hold=threading.Event())
    terminal = open_terminal()
    terminal.see(PROMPT)
    terminal.line("one")
    terminal.see("half of it")

    terminal.type(CTRL_C)

    terminal.see(PROMPT)
    assert scripted.gone.wait(DEADLINE_S), "the server was not told"
    chat("fine")
    terminal.line("two")
    terminal.see("fine")
    assert [m["content"] for m in scripted.bodies("/api/chat")[1]["messages"]] == [
        "one",
        "half of it",
        "two",
    ]


def test_ctrl_g_opens_an_editor(
    chat: Any, open_terminal: Any, scripted: Any, corral: Any, tmp_path: Path
) -> None:
    editor = tmp_path / "editor.py"
    editor.write_text("import sys; open(sys.argv[1], 'a').write(' of\\nmany lines\\n')")
    corral.env["CORRAL_EDITOR"] = f"{sys.executable} {editor}"
    chat("fine")
    terminal = open_terminal()
    terminal.see(PROMPT)
    terminal.type("a prompt")
    terminal.see("a prompt")
    terminal.type(CTRL_G)
    terminal.see("many lines")
    terminal.type(ENTER)
    terminal.see("fine")
    assert scripted.bodies("/api/chat")[0]["messages"][0]["content"] == "a prompt of\nmany lines"


def test_an_error_about_thinking_goes_by_and_others_end_the_session(
    chat: Any, open_terminal: Any, scripted: Any, answer: Any
) -> None:
    chat()
    scripted.on("POST", "/api/chat", answer({"error": '"m" does not support thinking'}, 400))
    terminal = open_terminal("--think")
    terminal.see(PROMPT)
    terminal.line("hello")
    terminal.see('"m" does not support thinking')
    terminal.see(PROMPT)
    scripted.on("POST", "/api/chat", answer({"error": "out of order"}, 500))
    terminal.line("hello")
    assert "Error: 500 Internal Server Error: out of order" in terminal.rest()
    assert terminal.end() == 1


def test_on_a_terminal_words_are_kept_whole_and_steer_nothing(
    chat: Any, open_terminal: Any
) -> None:
    chat("word " * 30 + "\x1b]0;title\x07end")
    terminal = open_terminal()
    terminal.see(PROMPT)
    terminal.line("hello")
    shown = terminal.see("end")
    assert "\x07" not in shown
    assert "wo\nrd" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_an_error_in_mid_answer_has_a_line_of_its_own(chat: Any, open_terminal: Any) -> None:
    chat("half of it", cut=True)
    terminal = open_terminal()
    terminal.see(PROMPT)
    terminal.line("one")
    assert "half of it\nError: the server at" in terminal.rest()
    assert terminal.end() == 1


def test_ctrl_c_ends_a_command_and_the_session_goes_on(
    chat: Any, open_terminal: Any, scripted: Any, answer: Any
) -> None:
    chat("fine")
    never = threading.Event()
    scripted.on("GET", "/api/tags", answer(lines=[{"models": []}, {}], hold=never))
    terminal = open_terminal()
    terminal.see(PROMPT)
    terminal.line("/list")
    terminal.see("/list")
    while ("GET", "/api/tags") not in [(r.method, r.path) for r in scripted.received]:
        time.sleep(0.01)  # a request that comes in sets no event

    terminal.type(CTRL_C)

    terminal.see(PROMPT)
    terminal.line("still there?")
    terminal.see("fine")
