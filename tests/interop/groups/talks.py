"""Conversations about groups of the classic protocol."""
import struct
import time

from interop.groups.talk import talk

# Subscriptions. Kafka falls over some that are none, so others are sent only where it does not.
CONSUMER = struct.pack(">hih", 1, 1, 5) + b"plain" + struct.pack(">ii", -1, 0)
CHANGED = struct.pack(">hih", 1, 1, 5) + b"small" + struct.pack(">ii", -1, 0)


def join(group, member="", version=9, instance=None, name="range", metadata=CONSUMER, **more):
    values = {"group_id": group, "member_id": member, "protocol_type": "consumer",
              "session_timeout_ms": 10000,
              "protocols": [{"name": name, "metadata": metadata}], **more}
    if version >= 1:
        values["rebalance_timeout_ms"] = 6000
    if version >= 5:
        values["group_instance_id"] = instance
    return "JoinGroup", version, values


def sync(group, member, generation, version=5, assignments=(), instance=None, name="range"):
    values = {"group_id": group, "member_id": member, "generation_id": generation,
              "assignments": [{"member_id": m, "assignment": a} for m, a in assignments]}
    if version >= 3:
        values["group_instance_id"] = instance
    if version >= 5:
        values.update(protocol_type="consumer", protocol_name=name)
    return "SyncGroup", version, values


def heartbeat(group, member, generation, version=4, instance=None):
    values = {"group_id": group, "member_id": member, "generation_id": generation}
    if version >= 3:
        values["group_instance_id"] = instance
    return "Heartbeat", version, values


def commit(group, member="", generation=-1, version=9, offset=5, topic="plain", partition=0,
           metadata="note", **more):
    p = {"partition_index": partition, "committed_offset": offset, "committed_metadata": metadata}
    if version >= 6:
        p["committed_leader_epoch"] = 3
    where = {"topic_id": topic} if version >= 10 else {"name": topic}
    return "OffsetCommit", version, {
        "group_id": group, "member_id": member, "generation_id_or_member_epoch": generation,
        "topics": [{**where, "partitions": [p]}], **more}


def fetch(group, version, topics=(("plain", [0, 1]),)):
    key = "topic_id" if version >= 10 else "name"
    asked = None if topics is None else [{key: t, "partition_indexes": p} for t, p in topics]
    if version < 8:
        return "OffsetFetch", version, {"group_id": group, "topics": asked}
    return "OffsetFetch", version, {"groups": [{"group_id": group, "topics": asked}]}


def member(t, group, version=9, on="a", **how):
    """A dynamic member that has come twice; its id and the generation of its first round."""
    answer = t.ask(*join(group, version=version, **how), on=on)
    if answer["error_code"] == 79:
        answer = t.ask(*join(group, answer["member_id"], version=version, **how), on=on)
    return answer["member_id"], answer["generation_id"]


def stable(t, group, on="a", **how):
    who, generation = member(t, group, on=on, **how)
    t.ask(*sync(group, who, generation, assignments=[(who, b"share")]), on=on)
    return who, generation


# ---- talks ---------------------------------------------------------------------------------------

@talk
def find_coordinators(t):
    for v in range(4):
        t.ask("FindCoordinator", v, {"key": "g"})
    for v in range(4, 7):
        t.ask("FindCoordinator", v, {"key_type": 0, "coordinator_keys": ["g", "", "h", "g"]})
        t.ask("FindCoordinator", v, {"key_type": 0, "coordinator_keys": []})
        t.ask("FindCoordinator", v, {"key_type": 2, "coordinator_keys": ["g", "g:x:0", "a:b:c:d"]})
    t.ask("FindCoordinator", 3, {"key": "g", "key_type": 2})


@talk
def join_refused(t):
    for v in range(10):
        t.ask(*join("", version=v))
        t.ask(*join("short", version=v, session_timeout_ms=5999))
        t.ask(*join("long", version=v, session_timeout_ms=1800001))
        t.ask(*join("nowhere", "nobody", version=v))
        t.ask(*join(f"odd{v}", version=v, protocol_type=""))
        t.ask(*join(f"bare{v}", version=v, protocols=[]))
    for v in range(5, 10):
        t.ask(*join(f"fixed{v}", "nobody", version=v, instance="i"))
    t.ask("ListGroups", 5)


