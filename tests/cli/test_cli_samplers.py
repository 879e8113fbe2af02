"""`corral samplers`, `corral options`, and PARAMETERs that a server's plugins bring."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

TINY = Path(__file__).parent.parent / "models" / "tiny-chat-f32.gguf"
OPTIONS: dict[str, Any] = {
    "options": [
        {
            "name": "num_thread",
            "type": "integer",
            "minimum": 0,
            "maximum": 512,
            "default": 0,
            "description": "CPU threads",
            "load_time": True,
            "owners": ["corral"],
        },
        {
            "name": "mirostat",
            "type": "integer",
            "choices": [0, 1, 2],
            "default": 0,
            "description": "",
            "load_time": False,
            "owners": ["mirostat", "steady"],
        },
        {"name": "logit_bias", "type": "object", "default": {"a": 1}},
        {"name": "samplers", "type": "array", "items": ["string", "object"], "default": None},
        {"name": "breakers", "type": "array", "items": ["string"], "default": ["\n"]},
        {"name": "top_k", "type": "integer", "default": 40},
        {"name": "tilt", "type": "float32", "exclusive_minimum": 0, "default": 0.5},
        {"name": "quick", "type": "boolean", "default": False},
        {"name": "from_the_future", "type": "tensor", "default": None},
    ]
}
SAMPLERS = {
    "samplers": [
        {
            "name": "tilt",
            "docs": "tilts the chances",
            "plugin": "tilts",
            "distribution": "corral-tilts",
            "version": "1.5",
            "default_place": 45,
            "in_default_chain": True,
            "replaces": ["top_p", "min_p"],
            "fields": [
                {
                    "name": "tilt",
                    "type": "float32",
                    "minimum": 0,
                    "exclusive_maximum": 2,
                    "default": 0.5,
                    "description": "how far",
                }
            ],
        },
        {"name": "named", "plugin": "corral", "distribution": "corral", "default_place": None},
    ]
}


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


# --- the tables ----------------------------------------------------------------------------------


def test_options_prints_a_table(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("GET", "/api/options", answer(OPTIONS))
    result = corral("options")
    assert (result.status, result.err) == (0, "")
    assert lines(result.out)[:5] == [
        "NAME               TYPE       DEFAULT     LOAD-TIME    OWNER               DESCRIPTION",
        "num_thread         integer    0           yes          corral              CPU threads",
        "mirostat           integer    0           no           mirostat, steady",
        'logit_bias         object     {"a": 1}    no',
        "samplers           array                  no",
    ]


def test_options_tells_all_about_one(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("GET", "/api/options", answer(OPTIONS))
    assert lines(corral("options", "num_thread").out) == [
        "  Option",
        "    name         num_thread",
        "    type         integer",
        "    range        at least 0, at most 512",
        "    default      0",
        "    load-time    yes: a change loads the model anew",
        "    owner        corral",
        "",
        "  Description",
        "    CPU threads",
        "",
    ]
    assert "    range        one of 0, 1, 2" in lines(corral("options", "mirostat").out)


def test_samplers_prints_a_table(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("GET", "/api/samplers", answer(SAMPLERS))
    result = corral("samplers")
    assert (result.status, result.err) == (0, "")
    assert lines(result.out) == [
        "NAME     PLACE    DEFAULT    PLUGIN    FIELDS    DESCRIPTION",
        "tilt     45       yes        tilts     tilt      tilts the chances",
        "named             no         corral",
    ]


def test_samplers_tells_all_about_one(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("GET", "/api/samplers", answer(SAMPLERS))
    assert lines(corral("samplers", "tilt").out) == [
        "  Sampler",
        "    name             tilt",
        "    plugin           tilts",
        "    distribution     corral-tilts 1.5",
        "    default place    45",
        "    default chain    yes",
        "    replaces         top_p, min_p",
        "",
        "  Description",
        "    tilts the chances",
        "",
        "  Fields",
        "    tilt    float32    0.5    at least 0, under 2    how far",
        "",
    ]
    named = lines(corral("samplers", "named").out)
    assert '    default place    none: only where "samplers" names it' in named
    assert "  Fields" not in named


@pytest.mark.parametrize(
    ("command", "name", "error"),
    [
        ("options", "num_threat", "no option 'num_threat'; did you mean 'num_thread'?"),
        ("samplers", "tilted", "no sampler 'tilted'; did you mean 'tilt'?"),
        ("samplers", "x", "no sampler 'x'; there are: named, tilt"),
    ],
)
def test_a_name_that_is_not_listed_is_guessed_at(  # noqa: PLR0913, PLR0917 - fixtures and a row
    scripted: Any, corral: Any, answer: Any, command: str, name: str, error: str
) -> None:
    scripted.on("GET", "/api/options", answer(OPTIONS))
    scripted.on("GET", "/api/samplers", answer(SAMPLERS))
    result = corral(command, name)
    assert (result.status, result.out, result.err) == (1, "", f"Error: {error}\n")


def test_plugins_tells_of_options_that_clash(scripted: Any, corral: Any, answer: Any) -> None:
    clash = {"kind": "option", "name": "top_k", "winner": "top_k", "losers": ["tilt", "shift"]}
    scripted.on("GET", "/api/plugins", answer({"plugins": [], "clashes": [clash]}))
    assert lines(corral("plugins").out)[-1] == (
        "option 'top_k' is top_k's; as a field of tilt, shift it is set under the sampler's name, "
        'or in its entry of "samplers"'
    )


def test_warnings_of_an_answer_are_shown_after_it(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("POST", "/api/show", answer({"details": {}, "model_info": {}}))
    last = {"response": "", "done": True, "warnings": ["first\u001b[1m", "second"]}
    scripted.on("POST", "/api/generate", answer(lines=[{"response": "Hi"}, last]))
    result = corral("run", "m", "hello")
    assert (result.out, result.err) == ("Hi\n\n", "warning: first[1m\nwarning: second\n")


# --- PARAMETER -----------------------------------------------------------------------------------


def create(
    corral: Any, scripted: Any, answer: Any, folder: Path, parameters: str
) -> tuple[Any, Any]:
    """Create from a Modelfile with these lines; give the result, and what was sent."""
    scripted.on("POST", "/api/create", answer(lines=[{"status": "success"}]))
    text = "FROM base\n" + "".join(f"PARAMETER {line}\n" for line in parameters.splitlines())
    (folder / "Modelfile").write_text(text)
    result = corral("create", "mine", cwd=folder)
    bodies = scripted.bodies("/api/create")
    return result, bodies[0].get("parameters") if bodies else None


def test_parameters_are_read_by_the_types_that_the_server_lists(
    scripted: Any, corral: Any, answer: Any, tmp_path: Path
) -> None:
    scripted.on("GET", "/api/options", answer(OPTIONS))
    result, sent = create(
        corral,
        scripted,
        answer,
        tmp_path,
        "top_k 1.048576e+06\ntilt 0.7\nquick true\nmirostat 2\n"
        'samplers top_k\nsamplers {"name": "tilt", "tilt": 0.1}\nsamplers temperature\n'
        'logit_bias {"15": -100, "the": 2.5}\nbreakers {\nbreakers }\nfrom_the_future [1]',
    )
    assert (result.status, result.out) == (0, "")
    assert sent == {
        "top_k": 1048576,
        "tilt": 0.7,
        "quick": True,
        "mirostat": 2,
        "samplers": ["top_k", {"name": "tilt", "tilt": 0.1}, "temperature"],
        "logit_bias": {"15": -100, "the": 2.5},
        "breakers": ["{", "}"],
        "from_the_future": [1],
    }


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("tilted 1", "unknown parameter 'tilted'; did you mean 'tilt'?"),
        ("zzz 1", "unknown parameter 'zzz'"),
        ("tilt steep", "invalid float value [steep]"),
        ("quick yes", "invalid bool value [yes]"),
        ("mirostat 1.5", "invalid int value [1.5]"),
        ("logit_bias {x", "invalid JSON value [{x]"),
        ("samplers {x", "invalid JSON value [{x]"),
        ("logit_bias " + "[" * 100_000, "invalid JSON value"),
    ],
    ids=lambda text: text[:20],
)
def test_a_parameter_that_does_not_fit_sends_nothing(  # noqa: PLR0913, PLR0917 - fixtures and a row
    scripted: Any, corral: Any, answer: Any, tmp_path: Path, line: str, error: str
) -> None:
    scripted.on("GET", "/api/options", answer(OPTIONS))
    result, sent = create(corral, scripted, answer, tmp_path, line)
    assert (result.status, sent) == (1, None)
    assert error in result.err


def test_an_older_server_s_parameters_are_ollama_s(
    scripted: Any, corral: Any, answer: Any, tmp_path: Path
) -> None:
    result, sent = create(corral, scripted, answer, tmp_path, "samplers top_k")
    assert (result.err, sent) == ("Error: unknown parameter 'samplers'\n", None)
    result, sent = create(corral, scripted, answer, tmp_path, "mirostat 1\nbackend echo\ntop_k 3")
    assert result.out == "warning: parameter mirostat is deprecated\n"
    assert sent == {"backend": "echo", "top_k": 3}


def test_the_server_is_not_asked_for_parameters_that_everybody_knows(
    scripted: Any, corral: Any, answer: Any, tmp_path: Path
) -> None:
    create(corral, scripted, answer, tmp_path, "top_k 3\nstop x\nbackend echo")
    assert "/api/options" not in [request.path for request in scripted.received]


# --- a real server -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(start_server: Callable[..., Any]) -> Any:
    """A server of these tests."""
    return start_server()


@pytest.fixture(scope="module")
def command(own: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run the command at a real server; give what it prints."""
    home = tmp_path_factory.mktemp("cli-home")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
    env = {**inherited, "CORRAL_HOST": own.url, "CORRAL_HOME": str(home), "HOME": str(home)}

    def run(*args: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "corral_cli", *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=env,
            cwd=cwd,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


PARAMETERS = """
PARAMETER samplers top_k
PARAMETER samplers {"name":"temperature","temperature":0}
PARAMETER penalties {"repeat_penalty":1.1}
PARAMETER backend llamacpp
PARAMETER kv_cache_type f16
PARAMETER flash_attention false
PARAMETER num_thread 1
PARAMETER seed 12345678
PARAMETER stop "a
b"
PARAMETER stop "
"
PARAMETER temperature 0.7
"""


def test_parameters_of_plugins_go_through_show_and_create_unchanged(
    own: Any, command: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "Modelfile").write_text(f"FROM {TINY}\n{PARAMETERS}")
    command("create", "first", cwd=tmp_path)
    shown = command("show", "first", "--modelfile")
    assert 'PARAMETER samplers {"name":"temperature","temperature":0}\n' in shown
    (tmp_path / "Again").write_text(shown)
    command("create", "second", "-f", "Again", cwd=tmp_path)
    parameters = command("show", "second", "--parameters")
    assert parameters == command("show", "first", "--parameters")
    assert 'penalties                      {"repeat_penalty":1.1}\n' in parameters
    assert command("show", "second", "--modelfile").splitlines()[3:] == shown.splitlines()[3:]
    for name in ("first", "second"):
        answer = command("run", name, "capital of Italy?")
        assert answer.startswith("Rome.\n\n")
        assert 'warning: option "penalties" is ignored: its sampler is not among' in answer
    told = httpx.post(f"{own.url}/api/show", json={"model": "second"}).json()["parameters"]
    assert told.splitlines()[-1] == "temperature                    0.7"
    command("rm", "first", "second")


def test_the_real_lists_can_be_printed(command: Callable[..., str]) -> None:
    options = command("options").splitlines()
    assert options[0].split() == ["NAME", "TYPE", "DEFAULT", "LOAD-TIME", "OWNER", "DESCRIPTION"]
    names = [line.split()[0] for line in options[1:]]
    assert {"num_ctx", "samplers", "backend", "top_k", "flash_attention"} <= {*names}
    assert "load-time    yes" in command("options", "num_ctx")
    samplers = [line.split()[0] for line in command("samplers").splitlines()[1:]]
    assert {"penalties", "top_k", "top_p", "min_p", "temperature"} <= {*samplers}
    assert "keeps the k likeliest tokens" in command("samplers", "top_k")
