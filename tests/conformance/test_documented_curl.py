"""The requests that upstream's API document shows, as `curl` itself sends them.

Their bodies are the document's in form: keys, types, layout, names of models. `curl -d` sends them
as a form's content type, `curl -T` in one piece with a length after asking for a "100 Continue".
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

CURL = shutil.which("curl")
TINY = Path(__file__).parent.parent / "models" / "tiny-chat-f32.gguf"
DIGEST = f"sha256:{hashlib.sha256(TINY.read_bytes()).hexdigest()}"
NAMES = ("llama3.2", "llama3.1:8b", "llama3.1", "mistral", "codellama:code", "llava", "llama3:13b")

FORMAT = """  "format": {
    "type": "object",
    "properties": {
      "age": {
        "type": "integer"
      },
      "available": {
        "type": "boolean"
      }
    },
    "required": [
      "age",
      "available"
    ]
  }"""

pytestmark = pytest.mark.skipif(CURL is None, reason="needs curl")


@pytest.fixture(scope="module")
def url(start_server: Callable[..., Any]) -> str:
    """A server that has the document's models; all of them are the same small one."""
    started = start_server()
    with httpx.Client(base_url=started.url, timeout=60) as client:
        client.post(f"/api/blobs/{DIGEST}", content=TINY.read_bytes()).raise_for_status()
        for name in NAMES:
            body = {"model": name, "files": {"tiny.gguf": DIGEST}, "stream": False}
            client.post("/api/create", json=body).raise_for_status()
    address: str = started.url
    return address


