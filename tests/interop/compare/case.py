"""What a comparison case is: one request, in several versions, whose answers two brokers must share.

    case("a name", "Metadata", "0-13", {"topics": [{"name": "plain"}]})

Values are a dict, or a function of the version that makes one. Fields that a version does not have are
left out. In the values may stand Id("plain"), the topic's id at the broker asked, and Pid("first"), a
producer id that the broker gave in a case with keep="first".
"""
from collections import namedtuple

Id = namedtuple("Id", "topic")
Pid = namedtuple("Pid", "name")
NOWHERE = b"no such topic id"  # 16 bytes
CASES = []


class Case:
    """silent: no answer may come. body: sent as it is. answer_version: of the answer, if other than
    the request's. keep: remember the answer's producer id. wait_s: how
    long an answer may take. until_ok: ask again while the broker says it is not ready yet."""

    def __init__(self, name, api, versions, values=None, silent=False, body=None,
                 answer_version=None, keep=None, wait_s=15,
                 until_ok=False):
        low, _, high = str(versions).partition("-")
        self.name, self.api, self.versions = name, api, range(int(low), int(high or low) + 1)
        self.values = values if callable(values) else lambda v: values or {}
        self.silent, self.body, self.keep = silent, body, keep
        self.answer_version, self.wait_s, self.until_ok = answer_version, wait_s, until_ok


def case(*words, **how):
    CASES.append(Case(*words, **how))
