/* Directories: formatting them, and whose they are. */
#include "tests/broker/quorum_rig.h"

#include "broker/quorum/quorum_state.h"

#include <errno.h>

#include <stdio.h>
#include <string.h>

static int open_dirs(struct quorum_rig *q)
{
    return format_open(q->io.io, &q->mem, &q->config, &q->identity, q->why, sizeof(q->why));
}

static void write_file(struct quorum_rig *q, const char *name, const char *text)
{
    cr_assert_eq(io_replace(q->io.io, quorum_path(q, name), text, strlen(text)), 0);
}

static void remove_file(struct quorum_rig *q, const char *name)
{
    cr_assert_eq(io_unlink(q->io.io, quorum_path(q, name)), 0);
}

static uint64_t size_of(struct quorum_rig *q, const char *name)
{
    struct io_stat stat;
    return io_stat(q->io.io, quorum_path(q, name), &stat) == 0 ? stat.size : UINT64_MAX;
}

Test(quorum_format, empty_directories_become_one_new_cluster)
{
    struct quorum_rig q;
    struct node_identity first;
    quorum_begin(&q, "a,b", "");
    cr_assert_eq(open_dirs(&q), 0, "%s", q.why);
    cr_assert(q.identity.formatted_now);
    cr_assert_eq(strlen(q.identity.cluster_id), 22);
    cr_assert_neq(q.identity.cluster_id[0], '-');
    cr_assert(!uuid_equal(q.identity.dir_ids[0], q.identity.dir_ids[1]));
    cr_assert_neq(size_of(&q, "a/meta.properties"), UINT64_MAX);
    cr_assert_neq(size_of(&q, "b/bootstrap.checkpoint"), UINT64_MAX);
    /* The first voter is in the metadata directory only. */
    const char *voter = "a/__cluster_metadata-0/00000000000000000000-0000000000.checkpoint";
    cr_assert_neq(size_of(&q, voter), UINT64_MAX);
    cr_assert_eq(size_of(&q, "b/__cluster_metadata-0"), UINT64_MAX);
    first = q.identity;
    cr_assert_eq(open_dirs(&q), 0, "%s", q.why);
    cr_assert(!q.identity.formatted_now);
    cr_assert_str_eq(q.identity.cluster_id, first.cluster_id);
    cr_assert(memcmp(q.identity.dir_ids, first.dir_ids, sizeof(first.dir_ids)) == 0);
    quorum_end(&q);
}

Test(quorum_format, with_voters_in_the_configuration_none_are_put_into_the_log)
{
    struct quorum_rig q;
    quorum_begin(&q, "a", "controller.quorum.voters=1@127.0.0.1:9093\n");
    cr_assert_eq(open_dirs(&q), 0, "%s", q.why);
    cr_assert_eq(size_of(&q, "a/__cluster_metadata-0/00000000000000000000-0000000000.checkpoint"),
                 UINT64_MAX);
    cr_assert(quorum_start(&q), "%s", q.why);
    quorum_stop(&q);
    char *text;
    size_t size;
    cr_assert_eq(io_slurp(q.io.io, &q.mem, quorum_path(&q, "a/__cluster_metadata-0/quorum-state"),
                          1000, &text, &size),
                 0);
    cr_assert_str_eq(text, "{\"clusterId\":\"\",\"leaderId\":1,\"leaderEpoch\":1,\"votedId\":-1,"
                           "\"appliedOffset\":0,\"currentVoters\":[{\"voterId\":1}],"
                           "\"data_version\":0}");
    mem_free(&q.mem, text, size + 1);
    quorum_end(&q);
}

Test(quorum_format, a_new_directory_beside_others_joins_their_cluster)
{
    struct quorum_rig q;
    quorum_begin(&q, "a,b", "");
    cr_assert_eq(open_dirs(&q), 0, "%s", q.why);
    struct node_identity before = q.identity;
    remove_file(&q, "b/meta.properties");
    remove_file(&q, "b/bootstrap.checkpoint");
    cr_assert_eq(open_dirs(&q), 0, "%s", q.why);
    cr_assert_str_eq(q.identity.cluster_id, before.cluster_id);
    cr_assert(uuid_equal(q.identity.dir_ids[0], before.dir_ids[0]));
    cr_assert(!uuid_equal(q.identity.dir_ids[1], before.dir_ids[1]));
    quorum_end(&q);
}

