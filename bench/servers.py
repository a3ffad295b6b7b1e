"""The servers under the clients: lows3 in its flavours, and SeaweedFS."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from .client import Client
from .programs import find_program, pinned
from .settings import ACCESS_KEY, HERE, SECRET_KEY, SOURCE_BUCKET, TARGET_BUCKET, Settings


def build_lows3(folder: Path) -> Path:
    """Compile the server; needs a C compiler and the headers of OpenSSL."""
    program = folder / "lows3"
    if not program.exists():
        sources = sorted(str(p) for p in (HERE / "server").glob("*.c"))
        command = ["cc", "-O2", "-Wno-format-truncation", "-o", str(program), *sources, "-lssl", "-lcrypto"]
        subprocess.run(command, check=True)
    return program


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of our own for 127.0.0.1, its own authority, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not cert.exists():
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:prime256v1",
                    "-nodes",
                ),
                *(
                    "-days",
                    "30",
                    "-subj",
                    "/CN=localhost",
                    "-addext",
                    "subjectAltName=IP:127.0.0.1,DNS:localhost",
                ),
                *("-keyout", str(key), "-out", str(cert)),
            ],
            check=True,
            capture_output=True,
        )
    return cert, key


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server that is up while the ``with`` block lasts."""

    flavour = ""
    ca = ""
    pid = 0

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """URL for clients."""
        return f"{'https' if self.ca else 'http'}://127.0.0.1:{self.port}"

    @property
    def is_lows3(self) -> bool:
        """It counts requests and may be asked for them."""
        return True

    def client(self) -> Client:
        """A fresh connection for set-up and checks."""
        return Client(self.port, self.ca)

    def command(self) -> list[str]:
        """What to start."""
        raise NotImplementedError

    def __enter__(self) -> Server:
        log = open(self.settings.scratch / "server.log", "ab")
        with log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.pid = self._process.pid
        try:
            self._wait_until_up()
            self._make_buckets()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process and process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def cpu(self) -> float:
        """Seconds of processor it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _wait_until_up(self) -> None:
        for _ in range(600):
            assert self._process
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.flavour} did not start, see {self.settings.scratch}/server.log")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.flavour} is not up after 30 s")

    def _make_buckets(self) -> None:
        client = self.client()
        for bucket in (SOURCE_BUCKET, TARGET_BUCKET):
            for _ in range(150):
                with contextlib.suppress(OSError):
                    made = client.call("PUT", f"/{bucket}")[0] in (200, 409)
                    # a store that has just started may take buckets before it takes bodies
                    if made and client.call("PUT", f"/{bucket}/.warm", body=b"x")[0] == 200:
                        client.call("DELETE", f"/{bucket}/.warm")
                        break
                time.sleep(0.2)
            else:
                raise RuntimeError(f"{self.flavour} takes no objects into {bucket}")


class Lows3(Server):
    """The in-memory server; ``flavour`` is lows3, checksums or tls."""

    def __init__(
        self,
        settings: Settings,
        flavour: str = "lows3",
        *,
        synthetic: int = 0,
        latency_us: int = 0,
        keep: int = 1 << 20,
    ) -> None:
        super().__init__(settings)
        self.flavour = flavour
        self._options = ["--keep", str(keep)]
        # after all files that were written before: an upload has nothing to doubt
        self.generated_time = int(time.time()) + 10
        if synthetic:
            self._options += ["--synthetic", str(synthetic), "--time", str(self.generated_time)]
        if latency_us:
            self._options += ["--latency-us", str(latency_us)]
        if flavour == "checksums":
            self._options.append("--checksums")
        if flavour == "tls":
            cert, key = make_certificate(settings.scratch)
            self.ca = str(cert)
            self._options += ["--tls", str(cert), str(key)]

    def command(self) -> list[str]:
        program = build_lows3(self.settings.scratch)
        return pinned([str(program), "--port", str(self.port), *self._options], self.settings.server_cpus)


class Seaweed(Server):
    """SeaweedFS, all in one process, data in the scratch folder; not pinned."""

    flavour = "seaweed"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._folder = settings.scratch / "weed"

    @property
    def is_lows3(self) -> bool:
        return False

    def command(self) -> list[str]:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        config = self.settings.scratch / "weed.json"
        identity = {
            "name": "bench",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config.write_text(json.dumps({"identities": [identity]}))
        parts = ("master", "volume", "filer")
        return [
            *(find_program("weed", self.settings.bin), "-logtostderr=true", "server"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self._folder}", "-filer", "-s3"),
            *(f"-s3.config={config}", f"-s3.port={self.port}", f"-s3.port.grpc={_free_port()}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
            *(f"-{part}.{port}={_free_port()}" for part in parts for port in ("port", "port.grpc")),
            *("-volume.max=0", "-master.volumeSizeLimitMB=1024"),
        ]

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self._folder, ignore_errors=True)
