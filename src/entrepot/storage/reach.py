"""Checks of a connection, one by one: resolve, connect, TLS, clock, credentials, and what its store can do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrepot.model.connection import Connection
from entrepot.model.errors import EntrepotError, StoreError, StoreTimeoutError

if TYPE_CHECKING:
    from .base import Store
    from .s3.exchange import Exchange

TIMEOUT = 10.0
CLOCK_WARN = 60.0
CLOCK_FAIL = 15 * 60.0
BRIDGED = frozenset({"gcs", "webdav", "sftp", "hdfs"})


@dataclass(slots=True, frozen=True)
class Check:
    """One answer: ``verdict`` is ok, warn or fail; ``hint`` says what to do about the latter two."""

    name: str
    verdict: str
    text: str
    hint: str = ""


def check_connection(connection: Connection, bucket: str, prefix: bytes, *, write: bool) -> Iterator[Check]:
    """All checks of a stored connection, each as soon as it is known; ends after the first that fails."""
    for check in reach_connection(connection, bucket):
        yield check
        if check.verdict == "fail":
            return
    if connection.provider == "azure" or connection.provider in BRIDGED:
        yield from _check_plainly(connection, bucket, prefix, write=write)
        return
    from .s3.exchange import Exchange
    from .s3.profiles import resolve

    exchange = Exchange(resolve(connection, bucket))
    try:
        yield from _check_store(exchange, bucket, prefix, write=write)
    finally:
        exchange.close()


def reach_connection(connection: Connection, bucket: str = "") -> Iterator[Check]:
    """Network, TLS and clock of a connection's endpoint, without credentials."""
    from urllib.parse import urlsplit

    from .s3.profiles import resolve

    if connection.provider not in BRIDGED and connection.provider != "azure":
        try:
            target = resolve(connection, bucket)
        except EntrepotError as fault:
            yield Check("settings", "fail", fault.message, fault.hint)
            return
        yield from reach(target.host, target.port, tls=target.tls, verify=target.verify, ca_file=target.ca_file)
        return
    parts = urlsplit(connection.endpoint)
    if not parts.hostname:
        if connection.provider == "azure" and connection.access_key:
            yield from reach(f"{connection.access_key}.blob.core.windows.net", 443, tls=True)
        else:
            yield Check("endpoint", "ok", "the provider's own")
        return
    tls = parts.scheme in {"https", "webdavs"}
    port = parts.port or (443 if tls else 22 if connection.provider == "sftp" else 80)
    if connection.provider in {"sftp", "hdfs"}:
        yield from (c for c in reach(parts.hostname, port, tls=False) if c.name in {"resolve", "connect"})
        return
    verify = not connection.insecure_skip_verify
    yield from reach(parts.hostname, port, tls=tls, verify=verify, ca_file=connection.ca_file)


def reach(host: str, port: int, *, tls: bool, verify: bool = True, ca_file: str = "") -> Iterator[Check]:
    """Resolve, connect, speak TLS, and compare clocks; ends after the first that fails."""
    import socket

    from .wire.resolve import connect

    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        yield Check(
            "resolve",
            "fail",
            f"{host}: {reason}",
            "check the endpoint's spelling and the DNS of this machine",
        )
        return
    addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
    yield Check("resolve", "ok", f"{host}: {', '.join(addresses[:4])}{' …' if len(addresses) > 4 else ''}")
    started = time.monotonic()
    try:
        # By way of the resolver: a server's rules for outgoing connections hold for tests too.
        sock = connect(host, port, TIMEOUT)
    except StoreError as fault:
        yield Check("connect", "fail", fault.message, fault.hint)
        return
    except OSError as fault:
        reason = "no answer" if isinstance(fault, TimeoutError) else (fault.strerror or str(fault))
        yield Check("connect", "fail", f"port {port}: {reason}", "check port, firewall, and that the store runs")
        return
    with sock:
        yield Check("connect", "ok", f"port {port}, {(time.monotonic() - started) * 1000:.1f} ms")
        if not tls:
            yield Check(
                "TLS",
                "warn",
                "not used: data travels in the open",
                "use an https:// endpoint",
            )
            yield _clock(sock, host)
            return
        yield from _speak_tls(sock, host, verify, ca_file)


def _speak_tls(sock: object, host: str, verify: bool, ca_file: str) -> Iterator[Check]:
    import socket
    import ssl

    from .wire.tls import client_context

    assert isinstance(sock, socket.socket)
    try:
        wrapped = client_context(verify=verify, ca_file=ca_file).wrap_socket(sock, server_hostname=host)
    except ssl.SSLCertVerificationError as fault:
        yield Check("TLS", "fail", f"the certificate is not trusted: {fault.verify_message}",
                    "give its authority by --ca-file FILE")  # fmt: skip
        return
    except (OSError, EntrepotError) as fault:
        hint = getattr(fault, "hint", "") or "does the port speak TLS? else write http://"
        yield Check("TLS", "fail", str(fault), hint)
        return
    with wrapped:
        if verify:
            yield Check("TLS", "ok", f"{wrapped.version()}, certificate trusted")
        else:
            yield Check("TLS", "warn", f"{wrapped.version()}, certificate not checked", "add --ca-file FILE instead")
        yield _clock(wrapped, host)


