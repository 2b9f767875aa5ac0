/* Quotas of cgroups, played on a tree of files that looks like /proc and /sys. */
#include "tests/io/rig.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static void tree_file(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof(full), "%s/%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = 0;
        (void)mkdir(full, 0755);
        *slash = '/';
    }
    FILE *f = fopen(full, "w");
    cr_assert_not_null(f);
    fputs(text, f);
    fclose(f);
}

static void begin(void)
{
    strcpy(root, "/var/tmp/torc-test-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
}

static void end(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -r %s", root);
    cr_assert_eq(system(command), 0);
}

TestSuite(cpus, .init = begin, .fini = end);

Test(cpus, without_files_the_affinity_counts)
{
    cr_assert_eq(uring_cpus_under(root, 12), 12);
}

Test(cpus, a_quota_of_version_two_is_rounded_down_but_not_to_none)
{
    tree_file("proc/self/cgroup", "0::/a/b\n");
    tree_file("sys/fs/cgroup/a/b/cpu.max", "350000 100000\n");
    cr_assert_eq(uring_cpus_under(root, 12), 3);
    cr_assert_eq(uring_cpus_under(root, 2), 2);
    tree_file("sys/fs/cgroup/a/b/cpu.max", "20000 100000\n");
    cr_assert_eq(uring_cpus_under(root, 12), 1);
    tree_file("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    cr_assert_eq(uring_cpus_under(root, 12), 12);
}

Test(cpus, the_smallest_quota_on_the_way_up_counts)
{
    tree_file("proc/self/cgroup", "0::/a/b/c\n");
    tree_file("sys/fs/cgroup/a/b/c/cpu.max", "800000 100000");
    tree_file("sys/fs/cgroup/a/b/cpu.max", "max 100000");
    tree_file("sys/fs/cgroup/a/cpu.max", "400000 100000");
    cr_assert_eq(uring_cpus_under(root, 12), 4);
    tree_file("sys/fs/cgroup/cpu.max", "200000 100000");
    cr_assert_eq(uring_cpus_under(root, 12), 2);
}

Test(cpus, a_group_that_is_not_visible_from_inside_is_found_at_the_mount)
{
    tree_file("proc/self/cgroup", "0::/../../outside\n");
    tree_file("sys/fs/cgroup/cpu.max", "500000 100000");
    cr_assert_eq(uring_cpus_under(root, 12), 5);
}

Test(cpus, quotas_of_version_one_count_too)
{
    tree_file("proc/self/cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/a/b\n1:name=systemd:/\n0::/\n");
    tree_file("sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "-1\n");
    tree_file("sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000\n");
    cr_assert_eq(uring_cpus_under(root, 12), 12);
    tree_file("sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "600000\n");
    cr_assert_eq(uring_cpus_under(root, 12), 6);
    tree_file("proc/self/cgroup", "4:cpuset,cpux:/a/b\n");
    cr_assert_eq(uring_cpus_under(root, 12), 12);
}

Test(cpus, nonsense_sets_no_limit)
{
    tree_file("proc/self/cgroup", "rubbish\n:\n::\n0::\n0::/a\n\n");
    tree_file("sys/fs/cgroup/a/cpu.max", "many 100000");
    tree_file("sys/fs/cgroup/cpu.max", "5");
    cr_assert_eq(uring_cpus_under(root, 12), 12);
}

Test(cpus, the_affinity_of_this_process_is_honoured)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    cr_assert_eq(sched_getaffinity(0, sizeof(set), &set), 0);
    cr_assert_geq(io_cpus_count(), 1);
    cr_assert_leq(io_cpus_count(), (uint32_t)CPU_COUNT(&set));
    unsigned cpu = 0;
    while (!CPU_ISSET(cpu, &set))
        cpu++;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    cr_assert_eq(sched_setaffinity(0, sizeof(set), &set), 0);
    cr_assert_eq(io_cpus_count(), 1);
}
