/**
 * QEMU's monitor as the connection through which a machine's end is heard: its events, and what it answers when it is asked how it is, in
 * the port's terms. The protocol is one JSON object per line: a greeting, answers by id, and events in between.
 */
import { connect, type Socket } from "node:net";
import { createListeners } from "../../base/listeners.ts";
import { MIB_BYTES } from "../../base/units.ts";
import type { Exit, ExitKind } from "../driver.ts";
import { VmError } from "../errors.ts";
import type { Control } from "../local/hypervisor.ts";

export async function connectControl(path: string, signal: AbortSignal): Promise<Control> {
  const qmp = await connectQmp(path, signal);
  return { follow: (onFault) => follow(qmp, onFault), close: () => qmp.close() };
}

async function follow(qmp: QmpClient, onFault: (fault: Exit) => void): Promise<ExitKind | undefined> {
  let seen: ExitKind | undefined;
  const stop = qmp.onEvent(({ event, data }) => {
    if (event === "SHUTDOWN") seen = exitOfReason(data["reason"]);
    if (event === "STOP") void askStatus(qmp, onFault);
    const fault = faultOfEvent(event, data);
    if (fault) onFault(fault);
  });
  // It may have stopped while nobody listened.
  void askStatus(qmp, onFault);
  await qmp.closed;
  stop();
  return seen;
}

async function askStatus(qmp: QmpClient, onFault: (fault: Exit) => void): Promise<void> {
  const fault = faultOfStatus(await qmp.execute("query-status").catch(() => undefined));
  if (fault) onFault(fault);
}

/** What QEMU's reason for a SHUTDOWN event says about the machine. With `-no-reboot` every reset is an end, and ours only power off. */
export function exitOfReason(reason: unknown): ExitKind {
  if (reason === "guest-shutdown") return "orderly";
  return typeof reason === "string" && reason.startsWith("guest-") ? "crash" : "killed";
}

/**
 * A write that the host's disk did not take was reported to the guest, which may have lost it without a word: its kernel tells only
 * those who ask (fsync), so that a job could succeed with files that are not whole. A read that failed is for the guest to deal with.
 */
export function faultOfEvent(event: string, data: Readonly<Record<string, unknown>>): Exit | undefined {
  if (event !== "BLOCK_IO_ERROR" || data["operation"] === "read" || data["action"] === "ignore")
    return undefined;
  const reason = typeof data["reason"] === "string" ? data["reason"] : "";
  if (data["nospace"] === true || /quota/i.test(reason))
    return { exit: "host-disk", words: "what it wrote found no room there" };
  return { exit: "disk-error", words: reason === "" ? "an error that has no name" : reason.slice(0, 80) };
}

/** Of the answer to `query-status`. Nobody here pauses machines: one that stands still does so for good. */
export function faultOfStatus(answer: unknown): Exit | undefined {
  const status =
    typeof answer === "object" && answer !== null && "status" in answer ? answer.status : undefined;
  if (status === "io-error") return { exit: "host-disk", words: "its hypervisor stood still at a write" };
  return status === "internal-error" ? { exit: "crash", words: "its hypervisor gave up" } : undefined;
}

/** A hypervisor that was taken over must not fill our memory with one endless line. */
const LINE_BYTES = MIB_BYTES;

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

interface QmpClient {
  execute(command: string): Promise<unknown>;
  onEvent(listener: (event: QmpEvent) => void): () => void;
  /** Resolves when the connection is gone, for whatever reason: usually the first news of a death. Never rejects. */
  readonly closed: Promise<void>;
  close(): void;
}

interface Message {
  readonly QMP?: unknown;
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly desc?: string };
  readonly event?: string;
  readonly data?: Record<string, unknown>;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** Connects and shakes hands. Rejects when nobody answers there before the signal aborts. */
export async function connectQmp(path: string, signal: AbortSignal): Promise<QmpClient> {
  signal.throwIfAborted();
  const socket = connect(path);
  const abort = () => socket.destroy(new Error("the hypervisor did not answer in time"));
  signal.addEventListener("abort", abort, { once: true });
  try {
    const { client, greeted } = converse(socket);
    await greeted;
    await client.execute("qmp_capabilities");
    return client;
  } catch (cause) {
    socket.destroy();
    throw new VmError("vm_create_failed", `no hypervisor answers at ${path}`, { cause, retryable: true });
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

function converse(socket: Socket): { client: QmpClient; greeted: Promise<unknown> } {
  const events = createListeners<QmpEvent>();
  const waiting = new Map<number, Waiting>();
  const greeting = Promise.withResolvers<unknown>();
  const closed = Promise.withResolvers<void>();
  let failure = new Error("the hypervisor closed the connection");
  let lastId = 0;

  function receive(message: Message): void {
    if (message.QMP !== undefined) greeting.resolve(undefined);
    if (message.event !== undefined) events.emit({ event: message.event, data: message.data ?? {} });
    if (message.id === undefined) return;
    const waiter = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.error) waiter?.reject(new Error(message.error.desc ?? "refused"));
    else waiter?.resolve(message.return);
  }

  function execute(command: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (socket.destroyed) return reject(failure);
      lastId += 1;
      waiting.set(lastId, { resolve, reject });
      socket.write(`${JSON.stringify({ execute: command, id: lastId })}\n`);
    });
  }

  readLines(socket, receive);
  socket.on("error", (error) => {
    failure = error;
  });
  socket.on("close", () => {
    greeting.reject(failure);
    for (const waiter of waiting.values()) waiter.reject(failure);
    waiting.clear();
    closed.resolve();
  });
  const client: QmpClient = {
    execute,
    onEvent: events.add,
    closed: closed.promise,
    close: () => socket.destroy(),
  };
  return { client, greeted: greeting.promise };
}

function readLines(socket: Socket, receive: (message: Message) => void): void {
  let rest = "";
  socket.setEncoding("utf8").on("data", (chunk: string) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    try {
      if (rest.length > LINE_BYTES) throw new Error("the hypervisor sent an endless line");
      for (const line of lines) if (line.trim() !== "") receive(JSON.parse(line) as Message);
    } catch (cause) {
      socket.destroy(new Error("the hypervisor sent what is not its protocol", { cause }));
    }
  });
}
