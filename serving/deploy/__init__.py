"""From a bundle to a running server: the Bento, the server process, nightly refresh, the demo."""