@talk
def the_life_of_a_member(t):
    for v in range(10):
        group = f"life{v}"
        who, generation = member(t, group, version=v)
        s = min(v, 5)
        t.ask(*heartbeat(group, who, generation, min(v, 4)))
        t.ask(*heartbeat(group, who, generation + 1, min(v, 4)))
        t.ask(*heartbeat(group, "other", generation, min(v, 4)))
        t.ask(*sync(group, who, generation + 1, s))
        t.ask(*sync(group, "other", generation, s))
        t.ask(*commit(group, who, generation, min(max(v, 2), 9)))
        t.ask("DescribeGroups", min(v, 6), {"groups": [group]})
        t.ask(*sync(group, who, generation, s, [(who, b"share"), ("other", b"none")]))
        t.ask(*sync(group, who, generation, s))
        t.ask(*commit(group, who, generation, min(max(v, 2), 9)))
        t.ask("DescribeGroups", min(v, 6), {"groups": [group]})
        t.ask(*join(group, who, version=v))
        t.ask("DescribeGroups", min(v, 6), {"groups": [group]})
        left = {"members": [{"member_id": who}, {"member_id": "x"}]} if v >= 3 else {
            "member_id": who}
        t.ask("LeaveGroup", min(v, 5), {"group_id": group, **left})
        t.ask("LeaveGroup", min(v, 5), {"group_id": group, **left})
        t.ask("DescribeGroups", min(v, 6), {"groups": [group]})


@talk
def sync_names_its_protocol(t):
    who, generation = member(t, "names")
    t.ask(*sync("names", who, generation, name="roundrobin"))
    t.ask("SyncGroup", 5, {"group_id": "names", "member_id": who, "generation_id": generation})
    t.ask(*sync("names", who, generation))
    t.ask(*sync("", who, generation))
    t.ask(*sync("nowhere", who, generation))


@talk
def two_members(t):
    a, generation = stable(t, "two")
    b = t.ask(*join("two"), on="b")["member_id"]
    t.send(*join("two", b), on="b")
    time.sleep(0.3)
    t.ask(*heartbeat("two", a, generation))
    t.ask(*sync("two", a, generation))
    t.ask(*commit("two", a, generation))
    t.ask("DescribeGroups", 6, {"groups": ["two"]}, on="c")
    first = t.ask(*join("two", a))
    t.hear("b")
    generation = first["generation_id"]
    t.send(*sync("two", b, generation), on="b")
    time.sleep(0.3)
    t.ask(*heartbeat("two", a, generation))
    t.ask(*commit("two", a, generation))
    t.ask(*sync("two", a, generation, assignments=[(a, b"one"), (b, b"two")]))
    t.hear("b")
    t.ask(*heartbeat("two", b, generation), on="b")
    t.ask(*join("two", b), on="b")  # a follower without news
    t.ask("DescribeGroups", 6, {"groups": ["two"]}, on="c")
    t.send(*sync("two", b, generation), on="b")
    t.hear("b")
    t.ask("LeaveGroup", 5, {"group_id": "two", "members": [{"member_id": a}]})
    t.ask(*heartbeat("two", b, generation), on="b")
    t.ask(*join("two", b), on="b")
    t.ask("DescribeGroups", 6, {"groups": ["two"]}, on="c")


@talk
def who_waits_for_an_assignment_is_called_again(t):
    a, generation = stable(t, "again")
    b = t.ask(*join("again"), on="b")["member_id"]
    t.send(*join("again", b), on="b")
    time.sleep(0.3)
    generation = t.ask(*join("again", a))["generation_id"]
    t.hear("b")
    t.send(*sync("again", b, generation), on="b")
    time.sleep(0.3)
    t.send(*join("again", a, metadata=CHANGED), on="a")
    t.hear("b")
    t.ask(*join("again", b), on="b")
    t.hear("a")


