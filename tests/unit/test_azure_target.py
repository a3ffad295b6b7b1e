"""Where Azure requests go: connection strings, environment, wasb locations, clouds and emulators."""

from __future__ import annotations

import pytest

from entrepot.model.connection import Connection
from entrepot.model.errors import UsageError
from entrepot.model.location import parse_location
from entrepot.model.secret import Secret
from entrepot.storage.azure.store import AzureStore
from entrepot.storage.azure.target import AzureTarget, target_of

E = "AZURE_STORAGE_ENDPOINT"
ENV = {"AZURE_STORAGE_ACCOUNT": "acct", "AZURE_STORAGE_KEY": "S2V5"}


def resolve(text: str, env: dict[str, str] | None = None, connection: Connection | None = None) -> AzureTarget:
    return target_of(parse_location(text), connection, ENV if env is None else env)


@pytest.mark.parametrize(
    ("text", "env", "endpoint", "account"),
    [
        ("az://box/p", ENV, "https://acct.blob.core.windows.net", "acct"),
        ("wasb://box@other/p", {}, "https://other.blob.core.windows.net", "other"),
        ("wasbs://box@acct.blob.core.windows.net/p", ENV, "https://acct.blob.core.windows.net", "acct"),
        ("abfss://box@acct.dfs.core.windows.net/p", ENV, "https://acct.blob.core.windows.net", "acct"),
        ("wasb://box@c.blob.core.chinacloudapi.cn/p", {}, "https://c.blob.core.chinacloudapi.cn", "c"),
        ("az://box", {**ENV, E: "http://127.0.0.1:10000/acct"}, "http://127.0.0.1:10000/acct", "acct"),
        ("az://box", {**ENV, E: "http://127.0.0.1:10000/"}, "http://127.0.0.1:10000/acct", "acct"),
        ("az://box", {**ENV, E: "http://[::1]:7"}, "http://[::1]:7/acct", "acct"),
        ("az://box", {**ENV, E: "https://blobs.example.org"}, "https://blobs.example.org", "acct"),
        (
            "az://box",
            {"AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=https;AccountName=n;AccountKey=QUI9PQ==;"
             "EndpointSuffix=core.chinacloudapi.cn"},
            "https://n.blob.core.chinacloudapi.cn", "n",
        ),
        (
            "az://box",
            {"AZURE_STORAGE_CONNECTION_STRING": "BlobEndpoint=https://n.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=a%3D"},
            "https://n.blob.core.windows.net", "n",
        ),
        (
            "az://box", {"AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true"},
            "http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1",
        ),
    ],
)  # fmt: skip
def test_endpoints(text: str, env: dict[str, str], endpoint: str, account: str) -> None:
    found = resolve(text, env)
    assert (found.endpoint, found.account, found.container) == (endpoint, account, "box")


def test_credentials_of_a_connection_string_survive_their_equals_signs() -> None:
    found = resolve("az://box", {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=n;AccountKey=QUI9PQ=="})
    assert found.key.reveal() == "QUI9PQ=="
    found = resolve(
        "az://box",
        {"AZURE_STORAGE_CONNECTION_STRING": "BlobEndpoint=https://n.blob.core.windows.net;SharedAccessSignature=?sv=1&sig=a%3D"},
    )  # fmt: skip
    assert found.sas.reveal() == "sv=1&sig=a%3D"


def test_a_stored_connection_wins_over_the_environment() -> None:
    connection = Connection(
        "c", "azure", region="chinanorth2", access_key="cn", secret_key=Secret("QUI="), insecure_skip_verify=True
    )
    found = resolve("az://box", ENV, connection)
    assert found.endpoint == "https://cn.blob.core.chinacloudapi.cn" and found.key.reveal() == "QUI="
    assert not found.verify
    blank = Connection("c", "azure")
    assert resolve("az://box", ENV, blank).account == "acct"
    virtual = Connection("c", "azure", endpoint="http://localhost:7", access_key="a", addressing="virtual")
    assert resolve("az://box", ENV, virtual).endpoint == "http://a.localhost:7"


def test_keys_of_one_account_never_go_to_another() -> None:
    found = resolve("wasb://box@stranger/p", {**ENV, E: "https://mine.example.org"})
    assert not found.key and not found.sas and found.endpoint == "https://stranger.blob.core.windows.net"


def test_secrets_do_not_print() -> None:
    found = resolve("az://box", {**ENV, "AZURE_STORAGE_SAS_TOKEN": "?sig=topsecret"})
    assert "S2V5" not in repr(found) and "topsecret" not in repr(found)
    assert found.sas.reveal() == "sig=topsecret"


@pytest.mark.parametrize(
    ("text", "env"),
    [
        ("az://box", {}),
        ("az://box", {**ENV, E: "ftp://x"}),
        ("az://box", {**ENV, E: "https://x/?sig=1"}),
        ("az://box", {**ENV, E: "https://x:port"}),
        ("az://box", {"AZURE_STORAGE_CONNECTION_STRING": "AccountName"}),
        ("az://b ox", ENV),
        ("wasb://box@acct.example.org/p", ENV),
    ],
)
def test_wrong_settings_are_usage_errors(text: str, env: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        resolve(text, env)


def test_identity_and_server_copy() -> None:
    def store(text: str, **env: str) -> AzureStore:
        return AzureStore.open(parse_location(text), environ={**ENV, **env})

    one = store("wasb://box@acct.blob.core.windows.net/p/")
    assert one.identity() == store("abfss://box@ACCT.dfs.core.windows.net/p").identity()
    assert one.identity() == ("acct.blob.core.windows.net/box", b"p/")
    assert one.can_server_copy_from(store("az://other"))
    assert not one.can_server_copy_from(store("az://other@elsewhere"))
    public = AzureStore.open(parse_location("az://box"), environ={"AZURE_STORAGE_ACCOUNT": "acct"})
    assert not one.can_server_copy_from(public)
