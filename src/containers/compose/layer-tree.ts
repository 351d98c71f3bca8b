/**
 * What a layer leaves behind when all of its entries have been unpacked in their order: later ones replace earlier ones, as with podman. Only
 * names and attributes are kept, no content. Which entry's content belongs to which names, `nodes` and `namesOf` say at the end.
 *
 * Whiteouts are about the layers below. What the layer itself puts in such a place stays; a directory hides what is below it.
 */
import type { Attributes, ScannedEntry } from "./entry.ts";
import { LayerRefusal, shown } from "./refusal.ts";

interface Directory {
  readonly kind: "directory";
  attributes: Attributes | undefined;
  isOpaque: boolean;
  readonly children: Map<string, Node>;
}

type Node =
  | Directory
  | { readonly kind: "file"; readonly index: number }
  | { readonly kind: "symlink"; readonly target: string; readonly attributes: Attributes }
  | { readonly kind: "fifo" | "whiteout"; readonly attributes: Attributes }
  /** A device: its place is taken, and nothing is in it. */
  | { readonly kind: "left out" };

/** All but files, whose content comes from the archive. */
export type TreeNode = { readonly path: string } & (
  | { readonly kind: "directory"; readonly attributes: Attributes | undefined; readonly isOpaque: boolean }
  | { readonly kind: "symlink"; readonly target: string; readonly attributes: Attributes }
  | { readonly kind: "fifo" | "whiteout"; readonly attributes: Attributes }
);

export interface TreeLimits {
  readonly pathBytes: number;
  /** Of names, link targets and extended attributes of one layer. */
  readonly heldBytes: number;
  /** Entries of one layer, with the directories that only their names tell of. */
  readonly entries: number;
}

const COMPONENT_BYTES_MAX = 255;
const DEPTH_MAX = 256;
const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";
/** Notes of aufs to itself. */
const WHITEOUT_META = ".wh..wh.";

export class LayerTree {
  readonly #limits: TreeLimits;
  readonly #root = newDirectory(undefined);
  readonly #names = new Map<number, string[]>();
  #heldBytes = 0;
  #entries = 0;

  constructor(limits: TreeLimits) {
    this.#limits = limits;
  }

  /** Throws LayerRefusal. */
  add(entry: ScannedEntry): void {
    this.#count();
    this.#heldBytes += entry.path.length + entry.target.length + xattrBytes(entry);
    if (this.#heldBytes > this.#limits.heldBytes)
      throw new LayerRefusal("its names and attributes are too many");
    const parts = componentsOf(entry.path, this.#limits.pathBytes);
    const name = parts.pop();
    if (name === undefined) this.#setRoot(entry);
    else if (name.startsWith(WHITEOUT)) this.#addWhiteout(parts, name, entry);
    else this.#addTo(this.#directoryAt(parts, entry.path), name, entry);
  }

  /** Directories before what is in them; the root, whose path is empty, first. To be read once. */
  nodes(): Generator<TreeNode> {
    return this.#nodesBelow(this.#root, "");
  }

  /** When `nodes` has been read: under which names the content of an entry stays; none when something has replaced it. */
  namesOf(index: number): readonly string[] {
    return this.#names.get(index) ?? [];
  }

  #count(): void {
    this.#entries += 1;
    const most = this.#limits.entries;
    if (this.#entries > most) throw new LayerRefusal(`it has more than ${most} entries`);
  }

  #setRoot(entry: ScannedEntry): void {
    if (entry.kind !== "directory") throw new LayerRefusal("its root is no directory", entry.path);
    this.#root.attributes = attributesOf(entry);
  }

  #addTo({ children }: Directory, name: string, entry: ScannedEntry): void {
    const there = children.get(name);
    if (entry.kind === "directory" && there?.kind === "directory") {
      there.attributes = attributesOf(entry);
      return;
    }
    const node = this.#nodeOf(entry, there);
    // Anew, so that it comes where its last entry stands.
    children.delete(name);
    children.set(name, node);
  }

  #addWhiteout(parts: readonly string[], name: string, entry: ScannedEntry): void {
    const hidden = name.slice(WHITEOUT.length);
    if (name !== OPAQUE && name.startsWith(WHITEOUT_META)) return;
    if (["", ".", ".."].includes(hidden)) throw new LayerRefusal("it hides no name", entry.path);
    // What is in a directory that is gone need not be hidden.
    if (this.#isBelowWhiteout(parts)) return;
    const parent = this.#directoryAt(parts, entry.path);
    const there = name === OPAQUE ? parent : parent.children.get(hidden);
    if (there?.kind === "directory") there.isOpaque = true;
    else if (!there) parent.children.set(hidden, { kind: "whiteout", attributes: attributesOf(entry) });
  }

