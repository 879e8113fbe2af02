"""`corral plugins doctor`: what it finds in plugins that are laid out as pip does it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from corral_cli.main import main
from corral_kernel.doctor import Check, examine

GOOD = """
from corral_kernel.contracts import SamplerType
from corral_kernel.plugins import hookimpl
CORRAL_API_VERSION = 1

class Type(SamplerType):
    name = "NAME"
    docs = "changes nothing"

    def start(self, options, job):
        from corral_kernel.contracts import Sampler
        class Nothing(Sampler):
            def apply(self, candidates):
                pass
        return Nothing()

@hookimpl
def corral_samplers():
    return [Type()]
"""
CONSTRAINT = """
from corral_kernel.contracts import ConstraintType
from corral_kernel.plugins import hookimpl
CORRAL_API_VERSION = 1

class Type(ConstraintType):
    name = "NAME"
    EXAMPLES

    def check(self, spec):
        import numpy

@hookimpl
def corral_constraints():
    return [Type()]
"""
BACKEND = """
from typing import Annotated
from msgspec import Meta
from corral_kernel.contracts import Backend, Claim, LoadOptions
from corral_kernel.plugins import hookimpl
CORRAL_API_VERSION = 1

class Options(LoadOptions, frozen=True, kw_only=True):
    OPTION: Annotated[int, Meta(description="any")] = 1

@hookimpl
def corral_backends():
    return [Backend(name="NAME", options=Options)]

@hookimpl
def corral_claim(model):
    return Claim(backend="NAME", confidence=0.5, why="any", capabilities=())
"""

QUANTIZER = """
from corral_kernel.contracts import QuantizationType, Quantizer
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1

class Mine(Quantizer):
    name, docs = "NAME", "for tests"
    types = (QuantizationType(name="T1", bits=1, docs="one"),)

    def offer(self, source, type_name):
        return None

@hookimpl
def corral_quantizers():
    return [Mine()]
