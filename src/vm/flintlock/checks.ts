/**
 * What must never be sent to flintlockd 0.11. It accepts nearly everything, and what it accepts wrongly is worse than an error: a
 * machine without a kernel crashes the daemon at every start, an id with a slash breaks its list for ever, and others are called
 * CREATED and are dead. So each rule is checked here first.
 */
import { isIPv4 } from "node:net";
import { VmError } from "../errors.ts";
import type { MicroVmRequest } from "./client.ts";
import { NetworkInterface_IfaceType } from "./gen/types_pb.js";
import { flintlockSizeProblem } from "./size.ts";

/** Firecracker's own limit is 51,200 bytes for the whole document. */
const MOST_METADATA_BYTES = 48_000;

type Rule = (request: MicroVmRequest) => string | undefined;

const rules: readonly Rule[] = [
  ({ id }) => nameProblem("id", id),
  ({ namespace }) => nameProblem("namespace", namespace),
  ({ kernel }) => (kernel?.image && kernel.filename ? undefined : "no kernel"),
  ({ initrd }) =>
    !initrd || (initrd.image && initrd.filename) ? undefined : "an initrd without a file name",
  ({ rootVolume }) => (rootVolume?.source?.containerSource ? undefined : "no root volume"),
  ({ vcpu = 0, memoryInMb = 0 }) => flintlockSizeProblem({ cpus: vcpu, memoryMib: memoryInMb, diskMib: 0 }),
  imageProblem,
  interfaceProblem,
  metadataProblem,
];

/** Throws `vm_bad_spec` for a request that flintlockd must not get. */
export function checkRequest(request: MicroVmRequest): void {
  for (const rule of rules) {
    const problem = rule(request);
    if (problem === undefined) continue;
    throw new VmError("vm_bad_spec", `machine ${request.id} is not sent to a Flintlock host: ${problem}`);
  }
}

function nameProblem(what: string, name = ""): string | undefined {
  return /^[a-z0-9][a-z0-9-]*$/.test(name)
    ? undefined
    : `its ${what} “${name.slice(0, 80)}” is not acceptable`;
}

function imageProblem({ kernel, initrd, rootVolume }: MicroVmRequest): string | undefined {
  const images = [kernel?.image, initrd?.image, rootVolume?.source?.containerSource];
  return images.map((image) => image && referenceProblem(image)).find((problem) => problem);
}

/** flintlockd takes the first part for a host whatever it is, and looks a tag up at every create: a digest it has stays good. */
function referenceProblem(reference: string): string | undefined {
  const [host = "", ...path] = reference.split("/");
  if (path.length === 0 || !(/[.:]/.test(host) || host === "localhost"))
    return `the image ${reference} does not begin with a registry`;
  return /@sha256:[0-9a-f]{64}$/.test(reference) ? undefined : `the image ${reference} has no digest`;
}

type Interface = NonNullable<MicroVmRequest["interfaces"]>[number];

function interfaceProblem({ interfaces = [] }: MicroVmRequest): string | undefined {
  if (interfaces.length === 0) return "no network interface";
  return interfaces.map(oneInterfaceProblem).find((problem) => problem !== undefined);
}

/** `eth0` is the daemon's own for its metadata service; with `overrides` and no bridge it crashes. */
function oneInterfaceProblem({ deviceId = "", type, overrides, address }: Interface): string | undefined {
  if (!/^[a-z][a-z0-9_]*$/.test(deviceId) || deviceId === "eth0") return `an interface named “${deviceId}”`;
  if (type !== NetworkInterface_IfaceType.TAP) return "an interface that is not a TAP";
  if (overrides && !overrides.bridgeName) return "an interface with overrides but no bridge";
  return address && addressProblem(address);
}

type Address = NonNullable<Interface["address"]>;

function addressProblem({ address = "", gateway, nameservers = [] }: Address): string | undefined {
  const wrong = [address, ...(gateway === undefined ? [] : [gateway])].find((each) => !isCidr(each));
  if (wrong !== undefined) return `the address “${wrong}” is not written with its prefix`;
  const nameserver = nameservers.find((each) => !isIPv4(each));
  return nameserver === undefined ? undefined : `the name server “${nameserver}” is not an address`;
}

function isCidr(text: string): boolean {
  const [address = "", prefix = "", ...more] = text.split("/");
  return isIPv4(address) && /^\d{1,2}$/.test(prefix) && Number(prefix) <= 32 && more.length === 0;
}

function metadataProblem({ metadata = {} }: MicroVmRequest): string | undefined {
  const documents: Record<string, string> = {};
  for (const [name, value] of Object.entries(metadata)) {
    const text = Buffer.from(value, "base64");
    if (value === "" || text.toString("base64") !== value) return `its metadata “${name}” is not base64`;
    documents[name] = text.toString("utf8");
  }
  const bytes = Buffer.byteLength(JSON.stringify({ latest: documents }));
  return bytes > MOST_METADATA_BYTES
    ? `${bytes} bytes of metadata, more than ${MOST_METADATA_BYTES}`
    : undefined;
}
