"""Speaks the protocol from the schemas in proto/schema: values as dicts, any API, any version.

The schemas are torc's own, but this codec shares nothing with the generated one except their parser, so
each checks the other. A field is left out of a dict to mean its default.
"""
import socket
import struct
import sys
from functools import lru_cache
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.append(str(TOP / "tools"))  # last: its programs have names of their own
from protogen_schema import EVER, parse_all  # noqa: E402

FIXED = {"int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I",
         "int64": ">q", "float64": ">d"}
API_VERSIONS = 18
FRAME_MAX = 256 << 20


@lru_cache(None)
def messages():
    return {m.name: m for m in parse_all(sorted(map(str, (TOP / "proto/schema").glob("*.msg"))))}


def request_of(api):
    """The request's schema, by Kafka's name ("Produce") or by key."""
    return next(m for m in messages().values() if m.kind == "request" and api in (m.api, m.key))


def response_of(api):
    return next(m for m in messages().values() if m.kind == "response" and api in (m.api, m.key))


def within(version, span):
    return span[0] <= version <= span[1]


def default(field, version):
    """What a field is when nothing is said."""
    if field.default == "null":
        return None
    if field.array:
        return []
    if field.struct:
        return {} if not within(version, field.nullable) else None
    text = field.default
    if field.type in FIXED:
        return float(text or 0) if field.type == "float64" else int(text or "0", 0)
    return {"bool": text == "true", "string": text or "", "uuid": bytes(16)}.get(field.type, b"")


# ---- writing -------------------------------------------------------------------------------------

def uvarint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def varint(n):
    """Zigzag, as records have it."""
    return uvarint((n << 1) ^ (n >> 63))


def length(n, flexible, short=False):
    """A length or count; None is null."""
    if flexible:
        return uvarint(0 if n is None else n + 1)
    return struct.pack(">h" if short else ">i", -1 if n is None else n)


def put_one(field, version, flexible, value):
    if field.struct:
        return put_struct(field.struct, version, flexible, value)
    if field.type in FIXED:
        return struct.pack(FIXED[field.type], value)
    if field.type == "bool":
        return b"\1" if value else b"\0"
    if field.type == "uuid":
        return value
    raw = value.encode() if isinstance(value, str) else value
    compact = flexible and not field.classic
    return length(None if raw is None else len(raw), compact, field.type == "string") + (raw or b"")


def put_field(field, version, flexible, value):
    if field.array:
        count = length(None if value is None else len(value), flexible)
        return count + b"".join(put_one(field, version, flexible, v) for v in value or [])
    if field.struct and within(version, field.nullable):
        mark = b"\xff" if value is None else b"\1"
        return mark + (b"" if value is None else put_one(field, version, flexible, value))
    return put_one(field, version, flexible, value)


def put_struct(schema, version, flexible, values):
    values = dict(values)
    out, tagged = [], {}
    for field in schema.fields:
        if not within(version, field.versions):
            values.pop(field.name, None)
            continue
        value = values.pop(field.name, default(field, version))
        if field.tag is None or not within(version, field.tagged):
            out.append(put_field(field, version, flexible, value))
        elif value != default(field, version):
            tagged[field.tag] = put_field(field, version, flexible, value)
    if values:
        raise KeyError(f"{schema.name} v{version} has no {', '.join(values)}")
    if flexible:
        out.append(uvarint(len(tagged)))
        out += [uvarint(t) + uvarint(len(raw)) + raw for t, raw in sorted(tagged.items())]
    return b"".join(out)


def encode(schema, version, values):
    return put_struct(schema, version, within(version, schema.flexible), values)


def request_bytes(api, version, values, correlation=1, client="torc-test", body=None):
    """A whole request but its length. `body` overrides the encoded values."""
    schema = request_of(api)
    flexible = within(version, schema.flexible)
    head = struct.pack(">hhi", schema.key, version, correlation)
    head += length(None if client is None else len(client), False, True) + (client or "").encode()
    return head + b"\0" * flexible + (encode(schema, version, values) if body is None else body)


# ---- reading -------------------------------------------------------------------------------------

