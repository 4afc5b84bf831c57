"""YAML of plain values: no references, no deep nesting, no key twice."""

from typing import Any

import yaml
from typing_extensions import override

from ptychostream.errors import ConfigurationError

#: Mappings and lists within each other; configurations have two.
_DEEPEST = 20
#: Characters of a file; configurations take some thousands.
_LONGEST = 2**20


def load_yaml(text: str, origin: str) -> Any:
    """Read YAML of plain values.

    Raises
    ------
    ConfigurationError
        If it is damaged, refers to its own parts, nests deeply, or has a key twice.
    """
    if len(text) > _LONGEST:
        raise ConfigurationError(
            f"{origin} has {len(text)} characters, expected at most {_LONGEST}; is it a "
            "configuration?"
        )
    try:
        return yaml.load(text, _PlainLoader)
    # ValueError is raised for dates that do not exist, and for numbers of very many digits.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{origin} is not YAML: {error}") from error


class _PlainLoader(yaml.SafeLoader):
    """Refuses references: a few of them can expand to more values than memory holds."""

    depth = 0

    @override
    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, f"*{event.anchor} refers to another value; write it out", None
            )
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.composer.ComposerError(
                None, None, f"over {_DEEPEST} values within each other", None
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    @override
    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is there twice", None
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)
