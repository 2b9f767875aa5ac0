/* The line of JSON in quorum-state.
 *
 *   v0 {"clusterId":"","leaderId":1,"leaderEpoch":1,"votedId":-1,"appliedOffset":0,
 *       "currentVoters":[{"voterId":1}],"data_version":0}
 *   v1 {"leaderId":1,"leaderEpoch":1,"votedId":-1,"votedDirectoryId":"AA...","data_version":1}
 *
 * Read by looking for keys, in any order and whatever stands beside them, since all values are
 * numbers and ids: no value can look like a key. Numbers that are absent are -1, as Kafka's
 * defaults are; the version and the epoch must be there.
 *
 * Failure: refused with -EBADMSG; guessing an epoch could let two leaders share one. */
#include "broker/quorum/quorum_state.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define KEY_TEXT_MAX 64

/* Behind `"key":` and blanks, or NULL. text is terminated. */
static const char *value_of(const char *text, const char *key)
{
    char quoted[KEY_TEXT_MAX];
    int n = snprintf(quoted, sizeof(quoted), "\"%s\"", key);
    assert(n > 0 && n < KEY_TEXT_MAX);
    const char *at = strstr(text, quoted);
    if (at == NULL)
        return NULL;
    at += n;
    at += strspn(at, " \t\r\n");
    if (*at != ':')
        return NULL;
    at++;
    return at + strspn(at, " \t\r\n");
}

/* true when there is a number, or no such key (then *number stays). */
static bool number_of(const char *text, const char *key, int32_t *number)
{
    const char *at = value_of(text, key);
    if (at == NULL)
        return true;
    bool negative = *at == '-';
    at += negative;
    int64_t value = 0;
    if (*at < '0' || *at > '9')
        return false;
    for (; *at >= '0' && *at <= '9'; at++) {
        value = value * 10 + (*at - '0');
        if (value > INT32_MAX)
            return false;
    }
    *number = (int32_t)(negative ? -value : value);
    return true;
}

static bool voters_of(struct quorum_state *s, const char *text)
{
    const char *at = value_of(text, "currentVoters");
    if (at == NULL || *at != '[')
        return true;
    const char *end = strchr(at, ']');
    if (end == NULL)
        return false;
    while ((at = strstr(at, "\"voterId\"")) != NULL && at < end) {
        if (s->voters_count == QUORUM_STATE_VOTERS_MAX ||
            !number_of(at, "voterId", &s->voters[s->voters_count]))
            return false;
        s->voters_count++;
        at++;
    }
    return true;
}

int quorum_state_parse(struct quorum_state *s, const char *text, size_t size)
{
    assert(text != NULL);
    *s = (struct quorum_state){.leader_id = -1, .leader_epoch = -1, .voted_id = -1};
    char copy[QUORUM_STATE_TEXT_MAX];
    if (size >= sizeof(copy) || memchr(text, 0, size) != NULL)
        return -EBADMSG;
    memcpy(copy, text, size);
    copy[size] = '\0';
    int32_t version = -1;
    if (!number_of(copy, "data_version", &version) || version < 0)
        return -EBADMSG;
    if (version > 1)
        return -ENOTSUP;
    s->version = (int16_t)version;
    if (!number_of(copy, "leaderId", &s->leader_id) ||
        !number_of(copy, "leaderEpoch", &s->leader_epoch) || s->leader_epoch < 0 ||
        !number_of(copy, "votedId", &s->voted_id))
        return -EBADMSG;
    if (version == 0)
        return voters_of(s, copy) ? 0 : -EBADMSG;
    const char *directory = value_of(copy, "votedDirectoryId");
    if (directory != NULL && (*directory != '"' || strlen(directory) < UUID_TEXT_SIZE ||
                              !uuid_parse(&s->voted_directory, directory + 1, UUID_TEXT_SIZE - 1)))
        return -EBADMSG;
    return 0;
}

size_t quorum_state_print(const struct quorum_state *s, char *text, size_t room)
{
    assert(s->version == 0 || s->version == 1);
    assert(s->leader_epoch >= 0);
    int n;
    if (s->version == 1) {
        char directory[UUID_TEXT_SIZE];
        n = snprintf(text, room,
                     "{\"leaderId\":%d,\"leaderEpoch\":%d,\"votedId\":%d,"
                     "\"votedDirectoryId\":\"%s\",\"data_version\":1}",
                     s->leader_id, s->leader_epoch, s->voted_id,
                     uuid_text(s->voted_directory, directory));
        assert(n > 0 && (size_t)n < room);
        return (size_t)n;
    }
    n = snprintf(text, room,
                 "{\"clusterId\":\"\",\"leaderId\":%d,\"leaderEpoch\":%d,\"votedId\":%d,"
                 "\"appliedOffset\":0,\"currentVoters\":[",
                 s->leader_id, s->leader_epoch, s->voted_id);
    for (uint32_t i = 0; i < s->voters_count; i++)
        n += snprintf(text + n, room - (size_t)n, "%s{\"voterId\":%d}", i > 0 ? "," : "",
                      s->voters[i]);
    n += snprintf(text + n, room - (size_t)n, "],\"data_version\":0}");
    assert(n > 0 && (size_t)n < room);
    return (size_t)n;
}
