/* How many loads a question of `torc bench` takes, and what is shown of them.
 *
 *   alone             one load: its whole table
 *   --repeat N        the same N times: a row each
 *   --sweep KEY=A,B   a load per value: a row each; --html shows the knee. Said twice: each value
 * of one with each of the other
 *   --slo p99.9<2ms   doubles the rate until the goal is missed, then halves the gap: the highest
 *                     rate that keeps it
 *   --versus B        A B A B ...: ratios with their confidence interval
 *   --floor DIR       first, what the machine does without a broker
 *
 * Invariant: loads of one question differ in what the question says and in nothing else.
 * Failure modes: a load that fails ends the question; what was measured before is shown. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/cli/bench_page.h"
#include "broker/cli/bench_suite.h"

#define SWEEP_MAX     64u /* values of an axis */
#define AXES_MAX      4u
#define WORDS_LIMIT   (1ull << 20)
#define DOUBLINGS_MAX 24u
#define HALVINGS      5u
#define REPEATS       3u
#define TOPIC_ROOM    256

struct question {
    struct asked *asked;
    struct cli *cli;
    struct bench_series series;
    struct provenance provenance, versus; /* of the other broker, if there is one */
    struct floor *floor;                  /* NULL: not asked for */
    struct text out;
    struct arena words; /* what a sweep says, as long as there are results of it */
};

/* stdout gets what is there, at once: a series takes its time. */
static void show(struct question *q)
{
    for (size_t at = 0; at < q->out.size; at += 2048) /* cli_print has room for a line */
        cli_print(q->cli, "%.2048s", q->out.data + at);
    cli_flush(q->cli);
    text_free(&q->out);
}

static int complain_wrong(struct question *q, const struct bench_result *r)
{
    if (bench_result_sound(r))
        return EXIT_OK;
    report_wrong(&q->out, r);
    cli_complain(q->cli, "%s", q->out.data == NULL ? "not sound" : q->out.data);
    text_free(&q->out);
    return EXIT_FAILED;
}

/* One load, and its row if there are to be rows. NULL: it failed, and has been complained about. */
static struct bench_point *load(struct question *q, const struct bench_options *o,
                                const char *label, bool other, bool row)
{
    bool good;
    struct bench_point *p = series_run(&q->series, q->cli->io, o, label, other, &good);
    if (!good) {
        cli_complain(q->cli, "%s", p == NULL ? "no memory for another load" : p->result.why);
        if (p != NULL)
            q->series.count--;
        return NULL;
    }
    if (row) {
        series_row(&q->out, p);
        show(q);
    }
    return p;
}

/* ---- files ----------------------------------------------------------------------------------- */

static void json_ratios(struct text *t, const struct bench_series *s)
{
    text_json_open(t, "ratios", '{');
    for (uint32_t m = 0; m < METRICS; m++) {
        struct series_ratio r;
        if (!series_compare(s, (enum series_metric)m, &r))
            continue;
        text_json_open(t, series_metric_names[m], '[');
        text_json_number(t, NULL, r.mean);
        text_json_number(t, NULL, r.low);
        text_json_number(t, NULL, r.high);
        text_json_close(t, ']');
    }
    text_json_close(t, '}');
}

static void json_all(struct text *t, const struct question *q)
{
    const struct bench_series *s = &q->series;
    text_json_open(t, NULL, '{');
    text_json_string(t, "command", q->cli->command->name);
    text_json_string(t, "version", q->provenance.version);
    report_json_provenance(t, "provenance", &q->provenance);
    if (q->versus.commit != NULL)
        report_json_provenance(t, "provenance_versus", &q->versus);
    if (q->floor != NULL)
        floor_json(t, "floor", q->floor);
    if (s->count > 0) {
        text_json_string(t, "label", s->points[0]->label);
        report_json_result(t, "result", &s->points[0]->result);
    }
    text_json_open(t, "series", '[');
    for (uint32_t i = 1; i < s->count; i++) {
        text_json_open(t, NULL, '{');
        text_json_string(t, "label", s->points[i]->label);
        report_json_result(t, "result", &s->points[i]->result);
        text_json_close(t, '}');
    }
    text_json_close(t, ']');
    if (s->count > 1 && s->points[1]->other) {
        json_ratios(t, s);
        text_json_number(t, "threshold", s->threshold);
    }
    text_json_close(t, '}');
    text_put(t, "\n", 1);
}

