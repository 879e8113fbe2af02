"""Who we say we are, and to whom: tokens, users, and hosts that ask for what is not theirs."""

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from corral_kernel.errors import RegistryError
from corral_oci.challenges import Challenge, parse_challenges, token_url
from corral_oci.credentials import Identity, find_user

CONFIG = b"{}"
NO_BODY = "ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ=="


def basic(user: str) -> str:
    return "Basic " + base64.b64encode(user.encode()).decode()


def offered(lab: Any, registry: Any) -> str:
    name: str = registry.offer("lib/m", lab.manifest_of(CONFIG, b"weights"), CONFIG, b"weights")
    return name


def bearer_only(lab: Any, token: str, challenge: str, tokens: Any) -> Any:
    """A registry that wants a token; `tokens` answers requests for one."""

    def script(seen: Any, _reply: Any) -> Any:
        if seen.path == "/token":
            return tokens(seen)
        if seen.headers.get("authorization") != f"Bearer {token}":
            return lab.Reply(401, {"WWW-Authenticate": challenge})
        return None

    return script


async def test_a_token_is_asked_for_once_and_signed_with_the_server_s_key(
    lab: Any, registry: Any, site: Any
) -> None:
    name = offered(lab, registry)
    challenge = (
        f'Bearer realm="{registry.url}/token?own=1",service="reg",'
        'scope="repository:lib/m:pull repository:x:pull"'
    )
    grant = lab.Reply(body=b'{"token":"t0k","access_token":"other"}')
    registry.script = bearer_only(lab, "t0k", challenge, lambda _seen: grant)
    await site.pull(name)

    (asked,) = [seen for seen in registry.seen if seen.path == "/token"]
    assert asked.query["scope"] == ["repository:lib/m:pull", "repository:x:pull"]
    assert asked.query["service"] == ["reg"]
    assert list(asked.query) == ["nonce", "own", "scope", "service", "ts"]
    assert len(base64.urlsafe_b64decode(asked.query["nonce"][0] + "==")) == 16
    public, signature = asked.headers["authorization"].split(":")
    key = load_ssh_public_key(f"ssh-ed25519 {public}".encode())
    signed = f"GET,{registry.url}{asked.target},{NO_BODY}"
    key.verify(base64.b64decode(signature), signed.encode())  # type: ignore[union-attr, call-arg]  # an ed25519 key's
    private = site.home / "id_ed25519"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert private.read_bytes().startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    assert private.with_suffix(".pub").read_text() == f"ssh-ed25519 {public}\n"
    assert [f.name for f in site.home.iterdir() if f.name.startswith("id_")] in (
        ["id_ed25519", "id_ed25519.pub"],
        ["id_ed25519.pub", "id_ed25519"],
    )


async def test_the_same_key_signs_the_next_time(lab: Any, registry: Any, site: Any) -> None:
    name = offered(lab, registry)
    challenge = f'Bearer realm="{registry.url}/token"'
    grant = lab.Reply(body=b'{"token":"t"}')
    registry.script = bearer_only(lab, "t", challenge, lambda _seen: grant)
    await site.pull(name)
    await site.pull(name)
    keys = [s.headers["authorization"].split(":")[0] for s in registry.seen if s.path == "/token"]
    assert len(keys) == 2
    assert len(set(keys)) == 1


async def test_a_key_that_is_none_is_named(lab: Any, registry: Any, site: Any) -> None:
    name = offered(lab, registry)
    site.home.mkdir(exist_ok=True)
    (site.home / "id_ed25519").write_text("no key")
    registry.script = bearer_only(
        lab, "t", f'Bearer realm="{registry.url}/token"', lambda _seen: lab.Reply(403)
    )
    with pytest.raises(RegistryError, match="id_ed25519 is no key"):
        await site.pull(name)


async def test_where_signing_is_unknown_a_token_for_everybody_is_taken(
    lab: Any, registry: Any, site: Any
) -> None:
    name = offered(lab, registry)

    def tokens(seen: Any) -> Any:
        if "authorization" in seen.headers:
            return lab.Reply(400, body=b"what is that")
        return lab.Reply(body=b'{"access_token":"pub"}')

    registry.script = bearer_only(lab, "pub", f'Bearer realm="{registry.url}/token"', tokens)
    await site.pull(name)


