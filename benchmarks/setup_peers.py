"""Sets up what Corral is measured beside: `python -m benchmarks.setup_peers [--cache FOLDER]`.

Into the folder (`CORRAL_BENCH_CACHE`, by default `~/.cache/corral-bench`) go an environment with
`xllamacpp` and `llama-cpp-python[server]`, so that theirs and our dependencies do not meet, and
`llama-bench`, built with cmake from the sources of the llama-cpp-python that Corral runs here. It
takes a C++ compiler, cmake and some minutes; a second time only what is missing is done.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

CACHE: Final = Path(os.environ.get("CORRAL_BENCH_CACHE", "~/.cache/corral-bench")).expanduser()
PEERS_PYTHON: Final = Path("peers") / "bin" / "python"
LLAMA_BENCH: Final = Path("llama-bench") / "bin" / "llama-bench"
BINDING: Final = "llama-cpp-python"
XLLAMACPP: Final = "xllamacpp"
# As the binding's own build has them, beside what llama-bench does not need.
_FLAGS: Final = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
)


def main() -> int:
    """Make what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.setup_peers", description=__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where everything goes")
    parser.add_argument("--sdist", type=Path, help=f"{BINDING}'s source archive (else by pip)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at once")
    arguments = parser.parse_args()
    cache: Path = arguments.cache.resolve()
    if not (cache / PEERS_PYTHON).exists():
        make_environment(cache / "peers")
    if not (cache / LLAMA_BENCH).exists():
        build_llama_bench(cache / "llama-bench", arguments.sdist, arguments.jobs)
    return 0


def make_environment(folder: Path) -> None:
    """Make the peers' environment, with the release of the binding that Corral runs."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    wanted = (XLLAMACPP, f"{BINDING}[server]=={version(BINDING)}")
    _run([str(python), "-m", "pip", "install", "--quiet", *wanted])


def build_llama_bench(folder: Path, sdist: Path | None, jobs: int) -> None:
    """Build llama-bench.

    Args:
        folder: Where the build goes; the program is `bin/llama-bench` in it.
        sdist: The binding's source archive; None: pip fetches it.
        jobs: Compilers at once.
    """
    with tempfile.TemporaryDirectory() as temporary:
        archive = sdist or _download(Path(temporary))
        with tarfile.open(archive) as files:
            files.extractall(temporary, filter="data")
        source = next(Path(temporary).glob("llama_cpp_python-*/vendor/llama.cpp"))
        _run(["cmake", "-S", str(source), "-B", str(folder), *_FLAGS])
        _run(["cmake", "--build", str(folder), "--target", "llama-bench", "-j", str(jobs)])


def _download(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", BINDING]
    _run([*pip, "-d", str(folder), f"{BINDING}=={version(BINDING)}"])
    return next(folder.glob("llama_cpp_python-*.tar.gz"))


def _run(command: Sequence[str]) -> None:
    print("+", *command, flush=True)
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"{command[0]} failed: see above")


if __name__ == "__main__":
    sys.exit(main())
