"""What docs/plugins/ctransformers.md says to write and to run."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
NAME = "ctransformers.md"
PAGE = (ROOT / "docs" / "plugins" / NAME).read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(600)
def test_its_first_blocks_make_a_model_that_answers(
    start_server: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, modelfile), (language, commands) = BLOCKS[:2]
    assert language == "sh"
    monkeypatch.setenv("CORRAL_HOST", start_server().url)
    old = ROOT / "tests" / "models" / "gpt2byte-f16.ggml.bin"
    written = modelfile.replace("./ggml-model-q4_0.bin", str(old)).replace("gptj", "gpt2")
    assert written != modelfile
    (tmp_path / "Modelfile").write_text(written)
    for command in commands.replace("Once upon a time", "one two").strip().splitlines():
        corral, *arguments = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)]
        assert corral == "corral"
        done = subprocess.run(
            [sys.executable, "-m", "corral_cli", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "three four five" in done.stdout