/* The page is made of the same JSON, whether that was asked for or not. */
static bool write_json(struct question *q, const char *file, const char *page)
{
    struct text t;
    text_init(&t, &q->cli->mem);
    json_all(&t, q);
    bool good = file == NULL || bench_file_write(q->cli, file, &t);
    good = good && (page == NULL || bench_page_write(q->cli, page, &t));
    text_free(&t);
    return good;
}

static bool write_hdr(struct question *q)
{
    struct text t;
    text_init(&t, &q->cli->mem);
    series_hdr(&t, &q->series, &q->provenance);
    bool good = bench_file_write(q->cli, cli_value(q->cli, "hdr"), &t);
    text_free(&t);
    return good;
}

/* ---- questions ------------------------------------------------------------------------------- */

/* The topic's backlog, for those who are to catch up: as fast as it goes, before the load. */
static bool fill(struct question *q, struct bench_options *main)
{
    struct bench_options o = *main;
    struct bench_series backlog; /* it is no result */
    bool good;
    series_init(&backlog, &q->cli->mem);
    o.kind = BENCH_PRODUCE;
    o.rate = 0;
    o.limit = o.backlog;
    o.codec = CODEC_NONE;
    o.delete_after = false;
    main->delete_before = false;
    struct bench_point *p = series_run(&backlog, q->cli->io, &o, "backlog", false, &good);
    good = good && bench_result_sound(&p->result);
    if (!good)
        cli_complain(q->cli, "the backlog cannot be produced: %s", p == NULL ? "" : p->result.why);
    series_free(&backlog);
    return good;
}

static int ask_once(struct question *q)
{
    struct bench_options o = q->asked->o;
    if (o.kind == BENCH_CATCH_UP && !fill(q, &o))
        return EXIT_FAILED;
    struct bench_point *p = load(q, &o, o.brokers, false, false);
    if (p == NULL)
        return EXIT_FAILED;
    report_head(&q->out, &p->result);
    report_table(&q->out, &p->result);
    if (asked_has(q->asked, "plot"))
        report_plot(&q->out, &p->result);
    show(q);
    return complain_wrong(q, &p->result);
}

static int ask_again(struct question *q, uint32_t repeats)
{
    int code = EXIT_OK;
    series_head(&q->out, "repetition");
    for (uint32_t i = 0; i < repeats && code == EXIT_OK; i++) {
        char label[32];
        (void)snprintf(label, sizeof(label), "%u", i + 1);
        struct bench_point *p = load(q, &q->asked->o, label, false, true);
        code = p == NULL ? EXIT_FAILED : complain_wrong(q, &p->result);
    }
    return code;
}

/* An option of the command, or one of two other names: partitions (a topic of its own for each) and
 * transactional (true: the load of `bench txn`, without readers). */
struct axis {
    char *key, *values[SWEEP_MAX];
    uint32_t count, at;
};

static bool axis_known(const struct question *q, const struct axis *x)
{
    static const char *const names[] = {"rate",       "size",       "records",   "batches",
                                        "in-flight",  "keys",       "acks",      "codec",
                                        "idempotent", "text",       "consumers", "connections",
                                        "aborts",     "generation", "protocol"};
    if (strcmp(x->key, "partitions") == 0)
        return option_find(q->cli->command, "create") != NULL;
    if (strcmp(x->key, "transactional") == 0)
        return q->asked->o.kind == BENCH_PRODUCE;
    bool named = false;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        named |= strcmp(x->key, names[i]) == 0;
    return named && option_find(q->cli->command, x->key) != NULL;
}

/* "KEY=A,B": false if it is not that. The words live as long as the question. */
static bool axis_read(struct question *q, struct axis *x, const char *said)
{
    char *text = arena_copy(&q->words, said, strlen(said) + 1);
    char *equals = text == NULL ? NULL : strchr(text, '=');
    *x = (struct axis){.key = text};
    if (equals == NULL)
        return false;
    *equals = '\0';
    for (char *at = equals; at != NULL && x->count < SWEEP_MAX; at = strchr(at, ',')) {
        *at++ = '\0';
        x->values[x->count++] = at;
    }
    return axis_known(q, x);
}

/* As if it had been said on the command line. */
static void axis_say(struct question *q, const struct axis *x)
{
    struct cli *c = q->cli;
    const char *value = x->values[x->at];
    bool partitions = strcmp(x->key, "partitions") == 0;
    const struct option *o = option_find(c->command, partitions ? "create" : x->key);
    if (o == NULL) /* transactional */
        return;
    size_t i = (size_t)(o - c->command->options);
    c->parsed.values[i][0] = value;
    c->parsed.counts[i] = o->value != NULL || strcmp(value, "true") == 0;
}

