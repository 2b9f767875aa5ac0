/* Batches of a file, one after the other, however large the file is. Same-folder use. */
#ifndef BROKER_CLI_BATCHES_H
#define BROKER_CLI_BATCHES_H

#include "broker/cli/command.h"
#include "proto/batch.h"
#include "proto/record.h"

#define BATCHES_SIZE_MAX (256u << 20) /* of one batch: more is taken for damage */

struct batches {
    struct io *io;
    struct mem *mem;
    int fd;
    uint64_t size, offset; /* of the file; of data[0] in it */
    uint8_t *data;
    uint32_t room, used, at;
    const char *wrong; /* why it ended before the end of the file; NULL: it did not */
};

/* 0 or -errno. */
NODISCARD int batches_open(struct batches *b, struct cli *c, const char *path);
void batches_close(struct batches *b);
/* The next whole batch and where it is in the file. false: the end, or b->wrong at batches_at. */
NODISCARD bool batches_next(struct batches *b, const uint8_t **batch, struct batch_header *h,
                            uint64_t *position);
/* Where the first byte stands that is not in a batch given so far. */
uint64_t batches_at(const struct batches *b);

/* The line, or the JSON object, of one batch. */
void batches_show(struct cli *c, const struct batch_header *h, uint64_t position, bool valid);
/* What went wrong with the file as a whole, said once; EXIT_OK or EXIT_FAILED. */
int batches_verdict(struct cli *c, const char *path, const struct batches *b, uint64_t invalid);

/* Files of a directory whose names end so, sorted; count of them, or -errno. Names are copied into
 * the command's memory. */
#define FILES_MAX 4096
struct files {
    const char *paths[FILES_MAX];
    uint32_t count;
};
NODISCARD int files_find(struct cli *c, const char *path, const char *const *suffixes,
                         struct files *found);

#endif
