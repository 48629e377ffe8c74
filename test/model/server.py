"""server.py
The extension's side: a psql that stays, and a case's sync in its database.
"""
import json
import os
import select
import subprocess
import time

import rules

BASE = int(time.time()) - 86400


def literal(value):
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("'", "''") + "'"


class Psql:
    """One connection; every answer ends in a mark that it is told to print."""

    def __init__(self, arguments, seconds=120):
        self.seconds = seconds
        self.marks = 0
        self.process = subprocess.Popen(
            ["psql", "-X", "-q", "-A", "-t", "-v", "VERBOSITY=verbose"]
            + arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, PGCLIENTENCODING="UTF8", LC_ALL="C"))

    def send(self, sql):
        """The lines that come of it; errors are among them."""
        self.marks += 1
        mark = b"=== %d ===" % self.marks
        self.process.stdin.write(sql.encode() + b"\n\\echo " + mark + b"\n")
        self.process.stdin.flush()
        got = b""
        until = time.monotonic() + self.seconds
        while not got.endswith(mark + b"\n"):
            if not select.select([self.process.stdout], [], [],
                                 max(0, until - time.monotonic()))[0]:
                raise RuntimeError("no answer in %d s: %s" % (self.seconds, sql))
            part = os.read(self.process.stdout.fileno(), 1 << 20)
            if not part:
                raise RuntimeError("the connection is gone: %s"
                                   % got.decode(errors="replace"))
            got += part
        return got[:-len(mark) - 1].decode().splitlines()

    def run(self, sql):
        """SQL that must succeed."""
        lines = self.send(sql)
        if any("ERROR:  " in line for line in lines):
            raise RuntimeError("%s\n%s" % (sql, "\n".join(lines)))
        return lines

    def error(self, sql):
        """(SQLSTATE, record type, message) of SQL, or None."""
        code = record_type = message = None
        for line in self.send(sql):
            if line.startswith("ERROR:  "):
                code, message = line[8:13], line[15:]
            elif line.startswith("TABLE NAME:  "):
                record_type = line[13:]
        return (code, record_type, message) if code else None


# ----------
# A night's files
# ----------

def csv_field(field):
    if any(c in field for c in (b'"', b",", b"\n", b"\r")):
        return b'"' + field.replace(b'"', b'""') + b'"'
    return field


def csv_line(fields):
    return b",".join(map(csv_field, fields)) + b"\n"


def csv_files(feed):
    """{file name: bytes} of a feed."""
    lines = [["propertyName", "value"], ["manifest.version", "1.0"],
             ["oneroster.version", "1.1"]] + \
        [["file." + name, mode] for name, mode in feed.modes.items()]
    result = {"manifest.csv": b"".join(
        csv_line([f.encode() for f in line]) for line in lines)}
    for name, (header, rows) in feed.files.items():
        result[name + ".csv"] = csv_line([h.encode() for h in header]) + \
            b"".join(map(csv_line, rows))
    return result


def write_files(feed, folder):
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    at = BASE + 60 * feed.as_of
    for name, data in csv_files(feed).items():
        path = os.path.join(folder, name)
        with open(path, "wb") as out:
            out.write(data)
        os.utime(path, (at, at))


# ----------
# What somebody does before a run: to the model's state, and as SQL
# ----------

def do_op(op, state, settings, sync):
    """Applies it to state and settings, and returns the SQL."""
    what, args = op[0], op[1:]
    if what == "set":
        setattr(settings, args[0], args[1])
        return "UPDATE sis_sync.sync SET %s = %s WHERE name = '%s'" % (
            args[0], literal(args[1]), sync)
    if what == "threshold":
        record_type, percent, valid = args
        settings.thresholds.pop(record_type, None)
        sql = "DELETE FROM sis_sync.sync_threshold WHERE sync = '%s' AND " \
            "record_type = '%s'" % (sync, record_type)
        if percent is not None:
            settings.thresholds[record_type] = (percent, valid)
            sql += ";\nINSERT INTO sis_sync.sync_threshold VALUES ('%s', '%s'," \
                " %s, %s)" % (sync, record_type, percent,
                              "NULL" if valid else "now() - interval '1 hour'")
        return sql
    if what == "add_school":
        school, app = args
        settings.schools.setdefault(school, app)
        return "INSERT INTO sis_sync.sync_school VALUES ('%s', %s, %s) " \
            "ON CONFLICT DO NOTHING" % (sync, literal(school), literal(app))
    if what in ("drop_school", "app_school"):
        if not settings.schools:
            return "SELECT 1 WHERE false"
        school = sorted(settings.schools)[args[0] % len(settings.schools)]
        where = "WHERE sync = '%s' AND school_id = %s" % (sync, literal(school))
        if what == "drop_school":
            del settings.schools[school]
            return "DELETE FROM sis_sync.sync_school " + where
        settings.schools[school] = args[1]
        return "UPDATE sis_sync.sync_school SET app_school = %s %s" % (
            literal(args[1]), where)
    if what == "approve":
        if state.held is None:
            return "SELECT 1 WHERE false"
        state.approved, state.held = state.held, None
        return "SELECT sis_sync.approve((SELECT max(id) FROM sis_sync.run " \
            "WHERE sync = '%s'), 'they may go')" % sync
    return do_by_hand(what, args, state, sync)


