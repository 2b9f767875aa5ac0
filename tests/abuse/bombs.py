"""Small batches that unpack to very much, one or more for each codec.

gzip comes from the standard library, lz4 and zstd from their command lines where there are any; snappy,
in both its forms, is built by hand, and lies about lengths too.
"""
import shutil
import struct
import subprocess
import zlib

from harness.batch import record
from harness.wire import uvarint, varint

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
HUGE = 200 << 20
XERIAL = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)


def huge_record(size=HUGE):
    """The head of one record that claims, and is, all of it."""
    body = b"\0" + varint(0) + varint(0) + varint(-1) + varint(size)
    return varint(len(body) + size + 1) + body


def gzip_of(head, size, tail=b"\0"):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    out, zeros = [packer.compress(head)], bytes(1 << 20)
    for _ in range(size >> 20):
        out.append(packer.compress(zeros))
    out.append(packer.compress(tail))
    return b"".join(out) + packer.flush()


def tool(command, head, size, tail=b"\0"):
    """What a command line makes of the same bytes; None where it is not installed."""
    if not shutil.which(command[0]):
        return None
    task = subprocess.run(command, input=head + bytes(size) + tail, capture_output=True)
    return task.stdout if task.returncode == 0 else None


def snappy_raw(head, size):
    """A literal, then copies of 64 bytes from 1 byte back: 21 times."""
    out = uvarint(len(head) + 1 + size) + bytes([len(head) << 2]) + head + b"\0\0"
    return out + b"\xfe\x01\0" * (size // 64)


def ALL():
    """(name, attributes, payload, records the batch claims)"""
    head, small = huge_record(), huge_record(15 << 20)
    yield "gzip, one record of 200 MiB", GZIP, gzip_of(head, HUGE), 1
    yield "gzip, records that are zeros", GZIP, gzip_of(b"", HUGE), 2**31 - 1
    yield "gzip, many empty records", GZIP, zlib.compress(record(0, None, b"") * 500_000, 9, 31), 500_000
    yield "gzip cut short", GZIP, gzip_of(head, HUGE)[:50_000], 1
    for name, attributes, command in (("lz4", LZ4, ["lz4", "-9", "-c", "-BD"]),
                                      ("lz4 of independent blocks", LZ4, ["lz4", "-9", "-c"]),
                                      ("zstd", ZSTD, ["zstd", "-3", "-c"]),
                                      ("zstd of a long window", ZSTD, ["zstd", "--long=27", "-c"])):
        packed = tool(command, head, HUGE)
        if packed:
            yield name, attributes, packed, 1
            yield f"{name}, cut short", attributes, packed[:len(packed) // 2], 1
    raw = snappy_raw(small, 15 << 20)
    yield "snappy", SNAPPY, raw, 1
    yield "snappy in xerial frames", SNAPPY, XERIAL + (struct.pack(">i", len(raw)) + raw), 1
    yield "snappy that claims 4 GiB", SNAPPY, uvarint(2**32 - 1) + b"\0a", 1
    yield "xerial block of 2 GiB", SNAPPY, XERIAL + struct.pack(">i", 2**31 - 1) + raw[:100], 1
    yield "xerial block of minus one", SNAPPY, XERIAL + struct.pack(">i", -1) + raw[:100], 1
    yield "lz4 of nothing", LZ4, b"", 1
    yield "zstd of garbage", ZSTD, b"\x28\xb5\x2f\xfd" + b"\xff" * 40, 1
    yield "zstd that claims 2^62", ZSTD, b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**62) + b"\1\0\0", 1
    yield "a codec that is none", 7, b"abc", 1
