import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from features.common.errors import InputError
from features.common.paths import CODE_ROOT, bentoml_home, home
from features.common.subprocesses import module_command
from features.ranking.snapshot import Snapshot
from serving.deploy import bento, requirements
from serving.deploy.bento import PACKAGES, build_bento
from serving.deploy.server import build_command, find_free_port, run_process, run_server
from serving.schemas import placements
from tests.models import fitted


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("USUAL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("USUAL_BUNDLE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "manifest.json").write_text("{}")
    return path


def test_home_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USUAL_HOME", "shop")
    assert bentoml_home() == tmp_path / "shop" / "bentoml"
    monkeypatch.delenv("USUAL_HOME")
    assert home() == tmp_path / ".usual"


def test_requirements_are_what_is_installed() -> None:
    lines = (CODE_ROOT / "serving" / "requirements.txt").read_text().splitlines()
    assert lines[1:] == requirements.pin(), "run `python -m serving.deploy.requirements > serving/requirements.txt`"
    names = {line.partition("==")[0] for line in lines[1:]}
    assert not names & {"mlflow", "optuna", "matplotlib"}
    assert not any("://" in line or line.startswith("-") for line in lines)


@pytest.mark.parametrize("label", ["", "A", "1 2", "-1", "1-", "../1", "x" * 55])
def test_label_that_cannot_be_a_version_is_refused(bundle: Path, label: str) -> None:
    with pytest.raises(InputError, match="cannot be a version"):
        build_bento(bundle, version_label=label)


def test_directory_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json"):
        build_bento(tmp_path, version_label="1")
    with pytest.raises(InputError, match=r"manifest\.json"):
        build_command(tmp_path, None, None, None)


def test_name_of_a_module_is_refused(bundle: Path) -> None:
    with pytest.raises(InputError, match="Python module"):
        build_bento(bundle, "serving", version_label="1")


def test_digest_covers_names_and_contents(bundle: Path) -> None:
    (bundle / "a").write_text("1")
    one = bento._digest(bundle)
    (bundle / "a").rename(bundle / "b")
    two = bento._digest(bundle)
    (bundle / "b").write_text("2")
    assert len({one, two, bento._digest(bundle)}) == 3


def test_stage_has_code_and_exact_model(tmp_path: Path) -> None:
    bento._stage(tmp_path, "the-usual", "usual:17-abc")
    assert {p.name for p in tmp_path.iterdir()} == {"features", "models", "serving", "bentofile.yaml"}
    options = yaml.safe_load((tmp_path / "bentofile.yaml").read_text())
    assert options["models"] == [{"tag": "usual:17-abc", "alias": "usual-bundle"}]
    assert not list(tmp_path.rglob("__pycache__"))


