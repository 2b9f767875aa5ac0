#!/usr/bin/env python3
"""tools/tidy against small trees that break one rule each, and one that breaks none.

Every finding is compared whole, with its file and line, so that a rule that stops seeing, or sees
too much, fails here.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
ESSAY = "/* What this file is for, in one whole sentence. */\n"
GOOD = {
    "core/a.h": ESSAY + "#ifndef A_H\n#define A_H\nint add(int x);\n#endif\n",
    "core/a.c": ESSAY + '#include "core/a.h"\n\n#include <string.h>\n\n'
                        "static const char *const names[] = {\"read(\", \"malloc(\"};\n\n"
                        "struct pair;\nstatic int twice(int x);\n"
                        "static int (*const table[])(int) = {twice};\n\n"
                        "static int twice(int x)\n{\n    return 2 * x; /* not malloc(x) */\n}\n\n"
                        "int add(int x)\n{\n    static const int one = 1;\n"
                        "    return table[0](x) + one + (int)strlen(names[0]);\n}\n",
    "broker/log/b.c": ESSAY + '#include "core/a.h"\n#include "io/io.h"\n#include "proto/gen/x.h"\n',
    "tests/core/t.c": ESSAY + '#include "core/a.h"\n#include <pthread.h>\nint counter;\n',
    "tools/run": "#!/bin/sh\n# What this script is for, in one whole sentence.\n",
}


def function(lines, first="    int x = 0;"):
    """A function whose body has so many lines."""
    return "int f(void)\n{\n" + first + "\n" + "    x++;\n" * (lines - 2) + "    return x;\n}\n"


class Case(unittest.TestCase):
    """A tree of its own for each test."""

    def setUp(self):
        self.tree = Path(tempfile.mkdtemp(prefix="tidy-"))
        self.addCleanup(shutil.rmtree, self.tree)

    def write(self, files):
        for name, text in files.items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def run_tidy(self, *words):
        env = {k: v for k, v in os.environ.items() if k != "CI"}  # these trees have no libraries
        task = subprocess.run([sys.executable, TOP / "tools/tidy", "--root", self.tree, *words],
                              text=True, capture_output=True, env=env)
        self.assertEqual(task.stderr, "")
        return task.returncode, re.findall(r"^      (\S+:\d+: .*)$", task.stdout, re.M)

    def compare(self, expected, *words):
        """Asserts that the tree has exactly these findings; each is a regular expression."""
        status, findings = self.run_tidy(*words)
        self.assertEqual(len(findings), len(expected), findings)
        for finding, pattern in zip(findings, expected):
            self.assertRegex(finding, "^" + pattern)
        self.assertEqual(status, 1 if expected else 0)


class Sources(Case):
    """What a tree says about itself as text."""

    def finds(self, files, *expected):
        """Adds the files and compares what is found."""
        self.write(files)
        self.compare(expected)

    def source(self, name, line, *expected):
        """The line stands in line 2 of a file; findings are given without file and line."""
        self.finds({name: ESSAY + line + "\n"}, *(re.escape(f"{name}:2: ") + e for e in expected))

    def test_good_tree_has_no_findings(self):
        self.finds(GOOD)

    def test_includes_that_point_up_are_found(self):
        for name, include in [("core/a.c", "proto/x.h"), ("core/a.c", "io/io.h"),
                              ("proto/a.c", "io/io.h"), ("io/whole.c", "proto/x.h"),
                              ("io/uring/a.c", "io/sim/x.h"), ("io/sim/a.c", "io/uring/x.h"),
                              ("broker/a.c", "io/uring/x.h"), ("broker/log/a.c", "broker/node.h"),
                              ("broker/log/a.c", "broker/quorum/x.h"),
                              ("broker/group/a.c", "io/io.h"), ("broker/txn/a.c", "io/io.h"),
                              ("broker/quorum/a.c", "broker/log/log.h"),
                              ("broker/config/a.c", "broker/log/log.h")]:
            with self.subTest(name=name, include=include):
                self.setUp()
                self.source(name, f'#include "{include}"', f".* may not include {include}$")

    def test_includes_that_the_table_allows_are_not(self):
        self.finds({name: ESSAY + f'#include "{include}"\n' for name, include in [
            ("proto/a.c", "core/x.h"), ("io/whole.c", "io/io.h"), ("io/uring/a.c", "io/io.h"),
            ("broker/quorum/a.c", "io/io.h"), ("broker/group/a.c", "broker/config/x.h"),
            ("broker/group/b.c", "broker/msg.h"), ("broker/api/a.c", "broker/log/log.h"),
            ("broker/node.c", "broker/quorum/control.h")]})

    def test_includes_that_are_not_rooted_are_found(self):
        self.source("core/a.c", '#include "a.h"', '"a.h" is not rooted')
        self.source("core/a.c", '#include "../io/io.h"', ".* is not rooted")

    def test_folders_without_a_layer_are_found(self):
        self.finds({"broker/magic/a.c": ESSAY}, "broker/magic/a.c:1: broker/magic has no place")

    def test_calls_outside_their_layer_are_found(self):
        for name, call in [("broker/a.c", "malloc(1)"), ("core/pool.c", "free (p)"),
                           ("io/uring/a.c", "calloc(1, 2)"), ("core/a.c", "clock_gettime(0, t)"),
                           ("io/sim/a.c", "getrandom(p, 1, 0)"), ("broker/a.c", "rand()"),
                           ("broker/a.c", "pthread_create(t)"), ("io/whole.c", "open(p, 0)"),
                           ("proto/a.c", "write(1, p, 1)"), ("broker/a.c", "socket(1, 2, 3)"),
                           ("broker/a.c", "io_uring_enter(1)"), ("core/trace.c", "printf(\"x\")"),
                           ("broker/a.c", "abort()"), ("core/a.c", "getenv(\"x\")"),
                           ("broker/a.c", "longjmp(b, 1)"), ("io/uring/a.c", "setjmp(b)")]:
            with self.subTest(name=name, call=call):
                self.setUp()
                self.source(name, f"int f(void) {{ return {call}; }}",
                            re.escape(re.match(r"\w+", call)[0]) + ": ")

    def test_calls_in_their_layer_members_and_likenesses_are_not(self):
        self.finds({"core/mem.c": ESSAY + "int x(void) { return malloc(1) + mallocx(1, 0); }\n",
                    "io/uring/a.c": ESSAY + "int x(void) { return read(0) + time(0); }\n",
                    "io/sim/a.c": ESSAY + "int x(void) { return setjmp(b); }\n",
                    "broker/a.c": ESSAY + "int x(void) { return io->read(0) + a.free(0) "
                                          "+ log_open(1) + io_random(io) + pool_free(p); }\n"})

    def test_system_headers_outside_their_layer_are_found(self):
        for name, header in [("core/a.c", "pthread.h"), ("io/whole.c", "liburing.h"),
                             ("broker/a.c", "sys/socket.h"), ("proto/a.c", "time.h"),
                             ("broker/a.c", "jemalloc/jemalloc.h"), ("broker/a.c", "setjmp.h")]:
            with self.subTest(name=name, header=header):
                self.setUp()
                self.source(name, f"#include <{header}>", f"<{header}>: ")

    def test_atomics_outside_ring_and_metric_are_found(self):
        self.source("core/mail.c", "#include <stdatomic.h>", "<stdatomic.h>: cores share nothing")
        self.source("core/mail.c", "int f(int *p) { return __atomic_load_n(p, 0); }", "__atomic_load")
        self.setUp()
        self.finds({"core/ring.c": ESSAY + "int f(int *p) { return __atomic_load_n(p, 0); }\n"})

    def test_mutable_variables_are_found(self):
        for line in ["static int count;", "static const char *names[2];", "int count = 1;",
                     "static struct x table[] = {{0}};", "static void (*hook)(void);",
                     "void f(void)\n{\n    static unsigned long long calls = 0;\n}",
                     "static _Thread_local int self;", "struct x *first;"]:
            with self.subTest(line=line):
                self.setUp()
                self.write({"core/a.c": ESSAY + line + "\n"})
                status, findings = self.run_tidy()
                self.assertEqual((status, len(findings)), (1, 1), findings)
                self.assertIn("is mutable", findings[0])

    def test_core_self_may_be_mutable(self):
        line = ESSAY + "static _Thread_local struct core_id self = {9};\n"
        self.finds({"core/core.c": line})
        self.finds({"core/crow.c": line}, "core/crow.c:2: self is mutable")

    def test_long_functions_are_found(self):
        self.finds({"core/a.c": ESSAY + function(70)})
        self.finds({"core/a.c": ESSAY + function(71)}, "core/a.c:3: f has 71 lines, 70 is")

    def test_stage_drivers_may_be_longer(self):
        switch = "    switch (p->stage.now) {"
        self.finds({"core/a.c": ESSAY + function(100, switch)})
        self.finds({"core/a.c": ESSAY + function(101, switch)}, "core/a.c:3: f has 101 lines, 100")
        self.finds({"core/a.c": ESSAY + function(71, "    switch (x) {")}, "core/a.c:3: f has 71")

    def test_long_files_and_lines_are_found(self):
        self.finds({"core/a.c": ESSAY + "\n" * 1500}, "core/a.c:1: 1501 lines, 1500")
        self.finds({"core/a.c": ESSAY + "/*" + "x" * 97 + "*/\n"}, "core/a.c:2: 101 columns, 100")

    def test_files_that_do_not_say_what_they_are_for_are_found(self):
        self.finds({"core/a.c": "int f(void);\n", "core/b.c": "/* short */\n" + ESSAY,
                    "tools/x.py": "import os\n", "tools/y.sh": "#!/bin/sh\necho\n",
                    "tools/z": "#!/bin/sh\necho\n"},
                   "core/a.c:1: a file opens", "core/b.c:1: ", "tools/x.py:1: ", "tools/y.sh:1: ",
                   "tools/z:1: ")

    def test_unfinished_work_is_found(self):
        for word in ["TO" "DO", "FIX" "ME", "XX" "X"]:
            with self.subTest(word=word):
                self.setUp()
                self.source("tests/a.c", f"/* {word}: later */", f"{word}: finish it")

    def test_blanks_at_line_ends_are_found(self):
        self.source("core/a.c", "int f(void); ", "white space at the end")
        self.setUp()
        self.finds({"core/a.c": ESSAY + "int f(void);"}, "core/a.c:2: the last line has no end")

    def test_headers_that_lean_on_their_includer_are_found(self):
        self.write({"core/a.h": ESSAY + "size_t f(void);\n"})
        status, findings = self.run_tidy()
        compilers = sum(shutil.which(c) is not None for c in ("gcc", "clang"))
        self.assertEqual((status, len(findings)), (1, compilers), findings)
        self.assertIn("core/a.h:1: does not compile alone", findings[0])


@unittest.skipUnless(shutil.which("cc") and shutil.which("ar"), "no compiler")
class Objects(Case):
    """What libraries call and hold, whatever their sources look like."""

    def library(self, folder, **sources):
        out = self.tree / "build" / folder
        out.mkdir(parents=True, exist_ok=True)
        for name, text in sources.items():
            task = ["cc", "-w", "-c", "-O1", "-fPIC", "-x", "c", "-", "-o", out / f"{name}.c.o"]
            subprocess.run(task, input=text, text=True, check=True)
        objects = [out / f"{name}.c.o" for name in sources]
        subprocess.run(["ar", "rcs", out / f"lib{folder}.a", *objects], check=True)

    def finds(self, *expected):
        self.compare(expected, "--objects", self.tree / "build")

    CALLS = "void *{0}(); void *f(void); void *f(void) {{ return {0}(1); }}\n"

    def test_calls_hidden_from_the_source_are_found(self):
        self.library("core", pool=self.CALLS.format("calloc"), ring=self.CALLS.format("pread64"))
        self.library("broker", a=self.CALLS.format("__read_chk"),
                     b=self.CALLS.format("pthread_self"))
        self.library("proto", c=self.CALLS.format("__longjmp_chk"))
        self.finds("broker/a.c:1: calls read:", "broker/b.c:1: calls pthread_self:",
                   "core/pool.c:1: calls calloc:", "core/ring.c:1: calls pread:",
                   "proto/c.c:1: calls longjmp:")

    def test_calls_where_they_belong_are_not(self):
        self.library("core", mem=self.CALLS.format("malloc"))
        self.library("core", **{"assert": self.CALLS.format("abort")})
        self.library("proto", a=self.CALLS.format("memchr"))
        self.finds()

    def test_mutable_data_is_found_and_constants_are_not(self):
        self.library("core", core="static _Thread_local int self = 3; int *f(void);\n"
                                  "int *f(void) { return &self; }\n",
                     a="const char *const names[] = {\"a\"}; const int one = 1;\n",
                     b="int counter = 1;\n",
                     c="int *f(void); int *f(void) { static int calls; return &calls; }\n")
        self.finds("core/b.c:1: counter in .data", "core/c.c:1: calls.0 in .bss")

    def test_a_build_without_libraries_is_a_failure(self):
        (self.tree / "build").mkdir()
        self.assertEqual(self.run_tidy("--objects", self.tree / "build"), (1, []))


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=0).result
    bad = len(result.failures) + len(result.errors)
    print(f"# passed={result.testsRun - bad - len(result.skipped)} failed={bad} "
          f"skipped={len(result.skipped)}")
    sys.exit(1 if bad else 0)
