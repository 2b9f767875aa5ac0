"""Conversations about groups of the new protocol (KIP-848): heartbeats carry all of it."""
import time

from interop.groups.talk import talk
from interop.groups.talks import CHANGED, CONSUMER, commit, fetch, forget, heartbeat, join, sync

A, B, C = "member-a", "member-b", "member-c"


def beat(group, member, epoch, version=1, **more):
    """A heartbeat that says nothing new unless told to."""
    return "ConsumerGroupHeartbeat", version, {"group_id": group, "member_id": member,
                                               "member_epoch": epoch, **more}


def enter(group, member, version=1, topics=("plain",), **more):
    """The first heartbeat."""
    return beat(group, member, 0, version, **{
        "rebalance_timeout_ms": 60000, "topic_partitions": [],
        "subscribed_topic_names": None if topics is None else list(topics), **more})


def held(t, **topics):
    """What a member says it holds."""
    return [{"topic_id": t.ids[name], "partitions": p} for name, p in topics.items()]


def describe(*groups, version=1):
    return "ConsumerGroupDescribe", version, {"group_ids": list(groups)}


def member(t, group, name, on="a", **how):
    """Enter and take what is given, until told nothing new; returns the epoch."""
    answer = t.ask(*enter(group, name, **how), on=on)
    return settle(t, group, name, answer, on)


def settle(t, group, name, answer, on="a", turns=6):
    """Say of each assignment that it is held; returns the epoch."""
    for _ in range(turns):
        if answer["error_code"] or not answer["assignment"]:
            break
        answer = t.ask(*beat(group, name, answer["member_epoch"],
                             topic_partitions=answer["assignment"]["topic_partitions"]), on=on)
    return answer["member_epoch"]


@talk
def consumer_heartbeats_refused(t):
    for v in range(2):
        t.ask(*enter("", A, v))
        t.ask(*enter("one", "", v, topics=()))
        t.ask(*enter("two", A, v, topics=None))
        t.ask(*enter("three", A, v, rebalance_timeout_ms=-1))
        t.ask(*enter("four", A, v, rebalance_timeout_ms=0))
        t.ask(*enter("five", A, v, topic_partitions=None))
        t.ask(*enter("six", A, v, topic_partitions=held(t, plain=[0])))
        t.ask(*enter("seven", A, v, instance_id=""))
        t.ask(*enter("eight", A, v, rack_id=""))
        t.ask(*enter("nine", A, v, server_assignor=""))
        t.ask(*enter("nine", A, v, server_assignor="strange"))
        t.ask(*beat("nowhere", A, 1, v))
        t.ask(*beat("nowhere", A, -1, v))
        t.ask(*beat("nowhere", A, -2, v))
        t.ask(*beat("nowhere", A, -2, v, instance_id="i"))
        t.ask(*beat("nowhere", A, -3, v))
    t.ask(*enter("ten", A, topics=None, subscribed_topic_regex="["))
    t.ask(*enter("ten", A, topics=None, subscribed_topic_regex="(?<name>a)\\1"))
    for v in range(2):
        t.ask(*describe("", "nowhere", version=v))
        t.ask(*describe(version=v))


@talk
def the_life_of_a_consumer(t):
    for v in range(2):
        group = f"new-life{v}"
        first = t.ask(*enter(group, A if v else "", v))
        who, epoch = first["member_id"], first["member_epoch"]
        t.ask(*describe(group, version=v))
        t.ask(*beat(group, who, epoch, v, topic_partitions=held(t, plain=[0, 1, 2])))
        t.ask(*describe(group, version=v))
        t.ask(*beat(group, who, epoch, v))
        t.ask(*beat(group, who, epoch + 1, v))
        t.ask(*beat(group, who, epoch - 1, v))
        t.ask(*beat(group, "other", epoch, v))
        t.ask(*beat(group, who, epoch, v, instance_id="i"))
        t.ask(*beat(group, who, epoch, v, server_assignor="strange"))
        t.ask(*beat(group, who, epoch, v, server_assignor="range"))
        answer = t.ask(*beat(group, who, epoch, v, rack_id="r", rebalance_timeout_ms=30000))
        epoch = answer["member_epoch"] if not answer["error_code"] else epoch
        answer = t.ask(*beat(group, who, epoch, v, subscribed_topic_names=["plain", "nowhere"]))
        epoch = answer["member_epoch"]
        answer = t.ask(*beat(group, who, epoch, v, subscribed_topic_names=["small"],
                             topic_partitions=held(t, plain=[0, 1, 2])))
        t.ask(*describe(group, version=v))
        answer = t.ask(*beat(group, who, answer["member_epoch"], v, topic_partitions=[]))
        answer = t.ask(*beat(group, who, answer["member_epoch"], v,
                             topic_partitions=held(t, small=[0])))
        t.ask(*describe(group, version=v))
        t.ask("ConsumerGroupDescribe", v, {"group_ids": [group],
                                           "include_authorized_operations": True})
        t.ask(*beat(group, who, -1, v))
        t.ask(*beat(group, who, -1, v))
        t.ask(*beat(group, who, answer["member_epoch"], v))
        t.ask(*describe(group, version=v))


