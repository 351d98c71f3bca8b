import { Transform } from "node:stream";
import { createHelloReader, type HelloReader, type HelloResult } from "./client-hello.ts";

/**
 * Which TLS name a tunnel must be for. `required`: it must be TLS, by that name. `checked`: where it begins as TLS does, by that name;
 * other protocols pass. `free`: not looked at.
 */
export type NameRule = "required" | "checked" | "free";

/** Fatal, unrecognized_name: a client that gets it shows what is wrong. */
export const UNRECOGNIZED_NAME_ALERT = Buffer.from([21, 3, 3, 0, 2, 2, 112]);

export interface NameCheckOptions {
  /** In lower case. */
  readonly host: string;
  readonly rule: Exclude<NameRule, "free">;
  /** An address is no TLS name: its clients name nobody. */
  readonly isAddress: boolean;
  readonly timeoutMs: number;
}

/** What a client said is not what the way is for. */
export class WrongName extends Error {}

/**
 * The guest's side of a tunnel on its way to a host. Its first bytes are held, some KiB of them at most, until they are known to name the
 * host. A server may ask for a second hello (HelloRetryRequest), and goes by that one: it is held and read as well. Fails with WrongName.
 */
export function createNameCheck(options: NameCheckOptions): Transform {
  const hellos = createHellos(options);
  let timer: NodeJS.Timeout | undefined;
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      expectSoon();
      const { pass, problem } = hellos.push(chunk);
      for (const part of pass) stream.push(part);
      if (hellos.isNamed()) clearTimeout(timer);
      done(problem === undefined ? null : new WrongName(problem));
    },
    flush(done) {
      const isNobody = options.rule === "required" && !hellos.isNamed();
      for (const part of isNobody ? [] : hellos.rest()) stream.push(part);
      done(isNobody ? new WrongName("its client left before it had named a host") : null);
    },
    destroy(error, done) {
      clearTimeout(timer);
      done(error);
    },
  });
  if (options.rule === "required") expectSoon();
  return stream;

  /** Once for the whole connection. */
  function expectSoon(): void {
    const late = new WrongName("its client said nothing in TLS for too long");
    timer ??= setTimeout(() => stream.destroy(late), options.timeoutMs).unref();
  }
}

interface Passage {
  readonly pass: readonly Buffer[];
  readonly problem?: string;
}

/** Holds what is not known yet to be for the host. */
function createHellos(options: NameCheckOptions) {
  let reader: HelloReader | undefined = createHelloReader();
  let isSecond = false;
  let held: Buffer[] = [];

  function rest(): Buffer[] {
    const all = held;
    held = [];
    return all;
  }

  /** Reads on behind a hello that ends within a chunk; lets everything pass once nothing can change any more. */
  function push(chunk: Buffer): Passage {
    if (reader === undefined) return { pass: [chunk] };
    const { result, used } = reader.push(chunk);
    held.push(chunk.subarray(0, used));
    if (result.kind === "more") return { pass: [] };
    const problem = problemWith(result, options, isSecond);
    if (problem !== undefined) return { pass: [], problem };
    reader = result.kind === "hello" && !isSecond ? createHelloReader(true) : undefined;
    isSecond = true;
    const pass = rest();
    if (used === chunk.length) return { pass };
    const further = push(chunk.subarray(used));
    return { ...further, pass: [...pass, ...further.pass] };
  }

  return { push, rest, isNamed: () => isSecond };
}

function problemWith(
  result: HelloResult,
  { host, rule, isAddress }: NameCheckOptions,
  isSecond: boolean,
): string | undefined {
  if (result.kind === "other")
    return isSecond || rule === "checked" ? undefined : `this way is for TLS with ${host} alone`;
  if (result.kind !== "hello") return "its client's TLS hello cannot be read";
  const { name } = result;
  if (name === host || (isAddress && name === undefined)) return undefined;
  return `its client asks for ${name ?? "no name"} by TLS, and this way is for ${host} alone`;
}