async def test_what_a_token_server_says_is_told(lab: Any, registry: Any, site: Any) -> None:
    name = offered(lab, registry)
    refusal = lab.Reply(401, body=b'{"error":"unknown ollama key"}')
    registry.script = bearer_only(
        lab, "t", f'Bearer realm="{registry.url}/token"', lambda _seen: refusal
    )
    with pytest.raises(RegistryError, match=r'401: {"error":"unknown ollama key"}$'):
        await site.pull(name)


async def test_a_token_that_is_refused_is_not_tried_for_ever(
    lab: Any, registry: Any, site: Any
) -> None:
    name = offered(lab, registry)
    grant = lab.Reply(body=b'{"token":"wrong"}')
    registry.script = bearer_only(
        lab, "right", f'Bearer realm="{registry.url}/token"', lambda _seen: grant
    )
    with pytest.raises(RegistryError, match=r"^pull model manifest: unauthorized: access denied$"):
        await site.pull(name)
    assert len(registry.asked("GET", "/manifests/")) == 2


@pytest.mark.parametrize("user", ["me:secret", ""], ids=["known", "unknown"])
async def test_a_realm_on_another_host_gets_nothing_of_ours(
    lab: Any, registry: Any, elsewhere: Any, tmp_path: Path, user: str
) -> None:
    site = lab.Site(tmp_path / "x", auth=f"{registry.authority}={user}")
    name = offered(lab, registry)
    registry.script = bearer_only(lab, "t", f'Bearer realm="{elsewhere.url}/token"', None)
    words = (
        f'realm host "{elsewhere.authority}" does not match original host "{registry.authority}"'
    )
    with pytest.raises(RegistryError, match=words):
        await site.pull(name)
    assert elsewhere.seen == []


@pytest.mark.parametrize("realm", ["", "file:///x", "//x", "http://[", "nonsense"])
async def test_a_realm_that_is_no_address_is_refused(
    lab: Any, registry: Any, site: Any, realm: str
) -> None:
    name = offered(lab, registry)
    registry.script = bearer_only(lab, "t", f'Bearer realm="{realm}"', None)
    with pytest.raises(RegistryError, match=r'does not match original host "127\.0\.0\.1:'):
        await site.pull(name)


async def test_a_401_without_a_challenge_says_so_in_ollama_s_words(
    lab: Any, registry: Any, site: Any
) -> None:
    registry.script = lambda _seen, _reply: lab.Reply(401)
    with pytest.raises(RegistryError, match='realm host "" does not match original host'):
        await site.pull(offered(lab, registry))


async def test_a_token_server_of_another_host_gets_the_credentials_set_for_that_host(
    lab: Any, registry: Any, elsewhere: Any, tmp_path: Path
) -> None:
    auth = f"{registry.authority}=a:1, {elsewhere.authority}=b:2"
    site = lab.Site(tmp_path / "x", auth=auth)
    name = offered(lab, registry)
    challenge = f'Bearer realm="{elsewhere.url}/token",service="s",scope="repository:lib/m:pull"'
    registry.script = bearer_only(lab, "t", challenge, None)
    elsewhere.script = lambda _seen, _reply: lab.Reply(body=b'{"token":"t"}')
    await site.pull(name)
    (asked,) = elsewhere.seen
    assert asked.headers["authorization"] == basic("b:2")
    assert set(asked.query) == {"service", "scope"}  # not signed: no time, no nonce
    assert basic("a:1") not in {seen.headers.get("authorization") for seen in registry.seen}


