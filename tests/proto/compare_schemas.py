#!/usr/bin/env python3
"""Compares our message schemas with the definitions inside Apache Kafka's published jars.

    compare_schemas.py JARS [SCHEMA_DIR]

JARS is a directory with kafka-clients, kafka-metadata and the other jars of one release. Every
message of a kind that a broker or controller sends, receives or stores must be in ours, and nothing
else, and both must agree on kinds, API keys, versions, flexible versions, listeners, and per field
on name, place, type, versions, nullability, tag, default and whether it may be left out. Fields and
nullable or tagged versions outside a message's versions do not count: nobody can send them.
Exits with 1 when anything differs, and with 2 when there was nothing to compare.
"""
import glob
import json
import os
import re
import sys
import zipfile

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

from protogen_schema import NEVER, SCALARS, VIEWS, SchemaError, clip, parse_all, parse_versions

JARS = ("clients", "metadata", "group-coordinator", "transaction-coordinator",
        "share-coordinator", "raft", "storage")
KINDS = {"request": "request", "response": "response", "header": "header", "data": "data",
         "metadata": "metadata", "coordinator-key": "key", "coordinator-value": "value"}


def read_json(text):
    """Kafka's JSON has comments, and here and there a comma too many."""
    text = re.sub(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', lambda m: m[1] or "", text,
                  flags=re.S)
    return json.loads(re.sub(r",(\s*[\]}])", r"\1", text))


def kafka_messages(folder):
    """The definitions in the jars, by name; removed requests (no valid version) are not there."""
    found = {}
    for jar in JARS:
        paths = [p for p in glob.glob(os.path.join(folder, f"kafka-{jar}-*.jar"))
                 if re.fullmatch(rf"kafka-{jar}-\d[\w.]*\.jar", os.path.basename(p))]
        if len(paths) != 1:
            sys.exit(f"compare_schemas: {len(paths)} jars of kafka-{jar} in {folder}")
        with zipfile.ZipFile(paths[0]) as archive:
            for name in archive.namelist():
                if re.fullmatch(r"(common/)?(message|metadata)/\w+\.json", name):
                    message = read_json(archive.read(name).decode())
                    if message["validVersions"] != "none":
                        found[message["name"]] = message
    return found


def default_of(kind, array, text):
    """What a field holds when nothing was said, in one spelling for both sides."""
    if array or kind not in SCALARS:
        if kind == "records" and not array:
            return "null"
        return "null" if text == "null" else "empty"
    if kind == "bool":
        return str(text or "false").lower()
    return "zero" if kind == "uuid" else str(float(text)) if kind == "float64" and text else str(
        int(str(text or 0), 0))


def kafka_field(field, bounds):
    array = field["type"].startswith("[]")
    kind = field["type"].removeprefix("[]")
    versions = clip(parse_versions(field.get("versions", field.get("taggedVersions"))), bounds)
    text = field.get("default")
    return {
        "name": field["name"], "type": field["type"], "versions": versions,
        "nullable": clip(parse_versions(field.get("nullableVersions", "none")), versions),
        "tagged": clip(parse_versions(field.get("taggedVersions", "none")), versions),
        "tag": field.get("tag"),
        "default": default_of(kind, array, str(text) if text is not None else None),
        "ignorable": field.get("ignorable", False),
        "classic": field.get("flexibleVersions") == "none",
    }


def our_field(field, bounds):
    kind = field.struct.kafka if field.struct else field.type
    versions = clip(field.versions, bounds)
    return {
        "name": field.kafka, "type": ("[]" if field.array else "") + kind, "versions": versions,
        "nullable": clip(field.nullable, versions), "tagged": clip(field.tagged, versions),
        "tag": field.tag, "default": default_of(field.type, field.array, field.default),
        "ignorable": field.ignorable, "classic": field.classic,
    }


class Comparison:
    def __init__(self):
        self.messages = self.fields = self.differences = 0

    def say(self, text):
        self.differences += 1
        print(text)

    def same(self, where, what, kafka, ours):
        if kafka != ours:
            self.say(f"{where}: {what}: Kafka has {kafka}, we have {ours}")

    def struct(self, where, theirs, shared, ours, bounds):
        """theirs: Kafka's field list; shared: its common structs by name; ours: our Struct."""
        kept = [f for f in theirs if kafka_field(f, bounds)["versions"] != NEVER]
        names = [f["name"] for f in kept]
        self.same(where, "fields", names, [f.kafka for f in ours.fields])
        for field in kept:
            match = [f for f in ours.fields if f.kafka == field["name"]]
            if not match:
                continue
            self.fields += 1
            place = f"{where}.{field['name']}"
            expected, actual = kafka_field(field, bounds), our_field(match[0], bounds)
            for key, value in expected.items():
                self.same(place, key, value, actual[key])
            kind = field["type"].removeprefix("[]")
            if kind not in SCALARS and kind not in VIEWS and match[0].struct:
                inner = field.get("fields") or shared[kind]["fields"]
                self.struct(place, inner, shared, match[0].struct, bounds)

    def message(self, theirs, ours):
        self.messages += 1
        where = theirs["name"]
        bounds = parse_versions(theirs["validVersions"])
        self.same(where, "kind", KINDS[theirs["type"]], ours.kind)
        self.same(where, "API key", theirs.get("apiKey"), ours.key)
        self.same(where, "versions", bounds, ours.versions)
        self.same(where, "flexible versions", clip(parse_versions(
            theirs.get("flexibleVersions", "none")), bounds), clip(ours.flexible, bounds))
        self.same(where, "listeners", sorted(theirs.get("listeners", [])), sorted(ours.listeners))
        self.same(where, "unstable", theirs.get("latestVersionUnstable", False), ours.unstable)
        shared = {s["name"]: s for s in theirs.get("commonStructs", [])}
        self.struct(where, theirs.get("fields", []), shared, ours, bounds)


def main(jars, schemas):
    theirs = kafka_messages(jars)
    paths = glob.glob(os.path.join(schemas, "**", "*.msg"), recursive=True)
    ours = {m.kafka: m for m in parse_all(sorted(paths))}
    result = Comparison()
    for name in sorted(theirs.keys() | ours.keys()):
        if name not in ours:
            result.say(f"{name}: Kafka's only")
        elif name not in theirs:
            result.say(f"{name}: ours only")
        else:
            result.message(theirs[name], ours[name])
    print(f"compared {result.messages} messages, {result.fields} fields, "
          f"{result.differences} differences")
    return 2 if result.messages == 0 else 1 if result.differences else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1], (sys.argv[2:] or [os.path.join(ROOT, "proto", "schema")])[0]))
    except SchemaError as error:
        sys.exit(f"compare_schemas: {error}")
