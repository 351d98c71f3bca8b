const FIRST_BYTES = 16 * 1024;
const MOST_AT_FIRST_BYTES = 64 * 1024;

/**
 * Memory for the bodies of all requests that are under way. When it is full, the longest body is given up first: webhooks are
 * short, and somebody who wants to keep others out has to hold many long ones.
 */
export interface BodyRoom {
  /** `limitBytes`: the longest body to keep. `expectedBytes`: what the client says, if it does. */
  keep(limitBytes: number, expectedBytes?: number): KeptBody;
  readonly usedBytes: number;
}

/** One body as it arrives. It is copied into one piece, as thousands of tiny chunks would take many times their length. */
export interface KeptBody {
  add(chunk: Uint8Array): void;
  /** All that was added; undefined when there was more than the limit or no room. From now on it is not given up any more. */
  take(): Buffer | undefined;
  /** Frees its room. To be called in every case, when the body is not used any more. */
  release(): void;
}

interface Holder {
  buffer: Buffer;
}

export function createBodyRoom(roomBytes: number): BodyRoom {
  const holders = new Set<Holder>();
  let usedBytes = 0;

  function free(holder: Holder): void {
    usedBytes -= holder.buffer.length;
    holder.buffer = Buffer.alloc(0);
    holders.delete(holder);
  }

  /** The longest body, if it is longer than `bytes`. */
  function longest(bytes: number): Holder | undefined {
    let found: Holder | undefined;
    for (const holder of holders) {
      if (holder.buffer.length > (found?.buffer.length ?? bytes)) found = holder;
    }
    return found;
  }

  /** Makes `holder` hold `bytes`; false when there is no room. */
  function grow(holder: Holder, bytes: number): boolean {
    // Counted without its old piece, so that it can give way to nobody but a longer one.
    usedBytes -= holder.buffer.length;
    holders.delete(holder);
    while (usedBytes + bytes > roomBytes) {
      const victim = longest(bytes);
      if (victim === undefined) {
        holder.buffer = Buffer.alloc(0);
        return false;
      }
      free(victim);
    }
    const buffer = Buffer.allocUnsafeSlow(bytes);
    holder.buffer.copy(buffer);
    holder.buffer = buffer;
    usedBytes += bytes;
    holders.add(holder);
    return true;
  }

  const memory: Memory = {
    grow,
    free,
    holds: (holder) => holders.has(holder),
    forget: (holder) => holders.delete(holder),
  };
  return {
    keep: (limitBytes, expectedBytes) => keepIn(memory, limitBytes, expectedBytes),
    get usedBytes() {
      return usedBytes;
    },
  };
}

/** What one body may do with the room that it shares with the others. */
interface Memory {
  grow(holder: Holder, bytes: number): boolean;
  free(holder: Holder): void;
  /** False once it was given up for somebody else. */
  holds(holder: Holder): boolean;
  /** From now on it cannot be given up. */
  forget(holder: Holder): void;
}

function keepIn(memory: Memory, limitBytes: number, expectedBytes = FIRST_BYTES): KeptBody {
  const holder: Holder = { buffer: Buffer.alloc(0) };
  let length = 0;
  let isKept = expectedBytes <= limitBytes;
  const isLost = () => length > 0 && !memory.holds(holder);

  function makeRoom(bytes: number): boolean {
    const held = holder.buffer.length;
    if (bytes <= held) return true;
    const wanted = held === 0 ? Math.min(expectedBytes, MOST_AT_FIRST_BYTES) : 2 * held;
    return memory.grow(holder, Math.min(limitBytes, Math.max(bytes, wanted)));
  }

  return {
    add(chunk) {
      if (isLost()) isKept = false;
      if (!isKept) return;
      isKept = length + chunk.length <= limitBytes && makeRoom(length + chunk.length);
      if (!isKept) return memory.free(holder);
      holder.buffer.set(chunk, length);
      length += chunk.length;
    },
    take() {
      if (!isKept || isLost()) return undefined;
      memory.forget(holder);
      return holder.buffer.subarray(0, length);
    },
    release() {
      isKept = false;
      memory.free(holder);
    },
  };
}