@talk
def consumers_share(t):
    a = member(t, "share", A)
    t.ask(*describe("share"))
    first = t.ask(*enter("share", B), on="b")
    t.ask(*describe("share"))
    again = t.ask(*beat("share", A, a))
    kept = (again["assignment"] or {"topic_partitions": []})["topic_partitions"]
    t.ask(*beat("share", B, first["member_epoch"]), on="b")
    t.ask(*beat("share", A, again["member_epoch"], topic_partitions=held(t, plain=[0, 1, 2])))
    again = t.ask(*beat("share", A, again["member_epoch"], topic_partitions=kept))
    t.ask(*describe("share"))
    b = settle(t, "share", B, t.ask(*beat("share", B, first["member_epoch"]), on="b"), "b")
    t.ask(*describe("share"))
    t.ask(*beat("share", B, b - 1), on="b")
    t.ask(*beat("share", B, b - 1, topic_partitions=[]), on="b")
    t.ask(*beat("share", B, -1), on="b")
    a = settle(t, "share", A, t.ask(*beat("share", A, again["member_epoch"])))
    t.ask(*describe("share"))
    t.ask(*enter("share", A))  # it has forgotten all
    t.ask(*describe("share"))


@talk
def static_consumers(t):
    one = member(t, "fixed", A, instance_id="one")
    two = member(t, "fixed", B, on="b", instance_id="two")
    t.ask(*enter("fixed", C, instance_id="one"))
    t.ask(*beat("fixed", A, one, instance_id="two"))
    t.ask(*beat("fixed", A, -2, instance_id="one"))
    t.ask(*describe("fixed"))
    t.ask(*beat("fixed", A, one, instance_id="one"))
    t.ask(*enter("fixed", C, instance_id="one"))
    t.ask(*describe("fixed"))
    t.ask(*beat("fixed", A, one, instance_id="one"))
    t.ask(*beat("fixed", A, -1, instance_id="one"))
    t.ask(*beat("fixed", B, -1, instance_id="three"), on="b")
    t.ask(*beat("fixed", B, -1, instance_id="two"), on="b")
    t.ask(*beat("fixed", B, two, instance_id="two"), on="b")
    t.ask(*beat("fixed", C, -1, instance_id="one"))
    t.ask(*describe("fixed"))


@talk
def consumers_commit(t):
    epoch = member(t, "commits-new", A)
    for v in range(2, 10):
        t.ask(*commit("commits-new", A, epoch, version=v))
        t.ask(*commit("commits-new", A, epoch + 1, version=v))
        t.ask(*commit("commits-new", A, epoch - 1, version=v))
        t.ask(*commit("commits-new", "other", epoch, version=v))
        t.ask(*commit("commits-new", version=v))
        t.ask(*commit("commits-new", A, -1, version=v))
    t.ask(*commit("commits-new", A, epoch, version=10, topic=t.ids["plain"]))
    for v in range(7, 11):
        t.ask(*fetch("commits-new", v, ((t.ids["plain"] if v > 9 else "plain", [0, 1]),)))
    for v in (9, 10):
        topic = {"topic_id": t.ids["plain"]} if v > 9 else {"name": "plain"}
        for who, e in ((A, epoch), (A, epoch - 1), (A, epoch + 1), ("other", epoch), (A, -1),
                       ("", -1), (None, epoch), ("", epoch)):
            t.ask("OffsetFetch", v, {"groups": [{
                "group_id": "commits-new", "member_id": who, "member_epoch": e,
                "topics": [{**topic, "partition_indexes": [0]}]}]})
    t.ask(*forget("commits-new", ("plain", [0]), ("small", [0])))
    t.ask(*beat("commits-new", A, -1))
    t.ask(*commit("commits-new"))
    t.ask(*fetch("commits-new", 9))
    t.ask(*forget("commits-new", ("plain", [0])))
    t.ask(*fetch("commits-new", 9, None))


@talk
def classic_calls_to_a_consumer_group(t):
    epoch = member(t, "modern", A)
    t.ask(*heartbeat("modern", A, epoch))
    t.ask(*sync("modern", A, epoch))
    t.ask(*join("modern", metadata=b"?"), on="b")
    t.ask(*join("modern", protocol_type="connect"), on="b")
    t.ask(*join("modern", A), on="b")
    for v in (0, 4, 5, 6):
        t.ask("DescribeGroups", v, {"groups": ["modern"]})
    t.ask("LeaveGroup", 5, {"group_id": "modern", "members": [{"member_id": "x"}]})
    for types in (["consumer"], ["classic"], ["Consumer"], []):
        t.ask("ListGroups", 5, {"types_filter": types, "states_filter": ["Stable", "reconciling"]})
    t.ask("ListGroups", 4, {"states_filter": ["stable"]})
    for v in range(3):
        t.ask("DeleteGroups", v, {"groups_names": ["modern"]})
    t.ask("LeaveGroup", 5, {"group_id": "modern", "members": [{"member_id": A}]})
    t.ask(*describe("modern"))
    t.ask(*beat("modern", A, -1))
    t.ask("DeleteGroups", 2, {"groups_names": ["modern"]})
    t.ask(*describe("modern"))


