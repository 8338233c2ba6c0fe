"""What a server can be told, read from the environment."""

from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from features.errors import InputError
from features.sources.store import default_url


class Settings(BaseSettings):
    """Every field is an environment variable: `USUAL_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="USUAL_", extra="ignore", use_attribute_docstrings=True)

    bundle: Path | None = None
    """A bundle directory to serve. Unset: the model inside the Bento that is being served."""

    host: str = "127.0.0.1"
    """The address to listen on; an IP address. The default is reachable from this machine only."""

    port: int = Field(3000, ge=0, le=65535)
    """The port to listen on; 0 takes a free one."""

    workers: int = Field(1, ge=1)
    """Server processes. They share the memory-mapped bundle."""

    max_batch: int = Field(64, ge=1)
    """The most visitors ranked in one vectorised call."""

    linger_ms: float = Field(2.0, ge=0, le=50)
    """How long a batch under load may wait for as many requests as the one before it had."""

    max_queue: int = Field(256, ge=1)
    """Requests that may wait; one more is refused with 429. More than the ranker answers within
    `deadline_ms` only turns 429s into 504s."""

    deadline_ms: int = Field(1000, ge=1)
    """A request that is not answered after this long gets 504."""

    event_store: SecretStr | None = None
    """Where events are kept: the path of a SQLite file, or postgresql://USER:PASSWORD@HOST:PORT/DATABASE, which
    servers on several machines can share. Unset: events.sqlite in `USUAL_HOME`."""

    event_days: int = Field(90, ge=38)
    """Events are removed from the store this many days after they came. At least as long as an event may be late
    and still be known when it is sent again; export them before (`usual ingest store`)."""

    visit_budget_ms: float = Field(50, gt=0)
    """How long an answer may wait for what its visitor has just done; then it is given without."""

    max_body_bytes: int = Field(2_000_000, ge=1)
    """A longer request body is refused with 413, without being kept."""

    def event_store_url(self) -> str:
        """The store's address with its password: to be opened, not to be shown."""
        return self.event_store.get_secret_value() if self.event_store else default_url()


def read_settings() -> Settings:
    """The settings of this process. Raises InputError naming each variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(f"USUAL_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        raise InputError(f"the server's settings are wrong: {wrong}") from None
