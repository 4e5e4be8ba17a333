"""The JSON Schema of the entry format says what the loader takes, and all entries conform."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.errors import EntryError
from lab.registry import loader

SCHEMA = json.loads((Path(loader.__file__).parent / "schema.json").read_text(encoding="utf-8"))
TEMPLATE = Path(loader.__file__).parent / "template.toml"
ENTRIES = [*sorted(loader.DATA.rglob("*.toml")), TEMPLATE]
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}

HEAD = 'name = "x"\nrelease = "1"\nstyle = "bitwise"\nsummary = "s"\nsource = "a/b@1"\n'
FLOW = '[[flow]]\nname = "f"\nfrom = "lan"\nto = "x"\nport = 1\n'
TABLES = {
    "": (HEAD + "bogus = 1\n", SCHEMA),
    "registered": (
        HEAD + '[registered]\ntable = "bitwise"\nmark = "1"\nbogus = 1\n',
        SCHEMA["properties"]["registered"],
    ),
    "allocation": (
        HEAD + '[[allocation]]\nmask = "0x1"\nbogus = 1\n',
        SCHEMA["$defs"]["allocation"],
    ),
    "ruleset": (
        HEAD + '[[ruleset]]\ntool = "nft"\ntext = ""\nbogus = 1\n',
        SCHEMA["$defs"]["ruleset"],
    ),
    "flow": (HEAD + FLOW + "bogus = 1\n", SCHEMA["$defs"]["flow"]),
    "relies": (
        HEAD + FLOW + '[[flow.relies]]\nat = "node input filter"\nmark = "1"\nbogus = 1\n',
        SCHEMA["$defs"]["relies"],
    ),
}


def errors(value: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield what does not conform, for the parts of JSON Schema that the schema uses."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    for keyword in ("anyOf", "oneOf"):
        fitting = [part for part in schema.get(keyword, ()) if not [*errors(value, part, path)]]
        if keyword in schema and not fitting:
            yield f"{path}: fits nothing of {keyword}"
    kind = TYPES.get(schema.get("type", ""), object)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        yield f"{path}: {value!r} is no {schema['type']}"
        return
    yield from _scalar_errors(value, schema, path)
    if isinstance(value, dict):
        yield from _object_errors(value, schema, path)
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0) or len(value) > schema.get(
            "maxItems", len(value)
        ):
            yield f"{path}: {len(value)} items"
        for number, item in enumerate(value):
            yield from errors(item, schema.get("items", {}), f"{path}[{number}]")


def _scalar_errors(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is not one of {schema['enum']}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: {value!r} does not match {schema['pattern']}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if (low is not None and value < low) or (high is not None and value > high):
        yield f"{path}: {value} is out of range"


def _object_errors(value: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    known = schema.get("properties", {})
    yield from (
        f"{path}: {key} is missing" for key in schema.get("required", ()) if key not in value
    )
    for key, item in value.items():
        others = schema.get("additionalProperties", {})
        if key in known:
            yield from errors(item, known[key], f"{path}.{key}")
        elif others is False:
            yield f"{path}: unknown key {key}"
        else:
            yield from errors(item, others, f"{path}.{key}")


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.stem)
def test_every_entry_conforms(path: Path) -> None:
    """What ships is what the schema describes."""
    assert [*errors(tomllib.loads(path.read_text(encoding="utf-8")), SCHEMA)] == []


@pytest.mark.parametrize("table", TABLES)
def test_the_schema_knows_the_loaders_keys_and_no_others(table: str, tmp_path: Path) -> None:
    """The loader names all keys of a table when it refuses one."""
    text, schema = TABLES[table]
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(EntryError) as caught:
        loader.read(path)
    found = re.search(r"bogus': unknown key; known here: (.*)", str(caught.value))
    assert found, str(caught.value)
    known = set(found[1].split(", "))
    # One of the two is asked for, whichever the table has.
    known |= {"mark", "ctmark"} if table == "relies" else set()
    assert set(schema["properties"]) == known


@pytest.mark.parametrize("table", TABLES)
def test_the_schema_requires_what_the_loader_requires(table: str, tmp_path: Path) -> None:
    """Without a required key the loader says that it is missing; others it does without."""
    text, schema = TABLES[table]
    path = tmp_path / "x.toml"
    for key in schema["required"]:
        lines = [line for line in text.splitlines() if "bogus" not in line]
        last = len(lines) - 1 - [line.partition(" =")[0] for line in lines][::-1].index(key)
        path.write_text("\n".join(lines[:last] + lines[last + 1 :]))
        with pytest.raises(EntryError, match=rf"{key}': missing"):
            loader.read(path)
    path.write_text("\n".join(line for line in text.splitlines() if "bogus" not in line))
    loader.read(path)


def test_the_validator_of_these_tests_finds_errors() -> None:
    """It is not green because it looks at nothing."""
    entry = tomllib.loads(TEMPLATE.read_text(encoding="utf-8"))
    entry["flow"][0]["port"] = 70000
    entry["allocation"][0]["mask"] = "0xg"
    entry["ruleset"][0]["tool"] = "pf"
    entry["famly"] = ["ipv4"]
    del entry["flow"][0]["relies"][0]["mark"]
    assert len([*errors(entry, SCHEMA)]) == 5
