import logging
from pathlib import Path

import pytest

from corral_kernel.addresses import (
    HostAddress,
    bind_address,
    check_port,
    connect_url,
    is_local,
    parse_host,
)
from corral_kernel.durations import FOREVER, MINUTE, SECOND
from corral_kernel.environment import Settings, flag, parse_size, variable
from corral_kernel.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("environ", "value"),
    [
        ({}, ""),
        ({"OLLAMA_HOST": "theirs"}, "theirs"),
        ({"CORRAL_HOST": "ours", "OLLAMA_HOST": "theirs"}, "ours"),
        ({"CORRAL_HOST": "  ", "OLLAMA_HOST": "theirs"}, "theirs"),
        ({"CORRAL_HOST": ' "1.2.3.4" '}, "1.2.3.4"),
        ({"CORRAL_HOST": "'1.2.3.4'"}, "1.2.3.4"),
        ({"CORRAL_HOST": '" 1.2.3.4 "'}, "1.2.3.4"),
    ],
)
def test_our_spelling_of_a_setting_wins_and_loses_blanks_and_quotes(
    environ: dict[str, str], value: str
) -> None:
    assert variable(environ, "HOST") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("1", True),
        ("TRUE", True),
        ("t", True),
        ("0", False),
        ("False", False),
        ("yes", True),
        ("no", True),  # as Ollama reads it: any text that is no truth value means yes
    ],
)
def test_flags_are_read_as_go_reads_them(*, text: str, value: bool | None) -> None:
    assert flag({"OLLAMA_NOPRUNE": text}, "NOPRUNE") is value


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("example.com", "http://example.com:11434"),
        ("1.2.3.4:56789", "http://1.2.3.4:56789"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("::", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:99", "http://[::1]:99"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("http://1.2.3.4:8080/", "http://1.2.3.4:8080"),
        ("https://example.com/path", "https://example.com:443/path"),
        ("example.com/path", "http://example.com:11434/path"),
        ("example.com/path/", "http://example.com:11434/path"),
        ("example.com:66000", "http://example.com:11434"),
        ("https://example.com:abc", "https://example.com:443"),
        (":abc", "http://127.0.0.1:11434"),
        (":-1", "http://127.0.0.1:11434"),
        ("example.com:", "http://example.com:11434"),
        ("example.com:0", "http://example.com:0"),
        ("1234", "http://1234:11434"),
        ("ollama.com", "https://ollama.com:443"),
    ],
)
def test_a_host_setting_becomes_the_url_of_a_client(text: str, url: str) -> None:
    assert connect_url(parse_host(text)) == url


@pytest.mark.parametrize("text", ["127.0.0.1:99999", "http://box:abc", ":-1"])
def test_what_is_no_port_is_told_and_refused_before_it_is_used(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"CORRAL_HOST .*'(99999|abc|-1)' is no port"):
        check_port(parse_host(text))


@pytest.mark.parametrize("text", ["", "box", "box:", "box:0", "[::1]:65535", "::1"])
def test_an_address_without_a_port_or_with_a_good_one_is_fine(text: str) -> None:
    check_port(parse_host(text))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", ("127.0.0.1", 11434)),
        (":1234", ("0.0.0.0", 1234)),
        ("0.0.0.0", ("0.0.0.0", 11434)),
        ("[::]:80", ("::", 80)),
        ("http://box:8080", ("box", 8080)),
    ],
)
def test_a_host_setting_becomes_the_address_of_a_server(
    text: str, address: tuple[str, int]
) -> None:
    assert bind_address(parse_host(text)) == address


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("", True),
        ("localhost:99", True),
        ("127.3.2.1", True),
        ("[::1]", True),
        ("0.0.0.0", True),
        ("192.168.0.2", False),
        ("example.com", False),
    ],
)
def test_an_address_of_this_machine_is_told_from_others(*, text: str, local: bool) -> None:
    assert is_local(parse_host(text)) is local


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("512K", 512_000),
        ("8G", 8_000_000_000),
        ("8 GB", 8_000_000_000),
        ("8GiB", 8 * 1024**3),
        ("1.5kib", 1536),
        ("2t", 2_000_000_000_000),
        ("7B", 7),
    ],
)
def test_a_size_has_decimal_or_binary_units(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "G", "-1", "8X", "1e9", "1,5G", "9" * 40])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="is no size"):
        parse_size(text)


