"""Reads torc's message schemas, proto/schema/**/*.msg, into plain objects.

A file holds messages; indentation (four spaces) is structure; # starts a meaning, at the end of the
line it belongs to or alone on the line above, and becomes the comment in the generated header:

    # What to read.
    request 1 Fetch 4-18 flexible 12+ on broker controller
        cluster_id     string?        12+  tag 0 = null
        max_bytes      int32          3+ = 2147483647 ignorable  # soft limit of the answer
        topics         []fetch_topic  0+
            partitions []int32        0+
    response 1 Fetch 4-18 flexible 12+
    metadata 2 TopicRecord 0 flexible 0+      a KRaft metadata record
    key 1 OffsetCommitKey 0                   key of a coordinator's record
    value 1 OffsetCommitValue 0-4             value of a coordinator's record
    data VotersRecord 0 flexible 0+           anything else that has versions
    header RequestHeader 1-2 flexible 2+      of requests and responses

A message line: kind, API key (where the kind has one), Kafka's name, the versions we speak, then
`flexible N+`, `on LISTENERS`, `advertise N` (lowest version told to clients), `unstable` (the
newest version is not offered). A field line: name, type, versions, then in this order `tag N`
(with `N+` after it if it is tagged only from there), `= DEFAULT`, `ignorable`, `classic` (never
compact). `type?` may be null, `type?7+` only from version 7. An indented block under a field
declares its struct type; `struct name VERSIONS` in a message declares one that several fields use.

Names are snake_case. Kafka's CamelCase name follows from it; where it does not, it is appended as
name=KafkaName, for types too.
"""
import os
import re

SCALARS = {
    # type: (C type, bytes on the wire)
    "bool": ("bool", 1),
    "int8": ("int8_t", 1),
    "int16": ("int16_t", 2),
    "uint16": ("uint16_t", 2),
    "int32": ("int32_t", 4),
    "uint32": ("uint32_t", 4),
    "int64": ("int64_t", 8),
    "float64": ("double", 8),
    "uuid": ("struct uuid", 16),
}
VIEWS = {
    "string": "struct wire_string",
    "bytes": "struct wire_bytes",
    "records": "struct wire_records",
}
KINDS = ("request", "response", "metadata", "key", "value", "data", "header")
KEYLESS = ("data", "header")
EVER = 32767  # no version is above this
NEVER = (0, -1)


class SchemaError(Exception):
    pass


def camel(snake_name):
    return "".join(word[:1].upper() + word[1:] for word in snake_name.split("_"))


def snake(name):
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name.replace("KRaft", "Kraft"))
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def parse_versions(text):
    """'3', '0-3', '3+' or 'none' as an inclusive pair."""
    if text == "none":
        return NEVER
    match = re.fullmatch(r"(\d+)(?:(\+)|-(\d+))?", text)
    if not match:
        raise SchemaError(f"not a version range: {text}")
    low = int(match[1])
    return (low, EVER if match[2] else int(match[3] or low))


def clip(versions, bounds):
    low, high = max(versions[0], bounds[0]), min(versions[1], bounds[1])
    return (low, high) if low <= high else NEVER


class Struct:
    def __init__(self, name, kafka, versions, meaning=""):
        self.name = name  # snake case, without the message's prefix
        self.kafka = kafka
        self.versions = versions
        self.meaning = meaning
        self.fields = []


class Field:
    def __init__(self, name, kafka):
        self.name = name
        self.kafka = kafka
        self.type = ""  # scalar, view or struct name, without []
        self.array = False
        self.versions = self.nullable = self.tagged = NEVER
        self.tag = None
        self.default = None  # text, or None for the type's own
        self.ignorable = False
        self.classic = False
        self.struct = None  # Struct, resolved
        self.meaning = ""


class Message(Struct):
    def __init__(self, kind, key, name, versions):
        if kind not in KINDS:
            raise SchemaError(f"unknown kind {kind}")
        suffix = {"request": "Request", "response": "Response"}.get(kind, "")
        super().__init__(snake(name + suffix), name + suffix, versions)
        self.kind = kind
        self.key = key
        self.api = name
        self.flexible = NEVER
        self.listeners = []
        self.advertise = versions[0]
        self.unstable = False
        self.structs = []  # all of them, used ones first
        self.file = ""


def split_name(word):
    name, _, kafka = word.partition("=")
    return name, kafka or camel(name)


def parse_message(words, meaning):
    kind = words.pop(0)
    key = None if kind in KEYLESS else int(words.pop(0))
    name = words.pop(0)
    message = Message(kind, key, name, parse_versions(words.pop(0)))
    message.meaning = meaning
    while words:
        word = words.pop(0)
        if word == "flexible":
            message.flexible = parse_versions(words.pop(0))
        elif word == "advertise":
            message.advertise = int(words.pop(0))
        elif word == "unstable":
            message.unstable = True
        elif word == "on":
            while words and words[0] in ("broker", "controller"):
                message.listeners.append(words.pop(0))
        else:
            raise SchemaError(f"unknown word {word}")
    return message


