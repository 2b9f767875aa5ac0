"""The records that every client writes and every other client must read back, byte for byte.

Each client writes topic CLIENT-CODEC with PARTITIONS partitions: record i goes to partition
i % PARTITIONS, so it must get offset i // PARTITIONS. The same formula stands in Data.java, data.go and
data.js; ASCII only, so that characters are bytes.

    size       i * 37 % 1500, and 400,000 for i = 500
    value      "torc i " repeated and cut to size; null where i % 50 = 7
    key        "key-i"; empty where i % 50 = 9, null where i % 50 = 11
    headers    n = "i", empty = ""; none where i % 50 = 13
    timestamp  1,700,000,000,000 + 1000 i
"""
COUNT, PARTITIONS, BEGIN_MS = 600, 3, 1_700_000_000_000
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def value_of(i):
    if i % 50 == 7:
        return None
    size, word = (400_000 if i == 500 else i * 37 % 1500), f"torc {i} "
    return (word * (size // len(word) + 1))[:size].encode()


def key_of(i):
    return {9: b"", 11: None}.get(i % 50, f"key-{i}".encode())


def headers_of(i):
    return [] if i % 50 == 13 else [("n", str(i).encode()), ("empty", b"")]


def timestamp_of(i):
    return BEGIN_MS + 1000 * i


def check_record(partition, offset, key, value, headers, timestamp):
    """Raise unless this is the record that belongs at this offset."""
    i = offset * PARTITIONS + partition
    headers = [(k, v) for k, v in headers or []]
    for what, got, want in (("key", key, key_of(i)), ("value", value, value_of(i)),
                            ("headers", headers, headers_of(i)),
                            ("timestamp", timestamp, timestamp_of(i))):
        if got != want:
            raise AssertionError(f"record {i}: {what} is {str(got)[:80]}, not {str(want)[:80]}")


def expect(holds, why):
    if not holds:
        raise AssertionError(why)
