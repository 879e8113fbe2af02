"""What names of GGUF files tell: the quantization, and which part of a split model one is."""

import re
from typing import Final

SUFFIX: Final = ".gguf"

_QUANTIZATION: Final = re.compile(
    r"(?:(?P<model>.*?)[-._])?(?P<kind>(?:UD[-_])?(?:I?Q[1-8](?:_[0-9A-Z]+){0,3}|TQ[12]_0|"
    r"MXFP4(?:_MOE)?|NVFP4|B?F16|FP16|F32))",
    re.IGNORECASE,
)
_SPLIT: Final = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})")


def is_gguf(name: str) -> bool:
    """Whether a file is one by its name."""
    return name.lower().endswith(SUFFIX)


def split_of(stem: str) -> tuple[str, int, int] | None:
    """Read `NAME-00002-of-00005`, a name without its ending: the name, the number, the count."""
    found = _SPLIT.fullmatch(stem)
    return (found["stem"], int(found["number"]), int(found["count"])) if found else None


def quantization_of(stem: str) -> tuple[str, str]:
    """Part a name without its ending into the model's and the quantization; either may be empty."""
    found = _QUANTIZATION.fullmatch(stem)
    return (found["model"] or "", found["kind"]) if found else (stem, "")
