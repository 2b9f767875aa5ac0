"""Conversations about groups of the consumer protocol (KIP-848), and about both protocols in one."""
import struct

from interop.groups.talk import talk
from interop.groups.talks import commit, fetch, heartbeat, join, stable, sync


def beat(t, group, member, epoch=0, version=1, on="a", until=None, **more):
    """A heartbeat; joining ones are complete."""
    values = {"group_id": group, "member_id": member, "member_epoch": epoch}
    if epoch == 0:
        values.update(rebalance_timeout_ms=60000, topic_partitions=[],
                      subscribed_topic_names=["plain"])
    values.update(more)
    if until:
        return t.until(until, "ConsumerGroupHeartbeat", version, values, on=on)
    return t.ask("ConsumerGroupHeartbeat", version, values, on=on)


def has(t, **topics):
    return [{"topic_id": t.ids[name], "partitions": list(p)} for name, p in topics.items()]


def seen(t, *groups, version=1):
    return t.ask("ConsumerGroupDescribe", version, {"group_ids": list(groups)})


@talk
def consumer_heartbeats_refused(t):
    for v in (0, 1):
        beat(t, "", "m", version=v)
        beat(t, " ", "m", version=v)
        beat(t, "g", "", version=v, epoch=1)
        beat(t, "g", "", version=v, epoch=-1)
        beat(t, "g", "m", version=v, epoch=-2)
        beat(t, "g", "m", version=v, epoch=-3)
        beat(t, "g", "m", version=v, epoch=5)
        beat(t, "g", "m", version=v, epoch=-1)
        beat(t, "g", "m", version=v, instance_id="")
        beat(t, "g", "m", version=v, rack_id=" ")
        beat(t, "g", "m", version=v, rebalance_timeout_ms=-1)
        beat(t, "g", "m", version=v, topic_partitions=None)
        beat(t, "g", "m", version=v, topic_partitions=has(t, plain=[0]))
        beat(t, "g", "m", version=v, subscribed_topic_names=None)
        beat(t, "g", "m", version=v, server_assignor="sticky")
    beat(t, "g", "")
    for pattern in ("(", ")", "[", "a**", "*", "a{2,1}", "(?=a)", "(?<!a)", r"\1", "a{1001}", "\\",
                    "[z-a]", r"\pX", "(?P<n", "(?P<>a)", "[[:none:]]", "a++", "(?z)", r"\8", "+a", "|*"):
        beat(t, "g", "m", subscribed_topic_names=None, subscribed_topic_regex=pattern)
    t.ask("ListGroups", 5)
    seen(t, "g", "")
    seen(t, "g", version=0)


@talk
def the_life_of_a_consumer(t):
    for v in (0, 1):
        group = f"alive{v}"
        beat(t, group, "m", version=v)
        seen(t, group, version=v)
        beat(t, group, "m", 2, version=v)
        beat(t, group, "m", 2, version=v, topic_partitions=has(t, plain=[0, 1, 2]))
        beat(t, group, "m", 2, version=v, topic_partitions=has(t, plain=[0, 1, 2]),
             rebalance_timeout_ms=60000, subscribed_topic_names=["plain"])
        beat(t, group, "m", 3, version=v)
        beat(t, group, "m", 0, version=v)
        beat(t, group, "other", 2, version=v)
        beat(t, group, "other", -1, version=v)
        t.ask("DescribeGroups", 6, {"groups": [group]})
        t.ask("DescribeGroups", 5, {"groups": [group]})
        t.ask("DeleteGroups", 2, {"groups_names": [group]})
        beat(t, group, "m", -1, version=v)
        seen(t, group, version=v)
        t.ask("ListGroups", 5, {"types_filter": ["consumer"]})
        t.ask("ListGroups", 5, {"types_filter": ["Consumer"], "states_filter": ["empty"]})
        t.ask("ListGroups", 4, {"states_filter": ["Empty"]})
        t.ask("DeleteGroups", 2, {"groups_names": [group]})
        seen(t, group, version=v)


