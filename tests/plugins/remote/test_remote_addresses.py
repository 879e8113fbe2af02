"""Which addresses are connected to, and that these are the ones that were checked."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any

import pytest

from corral_kernel.errors import RemoteHostError, RemoteServerError, RemoteTimeoutError
from corral_kernel.remotes import RemotePolicy
from corral_remote.client import Client
from corral_remote.keys import Secret
from corral_remote.network import CheckedNetwork, no_clear_key
from corral_remote.places import Limits, parse_base


class Names:
    """A resolver that gives its answers in turn, as a rebinding one does."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0)


async def ask(url: str, names: Names, *remotes: str, clear_key: bool = False) -> None:
    checks = [RemotePolicy(remotes).check_address, *([no_clear_key] if clear_key else [])]
    network = CheckedNetwork(*checks, resolve=names.resolve)
    client = Client(parse_base(url), Secret(), network, Limits(connect_s=0.5), 2)
    until = asyncio.get_running_loop().time() + 5
    try:
        answer = await client.send("POST", "/chat/completions", {}, until)
        await answer.aclose()
    finally:
        await client.aclose()


PRIVATE = [
    "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
    "100.64.0.1", "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "::",
    "::1", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1%eth0",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_that_leads_to_a_private_address_is_refused(lab: Any, address: str) -> None:
    async with lab.serving(lab.HELLO) as server:
        port = server.port
        for found in ([address], ["93.184.216.34", address], [address, "93.184.216.34"]):
            with pytest.raises(RemoteHostError, match="private address"):
                await ask(f"http://gpu.example:{port}/v1", Names(found), "gpu.example")
        assert server.connections == 0


async def test_the_connection_goes_to_the_very_address_that_was_checked(lab: Any) -> None:
    async with lab.serving(lab.HELLO) as server:
        names = Names(["127.0.0.1"], ["10.0.0.1"])
        await ask(f"http://gpu.example:{server.port}/v1", names, "gpu.example", "127.0.0.1")
        assert names.asked == ["gpu.example"]  # once: nothing can change after the check
        (asked,) = server.asked
        assert asked.headers["host"] == f"gpu.example:{server.port}"


async def test_a_name_that_leads_elsewhere_later_is_checked_again(lab: Any) -> None:
    async with lab.serving(lab.HELLO) as server:
        names = Names(["127.0.0.1"], ["10.0.0.1"])
        network = CheckedNetwork(
            RemotePolicy(["gpu.example", "127.0.0.1"]).check_address, resolve=names.resolve
        )
        stream = await network.connect_tcp("gpu.example", server.port, 5)
        await stream.aclose()
        with pytest.raises(RemoteHostError, match=r"10\.0\.0\.1"):
            await network.connect_tcp("gpu.example", server.port, 5)


async def test_of_several_addresses_the_next_serves_where_one_does_not_answer(lab: Any) -> None:
    async with lab.serving(lab.HELLO) as server:
        names = Names(["::1", "127.0.0.9", "127.0.0.1"])
        await ask(f"http://gpu.example:{server.port}/v1", names, "127.0.0.0/8", "::1")
        assert len(server.asked) == 1


async def test_a_key_never_travels_unencrypted_over_the_internet() -> None:
    for address in ("93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"):
        with pytest.raises(RemoteHostError, match=r"unencrypted to the public address.*use https"):
            await ask("http://api.example/v1", Names([address]), "api.example", clear_key=True)


async def test_a_key_may_travel_to_a_listed_private_address(lab: Any) -> None:
    async with lab.serving(lab.HELLO) as server:
        names = Names(["127.0.0.1"])
        await ask(f"http://gpu:{server.port}/v1", names, "127.0.0.1", clear_key=True)


async def test_names_that_nobody_has_are_told(lab: Any) -> None:
    class Broken(Names):
        async def resolve(self, _host: str, _port: int) -> Sequence[str]:
            raise OSError(-2, "Name or service not known")

    with pytest.raises(RemoteServerError, match=r"the name gpu\.example cannot be resolved: Name"):
        await ask("http://gpu.example/v1", Broken(), "gpu.example")
    with pytest.raises(RemoteServerError, match="has no address"):
        await ask("http://gpu.example/v1", Names([]), "gpu.example")


async def test_a_server_that_is_not_listed_is_refused_when_a_worker_loads(lab: Any) -> None:
    async with lab.serving(lab.HELLO) as server:
        for remotes in ((), ("ollama.com",), ("localhost",), ("127.0.0.1:1",)):
            with pytest.raises(RemoteHostError, match="cannot run this remote model"):
                async with lab.loaded(server.url, remotes=remotes):
                    pass
        named = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(RemoteHostError):
            async with lab.loaded(named, remotes=("127.0.0.2",)):
                pass
        assert server.connections == 0


async def test_proxies_of_the_environment_are_not_used(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab.serving(lab.HELLO) as proxy, lab.serving(lab.HELLO) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        async with lab.loaded(server.url) as engine:
            assert (await lab.answer(engine)).text == "Hello"
        assert proxy.connections == 0


# ------------------------------------------------------------------------------------------ TLS


async def test_tls_works_with_a_certificate_that_the_system_trusts(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(lab.CERTIFICATES / "localhost.pem"))
    async with lab.serving(lab.HELLO, tls=True) as server, lab.loaded(server.url) as engine:
        assert (await lab.answer(engine)).text == "Hello"
        # The connection went to an address, the certificate was checked for the name.
        assert server.asked[0].headers["host"].startswith("localhost:")


async def test_a_certificate_that_nobody_vouches_for_is_refused(lab: Any) -> None:
    async with lab.serving(lab.HELLO, tls=True) as server:
        with pytest.raises(RemoteServerError, match=r"the certificate of .* is not trusted: self"):
            async with lab.loaded(server.url):
                pass
        assert server.asked == []


async def test_a_certificate_of_another_name_is_refused(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(lab.CERTIFICATES / "localhost.pem"))
    async with lab.serving(lab.HELLO, tls=True) as server:
        with pytest.raises(RemoteServerError, match="is not trusted: IP address mismatch"):
            async with lab.loaded(server.url.replace("localhost", "127.0.0.1")):
                pass
        assert server.asked == []


async def test_https_to_a_server_of_http_is_told(lab: Any) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(RemoteServerError, match="does not speak TLS as it should"):
            async with lab.loaded(f"https://127.0.0.1:{port}"):
                pass


async def test_a_server_that_takes_connections_and_says_nothing_is_given_up(lab: Any) -> None:
    async with lab.serving(lab.HELLO) as server:  # waits for a request that TLS never becomes
        secure = server.url.replace("http:", "https:")
        with pytest.raises(RemoteTimeoutError, match=r"took no connection within 0\.2 s"):
            async with lab.loaded(secure, remote_connect_timeout=0.2):
                pass
        await lab.within(server.left.wait())


async def test_a_request_that_is_cancelled_while_tls_begins_leaves_no_connection(lab: Any) -> None:
    async with lab.serving(lab.HELLO) as server:
        network = CheckedNetwork()
        stream = await network.connect_tcp("127.0.0.1", server.port, 5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await stream.start_tls(ssl.create_default_context(), "localhost", 60)
        await lab.within(server.left.wait())


def test_bases_are_read_and_shown_without_surprises() -> None:
    base = parse_base("HTTPS://Host.Example/v1/")
    assert (base.text, base.header, base.port) == ("https://host.example/v1", "host.example", 443)
    assert parse_base("http://[::1]:8000").text == "http://[::1]:8000/v1"
    assert parse_base("http://[::1]:8000").header == "[::1]:8000"
    assert parse_base("http://h/api/v2").path == "/api/v2"
