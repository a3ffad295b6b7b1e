"""Settings of a server: file, environment and flags in that order; what is not understood is an error that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.control.settings import Settings, load, options
from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('port = 1\nhost = "a"\nmax_tasks = 3\negress_deny = ["x", "y"]\nopen_docs = true\n')
    found = load(
        str(file), {"ENTREPOT_HOST": "b", "ENTREPOT_MAX_TASKS": "4", "HOME": "/"}, {"max_tasks": 5, "port": None}
    )
    assert (found.port, found.host, found.max_tasks) == (1, "b", 5)
    assert (found.egress_deny, found.open_docs) == (("x", "y"), True)
    assert load("", {"ENTREPOT_CONFIG": str(file)}).host == "a"


def test_what_is_not_given_has_its_default() -> None:
    assert load("", {}) == Settings()
    assert load("", {"ENTREPOT_PORT": ""}) == Settings(), "an empty variable is not given"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "x"), ("PORT", "70000"), ("PORT", "-1"), ("PORT", "1.5"), ("OPEN_DOCS", "maybe"), ("RATE", "fast"),
        ("RATE", "-1"), ("MAX_BODY", "1"), ("API_PROCESSES", "0"), ("RATE", "nan"),
    ],
)  # fmt: skip
def test_bad_values_are_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(UsageError) as refused:
        load("", {f"ENTREPOT_{variable}": value})
    assert variable.lower() in refused.value.message


@pytest.mark.parametrize("text", ["prot = 1", "port = ", "port = true", 'port = "x"', "[port]\nx = 1", "rate = []"])
def test_a_bad_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        load(str(file), {})
    assert str(file) in refused.value.message


def test_a_misspelt_name_is_guessed(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("max_task = 1")
    with pytest.raises(UsageError) as refused:
        load(str(file), {})
    assert "max_tasks" in refused.value.hint


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        load(str(tmp_path / "none.toml"), {})


def test_certificate_and_key_belong_together() -> None:
    with pytest.raises(UsageError):
        load("", {"ENTREPOT_TLS_CERT": "/c.pem"})


def test_a_secret_is_never_printed_nor_repeated() -> None:
    found = load("", {"ENTREPOT_ADMIN_TOKEN": "planted-secret"})
    assert found.admin_token == Secret("planted-secret")
    assert "planted" not in repr(found)


def test_every_option_has_a_text_and_a_variable() -> None:
    found = options()
    assert len(found) > 25
    for one in found:
        assert one.help.endswith((".", ")")) and one.variable == f"ENTREPOT_{one.name.upper()}"
