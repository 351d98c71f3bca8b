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
  /** What this computer calls the registry of our own images. */
  readonly registry?: string;
  /** How our own images were pushed there. */
  readonly pushed?: PushedBy;
}

/** How this computer speaks to a registry of its own choice. */
export interface PushedBy {
  /** True: HTTP without TLS; false: TLS with this computer, too. */
  readonly plainHttp?: boolean | undefined;
  /** PEM of authorities to trust besides the public ones. */
  readonly ca?: string | undefined;
}

/** What a registry says of an image that hosts are to pull; `locked`: only with a login; `unknown`: it could not be asked. */
export interface ImagePresence {
  readonly state: "there" | "gone" | "locked" | "unknown";
  /** Names the image. */
  readonly words: string;
}

/** Asks as a host does, without a login. Throws only when the signal aborts. */
export type AskRegistry = (image: PublishedImage, signal: AbortSignal) => Promise<ImagePresence>;

/** What to do about an image that hosts cannot pull. */
export const pushAgain =
  "push it again: firerunner image push REGISTRY/NAME (a root of images.roots is its maker's to push)";
