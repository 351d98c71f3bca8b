/** The grammar of tags that ask for a machine: `PREFIX-<N>cpu-<M>gb`, or `mb`, fractions for both, in any case. */

const GIB_MIB = 1024;

/** CPUs and memory, as a tag asks for them. */
export interface TagSize {
  /** Above 0, perhaps a fraction. */
  readonly cpus: number;
  /** Whole, above 0. A `gb` of a tag is a GiB and an `mb` a MiB: machines come in no other units. */
  readonly memoryMib: number;
}

export type TagReading =
  | { readonly kind: "size"; readonly size: TagSize }
  /** It starts as a size does and is none; `reason` as a sentence. */
  | { readonly kind: "wrong"; readonly reason: string }
  /** It has nothing to do with us. */
  | { readonly kind: "other" };

// Without the flag u, i makes no letter beyond ASCII equal to one of ASCII, and \d is 0-9 alone.
const sizeWords = /^(\d+(?:\.\d+)?)cpu-(\d+(?:\.\d+)?)(gb|mb)$/i;
/** What people write who mean a size. */
const nearlySize =
  /^(\d+(?:[.,]\d+)?|[.,]\d+)[-_ ]?(?:v?cpus?|v?cores?|c)[-_ ]?(\d+(?:[.,]\d+)?|[.,]\d+)[-_ ]?(g|m)(?:i?b)?(?:[-_ ]?(?:ram|mem|memory))?$/i;

/** Reads one tag of a job. Never throws, whatever the tag is. */
export function readTag(tag: string, prefix: string): TagReading {
  if (!asciiLower(tag).startsWith(`${asciiLower(prefix)}-`)) return { kind: "other" };
  const [, cpuText, memoryText, unit] = sizeWords.exec(tag.slice(prefix.length + 1)) ?? [];
  if (cpuText === undefined || memoryText === undefined) return wrong(tag, notASize(tag, prefix));
  const cpus = Number(cpuText);
  const perUnit = unit?.toLowerCase() === "gb" ? GIB_MIB : 1;
  const memoryMib = Math.floor(Number(memoryText) * perUnit);
  if (cpus === 0) return wrong(tag, "asks for a machine without a CPU");
  if (memoryMib === 0) return wrong(tag, "asks for a machine with less than 1 MiB of memory");
  return { kind: "size", size: { cpus, memoryMib } };
}

function wrong(tag: string, what: string): TagReading {
  return { kind: "wrong", reason: `${describeTag(tag)} ${what}` };
}

function notASize(tag: string, prefix: string): string {
  const [, cpus, memory, unit] = nearlySize.exec(tag.slice(prefix.length + 1)) ?? [];
  if (cpus === undefined || memory === undefined) {
    return `is not a size: write such as ${prefix}-2cpu-4gb`;
  }
  const meant = `${prefix}-${plainNumber(cpus)}cpu-${plainNumber(memory)}${unit?.toLowerCase()}b`;
  return `is not a size: write ${describeTag(meant)}`;
}

/** `,5` → `0.5`. */
function plainNumber(text: string): string {
  const pointed = text.replace(",", ".");
  return pointed.startsWith(".") ? `0${pointed}` : pointed;
}

/** Only A to Z: `toLowerCase` would make a k of the Kelvin sign and can change the length. */
function asciiLower(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

const LONGEST = 80;

/** A tag in a sentence for people. Tags are other people's words: nothing in them may move a terminal's cursor or fill a log. */
export function describeTag(tag: string): string {
  const printable = tag.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
  const letters = [...printable];
  return letters.length > LONGEST ? `${letters.slice(0, LONGEST).join("")}…` : printable;
}
