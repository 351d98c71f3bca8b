import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { describeError } from "../../base/errors.ts";
import { failureOf } from "./diagnose.ts";
import { flintlockError } from "./errors.ts";

const facts = { tls: true, certificate: false, token: true };
const validation = (...fields: string[]) =>
  `creating microvm: an error occurred when attempting to validate microvm spec: validation failures found: ${fields
    .map(
      (field) => `Key: 'MicroVM.Spec.${field}' Error:Field validation for '${field}' failed on the 'lte' tag`,
    )
    .join("\n")}`;

describe("flintlockd's own errors", () => {
  test.each<[string, Code, string, string, RegExp, boolean]>([
    [
      "no spec",
      Code.InvalidArgument,
      "invalid create microvm request: MicroVMSpec required",
      "vm_host_refused",
      /request wrong/,
      false,
    ],
    ["an empty uid", Code.InvalidArgument, "invalid request", "vm_host_refused", /request wrong/, false],
    ["a size", Code.Unknown, validation("VCPU", "MemoryInMb"), "vm_host_refused", /VCPU, MemoryInMb/, false],
    [
      "MACVTAP",
      Code.Unknown,
      "creating microvm: macvtap network interfaces not supported by the microvm provider",
      "vm_host_refused",
      /hypervisor cannot/,
      true,
    ],
    [
      "a provider",
      Code.Unknown,
      "creating microvm: microvm provider qemu isn't available",
      "vm_host_refused",
      /hypervisor cannot/,
      true,
    ],
    [
      "an unknown uid",
      Code.Unknown,
      "deleting microvm: checking to see if spec exists: microvm spec //nope not found",
      "vm_host_unknown_machine",
      /does not know/,
      true,
    ],
    [
      "the same of Get",
      Code.Unknown,
      "getting microvm: error attempting to locate microvm with uid: nope: microvm spec //nope not found",
      "vm_host_unknown_machine",
      /does not know/,
      true,
    ],
    [
      "a list during deletes",
      Code.Unknown,
      "getting all microvms: error attempting to list microvms: map[namespace:]: getting microvm spec: reading content sha256:ab: failed reading from content store",
      "vm_host_refused",
      /went away/,
      true,
    ],
    [
      "a poisoned list",
      Code.Unknown,
      "getting all microvms: error: unexpected vmid format: lab/a/b/01M8",
      "vm_host_sick",
      /breaks its list/,
      true,
    ],
    [
      "a panic",
      Code.Unavailable,
      "error reading from server: EOF",
      "vm_host_unreachable",
      /connection ended/,
      true,
    ],
    [
      "an unknown error",
      Code.Unknown,
      "creating microvm: thin pool is full",
      "vm_host_refused",
      /answered with an error/,
      true,
    ],
    ["too many pings", Code.ResourceExhausted, "too_many_pings", "vm_host_refused", /less busy/, true],
  ])("%s", (_, code, text, expected, words, retryable) => {
    const failure = failureOf(new ConnectError(text, code), facts);

    expect(failure).toMatchObject({ code: expected, retryable });
    expect(failure.problem).toMatch(words);
    expect(failure.hint.length).toBeGreaterThan(10);
  });

  test("a poisoned list names the lease to remove", () => {
    const failure = failureOf(new ConnectError("unexpected vmid format: lab/a/b/01M8", Code.Unknown), facts);

    expect(failure.hint).toContain("ctr -n flintlock leases rm flintlock/lab/a/b/01M8");
  });

  test("secrets that an error repeats are taken out of it and of its cause", () => {
    const foreign = new ConnectError("creating microvm: bad metadata c2VjcmV0", Code.Unknown);
    const context = { host: "metal-1", address: "a:1", doing: "creating", secrets: ["c2VjcmV0"], sent: true };

    const error = flintlockError(failureOf(foreign, facts), context, foreign);

    expect(describeError(error)).toContain("bad metadata [secret]");
    expect(`${describeError(error)} ${error.stack}`).not.toContain("c2VjcmV0");
  });
});