def test_installed_code_without_a_checkout_is_staged(tmp_path: Path) -> None:
    """As from a wheel: bentofile.yaml lies in the package `usual`, and site-packages holds other packages too."""
    site_packages, stage = tmp_path / "site-packages", tmp_path / "stage"
    for package in PACKAGES:
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CODE_ROOT / package, site_packages / package, ignore=skip)
    for other in ("usual", "pandas"):
        (site_packages / other).mkdir()
        (site_packages / other / "__init__.py").touch()
    shutil.copy(CODE_ROOT / "bentofile.yaml", site_packages / "usual")
    code = "import sys; from pathlib import Path; from serving.deploy import bento; "
    code += "bento._stage(Path(sys.argv[1]), 'the-usual', 'usual:17-abc'); print(bento.__file__)"
    env = os.environ | {"PYTHONPATH": str(site_packages)}
    run = subprocess.run(
        [sys.executable, "-P", "-c", code, str(stage)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == str(site_packages / "serving" / "deploy" / "bento.py")
    assert {p.name for p in stage.iterdir()} == {*PACKAGES, "bentofile.yaml"}
    assert (stage / "serving" / "requirements.txt").is_file()


@pytest.fixture
def foreign_packages(tmp_path: Path) -> Path:
    """A directory with packages of the shop's own that have the names of ours."""
    for name in PACKAGES:
        package = tmp_path / "shop" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    return tmp_path / "shop"


def test_packages_of_the_working_directory_are_not_imported(foreign_packages: Path, tmp_path: Path) -> None:
    command, env = module_command("serving.deploy.refresh", str(tmp_path / "log"), str(tmp_path / "published"))
    run = subprocess.run(command, cwd=foreign_packages, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("usual: nothing is published in")


def test_relative_paths_are_those_of_the_working_directory(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server itself runs in the directory of its code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("USUAL_HOME")
    shutil.copy(placements.DEFAULT, "p.yml")
    for variable, path in (("LOG", "log"), ("PLACEMENTS", "p.yml"), ("EVENT_STORE", "events.sqlite")):
        monkeypatch.setenv(f"USUAL_{variable}", path)
    _, env = build_command(bundle, None, None, None)
    assert env["USUAL_HOME"] == str(tmp_path / ".usual")
    assert env["USUAL_LOG"] == str(tmp_path / "log")
    assert env["USUAL_PLACEMENTS"] == str(tmp_path / "p.yml")
    assert env["USUAL_EVENT_STORE"] == str(tmp_path / "events.sqlite")
    monkeypatch.setenv("USUAL_EVENT_STORE", "postgresql://shop@127.0.0.1/events")
    _, env = build_command(bundle, None, None, None)
    assert env["USUAL_EVENT_STORE"] == "postgresql://shop@127.0.0.1/events"


def test_a_home_directory_is_expanded_and_an_empty_variable_is_none(
    bundle: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(own_home))
    monkeypatch.setenv("USUAL_LOG", "~/log")
    monkeypatch.setenv("USUAL_CHAMPION", "")
    _, env = build_command(bundle, None, None, None)
    assert env["USUAL_LOG"] == str(own_home / "log")
    assert not env.get("USUAL_CHAMPION")


def test_placements_that_cannot_be_read_stop_the_server_before_it_starts(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USUAL_PLACEMENTS", str(tmp_path / "typo.yml"))
    with pytest.raises(InputError, match=r"typo\.yml"):
        build_command(bundle, None, None, None)


def test_nothing_packaged_yet_says_what_to_do() -> None:
    with pytest.raises(InputError, match="or `usual package`"):
        build_command(None, None, None, None)
    with pytest.raises(InputError, match="run `usual package`"):
        build_command("the-usual:17", None, None, None)


def test_only_an_exact_tag_is_served(own_home: Path) -> None:
    """BentoML itself takes the-usual:17 for the-usual:17-abc."""
    store = own_home / "bentoml" / "bentos" / "the-usual"
    for version in ("17-abc", "18-abc"):
        (store / version).mkdir(parents=True)
        (store / version / "bento.yaml").touch()
    (store / "latest").write_text("17-abc")
    with pytest.raises(InputError, match="the-usual:17-abc, the-usual:18-abc"):
        build_command("the-usual:17", None, None, None)
    for target, version in ((None, "17-abc"), ("the-usual:latest", "17-abc"), ("the-usual:18-abc", "18-abc")):
        command, env = build_command(target, None, None, None)
        assert command[-1] == str(store / version)
        assert env["BENTOML_HOME"] == str(own_home / "bentoml")
        assert env["PYTHONPATH"].split(os.pathsep)[0] == str(store / version / "src")  # its own code, not ours
        assert command[command.index("--host") + 1] == "127.0.0.1"


def test_directory_and_options_reach_bentoml(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_CONFIG_OVERRIDES", '{"services": {"Usual": {"threads": 2}}}')
    monkeypatch.delenv("USUAL_OPEN")
    monkeypatch.setenv("USUAL_SECRET_KEYS", "0123456789abcdef0123456789abcdef")
    command, env = build_command(bundle, "0.0.0.0", 8000, 3)  # noqa: S104
    assert env["USUAL_BUNDLE"] == str(bundle)
    assert json.loads(env["BENTOML_CONFIG_OVERRIDES"])["services"]["Usual"] == {"threads": 2, "workers": 3}
    assert command[command.index("--host") + 1] == "0.0.0.0"  # noqa: S104
    assert command[command.index("--port") + 1] == "8000"
    with pytest.raises(InputError, match="IP address"):
        build_command(bundle, "localhost", None, None)


def test_wrong_setting_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USUAL_PORT", "http")
    with pytest.raises(InputError, match="USUAL_PORT"):
        build_command(bundle, None, None, None)


def test_server_that_stops_shows_its_log() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such shelf')"]
    with pytest.raises(InputError, match="no such shelf"), run_process(command, dict(os.environ), find_free_port()):
        pass


MARKED_CODE = """

class Marked(BundleRecommender):
    @property
    def info(self):
        return {**super().info, "code": __file__}


def load(path):
    return Marked(Bundle.load(path))
"""


@pytest.fixture
def trained(tmp_path_factory: pytest.TempPathFactory, simulated_snapshot: Snapshot) -> Path:
    return fitted.bundle(simulated_snapshot).save(tmp_path_factory.mktemp("trained") / "bundle")


@pytest.mark.e2e
def test_bento_is_served_with_its_own_code_and_model(
    trained: Path, own_home: Path, foreign_packages: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As others deploy it: `bentoml serve TAG`, from any working directory, with nothing but BENTOML_HOME set."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    bento._stage(checkout, "the-usual", "usual:latest")
    code = checkout / "models" / "recommender.py"
    code.write_text(code.read_text() + MARKED_CODE)
    monkeypatch.setattr(bento, "CODE_ROOT", checkout)
    ids, content = trained / "items" / "ids.arrow", (trained / "items" / "ids.arrow").read_bytes()
    ids.write_bytes(content[:-1])
    with pytest.raises(InputError, match="is damaged"):
        build_bento(trained, version_label="16")
    ids.write_bytes(content)
    monkeypatch.chdir(foreign_packages)
    first = build_bento(trained, version_label="17")
    assert build_bento(trained, version_label="17").model_tag == first.model_tag
    latest = build_bento(trained, version_label="18")
    assert not (first.path / "src" / "training").exists()
    assert not (first.path / "src" / "tests").exists()
    assert not list(own_home.rglob("*.pkl"))
    shutil.rmtree(checkout)
    monkeypatch.chdir(tmp_path)

    port = find_free_port()
    env = {k: v for k, v in os.environ.items() if not k.startswith("USUAL_")}
    env |= {"BENTOML_HOME": str(bentoml_home()), "USUAL_OPEN": "1"}
    command = [sys.executable, "-m", "bentoml", "serve", first.tag, "--host", "127.0.0.1", "--port", str(port)]
    with run_process(command, env, port) as url:
        model = httpx.get(f"{url}/v1/model").json()
        assert model["version"] == "17"
        assert model["code"] == str(first.path / "src" / "models" / "recommender.py")
        response = httpx.post(f"{url}/v1/recommendations", json={"requests": [{"session_id": "s"}]})
        assert len(response.json()["results"][0]["items"]) == 12
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/livez")

    monkeypatch.chdir(foreign_packages)
    with run_server() as url:
        assert httpx.get(f"{url}/v1/model").json()["version"] == "18"
    assert latest.tag.startswith("the-usual:18-")


@pytest.mark.e2e
def test_server_runs_our_code_from_a_directory_with_packages_of_the_same_names(
    trained: Path, foreign_packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(foreign_packages)
    monkeypatch.delenv("USUAL_HOME")
    with run_server(trained) as url:
        assert httpx.get(f"{url}/v1/model").json()["version"] is None
        ranking = httpx.post(f"{url}/v1/recommendations", json={"requests": [{"session_id": "s"}]})
        assert len(ranking.json()["results"][0]["items"]) == 12
    assert (foreign_packages / ".usual" / "events.sqlite").is_file()