"""

Install = Callable[..., str]
Checks = Callable[..., dict[str, Check]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lay out a distribution with one plugin; give the plugin's name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(code: str, name: str = "examined", distribution: str = "") -> str:
        distribution = distribution or f"dist-{name}"
        module = f"module_of_{distribution.replace('-', '_')}"
        (tmp_path / f"{module}.py").write_text(code.replace("NAME", name))
        info = tmp_path / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[corral]\n{name} = {module}\n")
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n"
        )
        return name

    return install


def checks(name: str) -> dict[str, Check]:
    (report,) = examine(name)
    found = {check.name: check for check in report.checks}
    assert len(found) == len(report.checks)
    return found


def failures(name: str) -> dict[str, str]:
    return {check.name: check.detail for check in checks(name).values() if check.status == "failed"}


def test_a_sound_plugin_has_nothing_wrong(install: Install) -> None:
    found = checks(install(GOOD))
    assert {check.status for check in found.values()} == {"ok"}
    assert list(found) == [
        "import",
        "API version",
        "hooks",
        "answers",
        "native code",
        "names",
        "sampler examined",
    ]
    assert found["hooks"].detail == "corral_samplers"
    assert found["answers"].detail == "samplers: examined"
    assert "more modules" in found["import"].detail


def test_a_quantizer_is_examined_without_a_model(install: Install) -> None:
    found = checks(install(QUANTIZER))
    assert {check.status for check in found.values()} == {"ok"}
    assert found["quantizer examined"].detail == "5 tests of its contract"


@pytest.mark.parametrize(
    ("code", "check", "words"),
    [
        ("import nothing_such", "import and hooks", "No module named 'nothing_such'"),
        ("this is no Python", "import and hooks", "SyntaxError"),
        (GOOD.replace("samplers()", "samplers(luck)"), "import and hooks", "luck"),
        (GOOD.replace("corral_samplers", "corral_simplers"), "import and hooks", "unknown hook"),
        (GOOD.replace("VERSION = 1", "VERSION = 7"), "API version", "set CORRAL_API_VERSION = 1"),
        (GOOD.replace("@hookimpl", ""), "hooks", "it implements no hook"),
        ("import numpy\n" + GOOD, "native code", "numpy"),
        (GOOD.replace("[Type()]", "[5]"), "answers", "gave int, not SamplerType"),
        (GOOD.replace("[Type()]", "1 / 0"), "answers", "ZeroDivisionError"),
        (GOOD.replace("NAME", "top_k"), "names", "sampler 'top_k' is given by corral"),
        (GOOD.replace("pass", "candidates.logits[:] = 0 / 0"), "sampler examined", "raised Zero"),
        (GOOD.replace("changes nothing", ""), "sampler examined", "needs `docs` of one line"),
        (CONSTRAINT.replace("EXAMPLES", "examples = ('x',)"), "native code", "numpy"),
        (CONSTRAINT.replace("EXAMPLES", "examples = ('x',)"), "format examined", "compile('x')"),
        (BACKEND.replace("confidence=0.5", "confidence=5"), "claims", "Expected `float` <= 1"),
        (BACKEND.replace("return Claim", "return dict"), "claims", "gave dict, not a Claim"),
        (BACKEND.replace("return Claim", "raise OSError() #"), "claims", "raised OSError"),
        (BACKEND.replace('description="any"', ""), "backend examined", "no Meta(description"),
        (QUANTIZER.replace("return None", "import numpy"), "native code", "numpy"),
        (QUANTIZER.replace("return None", "return 5"), "quantizer examined", "made an offer for"),
        (QUANTIZER.replace('"for tests"', '""'), "quantizer examined", "has no docs"),
        ("import os; os.abort()", "process", "was ended by signal 6"),
        ("import os; print('bye', flush=True); os._exit(3)", "process", "status 3: bye"),
    ],
    ids=lambda value: value if value and "\n" not in value and len(value) < 40 else "",
)
def test_what_is_wrong_is_named(install: Install, code: str, check: str, words: str) -> None:
    found = failures(install(code))
    assert words in found[check]


def test_a_constraint_without_examples_is_not_tried_and_that_is_said(install: Install) -> None:
    found = checks(install(CONSTRAINT.replace("EXAMPLES", "")))
    assert found["format examined"].status == "note"
    assert "no `examples`" in found["format examined"].detail


def test_the_second_plugin_of_a_name_is_told_who_has_it(install: Install) -> None:
    install(GOOD, "twin", "alpha")
    install(GOOD, "twin", "beta")
    first, second = examine("twin")
    assert [check.detail for check in first.checks if check.status == "failed"] == []
    (wrong,) = [check.detail for check in second.checks if check.status == "failed"]
    assert "alpha has a plugin of that name" in wrong


def test_a_field_that_somebody_has_is_worth_a_note(install: Install) -> None:
    code = GOOD.replace(
        "SamplerType\n",
        "SamplerType, SamplerOptions\nfrom typing import Annotated\n"
        "from msgspec import Meta\n"
        "class Own(SamplerOptions, frozen=True, kw_only=True):\n"
        "    seed: Annotated[str, Meta(description='another')] = ''\n",
        1,
    )
    found = checks(install(code.replace("docs =", "options = Own\n    docs =")))
    assert found["fields"].status == "note"
    assert "option 'seed' is corral's" in found["fields"].detail


def test_a_library_that_is_missing_is_worth_a_note(install: Install) -> None:
    backend = 'Backend(name="NAME", options=Options, library="nothing_such", extra="dist[x]")'
    found = checks(install(BACKEND.replace('Backend(name="NAME", options=Options)', backend)))
    assert found["library"].status == "note"
    assert "pip install 'dist[x]'" in found["library"].detail


def test_a_distribution_is_a_name_too(install: Install) -> None:
    install(GOOD, distribution="one-distribution")
    (report,) = examine("one-distribution")
    assert (report.plugin, report.distribution) == ("examined", "one-distribution")


def test_what_it_prints_is_no_check(install: Install) -> None:
    code = "import os; os.write(1, b'{}' * 100_000); print('noise')\n" + GOOD
    assert failures(install(code)) == {}


def test_the_command_prints_a_line_a_check_and_fails_with_any(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "doctor", install(GOOD, "good")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert all(line.startswith("ok      good  ") for line in lines)

    assert main(["plugins", "doctor", install("raise OSError('a\\x1bb')", "bad")]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("failed  bad  import and hooks")
    assert line.endswith("OSError: a b")


def test_what_is_built_in_is_in_good_health() -> None:
    reports = list(examine())
    assert {"chat", "guidance", "llamacpp", "packages", "samplers", "echo"} <= {
        report.plugin for report in reports
    }
    wrong = [
        (report.plugin, check)
        for report in reports
        for check in report.checks
        if check.status == "failed"
    ]
    assert wrong == []
