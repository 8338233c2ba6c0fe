"""YAML with line numbers: a file as plain data, and the line of each of its values.

Stricter than YAML is: a key may stand once, aliases are refused (they can grow without bound), and only `true`,
`false`, `null` and decimal numbers are no texts. So `NO` is Norway, and `2026-11-27T00:00` is what was written.
"""

import re
from typing import Any

import yaml

from features.common.errors import InputError

Path = tuple[str | int, ...]

_MAX_DEPTH = 12
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)?\.[0-9]+([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


class YamlError(InputError):
    """What is wrong with the text of a file, and where: `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line, self.message = line, message


def parse(text: str) -> tuple[Any, dict[Path, int]]:
    """Return the data of `text`, and the line of the value at each path. Raises YamlError."""
    lines: dict[Path, int] = {}
    try:
        node = yaml.compose(text, Loader=_NoAliases)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError((mark.line if mark else 0) + 1, f"this is no YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise YamlError(1, f"this is no YAML: {error}") from None
    except RecursionError:
        raise YamlError(1, "this is nested too deeply") from None
    return (None if node is None else _convert(node, (), lines)), lines


def line_of(path: Path, lines: dict[Path, int]) -> int:
    """Return the line of the value at `path`, or of the nearest one around it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


class _NoAliases(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise YamlError(event.start_mark.line + 1, "write it out: aliases (*name) are not supported")
        return super().compose_node(parent, index)


def _convert(node: yaml.Node, path: Path, lines: dict[Path, int]) -> Any:
    line = lines[path] = node.start_mark.line + 1
    if len(path) > _MAX_DEPTH:
        raise YamlError(line, "this is nested too deeply; no key lies that deep")
    if node.tag.startswith("!") or (":python" in node.tag):
        raise YamlError(line, f"the tag {node.tag} has no meaning here")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_convert(child, (*path, n), lines) for n, child in enumerate(node.value)]
    return _scalar(node)


def _mapping(node: yaml.MappingNode, path: Path, lines: dict[Path, int]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise YamlError(line, "a key is one word")
        if key.value in result:
            raise YamlError(line, f"`{key.value}` stands here twice; the second would take the place of the first")
        result[key.value] = _convert(value, (*path, key.value), lines)
        if isinstance(value, yaml.ScalarNode):
            lines[(*path, key.value)] = line  # a text that is folded begins a line after its key
    return result


def _scalar(node: Any) -> Any:
    text: str = node.value
    if node.style is not None:  # in quotes, or a block
        return text
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= 40:
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text