def parse_type(field, text):
    match = re.fullmatch(r"(\[\])?([a-z0-9_]+)(?:=(\w+))?(\?(.*))?", text)
    if not match:
        raise SchemaError(f"not a type: {text}")
    field.array = match[1] is not None
    field.type = match[2]
    if match[4]:
        field.nullable = parse_versions(match[5]) if match[5] else field.versions
    return match[3]


def parse_field(words, meaning):
    field = Field(*split_name(words[0]))
    field.meaning = meaning
    field.versions = parse_versions(words[2])
    kafka_type = parse_type(field, words[1])
    rest = words[3:]
    while rest:
        word = rest.pop(0)
        if word == "tag":
            field.tag = int(rest.pop(0))
            field.tagged = field.versions
            if rest and re.fullmatch(r"\d+(\+|-\d+)?", rest[0]):
                field.tagged = parse_versions(rest.pop(0))
        elif word == "=":
            field.default = rest.pop(0)
        elif word in ("ignorable", "classic"):
            setattr(field, word, True)
        else:
            raise SchemaError(f"unknown word {word}")
    return field, kafka_type


def resolve(message, struct):
    """Joins fields to their struct types and refuses what the generator could not honour."""
    where = f"{message.name}.{struct.name}"
    names = [f.name for f in struct.fields] + [f.name + "_count" for f in struct.fields if f.array]
    if len(set(names)) != len(names):
        raise SchemaError(f"{where}: names collide")
    for field in struct.fields:
        if field.type not in SCALARS and field.type not in VIEWS:
            found = [s for s in message.structs if s.name == field.type]
            if len(found) != 1:
                raise SchemaError(f"{where}.{field.name}: {len(found)} structs {field.type}")
            field.struct = found[0]
        if field.array and field.type in ("bool", "bytes", "records", "float64"):
            raise SchemaError(f"{where}.{field.name}: no arrays of {field.type}")
    tags = sorted(f.tag for f in struct.fields if f.tag is not None)
    if tags != list(range(len(tags))):
        raise SchemaError(f"{where}: tags {tags} have holes")


def inner_first(message):
    """The structs in an order in which each comes after all that it holds."""
    order, seen = [], []

    def visit(struct):
        if struct in order:
            return
        if struct in seen:
            raise SchemaError(f"{message.name}.{struct.name} holds itself")
        seen.append(struct)
        for field in struct.fields:
            if field.struct:
                visit(field.struct)
        order.append(struct)

    visit(message)
    unused = [s.name for s in message.structs if s not in order]
    if unused:
        raise SchemaError(f"{message.name}: unused structs {unused}")
    return order[:-1]


def parse_line(text, meaning, stack, messages):
    words = text.split()
    depth, odd = divmod(len(text) - len(text.lstrip()), 4)
    if odd or depth > len(stack):
        raise SchemaError("bad indentation")
    del stack[depth:]
    if depth == 0:
        messages.append(parse_message(words, meaning))
        stack.append(messages[-1])
        return
    if words[0] == "struct":
        name, kafka = split_name(words[1])
        struct = Struct(name, kafka, parse_versions(words[2]), meaning)
        messages[-1].structs.append(struct)
        stack.append(struct)
        return
    parent = stack[-1]
    if isinstance(parent, tuple):  # the first field below a struct-typed field declares the type
        owner, kafka_type = parent
        struct = Struct(owner.type, kafka_type or camel(owner.type), owner.versions)
        messages[-1].structs.append(struct)
        stack[-1] = parent = struct
    field, kafka_type = parse_field(words, meaning)
    parent.fields.append(field)
    stack.append((field, kafka_type))


def parse(path):
    """The messages of one file."""
    messages, stack, above = [], [], ""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            text, _, meaning = (part.strip() for part in line.partition("#"))
            if not text:
                above = meaning
                continue
            try:
                parse_line(line.partition("#")[0].rstrip(), meaning or above, stack, messages)
                above = ""
            except (SchemaError, ValueError, IndexError) as error:
                raise SchemaError(f"{path}:{number}: {error}") from None
    for message in messages:
        for struct in [message, *message.structs]:
            resolve(message, struct)
        message.structs = inner_first(message)
    return messages


def stem(path):
    """Name of the header for a schema file: the ones in record/ say so."""
    folder, name = os.path.split(path)
    name = name.removesuffix(".msg")
    return f"record_{name}" if os.path.basename(folder) == "record" else name


def parse_all(paths):
    """All messages, in the order of the files, each with .file set to its header's name."""
    result = []
    for path in paths:
        for message in parse(path):
            message.file = stem(path)
            result.append(message)
    names = [m.name for m in result]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise SchemaError(f"defined twice: {sorted(twice)}")
    return result
