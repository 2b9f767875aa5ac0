/* Removing: folders of deleted topics, and what waits for a DeleteRecords that cannot be. */
#include "broker/log/retention.h"

void retention_remove_folder(struct log *l)
{
    (void)l;
}

void retention_tick(struct log_core *c)
{
    (void)c;
}

void retention_forget(struct log_core *c)
{
    (void)c;
}

void delete_refuse(struct log_delete_records *d, enum kafka_error error)
{
    d->error = error;
    list_push_back(&d->log->core->deletes_completed, &d->link);
}
