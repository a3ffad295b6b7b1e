"""Real servers as test parts: SeaweedFS, rclone (S3, WebDAV, SFTP), Azurite, the benchmark's S3 server.

Each ``start_…`` gives a running server on free loopback ports, with its log in the given directory; ``stop()``
ends it. A missing program skips the test (fails it when ENTREPOT_REQUIRE_PARTS=1). Fixtures: ``conftest``.
"""

from __future__ import annotations

import glob
import hashlib
import http.client
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from parts.program import CACHE, Program, answers, find_program, free_ports, missing, need_program
from parts.s3_client import S3Client

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WHEELS = "install the development dependencies (scripts/test does)"
ACCESS, SECRET, REGION = "entrepot-test", "entrepot-test-secret", "us-east-1"


@dataclass
class S3Server:
    """A running S3 server and its credentials."""

    endpoint: str
    program: Program
    access_key: str = ACCESS
    secret_key: str = SECRET
    region: str = REGION
    provider: str = "Other"
    """What rclone calls it."""
    ca_file: str = ""

    @property
    def port(self) -> int:
        return urlsplit(self.endpoint).port or 0

    def env(self) -> dict[str, str]:
        """The environment of a client."""
        found = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
        }
        if self.ca_file:
            found["AWS_CA_BUNDLE"] = self.ca_file
        return found

    def client(self) -> S3Client:
        """A small independent client, for setting up and looking."""
        return S3Client(self.endpoint, self.access_key, self.secret_key, self.region)

    def make_bucket(self, name: str) -> str:
        """Make a bucket (fine when it is there); its name."""
        self.client().make_bucket(name)
        return name

    def stop(self) -> None:
        self.program.stop()


