import type { PublishedImage } from "../../domain/images.ts";
import type { MachineSpec, RelayLink } from "../driver.ts";
import { VmError } from "../errors.ts";
import type { MicroVmRequest } from "./client.ts";
import { NetworkInterface_IfaceType } from "./gen/types_pb.js";
import type { HostNetwork } from "./host.ts";
import { guestCommandLine, renderMetadata } from "./metadata.ts";

export interface RequestParts {
  readonly spec: MachineSpec;
  readonly namespace: string;
  readonly network: HostNetwork;
  /** `10.77.0.12/24`; undefined: the machine asks by DHCP. */
  readonly address: string | undefined;
  readonly link: RelayLink;
}

/** What flintlockd is asked to make of a machine's spec. */
export function machineRequest({ spec, namespace, network, address, link }: RequestParts): MicroVmRequest {
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
