# shellcheck shell=bash
# Root's part of the SFTP tests: an sshd that checks passwords, and an account
# that exists as long as it runs.  Sourced by test/all after work.sh.
#
# The tests find in $HOME/password_login (HOME is the work folder) where it
# listens and whom it lets in.

sshd_account=
sshd_home=
sshd_pids=()

# Accounts of runs that were killed before they could remove theirs.
remove_left_accounts() {
	local account
	for account in $(sed -n 's/^\(sissync[0-9]*\):.*/\1/p' /etc/passwd); do
		[ -d "/proc/${account#sissync}" ] || userdel -f "$account" >/dev/null 2>&1
	done
}

# start_sshd NAME LINE...: one more sshd with these lines in its settings; sets
# $port.
start_sshd() {
	local config=$sshd_home/$1
	port=$(perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(
		Listen => 1, LocalAddr => "127.0.0.1")->sockport')
	printf '%s\n' "Port $port" 'ListenAddress 127.0.0.1' 'PidFile none' \
		"HostKey $sshd_home/host_key" "AllowUsers $sshd_account" \
		'PubkeyAuthentication no' 'MaxAuthTries 20' \
		'Subsystem sftp internal-sftp' 'ForceCommand internal-sftp' \
		"${@:2}" >"$config"
	/usr/sbin/sshd -D -e -f "$config" >"$config.log" 2>&1 </dev/null &
	sshd_pids+=($!)
}

password_sshd_start() {
	local password port pam_port
	[ "$(id -u)" -eq 0 ] || return 0
	remove_left_accounts
	sshd_home=$(mktemp -d /tmp/sis_sync_sshd.XXXXXX)
	chmod 755 "$sshd_home"
	mkdir "$sshd_home/files"
	chown "$user:" "$sshd_home/files"
	ssh-keygen -q -t ed25519 -N '' -f "$sshd_home/host_key"
	password=$(head -c 18 /dev/urandom | base64 | tr '+/' 'xy')
	useradd --system --no-create-home --home-dir "$sshd_home/files" \
		--shell /usr/sbin/nologin "sissync$$" || return 1
	sshd_account=sissync$$
	echo "$sshd_account:$password" | chpasswd || return 1
	mkdir -p /run/sshd
	start_sshd pam 'UsePAM yes' 'PasswordAuthentication no' \
		'KbdInteractiveAuthentication yes'
	pam_port=$port
	start_sshd plain 'UsePAM no' 'PasswordAuthentication yes' \
		'KbdInteractiveAuthentication no'
	printf '%s\n' "port=$port" "pam_port=$pam_port" "user=$sshd_account" \
		"password=$password" "dir=$sshd_home/files" \
		"fingerprint=$(ssh-keygen -l -f "$sshd_home/host_key.pub" | cut -d' ' -f2)" \
		>"$work/password_login"
	chown "$user:" "$work/password_login"
	chmod 600 "$work/password_login"
}

# On every way out.
password_sshd_stop() {
	[ ${#sshd_pids[@]} -eq 0 ] || kill "${sshd_pids[@]}" 2>/dev/null
	[ -z "$sshd_account" ] || userdel -f "$sshd_account" >/dev/null 2>&1
	[ -z "$sshd_home" ] || rm -rf "$sshd_home"
}
