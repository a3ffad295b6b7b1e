"""The bridge: stores without a wire dialect of ours (GCS, WebDAV, SFTP, HDFS) behind the same store and lane."""

from __future__ import annotations

from .store import BridgeStore

__all__ = ["BridgeStore"]
