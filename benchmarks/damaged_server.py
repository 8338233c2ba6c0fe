"""A whole server whose published bundle is damaged under it, for durability.py: does it go on, and serve again?"""

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil  # type: ignore[import-untyped]

from models import publishing
from serving.deploy.server import build_command, find_free_port
from serving.schemas.visitor import VisitorIds

THREADS = 8
PEOPLE = 50
RECOVERY_S = 60.0
DAMAGES = ("truncated", "overwritten", "flipped", "deleted", "emptied")
TOLD = "told "  # begins a line about a visit of somebody else


def person_of(event_id: str) -> int:
    return int(event_id.rsplit("-", 1)[1]) % PEOPLE


def items_of(person: int) -> tuple[str, str]:
    return f"i1-p{person}", f"i2-p{person}"


def visitor_of(person: int) -> VisitorIds:
    return VisitorIds(f"c{person}" if person % 10 == 0 else None, f"d{person}")


@dataclass
class DamagedServer:
    """Whole servers of one store, and the bundle that is published for them."""

    url: str
    bundle: Path
    home: Path

    @property
    def champion(self) -> Path:
        return self.home / "champion"

    @contextmanager
    def run(self) -> Iterator[int]:
        """Run the server's processes, yield its port, and kill all of them."""
        os.environ |= {"USUAL_HOME": str(self.home), "USUAL_EVENT_STORE": self.url}
        os.environ.pop("USUAL_CHAMPION", None)
        port = find_free_port()
        command, env = build_command(None, "127.0.0.1", port, 1, own_keys=False)
        quiet = subprocess.DEVNULL
        server = subprocess.Popen(command, env=env, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        try:
            yield port
        finally:
            process = psutil.Process(server.pid)
            victims = [process, *process.children(recursive=True)]
            for victim in victims:
                victim.kill()
            server.wait()
            psutil.wait_procs(victims, 10)

    def damage(self, what: str, rng: random.Random) -> None:
        """Damage some files of the published bundle where they lie."""
        current = publishing.read_current(self.champion)
        assert current is not None
        files = [f for f in sorted(current.path.rglob("*")) if f.is_file() and f.stat().st_size]
        for file in rng.sample(files, 4):
            if what == "deleted":
                file.unlink()
                continue
            with file.open("r+b") as content:
                if what in ("truncated", "emptied"):
                    content.truncate(file.stat().st_size // 2 if what == "truncated" else 0)
                    continue
                content.seek(at := rng.randrange(file.stat().st_size))
                old = content.read(1)
                content.seek(at)
                content.write(bytes([old[0] ^ 1 << rng.randrange(8)]) if what == "flipped" else rng.randbytes(64))

    def serve(self, name: str, what: str, rng: random.Random, resend: Sequence[str]) -> tuple[list[str], bool]:
        """Send events and ask, damage the bundle, publish again, and kill the server.

        Returns the acknowledged ids, and whether it served again.
        """
        publishing.publish(self.bundle, f"{name}-before", self.champion)
        publishing.publish(self.bundle, name, self.champion)
        lines: list[str] = []
        with self.run() as port:
            if not _until(lambda: ask(port, 0) is not None):
                return lines, False
            over = threading.Event()

            def work(thread: int) -> None:
                lines.extend(event_id for event_id in resend[thread::THREADS] if post_event(port, event_id))
                number = 0
                while not over.is_set():
                    if post_event(port, event_id := f"{name}-{thread}-{number}"):
                        lines.append(event_id)
                        number += 1
                    else:
                        time.sleep(0.05)
                    others = {f'"{kind}{p}"' for kind in "cd" for p in range(PEOPLE) if p != person_of(event_id)}
                    answer = ask(port, person_of(event_id)) or ""
                    if any(other in answer for other in others):
                        lines.append(f"{TOLD}{event_id}")

            threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(THREADS)]
            for thread in threads:
                thread.start()
            time.sleep(rng.uniform(0, 1))
            self.damage(what, rng)
            time.sleep(rng.uniform(0, 3))
            publishing.publish(self.bundle, f"{name}-after", self.champion)
            recovered = _until(lambda: f'"{name}-after"' in (ask(port, 0) or ""))
            time.sleep(rng.uniform(0, 0.6))
        over.set()
        for thread in threads:
            thread.join(10)
        return lines, recovered


def post(port: int, path: str, body: object) -> tuple[int, str]:
    """Post JSON; status 0 where there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def post_event(port: int, event_id: str) -> bool:
    """Send an event as `build_event` makes it; whether it was acknowledged."""
    person = person_of(event_id)
    event = {"event_id": event_id, "name": "view_item", "client_id": f"d{person}"}
    params: dict[str, object] = {"items": [{"item_id": item, "price": 2.0} for item in items_of(person)]}
    if person % 10 == 0:
        event |= {"name": "purchase", "customer_id": f"c{person}"}
        params["transaction_id"] = event_id
    status, answer = post(port, "/v1/events", {"events": [event | {"params": params}]})
    return status == 202 and not json.loads(answer)["rejected"]


def ask(port: int, person: int) -> str | None:
    """Ask for recommendations; the answer, None where there is none."""
    visitor = visitor_of(person)
    ids = {k: v for k, v in (("customer_id", visitor.customer_id), ("client_id", visitor.client_id)) if v}
    status, answer = post(port, "/v1/recommendations", {"requests": [ids]})
    return answer if status == 200 else None


def _until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + RECOVERY_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False
