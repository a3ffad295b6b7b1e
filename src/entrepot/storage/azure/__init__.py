"""Azure Blob: the second dialect of the wire lane (``az://``, ``wasb://``, ``abfs://``)."""
