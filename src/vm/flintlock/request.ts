/**
 * What flintlockd is asked to make of a machine's spec, with what the machine is told through its metadata service, and the rules that
 * every request is held against before it is sent.
 */

import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import { gzipSync } from "node:zlib";
import { guestFile } from "../../base/guest-files.ts";
import { RELAY_IN_GUEST } from "../../domain/drivers.ts";
import type { PublishedImage } from "../../domain/images.ts";
import type { MachineSpec, RelayLink } from "../driver.ts";
import { VmError } from "../errors.ts";
import type { MicroVmRequest } from "./client.ts";
import type { HostNetwork } from "./config.ts";
import { flintlockSizeProblem } from "./config.ts";
import { NetworkInterface_IfaceType } from "./gen/types_pb.js";

/** Firecracker's own limit is 51,200 bytes for the whole document. */
const MOST_METADATA_BYTES = 48_000;

interface RequestInput {
  readonly spec: MachineSpec;
  readonly namespace: string;
  readonly network: HostNetwork;
  /** `10.77.0.12/24`; undefined: the machine asks by DHCP. */
  readonly address: string | undefined;
  readonly link: RelayLink;
}

/** What flintlockd is asked to make of a machine's spec. */
export function machineRequest({ spec, namespace, network, address, link }: RequestInput): MicroVmRequest {
  const { kernel, root, cloudInit = false } = publishedImage(spec);
  const { gateway, nameservers } = network;
  const documents = renderMetadata({
    machineId: spec.id,
    link,
    network: { address, gateway, nameservers },
    cloudInit,
  });
  return {
    id: spec.id,
    namespace,
    vcpu: spec.size.cpus,
    memoryInMb: spec.size.memoryMib,
    kernel: {
      ...{ image: kernel, filename: "boot/vmlinux", cmdline: guestCommandLine(spec.id) },
      // Ours bring their network up by themselves. cloud-init needs it before it can ask for anything.
      addNetworkConfig: cloudInit,
    },
    initrd: { image: kernel, filename: "boot/initrd.img" },
    rootVolume: { id: "root", isReadOnly: false, source: { containerSource: root } },
    interfaces: [networkInterface(network, address)],
    metadata: Object.fromEntries(
      Object.entries(documents).map(([name, text]) => [name, Buffer.from(text).toString("base64")]),
    ),
  };
}

/** Throws `vm_image_unpublished` for an image that is on this computer only. */
export function publishedImage({ id, image }: Pick<MachineSpec, "id" | "image">): PublishedImage {
  if (image.published) return image.published;
  throw new VmError("vm_image_unpublished", `the image of machine ${id} is on this computer only`, {
    hint: "firerunner image push REGISTRY/NAME",
  });
}

/** `eth0` is the daemon's own. The address is given to the guest by its metadata; here it is for others who look for a free one. */
function networkInterface({ bridge, gateway, nameservers }: HostNetwork, address: string | undefined) {
  const prefix = address?.split("/")[1];
  return {
    deviceId: "eth1",
    type: NetworkInterface_IfaceType.TAP,
    ...(bridge === undefined ? {} : { overrides: { bridgeName: bridge } }),
    ...(address === undefined
      ? {}
      : {
          address: {
            address,
            ...(gateway === undefined ? {} : { gateway: `${gateway}/${prefix}` }),
            nameservers: [...nameservers],
          },
        }),
  };
}

export interface GuestNetwork {
  /** `10.77.0.12/24`; undefined: ask by DHCP. */
  readonly address: string | undefined;
  readonly gateway: string | undefined;
  readonly nameservers: readonly string[];
}

export interface GuestMetadata {
  readonly machineId: string;
  readonly link: RelayLink;
  readonly network: GuestNetwork;
  /** For an image of other people. */
  readonly cloudInit: boolean;
}

/**
 * The documents of a machine's metadata service by name, as plain text. flintlockd keeps them readable on its host and gives them to
 * everybody who may list machines: so there is nothing in them but the address of the relay and the machine's own secret. `user-data` is
 * for images of other people alone, and the same for all: lists carry all metadata of all machines.
 */
export function renderMetadata(guest: GuestMetadata): Record<string, string> {
  const { machineId, link, network, cloudInit } = guest;
  const lines = {
    relay: link.address,
    server: link.serverName,
    secret: link.secret.reveal(),
    ca: oneLine(link.ca),
    address: network.address ?? "dhcp",
    gateway: network.gateway,
    nameservers: network.nameservers.join(","),
  };
  const firerunner = Object.entries(lines)
    .filter(([, value]) => value !== undefined && value !== "")
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");
  const metaData = `instance-id: ${machineId}\nlocal-hostname: ${machineId}\n`;
  return { "meta-data": metaData, ...(cloudInit ? { "user-data": userData() } : {}), firerunner };
}

/**
 * PEM as base64, for without its line ends it could not be read back. Never with a “=” at its end, which machines of images from before
 * 0.2 take off: line ends more at the end of a PEM text mean nothing.
 */
function oneLine(pem: string): string {
  const bytes = Buffer.byteLength(pem);
  return Buffer.from(pem.padEnd(pem.length + ((3 - (bytes % 3)) % 3), "\n")).toString("base64");
}

/** The kernel's command line for our own images: what the initramfs has to know before there is a network. */
export function guestCommandLine(machineId: string): Record<string, string> {
  return { quiet: "", "fr.machine": machineId, "fr.relay": `${RELAY_IN_GUEST}:80`, "fr.metadata": "mmds" };
}

/**
 * cloud-init runs these at every boot, after the network is up: a machine that its host has started again must say so, and what
 * `runcmd` holds would run at the first boot only.
 */
const START_SCRIPT = "/var/lib/cloud/scripts/per-boot/firerunner";

const files = [
  { source: "relay-link", path: "/usr/local/lib/firerunner/relay-link", mode: "0755" },
  { source: "job-shell", path: "/usr/local/lib/firerunner/shell/bash", mode: "0755" },
  { source: "firerunner-init", path: START_SCRIPT, mode: "0755" },
  { source: "login-profile", path: "/etc/profile.d/firerunner.sh", mode: "0644" },
] as const;

let text: string | undefined;

/**
 * What makes an image of other people one of ours, as cloud-config: the same programs that our own images have. The image itself must
 * bring cloud-init, bash, socat, git and gitlab-runner. The same for every machine, and without a secret.
 */
function userData(): string {
  text ??= `#cloud-config\nwrite_files:\n${files.map(fileEntry).join("")}`;
  return text;
}

/** Compressed, for metadata has little room: cloud-init takes off base64 and gzip by itself. */
function fileEntry({ source, path, mode }: (typeof files)[number]): string {
  const content = gzipSync(readFileSync(guestFile(source)), { level: 9 }).toString("base64");
  return `  - path: ${path}\n    permissions: "${mode}"\n    encoding: gz+b64\n    content: ${content}\n`;
}

type Rule = (request: MicroVmRequest) => string | undefined;

const requestRules: readonly Rule[] = [
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

/**
 * Throws `vm_bad_spec` for a request that flintlockd must not get. Version 0.11 accepts nearly everything, and what it accepts wrongly is
 * worse than an error: a machine without a kernel crashes the daemon at every start, an id with a slash breaks its list for ever, and
 * others are called CREATED and are dead.
 */
export function checkRequest(request: MicroVmRequest): void {
  for (const rule of requestRules) {
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
