/* Any bytes as a server.properties: it is taken, or refused with reasons; values of what is taken
 * are within the bounds of their keys, and nothing is left behind. */
#include "tests/fuzz/fuzz.h"

#include <errno.h>

#include "broker/config/config.h"

#define BUDGET (64u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem mem;
    static struct config c;
    int error = mem.budget_bytes == 0 ? mem_init(&mem, BUDGET) : 0;
    assert(error == 0);
    if (size > FUZZ_INPUT_MAX)
        return 0;
    error = config_parse(&c, &mem, "server.properties", (const char *)data, size, NULL, 0);
    assert(c.problems_count <= CONFIG_PROBLEMS_MAX);
    assert((error == -EINVAL) == (c.errors_count > 0));
    if (error == 0) {
        assert(c.broker.log_dirs_count > 0 && c.broker.log_dirs_count <= LOG_DIRS_MAX);
        assert(c.broker.num_partitions > 0);
        assert(config_data_cores(&c.broker, 4) > 0);
        assert(config_memory(&c.broker, 1ull << 32) > 0);
    }
    config_destroy(&c);
    assert(mem.used_bytes == 0);
    return 0;
}

size_t fuzz_seed(uint32_t n, uint8_t *to)
{
    static const char *const texts[] = {
        "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://127.0.0.1:9092,"
        "CONTROLLER://:9093\ncontroller.listener.names=CONTROLLER\n"
        "controller.quorum.voters=1@localhost:9093\nlog.dirs=/a,/b\nnum.partitions=3\n"
        "log.retention.hours=168\nlog.segment.bytes=1073741824\ntorc.memory=256m\n"
        "max.connections.per.ip.overrides=127.0.0.1:5,10.0.0.1:7\nlog.cleanup.policy=compact,delete"
        "\ncompression.type=zstd\ngroup.consumer.assignors=uniform,range\n"
        "log4j.logger.kafka=INFO\nadvertised.listeners=PLAINTEXT://h:1\n"
        "log.message.timestamp.type=LogAppendTime\nmessage.max.bytes=1048588\n",
        "node.id=1\nlisteners=PLAINTEXT://0.0.0.0:9092,SSL://h:1\nlistener.security.protocol.map="
        "PLAINTEXT:PLAINTEXT,SSL:SSL\ninter.broker.listener.name=PLAINTEXT\nbogus=1\n"
        "log.roll.ms=-1\nlog.cleaner.dedupe.buffer.size=134217728\nssl.keystore.location=/k\n",
    };
    if (n >= sizeof(texts) / sizeof(texts[0]))
        return 0;
    memcpy(to, texts[n], strlen(texts[n]));
    return strlen(texts[n]);
}
