"""`corral create` and `show` beside a real server: what is made, shown, and made again."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

MODELS = Path(__file__).parents[1] / "models"
LIMIT_S = 300
NASTY = '''\
FROM {models}/tiny-chat-f32.gguf
ADAPTER {models}/lora-zorblax-f16.gguf
TEMPLATE """{{{{ .System }}}}
"{{{{ .Prompt }}}}" """
SYSTEM """"Hi" is all that you say.\t"""
LICENSE MIT
LICENSE """
  BSD
"""
REQUIRES v0.14.0
PARAMETER stop "
"
PARAMETER stop """"a" and "b\""""
PARAMETER stop #
PARAMETER num_ctx 1048576
PARAMETER temperature 0.3
PARAMETER use_mmap false
PARAMETER min_p 1e-5
PARAMETER seed -3
PARAMETER samplers top_k
PARAMETER samplers {{"name": "min_p", "min_p": 0.1}}
MESSAGE user \'\'\'x\'\'\'
MESSAGE assistant """"
two\r
lines """
MESSAGE system # no comment
'''


class Ended(NamedTuple):
    """How a command ended; line ends are as they were written."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Any]) -> Any:
    return start_server()


@pytest.fixture
def corral(server: Any, tmp_path: Path) -> Callable[..., Ended]:
    """Runs a command in an empty folder."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
    env = kept | {"CORRAL_HOST": server.url, "CORRAL_HOME": str(tmp_path / "home")}

    def run(*words: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "corral_cli", *words],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            check=False,
            timeout=LIMIT_S,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


def made_of(server: Any, model: str) -> tuple[list[tuple[str, str]], Any]:
    """Types and digests of the layers of a model, sorted, and its config."""
    models = server.home / "models"
    path = models / f"manifests/registry.ollama.ai/library/{model}/latest"
    manifest = json.loads(path.read_bytes())
    config = models / "blobs" / manifest["config"]["digest"].replace(":", "-")
    layers = sorted((layer["mediaType"], layer["digest"]) for layer in manifest["layers"])
    return layers, json.loads(config.read_bytes())


def test_a_modelfile_as_shown_makes_the_same_model_again(
    server: Any, corral: Any, tmp_path: Path
) -> None:
    (tmp_path / "Modelfile").write_bytes(NASTY.format(models=MODELS).encode())
    assert corral("create", "nasty").err.endswith("success\n")
    shown = corral("show", "--modelfile", "nasty").out
    assert "# No Modelfile can say" not in shown
    (tmp_path / "Again").write_bytes(shown.encode())

    again = corral("create", "again", "-f", "Again")

    assert again.status == 0, again.err
    assert "copying file" not in again.err  # the server has every blob
    assert made_of(server, "again") == made_of(server, "nasty")
    assert made_of(server, "again")[1]["requires"] == "0.14.0"
    for part in ("--parameters", "--system", "--template", "--license"):
        assert corral("show", part, "again").out == corral("show", part, "nasty").out
    assert corral("rm", "nasty", "again").status == 0
