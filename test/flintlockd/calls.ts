/** What every call goes through: it is recorded, proves who it is, meets its fault, takes its time. */
import type { Message } from "@bufbuild/protobuf";
import { ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { MicroVM } from "../../src/vm/flintlock/gen/service_pb.js";
import type { CallFault } from "./call-faults.ts";
import { noToken, wrongToken } from "./faults.ts";
import type { Settings } from "./options.ts";
import type { createService } from "./service.ts";
import type { CallKind, CallRecord, WireRecorder } from "./wire.ts";

export interface CallPath {
  readonly settings: Settings;
  readonly service: ReturnType<typeof createService>;
  readonly wire: WireRecorder;
  /** The fault that the next call of this kind meets. */
  readonly takeFault: (kind: CallKind) => CallFault | undefined;
  /** Ends the connection that the call came on, and all others of the daemon with it. */
  readonly drop: () => void;
}

export function routes(path: CallPath): (router: ConnectRouter) => void {
  const { service } = path;
  return (router) =>
    router.service(MicroVM, {
      createMicroVM: (request, context) => call(path, "create", request, context, service.createMicroVM),
      deleteMicroVM: (request, context) => call(path, "delete", request, context, service.deleteMicroVM),
      getMicroVM: (request, context) => call(path, "get", request, context, service.getMicroVM),
      listMicroVMs: (request, context) => call(path, "list", request, context, service.listMicroVMs),
    });
}

async function call<I extends Message, O extends Message>(
  path: CallPath,
  kind: CallKind,
  request: I,
  context: HandlerContext,
  work: (request: I) => O,
): Promise<O> {
  const headers = Object.fromEntries(context.requestHeader);
  const { clock, times, token } = path.settings;
  const record: CallRecord = { kind, at: clock.now(), headers, request, answer: undefined, error: undefined };
  path.wire.calls.push(record);
  try {
    checkToken(token, headers["authorization"]);
    await clock.sleep(times.answerMs);
    const answer = await meetFault(path, path.takeFault(kind), () => work(request));
    record.answer = answer;
    return answer;
  } catch (error) {
    record.error = ConnectError.from(error).message;
    throw error;
  }
}

async function meetFault<O>(path: CallPath, fault: CallFault | undefined, work: () => O): Promise<O> {
  const { clock } = path.settings;
  switch (fault?.fault) {
    case undefined:
      return work();
    case "hang":
      return await new Promise<O>(() => {});
    case "refuse":
      throw new ConnectError(fault.message, fault.code);
    case "late": {
      const early = fault.work === "at once" ? { answer: work() } : undefined;
      await clock.sleep(fault.ms);
      return early ? early.answer : work();
    }
    case "drop": {
      if (fault.work === "done") work();
      path.drop();
      throw new Error("nobody hears this: the connection is gone");
    }
  }
}

/** `Basic` and the base64 of the token alone. */
function checkToken(token: string | undefined, header: string | undefined): void {
  if (token === undefined) return;
  const [scheme = "", value = ""] = (header ?? "").split(" ");
  if (scheme.toLowerCase() !== "basic") throw noToken();
  if (Buffer.from(value, "base64").toString() !== token || value !== Buffer.from(token).toString("base64"))
    throw wrongToken();
}
