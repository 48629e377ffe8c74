#!/usr/bin/env python3
"""check.py
Runs random nights through the extension and through the rules of rules.py, and
compares what came of them: the error, every count, every row.

It connects with psql, as the environment (PGHOST, PGPORT, PGDATABASE) says, to
a database with the extension and a roster named "roster".  A case that differs
is made smaller and printed as files and SQL.  The same seed makes the same
cases (on the same day: terms end around today), one after the other.
"""
import argparse
import copy
import os
import random
import shutil
import sys
import tempfile
import time
import zlib

import rules
import server
import world

COUNTS = ("received", "out_of_scope", "rejected", "created", "updated",
          "unchanged", "restored", "manual", "frozen", "to_archive",
          "archived", "in_force", "allowed")
NIGHTS_OF_A_CASE = 8


class Difference(Exception):
    def __init__(self, night, lines):
        super().__init__("\n".join(lines))
        self.night = night
        self.lines = lines


# ----------
# One case
# ----------

class Replay:
    """A case, night by night, on both sides."""

    def __init__(self, psql, name, folder):
        self.sync = server.Sync(psql, name, folder)
        self.psql = psql
        self.state, self.settings = rules.State(), rules.Settings()
        self.runs = {}                  # run ID -> number of the night
        self.before = self.sync.look()
        self.ends = {}

    def run(self, case):
        for number, night in enumerate(case.nights):
            self.night(number, night)

    def night(self, number, night):
        touched = set()
        sql = []
        for op in night.ops:
            sql.append(server.do_op(op, self.state, self.settings,
                                    self.sync.name) + ";")
            if op[0] in ("edit", "managed", "insert", "delete"):
                touched.add(op[1:3])
        if sql:
            self.psql.run("\n".join(sql))
        server.write_files(night.feed, self.sync.folder)
        error = self.psql.error(server.call_sql(self.sync.name, night.mode))
        old = self.state
        self.state, failure, counts, held = rules.run(
            old, self.settings, night.feed, number, night.mode,
            world.day(0))
        after = self.sync.look()
        # an atomic run that failed has left no trace
        if night.mode == "atomic" and failure is not None:
            counts = None
        self.compare(number, night, error, failure, counts, held, after,
                     old, touched)
        self.before = after
        self.count(failure.code if failure else "none")
        if old.approved is not None and self.state.approved is None:
            self.count("of what was approved")

    def count(self, end):
        self.ends[end] = self.ends.get(end, 0) + 1

    def compare(self, number, night, error, failure, counts, held, after, old,
                touched):
        lines = []
        expected = (failure.code, failure.record_type) if failure else None
        got = error[:2] if error else None
        if (expected and expected[0]) != (got and got[0]) or expected and \
                expected[1] is not None and expected[1] != got[1]:
            lines.append("error: expected %s, got %s" % (
                expected, error if error else None))
            raise Difference(number, lines)
        if counts is not None:
            self.runs[after["run"]["id"]] = number
            self.compare_log(night, failure, counts, held, after, lines)
        self.compare_rows(after, old, touched, lines)
        if after["others"] != self.before["others"]:
            lines.append("rows of another sync were touched")
        if lines:
            raise Difference(number, lines)

    def compare_log(self, night, failure, counts, held, after, lines):
        run = after["run"]
        for what, is_, should in (
                ("status", run["status"], "failed" if failure else "succeeded"),
                ("error_code", run["error_code"],
                 failure.code if failure else None),
                ("dry_run", run["dry_run"], night.mode == "dry")):
            if is_ != should:
                lines.append("run.%s: expected %s, got %s" % (what, should, is_))
        if failure is None or failure.code in ("SI001", "SI011"):
            is_ = {tuple(x) for x in after["held"]}
            if is_ != held:
                lines.append("held back: only expected %s, only got %s" % (
                    sorted(held - is_), sorted(is_ - held)))
        if failure is not None and failure.code != "SI001":
            return
        for t in rules.TYPES:
            for column in COUNTS:
                if after["counts"][t][column] != counts[t][column]:
                    lines.append("%s.%s: expected %d, got %d" % (
                        t, column, counts[t][column],
                        after["counts"][t][column]))

    def compare_rows(self, after, old, touched, lines):
        for t in rules.TYPES:
            rows, got = self.state.rows[t], after["rows"][t]
            for i in sorted(rows.keys() - got.keys()):
                lines.append("%s %r: is missing" % (t, i))
            for i in sorted(got.keys() - rows.keys()):
                lines.append("%s %r: should not be there" % (t, i))
            for i in sorted(rows.keys() & got.keys()):
                self.compare_row(t, i, rows[i], got[i], old.rows[t].get(i),
                                 (t, i) in touched, lines)

    def compare_row(self, t, i, row, got, old, touched, lines):
        expected = dict(row.values)
        expected.update(
            sis_managed=row.managed, archived_reason=row.archived, extra=None)
        for run in ("created_run", "updated_run", "restored_run",
                    "archived_run"):
            expected[run] = getattr(row, run)
            got[run] = self.runs.get(got[run], got[run])
        if t == "school":
            expected["app_school"] = row.app_school
        for column, value in expected.items():
            if got[column] != value:
                lines.append("%s %r: %s: expected %r, got %r" % (
                    t, i, column, value, got[column]))
        if (got["archived_at"] is None) != (row.archived is None):
            lines.append("%s %r: archived_at: %s" % (t, i, got["archived_at"]))
        if (got["fingerprint"] is None) != (row.content is None):
            lines.append("%s %r: fingerprint: %s" % (t, i, got["fingerprint"]))
        elif row.content is not None and zlib.crc32(i.encode()) % 16 == 0 and \
                got["fingerprint"] != rules.fingerprint(t, i, row.content):
            lines.append("%s %r: fingerprint is another" % (t, i))
        before = self.before["rows"][t].get(i)
        if old is None or before is None or touched:
            return
        if got["created_at"] != before["created_at"]:
            lines.append("%s %r: created_at changed" % (t, i))
        if vars(old) == vars(row) and got["xmin_"] != before["xmin_"]:
            lines.append("%s %r: was written for nothing" % (t, i))


