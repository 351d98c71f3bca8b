/**
 * The entries of layers. Names are strings of bytes (latin1) everywhere here: a layer may have names that are no UTF-8, and they must come
 * out as they went in.
 */
export type EntryKind = "file" | "directory" | "symlink" | "hardlink" | "fifo" | "device";

export interface Xattr {
  readonly name: string;
  readonly value: Buffer;
}

export interface Attributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970, as squashfs can hold them. */
  readonly mtimeS: number;
  readonly xattrs: readonly Xattr[];
}

/** What a header says, before its kind is known. */
export interface RawHeader extends Attributes {
  readonly type: string;
  readonly path: string;
  readonly target: string;
  readonly bytes: number;
}

export interface ScannedEntry extends Omit<RawHeader, "type"> {
  /** Counts the entries of the layer from 0. */
  readonly index: number;
  readonly kind: EntryKind;
  /** Of what follows; 0 for all but files. */
  readonly bytes: number;
}
