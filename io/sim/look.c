/* What a simulated world looks like at this moment, as lines: for who reads of a run that failed.
 *
 *   10.0.0.1: up, boot 3, 2 volumes failing
 *     core 1: in io_rename, 3 ops
 *       write wal-1-0.torc 4096+8192, due in 113 us
 *     12.300113: core 1 sync topic-0-3/00000000000000000000.log: 0        the last SIM_PAST of them
 *
 * Changes nothing and draws nothing: a run that is looked at goes on as it would have. */
#include "io/sim/sim_priv.h"

#include <stdio.h>

#define LINE_MAX 256u
#define OPS_MAX  8u /* of a core, as lines; the others are only counted */

struct looker {
    struct sim *sim;
    void (*line)(void *context, const char *text);
    void *context;
};

void sim_past_add(struct sim_op *o, const char *what)
{
    struct sim_machine *m = o->io->machine;
    assert(o->inode != NULL);
    m->past[m->past_count++ % SIM_PAST] = (struct sim_past){.at_ns = m->sim->now_ns,
                                                            .inode = o->inode->id,
                                                            .offset = o->offset,
                                                            .size = o->size,
                                                            .what = what,
                                                            .result = o->result,
                                                            .core = o->io->id};
}

/* Its name now, and the folder that has it; NULL: it has none. */
static const char *inode_text(const struct disk *d, uint64_t id, uint64_t *folder_id)
{
    LIST_EACH(it, &d->inodes)
    {
        const struct inode *folder = container_of(it, struct inode, link);
        for (uint32_t i = 0; i < folder->now.count; i++) {
            *folder_id = folder->id;
            if (folder->now.list[i].inode->id == id)
                return folder->now.list[i].text;
        }
    }
    return NULL;
}

static void inode_name(const struct disk *d, uint64_t id, char *to, size_t size)
{
    uint64_t above = 0, root = 0;
    const char *name = inode_text(d, id, &above);
    const char *folder = name != NULL ? inode_text(d, above, &root) : NULL;
    if (name == NULL)
        (void)snprintf(to, size, "#%llu", (unsigned long long)id);
    else
        (void)snprintf(to, size, "%s%s%s", folder != NULL ? folder : "", "/", name);
}

static void op_look(const struct looker *l, const struct sim_op *o)
{
    static const char *const kinds[] = {"accept", "recv",  "send",   "connect", "transfer",
                                        "sync",   "punch", "remove", "ready",   "signal"};
    char text[LINE_MAX], name[128] = "";
    if (o->inode != NULL)
        inode_name(&o->io->machine->disk, o->inode->id, name, sizeof(name));
    bool due = o->event.place != 0;
    (void)snprintf(text, sizeof(text), "    %s %s %llu+%llu, %s %llu us", kinds[o->kind], name,
                   (unsigned long long)o->offset, (unsigned long long)o->size,
                   due ? "due in" : "done, not polled; result",
                   due ? (unsigned long long)((o->event.at_ns - l->sim->now_ns) / NS_PER_US)
                       : (unsigned long long)(uint32_t)o->result);
    l->line(l->context, text);
}

static void core_look(const struct looker *l, const struct sim_core *c)
{
    char text[LINE_MAX];
    const char *does = !c->fiber.alive ? "has returned"
                       : c->calling    ? c->call
                       : c->sleeping   ? "waits in io_poll"
                                       : "is to run";
    uint32_t count = 0, files = 0;
    if (c->io != NULL) {
        LIST_EACH(it, &c->io->ops)
        {
            const struct sim_op *o = container_of(it, struct sim_op, link);
            count++;
            files += sim_op_of_file(o);
        }
    }
    (void)snprintf(text, sizeof(text), "  core %u: %s%s, %u ops, %u of files", c->id.index, does,
                   c->stalled_until > l->sim->now_ns ? " (stalled)" : "", count, files);
    l->line(l->context, text);
    uint32_t shown = 0;
    if (c->io == NULL)
        return;
    LIST_EACH(it, &c->io->ops)
    {
        const struct sim_op *o = container_of(it, struct sim_op, link);
        if (sim_op_of_file(o) && shown++ < OPS_MAX)
            op_look(l, o);
    }
}

static void past_look(const struct looker *l, const struct sim_machine *m)
{
    char text[LINE_MAX], name[128];
    uint64_t first = m->past_count > SIM_PAST ? m->past_count - SIM_PAST : 0;
    for (uint64_t i = first; i < m->past_count; i++) {
        const struct sim_past *p = &m->past[i % SIM_PAST];
        double at = (double)p->at_ns / (double)NS_PER_S;
        if (p->inode == 0) {
            (void)snprintf(text, sizeof(text), "  [%9.6f] core %u %s", at, p->core.index, p->what);
        } else {
            inode_name(&m->disk, p->inode, name, sizeof(name));
            (void)snprintf(text, sizeof(text), "  [%9.6f] core %u %s %s %llu+%llu: %d", at,
                           p->core.index, p->what, name, (unsigned long long)p->offset,
                           (unsigned long long)p->size, p->result);
        }
        l->line(l->context, text);
    }
}

void sim_look(struct sim *s, void (*line)(void *context, const char *text), void *context)
{
    struct looker l = {.sim = s, .line = line, .context = context};
    char text[LINE_MAX];
    LIST_EACH(it, &s->machines)
    {
        const struct sim_machine *m = container_of(it, struct sim_machine, link);
        (void)snprintf(text, sizeof(text),
                       "%s at %.6f s: %s, boot %u, %u descriptors, disk x%u%s%s%s", m->host,
                       (double)s->now_ns / (double)NS_PER_S, m->up ? "up" : "down", m->boots,
                       m->fds_open, m->slow_factor, m->fault.times > 0 ? ", failing" : "",
                       m->frozen_until > s->now_ns ? ", frozen" : "",
                       m->net_stalled_until > s->now_ns ? ", network stalled" : "");
        line(context, text);
        for (uint32_t i = 0; m->up && i < m->cores_count; i++)
            core_look(&l, &m->cores[i]);
        past_look(&l, m);
    }
}
