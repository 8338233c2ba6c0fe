"""Rows as files hold them, made into events: readers, mappings, types, timestamps, validation."""
