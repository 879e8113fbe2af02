"""Loads each file that it is told of in a process of its own, and says what became of that.

Standard input has lines of `walk` or `bare` (without our checks), an architecture and a path, with
tabs; standard output one line for each: `text`, `refused`, `hung` or `died`, and words.
"""

import faulthandler
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path

from corral_ctransformers.loading import load
from corral_ctransformers.options import GgmlOptions
from corral_kernel.contracts import Claim, FileRef, Job, LoadRequest, TextPart
from corral_kernel.errors import CorralError

LIMIT_S = 60.0
MEMORY_BYTES = 8 << 30
TOKENS = 3
CLAIM = Claim(backend="ctransformers", confidence=1.0, why="", capabilities=("completion",))


def main() -> None:
    for line in sys.stdin:
        mode, model_type, path = line.rstrip("\n").split("\t")
        outcome, words = tried(mode, model_type, path)
        sys.stdout.write(f"{outcome}\t{' '.join(words.split())}\n")
        sys.stdout.flush()


def tried(mode: str, model_type: str, path: str) -> tuple[str, str]:
    """Fork, and see to it that the child ends."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        faulthandler.disable()  # pytest's: deaths are expected here
        os.close(reading)
        os.dup2(writing, 1)  # the library prints to both
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        run = walked if mode == "walk" else bare
        os.write(writing, ("\n" + run(model_type, path)).encode())
        os._exit(0)
    os.close(writing)
    said = collected(reading)
    if said is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "hung", f"no end after {LIMIT_S} s"
    _, status = os.waitpid(child, 0)
    if status:
        code = os.waitstatus_to_exitcode(status)
        return "died", f"exit {code}"
    outcome, _, words = said.rsplit("\n", 1)[-1].partition("\t")
    return outcome, words


def collected(reading: int) -> str | None:
    """All that the child wrote; None: it took too long."""
    data, end = b"", time.monotonic() + LIMIT_S
    while (left := end - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0]:
            more = os.read(reading, 1 << 16)
            if not more:
                os.close(reading)
                return data.decode(errors="replace")
            data += more
    os.close(reading)
    return None


def walked(model_type: str, path: str) -> str:
    """What Corral does with a file."""
    request = LoadRequest(
        claim=CLAIM,
        options=GgmlOptions(model_type=model_type, num_thread=1),
        files=(FileRef(role="weights", digest="", size_bytes=0, path=path),),
        slots=1,
        report=lambda _share: True,
    )
    try:
        engine = load(request)
        prompt = engine.prepare([TextPart("one two the")])
        engine.admit(Job(id=1, prompt=prompt, max_tokens=TOKENS))
        ids: list[int] = []
        while len(ids) < TOKENS:
            (rows,) = engine.forward()
            if rows.logits is not None:
                ids.append(int(rows.logits[0].argmax()))
                engine.extend(1, ids[-1:])
    except CorralError as error:
        return f"refused\t{error}"
    return f"text\t{ids}"


def bare(model_type: str, path: str) -> str:
    """What the library does by itself."""
    import ctransformers

    try:
        config = ctransformers.Config(context_length=64, threads=1)
        model = ctransformers.LLM(str(Path(path)), model_type, config=config, lib="avx2")
        model.eval(model.tokenize("one two the") or [0])
        ids = [int(max(range(len(model.logits)), key=model.logits.__getitem__))]
    except (RuntimeError, ValueError) as error:
        return f"refused\t{error}"
    return f"text\t{ids}"


if __name__ == "__main__":
    main()
