# Delta.pm
#	A package of changes (OneRoster CSV delta) made out of two whole ones.
#
#	Delta::write($yesterday, $today, $dir);
#
# Rows that are new or differ stand in it as they are today, rows that have
# gone with the status tobedeleted; a file without changes has its header only.
package Delta;

use strict;
use warnings;
use File::Basename qw(basename);
use File::Path qw(make_path);

# The lines of a file by their first field, and the header.
sub read_file
{
	my ($path) = @_;
	my %lines;

	open my $in, '<:raw', $path or die "$path: $!";
	chomp(my $header = <$in>);
	while (my $line = <$in>)
	{
		chomp $line;
		my ($id) = $line =~ /^"?([^",]*)"?,/ or die "$path: $line";
		$lines{$id} = $line;
	}
	close $in;
	return ($header, \%lines);
}

# Options: leave_out [ file, … ]: not written, and absent in the manifest.
sub write    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($old_dir, $new_dir, $dir, %opt) = @_;
	my %without = map { $_ => 1 } @{ $opt{leave_out} // [] };
	my %mode;

	make_path($dir);
	unlink glob "$dir/*.csv";
	for my $path (glob "$new_dir/*.csv")
	{
		my $name = basename($path, '.csv');

		next if $name eq 'manifest';
		$mode{$name} = $without{$name} ? 'absent' : 'delta';
		next if $without{$name};
		my ($header, $new) = read_file($path);
		my (undef, $old) = read_file("$old_dir/$name.csv");

		open my $out, '>:raw', "$dir/$name.csv" or die "$dir/$name.csv: $!";
		print $out "$header\n";
		for my $id (sort keys %$new)
		{
			print $out "$new->{$id}\n" if ($old->{$id} // '') ne $new->{$id};
		}
		for my $id (grep { !exists $new->{$_} } sort keys %$old)
		{
			my $line = $old->{$id};

			$line =~ s/^("?[^",]*"?),[^,]*,/$1,tobedeleted,/;
			print $out "$line\n";
		}
		close $out or die "$dir/$name.csv: $!";
	}
	write_manifest($new_dir, $dir, \%mode);
	return;
}

# Today's manifest, with other modes.
sub write_manifest
{
	my ($new_dir, $dir, $mode) = @_;

	open my $in, '<:raw', "$new_dir/manifest.csv" or die "manifest.csv: $!";
	open my $out, '>:raw', "$dir/manifest.csv" or die "manifest.csv: $!";
	while (my $line = <$in>)
	{
		$line =~ s/^("?file\.(\w+)"?,"?)(\w+)/$1 . ($mode->{$2} \/\/ 'absent')/e;
		print $out $line;
	}
	close $out or die "manifest.csv: $!";
	return;
}

1;
