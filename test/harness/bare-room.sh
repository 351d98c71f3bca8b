#!/bin/bash
# What a machine is made of without the machine: its layers, its init, its disks of images, in namespaces of this computer. Run by bare-room.ts
# as `unshare … bare-room.sh DIRECTORY SOCKET LAYERS DEVICE…`: the socket is the relay's, the devices are the layers' and then those of images,
# and DIRECTORY has `command-line` and `console`. What is this computer's own (its kernel's settings) is read-only.
set -e
directory=$1 socket=$2 layers=$3
shift 3
root=$directory/root lower=
mount --make-rprivate /
# As in a machine, whose disk nobody flushes either.
mkdir -p "$root" "$directory/scratch"
mount -t tmpfs scratch "$directory/scratch"
mkdir "$directory"/scratch/{upper,work,builds,cache,containers,docker}

for ((index = 0; index < layers; index++)); do
  mkdir -p "$directory/layers/$index"
  mount -t squashfs -o ro "${@:index + 1:1}" "$directory/layers/$index"
  lower=$directory/layers/$index${lower:+:$lower}
done
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$directory/scratch/upper,workdir=$directory/scratch/work" "$root"
for each in builds cache; do mount --bind "$directory/scratch/$each" "$root/$each"; done
mount --bind "$directory/scratch/containers" "$root/var/lib/containers/storage"
[[ ! -d $root/var/lib/docker ]] || mount --bind "$directory/scratch/docker" "$root/var/lib/docker"

mount -t proc proc "$root/proc"
mount --bind "$directory/command-line" "$root/proc/cmdline"
mount --bind "$root/proc/sys/kernel" "$root/proc/sys/kernel"
mount -o remount,bind,ro "$root/proc/sys/kernel"
mount -t sysfs -o ro sys "$root/sys"
mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
mount -t tmpfs run "$root/run"
mount -t tmpfs -o mode=755 dev "$root/dev"
mkdir "$root"/dev/{pts,shm,net}
mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts "$root/dev/pts"
mount -t tmpfs shm "$root/dev/shm"
for each in null zero full random urandom tty; do cp -a "/dev/$each" "$root/dev/"; done
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
: >"$root/dev/console"
mount --bind "$directory/console" "$root/dev/console"
# The scratch disk is no device here: its letter is left out.
letters=(a b c d e f g h i j k l)
index=0
for device in "$@"; do
  ((index != layers)) || index=$((index + 1))
  cp -aL "$device" "$root/dev/vd${letters[index]}"
  index=$((index + 1))
done

# No cgroup has limits in here.
mkdir -p "$root/etc/containers/containers.conf.d"
printf '[containers]\npids_limit = 0\n' >"$root/etc/containers/containers.conf.d/room.conf"

: >"$root/run/relay.sock"
mount --bind "$socket" "$root/run/relay.sock"
ip link set lo up
ip address add 10.0.2.100/32 dev lo
cd "$root"
mkdir -p old-root
pivot_root . old-root
exec chroot . /bin/bash -c '
  umount -l /old-root
  socat TCP-LISTEN:80,bind=10.0.2.100,fork,reuseaddr UNIX-CONNECT:/run/relay.sock &
  until grep -q ":0050 " /proc/net/tcp; do sleep 0.01; done
  exec /sbin/firerunner-init'