@talk
def names_made_by_the_broker(t):
    first = beat(t, "made", "", version=0)
    beat(t, "made", first["member_id"], 2, version=0)
    beat(t, "made", first["member_id"], -1, version=0)
    t.ask("DeleteGroups", 2, {"groups_names": ["made"]})


@talk
def consumers_share(t):
    group = "sharing"
    beat(t, group, "m1")
    beat(t, group, "m2")
    seen(t, group)
    beat(t, group, "m1", 2)
    beat(t, group, "m2", 3)
    seen(t, group)
    beat(t, group, "m1", 2, topic_partitions=has(t, plain=[0, 1, 2]))
    gave = t.client("a").ask("ConsumerGroupDescribe", 1, {"group_ids": [group]})
    kept = {m["member_id"]: m["target_assignment"]["topic_partitions"][0]["partitions"]
            for m in gave["groups"][0]["members"] if m["target_assignment"]["topic_partitions"]}
    beat(t, group, "m1", 2, topic_partitions=has(t, plain=kept["m1"]))
    beat(t, group, "m2", 3)
    beat(t, group, "m1", 2, topic_partitions=has(t, plain=kept["m1"]))  # its answer was lost
    beat(t, group, "m1", 2, topic_partitions=has(t, plain=[0, 1, 2]))
    beat(t, group, "m1", 4)
    seen(t, group)
    beat(t, group, "m3")
    seen(t, group)
    beat(t, group, "m3", -1)
    beat(t, group, "m2", -1)
    seen(t, group)
    beat(t, group, "m1", 3)
    beat(t, group, "m1", 3, topic_partitions=has(t, plain=kept["m1"]))
    seen(t, group)
    beat(t, group, "m1", -1)
    t.ask("DeleteGroups", 2, {"groups_names": [group]})


@talk
def assignments(t):
    """Members with fixed names, so that the brokers' choices can be compared. Of several topics the
    uniform assignor's choice depends on their ids, which differ."""
    for how, topics, others in (("uniform", ["wide"], ["wide", "small"]),
                                ("range", ["plain", "small", "wide"], ["wide"]),
                                (None, ["wide"], ["small"])):
        group = f"spread {how}"
        for i in range(5):
            beat(t, group, f"member-{i}", server_assignor=how, subscribed_topic_names=topics)
            seen(t, group)
        beat(t, group, "member-1", -1)
        beat(t, group, "member-9", server_assignor=how, subscribed_topic_names=topics)
        seen(t, group)
        for i in (0, 2):
            beat(t, group, f"odd-{i}", server_assignor=how, subscribed_topic_names=others)
            seen(t, group)
        beat(t, group, "odd-1", server_assignor=how, subscribed_topic_names=["small", "nowhere"])
        seen(t, group)
        for m in ("member-0", "member-2", "member-3", "member-4", "member-9", "odd-0", "odd-1",
                  "odd-2"):
            beat(t, group, m, -1)
        t.ask("DeleteGroups", 2, {"groups_names": [group]})


@talk
def static_consumers(t):
    group = "fixed consumers"
    beat(t, group, "m1", instance_id="i")
    beat(t, group, "m2", instance_id="i")
    beat(t, group, "m1", 2, instance_id="other")
    beat(t, group, "m2", 2, instance_id="i")
    beat(t, group, "m1", -2, instance_id="i")
    seen(t, group)
    beat(t, group, "m2", instance_id="i")
    seen(t, group)
    beat(t, group, "m1", 2, instance_id="i")
    beat(t, group, "m2", -2, instance_id="i")
    beat(t, group, "m2", instance_id="i")
    beat(t, group, "m2", -1, instance_id="other")
    beat(t, group, "m2", -1, instance_id="i")
    seen(t, group)
    t.ask("DeleteGroups", 2, {"groups_names": [group]})


