"""Converts a folder and prints the most memory that this process ever had, in bytes.

python converting_child.py FOLDER OUT.gguf
"""

import resource
import sys
from pathlib import Path

from corral_safetensors.converting import convert
from corral_safetensors.source import ModelFiles

STATUS = Path("/proc/self/status")


def most_memory() -> int:
    # Linux lets a process begin with its parent's peak in getrusage, but not here.
    if STATUS.exists():
        (line,) = [one for one in STATUS.read_text().splitlines() if one.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


convert(ModelFiles.of_folder(Path(sys.argv[1])), Path(sys.argv[2]), lambda *_: None, print)
sys.stdout.write(str(most_memory()))
