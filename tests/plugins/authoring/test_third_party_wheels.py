"""Plugins of a third party: made outside the source tree, installed as wheels, used, removed."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KINDS = {"hasten": "sampler", "bits": "constraint", "parrot": "backend"}
BROKEN = ("at-import", "signature", "outdated", "twin")
MODELS = Path(__file__).parents[2] / "models"
LIMITS = {"num_predict": 8, "num_thread": 1, "seed": 1, "num_ctx": 512}


def break_(folder: Path, name: str) -> None:
    """Turn a sound sampler into one that cannot be used."""
    path = folder / "src" / f"corral_{name.replace('-', '_')}" / "__init__.py"
    code = path.read_text()
    changed = {
        "at-import": ("CORRAL_API_VERSION = 1", "raise OSError('no such chip')"),
        "signature": ("def corral_samplers()", "def corral_samplers(luck)"),
        "outdated": ("CORRAL_API_VERSION = 1", "CORRAL_API_VERSION = 0"),
        "twin": ('name = "twin"', 'name = "top_k"'),
    }[name]
    assert changed[0] in code
    path.write_text(code.replace(*changed))


@pytest.fixture(scope="module")
def wheels(venv: Any) -> Path:
    """Wheels of three sound plugins and four broken ones."""
    for name, kind in (*KINDS.items(), *((name, "sampler") for name in BROKEN)):
        venv.run("corral", "plugins", "new", kind, name, "--directory", "made")
    for name in BROKEN:
        break_(venv.folder / "made" / f"corral-{name}", name)
    folders = sorted((venv.folder / "made").iterdir())
    assert len(folders) == 7
    venv.run("pip", "wheel", "-q", "--no-deps", "-w", "wheels", *folders)
    folder: Path = venv.folder / "wheels"
    return folder


@pytest.fixture(scope="module")
def url(venv: Any, wheels: Path) -> Iterator[str]:
    """A server with all seven installed; afterwards none of them is."""
    venv.run("pip", "install", "-q", *wheels.glob("*.whl"))
    with venv.serving() as server:
        yield server.url


def curl(venv: Any, url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    command = ["curl", "-sS", url + path]
    if body is not None:
        command += ["-d", json.dumps({"model": "smollm2", "stream": False, **body})]
    return json.loads(venv.run(*command))


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[ollama.Client]:
    client = ollama.Client(url)
    yield client
    client.close()


def test_the_sampler_is_used_through_curl(venv: Any, url: str) -> None:
    words = {"prompt": "The cat sat on the", "raw": True}
    answers = [
        curl(venv, url, "/api/generate", {**words, "options": {**LIMITS, **more}})
        for more in ({"hasten": -100}, {"samplers": ["hasten"], "hasten": {"hasten": 100}})
    ]
    assert " " not in answers[0]["response"]
    assert len(answers[1]["response"].split()) == LIMITS["num_predict"]
    assert not any("warnings" in answer for answer in answers)


def test_its_field_is_checked_and_listed(venv: Any, url: str) -> None:
    refused = curl(venv, url, "/api/generate", {"prompt": "a", "options": {"hasten": 1000}})
    assert refused["error"] == 'option "hasten" is 1000; it must be at least -100 and at most 100'
    listed = curl(venv, url, "/api/samplers")["samplers"]
    (entry,) = [sampler for sampler in listed if sampler["name"] == "hasten"]
    assert entry["distribution"] == "corral-hasten"


def test_the_constraint_is_used_through_curl(venv: Any, url: str) -> None:
    body = {
        "prompt": "Write zeros and ones.",
        "format": {"type": "bits", "characters": "01", "length": 5},
        "options": LIMITS,
    }
    assert re.fullmatch("[01]{1,5}", curl(venv, url, "/api/generate", body)["response"])
    body["format"] = {"type": "bits"}
    wrong = curl(venv, url, "/api/generate", body)["error"]
    assert "format at #/characters: wanted a text" in wrong


def test_the_backend_is_used_through_curl(venv: Any, url: str) -> None:
    options = {"backend": "parrot", "parrot_times": 3}
    body = {"prompt": "ab", "raw": True, "options": options}
    assert curl(venv, url, "/api/generate", body)["response"] == "ababab"


def test_all_three_are_used_at_once_by_the_ollama_client(client: ollama.Client) -> None:
    answer = client.generate(
        "smollm2",
        "abba",
        raw=True,
        options={"backend": "parrot", "hasten": -5, "temperature": 0},
        format={"type": "bits", "characters": "ab"},
    )
    assert answer.response == "abba"


def test_sampler_and_constraint_are_used_by_the_ollama_client(client: ollama.Client) -> None:
    messages = [{"role": "user", "content": "Say something of letters."}]
    chat = client.chat(
        "smollm2",
        messages,
        options={**LIMITS, "hasten": -100},
        format={"type": "bits", "characters": "abc ", "length": 6},
    )
    assert re.fullmatch("[abc]{1,6}", chat.message.content or "")


def test_the_backend_may_be_a_models_own(client: ollama.Client) -> None:
    client.create("parroted", from_="smollm2", parameters={"backend": "parrot"})
    answer = client.generate("parroted", "hello", raw=True)
    assert answer.response == "hello"
    client.delete("parroted")


@pytest.mark.parametrize(
    ("source", "parameters"),
    [
        ("tiny-chat-f32.gguf", {}),
        ("tiny-chat-onnx", {}),
        ("gpt2byte-f16.gguf", {}),
        ("gpt2byte-f16.ggml.bin", {"model_type": "gpt2"}),
    ],
)
def test_sampler_and_constraint_work_on_models_of_every_backend(
    client: ollama.Client, source: str, parameters: dict[str, str]
) -> None:
    path = MODELS / source
    files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
    digests = {file.name: client.create_blob(file) for file in files}
    client.create("small", files=digests, parameters=parameters)
    options = {"num_predict": 8, "num_thread": 1, "num_ctx": 128, "temperature": 0}
    free, hastened = (
        client.generate("small", "Hello", raw=True, options={**options, **more}).response
        for more in ({}, {"hasten": 100})
    )
    assert hastened != free
    bound = client.generate(
        "small",
        "Hello",
        raw=True,
        options={**options, "hasten": -100},
        format={"type": "bits", "characters": "abc ", "length": 6},
        keep_alive=0,
    )
    assert re.fullmatch("[abc]{1,6}", bound.response)
    client.delete("small")


def test_broken_ones_are_reported(venv: Any, url: str) -> None:
    found = curl(venv, url, "/api/plugins")
    plugins = {plugin["name"]: plugin for plugin in found["plugins"]}
    assert {plugins[name.replace("-", "_")]["status"] for name in BROKEN[:3]} == {"failed"}
    assert "OSError: no such chip" in plugins["at_import"]["error"]
    assert "luck" in plugins["signature"]["error"]
    assert "written for plugin API 0" in plugins["outdated"]["error"]
    (clash,) = [clash for clash in found["clashes"] if clash["name"] == "top_k"]
    assert clash | {"kind": "sampler", "losers": ["twin"]} == clash
    assert {plugins[name]["status"] for name in KINDS} == {"ok"}


def test_broken_ones_are_told_of_by_the_command(venv: Any, url: str) -> None:
    command = [venv.path / "bin" / "corral", "plugins"]
    environment = venv.environment(venv.folder / "home", CORRAL_HOST=url)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    for words in (
        "at_import (failed): OSError: no such chip",
        "signature (failed): PluginValidationError",
        "outdated (failed): PluginError: it is written for plugin API 0",
    ):
        assert words in done.stdout
    assert "sampler 'top_k' is given by more than one plugin" in done.stdout


def test_the_doctor_names_what_is_broken(venv: Any, url: str) -> None:
    assert url  # they are installed
    wanted = {
        "at_import": "import and hooks",
        "signature": "import and hooks",
        "outdated": "API version",
        "twin": "names",
    }
    for name, check in wanted.items():
        told = venv.run("corral", "plugins", "doctor", name, check=False)
        failed = [line for line in told.splitlines() if line.startswith("failed")]
        assert any(f"{name}  {check} " in line for line in failed), told
    for name in KINDS:
        told = venv.run("corral", "plugins", "doctor", name)  # exit status 0
        assert "failed" not in told
        assert told.count("ok ") >= 6


def test_broken_ones_harm_nobody(client: ollama.Client) -> None:
    answer = client.generate("smollm2", "Hello!", options={**LIMITS, "top_k": 5})
    assert answer.done
    assert answer.eval_count


def test_uninstalled_they_are_gone(venv: Any, url: str) -> None:
    assert url  # the other server runs on beside the new one
    names = [f"corral-{name}" for name in (*KINDS, *BROKEN)]
    venv.run("pip", "uninstall", "-q", "-y", *names)
    with venv.serving() as server:
        plugins = {p["name"] for p in curl(venv, server.url, "/api/plugins")["plugins"]}
        assert plugins.isdisjoint([*KINDS, "twin", "at_import", "signature", "outdated"])
        gone = curl(
            venv,
            server.url,
            "/api/generate",
            {"prompt": "a", "format": {"type": "bits", "characters": "01"}},
        )
        assert "bits" in gone["error"]
        told = curl(
            venv, server.url, "/api/generate", {"prompt": "a", "options": {**LIMITS, "hasten": 1}}
        )
        assert any('"hasten" is unknown' in words for words in told["warnings"])
        missing = curl(
            venv, server.url, "/api/generate", {"prompt": "a", "options": {"backend": "parrot"}}
        )
        assert "backend 'parrot' is not installed" in missing["error"]
