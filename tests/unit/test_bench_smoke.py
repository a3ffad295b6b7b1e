"""The benchmark works: its server keeps its word, its figures are judged, its one command runs from end to end."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import crc32c
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.cases import Bar, Case, all_cases  # noqa: E402
from bench.client import Client  # noqa: E402
from bench.data import pattern, tree  # noqa: E402
from bench.evidence import done_in_report, done_in_segments  # noqa: E402
from bench.measure import Run, execute  # noqa: E402
from bench.report import judge, rows_table  # noqa: E402
from bench.servers import Lows3  # noqa: E402
from bench.settings import QUICK, TARGET_BUCKET, Settings  # noqa: E402
from bench.tools import OURS, TOOLS, Job  # noqa: E402

needs_compiler = pytest.mark.skipif(
    not (shutil.which("cc") and Path("/usr/include/openssl/ssl.h").exists()),
    reason="needs a C compiler (cc) and the headers of OpenSSL",
)


def _settings(scratch: Path) -> Settings:
    return Settings(scratch, QUICK, 1, (), server_cpus="", client_cpus="")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    scratch = tmp_path_factory.mktemp("lows3")
    with Lows3(_settings(scratch), "checksums", synthetic=2500) as server:
        yield server.client()


def _put(client: Client, key: str, body: bytes) -> None:
    assert client.call("PUT", f"/{TARGET_BUCKET}/{key}", body=body)[0] == 200


@needs_compiler
def test_listing_pages_odd_keys_and_deletes(client: Client) -> None:
    keys = [f"list/{i:05d} a&b <c> é.bin" for i in range(1203)]
    for key in keys:
        _put(client, key, b"x")
    assert list(client.listing(TARGET_BUCKET, "list/")) == keys
    client.must("DELETE", f"/{TARGET_BUCKET}/{keys[7]}")
    assert list(client.listing(TARGET_BUCKET, "list/")) == keys[:7] + keys[8:]
    encoded = client.must("GET", f"/{TARGET_BUCKET}", {"prefix": "list/0000", "encoding-type": "url"})
    assert b"<Key>list/00000%20a%26b%20%3Cc%3E%20%C3%A9.bin</Key>" in encoded
    client.clear(TARGET_BUCKET, "list/")
    assert client.listing(TARGET_BUCKET, "list/") == {}


@needs_compiler
def test_generated_buckets(client: Client) -> None:
    first, second, third = (client.listing(name, "") for name in ("synthetic", "synthetic2", "synthetic3"))
    assert len(first) == 2500
    assert list(first) == sorted(first)
    assert first == second
    assert list(third) == list(first)
    assert all(third[key] != first[key] for key in first)
    directories = client.must("GET", "/synthetic", {"list-type": "2", "delimiter": "/"})
    assert directories.count(b"<CommonPrefixes>") == 3
    key = "d00002/f00002499.bin"
    assert client.must("GET", f"/synthetic/{key}") == pattern()[: first[key]]
    assert client.call("GET", "/synthetic/d00002/f00002500.bin")[0] == 404


@needs_compiler
@pytest.mark.parametrize("size", [0, 1, 4096, 12_288, 50_001, 1 << 20])
def test_checksums_are_right_and_wrong_ones_refused(client: Client, size: int) -> None:
    body = (pattern() + b"abc")[-size:] if size else b""
    right = crc32c.crc32c(body).to_bytes(4, "big")
    for crc, status in ((right, 200), (zlib.crc32(right).to_bytes(4, "big"), 400)):
        answer = _raw_put(client, f"crc/{size}", body, crc)
        assert answer.startswith(f"HTTP/1.1 {status}".encode()), answer
        assert (b"x-amz-checksum-crc32c: " + _b64(right) in answer) == (status == 200)


def _b64(crc: bytes) -> bytes:
    import base64

    return base64.b64encode(crc)


def _raw_put(client: Client, key: str, body: bytes, crc: bytes) -> bytes:
    """As a client with a trailer sends it: in aws-chunked framing, cut at an odd place."""
    at = len(body) // 3
    pieces = [piece for piece in (body[:at], body[at:]) if piece]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    framed += b"0\r\nx-amz-checksum-crc32c:" + _b64(crc) + b"\r\n\r\n"
    head = (
        f"PUT /{TARGET_BUCKET}/{key} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(framed)}\r\n"
        f"x-amz-decoded-content-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", client.port), 10) as link:
        link.sendall(head.encode() + framed)
        answer = b""
        while piece := link.recv(65536):
            answer += piece
    return answer


@needs_compiler
def test_multipart_keeps_parts_in_order_and_open_uploads_are_listed(client: Client) -> None:
    path = f"/{TARGET_BUCKET}/multi/one"
    blob = pattern() + pattern()[:4321]
    upload = client.must("POST", path, {"uploads": ""}).split(b"<UploadId>")[1].split(b"<")[0].decode()
    assert client.uploads(TARGET_BUCKET, "multi/") == [("multi/one", upload)]
    cut = 3_000_000
    for number, part in ((2, blob[cut:]), (1, b"replaced below"), (1, blob[:cut])):
        client.must("PUT", path, {"uploadId": upload, "partNumber": str(number)}, part)
    assert client.must("GET", path, {"uploadId": upload}).count(b"<Part>") == 2
    wanted = "".join(f"<Part><PartNumber>{n}</PartNumber></Part>" for n in (1, 2)).encode()
    done = client.must("POST", path, {"uploadId": upload}, wanted)
    assert _b64(crc32c.crc32c(blob).to_bytes(4, "big")) in done
    assert client.must("GET", path) == blob
    assert client.uploads(TARGET_BUCKET, "multi/") == []
    assert client.call("PUT", path, {"uploadId": upload, "partNumber": "1"}, b"x")[0] == 404


@needs_compiler
def test_requests_are_counted(client: Client) -> None:
    client.stats()
    _put(client, "count/a", b"x")
    client.call("HEAD", f"/{TARGET_BUCKET}/count/a")
    stats = client.stats()
    assert (stats["put"], stats["head"], stats["get"]) == (1, 1, 0)
    assert 0 < stats["first_request"] <= stats["first_put"] < stats["first_request"] + 100_000
    assert client.stats()["put"] == 0


@needs_compiler
def test_tls(tmp_path: Path) -> None:
    with Lows3(_settings(tmp_path), "tls") as server:
        client = server.client()
        assert server.endpoint.startswith("https://")
        _put(client, "secret", pattern()[: 1 << 20])
        assert client.must("GET", f"/{TARGET_BUCKET}/secret") == pattern()[: 1 << 20]


def _run(tool: str, wall: float, cpu: float, ok: bool = True, **extra: float) -> Run:
    return Run("case", tool, 0, objects=10, bytes=100, wall=wall, cpu=cpu, ok=ok, why="broken", extra=extra)


def test_bars_are_judged_against_the_best_peer() -> None:
    bars = (Bar("cpu", "<=", 0.4), Bar("wall", ">=", 2.0), Bar("heads", "<=", 0))
    case = Case("case", "up", "lows3", "fs", "s3", "small", bars)
    peers = [_run("slow", 9, 9), _run("best", 4, 2), _run("broken", 0.1, 0.1, ok=False)]

    def words(*ours: Run) -> list[str]:
        return [v.word for v in judge([case], [*ours, *peers])]

    assert words(_run(OURS, 2.0, 0.8, heads=0)) == ["pass", "pass", "pass"]
    assert words(_run(OURS, 2.1, 0.9, heads=1)) == ["FAIL", "FAIL", "FAIL"]
    assert words(_run(OURS, 1, 0.1, ok=False)) == ["not measured"] * 3
    assert {v.peer for v in judge([case], [_run(OURS, 1, 1), *peers])} == {"best", ""}
    three = [_run(OURS, wall, 0.1, heads=0) for wall in (1.0, 1.5, 99.0)]
    assert judge([case], [*three, *peers])[1].value == pytest.approx(4 / 1.5)
    assert any("not measured: broken" in line for line in rows_table([case], peers))


def test_each_case_has_a_command_of_ours(tmp_path: Path) -> None:
    for case in all_cases():
        job = Job(case, "SRC/", "DST/" if case.target else "", None, _settings(tmp_path))
        command = TOOLS[OURS](job)
        assert command, case.name
        assert "SRC/" in command
        assert ("DST/" in command) == bool(case.target)


def test_what_a_command_costs_is_that_of_its_whole_tree(tmp_path: Path) -> None:
    burn = "import os,time\nif os.fork(): os.wait()\nelse:\n while time.process_time() < 0.3: pass"
    done = execute([sys.executable, "-c", burn], dict(os.environ), tmp_path / "log", 30)
    assert done.code == 0
    assert 0.3 <= done.cpu < 3
    late = execute(["sleep", "30"], dict(os.environ), tmp_path / "log", 0.3)
    assert late.code == -9
    assert late.wall < 5


def test_evidence_of_what_was_done(tmp_path: Path) -> None:
    head = json.dumps({"after": ""})
    lines = [[b"a b".hex(), "copied", 3, "crc32c", ""], [b"bad".hex(), "failed", 9, "", "x"], ["00", "cop"]]
    text = "\n".join([head, *map(json.dumps, lines[:2]), json.dumps(lines[2])[:9]])
    (tmp_path / "00000001-000001.segment").write_text(text)
    assert done_in_segments(tmp_path) == {"a b": 3}
    report = tmp_path / "report.csv"
    report.write_text('key,outcome,size\n"x,y",copied,7\nz,failed,1\n')
    assert done_in_report(report) == {"x,y": 7}


@needs_compiler
def test_the_one_command(tmp_path: Path) -> None:
    """Quick sizes, our tool and cp: everything is moved and checked, every figure is there."""
    wanted = "small-*@lows3,large-*@checksums,noop-*,start,list,memory-same,fs-small"
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "bench", "--quick", "--only", wanted, "--tools", "entrepot,cp"]
    command += ["--scratch", str(tmp_path), "--json", str(out), "--timeout", "30"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert out.exists(), done.stderr
    runs = json.loads(out.read_text())["runs"]
    assert {r["case"] for r in runs} >= {"small-up@lows3", "large-down@checksums", "noop-s3", "start", "list"}
    assert [r["case"] + ": " + r["why"] for r in runs if not r["ok"]] == []
    assert all(r["wall"] > 0 and r["cpu"] >= 0 for r in runs)
    assert tree(tmp_path) == {"out.json": out.stat().st_size}, "the scratch folder is left behind"
