"""YAML configuration files, validated against a pydantic model; errors name the key."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from features.common.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def load_yaml(path: Path, model: type[Model], what: str) -> Model:
    """Load the file at `path` as `model`; `what` names it in errors. Raises `InputError` with file, key and reason."""
    try:
        return model.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{what} {path} is not valid YAML: {error}") from error
    except RecursionError as error:
        raise InputError(f"{what} {path} is nested too deeply; no key of it lies that deep") from error
    except ValidationError as error:
        raise InputError(f"{what} {path} does not fit: {describe_errors(error)}") from error


def describe_errors(error: ValidationError) -> str:
    """Describe every error of a validation as `key.in.the.file: what is wrong with it`."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())
