"""What a fresh interpreter has loaded once all plugins are discovered."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pluggy

from corral_kernel import hookspecs

ROOT = Path(__file__).parents[2]

DISCOVER = """
import json, sys
from corral_kernel.plugins import Plugins
from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName
plugins = Plugins()
provided = {p.name: plugins.provides(p) for p in plugins.plugins}
plugins.lent()
plugins.bids(Model(name=ModelName.parse("m"), digest="0" * 64, size_bytes=0, modified_ns=0,
                   config=ModelConfig(), files=()))
print(json.dumps([provided, [p.error for p in plugins.plugins], sorted(sys.modules)]))
"""

NATIVE = {"llama_cpp", "llguidance", "numpy", "onnxruntime", "onnxruntime_genai", "ctransformers"}
NATIVE |= {"torch", "litestar", "uvicorn", "httpx"}


def test_discovery_and_claims_load_no_native_library_and_no_http() -> None:
    result = subprocess.run(
        [sys.executable, "-c", DISCOVER], capture_output=True, text=True, check=True, cwd="/"
    )
    provided, errors, modules = json.loads(result.stdout)
    assert provided["llamacpp"] == {"backends": ["llamacpp"], "quantizers": ["llamacpp"]}
    assert provided["echo"] == {"backends": ["echo"]}
    assert provided["chat"]["renderers"]
    assert {"generic", "hermes", "qwen3"} <= {*provided["chat"]["parsers"]}
    assert not any(errors)
    assert NATIVE.isdisjoint(modules)


def test_the_kernel_alone_loads_no_numpy() -> None:
    code = (
        "import corral_kernel.service, sys; print(sorted({'numpy', 'jinja2'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_a_process_that_waits_has_neither_store_nor_http_nor_native_library() -> None:
    code = (
        "import json, sys, corral_kernel.worker.beginning, corral_kernel.plugins as kernel;"
        "kernel.Plugins(); print(json.dumps(sorted(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    modules = set(json.loads(result.stdout))
    assert (NATIVE - {"numpy"}).isdisjoint(modules)
    assert not [name for name in modules if name.startswith("corral_kernel.store")]


def hooks() -> list[str]:
    """Names in the order in which they are specified."""
    manager = pluggy.PluginManager("corral")
    manager.add_hookspecs(hookspecs)
    return [name for name in vars(hookspecs) if hasattr(manager.hook, name) and name[0] != "_"]


def test_the_page_of_hooks_lists_each_and_no_other() -> None:
    page = (ROOT / "docs" / "hooks.md").read_text()
    assert re.findall(r"^\| `(corral_[a-z_]+)", page, re.MULTILINE) == hooks()


def test_every_hook_has_a_plugin_that_uses_it() -> None:
    sources = [*ROOT.glob("plugins/*/__init__.py"), *ROOT.glob("plugin-template/src/*/__init__.py")]
    used = set()
    for source in sources:
        used |= set(re.findall(r"def (corral_[a-z_]+)\(", source.read_text()))
    assert used == set(hooks())