class Checker:
    def __init__(self, psql):
        self.psql = psql
        self.top = tempfile.mkdtemp(prefix="sis_model_")
        os.chmod(self.top, 0o755)
        self.serial = 0
        self.last = None                # its rows stay, as another sync's
        self.ends = {}

    def replay(self, case):
        """The case's first difference, or None."""
        self.serial += 1
        name = "model_%d_%d" % (os.getpid(), self.serial)
        folder = os.path.join(self.top, name)
        os.mkdir(folder)
        replay = Replay(self.psql, name, folder)
        difference = None
        try:
            replay.run(case)
        except Difference as d:
            difference = d
        for end, n in replay.ends.items():
            self.ends[end] = self.ends.get(end, 0) + n
        if self.last is not None:
            self.last.drop()
            shutil.rmtree(self.last.folder)
        self.last = replay.sync
        if self.serial % 50 == 0:
            self.psql.run("VACUUM;")
        return difference

    def close(self):
        if self.last is not None:
            self.last.drop()
        shutil.rmtree(self.top)


# ----------
# Shrinking
# ----------

def without_night(case, number):
    return world.Case(case.nights[:number] + case.nights[number + 1:])


def without_records(case, name, ids):
    """Without all rows of a file that begin with one of some IDs."""
    smaller = copy.deepcopy(case)
    for night in smaller.nights:
        if name in night.feed.files:
            header, rows = night.feed.files[name]
            night.feed.files[name] = (header, [
                r for r in rows if r[0] not in ids])
    return smaller


def without_op(case, number, op):
    smaller = copy.deepcopy(case)
    del smaller.nights[number].ops[op]
    return smaller


def as_night_before(case, number, name):
    """A night whose file is what it was the night before."""
    smaller = copy.deepcopy(case)
    before = smaller.nights[number - 1].feed
    if name not in before.files:
        return case
    smaller.nights[number].feed.files[name] = copy.deepcopy(before.files[name])
    return smaller