def _clock(sock: object, host: str) -> Check:
    """Offset of the endpoint's clock, from the Date of any answer."""
    import socket
    from email.utils import parsedate_to_datetime

    assert isinstance(sock, socket.socket)
    name = host.encode("idna")
    try:
        sock.settimeout(TIMEOUT)
        sent = time.time()
        sock.sendall(b"HEAD / HTTP/1.1\r\nHost: " + name + b"\r\nConnection: close\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 65536:
            piece = sock.recv(4096)
            if not piece:
                break
            head += piece
        received = time.time()
        for line in head.split(b"\r\n")[1:]:
            field, _, value = line.partition(b":")
            if field.strip().lower() == b"date":
                there = parsedate_to_datetime(value.decode("ascii").strip()).timestamp()
                return clock_check(there + 0.5 - (sent + received) / 2)
    except (OSError, ValueError) as fault:
        return Check("clock", "warn", f"no HTTP answer: {fault}", "is this the endpoint of a store?")
    return Check("clock", "ok", "the endpoint names no time")


def clock_check(offset: float) -> Check:
    """Judge a clock offset in seconds (positive: the endpoint is ahead)."""
    if abs(offset) < 2:
        return Check("clock", "ok", "equal to the endpoint's")
    text = f"{abs(offset):.0f} s {'behind' if offset > 0 else 'ahead of'} the endpoint's"
    if abs(offset) < CLOCK_WARN:
        return Check("clock", "ok", text)
    hint = "set this machine's clock (NTP); Entrepot corrects its signatures, other programs will be refused"
    return Check("clock", "warn" if abs(offset) < CLOCK_FAIL else "fail", text, hint)


def _check_store(exchange: Exchange, bucket: str, prefix: bytes, *, write: bool) -> Iterator[Check]:
    """Credentials and abilities of an S3 store."""
    from .s3.probe import probe

    if not bucket:
        yield _list_buckets(exchange)
        return
    listed = False
    try:
        for finding in probe(exchange, prefix, write=write):
            if not listed:
                listed = True
                yield Check("auth", "ok", "the credentials are accepted")
                yield Check("list", "ok", f"bucket {bucket}")
            yield Check(finding.what, "ok" if finding.good else "warn", finding.result)
    except EntrepotError as fault:
        yield Check("write" if listed else "list", "fail", fault.message, fault.hint)


def _list_buckets(exchange: Exchange) -> Check:
    """Credentials can be tried without a bucket; that the account may not list buckets is no fault."""
    from .s3.errors import error_text, s3_error

    hint = "test with a bucket: entrepot connection test NAME BUCKET"
    try:
        reply = exchange.send("GET")
    except EntrepotError as fault:
        return Check("auth", "fail", fault.message, fault.hint)
    if reply.status == 200:
        count = reply.body.count(b"<Bucket>")
        return Check("auth", "ok", f"the credentials are accepted; {count} bucket{'' if count == 1 else 's'} visible")
    code, _ = error_text(reply.body)
    if code in {"AccessDenied", "NotImplemented", "MethodNotAllowed"}:
        return Check("auth", "warn", f"these credentials may not list buckets ({code}): not tried further", hint)
    refused = s3_error(reply.status, reply.headers, reply.body, "the list of buckets")
    return Check("auth", "fail", refused.message, refused.hint or hint)


def _check_plainly(connection: Connection, bucket: str, prefix: bytes, *, write: bool) -> Iterator[Check]:
    """Any other store: open it, list it, write, read and delete one object."""
    if not bucket and connection.provider == "azure":
        yield Check("auth", "warn", "not tried: no bucket was named", "entrepot connection test NAME BUCKET")
        return
    step = "open"
    try:
        from entrepot.model.location import Location

        from . import registry

        place = Location("connection", bucket, prefix, connection=connection.name)
        store = registry.open_store(place, connection)
        step = "list"
        store.check()
        next(iter(store.children(b"")), None)
        yield Check("auth", "ok", "the credentials are accepted")
        yield Check("list", "ok", bucket or "the root")
        if write:
            step = "write"
            yield from _write_and_read(store)
    except EntrepotError as fault:
        yield Check(step, "fail", fault.message, fault.hint)


def _write_and_read(store: Store) -> Iterator[Check]:
    """One small object with a random name: written, read back, deleted."""
    import secrets

    key = b".entrepot-probe-" + secrets.token_hex(8).encode()
    store.write(key, b"entrepot probe")
    yield Check("write", "ok", "yes")
    same = store.read(key) == b"entrepot probe"
    yield Check("read", "ok" if same else "fail", "yes" if same else "other bytes came back")
    error = delete_one(store, key)
    left = key.decode()
    yield Check("delete", "fail" if error else "ok", f"{error.message}: {left} is left behind" if error else "yes")


def delete_one(store: Store, key: bytes) -> StoreError | None:
    """Delete one object through the store's lane; the error if that failed."""
    from .base import Delete
    from .wire.options import LaneOptions
    from .wire.reactor import Reactor

    finished: list[Delete] = []
    reactor = Reactor()
    lane = store.lane(reactor, LaneOptions())
    try:
        lane.submit(Delete([key], finished.append))
        until = time.monotonic() + 6 * TIMEOUT
        while not finished and time.monotonic() < until:
            reactor.poll(0.2)
    finally:
        lane.close()
    if not finished:
        return StoreTimeoutError("no answer to the delete")
    return finished[0].error or (finished[0].failed[0][1] if finished[0].failed else None)
