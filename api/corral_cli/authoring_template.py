"""A new distribution out of `plugin-template/`: the files of one kind, renamed."""

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from corral_cli.authoring_names import PluginNames
from corral_cli.errors import CommandError

_EXAMPLES: Final = {"backend": "repeat", "sampler": "lean", "constraint": "alphabet"}
_DESCRIPTIONS: Final = {
    "backend": "A backend for Corral.",
    "sampler": "A sampler for Corral.",
    "constraint": "A format constraint for Corral.",
}


def make(names: PluginNames, parent: Path) -> Path:
    """Write the distribution into a new folder, named as the distribution is.

    Args:
        names: Of the plugin.
        parent: Where the folder is made; it and its own parents are made too.

    Returns:
        The folder.

    Raises:
        CommandError: If there is such a folder already, or it cannot be written.
    """
    folder = parent / names.distribution
    template = template_folder()
    example = _EXAMPLES[names.kind]
    rename = _Renaming(example, names)
    wanted = {
        ".gitignore": ".gitignore",
        f"readme/{names.kind}.md": "README.md",
        **{path: rename(path) for path in _files(template, example)},
    }
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        project = _project((template / "pyproject.toml").read_text("utf-8"), example, names)
        (folder / "pyproject.toml").write_text(rename(project), "utf-8")
        for source, target in wanted.items():
            path = folder / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(rename((template / source).read_text("utf-8")), "utf-8")
    except FileExistsError:
        raise CommandError(f"{folder} is there already: choose another --directory") from None
    except OSError as error:
        raise CommandError(f"cannot make {folder}: {error.strerror or error}") from None
    return folder


def template_folder() -> Traversable:
    """Find `plugin-template/`: a wheel has it within this package, the source tree beside it.

    Raises:
        CommandError: If it is in neither place.
    """
    here = files("corral_cli")
    shipped = here / "plugin_template"
    if shipped.is_dir():
        return shipped
    beside = Path(str(here)).parents[1] / "plugin-template"
    if beside.is_dir():
        return beside
    raise CommandError(f"no plugin template at {shipped} or {beside}: install corral again")


class _Renaming:
    """Puts a plugin's names in place of an example's, in texts and paths."""

    def __init__(self, example: str, names: PluginNames) -> None:
        classes = example.capitalize()
        self._rules = (
            (re.compile(f"corral-{example}"), names.distribution),
            # Whole words alone: "repeats" is prose, `RepeatEngine` and `repeat_times` are names.
            (re.compile(f"(?:(?<=Test)|(?<![A-Za-z])){classes}(?![a-z])"), names.classes),
            (re.compile(f"(?<![A-Za-z]){example}(?![A-Za-z])"), names.name),
        )

    def __call__(self, text: str) -> str:
        for pattern, name in self._rules:
            text = pattern.sub(name, text)
        return text


def _files(template: Traversable, example: str) -> list[str]:
    """Paths of the sources and tests of one example."""
    package = f"src/corral_{example}"
    found = [f"{package}/{item.name}" for item in (template / package).iterdir() if item.is_file()]
    tests = [item.name for item in (template / "tests").iterdir()]
    found += [f"tests/{name}" for name in tests if name.startswith(f"test_{example}_")]
    return sorted(found)


def _project(text: str, example: str, names: PluginNames) -> str:
    """Reduce the template's project file to one plugin, still under the example's name."""
    description = _DESCRIPTIONS[names.kind]
    lines: list[str] = []
    table = ""
    for line in text.splitlines():
        if line.startswith("["):
            table = line
        key = line.partition(" = ")[0]
        if table == "[project]" and key == "license":
            continue  # whose it is, its author says
        if table == "[project.entry-points.corral]" and " = " in line and key != example:
            continue
        if table == "[project]" and key in ("name", "description"):
            value = f"corral-{example}" if key == "name" else description
            lines.append(f'{key} = "{value}"')
        elif key == "packages":
            lines.append(f'packages = ["src/corral_{example}"]')
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"
