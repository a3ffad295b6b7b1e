"""Every environment variable that the program reads is documented."""

from __future__ import annotations

import ast
import re

from docs_parts import SOURCE, codes, rows, text

from entrepot.model.location import S3_SCHEMES

PAGE = "docs/locations-and-connections.md"
_NAME = re.compile(r"(?:AWS|AZURE_STORAGE|ENTREPOT|XDG|WEBDAV|SFTP)_[A-Z0-9_]*[A-Z0-9]|NO_COLOR|TERM|HOME")
_INTERNAL = {"ENTREPOT_COMPLETE"}
"""How the shell asks for completions: written by the completion script itself."""


def _read_in(tree: ast.AST) -> tuple[set[str], set[str]]:
    """(names read, suffixes of names put together at run time) in one module."""
    names: set[str] = set()
    suffixes: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAME.fullmatch(node.value.lstrip("_")):
            names.add(node.value.lstrip("_"))
        key = _asked(node)
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            names.add(key.value)
        elif isinstance(key, ast.JoinedStr):
            suffixes |= {
                part.value.lstrip("_")
                for part in key.values
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and len(part.value) > 1
            }
    return names, suffixes


def _asked(node: ast.AST) -> ast.expr | None:
    """The key of ``env.get(key)`` or ``env[key]`` where env is an environment."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
        return node.args[0] if _is_environment(node.func.value) else None
    if isinstance(node, ast.Subscript) and _is_environment(node.value):
        return node.slice
    return None


def _is_environment(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in {"env", "environ"}


def test_every_variable_that_is_read_is_documented() -> None:
    told = set(codes(text(PAGE))) | set(codes(text("docs/server.md")))
    missing: dict[str, str] = {}
    for path in SOURCE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        names, suffixes = _read_in(ast.parse(source))
        names |= set(re.findall(r"\bENTREPOT_[A-Z_]*[A-Z]", source))
        for name in names - _INTERNAL:
            if name not in told:
                missing[name] = path.name
        for suffix in suffixes:
            if not any(name.endswith("_" + suffix) for name in told):
                missing["…" + suffix] = path.name
    assert not missing, f"{PAGE} does not tell of {missing}"


def test_the_scan_finds_what_is_known_to_be_there() -> None:
    names, suffixes = _read_in(ast.parse((SOURCE / "storage" / "environment.py").read_text(encoding="utf-8")))
    assert "AWS_REGION" in names
    assert "ENDPOINT_URL" in suffixes


def test_every_scheme_of_the_s3_family_has_its_variables_told() -> None:
    page = text(PAGE)
    for scheme in S3_SCHEMES - {"s3"}:
        assert f"`{scheme}://" in page
        assert f"{scheme.upper()}_" in page


def test_the_defaults_of_patience_are_told_as_they_are() -> None:
    from entrepot.storage.wire.options import LaneOptions

    plain = LaneOptions()
    told = {codes(c[0])[0]: codes(c[1])[0] for c in rows(text("docs/operations.md")) if c[0].startswith("`ENTREPOT_")}
    for name, value in told.items():
        assert float(value) == getattr(plain, name.removeprefix("ENTREPOT_").lower()), name
    assert len(told) == 6


def test_nothing_is_documented_that_is_not_read() -> None:
    read: set[str] = set()
    suffixes: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        names, more = _read_in(ast.parse(source))
        read |= names | set(re.findall(r"\bENTREPOT_[A-Z_]*[A-Z]", source))
        suffixes |= more
    families = {scheme.upper() for scheme in S3_SCHEMES} | {"AWS", "WEBDAV", "SFTP"}
    for name in codes(text(PAGE)):
        if re.fullmatch(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+", name) and name not in read:
            family, _, suffix = name.partition("_")
            known = family in families and (suffix in suffixes or suffix in {"KEY_FILE", "KNOWN_HOSTS"})
            assert known, f"{PAGE} tells of {name}, which nothing reads"
