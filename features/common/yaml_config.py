"""Settings that people write by hand: YAML checked against a pydantic model, mistakes named by their key."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from features.common.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def read(path: Path, model: type[Model], what: str) -> Model:
    """The `model` in the file at `path`. Raises `InputError` that says which file, which key, and why."""
    try:
        return model.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{what} {path} is not valid YAML: {error}") from error
    except ValidationError as error:
        raise InputError(f"{what} {path} does not fit: {faults(error)}") from error


def faults(error: ValidationError) -> str:
    """Every fault as `key.in.the.file: what is wrong with it`."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())
