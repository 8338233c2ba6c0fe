"""The command `usual serve` takes its address from the environment where it is not told one."""

from typing import Any

import pytest
from typer.testing import CliRunner

from serving.deploy import server
from usual.cli import app


@pytest.mark.parametrize(("arguments", "port"), [([], 3377), (["--port", "3388"], 3388)])
def test_the_environment_says_where_to_listen(monkeypatch: pytest.MonkeyPatch, arguments: list[str], port: int) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(server, "serve", lambda _, **options: calls.append(options))
    environment = {"USUAL_PORT": "3377", "USUAL_HOST": "127.0.0.2", "USUAL_WORKERS": "2"}
    result = CliRunner().invoke(app, ["serve", *arguments], env=environment)
    assert result.exit_code == 0, result.output
    assert calls == [{"host": "127.0.0.2", "port": port, "workers": 2, "without_keys": False}]
