"""The slash commands of an interactive session."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from corral_cli import slash_help, wire
from corral_cli.client import NOT_FOUND
from corral_cli.errors import BrokenAnswerError, ServerError
from corral_cli.listing import print_models
from corral_cli.options import parameter_types
from corral_cli.prompt import KeptHistory
from corral_cli.session import Session
from corral_cli.show import print_info
from corral_kernel.gotext import format_number, quote
from corral_kernel.modelfile import (
    DEPRECATED_PARAMETERS,
    KNOWN_PARAMETERS,
    LISTS,
    ModelfileError,
    ParameterTypes,
    ParameterValue,
    parse_parameter,
)

_SYSTEM: Final = "/set system"
_THINK_LEVELS: Final = ("high", "medium", "low", "max")
_MEDIA: Final = re.compile(r".*\.(jpe?g|png|webp|wav)", re.IGNORECASE)
_EMPTY: Final = {
    "license": "No license was specified for this model.",
    "modelfile": "No Modelfile is known for this model.",
    "system": "No system message was specified for this model.",
    "template": "No prompt template was specified for this model.",
}


def takes_text(line: str) -> bool:
    """Tell whether a line begins the one command whose text may have many lines."""
    return line.startswith(_SYSTEM)


class Commands:
    """What a user can ask of a session beside an answer."""

    def __init__(self, session: Session, history: KeptHistory) -> None:
        self._session = session
        self._settings = session.settings
        self._history = history
        self._parameters: ParameterTypes | None = None  # the server's, once it was asked
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "/set": self._set,
            "/show": self._show,
            "/load": self._load,
            "/save": self._save,
            "/list": self._list,
            "/clear": self._clear,
            "/help": _help,
            "/?": _help,
        }

    def run(self, line: str) -> bool:
        """Do what a line that begins with a slash asks for.

        Returns:
            Whether the session goes on.

        Raises:
            ServerError: If the server cannot do its part; the session ends.
        """
        name, *words = line.split()
        if name in ("/bye", "/exit"):
            return False
        if takes_text(line) and words[1:]:
            self._session.system = line.removeprefix(_SYSTEM).strip()
            _say("Set system message.")
        elif name in self._commands:
            self._commands[name](words)
        elif _MEDIA.fullmatch(name) and Path(name).is_file():
            _say("Images and audio are not part of this release of corral.")
        else:
            _say(f"Unknown command '{name}'. Type /? for help")
        return True

    def _set(self, words: list[str]) -> None:
        match words:
            case ["parameter", name, *values] if values:
                self._set_parameter(name, values)
            case ["think", *level] if len(level) <= 1:
                self._set_think(level)
            case ["format", "json"]:
                self._settings.format = "json"
                _say("Set format to 'json' mode.")
            case ["format", *_]:
                _say("Invalid or missing format. For 'json' mode use '/set format json'")
            case ["noformat"]:
                self._settings.format = None
                _say("Disabled format.")
            case [mode] if self._set_mode(mode):
                _say(f"Set '{mode}' mode.")
            case _:
                sys.stderr.write(slash_help.SET)

    def _set_mode(self, mode: str) -> bool:
        match mode:
            case "history" | "nohistory":
                self._history.keep = mode == "history"
            case "wordwrap" | "nowordwrap":
                self._settings.wrap = mode == "wordwrap"
            case "verbose" | "quiet":
                self._settings.verbose = mode == "verbose"
            case "nothink":
                self._settings.think = False
            case _:
                return False
        return True

    def _set_parameter(self, name: str, values: list[str]) -> None:
        types = self._types(name)
        if name in DEPRECATED_PARAMETERS and name not in types:
            _say(f"Couldn't set parameter: {quote(f'parameter {name} is deprecated')}")
            return
        try:
            value = _parsed(name, values, types)
        except ModelfileError as error:
            _say(f"Couldn't set parameter: {quote(str(error))}")
            return
        self._settings.options[name] = value
        _say(f"Set parameter '{name}' to '{', '.join(values)}'")

    def _types(self, name: str) -> ParameterTypes:
        if name not in KNOWN_PARAMETERS and self._parameters is None:
            self._parameters = parameter_types(self._session.client)
        return self._parameters or KNOWN_PARAMETERS

    def _set_think(self, level: list[str]) -> None:
        if level and level[0] not in _THINK_LEVELS:
            _say(f"Invalid level {level[0]!r}: it is one of {', '.join(_THINK_LEVELS)}")
            return
        if "thinking" not in (self._session.info.capabilities or []):
            _say(f"warning: model '{self._settings.model}' does not support thinking")
        self._settings.think = level[0] if level else True
        _say(f"Set 'think' mode to '{level[0]}'." if level else "Set 'think' mode.")

    def _show(self, words: list[str]) -> None:
        if len(words) != 1:
            sys.stderr.write(slash_help.SHOW)
            return
        part = words[0]
        if part not in ("info", "parameters", *_EMPTY):
            _say(f"Unknown command '/show {part}'. Type /? for help")
            return
        info = self._session.describe()
        if part == "info":
            print_info(info, sys.stderr)
        elif part == "parameters":
            _show_parameters(info, self._settings.options)
        else:
            own = self._session.system if part == "system" else ""
            _say(own or getattr(info, part) or _EMPTY[part])

    def _load(self, words: list[str]) -> None:
        if len(words) != 1:
            _say("Usage:\n  /load <modelname>")
            return
        _say(f"Loading model '{words[0]}'")
        try:
            self._session.open(words[0])
        except ServerError as error:
            if error.status == NOT_FOUND:
                _say(f"Couldn't find model '{words[0]}'")
            else:
                _say(f"Couldn't load model '{words[0]}': {error}")

    def _save(self, words: list[str]) -> None:
        if len(words) != 1:
            _say("Usage:\n  /save <modelname>")
            return
        try:
            self._session.save(words[0])
        except (ServerError, BrokenAnswerError) as error:
            _say(f"error: {error}")
        else:
            _say(f"Created new model '{words[0]}'")

    def _list(self, words: list[str]) -> None:
        print_models(self._session.client, words[0] if words else "")

    def _clear(self, _: list[str]) -> None:
        self._session.messages.clear()
        _say("Cleared session context")


def _parsed(name: str, values: list[str], types: ParameterTypes) -> ParameterValue:
    match types.get(name):
        case "object":  # JSON may have blanks
            return parse_parameter(name, " ".join(values), types)
        case kind if kind in LISTS:
            return [parse_parameter(name, text, types) for text in values]
        case _:
            return parse_parameter(name, values[0], types)


def _help(words: list[str]) -> None:
    topic = words[0].removeprefix("/") if words else ""
    sys.stderr.write(slash_help.TOPICS.get(topic, slash_help.ALL))


def _show_parameters(info: wire.ModelInfo, options: dict[str, Any]) -> None:
    _say("Model defined parameters:")
    lines = info.parameters.splitlines() or [
        "No additional parameters were specified for this model."
    ]
    _say("".join(f"  {line}\n" for line in lines))
    if options:
        _say("User defined parameters:")
        _say("".join(f"  {name:<30} {_shown(value)}\n" for name, value in options.items()))


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return format_number(value)
        case list():
            return f"[{' '.join(map(_shown, value))}]"
        case dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
