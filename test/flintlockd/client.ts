/** A bare gRPC client for the stand-in's own tests, and for tests that look behind the driver's back. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Client, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { MicroVM } from "../../src/vm/flintlock/gen/service_pb.js";
import {
  type MicroVMSpec,
  MicroVMSpecSchema,
  NetworkInterface_IfaceType,
} from "../../src/vm/flintlock/gen/types_pb.js";

export type SpecInit = Exclude<MessageInitShape<typeof MicroVMSpecSchema>, MicroVMSpec>;

/** Each client has a connection of its own. */
export function bareClient(
  address: string,
  tls?: { ca: string; cert?: string; key?: string; maxVersion?: "TLSv1.2" },
  token?: string,
): Client<typeof MicroVM> {
  const scheme = tls ? "https" : "http";
  const nodeOptions = tls ? { ...tls, servername: "localhost" } : {};
  const authorization = `Basic ${Buffer.from(token ?? "").toString("base64")}`;
  const interceptors: Interceptor[] = token === undefined ? [] : [authorize(authorization)];
  const options = { nodeOptions, interceptors, defaultTimeoutMs: 10_000 };
  return createClient(MicroVM, createGrpcTransport({ baseUrl: `${scheme}://${address}`, ...options }));
}

function authorize(value: string): Interceptor {
  return (next) => (request) => {
    request.header.set("authorization", value);
    return next(request);
  };
}

/** One that lives. */
export function aSpec(overrides: SpecInit = {}): MicroVMSpec {
  return create(MicroVMSpecSchema, {
    id: "vm1",
    namespace: "lab",
    vcpu: 2,
    memoryInMb: 1_024,
    kernel: { image: "localhost:5000/lab/kernel:v1", filename: "boot/vmlinux", cmdline: { quiet: "" } },
    initrd: { image: "localhost:5000/lab/initrd:v1", filename: "boot/initrd.img" },
    rootVolume: { id: "root", source: { containerSource: "localhost:5000/lab/rootfs:v1" } },
    interfaces: [{ deviceId: "eth1", type: NetworkInterface_IfaceType.TAP }],
    ...overrides,
  });
}

/** `2 text`, as the measured table writes errors; throws when the call succeeds. */
export async function failure(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    return `${code} ${rawMessage}`;
  }
  throw new Error("the call succeeded");
}