@pytest.fixture(scope="module")
def curl(url: str) -> Callable[..., tuple[int, str]]:
    """Run curl with a path and more arguments; give the status and the body."""

    def run(path: str, *arguments: str) -> tuple[int, str]:
        assert CURL is not None
        command = [CURL, "-sS", "-w", "\n%{http_code}", *arguments, url + path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    return run


@pytest.fixture
def ask(curl: Callable[..., tuple[int, str]]) -> Callable[[str, str], list[dict[str, Any]]]:
    """Send a body with `-d`; give the objects of the answer, which must be a success."""

    def run(path: str, body: str) -> list[dict[str, Any]]:
        status, text = curl(path, "-d", body)
        assert status == 200, text
        return [json.loads(line) for line in text.splitlines()]

    return run


# --- /api/generate ------------------------------------------------------------------------------


def test_generate_streaming(ask: Any) -> None:
    *parts, last = ask(
        "/api/generate",
        '{\n  "model": "llama3.2",\n  "prompt": "capital of Italy?"\n}',
    )
    assert all(part["done"] is False and isinstance(part["response"], str) for part in parts)
    assert last["done"]
    assert last["context"]


def test_generate_without_streaming(ask: Any) -> None:
    (answer,) = ask(
        "/api/generate",
        '{\n  "model": "llama3.2",\n  "prompt": "capital of Italy?",\n  "stream": false\n}',
    )
    assert answer["response"]


def test_generate_structured_outputs(curl: Any) -> None:
    body = (
        """{
  "model": "llama3.1:8b",
  "prompt": "The server is 22 years old and has much to do. Respond using JSON",
  "stream": false,
"""
        + FORMAT
        + """
}"""
    )
    status, text = curl(
        "/api/generate", "-X", "POST", "-H", "Content-Type: application/json", "-d", body
    )
    assert status == 200, text
    # Whatever a small model says within a schema of unbounded numbers, it begins like this.
    assert json.loads(text)["response"].lstrip().startswith("{")


def test_generate_json_mode(ask: Any) -> None:
    (answer,) = ask(
        "/api/generate",
        """{
  "model": "llama3.2",
  "prompt": "give me json",
  "format": "json",
  "stream": false
}""",
    )
    assert answer["response"].lstrip().startswith("{")


def test_generate_raw_mode(ask: Any) -> None:
    (answer,) = ask(
        "/api/generate",
        """{
  "model": "mistral",
  "prompt": "[INST] capital of Italy? [/INST]",
  "raw": true,
  "stream": false
}""",
    )
    assert "context" not in answer


def test_generate_reproducible_outputs(ask: Any) -> None:
    body = """{
  "model": "mistral",
  "prompt": "who are you?",
  "options": {
    "seed": 123
  }
}"""
    answers = ["".join(part["response"] for part in ask("/api/generate", body)) for _ in range(2)]
    assert answers[0] == answers[1]


def test_generate_with_every_option(ask: Any) -> None:
    (answer,) = ask(
        "/api/generate",
        """{
  "model": "llama3.2",
  "prompt": "who are you?",
  "stream": false,
  "options": {
    "num_keep": 5,
    "seed": 42,
    "num_predict": 100,
    "top_k": 20,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 0.7,
    "repeat_last_n": 33,
    "temperature": 0.8,
    "repeat_penalty": 1.2,
    "presence_penalty": 1.5,
    "frequency_penalty": 1.0,
    "mirostat": 1,
    "mirostat_tau": 0.8,
    "mirostat_eta": 0.6,
    "penalize_newline": true,
    "stop": ["\\n", "user:"],
    "numa": false,
    "num_ctx": 1024,
    "num_batch": 2,
    "num_gpu": 1,
    "main_gpu": 0,
    "low_vram": false,
    "vocab_only": false,
    "use_mmap": true,
    "use_mlock": false,
    "num_thread": 8
  }
}""",
    )
    assert answer["done"]
    assert answer["eval_count"] <= 100


def test_generate_to_load_and_to_unload(ask: Any) -> None:
    (loaded,) = ask("/api/generate", '{\n  "model": "llama3.2"\n}')
    (unloaded,) = ask("/api/generate", '{\n  "model": "llama3.2",\n  "keep_alive": 0\n}')
    assert (loaded["done_reason"], unloaded["done_reason"]) == ("load", "unload")


# --- /api/chat ----------------------------------------------------------------------------------

HELLO = """{
  "model": "llama3.2",
  "messages": [
    {
      "role": "user",
      "content": "capital of Italy?"
    }
  ]"""


def test_chat_streaming(ask: Any) -> None:
    *parts, last = ask("/api/chat", HELLO + "\n}")
    assert all(part["message"]["role"] == "assistant" for part in parts)
    assert last["done"]


def test_chat_without_streaming(ask: Any) -> None:
    (answer,) = ask("/api/chat", HELLO + ',\n  "stream": false\n}')
    assert answer["message"]["content"]


def test_chat_reproducible_outputs(ask: Any) -> None:
    options = ',\n  "options": {\n    "seed": 101,\n    "temperature": 0\n  }\n}'
    answers = ask("/api/chat", HELLO + options)
    assert "".join(part["message"]["content"] for part in answers) == "Rome."


def test_chat_structured_outputs(curl: Any) -> None:
    body = (
        """{
  "model": "llama3.1",
  "messages": [{"role": "user", "content": "give me json"}],
  "stream": false,
"""
        + FORMAT
        + """,
  "options": {
    "temperature": 0
  }
}"""
    )
    status, text = curl(
        "/api/chat", "-X", "POST", "-H", "Content-Type: application/json", "-d", body
    )
    assert status == 200, text
    assert json.loads(text)["message"]["content"].lstrip().startswith("{")


def test_chat_with_history(ask: Any) -> None:
    *_, last = ask(
        "/api/chat",
        """{
  "model": "llama3.2",
  "messages": [
    {
      "role": "user",
      "content": "capital of Italy?"
    },
    {
      "role": "assistant",
      "content": "Rome."
    },
    {
      "role": "user",
      "content": "count to five"
    }
  ]
}""",
    )
    assert last["prompt_eval_count"] > 50


def test_chat_to_load_and_to_unload(ask: Any) -> None:
    (loaded,) = ask("/api/chat", '{\n  "model": "llama3.2",\n  "messages": []\n}')
    (unloaded,) = ask(
        "/api/chat", '{\n  "model": "llama3.2",\n  "messages": [],\n  "keep_alive": 0\n}'
    )
    assert (loaded["done_reason"], unloaded["done_reason"]) == ("load", "unload")


# --- what this release refuses, in the document's own requests ----------------------------------

TOOLS = """,
  "stream": false,
  "tools": [
    {
      "type": "function",
      "function": {
        "name": "get_current_weather",
        "description": "The weather at a place",
        "parameters": {
          "type": "object",
          "properties": {
            "location": {
              "type": "string",
              "description": "Where"
            },
            "format": {
              "type": "string",
              "description": "In which unit",
              "enum": ["celsius", "fahrenheit"]
            }
          },
          "required": ["location", "format"]
        }
      }
    }
  ]
}"""


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/api/chat", HELLO + TOOLS, "does not support tools"),
        (
            "/api/generate",
            """{
  "model": "codellama:code",
  "prompt": "def compute_gcd(a, b):",
  "suffix": "    return result",
  "options": {
    "temperature": 0
  },
  "stream": false
}""",
            "does not support insert",
        ),
        (
            "/api/generate",
            """{
  "model": "llava",
  "prompt":"What is in this picture?",
  "stream": false,
  "images": ["iVBORw0KGgoAAAANSUhEUgAAAG0="]
}""",
            "does not support images",
        ),
    ],
    ids=["tools", "suffix", "images"],
)
def test_what_these_models_cannot_do(curl: Any, path: str, body: str, words: str) -> None:
    status, text = curl(path, "-d", body)
    assert status == 400
    assert words in json.loads(text)["error"]


