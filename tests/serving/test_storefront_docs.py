"""The code in docs/storefront.md: it runs, and what it signs is what the server verifies."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.event_store import EventStore
from serving.identity.signing import new_key_pair, new_secret
from serving.identity.tokens import TokenVerifier
from serving.settings import Settings
from tests.serving.api.middleware.test_api_keys import KEYS, SECRET
from tests.serving.conftest import RunningServer
from tests.serving.event_bodies import ago

PAGE = (Path(__file__).parents[2] / "docs" / "storefront.md").read_text()
CUSTOMERS = ["u_91", "42", 'Zoë "the" Ünique / \\ + ?', "東京", "a" * 200]


def snippets(language: str, word: str) -> list[str]:
    """The blocks of the page in `language` that have `word`."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [block for block in blocks if word in block]


def run(command: list[str], script: str, customer_id: str, **environment: str) -> str:
    """Run a script with the customer as its argument; return what it prints."""
    known = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        [*command, script, customer_id], capture_output=True, text=True, timeout=60, env={**known, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def verify(token: str, customer_id: str, **settings: str) -> None:
    """Hold the token to the server's own verification, also against the secret of somebody else."""
    verified = TokenVerifier(Settings.model_validate({"open": False, **settings})).verify(token)
    assert (verified.status, verified.customer_id, verified.client_id) == ("valid", customer_id, None), verified.why
    other = TokenVerifier(Settings.model_validate({"open": False, "visitor_secrets": new_secret()}))
    assert other.verify(token).status == "bad_signature"


@pytest.mark.parametrize("customer_id", CUSTOMERS)
def test_javascript(customer_id: str, tmp_path: Path) -> None:
    node, secret, script = program("node"), new_secret(), tmp_path / "token.mjs"
    (snippet,) = snippets("js", "createHmac")
    script.write_text(f"{snippet}\nconsole.log(visitorToken(process.argv[2]));\n")
    verify(run([node], str(script), customer_id, VISITOR_SECRET=secret), customer_id, visitor_secrets=secret)


@pytest.mark.parametrize("customer_id", CUSTOMERS)
def test_php(customer_id: str, tmp_path: Path) -> None:
    php, secret, script = program("php"), new_secret(), tmp_path / "token.php"
    (snippet,) = snippets("php", "hash_hmac")
    script.write_text(f"<?php\n{snippet}\necho visitor_token($argv[1]);\n")
    verify(run([php], str(script), customer_id, VISITOR_SECRET=secret), customer_id, visitor_secrets=secret)


def test_python(tmp_path: Path) -> None:
    secret, (private, public) = new_secret(), new_key_pair()
    keys = {"VISITOR_SECRET": secret, "USUAL_VISITOR_PRIVATE_KEY": private}
    by_secret, by_key = snippets("python", "def visitor_token")
    for snippet, settings in ((by_secret, {"visitor_secrets": secret}), (by_key, {"visitor_public_keys": public})):
        script = tmp_path / "sign.py"
        script.write_text(
            f"{snippet}\nimport sys\n\nfor customer in sys.argv[1:]:\n    print(visitor_token(customer))\n"
        )
        for customer_id in CUSTOMERS[:3]:
            verify(run([sys.executable], str(script), customer_id, **keys), customer_id, **settings)


def test_a_server_renders_products(
    serve: Callable[..., RunningServer],
    fake: type,
    sqlite_store: EventStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(fake(as_of=ago(days=2)), store=sqlite_store, visit_budget_ms=5000, **KEYS)
    monkeypatch.setenv("USUAL_URL", f"http://{server.host}:{server.port}")
    monkeypatch.setenv("USUAL_SECRET_KEY", SECRET)
    (snippet,) = snippets("python", "def products")
    (tmp_path / "page.py").write_text(snippet)
    shop: dict[str, Any] = runpy.run_path(str(tmp_path / "page.py"))
    shop["usual"]._http.timeout = 10
    device = shop["device"](None)
    assert device.startswith("u1.")
    assert shop["device"](device) == device
    result = shop["products"]("u_91", device)
    assert (result["identity"], result["segment"], len(result["items"])) == ("proven", "segment of u_91", 12)
    assert shop["products"](None, device)["identity"] == "anonymous"
    assert shop["products"]("x" * 5000, device) is None, "an error is not the page's"
    shop["usual"].close()


def test_every_method_and_attribute_is_described() -> None:
    pages = Path(__file__).parents[2] / "serving"
    tracker, client = (pages / "pages" / "tracker.js").read_text(), (pages / "client.py").read_text()
    attributes = set(re.findall(r"dataset\.(\w+)", tracker)) | {"key", "url", "clientId"}
    described = set(re.findall(r"^\| `data-([a-z-]+)", PAGE, re.MULTILINE))
    assert {re.sub("[A-Z]", lambda letter: "-" + letter[0].lower(), name) for name in attributes} == described
    for method in re.findall(r"^    def ([a-z]\w+)", client, re.MULTILINE):
        assert method == "close" or f"`{method}`" in PAGE, method
