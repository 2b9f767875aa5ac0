/* The command line without a broker behind it: says what the broker would have been started with.
 */
#include "broker/cli.h"

#include <stdio.h>

static int run_broker(const struct config *config)
{
    char line[256];
    int size = snprintf(line, sizeof(line), "broker: node %d, port %u, data in %s\n",
                        config->broker.node_id, config->broker.listeners[0].port,
                        config->broker.log_dirs[0]);
    io_print(1, line, (size_t)size);
    return 0;
}

int main(int argc, char **argv)
{
    return cli_main(argc, argv, run_broker);
}