@talk
def static_members(t):
    for v in (5, 7, 8, 9):
        group = f"static{v}"
        one, generation = stable(t, group, version=v, instance="one")
        t.send(*join(group, version=v, instance="two"), on="b")
        time.sleep(0.3)
        generation = t.ask(*join(group, one, version=v, instance="one"))["generation_id"]
        two = t.hear("b")["member_id"]
        t.send(*sync(group, two, generation, instance="two"), on="b")
        time.sleep(0.2)
        t.ask(*sync(group, one, generation, assignments=[(one, b"1"), (two, b"2")],
                    instance="one"))
        t.hear("b")
        new = t.ask(*join(group, version=v, instance="two"), on="c")["member_id"]
        t.ask(*heartbeat(group, two, generation, instance="two"))
        t.ask(*heartbeat(group, two, generation))
        t.ask(*heartbeat(group, new, generation, instance="two"))
        t.ask(*heartbeat(group, new, generation, instance="three"))
        t.ask(*sync(group, two, generation, instance="two"))
        t.ask(*sync(group, new, generation, instance="two"))
        t.ask(*commit(group, two, generation, group_instance_id="two"))
        t.ask(*commit(group, new, generation, group_instance_id="two"))
        t.ask(*join(group, two, version=v, instance="two"))
        t.ask(*join(group, version=v, instance="one"))  # the leader returns
        t.ask("DescribeGroups", 6, {"groups": [group]})
        t.ask("LeaveGroup", 5, {"group_id": group, "members": [
            {"member_id": two, "group_instance_id": "two"},
            {"member_id": "", "group_instance_id": "three"},
            {"member_id": "", "group_instance_id": "two"}]})
        t.ask("LeaveGroup", 5, {"group_id": group, "members": [
            {"member_id": "", "group_instance_id": "one"}, {"member_id": ""}]})
        t.ask("DescribeGroups", 6, {"groups": [group]})


@talk
def protocols_are_voted_for(t):
    both = [{"name": "x", "metadata": b"1"}, {"name": "y", "metadata": b"2"}]
    a = t.ask(*join("vote", version=3, protocols=both))
    t.ask(*join("vote", version=3, name="z"), on="b")
    t.ask(*join("vote", version=3, name="x", protocol_type="connect"), on="b")
    t.send(*join("vote", version=3, name="y"), on="b")
    time.sleep(0.3)
    t.ask(*join("vote", a["member_id"], version=3, protocols=both))
    t.hear("b")


@talk
def commits(t):
    for v in range(2, 10):
        group = f"commit{v}"
        t.ask(*commit(group, generation=4, version=v))
        t.ask(*commit(group, "somebody", generation=4, version=v))
        t.ask(*commit(group, version=v))
        t.ask(*commit(group, version=v, metadata=None, partition=1, offset=-7))
        t.ask(*commit(group, version=v, metadata="x" * 4096))
        t.ask(*commit(group, version=v, metadata="x" * 4097))
        t.ask(*commit(group, version=v, metadata="\u00e4" * 4096))
        t.ask(*commit(group, version=v, topic="nowhere"))
        t.ask(*commit(group, version=v, partition=99))
        t.ask("OffsetCommit", v, {"group_id": group, "topics": []})
        t.ask(*commit("", version=v))
        t.ask("DescribeGroups", 5, {"groups": [group]})
        for f in range(1, 10):
            t.ask(*fetch(group, f, (("plain", [1, 0, 7]), ("nowhere", [0]), ("small", []))))
        for f in range(2, 10):
            t.ask(*fetch(group, f, None))


@talk
def commits_by_id(t):
    plain, unknown = t.ids["plain"], b"no such topic id"
    t.ask(*commit("by-id", version=10, topic=plain))
    t.ask(*commit("by-id", version=10, topic=unknown))
    t.ask(*commit("by-id", version=10, topic=plain, partition=99))
    t.ask(*commit("by-id", version=9, topic="small"))
    t.ask(*fetch("by-id", 10, ((plain, [0, 1]), (unknown, [0, 3]), (t.ids["small"], [0]))))
    t.ask(*fetch("by-id", 10, None))
    t.ask(*fetch("by-id", 9, None))
    t.ask(*fetch("nowhere", 10, None))
    t.ask("OffsetFetch", 10, {"require_stable": True, "groups": [
        {"group_id": "by-id", "topics": None}, {"group_id": "nowhere", "topics": [
            {"topic_id": plain, "partition_indexes": [0]}]}]})


