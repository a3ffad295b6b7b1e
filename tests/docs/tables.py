"""Tables of the documentation that follow from the code; ``PYTHONPATH=src python tests/docs/tables.py`` writes them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from docs_parts import DOCS

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def providers() -> str:
    """One row for each provider of the S3 family."""
    from entrepot.storage.s3.profiles import new_profile
    from entrepot.storage.s3.providers import PROVIDERS

    lines = [
        "| Provider | Public endpoint | Region if none is named | Bucket in | List | Checksum sent "
        "| Conditional writes | Etag is MD5 | Parts |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, provider in PROVIDERS.items():
        profile = new_profile(name)
        known = {True: "yes", False: "no", None: "found out"}[profile.etag_is_md5]
        parts = f"{profile.part_fixed // MIB} MiB each" if profile.part_fixed else f"from {_size(profile.part_min)}"
        cells = [
            f"`{name}`",
            f"`{provider.endpoint}`" if provider.endpoint else "yours",
            f"`{provider.region}`",
            {"virtual": "host", "path": "path", "auto": "host or path"}[profile.addressing],
            "V1" if profile.list_v1 else "V2",
            profile.checksum or "none",
            "yes" if profile.put_conditional else "not assumed",
            known,
            parts,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def third_party() -> str:
    """One row for each third-party type."""
    from entrepot.storage.s3.profiles import resolve
    from entrepot.storage.s3.thirdparty import connection_for, example_host, types

    lines = [
        "| Type | Host, for example | Host that is asked | Signed for | List | Keys, bytes | Parts |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in types():
        host = example_host(kind)
        if kind == "WASB":
            lines.append(f"| `{kind}` | `{host}` | the same | Shared Key or SAS | List Blobs | 1024 | up to 4000 MiB |")
            continue
        target = resolve(connection_for(kind, host, "AK", "SK"), "bucket")
        profile = target.profile
        parts = f"{profile.part_fixed // MIB} MiB each" if profile.part_fixed else f"from {_size(profile.part_min)}"
        asked = target.host if target.style == "virtual" else f"{target.host}/bucket"
        cells = [
            f"`{kind}`", f"`{host}`", f"`{asked}`", f"`{target.region}`", "V1" if profile.list_v1 else "V2",
            str(profile.key_max), parts,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _size(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "providers": ("locations-and-connections.md", providers),
    "third-party": ("providers.md", third_party),
}


def with_table(content: str, name: str, table: str) -> str:
    """A page with the table between its marks replaced."""
    start, end = f"<!-- table:{name}:start -->", f"<!-- table:{name}:end -->"
    assert start in content and end in content, name
    before, _, rest = content.partition(start)
    return f"{before}{start}\n{table}{end}{rest.partition(end)[2]}"


def table_of(content: str, name: str) -> str:
    """The table between the marks of a page."""
    found = re.search(rf"<!-- table:{name}:start -->\n(.*?)<!-- table:{name}:end -->", content, re.DOTALL)
    assert found is not None, name
    return found.group(1)


def main() -> None:
    """Rewrite all tables."""
    for name, (page, make) in TABLES.items():
        path = DOCS / page
        path.write_text(with_table(path.read_text(encoding="utf-8"), name, make()), encoding="utf-8")


if __name__ == "__main__":
    main()