/* The load at the present values of all axes. false: complained about. */
static bool axes_options(struct question *q, const struct axis *axes, uint32_t count,
                         struct bench_options *o)
{
    enum bench_kind kind = BENCH_KINDS;
    for (uint32_t i = 0; i < count; i++) {
        axis_say(q, &axes[i]);
        if (strcmp(axes[i].key, "transactional") == 0)
            kind = strcmp(axes[i].values[axes[i].at], "true") == 0 ? BENCH_TXN : BENCH_PRODUCE;
    }
    if (!asked_read(q->asked, kind == BENCH_KINDS ? q->asked->o.kind : kind))
        return false;
    *o = q->asked->o;
    if (kind == BENCH_TXN)
        o->consumers = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(axes[i].key, "partitions") != 0)
            continue;
        char topic[TOPIC_ROOM];
        (void)snprintf(topic, sizeof(topic), "%.200s-%u", o->topic, o->create);
        o->topic = arena_copy(&q->words, topic, strlen(topic) + 1);
        o->delete_before = o->delete_after = true;
    }
    return o->topic != NULL;
}

/* The next point, the last axis first. false: all have been. */
static bool axes_step(struct axis *axes, uint32_t count)
{
    for (uint32_t i = count; i-- > 0;) {
        if (++axes[i].at < axes[i].count)
            return true;
        axes[i].at = 0;
    }
    return false;
}

static int ask_sweep(struct question *q)
{
    struct axis axes[AXES_MAX];
    struct text label;
    uint32_t count;
    int code = EXIT_OK;
    const char *const *said = cli_values(q->cli, "sweep", &count);
    if (count > AXES_MAX)
        return cli_misused(q->cli, "more than %u --sweep", AXES_MAX);
    text_init(&label, &q->cli->mem);
    for (uint32_t i = 0; i < count; i++) {
        if (!axis_read(q, &axes[i], said[i]))
            return cli_misused(q->cli,
                               "--sweep %s: wants KEY=A,B..; KEY is partitions, or rate, size, "
                               "records, keys, acks or another option of the load; of produce also "
                               "transactional",
                               said[i]);
        text_add(&label, "%s%s", i > 0 ? " " : "", axes[i].key);
    }
    series_head(&q->out, label.data);
    do {
        struct bench_options o;
        if (!axes_options(q, axes, count, &o)) {
            code = EXIT_USAGE;
            break;
        }
        text_free(&label);
        for (uint32_t i = 0; i < count; i++)
            text_add(&label, "%s%s", i > 0 ? " " : "", axes[i].values[axes[i].at]);
        struct bench_point *p = load(q, &o, label.data == NULL ? "" : label.data, false, true);
        code = p == NULL ? EXIT_FAILED : complain_wrong(q, &p->result);
    } while (code == EXIT_OK && axes_step(axes, count));
    text_free(&label);
    return code;
}

/* ---- the highest rate ------------------------------------------------------------------------ */

struct goal {
    double quantile;
    uint64_t most_ns;
};

/* "p99.9<2ms", "max<50ms". */
static bool goal_read(struct goal *g, const char *text)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
    const char *less = strchr(text, '<');
    char *end;
    if (less == NULL)
        return false;
    g->quantile = 1;
    if (strncmp(text, "max<", 4) != 0) {
        if (text[0] != 'p')
            return false;
        g->quantile = strtod(text + 1, &end) / 100;
        if (end != less || !(g->quantile > 0 && g->quantile <= 1))
            return false;
    }
    double value = strtod(less + 1, &end);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strcmp(end, units[i].name) == 0 && value > 0 && value * units[i].ns < 1e15) {
            g->most_ns = (uint64_t)(value * units[i].ns);
            return true;
        }
    return false;
}

/* -1: the load failed; else whether the goal was kept. Latency counts from when each request was
 * due, so a broker that does not keep up shows it by latency alone. */
static int goal_kept(struct question *q, const struct goal *g, double rate)
{
    struct bench_options o = q->asked->o;
    char label[32];
    o.rate = rate;
    (void)snprintf(label, sizeof(label), "%.0f/s", rate);
    struct bench_point *p = load(q, &o, label, false, true);
    if (p == NULL || complain_wrong(q, &p->result) != EXIT_OK)
        return -1;
    return histogram_quantile(result_latency(&p->result), g->quantile) <= g->most_ns;
}