def start_seaweed(directory: str) -> S3Server:
    """SeaweedFS with master, volume, filer and S3 in one process; ready after some 3 s."""
    weed = need_program("weed", WHEELS)
    data = os.path.join(directory, "seaweed")
    os.makedirs(data)
    settings = os.path.join(directory, "seaweed-s3.json")
    identity = {
        "name": "test",
        "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    with open(settings, "w") as f:
        json.dump({"identities": [identity]}, f)
    ports = free_ports(8)
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    command = [
        weed, "-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}",
        "-filer", "-s3", f"-s3.config={settings}", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-filer.localSocket={data}/filer.sock", f"-s3.localSocket={data}/s3.sock",
        "-master.telemetry=false", "-volume.max=0", "-master.volumeSizeLimitMB=256",
        *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
    ]  # fmt: skip
    program = Program(command, os.path.join(directory, "seaweed.log"), cwd=directory, grace=0.5)
    server = S3Server(f"http://127.0.0.1:{ports[6]}", program, provider="SeaweedFS")

    def ready() -> bool:
        try:
            client = server.client()
            return client.make_bucket("warm-up") and client.put("warm-up", b"x", b"x") == 200
        except http.client.HTTPException:
            return False

    program.wait_until(ready, 60, "SeaweedFS")
    return server


def _rclone(directory: str, protocol: str, *options: str) -> tuple[Program, int, str]:
    """``rclone serve PROTOCOL`` over a fresh directory: (program, port, directory)."""
    rclone = need_program("rclone", WHEELS)
    root = os.path.join(directory, f"rclone-{protocol}")
    os.makedirs(root)
    (port,) = free_ports(1)
    settings = os.path.join(directory, "rclone-empty.conf")
    with open(settings, "w"):
        pass
    command = [rclone, "--config", settings, "serve", protocol, root, "--addr", f"127.0.0.1:{port}", *options]
    command += ["--poll-interval", "0"]
    cache = os.path.join(directory, f"rclone-{protocol}-cache")
    program = Program([*command, "--cache-dir", cache], os.path.join(directory, f"rclone-{protocol}.log"))
    program.wait_for_port(port, 20, f"rclone serve {protocol}")
    return program, port, root


def start_rclone_s3(directory: str) -> S3Server:
    """rclone's S3 server over a directory: a second, independent implementation."""
    program, port, _ = _rclone(directory, "s3", "--auth-key", f"{ACCESS},{SECRET}", "--vfs-cache-mode", "off")
    return S3Server(f"http://127.0.0.1:{port}", program, provider="Rclone")


@dataclass
class FileServer:
    """A running WebDAV or SFTP server over ``root``."""

    url: str
    program: Program
    root: str
    user: str
    password: str

    def stop(self) -> None:
        self.program.stop()


def start_rclone_webdav(directory: str) -> FileServer:
    """rclone's WebDAV server."""
    login = ("--user", ACCESS, "--pass", SECRET)
    program, port, root = _rclone(directory, "webdav", *login, "--vfs-cache-mode", "writes")
    return FileServer(f"http://127.0.0.1:{port}", program, root, ACCESS, SECRET)


def start_rclone_sftp(directory: str) -> FileServer:
    """rclone's SFTP server."""
    login = ("--user", ACCESS, "--pass", SECRET)
    program, port, root = _rclone(directory, "sftp", *login, "--vfs-cache-mode", "writes")
    return FileServer(f"sftp://127.0.0.1:{port}", program, root, ACCESS, SECRET)


@dataclass
class AzureServer:
    """Azurite with its published development account."""

    endpoint: str
    program: Program
    account: str = "devstoreaccount1"
    key: str = field(
        default="Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
        repr=False,
    )

    def env(self) -> dict[str, str]:
        """The environment of a client."""
        return {
            "AZURE_STORAGE_ACCOUNT": self.account,
            "AZURE_STORAGE_KEY": self.key,
            "AZURE_STORAGE_ENDPOINT": self.endpoint,
        }

    def stop(self) -> None:
        self.program.stop()


def install_azurite() -> str:
    """The folder of an installed Azurite (kept in the test cache); empty when npm is missing."""
    source = os.path.join(HERE, "azurite")
    with open(os.path.join(source, "package-lock.json"), "rb") as f:
        version = hashlib.sha256(f.read()).hexdigest()[:16]
    home = os.path.join(CACHE, f"azurite-{version}")
    program = os.path.join(home, "node_modules", ".bin", "azurite-blob")
    if os.path.exists(program):
        return home
    npm = find_program("npm")
    if not npm:
        return ""
    fresh = f"{home}.{os.getpid()}"
    os.makedirs(fresh)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(source, name), fresh)
    command = [npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        raise RuntimeError(f"npm ci of Azurite failed: {done.stderr[-2000:]}")
    try:
        os.rename(fresh, home)
    except OSError:  # another process was quicker
        shutil.rmtree(fresh, ignore_errors=True)
    return home


def start_azurite(directory: str) -> AzureServer:
    """Azurite's blob service, in memory, telemetry off."""
    home = install_azurite()
    if not home or not find_program("node"):
        missing("azurite", "npm and node are needed to install it")
    (port,) = free_ports(1)
    command = [os.path.join(home, "node_modules", ".bin", "azurite-blob"), "--inMemoryPersistence"]
    command += ["--disableTelemetry", "--silent", "--skipApiVersionCheck"]
    command += ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
    program = Program(command, os.path.join(directory, "azurite.log"), cwd=directory)
    program.wait_for_port(port, 30, "Azurite")
    return AzureServer(f"http://127.0.0.1:{port}/devstoreaccount1", program)


def start_low_s3(directory: str, *options: str) -> S3Server:
    """The benchmark's own C server (bench/server); it checks no signatures."""
    sources = sorted(glob.glob(os.path.join(ROOT, "bench", "server", "*.c")))
    compiler = need_program("cc", "install a C compiler")
    if not sources:
        missing("low_s3", "bench/server is not there")
    program = os.path.join(directory, "lows3")
    if not os.path.exists(program):
        command = [compiler, "-O2", "-w", "-o", program, *sources, "-lssl", "-lcrypto"]
        built = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if built.returncode:
            missing("low_s3", f"it does not build (OpenSSL headers needed): {built.stderr[-500:]}")
    (port,) = free_ports(1)
    running = Program([program, "--port", str(port), *options], os.path.join(directory, "lows3.log"))
    running.wait_until(lambda: answers(port), 10, "lows3")
    return S3Server(f"http://127.0.0.1:{port}", running)
