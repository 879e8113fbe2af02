"""A virtual environment as an author of plugins has it: Corral installed from a wheel, and pip.

What Corral stands on is linked from the environment of the tests, so that it takes seconds and no
network; nothing of Corral itself is.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTENING = "Listening on "
_OURS = ("corral", "_corral")


@dataclass(frozen=True)
class Server:
    """A server of the environment's own."""

    process: subprocess.Popen[str]
    url: str


@dataclass(frozen=True)
class Venv:
    """The environment. `folder` is empty at first, and outside the source tree."""

    path: Path
    folder: Path

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """What a process sees that was started with the environment active."""
        dropped = ("CORRAL_", "OLLAMA_", "PYTHON", "VIRTUAL_ENV", "PIP_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        return kept | {
            "PATH": f"{self.path / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(self.path),
            "CORRAL_HOME": str(home),
            "CORRAL_HOST": "127.0.0.1:0",
            # All that a plugin is built with is here; a question to an index would be a mistake.
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # "do not isolate", in pip's way of negating
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            **more,
        }

    def run(self, *command: str | Path, cwd: Path | None = None, check: bool = True) -> str:
        """Run a command with the environment active; give both of its outputs."""
        done = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=self.environment(self.folder / "home"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}:\n{done.stdout}"
        return done.stdout

    @contextlib.contextmanager
    def serving(self, **settings: str) -> Iterator[Server]:
        """Run `corral serve` of this environment, until the end of the context."""
        process = subprocess.Popen(
            [self.path / "bin" / "corral", "serve"],
            cwd=self.folder,
            env=self.environment(self.folder / "home", **settings),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        log: list[str] = []
        try:
            assert process.stderr is not None
            for line in process.stderr:
                log.append(line)
                if LISTENING in line:
                    yield Server(process, "http://" + line.partition(LISTENING)[2].strip())
                    return
            raise AssertionError("".join(log))
        finally:
            process.terminate()
            process.communicate(timeout=100)


def fresh_venv(base: Path) -> Venv:
    """Make the environment, once for each base folder."""
    path = base / "author"
    if not path.exists():
        _make(path)
    folder = base / f"work-{len(list(base.glob('work-*')))}"
    folder.mkdir()
    return Venv(path, folder)


def _make(path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", path], check=True, timeout=500)
    there = path / "dependencies"
    there.mkdir()
    # More than one where an environment stands on another's packages.
    folders = [Path(folder) for folder in sys.path if Path(folder).name == "site-packages"]
    for item in (item for folder in folders for item in folder.iterdir()):
        ours = item.name.startswith((*_OURS, "__editable__", "pip", "setuptools"))
        if not ours and not (there / item.name).is_symlink():
            (there / item.name).symlink_to(item)
    (site,) = path.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{there}\n")
    wheels = path / "wheels"
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", wheels, ROOT], check=True, timeout=500)
    pip = [path / "bin" / "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, *wheels.glob("*.whl")], check=True, timeout=500)
    shutil.rmtree(wheels)