static int ask_goal(struct question *q, const char *text)
{
    struct goal g;
    char number[TEXT_NUMBER_SIZE];
    if (!goal_read(&g, text))
        return cli_misused(q->cli, "--slo '%s' is not like p99.9<2ms or max<50ms", text);
    double good = 0, bad = 0, rate = q->asked->o.rate;
    series_head(&q->out, "rate");
    for (uint32_t i = 0; i < DOUBLINGS_MAX && bad <= 0; i++, rate *= 2) {
        int kept = goal_kept(q, &g, rate);
        if (kept < 0)
            return EXIT_FAILED;
        *(kept ? &good : &bad) = rate;
    }
    for (uint32_t i = 0; i < HALVINGS && good > 0 && bad > 0; i++) {
        int kept = goal_kept(q, &g, (good + bad) / 2);
        if (kept < 0)
            return EXIT_FAILED;
        *(kept ? &good : &bad) = (good + bad) / 2;
    }
    if (good <= 0) {
        cli_complain(q->cli, "%s is not kept at %s records/s", text,
                     text_decimal(number, q->asked->o.rate));
        return EXIT_MISSED;
    }
    cli_print(q->cli, "highest rate with %s: %s records/s\n", text, text_decimal(number, good));
    return EXIT_OK;
}

/* ---- two brokers ----------------------------------------------------------------------------- */

static int judge(struct question *q)
{
    int code = EXIT_OK;
    text_add(&q->out, "\n%-10s %10s  %-21s (above 1: %s is better)\n", "", "ratio",
             "95 % confidence", q->asked->o.brokers);
    for (uint32_t m = 0; m < METRICS; m++) {
        struct series_ratio r;
        if (!series_compare(&q->series, (enum series_metric)m, &r))
            continue;
        text_add(&q->out, "%-10s %9.3fx  %.3f .. %.3f  %s\n", series_metric_names[m], r.mean, r.low,
                 r.high, r.verdict);
        if (r.regression)
            code = EXIT_MISSED;
    }
    show(q);
    return code;
}

static int ask_versus(struct question *q, uint32_t repeats)
{
    struct bench_options both[2] = {q->asked->o, q->asked->o};
    int code = EXIT_OK;
    both[1].address = q->asked->versus;
    both[1].brokers = cli_value(q->cli, "versus");
    both[1].pid = q->asked->versus_pid;
    q->series.threshold = q->asked->threshold;
    series_head(&q->out, "broker");
    for (uint32_t i = 0; i < 2 * repeats && code == EXIT_OK; i++) {
        const struct bench_options *o = &both[i % 2];
        struct bench_point *p = load(q, o, o->brokers, i % 2 == 1, true);
        code = p == NULL ? EXIT_FAILED : complain_wrong(q, &p->result);
    }
    return code == EXIT_OK ? judge(q) : code;
}

/* What was measured goes into the files that were asked for, also if the question ended badly. */
static int write_files(struct question *q, int code)
{
    const char *json = cli_value(q->cli, "json"), *page = cli_value(q->cli, "html");
    if (q->series.count > 0 && (json != NULL || page != NULL) && !write_json(q, json, page))
        code = EXIT_FAILED;
    if (asked_has(q->asked, "hdr") && q->series.count > 0 && !write_hdr(q))
        code = EXIT_FAILED;
    return code;
}

/* What the machine does without a broker, before anything else. */
static bool ask_floor(struct question *q, const char *directory)
{
    char why[512];
    q->floor = mem_zalloc(&q->cli->mem, sizeof(*q->floor));
    if (q->floor == NULL)
        return false;
    if (floor_measure(q->floor, q->cli->io, &q->cli->mem, directory, why, sizeof(why)) != 0) {
        cli_complain(q->cli, "%s", why);
        mem_free(&q->cli->mem, q->floor, sizeof(*q->floor));
        q->floor = NULL;
        return false;
    }
    floor_table(&q->out, q->floor);
    show(q);
    return true;
}

static int ask(struct question *q)
{
    struct cli *c = q->cli;
    struct asked *a = q->asked;
    if (asked_has(a, "sweep"))
        return ask_sweep(q);
    if (asked_has(a, "slo"))
        return ask_goal(q, cli_value(c, "slo"));
    if (asked_has(a, "versus"))
        return ask_versus(q, a->repeats == 0 ? REPEATS : a->repeats);
    return a->repeats > 1 ? ask_again(q, a->repeats) : ask_once(q);
}

