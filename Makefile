# sis_sync: built with PGXS.  See README.md; test/setup installs what it needs.

EXTENSION = sis_sync
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" sis_sync.control)
MODULE_big = sis_sync
DATA = sis_sync--1.1.sql sis_sync--1.0--1.1.sql
PGFILEDESC = "sis_sync - keeps school rosters equal to their source"

OBJS = \
	src/sis_sync.o \
	src/sqlfuncs.o \
	src/roster.o \
	src/run.o \
	src/attempt.o \
	src/intake.o \
	src/runlog.o \
	src/notify.o \
	src/notice.o \
	src/due.o \
	src/schedule.o \
	src/guard.o \
	src/threshold.o \
	src/creep.o \
	src/hold.o \
	src/updates.o \
	src/emptied.o \
	src/rekey.o \
	src/approve.o \
	src/rename.o \
	src/preview.o \
	src/explain.o \
	src/explain_facts.o \
	src/explain_records.o \
	src/explain_schools.o \
	src/explain_words.o \
	src/explain_words_sql.o \
	src/undo.o \
	src/undo_delta.o \
	src/retire.o \
	src/whereabouts.o \
	src/erase.o \
	src/erased.o \
	src/retention.o \
	src/merge.o \
	src/delta.o \
	src/write.o \
	src/scope.o \
	src/stage.o \
	src/stagerow.o \
	src/rejectlog.o \
	src/slot.o \
	src/fold.o \
	src/fold_group.o \
	src/carry.o \
	src/settings.o \
	src/window.o \
	src/provider/provider.o \
	src/provider/csvset.o \
	src/provider/fileset.o \
	src/provider/csv_header.o \
	src/provider/csv_table.o \
	src/provider/csv_oneroster.o \
	src/provider/oneroster_words.o \
	src/provider/oneroster_rest.o \
	src/provider/oneroster_pages.o \
	src/provider/oneroster_auth.o \
	src/provider/oneroster_refusal.o \
	src/provider/oneroster_map.o \
	src/provider/oneroster_users.o \
	src/provider/csv_clever.o \
	src/provider/links.o \
	src/provider/recordspool.o \
	src/provider/clever.o \
	src/provider/clever_auth.o \
	src/provider/clever_records.o \
	src/provider/rest.o \
	src/provider/jsonmap.o \
	src/format/csv.o \
	src/format/json.o \
	src/format/jsonscan.o \
	src/format/encoding.o \
	src/format/zip.o \
	src/format/zip_directory.o \
	src/transport/directory.o \
	src/transport/oauth.o \
	src/transport/sftp.o \
	src/transport/ssh.o \
	src/transport/http.o \
	src/transport/transfer.o \
	src/transport/wait.o \
	src/transport/spool.o \
	src/base/record.o \
	src/base/fingerprint.o \
	src/base/seen.o \
	src/base/value.o \
	src/base/url.o \
	src/base/textlist.o \
	src/base/error.o \
	src/base/progress.o \
	src/base/option.o \
	src/base/source.o \
	src/base/spi.o

REGRESS = setup validators settings steps errors
REGRESS_OPTS = --inputdir=. --encoding=UTF8 --no-locale

PG_CONFIG ?= pg_config
PG_CPPFLAGS = -I$(srcdir)/src -DSIS_SYNC_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-clobbered
SHLIB_LINK = -lcsv -larchive -lcurl -lcrypto -ljson-c

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# every object again when a header changes: PGXS tracks no dependencies here
$(OBJS): $(wildcard $(srcdir)/src/*.h $(srcdir)/src/*/*.h)

# Ratios against the same job by hand, in one run; see test/bench/run.
.PHONY: bench
bench:
	test/bench/run

# All that reads bytes from outside, fuzzed for so long each: make fuzz SECONDS=600
.PHONY: fuzz
fuzz:
	test/fuzz/run fuzz $(or $(SECONDS),60)

# Debian packages for each server whose headers are installed, into build/deb.
.PHONY: deb
deb:
	packaging/debian/build