@talk
def a_classic_member_among_consumers(t):
    member(t, "mixed", A)
    who = t.ask(*join("mixed", metadata=CONSUMER), on="b")["member_id"]
    answer = t.ask(*join("mixed", who, metadata=CONSUMER), on="b")
    t.ask(*describe("mixed"))
    t.ask(*sync("mixed", who, answer["generation_id"]), on="b")
    t.ask(*heartbeat("mixed", who, answer["generation_id"]), on="b")
    t.ask(*commit("mixed", who, answer["generation_id"], version=8), on="b")
    t.ask(*commit("mixed", who, answer["generation_id"] + 1, version=8), on="b")
    t.ask("LeaveGroup", 5, {"group_id": "mixed", "members": [{"member_id": who}]}, on="b")
    t.ask(*heartbeat("mixed", who, answer["generation_id"]), on="b")
    t.ask(*describe("mixed"))
    t.ask("ListGroups", 5, {"types_filter": ["consumer"]})
    t.ask(*beat("mixed", A, -1))


@talk
def a_classic_group_becomes_a_consumer_group(t):
    t.ask(*commit("was-simple"))
    t.ask(*enter("was-simple", A))
    t.ask(*fetch("was-simple", 9))
    t.ask("ListGroups", 5, {"types_filter": ["consumer"], "states_filter": []})
    t.ask(*beat("was-simple", A, -1))
    who = t.ask(*join("was-classic", metadata=CHANGED), on="b")["member_id"]
    answer = t.ask(*join("was-classic", who, metadata=CHANGED), on="b")
    t.ask(*sync("was-classic", who, answer["generation_id"], assignments=[(who, (
        b"\0\1\0\0\0\1\0\5small\0\0\0\1\0\0\0\0\xff\xff\xff\xff"))]), on="b")
    t.ask(*describe("was-classic"))
    t.ask(*enter("was-classic", A))
    t.ask(*describe("was-classic"))
    t.ask(*heartbeat("was-classic", who, answer["generation_id"]), on="b")
    t.ask(*beat("was-classic", A, -1))
    t.ask("ListGroups", 5, {"types_filter": ["consumer", "classic"]})


@talk
def topics_by_expression(t):
    t.ask(*enter("express", A, topics=None, subscribed_topic_regex="sma.*"))
    time.sleep(0.3)
    answer = t.until(lambda a: a["assignment"] or a["error_code"],
                     *beat("express", A, 1))
    settle(t, "express", A, answer)
    t.ask(*describe("express"))
    t.ask(*beat("express", A, answer["member_epoch"], subscribed_topic_regex="["))
    t.ask(*beat("express", A, answer["member_epoch"], subscribed_topic_regex=""))
    t.ask(*describe("express"))
    t.ask(*beat("express", A, -1))


@talk
def assignments_wait_for_more(t):
    t.ask("IncrementalAlterConfigs", 1, {"resources": [
        {"resource_type": 32, "resource_name": "patient", "configs": [
            {"name": "consumer.assignment.interval.ms", "config_operation": 0, "value": "1500"},
            {"name": "consumer.heartbeat.interval.ms", "config_operation": 0, "value": "6000"}]}]})
    first = t.until(lambda a: a["heartbeat_interval_ms"] == 6000, *enter("patient", A))
    t.ask(*enter("patient", B), on="b")
    t.ask(*describe("patient"))
    t.ask(*beat("patient", A, first["member_epoch"]))
    time.sleep(2)
    t.ask(*beat("patient", A, first["member_epoch"]))
    t.ask(*beat("patient", B, -1), on="b")
    t.ask(*beat("patient", A, -1))


@talk
def group_configurations(t):
    alter = [("consumer.session.timeout.ms", "50000"), ("consumer.heartbeat.interval.ms", "6000")]
    t.ask("IncrementalAlterConfigs", 1, {"resources": [
        {"resource_type": 32, "resource_name": "tuned", "configs": [
            {"name": k, "config_operation": 0, "value": v} for k, v in alter]}]})
    t.until(lambda a: a["heartbeat_interval_ms"] == 6000, *enter("tuned", A))
    t.ask("IncrementalAlterConfigs", 1, {"resources": [
        {"resource_type": 32, "resource_name": "tuned", "configs": [
            {"name": "consumer.heartbeat.interval.ms", "config_operation": 0, "value": "1"}]}]})
    t.ask(*beat("tuned", A, -1))
