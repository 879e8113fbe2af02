import json

import msgspec
import numpy as np
import pytest

from corral_api.wire.numbers import float32_text, float64_text, go_json
from corral_api.wire.vectors import float32_rows, widened_row

FLOAT64 = [
    (0.0, "0"),
    (-0.0, "-0"),
    (1.0, "1"),
    (-12.0, "-12"),
    (0.1, "0.1"),
    (0.10000000149011612, "0.10000000149011612"),
    (1e-5, "0.00001"),
    (1e-6, "0.000001"),
    (9.99e-7, "9.99e-7"),
    (1e-7, "1e-7"),
    (1.5e-10, "1.5e-10"),
    (5e-324, "5e-324"),
    (123456789012345680.0, "123456789012345680"),
    (1e20, "100000000000000000000"),
    (1e21, "1e+21"),
    (1.7e308, "1.7e+308"),
    (float("inf"), "1.7976931348623157e+308"),
    (float("-inf"), "-1.7976931348623157e+308"),
]
FLOAT32 = [
    (0.1, "0.1"),
    (0.33333334, "0.33333334"),
    (1e-6, "0.000001"),
    (1e-7, "1e-7"),
    (10000.0, "10000"),
    (16777216.0, "16777216"),
    (1e21, "1e+21"),
    (3.4028234663852886e38, "3.4028235e+38"),
    (1.401298464324817e-45, "1e-45"),
    (-0.0, "-0"),
    (1.0, "1"),
]


@pytest.mark.parametrize(("value", "text"), FLOAT64)
def test_a_64_bit_float_is_written_in_its_shortest_form(value: float, text: str) -> None:
    assert float64_text(value) == text


@pytest.mark.parametrize(("value", "text"), FLOAT32)
def test_a_32_bit_float_is_written_by_the_digits_that_32_bits_need(value: float, text: str) -> None:
    widened = float(np.float32(value))
    assert float32_text(widened) == text
    assert bytes(float32_rows(np.array([[value]], np.float32))) == f"[[{text}]]".encode()


def test_there_is_no_json_for_what_is_no_number() -> None:
    for write in (float32_text, float64_text):
        with pytest.raises(ValueError, match="NaN"):
            write(float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        float32_rows(np.array([[float("nan")]], np.float32))


def test_floats_inside_free_values_are_written_alike() -> None:
    value = {"b": [1.0, 2, "x", None, True], "a": {"c": 1e-7}}
    text = msgspec.json.encode(go_json(value))
    assert text == b'{"b":[1,2,"x",null,true],"a":{"c":1e-7}}'


def test_vectors_are_written_as_numpy_writes_their_shortest_digits() -> None:
    draw = np.random.default_rng(5)
    vectors = draw.standard_normal((40, 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[np.abs(vectors) < 1e-6] = 0.25  # numpy would not use an exponent for these
    vectors[0, :4] = [0.0, 1.0, -0.5, 2e-6]
    rows = bytes(float32_rows(vectors)).decode()[2:-2].split("],[")
    assert len(rows) == 40
    for row, vector in zip(rows, vectors, strict=True):
        expected = [np.format_float_positional(x, unique=True, trim="-") for x in vector]
        assert row.split(",") == expected


def test_vectors_of_any_size_come_back_bit_for_bit() -> None:
    draw = np.random.default_rng(6)
    bits = draw.integers(0, 2**32, 20_000, dtype=np.uint32)
    numbers = bits.view(np.float32)
    numbers = numbers[np.isfinite(numbers)].reshape(1, -1)
    back = np.array(json.loads(bytes(float32_rows(numbers))), np.float64).astype(np.float32)
    assert (back.view(np.uint32) == numbers.view(np.uint32)).all()
    texts = bytes(float32_rows(numbers)).decode()[2:-2].split(",")
    assert texts[:500] == [float32_text(float(number)) for number in numbers[0, :500]]


def test_the_older_route_gets_each_number_widened() -> None:
    vector = np.array([0.1, 1.0, 1e-5, -0.25], np.float32)
    assert bytes(widened_row(vector)) == (b"[0.10000000149011612,1,0.000009999999747378752,-0.25]")


def test_no_vectors_are_an_empty_list() -> None:
    assert bytes(float32_rows(np.zeros((0, 8), np.float32))) == b"[]"
