import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

DIGEST = "a80c4f17acd5" + "0" * 52
SHOW: dict[str, Any] = {
    "license": "\n  MIT License \n\nPermission is granted\nto all\n",
    "modelfile": "# Modelfile\nFROM x\n",
    "parameters": 'stop                           "<|im_end|>"\ntemperature                    0.7',
    "template": "{{ .Prompt }}",
    "system": "Be terse.",
    "details": {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": None,
        "parameter_size": "",
        "quantization_level": "Q4_K_M",
    },
    "model_info": {
        "general.architecture": "llama",
        "general.parameter_count": 3212749888,
        "llama.context_length": 131072,
        "llama.embedding_length": 3072,
        "llama.rope.freq_base": 1e6,
        "llama.vocab": ["aa", "bb", "cc", "dd"],
        "tokenizer.add_bos": True,
        "tokenizer.tokens": None,
    },
    "tensors": [{"name": "output.weight", "type": "Q6_K", "shape": [3072, 128256]}],
    "capabilities": ["completion", "tools"],
    "modified_at": "2026-08-21T12:00:00.12+02:00",
    "requires": "0.14.0",
}


def _listed(name: str, **fields: Any) -> dict[str, Any]:
    two_weeks_ago = datetime.now(UTC) - timedelta(days=15)
    times = {"modified_at": two_weeks_ago.isoformat()}
    return {"name": name, "model": name, "digest": DIGEST, "size": 2019393189} | times | fields


def test_list_prints_the_table_of_models(scripted: Any, corral: Any, answer: Any) -> None:
    models = [_listed("llama3.2:latest"), _listed("Far:cloud", remote_model="far")]
    scripted.on("GET", "/api/tags", answer({"models": models}))

    result = corral("list")

    assert (result.status, result.err) == (0, "")
    assert [line.rstrip() for line in result.out.splitlines()] == [
        "NAME               ID              SIZE      MODIFIED",
        "llama3.2:latest    a80c4f17acd5    2.0 GB    2 weeks ago",
        "Far:cloud          a80c4f17acd5    -         2 weeks ago",
    ]
    assert [r.method + r.path for r in scripted.received] == ["HEAD/", "GET/api/tags"]


def test_list_takes_a_prefix_in_any_letter_case(scripted: Any, corral: Any, answer: Any) -> None:
    models = [_listed("llama3.2:latest"), _listed("mistral:latest")]
    scripted.on("GET", "/api/tags", answer({"models": models}))

    result = corral("ls", "MIST")

    assert [line.split()[0] for line in result.out.splitlines()] == ["NAME", "mistral:latest"]


def test_an_empty_list_is_a_header(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("GET", "/api/tags", answer({"models": []}))
    assert corral("list").out == "NAME    ID    SIZE    MODIFIED    \n"


def test_ps_prints_the_table_of_running_models(scripted: Any, corral: Any, answer: Any) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=4, seconds=30)).isoformat()
    running = {"size": 1000, "size_vram": 750, "context_length": 4096, "expires_at": soon}
    scripted.on("GET", "/api/ps", answer({"models": [_listed("m:latest", **running)]}))

    result = corral("ps")

    assert [line.rstrip() for line in result.out.splitlines()] == [
        "NAME        ID              SIZE    PROCESSOR          CONTEXT    UNTIL",
        "m:latest    a80c4f17acd5    1 KB    25%/75% CPU/GPU    4096       4 minutes from now",
    ]
    assert corral("ps", "M").out.count("\n") == 1  # here the letter case counts


