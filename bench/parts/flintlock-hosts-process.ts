/** The hosts of a fleet: stand-ins for flintlockd with machines that run and do nothing. */
import { create } from "@bufbuild/protobuf";
import { Secret } from "../../src/base/secret.ts";
import { MicroVMSpecSchema } from "../../src/vm/flintlock/gen/types_pb.js";
import { machineRequest } from "../../src/vm/flintlock/request.ts";
import { bareClient } from "../../test/flintlockd/client.ts";
import { type Flintlockd, startFlintlockd } from "../../test/flintlockd/stand-in.ts";
import { serveParent } from "./child.ts";

interface FleetWish {
  readonly hosts: number;
  readonly machinesPerHost: number;
  readonly namespace: string;
  readonly tls: { readonly key: string; readonly cert: string };
  readonly ca: string;
}

const digest = `sha256:${"a".repeat(64)}`;
const published = {
  kernel: `registry.example.org/fr/kernel@${digest}`,
  root: `registry.example.org/fr/root@${digest}`,
};
const image = { digest, architecture: "amd64", kernel: "", initramfs: "", layers: [], published };
const hosts: Flintlockd[] = [];

const handlers = {
  async start({ hosts: count, machinesPerHost, namespace, tls, ca }: FleetWish): Promise<string[]> {
    for (let host = 0; host < count; host++) {
      const flintlockd = await startFlintlockd({
        security: tls,
        scale: 0.001,
        times: { resyncPeriodMs: 600_000_000 },
        localImages: Object.values(published),
      });
      hosts.push(flintlockd);
      const client = bareClient(flintlockd.address, { ca });
      for (let machine = 0; machine < machinesPerHost; machine++)
        await client.createMicroVM({ microvm: machineOf(host * machinesPerHost + machine, namespace, ca) });
      await flintlockd.idle();
    }
    return hosts.map(({ address }) => address);
  },
  lists: () => hosts.reduce((sum, { wire }) => sum + wire.count("list"), 0),
};

export type HostsHandlers = typeof handlers;

/** As large as a real one in a list: its metadata holds an authority's certificate. */
function machineOf(number: number, namespace: string, ca: string) {
  const letters = number
    .toString(26)
    .padStart(8, "0")
    .replace(/./g, (digit) => "abcdefghijklmnopqrstuvwxyz"[Number.parseInt(digit, 26)] ?? "a");
  const request = machineRequest({
    spec: { id: `fr-${letters}`, size: { cpus: 2, memoryMib: 4_096, diskMib: 1_024 }, image },
    namespace,
    network: { bridge: undefined, addresses: undefined, gateway: undefined, nameservers: [] },
    address: undefined,
    link: { address: "relay.example.org:8443", serverName: "relay", ca, secret: new Secret("c".repeat(64)) },
  });
  return create(MicroVMSpecSchema, request);
}

serveParent(handlers, async () => {
  for (const host of hosts) await host[Symbol.asyncDispose]();
});
