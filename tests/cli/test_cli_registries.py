"""`corral registries`: its tables, and a real server's answer."""

from typing import Any

REGISTRIES = {
    "registries": [
        {
            "name": "folders",
            "docs": "models in folders",
            "plugin": "folders",
            "distribution": "corral",
            "version": "1.0",
            "lends": [
                {"name": "a:latest", "owner": "the folder /srv"},
                {"name": "b:latest", "owner": "the folder /srv", "hidden": True},
                {"name": "c:latest", "owner": "the folder /srv", "problem": "convert it\u001b[1m"},
            ],
            "notes": ["/srv/x cannot be read"],
            "errors": ["notes() raised ValueError: broken"],
        },
        {
            "name": "oci",
            "docs": "registries",
            "plugin": "oci",
            "claims": "every name",
            "form": "oci://NAME",
        },
    ]
}


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_registries_prints_a_table_and_what_is_wrong(
    scripted: Any, corral: Any, answer: Any
) -> None:
    scripted.on("GET", "/api/registries", answer(REGISTRIES))
    result = corral("registries")
    assert (result.status, result.err) == (0, "")
    assert lines(result.out) == [
        "NAME       PLUGIN     LENDS    PULLS                     DESCRIPTION",
        "folders    folders    3        -                         models in folders",
        "oci        oci        -        oci://NAME; every name    registries",
        "folders: notes() raised ValueError: broken",
        "folders: /srv/x cannot be read",
    ]


def test_registries_tells_all_about_one(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("GET", "/api/registries", answer(REGISTRIES))
    assert lines(corral("registries", "folders").out) == [
        "  Registry",
        "    name            folders",
        "    description     models in folders",
        "    plugin          folders",
        "    distribution    corral 1.0",
        "",
        "  Lends",
        "    a:latest    the folder /srv",
        "    b:latest    hidden by a model of the store; the folder /srv",
        "    c:latest    convert it[1m",
        "",
        "folders: notes() raised ValueError: broken",
        "folders: /srv/x cannot be read",
    ]


def test_registries_tells_who_pulls_a_model(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("GET", "/api/registries", answer(REGISTRIES))
    asked = {**REGISTRIES, "name": "a:latest", "answered_by": "oci"}
    scripted.on("GET", "/api/registries?name=hf.co%2Fu%2Fr", answer(asked))
    assert lines(corral("registries", "hf.co/u/r").out) == [
        "a:latest is pulled and pushed by oci",
        "a:latest is lent by folders",
    ]


def test_who_takes_addresses_alone_is_not_pushed_to(
    scripted: Any, corral: Any, answer: Any
) -> None:
    hub = {"name": "hub", "form": "hf://USER/REPOSITORY"}
    scripted.on("GET", "/api/registries", answer({"registries": [hub]}))
    asked = {"registries": [hub], "name": "hf.co/u/r:latest", "answered_by": "hub"}
    scripted.on("GET", "/api/registries?name=hf%3A%2F%2Fu%2Fr", answer(asked))
    assert lines(corral("registries", "hf://u/r").out) == ["hf.co/u/r:latest is pulled by hub"]