Test(quorum_format, a_cluster_id_that_properties_escape_is_the_same_beside_others)
{
    struct quorum_rig q;
    static const char own[] = "version=1\ncluster.id=a\\\\b \\u00e9\\ud83d\\ude00\nnode.id=1\n"
                              "directory.id=4Sr2Vl2nRkGJrKlFCxSPXw\n";
    quorum_begin(&q, "a,b", "");
    cr_assert_eq(open_dirs(&q), 0, "%s", q.why);
    write_file(&q, "a/meta.properties", own);
    remove_file(&q, "b/meta.properties");
    remove_file(&q, "b/bootstrap.checkpoint");
    cr_assert_eq(open_dirs(&q), 0, "%s", q.why); /* b gets one of its own */
    cr_assert_eq(open_dirs(&q), 0, "%s", q.why); /* and it is of the same cluster */
    cr_assert_str_eq(q.identity.cluster_id, "a\\b \xc3\xa9\xf0\x9f\x98\x80");
    quorum_end(&q);
}

Test(quorum_format, metadata_is_not_begun_anew_beside_data)
{
    struct quorum_rig q;
    quorum_begin(&q, "a,b", "");
    cr_assert_eq(open_dirs(&q), 0, "%s", q.why);
    remove_file(&q, "a/meta.properties");
    cr_assert_eq(open_dirs(&q), -EINVAL);
    cr_assert(strstr(q.why, "mounted") != NULL, "%s", q.why);
    cr_assert_eq(size_of(&q, "a/meta.properties"), UINT64_MAX);
    quorum_end(&q);
}

Test(quorum_format, a_directory_that_cannot_be_read_is_left_alone)
{
    struct quorum_rig q;
    quorum_begin(&q, "a,b", "");
    cr_assert_eq(open_dirs(&q), 0, "%s", q.why);
    struct node_identity before = q.identity;
    write_file(&q, "b/meta.properties", "version=1\n");
    cr_assert_eq(format_look(q.io.io, &q.mem, q.config.broker.log_dirs[0], q.why, sizeof(q.why)),
                 0);
    cr_assert_eq(format_look(q.io.io, &q.mem, q.config.broker.log_dirs[1], q.why, sizeof(q.why)),
                 -EBADMSG);
    q.identity.dirs_failed = 1u << 1;
    cr_assert_eq(open_dirs(&q), 0, "%s", q.why);
    cr_assert(uuid_equal(q.identity.dir_ids[0], before.dir_ids[0]));
    cr_assert(uuid_is_zero(q.identity.dir_ids[1]));
    cr_assert_eq(size_of(&q, "b/meta.properties"), strlen("version=1\n"));
    quorum_end(&q);
}

Test(quorum_format, no_cluster_is_begun_beside_a_directory_that_cannot_be_read)
{
    struct quorum_rig q;
    quorum_begin(&q, "a,b", "");
    q.identity.dirs_failed = 1u << 1;
    cr_assert_eq(open_dirs(&q), -EINVAL);
    cr_assert_eq(size_of(&q, "a/meta.properties"), UINT64_MAX);
    quorum_end(&q);
}

Test(quorum_format, a_directory_with_files_but_no_owner_is_refused)
{
    struct quorum_rig q;
    quorum_begin(&q, "", "");
    write_file(&q, "precious.txt", "do not format me");
    cr_assert_eq(open_dirs(&q), -ENOTEMPTY);
    cr_assert(strstr(q.why, "no meta.properties") != NULL, "%s", q.why);
    cr_assert_eq(size_of(&q, "meta.properties"), UINT64_MAX);
    remove_file(&q, "precious.txt");
    quorum_end(&q);
}

