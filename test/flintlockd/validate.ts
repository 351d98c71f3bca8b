/** What the daemon checks before it accepts a machine, and nothing more: hopeless ones pass. */
import { isIP } from "node:net";
import type { MicroVMSpec, NetworkInterface } from "../../src/vm/flintlock/gen/types_pb.js";
import { NetworkInterface_IfaceType } from "../../src/vm/flintlock/gen/types_pb.js";
import { invalidSpec, notCreated } from "./faults.ts";

/** Throws the daemon's answer to a spec that it refuses. */
export function checkSpec(spec: MicroVMSpec): void {
  const violations = [...sizeViolations(spec), ...kernelViolations(spec), ...interfacesViolations(spec)];
  if (violations.length > 0) throw invalidSpec(violations);
  checkProvider(spec);
  checkFilter(spec.id);
  checkFilter(spec.namespace);
}

function sizeViolations({ vcpu, memoryInMb }: MicroVMSpec): string[] {
  // 0 was not given, and gets the default.
  return [...range("VCPU", vcpu || 2, 1, 64), ...range("MemoryInMb", memoryInMb || 1_024, 1_024, 32_768)];
}

function range(field: string, value: number, least: number, most: number): string[] {
  if (value < least) return [`${field} gte`];
  return value > most ? [`${field} lte`] : [];
}

function kernelViolations({ kernel }: MicroVMSpec): string[] {
  if (!kernel) return [];
  return [...required("Kernel.Image", kernel.image), ...required("Kernel.Filename", kernel.filename)];
}

function required(field: string, value: string | undefined): string[] {
  return value ? [] : [`${field} required`];
}

function interfacesViolations({ interfaces }: MicroVMSpec): string[] {
  if (interfaces.length === 0) return ["NetworkInterfaces required"];
  return interfaces.flatMap((each, index) =>
    interfaceViolations(each).map((violation) => `NetworkInterfaces[${index}].${violation}`),
  );
}

function interfaceViolations({ deviceId, guestMac, address }: NetworkInterface): string[] {
  const found: string[] = [];
  if (!/^[a-z][a-z0-9_]*$/.test(deviceId)) found.push("GuestDeviceName guestDeviceName");
  if (guestMac && !/^([0-9a-f]{2}[:-]){5}[0-9a-f]{2}$/i.test(guestMac)) found.push("GuestMAC mac");
  if (!address) return found;
  if (!isCidr(address.address)) found.push("StaticAddress.Address cidr");
  if (address.gateway !== undefined && !isCidr(address.gateway)) found.push("StaticAddress.Gateway cidr");
  for (const [index, server] of address.nameservers.entries())
    if (!isIP(server)) found.push(`StaticAddress.Nameservers[${index}] ip`);
  return found;
}

function isCidr(text: string): boolean {
  const [address = "", length = ""] = text.split("/");
  return isIP(address) > 0 && /^\d{1,3}$/.test(length) && Number(length) <= (isIP(address) === 4 ? 32 : 128);
}

function checkProvider({ provider, interfaces, rootVolume, additionalVolumes }: MicroVMSpec): void {
  if (provider && provider !== "firecracker" && provider !== "cloudhypervisor")
    throw notCreated(`microvm provider ${provider} isn't available`);
  if (provider === "cloudhypervisor") return;
  if (interfaces.some(({ type }) => type === NetworkInterface_IfaceType.MACVTAP))
    throw notCreated("macvtap network interfaces not supported by the microvm provider");
  if ([rootVolume, ...additionalVolumes].some((volume) => volume?.source?.virtiofsSource !== undefined))
    throw notCreated("virtiofs not supported by the microvm provider");
}

/** Names become part of a query of containerd. The recording has only the first and the last words of this text. */
function checkFilter(name: string): void {
  if (!/[^!-~]|[",]/.test(name)) return;
  throw notCreated(
    `finding content in store: filters: parse error: ${JSON.stringify(name)}: invalid argument`,
  );
}