@pytest.fixture
def logged_in(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], Any]:
    """Make a site where Docker has logged in to a host that gives identity tokens."""

    def log_in(host: str, token: str) -> Any:
        entry = {"auth": base64.b64encode(b"<token>:").decode(), "identitytoken": token}
        (tmp_path / "config.json").write_text(json.dumps({"auths": {host: entry}}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        return lab.Site(tmp_path / "home")

    return log_in


async def test_an_identity_token_is_posted_for_a_token_and_the_next_one_is_kept(
    lab: Any, registry: Any, logged_in: Callable[[str, str], Any]
) -> None:
    site = logged_in(registry.authority, "ref+resh=1")
    name = offered(lab, registry)
    scope = "repository:lib/m:pull repository:x:pull"
    challenge = f'Bearer realm="{registry.url}/token?own=1",service="s",scope="{scope}"'
    given: list[str] = []

    def give(seen: Any) -> Any:
        given.append(f"t{len(given)}")
        assert seen.method == "POST"
        grant = {"access_token": given[-1], "refresh_token": f"next{len(given)}"}
        return lab.Reply(body=json.dumps(grant).encode())

    def script(seen: Any, _reply: Any) -> Any:
        if seen.path == "/token":
            return give(seen)
        wanted = "t0" if "/manifests/" in seen.path else "t1"  # the first is not good for long
        if seen.headers.get("authorization") != f"Bearer {wanted}":
            return lab.Reply(401, {"WWW-Authenticate": challenge})
        return None

    registry.script = script
    await site.pull(name)

    first, second = [seen for seen in registry.seen if seen.path == "/token"]
    assert first.query == {"own": ["1"]}
    assert first.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in first.headers
    assert parse_qs(first.body.decode(), strict_parsing=True) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["ref+resh=1"],
        "service": ["s"],
        "scope": [scope],
        "client_id": ["corral"],
    }
    assert parse_qs(second.body.decode())["refresh_token"] == ["next1"]


@pytest.mark.parametrize("of", ["the registry", "the token server"])
async def test_an_identity_token_goes_to_its_own_host_alone(
    lab: Any,
    registry: Any,
    elsewhere: Any,
    logged_in: Callable[[str, str], Any],
    of: str,
) -> None:
    owner = registry if of == "the registry" else elsewhere
    site = logged_in(owner.authority, "refresh")
    name = offered(lab, registry)
    challenge = f'Bearer realm="{elsewhere.url}/token",service="s",scope="repository:lib/m:pull"'
    registry.script = bearer_only(lab, "t", challenge, None)
    elsewhere.script = lambda _seen, _reply: lab.Reply(body=b'{"token":"t"}')
    if of == "the registry":
        with pytest.raises(RegistryError, match="does not match original host"):
            await site.pull(name)
        assert elsewhere.seen == []
    else:
        await site.pull(name)
        (asked,) = elsewhere.seen
        assert b"refresh_token=refresh" in asked.body
    assert not [seen for seen in registry.seen if b"refresh" in seen.body]


@pytest.mark.parametrize(
    ("challenge", "reply"),
    [
        ('Bearer realm="{url}/token"', (400, b'{"error":"used"}', '400: {"error":"used"}')),
        ('Bearer realm="{url}/token"', (404, b"", "404")),
        ('Bearer realm="{url}/token"', (302, b"", r"gives no token \(status 302\)")),
        ('Bearer realm="{url}/token"', (200, b"{}", r"gives no token \(status 200\)")),
        ('Basic realm="r"', (200, b"", "wants a user and a password")),
    ],
    ids=["used up", "unknown there", "sent elsewhere", "nothing", "asked for a password"],
)
async def test_an_identity_token_that_is_good_for_nothing_is_told_of(
    lab: Any,
    registry: Any,
    logged_in: Callable[[str, str], Any],
    challenge: str,
    reply: tuple[int, bytes, str],
) -> None:
    site = logged_in(registry.authority, "s3cret")
    status, body, words = reply
    where = {"Location": f"{registry.url}/elsewhere"} if status == 302 else {}
    registry.script = bearer_only(
        lab, "t", challenge.format(url=registry.url), lambda _: lab.Reply(status, where, body)
    )
    with pytest.raises(RegistryError, match=words) as caught:
        await site.pull(offered(lab, registry))
    assert "s3cret" not in str(caught.value)
    assert not [seen for seen in registry.seen if seen.path == "/elsewhere"]


async def test_basic_credentials_of_the_settings_are_sent_when_asked_for(
    lab: Any, registry: Any, tmp_path: Path
) -> None:
    site = lab.Site(tmp_path / "x", auth=f"other=x:y,{registry.authority}=me:se:cret")
    name = offered(lab, registry)

    def script(seen: Any, _reply: Any) -> Any:
        if seen.headers.get("authorization") == basic("me:se:cret"):
            return None
        return lab.Reply(401, {"WWW-Authenticate": 'Basic realm="registry"'})

    registry.script = script
    await site.pull(name)
    assert "authorization" not in registry.seen[0].headers  # never before it is asked for


async def test_without_credentials_it_is_said_how_to_set_them(
    lab: Any, registry: Any, site: Any
) -> None:
    registry.script = lambda _seen, _reply: lab.Reply(401, {"WWW-Authenticate": 'Basic realm="r"'})
    words = f"CORRAL_REGISTRY_AUTH={registry.authority}=USER:PASSWORD"
    with pytest.raises(RegistryError, match=words):
        await site.pull(offered(lab, registry))


# --- where credentials are found ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("auths", "found"),
    [
        ({"r.example:5000": {"auth": base64.b64encode(b"u:p:q").decode()}}, ("u", "p:q")),
        ({"https://r.example:5000/v1/": {"username": "u", "password": "p"}}, ("u", "p")),
        ({"R.example:5000": {"auth": base64.b64encode(b"u:p").decode()}}, ("u", "p")),
        ({"r.example": {"auth": base64.b64encode(b"u:p").decode()}}, None),
        ({"r.example:5000": {"auth": "eDo=", "identitytoken": "i"}}, Identity("i")),
        ({"r.example:5000": {"auth": "dTpw", "identitytoken": ""}}, ("u", "p")),
        ({"r.example:5000": {"auth": "dTpw", "identitytoken": 7}}, ("u", "p")),
        ({"r.example:5000": {"auth": "***"}}, None),
        ({"r.example:5000": {}}, None),
        ({"r.example:5000": 7}, None),
        ([], None),
    ],
    ids=range(11),
)
def test_docker_s_file_is_read(tmp_path: Path, auths: Any, found: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths, "credsStore": "x"}))
    assert find_user("r.example:5000", "", {"DOCKER_CONFIG": str(tmp_path)}) == found