def do_by_hand(what, args, state, sync):
    record_type, record_id = args[:2]
    rows = state.rows[record_type]
    row = rows.get(record_id)
    table = "roster." + record_type
    mine = "(SELECT id FROM sis_sync.sync WHERE name = '%s')" % sync
    where = "WHERE sync_id = %s AND source_id = %s" % (mine, literal(record_id))
    if what == "edit":
        column, value = args[2:]
        if row is not None and row.values[column] != value:
            row.values = dict(row.values, **{column: value})
            row.content = None
        return "UPDATE %s SET %s = %s %s" % (table, column, literal(value),
                                             where)
    if what == "managed":
        if row is not None:
            row.managed = args[2]
        return "UPDATE %s SET sis_managed = %s %s" % (table, literal(args[2]),
                                                      where)
    if what == "insert":
        if row is None:
            rows[record_id] = rules.Row(
                {c: None for c, _ in rules.COLUMNS[record_type]},
                managed=args[2])
        return "INSERT INTO %s (sync_id, source_id, sis_managed) VALUES " \
            "(%s, %s, %s) ON CONFLICT DO NOTHING" % (
                table, mine, literal(record_id), literal(args[2]))
    rows.pop(record_id, None)
    return "DELETE FROM %s %s" % (table, where)


# ----------
# A sync
# ----------

def call_sql(sync, mode):
    return {"call": "CALL sis_sync.run('%s');",
            "dry": "CALL sis_sync.run('%s', dry_run => true);",
            "atomic": "SELECT sis_sync.run_atomic('%s');"}[mode] % sync


class Sync:
    """A sync of its own over a folder; its rows go when it is dropped."""

    def __init__(self, psql, name, folder):
        self.psql, self.name, self.folder = psql, name, folder
        psql.run("CREATE SERVER %s FOREIGN DATA WRAPPER sis_directory "
                 "OPTIONS (path %s);\n"
                 "INSERT INTO sis_sync.sync (name, server) VALUES ('%s', '%s');"
                 % (name, literal(folder), name, name))
        self.id = int(psql.run("SELECT id FROM sis_sync.sync WHERE name = '%s';"
                               % name)[0])
        latest = "(SELECT max(id) FROM sis_sync.run WHERE sync = '%s')" % name
        self.look_sql = (
            "SELECT json_build_object('run', (SELECT row_to_json(r) FROM "
            "(SELECT id, status, error_code, dry_run FROM sis_sync.run "
            "WHERE id = %s) r), 'counts', (SELECT json_object_agg(record_type,"
            " row_to_json(c)) FROM sis_sync.run_count c WHERE run_id = %s), "
            "'held', (SELECT coalesce(json_agg(json_build_array(record_type,"
            " source_id)), '[]') FROM sis_sync.pending_archive"
            " WHERE run_id = %s), 'rows', json_build_object(%s), "
            "'others', (SELECT count(*) || ' ' || sum(x) FROM (%s) o));"
            % (latest, latest, latest, ", ".join(
                "'%s', (SELECT coalesce(json_object_agg(t.source_id, "
                "row_to_json(t)), '{}') FROM (SELECT *, xmin::text AS xmin_ "
                "FROM roster.%s WHERE sync_id = %d) t)" % (t, t, self.id)
                for t in rules.TYPES), " UNION ALL ".join(
                    "SELECT hashtext(t::text || t.xmin)::bigint AS x "
                    "FROM roster.%s t WHERE sync_id <> %d" % (t, self.id)
                    for t in rules.TYPES)))

    def look(self):
        return json.loads("".join(self.psql.run(self.look_sql)))

    def drop(self):
        self.psql.run("".join(
            "DELETE FROM roster.%s WHERE sync_id = %d;\n" % (t, self.id)
            for t in rules.TYPES) +
            "DELETE FROM sis_sync.sync WHERE name = '%s';\n"
            "DROP SERVER %s;" % (self.name, self.name))
