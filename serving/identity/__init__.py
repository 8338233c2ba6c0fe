"""Identity: what a caller can prove of who its visitor is, by its key, a visitor token and signed client ids."""
