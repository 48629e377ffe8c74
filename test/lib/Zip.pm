# Zip.pm
#	Zip files for tests, made by Perl's own IO::Compress::Zip.
#
#	Zip::pack($file, { 'users.csv' => $bytes, ... });
#	Zip::pack_folder($file, $folder, prefix => 'export/');
package Zip;

use strict;
use warnings;
use File::Basename qw(basename);
use IO::Compress::Zip qw($ZipError :constants);

# Options: method (ZIP_CM_DEFLATE by default, ZIP_CM_STORE).
sub pack    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($file, $entries, %opt) = @_;
	my $zip;

	for my $name (sort keys %$entries)
	{
		my @of_entry = (Name => $name, Method => $opt{method} // ZIP_CM_DEFLATE);

		if (!$zip)
		{
			$zip = IO::Compress::Zip->new("$file.part", @of_entry)
			  or die "$file: $ZipError";
		}
		else
		{
			$zip->newStream(@of_entry) or die "$file: $ZipError";
		}
		$zip->print($entries->{$name}) if length $entries->{$name};
	}
	$zip->close or die "$file: $ZipError";
	rename "$file.part", $file or die "$file: $!";
	return;
}

sub bytes
{
	my ($path) = @_;

	open my $in, '<:raw', $path or die "$path: $!";
	local $/;
	return scalar(<$in>) // '';
}

# The files of a folder; prefix stands before their names.
sub pack_folder
{
	my ($file, $folder, %opt) = @_;
	my $prefix = delete $opt{prefix} // '';

	Zip::pack($file,
		{ map { $prefix . basename($_) => bytes($_) } grep { -f } glob "$folder/*" },
		%opt);
	return;
}

1;
