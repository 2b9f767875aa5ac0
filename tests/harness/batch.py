"""Record batches in Python: to write what a test wants, right or wrong, and to read what came back."""
import gzip
import struct

from .wire import Reader, varint

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
CRC_AT, HEAD = 17, 61
_TABLE = []
for _n in range(256):
    for _ in range(8):
        _n = _n >> 1 ^ (0x82F63B78 if _n & 1 else 0)
    _TABLE.append(_n)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def blob(raw):
    return varint(-1) if raw is None else varint(len(raw)) + raw


def record(delta, key, value, headers=(), time_delta=0):
    body = b"\0" + varint(time_delta) + varint(delta) + blob(key) + blob(value)
    body += varint(len(headers))
    for name, data in headers:
        body += blob(name.encode()) + blob(data)
    return varint(len(body)) + body


def batch(records=((b"key", b"value"),), base_offset=0, epoch=-1, magic=2, attributes=0,
          time=1_700_000_000_000, producer=-1, producer_epoch=-1, sequence=-1, crc=None, count=None,
          last_delta=None, payload=None, length=None):
    """A batch of (key, value) pairs, optionally with anything in it wrong."""
    n = len(records)
    if payload is None:
        payload = b"".join(record(i, k, v) for i, (k, v) in enumerate(records))
        if attributes & 7 == 1:
            payload = gzip.compress(payload)
    tail = struct.pack(">hiqqqhii", attributes, n - 1 if last_delta is None else last_delta, time,
                       time, producer, producer_epoch, sequence, n if count is None else count)
    tail += payload
    crc = crc32c(tail) if crc is None else crc
    size = len(tail) + 9 if length is None else length
    return struct.pack(">qiibI", base_offset, size, epoch, magic, crc) + tail


def read_batches(data, partial=True):
    """The heads of the batches in a fetch answer or a segment, each a dict, with raw records."""
    found, at = [], 0
    while len(data) - at >= HEAD:
        base, size, epoch, magic, crc = struct.unpack_from(">qiibI", data, at)
        if at + 12 + size > len(data):
            break
        names = "attributes last_delta first_time max_time producer producer_epoch sequence count"
        values = struct.unpack_from(">hiqqqhii", data, at + 21)
        found.append({"base_offset": base, "size": size + 12, "epoch": epoch, "magic": magic,
                      "crc": crc, **dict(zip(names.split(), values)),
                      "payload": data[at + HEAD:at + 12 + size]})
        at += 12 + size
    if at < len(data) and not partial:
        raise ValueError(f"{len(data) - at} bytes after the last batch")
    return found


def read_records(head):
    """The records of an uncompressed or gzip batch as (offset, timestamp, key, value, headers)."""
    codec = head["attributes"] & 7
    reader = Reader(gzip.decompress(head["payload"]) if codec == 1 else head["payload"])
    for _ in range(head["count"]):
        end = reader.varint() + reader.at
        reader.take(1)
        time, delta = reader.varint(), reader.varint()
        key, value = (None if (n := reader.varint()) < 0 else reader.take(n) for _ in "kv")
        headers = [(reader.take(reader.varint()).decode(),
                    None if (n := reader.varint()) < 0 else reader.take(n))
                   for _ in range(reader.varint())]
        if reader.at != end:
            raise ValueError("a record is longer or shorter than it says")
        yield head["base_offset"] + delta, head["first_time"] + time, key, value, headers
