/* Any bytes as one of the small texts that torc reads when it starts, and as names of files. The
 * first byte chooses which. What is read is in bounds, and what is printed again reads as the same.
 */
#include "tests/fuzz/fuzz.h"

#include "broker/log/path.h"
#include "broker/quorum/format.h"
#include "broker/quorum/quorum_state.h"
#include "core/properties.h"

#define BUDGET (64u << 20)

static void properties(struct mem *mem, const char *text, size_t size)
{
    struct properties p;
    struct arena arena;
    uint32_t line = 0;
    arena_init(&arena, mem, BUDGET / 2);
    if (properties_parse(&p, &arena, text, size, &line) == 0) {
        for (uint32_t i = 0; i < p.count; i++) {
            assert(properties_get(&p, p.items[i].key) == p.items[i].value);
            assert(strlen(p.items[i].key) + strlen(p.items[i].value) <= 3 * size);
        }
    }
    arena_release(&arena);
}

static void meta_properties(struct mem *mem, const char *text, size_t size)
{
    struct meta_properties meta, again;
    char why[256], printed[1024];
    if (meta_properties_parse(&meta, mem, text, size, why, sizeof(why)) != 0) {
        assert(strlen(why) < sizeof(why));
        return;
    }
    assert(memchr(meta.cluster_id, 0, sizeof(meta.cluster_id)) != NULL);
    if (meta.version != 1)
        return;
    size_t length = meta_properties_print(&meta, printed, sizeof(printed));
    int error = meta_properties_parse(&again, mem, printed, length, why, sizeof(why));
    assert(error == 0 && again.node_id == meta.node_id);
    assert(strcmp(again.cluster_id, meta.cluster_id) == 0);
    assert(uuid_equal(again.directory_id, meta.directory_id));
}

static void quorum_state(const char *text, size_t size)
{
    struct quorum_state s, again;
    char printed[QUORUM_STATE_TEXT_MAX];
    if (quorum_state_parse(&s, text, size) != 0)
        return;
    assert(s.voters_count <= QUORUM_STATE_VOTERS_MAX);
    size_t length = quorum_state_print(&s, printed, sizeof(printed));
    assert(length < sizeof(printed));
    int error = quorum_state_parse(&again, printed, length);
    assert(error == 0);
    assert(s.leader_id == again.leader_id && s.leader_epoch == again.leader_epoch);
    assert(s.voted_id == again.voted_id && s.voters_count == again.voters_count);
}

static void names(const char *text, size_t size)
{
    char name[256];
    uint32_t core, number, topic_size;
    int32_t partition;
    int64_t offset;
    const char *suffix;
    struct uuid id, again;
    char printed[UUID_TEXT_SIZE];
    size = MIN(size, sizeof(name) - 1);
    if (size > 0)
        memcpy(name, text, size);
    name[size] = 0;
    (void)!path_parse_wal(name, &core, &number);
    if (path_parse_folder(name, &topic_size, &partition))
        assert(topic_size < strlen(name) && topic_size > 0 && partition >= 0);
    if (path_parse_offset(name, &offset, &suffix))
        assert(suffix > name && suffix <= name + strlen(name) && offset >= 0);
    if (!uuid_parse(&id, name, (uint32_t)strlen(name)))
        return;
    (void)uuid_text(id, printed);
    bool same = uuid_parse(&again, printed, (uint32_t)strlen(printed)) && uuid_equal(id, again);
    assert(same);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem mem;
    int error = mem.budget_bytes == 0 ? mem_init(&mem, BUDGET) : 0;
    assert(error == 0);
    if (size < 1 || size > FUZZ_INPUT_MAX)
        return 0;
    const char *text = (const char *)data + 1;
    switch (data[0] % 4) {
    case 0:
        properties(&mem, text, size - 1);
        break;
    case 1:
        meta_properties(&mem, text, size - 1);
        break;
    case 2:
        quorum_state(text, size - 1);
        break;
    default:
        names(text, size - 1);
    }
    assert(mem.used_bytes == 0);
    return 0;
}

size_t fuzz_seed(uint32_t n, uint8_t *to)
{
    static const char *const texts[] = {
        "0# a comment\n! another\nkey=value\n k2 : v\\\n   on\\u0041\\t\\n\nempty\nkey=later\n",
        "1#\n#Sat Nov 21 19:41:00 UTC 2026\nversion=1\ncluster.id=MkU3OEVBNTcwNTJENDM2Qg\nnode.id=1"
        "\ndirectory.id=4Sr2Vl2nRkGJrKlFCxSPXw\n",
        "1version=0\nbroker.id=3\ncluster.id=abc\n",
        "2{\"leaderId\":1,\"leaderEpoch\":5,\"votedId\":-1,\"data_version\":1,"
        "\"votedDirectoryId\":\"AAAAAAAAAAAAAAAAAAAAAA\"}",
        "2{\"clusterId\":\"\",\"leaderId\":1,\"leaderEpoch\":5,\"votedId\":1,\"appliedOffset\":0,"
        "\"currentVoters\":[{\"voterId\":1},{\"voterId\":2}],\"data_version\":0}",
        "3wal-3-1.torc",
        "3topic-with-dashes-12",
        "300000000000000000042.timeindex",
        "34Sr2Vl2nRkGJrKlFCxSPXw",
    };
    if (n >= sizeof(texts) / sizeof(texts[0]))
        return 0;
    size_t size = strlen(texts[n]);
    memcpy(to, texts[n], size);
    to[0] = (uint8_t)(to[0] - '0');
    return size;
}
