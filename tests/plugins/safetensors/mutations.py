"""Converts a folder again and again, each time with something changed at random.

python mutations.py FOLDER SCRATCH COUNT SEED SECONDS: prints, as JSON, how many conversions were
refused, how many went through, and what ended otherwise. One that takes longer than SECONDS ends
the process.
"""

import json
import random
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from corral_kernel.errors import CorralError
from corral_safetensors.adapters import convert_adapter
from corral_safetensors.converting import convert
from corral_safetensors.source import ModelFiles

HOSTILE = [
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**400,
    0.5,
    -0.0,
    1e308,
    "",
    "\0",
    "x" * 5000,
    "\ud83d\ude00",
    "../../etc/passwd",
    [],
    [[]],
    [None],
    {},
    {"type": "Sequence"},
    {"a": {"a": {"a": []}}},
]
RAW = [b"NaN", b"Infinity", b"[" * 5000, b'{"a":' * 3000, b"\xff", b"1e999", b"", b"\xef\xbb\xbf"]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all that a JSON value holds."""
    found = [at]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*at, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value[:20]):
            found += places(inner, (*at, place))
    return found


def with_value(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = with_value(value[at[0]], at[1:], new)
    return copy


def without(value: Any, at: tuple[Any, ...]) -> Any:
    if len(at) == 1:
        copy = dict(value) if isinstance(value, dict) else list(value)
        del copy[at[0]]
        return copy
    return with_value(value, at[:1], without(value[at[0]], at[1:]))


def change_json(text: bytes, dice: random.Random) -> bytes:
    value = json.loads(text)
    found = places(value)
    # A tokenizer has thousands of tokens; what is not one of them is chosen as often.
    short = [at for at in found if len(at) <= 2] or found
    at = dice.choice(dice.choice([short, found]))
    if at and dice.random() < 0.25:
        return json.dumps(without(value, at)).encode()
    if dice.random() < 0.15:
        marked = json.dumps(with_value(value, at, "MARK")).encode()
        return marked.replace(b'"MARK"', dice.choice(RAW))
    return json.dumps(with_value(value, at, dice.choice(HOSTILE))).encode()


def change_bytes(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    at = dice.randrange(len(changed) + 1)
    kind = dice.randrange(4)
    if kind == 0 and at < len(changed):
        changed[at] = dice.randrange(256)
    elif kind == 1:
        del changed[at : at + dice.choice([1, 7, 100, len(changed)])]
    elif kind == 2:
        changed[at:at] = bytes(dice.randrange(256) for _ in range(dice.choice([1, 8, 50])))
    else:
        changed[at : at + 8] = dice.choice([b"\0" * 8, b"\xff" * 8, b"\x7f" * 8])
    return bytes(changed)


def change_weights(data: bytes, dice: random.Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length], data[8 + length :]
    kind = dice.randrange(6)
    if kind <= 2:
        header = change_json(header, dice)
        return len(header).to_bytes(8, "little") + header + rest
    if kind == 3:
        return change_bytes(data[: 8 + length], dice) + rest
    if kind == 4:
        return dice.randbytes(8) + data[8:]
    return data[: dice.randrange(len(data))]


def change(files: dict[str, bytes], dice: random.Random) -> tuple[str, bytes | None]:
    name = dice.choice(sorted(files))
    if dice.random() < 0.03:
        return name, None
    if name.endswith(".safetensors"):
        return name, change_weights(files[name], dice)
    if name.endswith(".json") and dice.random() < 0.85:
        return name, change_json(files[name], dice)
    return name, change_bytes(files[name], dice)


def convert_folder(folder: Path, out: Path, *, is_adapter: bool) -> None:
    files = ModelFiles.of_folder(folder)
    if is_adapter:
        convert_adapter(files, out, lambda *_: None)
    else:
        convert(files, out, lambda *_: None, lambda _: None)


def main(folder: Path, scratch: Path, count: int, seed: int, seconds: int) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, data in files.items():
        (scratch / name).write_bytes(data)
    is_adapter = "adapter_config.json" in files
    dice = random.Random(seed)
    refused, went_through, otherwise = 0, 0, []
    for number in range(count):
        name, data = change(files, dice)
        target = scratch / name
        target.unlink()
        if data is not None:
            target.write_bytes(data)
        signal.alarm(seconds)
        try:
            convert_folder(scratch, scratch.parent / "out.gguf", is_adapter=is_adapter)
            went_through += 1
        except CorralError as error:
            refused += bool(str(error))
        except BaseException:  # noqa: BLE001 - each is a finding
            otherwise.append(f"{number} {name}: {traceback.format_exc()[-600:]}")
        finally:
            signal.alarm(0)
        target.write_bytes(files[name])
    result = {"refused": refused, "went_through": went_through, "otherwise": otherwise}
    sys.stdout.write(json.dumps(result))


main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
