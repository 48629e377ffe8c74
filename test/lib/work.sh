# shellcheck shell=bash
# What test/setup, test/all and test/demo share: which server to build for, who
# runs it, a throw-away work folder, a private cluster, and the clean-up.
#
# The tree is copied into the work folder and built there, as an ordinary user:
# PostgreSQL refuses to run as root, the tree may be root's, and two checks of
# one tree must not meet in its object files.  "make install" writes into a
# server of the work folder's own, so that nothing outside of it changes and
# nobody else's install changes what is being checked.

export LC_ALL=C
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=
child=

say() { printf '%s\n' "$*"; }
heading() { printf '\n== %s ==\n\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# The pg_config to build with: $PG_CONFIG, else the newest one whose server
# headers are there.
find_pg_config() {
	if [ -z "${PG_CONFIG:-}" ]; then
		local candidate
		for candidate in $(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -t/ -k5,5nr) pg_config; do
			if [ -f "$("$candidate" --pgxs 2>/dev/null)" ]; then
				PG_CONFIG=$candidate
				break
			fi
		done
	fi
	[ -n "${PG_CONFIG:-}" ] || die "no pg_config with server headers found: run test/setup"
}

# Makes a copy of the server in $work/pg: a PostgreSQL program finds its other
# folders from where it stands itself, so its programs are copied, the rest is
# links, and the folders that "make install" writes to are real ones.
private_server() {
	local pg=$work/pg bin lib share option dir entry
	bin=$("$PG_CONFIG" --bindir)
	lib=$("$PG_CONFIG" --pkglibdir)
	share=$("$PG_CONFIG" --sharedir)
	mkdir -p "$pg$bin" "$pg$lib/bitcode" "$pg$share/extension"
	cp -rL "$bin/." "$pg$bin"
	find "$lib" -mindepth 1 -maxdepth 1 ! -name bitcode ! -name 'sis_sync*' \
		-exec ln -s {} "$pg$lib" \;
	find "$share" -mindepth 1 -maxdepth 1 ! -name extension \
		-exec ln -s {} "$pg$share" \;
	find "$share/extension" -mindepth 1 -maxdepth 1 ! -name 'sis_sync*' \
		-exec ln -s {} "$pg$share/extension" \;
	for option in includedir pkgincludedir includedir-server libdir; do
		dir=$("$PG_CONFIG" "--$option")
		# there already, as a link or within one
		[ ! "$pg$dir" -ef "$dir" ] || continue
		if [ -d "$pg$dir" ]; then
			# it is around another: what is not there yet
			for entry in "$dir"/*; do
				[ -e "$pg$dir/${entry##*/}" ] || ln -s "$entry" "$pg$dir"
			done
			continue
		fi
		mkdir -p "$pg${dir%/*}"
		ln -s "$dir" "$pg$dir"
	done
	PG_CONFIG=$pg$bin/pg_config
	export PG_CONFIG
	export PATH="$pg$bin:$PATH"
}

# Makes $work, owned by the user that clusters run as, and enters its tree.
work_begin() {
	find_pg_config
	user=
	if [ "$(id -u)" -eq 0 ]; then
		user=postgres
		id "$user" >/dev/null 2>&1 || die "there is no user $user: run test/setup"
	fi
	trap work_end EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	work=$(mktemp -d /tmp/sis_sync.XXXXXX)
	mkdir "$work/tree" "$work/tmp" "$work/shared"
	tar -C "$root" --exclude=./.git --exclude=./build --exclude='*.o' --exclude='*.so' \
		--exclude='*.bc' -cf - . | tar -C "$work/tree" -xf -
	# Real rosters that may lie beside the tree; tests that use them skip
	# where they are absent.
	if [ -d "$root/../shared/data" ]; then
		cp -r "$root/../shared/data" "$work/shared/data"
	fi
	private_server
	chmod -R u+w "$work"
	[ -z "$user" ] || chown -R "$user:" "$work"
	cd "$work/tree" || die "cannot enter $work/tree"
}

# Ends what was started, by its process ID, and removes the work folder.  A
# script that has more to undo defines at_end.
work_end() {
	local code=$? dir
	set +e
	trap - EXIT INT TERM HUP
	if [ -n "$child" ]; then
		kill -TERM -- "-$child" 2>/dev/null
		wait "$child" 2>/dev/null
	fi
	[ "$(type -t at_end)" != function ] || at_end
	if [ -n "$work" ]; then
		cd /
		find "$work" -name postmaster.pid 2>/dev/null | while read -r dir; do
			as_user pg_ctl -s -D "${dir%/postmaster.pid}" -m immediate stop >/dev/null 2>&1
		done
		rm -rf "$work"
	fi
	exit "$code"
}

# Runs a command as the ordinary user, with an environment of its own.
as_user() {
	local -a run=(env -i "PATH=$PATH" "HOME=$work" "TMPDIR=$work/tmp" LC_ALL=C
		"PG_CONFIG=$PG_CONFIG" "CI=${CI:-}")
	# of test/sanitized
	[ -z "${ASAN_OPTIONS:-}" ] || run+=("ASAN_OPTIONS=$ASAN_OPTIONS")
	[ -z "${UBSAN_OPTIONS:-}" ] || run+=("UBSAN_OPTIONS=$UBSAN_OPTIONS")
	run+=("$@")
	if [ -n "$user" ]; then
		setpriv --reuid="$user" --regid="$user" --init-groups "${run[@]}"
	else
		"${run[@]}"
	fi
}

# Runs a command with a time limit in seconds, such that a signal to this
# script ends it and all that it started.
limited() {
	local limit=$1 code
	shift
	export -f as_user
	export work user
	setsid timeout -k 20 "$limit" bash -c '"$@"' bash "$@" &
	child=$!
	wait "$child"
	code=$?
	child=
	[ "$code" -ne 124 ] || say "stopped after $limit seconds: $*"
	return "$code"
}

# Builds the copy of the tree and installs it into the copy of the server.
# Arguments go to make.
build_and_install() {
	as_user make -s "PG_CONFIG=$PG_CONFIG" "$@" &&
		as_user make -s "PG_CONFIG=$PG_CONFIG" "$@" install >/dev/null
}

# Starts a cluster in $work/cluster that nobody else can reach: its only socket
# lies in the work folder.  Sets PGHOST and PGPORT for as_psql.
cluster_start() {
	PGHOST=$work/cluster PGPORT=5432
	as_user mkdir "$PGHOST"
	as_user initdb -A trust -E UTF8 --locale=C -N -D "$PGHOST/data" >/dev/null &&
		as_user pg_ctl -s -w -D "$PGHOST/data" -l "$PGHOST/log" \
			-o "-p $PGPORT -c listen_addresses= -c unix_socket_directories=$PGHOST -c fsync=off" start
}

cluster_stop() { as_user pg_ctl -s -D "$PGHOST/data" -m fast stop; }

as_psql() { as_user env "PGHOST=$PGHOST" "PGPORT=$PGPORT" psql -X "$@"; }