Test(quorum_format, what_is_someone_elses_is_refused)
{
    static const struct {
        const char *a, *b, *says;
    } cases[] = {
        {"version=1\ncluster.id=x\nnode.id=2\n", NULL, "belongs to node 2"},
        {"version=0\ncluster.id=x\nbroker.id=1\n", NULL, "version is 0"},
        {"version=1\nnode.id=1\n", NULL, "no cluster.id"},
        {"version=1\ncluster.id=x\n", NULL, "no node.id"},
        {"cluster.id=x\nnode.id=1\n", NULL, "no version"},
        {"version=1\ncluster.id=x\nnode.id=1\ndirectory.id=short\n", NULL, "directory.id"},
        {"version=1\ncluster.id=x\nnode.id=1\n", "version=1\ncluster.id=y\nnode.id=1\n",
         "to cluster"},
        {"version=1\ncluster.id=x\nnode.id=1\ndirectory.id=3RgrT9NaObf14EO5Mr3hYA\n",
         "version=1\ncluster.id=x\nnode.id=1\ndirectory.id=3RgrT9NaObf14EO5Mr3hYA\n",
         "same directory.id"},
    };
    struct quorum_rig q;
    quorum_begin(&q, "a,b", "");
    cr_assert_eq(io_mkdir(q.io.io, quorum_path(&q, "a")), 0);
    cr_assert_eq(io_mkdir(q.io.io, quorum_path(&q, "b")), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_file(&q, "a/meta.properties", cases[i].a);
        if (cases[i].b != NULL)
            write_file(&q, "b/meta.properties", cases[i].b);
        cr_assert_lt(open_dirs(&q), 0, "%zu", i);
        cr_assert(strstr(q.why, cases[i].says) != NULL, "%zu: %s", i, q.why);
    }
    quorum_end(&q);
}

Test(quorum_format, a_directory_of_before_directory_ids_gets_one)
{
    struct quorum_rig q;
    quorum_begin(&q, "", "");
    write_file(&q, "meta.properties",
               "#\n#Sat Nov 21 13:28:13 UTC 2026\nnode.id=1\nversion=1\ncluster.id=abc\n");
    cr_assert_eq(open_dirs(&q), 0, "%s", q.why);
    cr_assert_str_eq(q.identity.cluster_id, "abc");
    struct uuid id = q.identity.dir_ids[0];
    cr_assert(!uuid_is_zero(id));
    cr_assert_eq(open_dirs(&q), 0, "%s", q.why);
    cr_assert(uuid_equal(id, q.identity.dir_ids[0]));
    quorum_end(&q);
}

Test(quorum_format, formatting_by_hand_takes_an_id_and_feature_levels_and_is_done_once)
{
    struct quorum_rig q;
    static const struct format_feature features[] = {{"group.version", 0},
                                                     {"transaction.version", 1}};
    struct format_options options = {.cluster_id = "my-cluster",
                                     .metadata_level = 29,
                                     .features = features,
                                     .features_count = 2};
    quorum_begin(&q, "", "");
    cr_assert_eq(
        format_node(q.io.io, &q.mem, &q.config, &options, &q.identity, q.why, sizeof(q.why)), 0,
        "%s", q.why);
    cr_assert_eq(
        format_node(q.io.io, &q.mem, &q.config, &options, &q.identity, q.why, sizeof(q.why)),
        -EEXIST);
    options.ignore_formatted = true;
    cr_assert_eq(
        format_node(q.io.io, &q.mem, &q.config, &options, &q.identity, q.why, sizeof(q.why)), 0);
    options.cluster_id = "other";
    cr_assert_eq(
        format_node(q.io.io, &q.mem, &q.config, &options, &q.identity, q.why, sizeof(q.why)),
        -EINVAL);
    cr_assert(quorum_start(&q), "%s", q.why);
    cr_assert_str_eq(control_cluster_id(q.control), "my-cluster");
    cr_assert_eq(image_feature(&q.images[0], "metadata.version"), 29);
    cr_assert_eq(image_feature(&q.images[0], "group.version"), 0);
    cr_assert_eq(image_feature(&q.images[0], "transaction.version"), 1);
    cr_assert_eq(image_feature(&q.images[0], "share.version"), 1);
    quorum_end(&q);
}

