import { VmError } from "../../src/vm/errors.ts";
import type { CreateFault } from "../../src/vm/fake/host.ts";
import type { Random } from "./random.ts";

export function broken(what: string): VmError {
  return new VmError("vm_create_failed", what, { retryable: true });
}

/** A create that comes to nothing: at once, after too long, or never. */
export function failedCreate(random: Random, delayMs: number): CreateFault {
  return random.pick<CreateFault>([
    { hang: true },
    { delayMs: 12_000 },
    { delayMs, fail: broken("no room for a disk") },
  ]);
}
