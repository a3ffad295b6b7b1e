"""The HTTP faces: they translate requests and answers, and decide nothing."""
