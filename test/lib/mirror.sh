# shellcheck shell=bash
# The mirror of Debian that this machine's apt takes its packages from.

debian_mirror() {
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null |
		sed 's:/*$::' | grep -m 1 '/debian$' ||
		{ echo "${0##*/}: apt knows no mirror of Debian" >&2; return 1; }
}