def test_a_trailing_comma_is_no_json(curl: Any) -> None:
    status, text = curl("/api/chat", "-d", HELLO.replace('Italy?"', 'Italy?",') + "\n}")
    error = "invalid character '}' looking for beginning of object key string"
    assert (status, json.loads(text)) == (400, {"error": error})


# --- models -------------------------------------------------------------------------------------


def test_quantize_a_model(ask: Any) -> None:
    *_, last = ask(
        "/api/create",
        """{
  "model": "llama3.2:quantized",
  "from": "llama3.2",
  "quantize": "q4_K_M"
}""",
    )
    assert last == {"status": "success"}
    shown = ask("/api/show", '{"model": "llama3.2:quantized"}')
    assert shown[-1]["details"]["quantization_level"] == "Q4_K_M"


def test_create_from_a_model(ask: Any) -> None:
    *_, last = ask(
        "/api/create",
        """{
  "model": "mario",
  "from": "llama3.2",
  "system": "You are a plumber."
}""",
    )
    assert last == {"status": "success"}


def test_create_from_a_file(ask: Any) -> None:
    body = f"""{{
  "model": "my-gguf-model",
  "files": {{
    "test.gguf": "{DIGEST}"
  }}
}}"""
    statuses = [step["status"] for step in ask("/api/create", body)]
    assert statuses == [
        "parsing GGUF",
        f"using existing layer {DIGEST}",
        "writing manifest",
        "success",
    ]


def test_blobs(curl: Any, tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"some megabytes " * 200_000)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert curl(f"/api/blobs/sha256:{digest}", "-I")[0] == 404
    assert curl(f"/api/blobs/sha256:{digest}", "-T", str(file), "-X", "POST") == (201, "")
    assert curl(f"/api/blobs/sha256:{digest}", "-I")[0] == 200


def test_list_show_and_ps(curl: Any, ask: Any) -> None:
    assert len(json.loads(curl("/api/tags")[1])["models"]) >= len(NAMES)
    (shown,) = ask("/api/show", '{\n  "model": "llama3.2"\n}')
    assert shown["model_info"]["general.architecture"] == "llama"
    ask("/api/generate", '{\n  "model": "llama3.2"\n}')
    assert json.loads(curl("/api/ps")[1])["models"]
    assert json.loads(curl("/api/version")[1])["version"]


def test_copy_and_delete(curl: Any) -> None:
    copy = '{\n  "source": "llama3.2",\n  "destination": "llama3-backup"\n}'
    assert curl("/api/copy", "-d", copy) == (200, "")
    delete = '{\n  "model": "llama3:13b"\n}'
    assert curl("/api/delete", "-X", "DELETE", "-d", delete) == (200, "")
    assert curl("/api/delete", "-X", "DELETE", "-d", delete)[0] == 404


# --- vectors ------------------------------------------------------------------------------------


@pytest.mark.real
def test_embed(url: str, ask: Any, minilm_file: Path) -> None:
    digest = f"sha256:{hashlib.sha256(minilm_file.read_bytes()).hexdigest()}"
    with httpx.Client(base_url=url, timeout=60) as client:
        client.post(f"/api/blobs/{digest}", content=minilm_file.read_bytes()).raise_for_status()
        body = {"model": "all-minilm", "files": {"m.gguf": digest}, "stream": False}
        client.post("/api/create", json=body).raise_for_status()
    (one,) = ask("/api/embed", '{\n  "model": "all-minilm",\n  "input": "A question?"\n}')
    (two,) = ask("/api/embed", '{\n  "model": "all-minilm",\n  "input": ["One?", "Two?"]\n}')
    (old,) = ask("/api/embeddings", '{\n  "model": "all-minilm",\n  "prompt": "An article…"\n}')
    assert [len(vector) for vector in one["embeddings"] + two["embeddings"]] == [384] * 3
    assert list(one) == [
        "model",
        "embeddings",
        "total_duration",
        "load_duration",
        "prompt_eval_count",
    ]
    assert len(old["embedding"]) == 384
