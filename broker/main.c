/* torc: one binary. Commands, options and help are broker/cli; the broker is broker/node. */
#include "broker/cli.h"
#include "broker/node.h"

int main(int argc, char **argv)
{
    return cli_main(argc, argv, node_run);
}
