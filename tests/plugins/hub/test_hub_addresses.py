import subprocess
import sys

import pytest

from corral_hub.addresses import parse
from corral_hub.registry import HubRegistry
from corral_kernel.contracts import RegistryCall
from corral_kernel.errors import InvalidNameError, RegistryError
from corral_kernel.names import ModelName


@pytest.mark.parametrize(
    ("text", "name", "revision", "wish"),
    [
        ("hf://user/Repo-GGUF", "hf.co/user/Repo-GGUF:latest", "main", ""),
        ("hf://u/r:Q8_0", "hf.co/u/r:Q8_0", "main", "Q8_0"),
        ("hf://u/r:latest", "hf.co/u/r:latest", "main", ""),
        ("hf://u/r@v1.0", "hf.co/u/r:latest", "v1.0", ""),
        ("hf://u/r@refs/pr/1:Q4_0", "hf.co/u/r:Q4_0", "refs/pr/1", "Q4_0"),
    ],
)
def test_an_address_names_repository_revision_and_wish(
    text: str, name: str, revision: str, wish: str
) -> None:
    found = parse(text)
    assert found is not None
    assert (found.name.full, found.revision, found.wish) == (name, revision, wish)
    assert HubRegistry().parse(text) == found.name


@pytest.mark.parametrize("text", ["", "u/r", "hf.co/u/r", "https://hf.co/u/r", "HF://u/r", "hf:/u"])
def test_other_names_are_none(text: str) -> None:
    assert parse(text) is None
    assert HubRegistry().claim(ModelName.parse("hf.co/u/r")) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "hf://", "hf://r", "hf://u/", "hf://u/r/x", "hf://u/r:", "hf://u/r@", "hf://u/r@:t",
        "hf://u/r@../x", "hf://u/r@a..b", "hf://u/r@-x", "hf://u /r", "hf://u/r\n", "hf://../r",
        "hf://u/r:a/b", "hf://u/" + "r" * 5000, "hf://u.v/r", "hf://u/\N{SNOWMAN}",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError):
        parse(text)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral_hub.registry._LIBRARY", "a_library_that_is_not_here")
    registry = HubRegistry()
    assert "pip install 'corral[hub]'" in registry.notes()[0]
    call = RegistryCall(name=ModelName.parse("hf.co/u/r"), home=None, address="hf://u/r")  # type: ignore[arg-type] # not asked
    with pytest.raises(RegistryError, match=r"pip install 'corral\[hub\]'"):
        registry.open(call)


def test_listing_the_registry_imports_no_library() -> None:
    code = (
        "import sys; from corral_hub import corral_registries\n"
        "[r.notes() for r in corral_registries()]\n"
        "print(sorted({'huggingface_hub', 'httpx', 'httpx2', 'hf_xet'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"[]\n"