int command_bench_floor(struct cli *c)
{
    struct asked *a = mem_zalloc(&c->mem, sizeof(*a));
    struct question *q = mem_zalloc(&c->mem, sizeof(*q));
    if (a == NULL || q == NULL || cli_io(c) == NULL)
        return EXIT_FAILED;
    a->cli = c;
    q->asked = a;
    q->cli = c;
    series_init(&q->series, &c->mem);
    text_init(&q->out, &c->mem);
    const char *directory = c->parsed.positionals_count > 0 ? c->parsed.positionals[0] : ".";
    asked_provenance(a, &q->provenance, directory);
    bool good = ask_floor(q, directory);
    if (good && asked_has(a, "json"))
        good = write_json(q, cli_value(c, "json"), NULL);
    return good ? EXIT_OK : EXIT_FAILED;
}

/* Before the first scenario: who its broker is, and what the machine does without one, in a
 * directory that was named or the broker's own. Only a named one has to be writable. */
static bool suite_begin(struct question *q, const char *directory)
{
    struct provenance *p = &q->provenance;
    asked_broker(q->asked, p, &q->asked->o.address, q->asked->o.pid);
    bool here = p->filesystem[0] != '\0';
    bool good = ask_floor(q, directory != NULL ? directory : here ? p->directory : ".");
    series_head(&q->out, "scenario");
    return good || directory == NULL;
}

/* Every scenario of the file, a row each. c's command and words become those of each in turn. */
static int ask_suite(struct question *q, struct suite *s)
{
    const char *name;
    char why[512];
    enum bench_kind kind;
    int code = EXIT_OK;
    while (code == EXIT_OK && suite_next(s, q->cli, &name, &kind, why, sizeof(why))) {
        if (!asked_read(q->asked, kind))
            return EXIT_USAGE;
        if (q->series.count == 0 && !suite_begin(q, s->floor))
            return EXIT_FAILED;
        struct bench_options o = q->asked->o;
        if (kind == BENCH_CATCH_UP && !fill(q, &o))
            return EXIT_FAILED;
        struct bench_point *p = load(q, &o, name, false, true);
        code = p == NULL ? EXIT_FAILED : complain_wrong(q, &p->result);
    }
    if (why[0] != '\0')
        return cli_misused(q->cli, "%s", why);
    return code;
}

int command_bench_suite(struct cli *c)
{
    struct asked *a = mem_zalloc(&c->mem, sizeof(*a));
    struct question *q = mem_zalloc(&c->mem, sizeof(*q));
    struct parsed *said = mem_zalloc(&c->mem, sizeof(*said));
    const struct command *command = c->command;
    struct suite s;
    char why[512];
    if (a == NULL || q == NULL || said == NULL || cli_io(c) == NULL)
        return EXIT_FAILED;
    *said = c->parsed;
    a->cli = c;
    q->asked = a;
    q->cli = c;
    series_init(&q->series, &c->mem);
    text_init(&q->out, &c->mem);
    asked_signals(a);
    asked_provenance(a, &q->provenance, NULL);
    if (!suite_open(&s, c, c->parsed.positionals[0], why, sizeof(why))) {
        cli_complain(c, "%s", why);
        return EXIT_FAILED;
    }
    s.brokers = cli_value(c, "brokers");
    s.pid = cli_value(c, "pid");
    s.floor = cli_value(c, "floor");
    int code = ask_suite(q, &s);
    c->command = command;
    c->parsed = *said;
    code = write_files(q, code);
    series_free(&q->series);
    suite_close(&s);
    return code;
}

int asked_run(struct asked *a, struct cli *c)
{
    struct question *q = mem_zalloc(&c->mem, sizeof(*q));
    if (q == NULL)
        return EXIT_FAILED;
    q->asked = a;
    q->cli = c;
    series_init(&q->series, &c->mem);
    text_init(&q->out, &c->mem);
    arena_init(&q->words, &c->mem, WORDS_LIMIT);
    asked_provenance(a, &q->provenance, NULL);
    if (asked_has(a, "versus")) {
        q->versus = q->provenance;
        asked_broker(a, &q->versus, &a->versus, a->versus_pid);
    }
    asked_broker(a, &q->provenance, &a->o.address, a->o.pid);
    int code = EXIT_FAILED;
    if (!asked_has(a, "floor") || ask_floor(q, cli_value(c, "floor")))
        code = ask(q);
    code = write_files(q, code);
    series_free(&q->series);
    text_free(&q->out);
    arena_release(&q->words);
    mem_free(&c->mem, q->floor, sizeof(*q->floor));
    mem_free(&c->mem, q, sizeof(*q));
    return code;
}
