"""`corral plugins new`: what it makes is sound as it stands, and what it refuses."""

import keyword
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from corral_cli.authoring_names import KINDS, PluginNames
from corral_cli.errors import UsageError
from corral_cli.main import main
from corral_kernel import __version__

LONGEST = "a_name_of_20_letters"
EXAMPLES = re.compile(
    r"(?<![a-z])(repeat|lean|alphabet|echo)(?![a-z])|(Repeat|Lean|Alphabet)[A-Z(]"
)


def make(kind: str, name: str, parent: Path) -> Path:
    assert main(["plugins", "new", kind, name, "--directory", str(parent)]) == 0
    (folder,) = parent.iterdir()
    assert folder.name == "corral-" + name.replace("_", "-")
    return folder


@pytest.fixture(scope="module", params=[f"{k} {n}" for k in KINDS for n in ("zz", LONGEST)])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new distribution's folder, of a short name or a long one."""
    kind, name = request.param.split()
    return make(kind, name, tmp_path_factory.mktemp("made") / "not" / "yet")


@pytest.fixture(scope="module", params=KINDS)
def usual(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new distribution's folder, of a name as names are."""
    folder = make(request.param, "my-calm", tmp_path_factory.mktemp("usual"))
    # As `pip install -e` leaves it, for the tests that have Corral find it.
    info = folder.parent / "site" / "corral_my_calm-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: corral-my-calm\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[corral]\nmy_calm = corral_my_calm\n")
    return folder


def run(folder: Path, *arguments: str) -> str:
    """Run a module in the folder; give what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder / 'src'}{os.pathsep}{folder.parent / 'site'}"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass(usual: Path) -> None:
    told = run(usual, "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "-p", "no:asyncio")
    passed = re.search(r"(\d+) passed", told)
    assert passed is not None
    assert int(passed[1]) >= 10


def test_its_types_fit_together(usual: Path) -> None:
    run(usual, "mypy", "src", "tests")


def test_it_is_formatted(usual: Path) -> None:  # of other names lines may break elsewhere
    run(usual, "ruff", "format", "--check", ".")


def test_the_linter_finds_nothing(made: Path) -> None:
    run(made, "ruff", "check", ".")


def test_nothing_is_left_of_the_example(made: Path) -> None:
    paths = [path for part in ("src", "tests", "*.md", "*.toml") for path in made.glob(part)]
    for path in [*paths, *made.glob("*/**/*.py")]:
        if path.is_file():
            assert not EXAMPLES.search(str(path.relative_to(made)))
            assert not EXAMPLES.search(path.read_text()), path
    assert (made / ".gitignore").is_file()
    assert list(made.glob("src/*/py.typed"))


def test_its_project_file_names_one_plugin(made: Path) -> None:
    project = tomllib.loads((made / "pyproject.toml").read_text())["project"]
    name = made.name.removeprefix("corral-").replace("-", "_")
    assert project["name"] == made.name
    assert project["entry-points"] == {"corral": {name: f"corral_{name}"}}
    assert "license" not in project
    (corral,) = [
        requirement
        for requirement in map(Requirement, project["dependencies"])
        if requirement.name == "corral"
    ]
    assert corral.specifier.contains(__version__)
    assert not corral.specifier.contains("1.0")


def test_its_readme_tells_what_people_ask(made: Path) -> None:
    readme = (made / "README.md").read_text()
    name = made.name.removeprefix("corral-").replace("-", "_")
    for words in (
        "pip install .",
        f"corral plugins doctor {name}",
        "corral shutdown",
        "curl http://127.0.0.1:11434/api/generate",
        f"pip uninstall {made.name}",
        "LICENSE",
    ):
        assert words in readme


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["new"], "plugins new takes a kind (backend, sampler, constraint) and a name"),
        (["new", "sampler"], "plugins new takes a kind"),
        (["new", "drafter", "x"], "no kind of plugin is called 'drafter'"),
        (["renew"], 'unknown subcommand "renew"'),
        (["doctor", "a", "b"], "takes one name at most"),
        (["doctor", "nobody"], "no plugin 'nobody' is installed; there are: alphabet, "),
        (["doctor", "--directory", "x"], "--directory belongs to `plugins new`"),
        (["new", "sampler", "1st"], "'1st' is no name for a plugin"),
        (["new", "sampler", "a b"], "'a b' is no name for a plugin"),
        (["new", "sampler", "../x"], "'../x' is no name for a plugin"),
        (["new", "sampler", "é"], "'é' is no name for a plugin"),
        (["new", "sampler", "a" * 21], "is no name for a plugin"),
        (["new", "sampler", "-"], "'-' is no name for a plugin"),
        (["new", "sampler", "lambda"], "'lambda' is a word of Python"),
        (["new", "backend", "load"], "'load' would need a class LoadOptions, which Corral has"),
        (["new", "sampler", "chat"], "'chat' clashes with the plugin chat of corral"),
        (["new", "backend", "lean"], "'lean' clashes with the plugin lean of corral-echo"),
        (["new", "sampler", "top-k"], "'top_k' clashes with a sampler of corral"),
        (["new", "sampler", "seed"], "'seed' clashes with an option"),
        (["new", "sampler", "num_ctx"], "'num_ctx' clashes with an option"),
        (["new", "sampler", "tfs_z"], "'tfs_z' clashes with an option"),
        (["new", "constraint", "json"], "'json' clashes with a format of Corral's own"),
        (["new", "constraint", "Number"], "'number' clashes with a type of JSON Schema"),
        (["new", "constraint", "kernel"], "'kernel' clashes with the module corral_kernel"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_made_is_said(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", *arguments]) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corral-mine").mkdir()
    assert main(["plugins", "new", "sampler", "mine"]) == 1
    assert "corral-mine is there already" in capsys.readouterr().err
    assert list((tmp_path / "corral-mine").iterdir()) == []


def test_a_name_may_bring_its_prefix_and_its_dashes() -> None:
    names = PluginNames.parse("sampler", "Corral-My.Calm")
    spellings = (names.name, names.distribution, names.module, names.classes)
    assert spellings == ("my_calm", "corral-my-calm", "corral_my_calm", "MyCalm")


@pytest.mark.parametrize(
    "word",
    sorted({word.lower() for word in keyword.kwlist} - {"true", "false", "none"} | {"match"}),
)
def test_no_word_of_python_is_a_name(word: str) -> None:
    with pytest.raises(UsageError):
        PluginNames.parse("sampler", word)
