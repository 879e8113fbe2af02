"""Addresses of other servers: what is one, what is a key, and which may be asked."""

import pytest

from corral_kernel.errors import InvalidRequestError, RemoteHostError
from corral_kernel.remotes import (
    RemotePolicy,
    check_target,
    is_reference,
    parse_remote,
    split_source,
)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://host/v1", "https://host/v1"),
        ("HTTPS://Models.Example.ORG/V1/", "https://models.example.org/V1"),
        ("http://host:8000", "http://host:8000"),
        ("host:8000/v1", "https://host:8000/v1"),
        (" https://ollama.com:443 ", "https://ollama.com:443"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://10.0.0.1/a%20b/v1//", "https://10.0.0.1/a%20b/v1"),
    ],
)
def test_a_base_url_is_read_and_written_one_way(text: str, url: str) -> None:
    assert parse_remote(text) == url
    assert parse_remote(url) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/etc/passwd",
        "ftp://host/v1",
        "file:///etc/passwd",
        "https://",
        "https://user@host/v1",
        "https://user:secret@host/v1",
        "https://host/v1?key=secret",
        "https://host/v1?",
        "https://host/v1#model",
        "https://host:port/v1",
        "https://host:0/v1",
        "https://host:65536/v1",
        "https://ho st/v1",
        "https://host/v1\r\nX: y",
        "https://host\\@other/v1",
        "https://host/ü",
        "https://-host/",
        "https://hößt/v1",
        "https://[::1/v1",
        "https://host/" + "a" * 2000,
    ],
)
def test_what_is_no_base_url_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^bad remote: ") as caught:
        parse_remote(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://host/v1#a/b:c", ("https://host/v1", "a/b:c")),
        ("HTTP://host#m#n", ("HTTP://host", "m#n")),
        ("https://host/v1#", ("https://host/v1", "")),
        ("https://hf.co/user/model", None),
        ("smollm2", None),
        ("./file#1.gguf", None),
    ],
)
def test_a_source_tells_server_and_model(text: str, found: tuple[str, str] | None) -> None:
    assert split_source(text) == found


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-7B-Instruct", "/models/a b.gguf", "gpt:20b", "ü"])
def test_a_model_elsewhere_may_have_any_name(name: str) -> None:
    assert check_target(name) == name


@pytest.mark.parametrize("name", ["", " a", "a\n", "a\x00", "a" * 351, "a\u202eb"])
def test_a_name_elsewhere_is_a_short_line(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^invalid model name$"):
        check_target(name)


@pytest.mark.parametrize("value", ["env:OPENAI_API_KEY", "file:/run/secrets/key", "file:key.txt"])
def test_a_key_is_referred_to(value: str) -> None:
    assert is_reference(value)


@pytest.mark.parametrize(
    "value", ["sk-abcdef", "env:", "env:A B", "env:1A", "file:", "file:a\nb", "ENV:A", 5, None]
)
def test_what_is_no_reference_is_told_from_one(value: object) -> None:
    assert not is_reference(value)


# --------------------------------------------------------------------------------------- policy

LISTED = ("models.example.org", "Box:8000", "localhost", "10.0.0.7", "192.168.0.0/16", "[fd00::1]")


@pytest.mark.parametrize(
    "url",
    [
        "https://models.example.org/v1",
        "http://models.example.org:1234",
        "https://MODELS.example.org./v1",
        "http://box:8000/v1",
        "http://localhost:8000/v1",
        "http://10.0.0.7:8000",
        "http://192.168.4.4/v1",
        "http://[fd00::1]:8000/v1",
        "http://[fd00:0::1]/v1",
    ],
)
def test_what_is_listed_may_be_asked(url: str) -> None:
    RemotePolicy(LISTED).check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/v1",
        "https://a.models.example.org/v1",
        "https://models.example.org.evil.net/v1",
        "http://box/v1",
        "http://box:8001/v1",
        "http://127.0.0.1:8000",
        "http://127.1:8000",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://10.0.0.8",
        "http://[::1]/",
        "http://[::ffff:10.0.0.8]/",
        "http://169.254.169.254/latest",
        "http://8.8.8.8/",
    ],
)
def test_what_is_not_listed_may_not(url: str) -> None:
    with pytest.raises(RemoteHostError, match=r"^this server cannot run this remote model: "):
        RemotePolicy(LISTED).check_url(url)


def test_an_address_in_an_odd_spelling_may_not_be_asked_even_if_it_is_listed() -> None:
    with pytest.raises(RemoteHostError, match="unusual spelling"):
        RemotePolicy(["127.1"]).check_url("http://127.1/")


@pytest.mark.parametrize(
    "address",
    [
        "93.184.216.34",
        "192.0.1.1",
        "192.88.98.1",
        "2606:2800:220:1::1",
        "2a00:1450:4001::5",
        "3ffe::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_a_listed_name_may_lead_to_public_addresses(address: str) -> None:
    RemotePolicy(LISTED).check_address("models.example.org", 443, address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::2",
        "ff02::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2002:a00:1::",
        "2001:0:7f00:1::",
        "2001:0:808:808::80ff:fffe",
        "::127.0.0.1",
        "::10.0.0.1",
        "::ffff:0:127.0.0.1",
        "::ffff:0:10.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b:1::7f00:1",
        "64:ff9b:1:7f00:0:100::",
        "64:ff9b:1::808:808",
        "fec0::1",
        "100::1",
        "1000::1",
        "2001:db8::1",
        "3fff::1",
        "3fff:fff::1",
        "4000::1",
        "5f00::1",
        "192.0.0.8",
        "192.0.0.9",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "no address",
    ],
)
def test_a_listed_name_that_leads_to_a_private_address_may_not_be_asked(address: str) -> None:
    with pytest.raises(RemoteHostError, match=r"models\.example\.org"):
        RemotePolicy(LISTED).check_address("models.example.org", 443, address)


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("localhost", 8000, "127.0.0.1"),
        ("localhost", 8000, "::1"),
        ("box", 8000, "192.168.1.1"),
        ("box", 8000, "10.0.0.7"),
        ("box", 8000, "::ffff:10.0.0.7"),
        ("localhost", 8000, "::ffff:127.0.0.1"),
        ("box", 8000, "64:ff9b::a00:7"),
        ("models.example.org", 443, "fd00::1"),
    ],
)
def test_private_addresses_that_are_listed_may_be_asked(host: str, port: int, address: str) -> None:
    RemotePolicy(LISTED).check_address(host, port, address)


def test_localhost_is_no_leave_for_other_private_addresses() -> None:
    with pytest.raises(RemoteHostError, match=r"at the private address 10\.9\.9\.9"):
        RemotePolicy(LISTED).check_address("localhost", 8000, "10.9.9.9")
    with pytest.raises(RemoteHostError):
        RemotePolicy(["localhost:8000"]).check_address("localhost", 9000, "127.0.0.1")
    with pytest.raises(RemoteHostError):
        RemotePolicy([]).check_url("https://ollama.com")