def test_an_empty_environment_gives_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    settings = Settings.from_environ({})

    assert settings == Settings(
        home=tmp_path / ".corral",
        models_dir=tmp_path / ".corral" / "models",
        usual_model_paths=(
            tmp_path / ".ollama" / "models",
            Path("/usr/share/ollama/.ollama/models"),
        ),
        host=HostAddress(),
    )


def test_every_setting_is_read() -> None:
    settings = Settings.from_environ(
        {
            "CORRAL_HOME": "/srv/corral",
            "OLLAMA_MODELS": "/srv/ollama/models",
            "CORRAL_MODEL_PATHS": "/srv/gguf:relative::/srv/gguf",
            "OLLAMA_HOST": "0.0.0.0:8080",
            "OLLAMA_ORIGINS": "https://a.example, app://*,",
            "OLLAMA_KEEP_ALIVE": "-1",
            "OLLAMA_LOAD_TIMEOUT": "0",
            "CORRAL_STEP_TIMEOUT": "30",
            "CORRAL_STALL_TIMEOUT": "10s",
            "OLLAMA_MAX_LOADED_MODELS": "2",
            "OLLAMA_NUM_PARALLEL": "4",
            "OLLAMA_MAX_QUEUE": "1",
            "OLLAMA_CONTEXT_LENGTH": "8192",
            "OLLAMA_FLASH_ATTENTION": "0",
            "OLLAMA_KV_CACHE_TYPE": "Q8_0",
            "CORRAL_EXECUTION_PROVIDER": "cuda,cpu",
            "CORRAL_MEMORY_BUDGET": "2GiB",
            "OLLAMA_NOPRUNE": "true",
            "OLLAMA_NO_CLOUD": "1",
            "OLLAMA_DEBUG": "2",
            "CORRAL_PLUGINS": "echo,chat",
            "CORRAL_DISABLE_PLUGINS": "guidance",
        }
    )

    assert settings == Settings(
        home=Path("/srv/corral"),
        models_dir=Path("/srv/ollama/models"),
        model_paths=(Path("/srv/gguf"), Path("relative").absolute()),
        usual_model_paths=(
            Path("/srv/ollama/models"),
            Path("~/.ollama/models").expanduser(),
            Path("/usr/share/ollama/.ollama/models"),
        ),
        host=HostAddress("http", "0.0.0.0", 8080),
        origins=("https://a.example", "app://*"),
        keep_alive_ns=FOREVER,
        load_timeout_ns=FOREVER,
        step_timeout_ns=30 * SECOND,
        stall_timeout_ns=10 * SECOND,
        max_loaded_models=2,
        num_parallel=4,
        max_queue=1,
        context_length=8192,
        flash_attention=False,
        kv_cache_type="q8_0",
        execution_provider="cuda,cpu",
        memory_budget_bytes=2 * 1024**3,
        noprune=True,
        no_cloud=True,
        debug=2,
        plugins=("echo", "chat"),
        disable_plugins=("guidance",),
    )


def test_settings_that_cannot_be_read_are_logged_and_keep_their_defaults(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        settings = Settings.from_environ(
            {
                "OLLAMA_MAX_QUEUE": "-1",
                "OLLAMA_KEEP_ALIVE": "soon",
                "CORRAL_MEMORY_BUDGET": "lots",
            }
        )

    assert settings.max_queue == 512
    assert settings.keep_alive_ns == 5 * MINUTE
    assert settings.memory_budget_bytes is None
    told = [record.getMessage() for record in caplog.records]
    for given in ("OLLAMA_MAX_QUEUE=-1", "OLLAMA_KEEP_ALIVE=soon", "CORRAL_MEMORY_BUDGET=lots"):
        assert any(text.startswith(f"{given} is ignored: ") for text in told), given


@pytest.mark.parametrize(
    ("text", "level"), [("", 0), ("0", 0), ("false", 0), ("1", 1), ("true", 1), ("2", 2), ("9", 2)]
)
def test_the_debug_setting_is_a_truth_value_or_a_level(text: str, level: int) -> None:
    assert Settings.from_environ({"OLLAMA_DEBUG": text}).debug == level


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environ({"CORRAL_MODELS": "m"}).models_dir == tmp_path / "m"
