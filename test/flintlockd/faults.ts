/** The daemon's errors, word for word as recorded where they were. */
import { Code, ConnectError } from "@connectrpc/connect";

const unknown = (text: string) => new ConnectError(text, Code.Unknown);

export const noSpec = () =>
  new ConnectError("invalid create microvm request: MicroVMSpec required", Code.InvalidArgument);
export const noName = () => unknown("converting request: creating vmid from spec: name is required");
export const noUid = () => new ConnectError("invalid request", Code.InvalidArgument);

export const notCreated = (reason: string) => unknown(`creating microvm: ${reason}`);

/** Each violation as `Kernel.Filename required`. */
export function invalidSpec(violations: readonly string[]): ConnectError {
  const keys = violations.map((violation) => {
    const [path = "", tag = ""] = violation.split(" ");
    const field = path.split(".").at(-1);
    return `Key: 'MicroVM.Spec.${path}' Error:Field validation for '${field}' failed on the '${tag}' tag`;
  });
  const reason = "an error occurred when attempting to validate microvm spec: validation failures found";
  return notCreated(`${reason}: ${keys.join("\n")}`);
}

export const getFailed = (uid: string, reason = `microvm spec //${uid} not found`) =>
  unknown(`getting microvm: error attempting to locate microvm with uid: ${uid}: ${reason}`);
export const deleteFailed = (uid: string, reason = `microvm spec //${uid} not found`) =>
  unknown(`deleting microvm: checking to see if spec exists: ${reason}`);

export function listFailed(
  filter: { namespace: string; name?: string | undefined },
  reason: string,
): ConnectError {
  // As Go prints a map: keys in order.
  const name = filter.name === undefined ? "" : `name:${filter.name} `;
  const query = `map[${name}namespace:${filter.namespace}]`;
  return unknown(`getting all microvms: error attempting to list microvms: ${query}: ${reason}`);
}

export const contentGone = (digest: string) =>
  `getting microvm spec: reading content sha256:${digest}: failed reading from content store`;

/** As containerd's client words it, behind the words of each call. */
export const containerdGone =
  'connection error: desc = "transport: Error while dialing dial unix /run/containerd/containerd.sock: connect: connection refused": unavailable';

/** Recorded without the words before it. */
export const badVmid = (vmid: string) => `unexpected vmid format: ${vmid}`;

export const noToken = () =>
  new ConnectError(
    "could not extract token from request header: rpc error: code = Unauthenticated desc = Request unauthenticated with basic",
    Code.Unauthenticated,
  );
export const wrongToken = () =>
  new ConnectError(
    "invalid auth token: failed basic authentication. Check the token supplied",
    Code.Unauthenticated,
  );
