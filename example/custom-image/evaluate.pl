# Asks for as many replicas as the label says.
use strict;
use warnings;
use JSON::PP;

my $value = decode_json(do { local $/; <STDIN> })->{metrics}[0]{value} // '';
$value =~ /^\d+$/ or die "the label numPods is '$value', which is no whole number\n";
# Adding 0 makes it a number, which JSON writes without quotes.
print encode_json({ targetReplicas => $value + 0 });
