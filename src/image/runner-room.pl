# What stands between a runner and the world while it is asked what it can do: switches loopback on in its empty network, listens
# there, and passes what is said on to a socket of ours. The runner
# itself is nobody, without any right, in a root directory of its own. Arguments: that directory, the runner's arguments.
use strict;
use warnings;
use Socket;

my ($room, @arguments) = @ARGV;
my $path = $ENV{FIRERUNNER_SOCKET} or die "no socket\n";
my ($SIOCSIFFLAGS, $IFF_UP_AND_RUNNING) = (0x8914, 0x41);
my $MOST_CONNECTIONS = 32;

socket(my $control, PF_INET, SOCK_DGRAM, 0) or die "socket: $!\n";
my $request = pack('a16 s x22', 'lo', $IFF_UP_AND_RUNNING);
ioctl($control, $SIOCSIFFLAGS, $request) or die "loopback: $!\n";
socket(my $listener, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
bind($listener, pack_sockaddr_in(80, INADDR_LOOPBACK)) && listen($listener, 16) or die "listen: $!\n";
$SIG{PIPE} = 'IGNORE';

my $runner = fork() // die "fork: $!\n";
if (!$runner) {
    exec('prlimit', '--core=0', '--cpu=60', '--nofile=256', '--nproc=256', '--fsize=16777216', '--data=4294967296', '--',
        'chroot', $room, 'setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--no-new-privs', '--inh-caps=-all',
        '--bounding-set=-all', '--', 'env', '-i', '--chdir=/home', 'HOME=/home', 'TMPDIR=/tmp', 'PATH=/usr/local/bin:/usr/bin:/bin',
        'LANG=C.UTF-8', 'CI_SERVER_TOKEN=glrt-image-build', '/runner', @arguments) or die "exec: $!\n";
}

my $forwarder = fork() // die "fork: $!\n";
if (!$forwarder) {
    $SIG{CHLD} = 'IGNORE';
    for (1 .. $MOST_CONNECTIONS) {
        accept(my $inside, $listener) or last;
        next if fork();
        socket(my $outside, PF_UNIX, SOCK_STREAM, 0) or exit 1;
        connect($outside, pack_sockaddr_un($path)) or exit 1;
        my $child = fork() // exit 1;
        my ($from, $to) = $child ? ($outside, $inside) : ($inside, $outside);
        while (my $length = sysread($from, my $buffer, 65536)) {
            my $done = 0;
            $done += syswrite($to, $buffer, $length - $done, $done) // exit 1 while $done < $length;
        }
        shutdown($to, 1);
        exit 0;
    }
    exit 0;
}

close($listener);
waitpid($runner, 0);
# The end of this program is the end of the namespace, and of all that is in it.
exit($? & 127 ? 128 + ($? & 127) : $? >> 8);