def test_show_prints_sections(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("POST", "/api/show", answer(SHOW))

    result = corral("show", "m")

    assert [line.rstrip() for line in result.out.splitlines()] == [
        "  Model",
        "    architecture        llama",
        "    parameters          3.2B",
        "    context length      131072",
        "    embedding length    3072",
        "    quantization        Q4_K_M",
        "    requires            0.14.0",
        "",
        "  Capabilities",
        "    completion",
        "    tools",
        "",
        "  Parameters",
        '    stop           "<|im_end|>"',
        "    temperature    0.7",
        "",
        "  System",
        "    Be terse.",
        "",
        "  License",
        "    MIT License",
        "    Permission is granted",
        "    ...",
        "",
    ]
    assert "    architecture        llama     \n" in result.out


def test_show_verbose_adds_metadata_and_tensors(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("POST", "/api/show", answer(SHOW))

    lines = [line.strip() for line in corral("show", "-v", "m").out.splitlines()]

    assert scripted.bodies("/api/show") == [{"model": "m", "verbose": True}]
    assert "general.parameter_count    3.212749888e+09" in lines
    assert "llama.rope.freq_base       1e+06" in lines
    assert "llama.vocab                [aa bb ...+2 more]" in lines
    assert "tokenizer.add_bos          true" in lines
    assert "output.weight    Q6_K    [3072 128256]" in lines


@pytest.mark.parametrize(
    ("flag", "out"),
    [
        ("--license", SHOW["license"] + "\n"),
        ("--modelfile", SHOW["modelfile"] + "\n"),
        ("--parameters", SHOW["parameters"] + "\n"),
        ("--template", SHOW["template"]),
        ("--system", SHOW["system"]),
    ],
)
def test_show_prints_one_part_as_it_is(
    flag: str, out: str, scripted: Any, corral: Any, answer: Any
) -> None:
    scripted.on("POST", "/api/show", answer(SHOW))
    assert corral("show", "m", flag).out == out


def test_cp_names_both(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("POST", "/api/copy", answer())

    assert corral("cp", "a", "b").out == "copied 'a' to 'b'\n"
    assert scripted.bodies("/api/copy") == [{"source": "a", "destination": "b"}]


def test_rm_unloads_and_deletes_until_one_fails(scripted: Any, corral: Any, answer: Any) -> None:
    def lookup(request: Any) -> Any:
        if request.json["model"] == "none":
            return answer({"error": "model 'none' not found"}, 404)
        return answer(SHOW if "show" in request.path else {"done": True})

    scripted.on("POST", "/api/show", lookup)
    scripted.on("POST", "/api/generate", lookup)
    scripted.on("DELETE", "/api/delete", lookup)

    result = corral("rm", "a", "none", "b")

    assert (result.status, result.out) == (1, "deleted 'a'\n")
    assert result.err == "Error: model 'none' not found\n"
    assert [(r.method, r.path) for r in scripted.received[1:]] == [
        ("POST", "/api/show"),
        ("POST", "/api/generate"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/show"),
        ("DELETE", "/api/delete"),
    ]
    assert scripted.bodies("/api/generate") == [{"model": "a", "keep_alive": 0, "stream": False}]


def test_rm_warns_where_unloading_fails_and_deletes_all_the_same(
    scripted: Any, corral: Any, answer: Any
) -> None:
    scripted.on("POST", "/api/show", answer(SHOW))
    scripted.on("POST", "/api/generate", answer({"error": "stuck"}, 500))
    scripted.on("DELETE", "/api/delete", answer())

    result = corral("rm", "a")

    assert (result.status, result.out) == (0, "deleted 'a'\n")
    assert result.err == "Warning: unable to stop model 'a'\n"


def test_stop_unloads_and_says_nothing(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("POST", "/api/show", answer(SHOW))
    scripted.on("POST", "/api/generate", answer({"done": True, "done_reason": "unload"}))

    result = corral("stop", "a")

    assert (result.status, result.out, result.err) == (0, "", "")


def test_stop_of_an_unknown_model_says_so(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("POST", "/api/show", answer({"error": "model 'a' not found"}, 404))
    assert corral("stop", "a").err == 'Error: couldn\'t find model "a" to stop\n'


def test_show_tells_what_runs_a_model_or_why_nothing_does(
    scripted: Any, corral: Any, answer: Any
) -> None:
    scripted.on("POST", "/api/show", answer({"backend": {"name": "echo", "why": "it was asked"}}))
    assert "  Backend\n    echo    it was asked    \n" in corral("show", "m").out
    scripted.on("POST", "/api/show", answer({"backend": {"error": "backend 'x' is not installed"}}))
    assert "  Backend\n    none    backend 'x' is not installed    \n" in corral("show", "m").out
    scripted.on("POST", "/api/show", answer({}))
    assert "Backend" not in corral("show", "m").out


def test_ps_tells_what_runs_a_model_if_it_is_asked(scripted: Any, corral: Any, answer: Any) -> None:
    engine = {"backend": "llamacpp", "slots": 4, "details": {"threads": 2}}
    models = [{"name": "a:1", "engine": engine}, {"name": "b:1"}]
    scripted.on("GET", "/api/ps", answer({"models": models}))

    brief, verbose = corral("ps").out, corral("ps", "-v").out

    assert verbose == brief + (
        "\n  a:1\n    backend    llamacpp    \n    slots      4           \n"
        "    threads    2           \n"
    )


def test_plugins_tells_of_those_that_the_server_has_not_loaded(
    scripted: Any, corral: Any, answer: Any
) -> None:
    fine = {"name": "echo", "docs": {"echo": "Repeats its prompt."}}
    new = {"name": "mine", "distribution": "my-plugin", "version": "2.0", "change": "installed"}
    scripted.on("GET", "/api/plugins", answer({"plugins": [fine], "changes": [new]}))

    out = corral("plugins").out

    assert "\necho: Repeats its prompt.\n" in out
    assert "\nSince the server started: mine (my-plugin 2.0) installed. It counts when" in out
    assert "'corral shutdown'" in out


def test_plugins_without_a_server_are_those_that_one_would_load(corral: Any) -> None:
    corral.env["CORRAL_HOST"] = "127.0.0.1:9"
    corral.env["CORRAL_DISABLE_PLUGINS"] = "chat"

    result = corral("plugins")

    assert result.err == "no server is running; this is what one would load:\n"
    table, _, _ = result.out.partition("\n\n")
    found = {line.split()[0]: line.split()[3] for line in table.splitlines()[1:]}
    assert found["chat"] == "disabled"
    assert found["llamacpp"] == "ok"
    assert '"name": "packages"' in corral("plugins", "--json").out


def test_plugins_lists_failures_and_clashes(scripted: Any, corral: Any, answer: Any) -> None:
    fine = {
        "name": "echo",
        "distribution": "corral-echo",
        "version": "1.2",
        "api_version": 1,
        "hooks": ["corral_backends"],
        "provides": {"backends": ["echo"], "samplers": []},
        "status": "ok",
    }
    broken = fine | {
        "name": "llamacpp",
        "status": "unavailable",
        "provides": {},
        "error": "no module named llama_cpp",
        "hint": "pip install corral[llamacpp]",
    }
    clash = {"kind": "sampler", "name": "top_k", "winner": "a", "losers": ["b", "c"]}
    scripted.on("GET", "/api/plugins", answer({"plugins": [fine, broken], "clashes": [clash]}))

    result = corral("plugins")

    assert [line.rstrip() for line in result.out.splitlines()] == [
        "NAME        DISTRIBUTION    VERSION    STATUS         PROVIDES",
        "echo        corral-echo     1.2        ok             backends: echo",
        "llamacpp    corral-echo     1.2        unavailable    backends",
        "",
        "llamacpp (unavailable): no module named llama_cpp: pip install corral[llamacpp]",
        "",
        "sampler 'top_k' is given by more than one plugin: a is used, not b, c",
    ]
    assert '"distribution": "corral-echo"' in corral("plugins", "--json").out


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"body": {"error": "store is broken"}, "status": 500}, "store is broken"),
        ({"body": "not an error", "status": 500}, '"not an error"'),
        ({"body": [1]}, "unreadable answer from the server: Expected `object`, got `array`"),
    ],
    ids=["error", "no-json-error", "nonsense"],
)
def test_what_the_server_reports_is_the_error(
    reply: dict[str, Any], message: str, scripted: Any, corral: Any, answer: Any
) -> None:
    scripted.on("GET", "/api/tags", answer(**reply))

    result = corral("list")

    assert (result.status, result.out, result.err) == (1, "", f"Error: {message}\n")


@pytest.mark.parametrize(
    ("reply", "out"),
    [
        ({"version": "0.31.0", "corral_version": "0.1.0"}, "corral version is 0.1.0\n"),
        (
            {"version": "0.31.0", "corral_version": "0.2.0"},
            "corral version is 0.2.0\nWarning: client version is 0.1.0\n",
        ),
        (
            {"version": "0.31.0"},
            "ollama version is 0.31.0\nWarning: client version is 0.1.0\n",
        ),
    ],
    ids=["same", "different", "not ours"],
)
def test_the_version_is_the_servers(
    reply: dict[str, str], out: str, scripted: Any, corral: Any, answer: Any
) -> None:
    scripted.on("GET", "/api/version", answer(reply))
    assert corral("--version").out == out


def test_a_reader_that_leaves_ends_the_command_quietly(
    scripted: Any, corral: Any, answer: Any
) -> None:
    # One long name makes all rows long: more than any pipe holds.
    models = [_listed(f"m{number}:latest") for number in range(8000)] + [_listed("m" * 1000)]
    scripted.on("GET", "/api/tags", answer({"models": models}))
    process = subprocess.Popen(
        [sys.executable, "-m", "corral_cli", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=corral.env,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"NAME")
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=30) == 141


def test_a_server_elsewhere_that_does_not_answer_is_not_started(corral: Any) -> None:
    corral.env["CORRAL_HOST"] = "http://127.0.0.1:9/path"

    result = corral("list")

    assert result.status == 1
    assert result.err == (
        "Error: could not connect to http://127.0.0.1:9/path: [Errno 111] Connection refused; "
        "is the address in CORRAL_HOST (or OLLAMA_HOST) right, and does a server run there?\n"
    )


def test_a_host_without_an_address_is_named(corral: Any) -> None:
    corral.env["CORRAL_HOST"] = "http://no.such.host.invalid:80"

    result = corral("list")

    assert result.status == 1
    assert result.err.startswith("Error: could not connect to http://no.such.host.invalid:80: ")
    assert result.err.count("\n") == 1


def test_a_port_that_is_none_is_refused(corral: Any) -> None:
    corral.env["CORRAL_HOST"] = "127.0.0.1:99999"

    for command in ("list", "serve", "shutdown"):
        result = corral(command)
        assert (result.status, result.out) == (1, "")
        assert result.err.startswith("Error: CORRAL_HOST (or OLLAMA_HOST): '99999' is no port: ")


def test_an_error_without_words_tells_who_gave_it(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("GET", "/api/tags", answer(status=502))
    assert corral("list").err == (
        f"Error: http://{scripted.address} answered 502 Bad Gateway and gave no reason; "
        "is a corral server there?\n"
    )


def test_a_server_that_does_not_know_a_command_s_route_is_perhaps_older(corral: Any) -> None:
    for words, path in (
        (("samplers",), "/api/samplers"),
        (("compare", "a", "b"), "/api/compare"),
    ):
        assert corral(*words).err == (
            f"Error: the server at http://{corral.server.address} does not know {path}: it is "
            "older than this command, or not Corral; start it anew ('corral shutdown' ends one in "
            "the background)\n"
        )


def test_what_speaks_no_http_is_named(corral: Any, babbler: str) -> None:
    corral.env["CORRAL_HOST"] = babbler

    result = corral("list")

    assert result.status == 1
    assert result.err.startswith(f"Error: no corral server at http://{babbler}: ")