Test(quorum_format, quorum_state_reads_what_it_and_kafka_print)
{
    static const char *const texts[] = {
        "{\"clusterId\":\"\",\"leaderId\":1,\"leaderEpoch\":7,\"votedId\":-1,\"appliedOffset\":0,"
        "\"currentVoters\":[{\"voterId\":1},{\"voterId\":22}],\"data_version\":0}",
        "{\"leaderId\":1,\"leaderEpoch\":7,\"votedId\":3,\"votedDirectoryId\":"
        "\"3RgrT9NaObf14EO5Mr3hYA\",\"data_version\":1}",
    };
    for (int i = 0; i < 2; i++) {
        struct quorum_state s;
        char text[QUORUM_STATE_TEXT_MAX];
        cr_assert_eq(quorum_state_parse(&s, texts[i], strlen(texts[i])), 0);
        cr_assert(s.version == i && s.leader_id == 1 && s.leader_epoch == 7);
        size_t size = quorum_state_print(&s, text, sizeof(text));
        cr_assert_eq(size, strlen(texts[i]));
        cr_assert(memcmp(text, texts[i], size) == 0, "%.*s", (int)size, text);
    }
}

Test(quorum_format, a_quorum_state_that_hides_its_epoch_is_refused)
{
    static const struct {
        const char *text;
        int result;
    } cases[] = {
        {"", -EBADMSG},
        {"{}", -EBADMSG},
        {"{\"leaderId\":1,\"data_version\":1}", -EBADMSG},
        {"{\"leaderId\":1,\"leaderEpoch\":-4,\"data_version\":1}", -EBADMSG},
        {"{\"leaderId\":1,\"leaderEpoch\":99999999999,\"data_version\":1}", -EBADMSG},
        {"{\"leaderId\":1,\"leaderEpoch\":\"7\",\"data_version\":1}", -EBADMSG},
        {"{\"leaderId\":1,\"leaderEpoch\":7,\"data_version\":2}", -ENOTSUP},
        {"{\"leaderId\":1,\"leaderEpoch\":7,\"votedDirectoryId\":\"x\",\"data_version\":1}",
         -EBADMSG},
        {"{\"leaderEpoch\" : 7 , \"data_version\" : 1}", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct quorum_state s;
        cr_assert_eq(quorum_state_parse(&s, cases[i].text, strlen(cases[i].text)), cases[i].result,
                     "%s", cases[i].text);
    }
}

Test(quorum_format, a_newer_epoch_in_quorum_state_is_never_used_again)
{
    struct quorum_rig q;
    quorum_begin(&q, "", "");
    cr_assert(quorum_start(&q), "%s", q.why);
    quorum_stop(&q);
    write_file(&q, "__cluster_metadata-0/quorum-state",
               "{\"leaderId\":-1,\"leaderEpoch\":40,\"votedId\":1,\"data_version\":1}");
    cr_assert(quorum_start(&q), "%s", q.why);
    cr_assert_eq(control_leader_epoch(q.control), 41);
    quorum_end(&q);
}

Test(quorum_format, a_log_whose_voter_is_another_node_is_refused)
{
    struct quorum_rig q;
    quorum_begin(&q, "", "");
    cr_assert(quorum_start(&q), "%s", q.why);
    quorum_stop(&q);
    char meta[256];
    snprintf(meta, sizeof(meta), "version=1\ncluster.id=%s\nnode.id=2\n", q.identity.cluster_id);
    write_file(&q, "meta.properties", meta);
    q.config.broker.node_id = 2;
    uint64_t size = size_of(&q, "__cluster_metadata-0/00000000000000000000.log");
    cr_assert(!quorum_start(&q));
    cr_assert(strstr(q.why, "voters") != NULL, "%s", q.why);
    cr_assert_eq(size_of(&q, "__cluster_metadata-0/00000000000000000000.log"), size);
    quorum_end(&q);
}
