# Prints the label numPods of the Deployment.
use strict;
use warnings;
use JSON::PP;

my $metadata = decode_json(do { local $/; <STDIN> })->{resource}{metadata};
print $metadata->{labels}{numPods} // die "$metadata->{name} has no label numPods\n";
