# The first program in the namespaces in which a runner is asked what it can do (runner-info.ts): a root directory with the
# system's programs, read-only, and nothing else of this computer. Arguments: an empty directory, the runner, its arguments.
set -eu
room=$1 runner=$2
shift 2
script=$(cat)                             # runner-room.pl, which the runner's user need not be able to find
mount -t tmpfs -o mode=0755,size=256m,nosuid tmpfs "$room"
mkdir "$room/usr" "$room/proc" "$room/dev" "$room/home" "$room/tmp" "$room/etc"
mount --rbind /usr "$room/usr"
mount -o remount,bind,ro,nosuid,nodev "$room/usr"
for name in bin sbin lib lib32 lib64 libx32; do
  if [ -L "/$name" ]; then
    ln -s "$(readlink "/$name")" "$room/$name"
  elif [ -d "/$name" ]; then
    mkdir "$room/$name"
    mount --bind "/$name" "$room/$name"
    mount -o remount,bind,ro,nosuid,nodev "$room/$name"
  fi
done
# Programs look these up by name; none of them is this computer's own.
echo 'nobody:x:65534:65534:nobody:/home:/bin/sh' >"$room/etc/passwd"
echo 'nogroup:x:65534:' >"$room/etc/group"
echo '127.0.0.1 localhost' >"$room/etc/hosts"
printf 'tcp 6 TCP\nudp 17 UDP\n' >"$room/etc/protocols"
echo 'hosts: files' >"$room/etc/nsswitch.conf"
if [ -d /etc/alternatives ]; then cp -a /etc/alternatives "$room/etc/"; fi
for name in null zero urandom random; do
  : >"$room/dev/$name"
  mount --bind "/dev/$name" "$room/dev/$name"
done
mount -t proc -o nosuid,nodev,noexec proc "$room/proc" || :
cp "$runner" "$room/runner"
chmod 0755 "$room/runner"
chmod 1777 "$room/home" "$room/tmp"
exec perl -e "$script" "$room" "$@"
