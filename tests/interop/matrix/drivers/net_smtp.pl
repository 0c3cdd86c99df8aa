# Perl's Net::SMTP with a given message, as in monitoring scripts.
use strict;
use warnings;
use Net::SMTP;

$| = 1;
my @authority = (SSL_ca_file => $ENV{INTEROP_CA});
while (my $line = <STDIN>) {
    chomp $line;
    my ($tls, $port, $user, $from, undef, $to, $bcc, undef, undef, undef, $message) = split /\t/, $line, -1;
    my $client = Net::SMTP->new('localhost', Port => $port, Timeout => 60, $tls eq 'implicit' ? (SSL => 1, @authority) : ());
    my $sent = $client
        && ($tls ne 'starttls' || $client->starttls(@authority))
        && ($user eq '' || $client->auth($user, 'secret'))
        && $client->mail($from)
        && $client->to(split(/,/, $to), split(/,/, $bcc))
        && $client->data()
        && send_lines($client, $message)
        && $client->dataend();
    my $told = ($sent ? "sent\t" : "failed\t") . ($client ? $client->code . ' ' . $client->message : "no connection: $@");
    $client->quit() if $client;
    $told =~ s/[\r\n]+/ /g;
    print "$told\n";
}

# Local line ends: Net::Cmd converts them to CR LF, and escapes dots.
sub send_lines {
    my ($client, $file) = @_;
    open my $content, '<:raw', $file or die "$file: $!";
    while (my $line = <$content>) {
        $line =~ s/\r\n\z/\n/;
        $client->datasend($line) or return 0;
    }
    return 1;
}