class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        if size < 0 or self.at + size > len(self.data):
            raise ValueError(f"{size} bytes wanted at {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size:self.at]

    def fixed(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def uvarint(self):
        n = shift = 0
        while True:
            byte = self.take(1)[0]
            n |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return n
            if shift > 63:
                raise ValueError("a varint without end")

    def varint(self):
        n = self.uvarint()
        return (n >> 1) ^ -(n & 1)

    def length(self, flexible, short=False):
        n = self.uvarint() - 1 if flexible else self.fixed(">h" if short else ">i")
        return None if n < 0 else n


def get_one(reader, field, version, flexible):
    if field.struct:
        return get_struct(reader, field.struct, version, flexible)
    if field.type in FIXED:
        return reader.fixed(FIXED[field.type])
    if field.type == "bool":
        return reader.take(1) != b"\0"
    if field.type == "uuid":
        return reader.take(16)
    size = reader.length(flexible and not field.classic, field.type == "string")
    if size is None:
        return None
    raw = reader.take(size)
    return raw.decode() if field.type == "string" else raw


def get_field(reader, field, version, flexible):
    if field.array:
        count = reader.length(flexible)
        return None if count is None else [get_one(reader, field, version, flexible)
                                           for _ in range(count)]
    if field.struct and within(version, field.nullable) and reader.fixed(">b") < 0:
        return None
    return get_one(reader, field, version, flexible)


def get_struct(reader, schema, version, flexible):
    values, tagged = {}, {}
    for field in schema.fields:
        if not within(version, field.versions):
            continue
        if field.tag is not None and within(version, field.tagged):
            tagged[field.tag] = field
            values[field.name] = default(field, version)
        else:
            values[field.name] = get_field(reader, field, version, flexible)
    if flexible:
        for _ in range(reader.uvarint()):
            tag, size = reader.uvarint(), reader.uvarint()
            inner = Reader(reader.take(size))
            if tag not in tagged:
                values.setdefault("unknown_tags", {})[tag] = inner.data
                continue
            values[tagged[tag].name] = get_field(inner, tagged[tag], version, flexible)
            if inner.at != size:
                raise ValueError(f"{schema.name}: {size - inner.at} bytes left in tag {tag}")
    return values


def decode(schema, version, data):
    """All of the bytes as a dict; bytes left over are an error."""
    reader = Reader(data)
    values = get_struct(reader, schema, version, within(version, schema.flexible))
    if reader.at != len(data):
        raise ValueError(f"{schema.name} v{version}: {len(data) - reader.at} bytes left over")
    return values


def decode_response(api, version, data):
    """An answer but its length, as (correlation id, dict)."""
    schema = response_of(api)
    flexible = within(version, schema.flexible) and schema.key != API_VERSIONS
    reader = Reader(data)
    correlation = reader.fixed(">i")
    if flexible:
        for _ in range(reader.uvarint()):
            reader.uvarint()
            reader.take(reader.uvarint())
    return correlation, decode(schema, version, data[reader.at:])


# ---- talking -------------------------------------------------------------------------------------

class Closed(Exception):
    """The broker closed the connection instead of answering."""


class Client:
    """One connection, one request at a time unless send and receive are called apart."""

    def __init__(self, address, timeout_s=15):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")
        self.correlation = 0

    def send_frame(self, body):
        self.socket.sendall(struct.pack(">i", len(body)) + body)

    def receive_frame(self):
        try:
            head = self.stream.read(4)
            size = struct.unpack(">i", head)[0] if len(head) == 4 else -1
            body = self.stream.read(size) if 0 <= size <= FRAME_MAX else b""
        except ConnectionError as e:
            raise Closed(str(e)) from None
        if size < 0 or len(body) < size:
            raise Closed("the end of the stream")
        return body

    def send(self, api, version, values=None, **how):
        self.correlation += 1
        try:
            self.send_frame(request_bytes(api, version, values or {}, self.correlation, **how))
        except ConnectionError as e:
            raise Closed(str(e)) from None

    def receive(self, api, version):
        correlation, values = decode_response(api, version, self.receive_frame())
        if correlation != self.correlation:
            raise ValueError(f"the answer to {correlation} came for {self.correlation}")
        return values

    def ask(self, api, version, values=None, **how):
        self.send(api, version, values, **how)
        return self.receive(api, version)

    def close(self):
        self.stream.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
