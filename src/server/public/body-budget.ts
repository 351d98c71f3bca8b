/** A page of a body that does not say how long it is. Smaller ones would cost more than they hold. */
const LEAST_PAGE_BYTES = 4 * 1024;
/** A client that announces much does not have it kept for it before it comes. */
const MOST_PAGE_BYTES = 64 * 1024;

/**
 * Memory for the bodies of all requests that are under way. When it is full, the longest body is given up, and no other: webhooks
 * are short, and somebody who wants to keep others out has to hold many long ones.
 */
export interface BodyBudget {
  /** `limitBytes`: the longest body to keep. `expectedBytes`: what the client says, if it does. */
  keep(limitBytes: number, expectedBytes?: number): KeptBody;
  readonly usedBytes: number;
}

/** One body as it arrives. */
export interface KeptBody {
  add(chunk: Uint8Array): void;
  /** All that was added; undefined when there was more than the limit or no room. From now on it is not given up any more. */
  take(): Buffer | undefined;
  /** Frees its room. To be called in every case, when the body is not used any more. */
  release(): void;
}

export function createBodyBudget(limitBytes: number): BodyBudget {
  /** Bodies that can be given up. */
  const bodies = new Set<BodyPages>();
  let usedBytes = 0;

  function counted(pages: BodyPages, change: () => void): void {
    usedBytes -= pages.length + pages.spareBytes;
    change();
    usedBytes += pages.length + pages.spareBytes;
  }

  function free(pages: BodyPages): void {
    counted(pages, pages.clear);
    bodies.delete(pages);
  }

  /** The longest body, if it is longer than `bytes`. */
  function longest(bytes: number): BodyPages | undefined {
    let found: BodyPages | undefined;
    for (const pages of bodies) if (pages.length > (found?.length ?? bytes)) found = pages;
    return found;
  }

  function grow(pages: BodyPages, bytes: number, page: PageSize): boolean {
    const isFull = () => limitBytes - usedBytes < page.leastBytes;
    counted(pages, pages.trim);
    // What others have not filled is taken before what they have.
    if (isFull()) for (const each of bodies) counted(each, each.trim);
    const victim = isFull() ? longest(bytes) : undefined;
    if (victim) free(victim);
    if (isFull()) return false;
    const pageBytes = Math.min(page.bestBytes, limitBytes - usedBytes);
    counted(pages, () => pages.addPage(pageBytes));
    bodies.add(pages);
    return true;
  }

  const memory: Memory = {
    grow,
    free,
    holds: (pages) => bodies.has(pages),
    take(pages) {
      bodies.delete(pages);
      counted(pages, pages.trim);
      return pages.join();
    },
  };
  return {
    keep: (limitBytes, expectedBytes) => keepIn(memory, limitBytes, expectedBytes),
    get usedBytes() {
      return usedBytes;
    },
  };
}

interface PageSize {
  readonly leastBytes: number;
  readonly bestBytes: number;
}

/** What one body may do with the room that it shares with the others. */
interface Memory {
  /** Adds a page to a body that is about to have `bytes`; false when there is no room. */
  grow(pages: BodyPages, bytes: number, page: PageSize): boolean;
  free(pages: BodyPages): void;
  /** False once it was given up for somebody else. */
  holds(pages: BodyPages): boolean;
  /** From now on it cannot be given up. */
  take(pages: BodyPages): Buffer;
}

function keepIn(memory: Memory, limitBytes: number, expectedBytes?: number): KeptBody {
  const pages = createBodyPages();
  let length = 0;
  let isKept = (expectedBytes ?? 0) <= limitBytes;
  const isLost = () => length > 0 && !memory.holds(pages);

  /** As long as what is known to come, or else an eighth of what there is, so that little of it is spare. */
  function pageFor(missing: number): PageSize {
    const { length: held } = pages;
    const toCome = (expectedBytes ?? limitBytes) - held;
    const best = expectedBytes === undefined ? Math.ceil(held / 8) : MOST_PAGE_BYTES;
    const sized = (bytes: number) => Math.max(missing, Math.min(toCome, Math.max(LEAST_PAGE_BYTES, bytes)));
    return { leastBytes: sized(0), bestBytes: sized(best) };
  }

  /** Fills the last page, and puts the rest into a new one. */
  function append(chunk: Uint8Array): boolean {
    const fitting = Math.min(pages.spareBytes, chunk.length);
    pages.append(chunk.subarray(0, fitting));
    const rest = chunk.subarray(fitting);
    if (rest.length === 0) return true;
    const hasRoom = memory.grow(pages, length + chunk.length, pageFor(rest.length));
    if (hasRoom) pages.append(rest);
    return hasRoom;
  }

  return {
    add(chunk) {
      if (isLost()) isKept = false;
      if (!isKept) return;
      isKept = length + chunk.length <= limitBytes && append(chunk);
      if (!isKept) return memory.free(pages);
      length += chunk.length;
    },
    take: () => (isKept && !isLost() ? memory.take(pages) : undefined),
    release() {
      isKept = false;
      memory.free(pages);
    },
  };
}

/**
 * One body in pages. Thousands of tiny chunks kept as they come would take many times their length; one piece that doubles would
 * be half empty at times, and copied again and again.
 */
interface BodyPages {
  /** What the body holds. */
  readonly length: number;
  /** Room in the last page that nothing fills yet. */
  readonly spareBytes: number;
  addPage(bytes: number): void;
  /** For no more than `spareBytes`. */
  append(chunk: Uint8Array): void;
  /** Gives up what is spare. */
  trim(): void;
  /** All of it in one piece, which takes the place of the pages. */
  join(): Buffer;
  clear(): void;
}

function createBodyPages(): BodyPages {
  let full: Buffer[] = [];
  let last = Buffer.alloc(0);
  let filled = 0;
  let length = 0;

  function closeLast(): void {
    if (filled > 0) full.push(filled === last.length ? last : copyOf(last.subarray(0, filled)));
    last = Buffer.alloc(0);
    filled = 0;
  }

  return {
    get length() {
      return length;
    },
    get spareBytes() {
      return last.length - filled;
    },
    addPage(bytes) {
      closeLast();
      last = Buffer.allocUnsafeSlow(bytes);
    },
    append(chunk) {
      last.set(chunk, filled);
      filled += chunk.length;
      length += chunk.length;
    },
    trim: closeLast,
    join() {
      closeLast();
      const [whole = Buffer.alloc(0)] = full.length > 1 ? [Buffer.concat(full, length)] : full;
      full = [whole];
      return whole;
    },
    clear() {
      full = [];
      last = Buffer.alloc(0);
      filled = 0;
      length = 0;
    },
  };
}

/** Not from Node's pool, of which the smallest piece keeps a whole slab. */
function copyOf(piece: Buffer): Buffer<ArrayBuffer> {
  const copy = Buffer.allocUnsafeSlow(piece.length);
  piece.copy(copy);
  return copy;
}
