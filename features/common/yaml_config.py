"""YAML configuration files, validated against a pydantic model; errors name the key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from features.common.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


_DEEPEST, _MOST_VALUES = 40, 100_000  # aliases can make a small file as large as one likes


def load_yaml(path: Path, model: type[Model], what: str) -> Model:
    """Load the file at `path` as `model`; `what` names it in errors. Raises `InputError` with file, key and reason."""
    content = read_bounded(lambda: yaml.safe_load(path.read_text()), f"{what} {path}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{what} {path} does not fit: {describe_errors(error)}") from error


def read_bounded(load: Callable[[], Any], what: str) -> Any:
    """Return what `load` reads of a YAML file. Raises `InputError` with `what` and the reason, also for its size."""
    try:
        content = load()
        _count_values(content, 0, {})
    except yaml.YAMLError as error:
        raise InputError(f"{what} is not valid YAML: {_describe_fault(error)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{what} cannot be read: {error}") from error
    except ValueError as error:  # a number of thousands of digits, a date that there is not
        raise InputError(f"{what} is not valid YAML: {error}") from error
    except RecursionError as error:
        raise InputError(f"{what} is nested too deeply; no key of it lies that deep") from error
    except OverflowError as error:
        raise InputError(f"{what} has more than {_MOST_VALUES:,} values, with its aliases written out") from error
    return content


def _describe_fault(error: yaml.YAMLError) -> str:
    """Say in one line where a YAML file breaks off, and in what."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem is None or error.problem_mark is None:
        return str(error)
    start = f" that begins in line {error.context_mark.line + 1}" if error.context_mark is not None else ""
    context = f", {error.context}{start}" if error.context else ""
    return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}{context}"


def _count_values(content: Any, depth: int, counted: dict[int, int]) -> int:
    """Count the values in `content`, those that aliases repeat each time. Raises RecursionError, OverflowError."""
    if depth > _DEEPEST:
        raise RecursionError
    if not isinstance(content, dict | list):
        return 1
    if id(content) not in counted:
        values = content.values() if isinstance(content, dict) else content
        counted[id(content)] = 1 + sum(_count_values(value, depth + 1, counted) for value in values)
    if counted[id(content)] > _MOST_VALUES:
        raise OverflowError
    return counted[id(content)]


def describe_errors(error: ValidationError) -> str:
    """Describe every error of a validation as `key.in.the.file: what is wrong with it`."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())
