"""Names of the files of a model that is a folder: paths with slashes, sound on every machine.

check_folder_names(["genai_config.json", "onnx/model.onnx"])    # InvalidRequestError
is_generator(names)  is_encoder(names)                          # what the files make together
graph_name(names)                                               # which of them is an encoder's

They come from clients and manifests, and folders for workers are built from them: so nothing passes
that leads elsewhere, that another system reads as something else, or that two files could share.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator
from typing import Final

from corral_kernel.errors import InvalidRequestError

GENAI_CONFIG: Final = "genai_config.json"
TOKENIZER: Final = "tokenizer.json"
_USUAL_GRAPHS: Final = ("model.onnx", "onnx/model.onnx")
_GRAPH_SUFFIX: Final = ".onnx"

MAX_FILES: Final = 1000
MAX_NAME_BYTES: Final = 512
MAX_PART_BYTES: Final = 200  # file systems take 255; what we build aside has a longer name
MAX_DEPTH: Final = 16
_SHOWN: Final = 100  # characters of a name in a message

_FOREIGN: Final = re.compile(r'[<>:"|?*\\]')
_WINDOWS_DEVICE: Final = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])(?:\..*)?",
    re.IGNORECASE,
)


def check_folder_names(names: Collection[str]) -> None:
    """Check that files of these names can lie in one folder, on any system.

    Raises:
        InvalidRequestError: Says which name is wrong, and why.
    """
    if len(names) > MAX_FILES:
        raise InvalidRequestError(
            f"{len(names)} files are too many: the folder of a model holds {MAX_FILES} at most"
        )
    folded: dict[str, str] = {}
    for name in names:
        if fault := _fault(name):
            raise InvalidRequestError(f"file name {_shown(name)} {fault}")
        key = _fold(name)
        if key in folded:
            raise InvalidRequestError(
                f"file names {_shown(folded[key])} and {_shown(name)} are the same to some "
                "systems: rename one of them"
            )
        folded[key] = name
    for key, name in folded.items():
        for parent in _parents(key):
            if parent in folded:
                raise InvalidRequestError(
                    f"file name {_shown(folded[parent])} is also the folder of {_shown(name)}"
                )


def is_generator(names: Collection[str]) -> bool:
    """Whether files of these names are a model of ONNX Runtime GenAI."""
    return GENAI_CONFIG in names


def is_encoder(names: Collection[str]) -> bool:
    """Whether files of these names are one ONNX graph and its tokenizer."""
    return TOKENIZER in names and bool(graph_name(names))


def graph_name(names: Collection[str]) -> str:
    """Which of these names is the graph of an encoder; empty: none, or one of several."""
    graphs = [name for name in names if name.endswith(_GRAPH_SUFFIX)]
    for usual in _USUAL_GRAPHS:
        if usual in graphs:
            return usual
    return graphs[0] if len(graphs) == 1 else ""


def _fault(name: str) -> str:
    """Say what is wrong with one name; empty: nothing."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "is no relative path: it may not begin or end with '/', nor hold '//', '.' or '..'"
    if not all(map(str.isprintable, parts)):
        return "holds a character that cannot be printed"
    if found := _FOREIGN.search(name):
        return f"holds {found[0]!r}, which some systems do not take: rename the file"
    if len(name.encode()) > MAX_NAME_BYTES or len(parts) > MAX_DEPTH:
        return f"is too long: {MAX_NAME_BYTES} bytes and {MAX_DEPTH} parts are the most"
    return next(filter(None, map(_fault_of_part, parts)), "")


def _fault_of_part(part: str) -> str:
    if len(part.encode()) > MAX_PART_BYTES:
        return f"has a part of over {MAX_PART_BYTES} bytes"
    if part[-1] in ". " or part[0] == " ":
        return "has a part that begins with a blank, or ends with a blank or a dot"
    if _WINDOWS_DEVICE.fullmatch(part):
        return f"holds {part!r}, which is a device on Windows: rename the file"
    return ""


def _fold(name: str) -> str:
    """Give what is equal for names that some file system takes for one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def _shown(name: str) -> str:
    return ascii(name) if len(name) <= _SHOWN else f"{name[:_SHOWN]!a}…"
