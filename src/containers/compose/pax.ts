/** The records of a pax header, `<length> <key>=<value>\n`, and what they change of the header after it. As strict as Go's archive/tar. */
import type { RawHeader, Xattr } from "./entry.ts";
import { LayerRefusal } from "./refusal.ts";

export interface PaxOverrides {
  path?: string;
  target?: string;
  bytes?: number;
  uid?: number;
  gid?: number;
  mtimeS?: number;
  xattrs?: Xattr[];
}

const XATTR = "SCHILY.xattr.";
/** What Linux takes for a name and a value. */
const XATTR_NAME_MAX = 255;
const XATTR_VALUE_MAX = 64 * 1024;

export function parsePaxRecords(body: Buffer): PaxOverrides {
  const found: PaxOverrides = {};
  const xattrs = new Map<string, Buffer>();
  for (let at = 0; at < body.length; ) {
    const space = body.indexOf(0x20, at);
    const digits = space < 0 ? "" : body.toString("latin1", at, space);
    const end = at + Number(digits);
    const equals = body.indexOf(0x3d, space);
    const isWhole = /^[1-9]\d{0,6}$/.test(digits) && end <= body.length && equals > space + 1 && equals < end;
    if (!isWhole || body[end - 1] !== 0x0a) throw new LayerRefusal("a pax header is damaged");
    const key = body.toString("latin1", space + 1, equals);
    const value = body.subarray(equals + 1, end - 1);
    if (key.startsWith(XATTR)) xattrs.set(key.slice(XATTR.length), Buffer.from(value));
    else setOne(found, key, value);
    at = end;
  }
  return { ...found, xattrs: [...xattrs].flatMap(([name, value]) => kept(name, value)) };
}

/** An empty value leaves what the header has. */
function setOne(found: PaxOverrides, key: string, value: Buffer): void {
  const text = value.toString("latin1");
  if (key.startsWith("GNU.sparse."))
    throw new LayerRefusal("it has a sparse file, which layers must not have");
  if (text === "") return;
  if (text.includes("\0")) throw new LayerRefusal("a pax header is damaged: a value has a zero byte");
  if (key === "path") found.path = text;
  if (key === "linkpath") found.target = text;
  if (key === "size") found.bytes = whole(text);
  if (key === "uid") found.uid = whole(text);
  if (key === "gid") found.gid = whole(text);
  if (key === "mtime") found.mtimeS = seconds(text);
}

function whole(text: string): number {
  const value = /^-?\d{1,19}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value)) return value;
  throw new LayerRefusal("a pax header is damaged: a number in it is none");
}

function seconds(text: string): number {
  const parts = /^(-?\d{1,19})(?:\.\d*)?$/.exec(text);
  if (parts?.[1] === undefined) throw new LayerRefusal("a pax header is damaged: a time in it is none");
  return whole(parts[1]);
}

/**
 * Attributes that a file system takes with it. Those of overlayfs itself would turn a layer against the ones below; squashfs holds no
 * others than these three kinds.
 */
function kept(name: string, value: Buffer): Xattr[] {
  if (name.includes("\0")) throw new LayerRefusal("a pax header is damaged: a name has a zero byte");
  if (!/^(user|trusted|security)\../s.test(name) || name.startsWith("trusted.overlay.")) return [];
  if (name.length > XATTR_NAME_MAX || value.length > XATTR_VALUE_MAX)
    throw new LayerRefusal("an extended attribute is too long");
  return [{ name, value }];
}

const MTIME_MAX = 2 ** 32 - 1;
const ID_MAX = 2 ** 32 - 2;

/** The header as it is meant, with numbers that a file system can hold. */
export function applyPax(header: RawHeader, pax: PaxOverrides): RawHeader {
  const merged = { ...header, ...pax };
  if (!(merged.bytes >= 0 && Number.isSafeInteger(merged.bytes)))
    throw new LayerRefusal("its size is none", merged.path);
  if (![merged.uid, merged.gid].every((id) => id >= 0 && id <= ID_MAX))
    throw new LayerRefusal("its owner is none", merged.path);
  return { ...merged, mtimeS: Math.min(MTIME_MAX, Math.max(0, merged.mtimeS)) };
}
