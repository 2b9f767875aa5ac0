"""Requests that are nearly right: every API and version the broker names, and what can be done to one.

    sample ─▶ cut after every byte │ one bit turned │ each length and count in turn null, negative,
              absurd or endless

Lengths are found where they are written: harness.wire writes each through one function.
"""
from harness import wire
from harness.batch import batch
from harness.wire import request_bytes, request_of, within

# What makes a sample pass for a request: by field name, else by type.
GOOD = {
    "replica_id": -1, "max_wait_ms": 1, "min_bytes": 0, "max_bytes": 1 << 16, "session_epoch": -1,
    "partition_max_bytes": 1 << 16, "timeout_ms": 300, "acks": -1, "transactional_id": None,
    "broker_id": 77, "num_partitions": 1, "replication_factor": 1, "allow_auto_topic_creation": False,
    "producer_id": -1, "producer_epoch": -1, "timestamp": -1, "current_leader_epoch": -1,
    "last_fetched_epoch": -1, "log_start_offset": -1, "leader_epoch": -1, "resource_type": 2,
    "config_name": "retention.ms", "value": "100000", "validate_only": False, "assignments": [],
    "cursor": None, "replicas": [1], "count": 1, "endpoint_type": 1,
    "resource_type_filter": 2, "pattern_type_filter": 3, "resource_pattern_type": 3, "operation": 3,
    "permission_type": 3,
}
EVIL = (None, -2, -2**31, 2**31 - 1, 1_000_000, 100)


def sample(struct, version):
    """Values for all fields of a struct, one element in each array."""
    values = {}
    for field in struct.fields:
        if not within(version, field.versions) or field.tag is not None:
            continue
        values[field.name] = sample_field(field, version)
    return values


def sample_field(field, version):
    null_refused = field.nullable is None or not within(version, field.nullable)
    if field.name in GOOD and not (GOOD[field.name] is None and null_refused):
        return GOOD[field.name]
    if field.array:
        return [sample_one(field, version)]
    return sample_one(field, version)


def sample_one(field, version):
    if field.struct:
        return sample(field.struct, version)
    if field.type == "records":
        return batch()
    return {"string": "abuse", "bytes": b"abuse", "bool": False, "uuid": b"\7" * 16,
            "float64": 1.0}.get(field.type, 0)


def request(api, version, correlation=1):
    return request_bytes(api, version, sample(request_of(api), version), correlation)


def with_evil_lengths(api, version):
    """The sample with one length after the other replaced."""
    schema = request_of(api)
    values = sample(schema, version)
    true_length = wire.length
    try:
        calls = 0

        def counting(*args):
            nonlocal calls
            calls += 1
            return true_length(*args)
        wire.length = counting
        request_bytes(api, version, values)
        total = calls
        for n in range(total):
            for evil in EVIL:
                yield replaced(api, version, values, n, true_length, evil)
            yield replaced(api, version, values, n, true_length, b"\xff" * 10)
    finally:
        wire.length = true_length


def replaced(api, version, values, n, true_length, evil):
    calls = 0

    def lying(count, flexible, short=False):
        nonlocal calls
        calls += 1
        if calls != n + 1:
            return true_length(count, flexible, short)
        if isinstance(evil, bytes):
            return evil
        if evil is None:
            return true_length(None, flexible, short)
        if flexible:
            return wire.uvarint((evil + 1) & 0xFFFFFFFF)
        return true_length(max(-2**15, min(evil, 2**15 - 1)) if short else evil, False, short)
    wire.length = lying
    return request_bytes(api, version, values)


def turned(data, rng, times):
    """Single bits turned, and a few bytes at once."""
    for i in range(times):
        out = bytearray(data)
        for _ in range(1 if i % 3 else rng.randint(2, 6)):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        yield bytes(out)