@talk
def who_may_commit(t):
    who, generation = stable(t, "may")
    t.ask(*commit("may"))
    t.ask(*commit("may", who))
    t.ask(*commit("may", "other", generation))
    t.ask(*commit("may", who, generation - 1))
    t.ask(*commit("may", who, generation, group_instance_id="i"))
    t.ask(*commit("may", who, generation))
    t.ask("LeaveGroup", 5, {"group_id": "may", "members": [{"member_id": who}]})
    t.ask(*commit("may", who, generation))
    t.ask(*commit("may", who))
    t.ask(*commit("may"))
    t.ask(*fetch("may", 7))


def forget(group, *topics):
    return "OffsetDelete", 0, {"group_id": group, "topics": [
        {"name": n, "partitions": [{"partition_index": i} for i in p]} for n, p in topics]}


@talk
def offsets_deleted(t):
    t.ask(*forget("nowhere", ("plain", [0])))
    t.ask(*forget("", ("plain", [0])))
    t.ask(*commit("forget", topic="plain"))
    t.ask(*commit("forget", topic="small"))
    t.ask(*forget("forget", ("plain", [0, 1, 99]), ("nowhere", [0])))
    t.ask(*fetch("forget", 7, None))
    who, generation = stable(t, "forget")  # reads plain
    t.ask(*commit("forget", who, generation, topic="plain"))
    t.ask(*forget("forget", ("plain", [0]), ("small", [0])))
    t.ask(*fetch("forget", 7, None))
    other, generation = stable(t, "opaque", metadata=b"?")
    t.ask(*commit("opaque", other, generation, topic="plain"))
    t.ask(*forget("opaque", ("plain", [0])))
    t.ask(*join("workers", version=3, protocol_type="connect"), on="b")
    t.ask(*forget("workers", ("plain", [0])))


@talk
def groups_listed_and_deleted(t):
    who, generation = stable(t, "keep")
    t.ask(*commit("simple"))
    t.ask(*join("asked"))
    for v in range(6):
        t.ask("ListGroups", v)
    for v in (4, 5):
        for states in (["Stable"], ["stable", "EMPTY"], [" Empty "], ["Dead"], ["no such"], [""]):
            t.ask("ListGroups", v, {"states_filter": states})
    for types in (["classic"], ["Classic"], ["consumer"], ["classic", "share"], ["no such"]):
        t.ask("ListGroups", 5, {"types_filter": types})
    for v in range(7):
        more = {"include_authorized_operations": True} if v >= 3 else {}
        t.ask("DescribeGroups", v, {"groups": ["keep", "simple", "nowhere", ""], **more})
        t.ask("DescribeGroups", v, {"groups": []})
    for v in range(3):
        t.ask("DeleteGroups", v, {"groups_names": ["keep", "simple", "nowhere", "", "asked"]})
        t.ask("DeleteGroups", v, {"groups_names": []})
    t.ask("DescribeGroups", 6, {"groups": ["keep", "simple", "asked"]})
    t.ask(*fetch("simple", 7, None))


@talk
def heartbeats_and_leaves_refused(t):
    for v in range(5):
        t.ask(*heartbeat("", "x", 1, v))
        t.ask(*heartbeat("nowhere", "x", 1, v))
    for v in range(6):
        left = {"members": [{"member_id": "x"}]} if v >= 3 else {"member_id": "x"}
        t.ask("LeaveGroup", v, {"group_id": "", **left})
        t.ask("LeaveGroup", v, {"group_id": "nowhere", **left})
    t.ask("LeaveGroup", 5, {"group_id": "nowhere", "members": []})


@talk
def sessions_end(t):
    who, generation = stable(t, "ends", session_timeout_ms=6000)
    time.sleep(5)
    t.ask(*heartbeat("ends", who, generation))
    time.sleep(5)
    t.ask(*heartbeat("ends", who, generation))
    time.sleep(7)
    t.ask(*heartbeat("ends", who, generation))
    t.ask("DescribeGroups", 6, {"groups": ["ends"]})


@talk
def a_topic_takes_its_offsets_with_it(t):
    t.ask(*commit("leftover", topic="doomed"))
    t.ask(*commit("leftover", topic="plain"))
    t.ask("DeleteTopics", 3, {"topic_names": ["doomed"], "timeout_ms": 10000})
    late = time.monotonic() + 20
    while time.monotonic() < late:  # it is done a little later
        answer = t.client("a").ask(*fetch("leftover", 7, None))
        if len(answer["topics"]) == 1:
            break
        time.sleep(0.05)
    t.ask(*fetch("leftover", 7, None))