@talk
def subscriptions_change(t):
    group = "changing"
    beat(t, group, "m")
    beat(t, group, "m", 2, subscribed_topic_names=["small", "plain", "plain"])
    seen(t, group)
    beat(t, group, "m", 3, subscribed_topic_names=["small"])
    seen(t, group)
    beat(t, group, "m", 3, topic_partitions=has(t, small=[0]))
    seen(t, group)
    beat(t, group, "m", 4, subscribed_topic_names=[])
    beat(t, group, "m", 4, topic_partitions=[])
    seen(t, group)
    beat(t, group, "m", 5, subscribed_topic_names=["nowhere"], rack_id="r", server_assignor="range")
    seen(t, group)
    beat(t, group, "m", -1)
    t.ask("DeleteGroups", 2, {"groups_names": [group]})


@talk
def patterns(t):
    group = "by pattern"
    beat(t, group, "m", subscribed_topic_names=None, subscribed_topic_regex="(plain|sm.*)")
    beat(t, group, "m", 0, subscribed_topic_names=None, subscribed_topic_regex="(plain|sm.*)",
         until=lambda a: a["member_epoch"] > 1 and a["assignment"]["topic_partitions"])
    seen(t, group)
    beat(t, group, "m", 2, subscribed_topic_regex="")
    seen(t, group)
    beat(t, group, "m", -1)
    seen(t, group)
    t.ask("DeleteGroups", 2, {"groups_names": [group]})


@talk
def consumers_commit(t):
    group = "committing"
    beat(t, group, "m")
    for v in (8, 9):
        t.ask(*commit(group, "m", 2, v))
        t.ask(*commit(group, "m", 3, v))
        t.ask(*commit(group, "m", 1, v))
        t.ask(*commit(group, "other", 2, v))
        t.ask(*commit(group, "", -1, v))
    t.ask(*commit(group, "m", 2, 9, topic="small"))
    for member, epoch in (("m", 2), ("m", 1), ("m", 3), ("other", 2), (None, -1), ("m", -1)):
        api, version, values = fetch(group, 9)
        values["groups"][0].update(member_id=member, member_epoch=epoch)
        t.ask(api, version, values)
    t.ask(*fetch(group, 8))
    beat(t, group, "m", 2, subscribed_topic_names=["plain", "small"])
    seen(t, group)
    t.ask(*commit(group, "m", 2, 9, offset=7))
    t.ask(*commit(group, "m", 2, 9, topic="small"))
    t.ask(*commit(group, "m", 3, 9, topic="small"))
    t.ask("OffsetDelete", 0, {"group_id": group, "topics": [
        {"name": "plain", "partitions": [{"partition_index": 0}]},
        {"name": "doomed", "partitions": [{"partition_index": 0}]}]})
    beat(t, group, "m", -1)
    t.ask(*commit(group, "", -1, 9, offset=9))
    t.ask(*fetch(group, 8))
    t.ask("DeleteGroups", 2, {"groups_names": [group]})
    t.ask(*fetch(group, 8))


@talk
def empty_groups_change_their_type(t):
    t.ask(*commit("plain offsets"))
    beat(t, "plain offsets", "m")
    t.ask(*fetch("plain offsets", 8))
    beat(t, "plain offsets", "m", -1)
    who, generation = stable(t, "plain offsets")
    t.ask("ListGroups", 5)
    t.ask(*fetch("plain offsets", 8))
    t.ask("LeaveGroup", 5, {"group_id": "plain offsets", "members": [{"member_id": who}]})
    beat(t, "plain offsets", "m")
    t.ask("ListGroups", 5)
    beat(t, "plain offsets", "m", -1)
    t.ask("DeleteGroups", 2, {"groups_names": ["plain offsets"]})
    stable(t, "strange", protocol_type="connect")
    beat(t, "strange", "m")
    beat(t, "strange", "m", 4)
    beat(t, "strange", "m", -1)


