"""Routes, one module per group of paths: `add_…_routes` adds them to the application, `…Routes` has the endpoints.

An endpoint's name and docstring are its summary and description in the OpenAPI document: changing them changes the
public document.
"""
