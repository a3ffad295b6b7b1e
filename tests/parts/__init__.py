"""Parts for tests: real servers, a scripted S3 server, a faulty network, trees, an independent oracle."""
