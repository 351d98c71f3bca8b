/** What becomes of a client's spec, and whether a machine can live by it. */
import { clone, create } from "@bufbuild/protobuf";
import {
  type MicroVM,
  MicroVMSchema,
  type MicroVMSpec,
  MicroVMSpecSchema,
  MicroVMStatusSchema,
  type NetworkInterface,
  NetworkInterface_IfaceType,
  NetworkInterfaceSchema,
  type Volume,
} from "../../src/vm/flintlock/gen/types_pb.js";
import type { StoredMachine } from "./content.ts";
import { addInstanceId } from "./instance-data.ts";

const METADATA_LIMIT_BYTES = 51_200;
const MOST_VCPUS = 32;
const METADATA_MAC = "AA:FF:00:00:00:01";

/** As it is stored and returned: the server's uid over the client's, its metadata interface first, a part of it lost. */
export function serverSpec(sent: MicroVMSpec, uid: string): MicroVMSpec {
  const spec = clone(MicroVMSpecSchema, sent);
  spec.uid = uid;
  spec.namespace ||= "default";
  spec.vcpu ||= 2;
  spec.memoryInMb ||= 1_024;
  spec.labels = {};
  for (const each of spec.interfaces) delete each.overrides;
  for (const volume of [spec.rootVolume, ...spec.additionalVolumes]) if (volume) asStored(volume);
  if (!spec.interfaces.some(isMetadataInterface)) spec.interfaces.unshift(metadataInterface());
  spec.metadata["meta-data"] = addInstanceId(spec.metadata["meta-data"], uid);
  return spec;
}

function asStored(volume: Volume): void {
  delete volume.mountPoint;
  volume.partitionId = "";
  volume.sizeInMb = 0;
}

function isMetadataInterface({ deviceId }: NetworkInterface): boolean {
  return deviceId === "eth0";
}

function metadataInterface(): NetworkInterface {
  return create(NetworkInterfaceSchema, {
    deviceId: "eth0",
    type: NetworkInterface_IfaceType.TAP,
    guestMac: METADATA_MAC,
    address: { address: "169.254.0.1/16", nameservers: [] },
  });
}

export function toMessage({ version, spec: stored, state, retry }: StoredMachine): MicroVM {
  const spec = clone(MicroVMSpecSchema, stored);
  delete spec.provider;
  return create(MicroVMSchema, { version, spec, status: create(MicroVMStatusSchema, { state, retry }) });
}

/** The documents as the metadata service gives them; a value that is not base64 is used as it is. */
export function metadataDocuments({ metadata }: MicroVMSpec): Record<string, string> {
  return Object.fromEntries(
    Object.entries(metadata).map(([name, value]) => {
      const bytes = Buffer.from(value, "base64");
      return [name, bytes.toString("base64") === value ? bytes.toString() : value];
    }),
  );
}

/** What Firecracker says on its standard error before it ends at once; undefined when it can run. */
export function deathAtStart(spec: MicroVMSpec): string | undefined {
  if (spec.vcpu > MOST_VCPUS || (spec.vcpu !== 1 && spec.vcpu % 2 === 1))
    return "MachineConfig(InvalidVcpuCount)";
  // An `eth0` of the client's keeps the daemon from adding its own.
  if (!spec.interfaces.some(({ guestMac }) => guestMac === METADATA_MAC))
    return "missing field `network_interfaces`";
  if (!spec.rootVolume)
    return 'BackingFile(Os { code: 2, kind: NotFound, message: "No such file or directory" }, "")';
  const bytes = Object.values(metadataDocuments(spec)).reduce(
    (sum, text) => sum + Buffer.byteLength(text),
    0,
  );
  return bytes > METADATA_LIMIT_BYTES ? "Mmds(DataStoreLimitExceeded)" : undefined;
}
