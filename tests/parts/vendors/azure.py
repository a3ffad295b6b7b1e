"""A container at Azurite, which stands in for WASB; the code under test makes none by itself."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from entrepot.model.connection import Connection
from entrepot.model.location import parse_location
from entrepot.storage.azure.request import Requests
from entrepot.storage.azure.store import AzureStore


def make_container(connection: Connection, name: str) -> None:
    """Make the container ``name`` of the connection's account."""
    store = AzureStore.open(parse_location(f"vendor:{name}/"), connection)
    head = Requests(store.target).head(b"PUT", b"", (("restype", b"container"),), length=0)
    parts = urlsplit(connection.endpoint)
    link = http.client.HTTPConnection(parts.hostname or "", parts.port)
    line, _, rest = head.partition(b"\r\n")
    headers = dict(field.decode().split(":", 1) for field in rest.split(b"\r\n") if field)
    link.request("PUT", line.split()[1].decode(), headers={k: v.strip() for k, v in headers.items()})
    status = link.getresponse().status
    link.close()
    store.close()
    if status != 201:
        raise RuntimeError(f"the container was not made: {status}")