  #isBelowWhiteout(parts: readonly string[]): boolean {
    let here: Node | undefined = this.#root;
    for (const part of parts) {
      here = childOf(here, part);
      if (here === undefined || here.kind === "whiteout") break;
    }
    return here?.kind === "whiteout";
  }

  /** The directory with these components, made where the archive has none. */
  #directoryAt(parts: readonly string[], path: string): Directory {
    let here = this.#root;
    for (const part of parts) {
      const next = here.children.get(part);
      const directory = next?.kind === "directory" ? next : this.#implied(next, path);
      if (directory !== next) here.children.set(part, directory);
      here = directory;
    }
    return here;
  }

  #implied(there: Node | undefined, path: string): Directory {
    if (there?.kind === "symlink") throw new LayerRefusal("it lies behind a symbolic link", path);
    if (there !== undefined && there.kind !== "whiteout")
      throw new LayerRefusal("it lies below what is no directory", path);
    this.#count();
    const made = newDirectory(undefined);
    made.isOpaque = there !== undefined;
    return made;
  }

  #nodeOf(entry: ScannedEntry, there: Node | undefined): Node {
    const attributes = attributesOf(entry);
    switch (entry.kind) {
      case "directory":
        return { ...newDirectory(attributes), isOpaque: there?.kind === "whiteout" };
      case "file":
        return { kind: "file", index: entry.index };
      case "symlink":
        requireTarget(entry, this.#limits.pathBytes);
        return { kind: "symlink", target: entry.target, attributes };
      case "fifo":
        return { kind: "fifo", attributes };
      case "hardlink":
        return this.#linked(entry);
      default:
        return { kind: "left out" };
    }
  }

  /** A hard link is another name for what has its target's name at this moment. */
  #linked(entry: ScannedEntry): Node {
    let there: Node | undefined = this.#root;
    for (const part of componentsOf(entry.target, this.#limits.pathBytes)) there = childOf(there, part);
    if (there !== undefined && there.kind !== "directory" && there.kind !== "whiteout") return there;
    const target = shown(entry.target);
    throw new LayerRefusal(
      `it is a hard link to “${target}”, which is no file before it in this layer`,
      entry.path,
    );
  }

  *#nodesBelow(directory: Directory, path: string): Generator<TreeNode> {
    yield { path, kind: "directory", attributes: directory.attributes, isOpaque: directory.isOpaque };
    for (const [name, node] of directory.children) {
      const below = path === "" ? name : `${path}/${name}`;
      if (node.kind === "directory") yield* this.#nodesBelow(node, below);
      else if (node.kind === "file") this.#remember(node.index, below);
      else if (node.kind !== "left out") yield { path: below, ...node };
    }
  }

  #remember(index: number, path: string): void {
    const known = this.#names.get(index);
    if (known) known.push(path);
    else this.#names.set(index, [path]);
  }
}

function childOf(node: Node | undefined, name: string): Node | undefined {
  return node?.kind === "directory" ? node.children.get(name) : undefined;
}

function requireTarget({ target, path }: ScannedEntry, pathBytes: number): void {
  if (target === "") throw new LayerRefusal("it is a link to nothing", path);
  if (target.length >= pathBytes) throw new LayerRefusal("its target is too long", path);
}

function newDirectory(attributes: Attributes | undefined): Directory {
  return { kind: "directory", attributes, isOpaque: false, children: new Map() };
}

function attributesOf({ mode, uid, gid, mtimeS, xattrs }: Attributes): Attributes {
  return { mode, uid, gid, mtimeS, xattrs };
}

function xattrBytes({ xattrs }: ScannedEntry): number {
  return xattrs.reduce((sum, { name, value }) => sum + name.length + value.length, 0);
}

/** A path below the layer's root. A slash at its beginning means that root, as with podman; `..` means nothing good. */
function componentsOf(path: string, pathBytes: number): string[] {
  if (path.length >= pathBytes) throw new LayerRefusal("its name is too long", path);
  if (path === "" || path.includes("\0")) throw new LayerRefusal("its name is none", path);
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw new LayerRefusal("its name leads upwards (..)", path);
  if (parts.length > DEPTH_MAX || parts.some((part) => part.length > COMPONENT_BYTES_MAX))
    throw new LayerRefusal("its name is too long", path);
  return parts;
}