def shrink(case, night, checker, seconds):
    """A smaller case that differs too."""
    until = time.monotonic() + seconds
    case = world.Case(case.nights[:night + 1])

    def attempt(smaller):
        nonlocal case
        if time.monotonic() > until:
            return False
        difference = checker.replay(smaller)
        if difference is None:
            return False
        case = world.Case(smaller.nights[:difference.night + 1])
        return True

    for number in reversed(range(len(case.nights) - 1)):
        if number < len(case.nights) - 1:
            attempt(without_night(case, number))
    for size in (32, 8, 2, 1):
        for name in world.HEADERS:
            ids = list(dict.fromkeys(
                r[0] for n in case.nights if name in n.feed.files
                for r in n.feed.files[name][1]))
            for at in range(0, len(ids), size):
                attempt(without_records(case, name, ids[at:at + size]))
    # a smaller case may end earlier
    for number, op in [(n, o) for n in reversed(range(len(case.nights)))
                       for o in reversed(range(len(case.nights[n].ops)))]:
        if number < len(case.nights):
            attempt(without_op(case, number, op))
    for number in reversed(range(1, len(case.nights))):
        for name in world.HEADERS:
            if number < len(case.nights):
                attempt(as_night_before(case, number, name))
    return case


# ----------
# Printing
# ----------

def print_case(case, difference):
    settings, state = rules.Settings(), rules.State()
    print("-- a sync 'm' of server 'm', whose path is the folder with these files")
    for number, night in enumerate(case.nights):
        print("\n-- ---------- night %d ----------" % number)
        for op in night.ops:
            print(server.do_op(op, state, settings, "m") + ";")
        for name, data in server.csv_files(night.feed).items():
            before = case.nights[number - 1].feed if number > 0 else None
            if before is not None and \
                    server.csv_files(before).get(name) == data:
                continue
            print("-- %s" % name)
            for line in data.split(b"\n")[:-1]:
                print("--   " + line.decode("ascii", "backslashreplace")
                      .replace("\0", "\\x00"))
        if number > 0:
            for name in case.nights[number - 1].feed.files.keys() - \
                    night.feed.files.keys():
                print("-- %s.csv is not there any more" % name)
        print(server.call_sql("m", night.mode))
        # what the model makes of it, so that an approval finds something
        state = rules.run(state, settings, night.feed, number, night.mode,
                          world.day(0))[0]
    print("\n-- ---------- night %d differs ----------" % difference.night)
    for line in difference.lines[:40]:
        print("--   " + line)


def check(checker, nights, seed, shrink_seconds):
    """True when all is as expected."""
    done = 0
    number = 0
    started = time.monotonic()
    while done < nights:
        rnd = random.Random("%s/%d" % (seed, number))
        case = world.make_case(rnd, min(NIGHTS_OF_A_CASE, nights - done))
        difference = checker.replay(case)
        if difference is not None:
            print("case %d of seed %s differs in night %d:" % (
                number, seed, difference.night))
            for line in difference.lines[:20]:
                print("  " + line)
            case = shrink(case, difference.night, checker, shrink_seconds)
            print_case(case, checker.replay(case) or difference)
            return False
        done += len(case.nights)
        number += 1
    print("%d nights in %.0f s as expected; they ended in: %s" % (
        done, time.monotonic() - started, ", ".join(
            "%s %d" % x for x in sorted(checker.ends.items()))))
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nights", type=int, default=400)
    parser.add_argument("--seed")
    parser.add_argument("--shrink", type=int, default=60, metavar="SECONDS")
    arguments = parser.parse_args()
    seed = arguments.seed or "%08x" % random.SystemRandom().randrange(1 << 32)
    print("seed %s" % seed, flush=True)
    checker = Checker(server.Psql([]))
    try:
        good = check(checker, arguments.nights, seed, arguments.shrink)
    finally:
        checker.close()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
