"""The library's functions come without its package, which nobody else finds changed."""

import subprocess
import sys

import pytest

LIGHT = """
import sys
from corral_llamacpp.binding import lib
lib.llama_backend_init()
heavy = {"llama_cpp.llama", "llama_cpp.llama_chat_format", "jinja2", "diskcache"}
assert heavy.isdisjoint(sys.modules), heavy.intersection(sys.modules)
"""
AFTERWARDS = """
from corral_llamacpp.binding import lib
import llama_cpp
{use}
assert llama_cpp.llama_cpp is lib
assert llama_cpp.llama_backend_init is lib.llama_backend_init
assert llama_cpp.__version__
assert not hasattr(llama_cpp, "nothing_of_that_name")
"""
BEFORE = """
import llama_cpp
from corral_llamacpp.binding import lib
assert llama_cpp.llama_cpp is lib
assert llama_cpp.Llama
"""
AT_ONCE = """
import threading
from corral_llamacpp.binding import lib
import llama_cpp
found = []
threads = [threading.Thread(target=lambda: found.append(llama_cpp.Llama)) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert found == [llama_cpp.Llama] * 8
"""


@pytest.mark.parametrize(
    "program",
    [
        LIGHT,
        AFTERWARDS.format(use="llama_cpp.Llama"),
        AFTERWARDS.format(use="from llama_cpp import Llama, llama_cpp as low; assert low is lib"),
        AFTERWARDS.format(use="from llama_cpp import *; Llama; import llama_cpp"),
        AFTERWARDS.format(use="import llama_cpp.llama_chat_format as chat; chat.llama.Llama"),
        BEFORE,
        AT_ONCE,
    ],
    ids=[
        "nothing else is imported",
        "its classes come when asked for",
        "by name",
        "by star",
        "a module of it",
        "the package first",
        "from many threads",
    ],
)
def test_the_functions_come_alone_and_the_package_stays_whole(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
