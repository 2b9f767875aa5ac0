/* The checks of a group.
 *
 *   generation   never below one whose assignment was answered: that is on the device
 *   owner        one client per partition and generation
 *   commit       not from a generation before one that was synced when it was sent
 *   offset       what is fetched is at least what was acknowledged or fetched before, and was sent
 *   holder       of clients that are members for certain, one holds a partition at one time
 *
 * Owners begin where they find the partition and only go up, so offsets never go back. Clients are
 * counted, not member ids: one that comes back may have two ids, and hears of one only. */
#include "tests/sim/group.h"

#include <stdio.h>

#include "core/assert.h"

void group_model_init(struct group_model *g, uint32_t number, uint32_t cells_count)
{
    assert(cells_count <= GROUP_CELLS);
    *g = (struct group_model){.cells_count = cells_count, .synced = -1};
    (void)snprintf(g->id, sizeof(g->id), "group-%u", number);
    for (uint32_t i = 0; i < GROUP_GENERATIONS; i++)
        g->generations[i].number = -1;
    for (uint32_t i = 0; i < cells_count; i++)
        g->cells[i] = (struct group_cell){.known = -1, .sent = -1, .taker = NOBODY};
}

bool group_joined(struct group_model *g, int32_t floor, int32_t generation,
                  char text[GROUP_TEXT_MAX])
{
    g->joins++;
    if (generation >= floor && generation > 0)
        return true;
    (void)snprintf(text, GROUP_TEXT_MAX, "%s: joined generation %d, after %d was synced", g->id,
                   generation, floor);
    return false;
}

static struct group_generation *group_at(struct group_model *g, int32_t generation)
{
    struct group_generation *at = &g->generations[(uint32_t)generation % GROUP_GENERATIONS];
    if (at->number == generation)
        return at;
    at->number = generation;
    for (uint32_t i = 0; i < GROUP_CELLS; i++)
        at->owner[i] = NOBODY;
    return at;
}

bool group_synced(struct group_model *g, uint32_t client, int32_t generation, uint64_t cells,
                  char text[GROUP_TEXT_MAX])
{
    struct group_generation *at = group_at(g, generation);
    g->syncs++;
    for (uint32_t i = 0; i < g->cells_count; i++) {
        if ((cells >> i & 1) == 0)
            continue;
        if (at->owner[i] != NOBODY && at->owner[i] != client) {
            (void)snprintf(text, GROUP_TEXT_MAX,
                           "%s: clients %u and %u both own cell %u in generation %d", g->id,
                           at->owner[i], client, i, generation);
            return false;
        }
        at->owner[i] = client;
    }
    g->synced = MAX(g->synced, generation);
    return true;
}

void group_commit_sent(struct group_model *g, uint32_t cell, int64_t offset)
{
    assert(cell < g->cells_count && offset >= 0);
    g->cells[cell].sent = MAX(g->cells[cell].sent, offset);
}

bool group_committed(struct group_model *g, uint32_t cell, int64_t offset, int32_t generation,
                     int32_t floor, char text[GROUP_TEXT_MAX])
{
    struct group_cell *at = &g->cells[cell];
    g->commits++;
    if (generation >= floor) {
        at->known = MAX(at->known, offset);
        return true;
    }
    (void)snprintf(text, GROUP_TEXT_MAX,
                   "%s: a commit of generation %d was accepted after %d was synced", g->id,
                   generation, floor);
    return false;
}

int64_t group_floor(const struct group_model *g, uint32_t cell)
{
    assert(cell < g->cells_count);
    return g->cells[cell].known;
}

bool group_fetched(struct group_model *g, uint32_t cell, int64_t floor, int64_t offset,
                   char text[GROUP_TEXT_MAX])
{
    struct group_cell *at = &g->cells[cell];
    g->fetches++;
    if (offset >= floor && offset <= at->sent) {
        at->known = MAX(at->known, offset);
        return true;
    }
    (void)snprintf(text, GROUP_TEXT_MAX, "%s: cell %u is at %lld; %lld was known, %lld was sent",
                   g->id, cell, (long long)offset, (long long)floor, (long long)at->sent);
    return false;
}

bool group_holds(struct group_model *g, uint32_t client, uint64_t cells, uint64_t now_ns,
                 uint64_t until_ns, char text[GROUP_TEXT_MAX])
{
    struct group_holder *own = &g->holders[client];
    assert(client < GROUP_CLIENTS && cells >> g->cells_count == 0);
    own->until_ns = MAX(own->until_ns, until_ns);
    bool certain = own->until_ns > now_ns;
    for (uint32_t c = 0; c < g->cells_count; c++) {
        bool had = (own->cells >> c & 1) != 0;
        if ((cells >> c & 1) == 0)
            continue;
        if (!had || (certain && g->cells[c].taker != client))
            own->stamps[c] = ++g->stamp;
        for (uint32_t i = 0; certain && i < GROUP_CLIENTS; i++) {
            const struct group_holder *other = &g->holders[i];
            if (i == client || other->until_ns <= now_ns || (other->cells >> c & 1) == 0)
                continue;
            (void)snprintf(text, GROUP_TEXT_MAX, "%s: clients %u and %u both hold cell %u", g->id,
                           i, client, c);
            return false;
        }
        if (certain) {
            g->cells[c].taker = client;
            g->cells[c].taken = own->stamps[c];
        }
    }
    own->cells = cells;
    return true;
}

void group_gives_up(struct group_model *g, uint32_t client, uint64_t cells)
{
    assert(client < GROUP_CLIENTS);
    g->holders[client].cells &= ~cells;
}

void group_doubts(struct group_model *g, uint32_t client)
{
    assert(client < GROUP_CLIENTS);
    g->holders[client].until_ns = 0;
}

bool group_taken_since(const struct group_model *g, uint32_t client, uint32_t cell, uint64_t stamp)
{
    assert(client < GROUP_CLIENTS && cell < g->cells_count);
    return g->cells[cell].taker != NOBODY && g->cells[cell].taker != client &&
           g->cells[cell].taken > stamp;
}
