# shellcheck shell=bash
# What test/versions, test/pg_upgrade and test/package share: other releases of Debian, each
# in a fresh folder of its own (debootstrap) under $base, with the tree in
# /srv/sis_sync.  Needs root and debootstrap.
#
# Each command runs in namespaces of its own: when they end, however they do,
# its processes and its mounts are gone, and only the folder is to be removed.

# shellcheck source=test/lib/mirror.sh
. "$(dirname "${BASH_SOURCE[0]}")/mirror.sh"

systems_begin() {
	[ "$(id -u)" -eq 0 ] || { echo "${0##*/} must be run as root" >&2; exit 1; }
	command -v debootstrap >/dev/null || { echo "${0##*/}: install debootstrap" >&2; exit 1; }
	tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
	base=$(mktemp -d)
	child=
	trap leave EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	mkfifo "$base/pipe"
}

leave() {
	trap '' INT TERM HUP
	if [ -n "$child" ]; then
		kill -KILL "$child" 2>/dev/null || true
		wait "$child" 2>/dev/null || true
	fi
	# what was killed may need a moment to let go of its files
	rm -rf "$base" 2>/dev/null || { sleep 2; rm -rf "$base"; }
}

# apart COMMAND...: runs it in namespaces of its own, its output in $base/pipe.
# In the background, or bash would put off our traps until it has ended.
apart() {
	local code=0
	unshare --mount --pid --fork --kill-child -- "$@" \
		>"$base/pipe" 2>&1 </dev/null &
	child=$!
	wait "$child" || code=$?
	child=
	return "$code"
}

# make_system RELEASE MIRROR: a fresh system with the tree, and the data beside it, in it.
make_system() {
	local root=$base/$1 code=0
	cat <"$base/pipe" >"$base/out" &
	apart debootstrap --variant=minbase "$1" "$root" "$2" || code=$?
	wait $!
	[ "$code" -eq 0 ] || { tail -n 20 "$base/out"; return 1; }
	# a stored snapshot of sid is older than its lists say they may be
	echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/99snapshot"
	git clone -q "$tree" "$root/srv/sis_sync" || return 1
	[ ! -d "$tree/../shared/data" ] || { mkdir "$root/srv/shared" && cp -r "$tree/../shared/data" "$root/srv/shared/"; }
}

# inside RELEASE COMMAND...: runs it there as CI=true does, its output shown and
# kept in $base/out.
inside() {
	local root=$base/$1 code=0 tee
	shift
	tee "$base/out" <"$base/pipe" &
	tee=$!
	# shellcheck disable=SC2016
	apart bash -c 'root=$0
		mount --bind /dev "$root/dev" &&
		mount -t tmpfs tmpfs "$root/dev/shm" &&
		mount -t proc proc "$root/proc" &&
		exec chroot "$root" env CI=true "$@"' "$root" "$@" || code=$?
	wait "$tee"
	return "$code"
}
