# Finishes the base layer's root file system; mmdebstrap runs it outside of the root, whose path is $1. The variables
# kernel_package and guest_sources are set in front of it.
set -eu
root=$1

# A package may have put the file of a resolver here that runs nowhere yet. There is more to download, and machines want a file.
rm -f "$root/etc/resolv.conf"
cat /etc/resolv.conf >"$root/etc/resolv.conf"

# The kernel's package is unpacked, not installed: installing would bring an initramfs generator and a boot loader.
inside() { chroot "$root" "$@"; }
dependency() { inside apt-cache depends "$1" | sed -n "s/^ *Depends: \($2.*\)/\1/p"; }
image=$(dependency "$kernel_package" linux-image- | head -n 1)
test -n "$image" || { echo "no kernel package behind $kernel_package" >&2; exit 1; }
mkdir "$root/firerunner-kernel"
inside sh -c 'cd /firerunner-kernel && apt-get -q -o APT::Sandbox::User=root download "$@"' sh \
  "$image" $(dependency "$image" linux-modules-)
for package in "$root"/firerunner-kernel/*.deb; do
  inside dpkg-deb -x "/firerunner-kernel/${package##*/}" /firerunner-kernel/tree
  inside dpkg-deb -W --showformat '${Package} ${Version}\n' "/firerunner-kernel/${package##*/}" \
    >>"$root/firerunner-kernel/packages"
  rm "$package"
done
inside dpkg-query -W --showformat '${Package} ${Version}\n' >>"$root/firerunner-kernel/packages"
mv "$root"/firerunner-kernel/tree/boot/vmlinu[xz]-* "$root/firerunner-kernel/vmlinuz"

# Modules that jobs may need (file systems, networks, containers); hardware that no microVM has is left out.
# Debian has them below /usr from release 13 on.
modules=$(echo "$root"/firerunner-kernel/tree/lib/modules/*)
test -d "$modules" || modules=$(echo "$root"/firerunner-kernel/tree/usr/lib/modules/*)
release=${modules##*/}
echo "$release" >"$root/firerunner-kernel/release"
mkdir -p "$root/usr/lib/modules"
mv "$modules" "$root/usr/lib/modules/"
modules=$root/usr/lib/modules/$release
for folder in "$modules"/kernel/drivers/*; do
  case ${folder##*/} in
    block | char | crypto | md | net | nvdimm | vhost | virtio) ;;
    *) rm -r "$folder" ;;
  esac
done
rm -rf "$modules"/kernel/drivers/net/ethernet "$modules"/kernel/drivers/net/wireless "$modules/build" "$modules/source"
inside depmod "$release"

# Nothing of the build host, no logs, no caches, no documentation but the licences.
printf '%s' "$guest_sources" >"$root/etc/apt/sources.list"
: >"$root/etc/resolv.conf"
: >"$root/etc/machine-id"
rm -f "$root/etc/hostname" "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
rm -rf "$root"/var/log/* "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/var/cache/ldconfig/* \
  "$root"/etc/*- "$root"/usr/share/man/* "$root"/usr/share/info/* "$root"/usr/share/locale/* "$root"/usr/share/lintian \
  "$root"/root/.bash_history
find "$root/usr/share/doc" ! -type d ! -name copyright -delete
find "$root/usr/share/doc" -type d -empty -delete