@pytest.mark.parametrize("text", ["", "[", "{}", "[" * 100_000, '{"auths":"x"}'])
def test_a_damaged_file_of_docker_s_is_no_user(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert find_user("r.example", "", {"DOCKER_CONFIG": str(tmp_path)}) is None


def test_settings_go_before_docker_s_file_and_bad_entries_are_left_out(tmp_path: Path) -> None:
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    auth = "nonsense, a=b, =x:y, h=u:p"
    assert find_user("h", auth, environ) == ("u", "p")
    assert find_user("a", auth, environ) is None
    assert repr(find_user("h", auth, environ)) == "User('u', ***)"
    assert "s3cret" not in repr(Identity("s3cret"))


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Bearer realm="r",service="s",scope="a b"', [Challenge("bearer", "r", "s", "a b")]),
        ('Basic realm="x, Bearer y"', [Challenge("basic", "x, Bearer y")]),
        ('bearer realm="r", Basic realm="b"', [Challenge("bearer", "r"), Challenge("basic", "b")]),
        ("Negotiate abc", []),
        ("Bearer", [Challenge("bearer")]),
        ("Bearer realm=unquoted", [Challenge("bearer")]),
        ("", []),
    ],
    ids=range(7),
)
def test_challenges_are_read(header: str, found: list[Challenge]) -> None:
    assert parse_challenges([header]) == found


def test_a_token_s_address_keeps_the_realm_s_own_query() -> None:
    challenge = Challenge("bearer", "https://h/t?z=1&a=b%20c#f", "s", "x:y:pull")
    parts = urlsplit(str(token_url(challenge, signed=False)))
    assert parse_qs(parts.query) == {
        "z": ["1"],
        "a": ["b c"],
        "service": ["s"],
        "scope": ["x:y:pull"],
    }
    assert parts.fragment == ""