def owned(version, topics, has=(), generation=-1):
    """A subscription with what is owned, as the cooperative consumers send it."""
    data = struct.pack(">hi", version, len(topics))
    for name in topics:
        data += struct.pack(">h", len(name)) + name.encode()
    data += struct.pack(">i", -1) + struct.pack(">i", len(has))
    for name, parts in has:
        data += struct.pack(">h", len(name)) + name.encode() + struct.pack(
            f">i{len(parts)}i", len(parts), *parts)
    return data + (struct.pack(">i", generation) if version >= 2 else b"")


def given(*parts):
    return struct.pack(">hih", 1, 1, 5) + b"plain" + struct.pack(
        f">i{len(parts)}i", len(parts), *parts) + struct.pack(">i", -1)


@talk
def a_classic_group_is_taken_over(t):
    group = "upgraded"
    who = t.ask(*join(group))["member_id"]
    generation = t.ask(*join(group, who))["generation_id"]
    t.ask(*sync(group, who, generation, assignments=[(who, given(0, 1, 2))]))
    t.ask(*commit(group, who, generation, 9))
    beat(t, group, "m")
    seen(t, group)
    t.ask("ListGroups", 5)
    t.ask(*heartbeat(group, who, generation))
    t.ask(*heartbeat(group, who, generation + 1))
    t.ask(*heartbeat(group, "m", generation + 1))
    t.ask(*sync(group, who, generation))
    t.ask(*sync(group, "m", generation))
    t.ask(*join(group, who, name="odd", protocol_type="connect"))
    t.ask(*join(group, who, metadata=owned(1, ["plain"], [("plain", [0, 1, 2])])))
    seen(t, group)
    t.ask(*heartbeat(group, who, generation))
    t.ask(*sync(group, who, generation))
    had = t.client("a").ask("ConsumerGroupDescribe", 1, {"group_ids": [group]})["groups"][0]
    kept = [m for m in had["members"] if m["member_type"] == 0][0]["target_assignment"]["topic_partitions"]
    kept = [("plain", kept[0]["partitions"])] if kept else []
    t.ask(*join(group, who, metadata=owned(1, ["plain"], kept)))
    t.ask(*sync(group, who, generation + 1))
    t.ask(*heartbeat(group, who, generation + 1))
    beat(t, group, "m", generation + 1)
    seen(t, group)
    t.ask(*commit(group, who, generation + 1, 9, offset=6))
    t.ask(*commit(group, who, generation, 9, offset=7))
    t.ask(*join(group))
    t.ask("LeaveGroup", 5, {"group_id": group, "members": [{"member_id": "x"}]})
    beat(t, group, "m", -1)
    t.ask("DescribeGroups", 6, {"groups": [group]})
    t.ask("ListGroups", 5)
    t.ask(*heartbeat(group, who, generation + 1))
    t.ask(*join(group, who))
    t.ask("DescribeGroups", 6, {"groups": [group]})
    t.ask(*fetch(group, 8))
    t.ask("LeaveGroup", 5, {"group_id": group, "members": [{"member_id": who}]})
    t.ask("DeleteGroups", 2, {"groups_names": [group]})


@talk
def classic_members_leave_a_consumer_group(t):
    group = "mixed"
    beat(t, group, "m")
    who = "classic"
    answer = t.ask(*join(group, who, name="roundrobin", metadata=owned(1, ["plain"])))
    t.ask(*sync(group, who, answer["generation_id"], name="roundrobin"))
    t.ask(*sync(group, who, answer["generation_id"]))
    t.ask(*join(group, instance="i", metadata=owned(1, ["small"]), name="range"))
    t.ask(*join(group, instance="i", metadata=owned(1, ["small"]), name="roundrobin"))
    seen(t, group)
    t.ask("LeaveGroup", 5, {"group_id": group, "members": [
        {"member_id": who}, {"member_id": "", "group_instance_id": "i"},
        {"member_id": "x", "group_instance_id": "i"}, {"member_id": "nobody"}]})
    seen(t, group)
    t.ask("LeaveGroup", 5, {"group_id": group, "members": [{"member_id": "m"}]})
    seen(t, group)
    t.ask("DeleteGroups", 2, {"groups_names": [group]})
