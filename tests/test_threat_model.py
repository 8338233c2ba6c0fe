"""docs/security.md: every promise names a test, and the test exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_each_promise_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    promised = page.partition("## What is promised")[2].partition("## What is left")[0]
    rows = [
        line for line in promised.splitlines() if line.startswith("| ") and "---" not in line and "| test |" not in line
    ]
    assert len(rows) > 15
    file = None
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py|…)::(\w+)`", row)
        assert named, f"no test: {row}"
        for path, name in named:
            file = file if path == "…" else ROOT / path
            assert file is not None
            functions = {n.name for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)}
            assert name in functions, f"{name} is not in {file}"
