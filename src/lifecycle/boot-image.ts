/** An image as a driver needs it: files on this computer, addressed by digest. */
export interface BootImage {
  /** `sha256:…` over the contents of all its files. */
  readonly digest: string;
  /** `amd64` or `arm64`, in Debian's words. */
  readonly architecture: string;
  readonly kernel: string;
  readonly initramfs: string;
  /** Read-only file systems in the order of their disks: the base first; later ones lie over earlier ones. */
  readonly layers: readonly string[];
  /** Where hosts of a fleet pull it from; undefined while it has not been pushed. */
  readonly published?: PublishedImage;
}

/** The same content as the two OCI images that a host pulls by digest: `registry.example.org:5000/name/kernel@sha256:…`. */
export interface PublishedImage {
  /** Holds `boot/vmlinux` and `boot/initrd.img`. */
  readonly kernel: string;
  /** The root file system. */
  readonly root: string;
  /** True for a root of other people: its own init starts it, and cloud-init makes it one of ours. */
  readonly cloudInit?: boolean;
}
